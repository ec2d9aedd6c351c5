#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>

#include "market_api/client/onnx_model.h"
#include "market_api/client/onnx_tensors.h"

namespace souk::market {
namespace {

using contracts::Node;
using contracts::Shape3;
using Op = contracts::Node::Op;
using Constant = OnnxConstant;

// What a name in the graph stands for. Several ONNX nodes make one of ours, so some names are
// the middle of something: they become nodes only when somebody else reads them.
struct Value {
  enum class Kind : uint8_t {
    kConstant,
    kExample,     // the input, perhaps normalised: mean, scale
    kActivation,  // the output of our node `index`
    kChosen,      // columns of the input as they are; `cast` once they are integers
    kEmbedded,    // rows of a table for chosen columns
    kProduct,     // x W without its bias
    kGrouped,     // x in groups, on its way to a group norm
    kNormalized,  // then normalised; `steps` 0: still in groups, 1: back in shape, 2: scaled
    kSigmoidOf,   // may become silu
    kGelu,        // steps 1: x/sqrt 2, 2: erf of it, 3: plus 1, 4: times x; 5: x/2
  } kind = Kind::kConstant;
  Constant constant;
  uint32_t index = 0;  // of our node that is read (kActivation: that is the value)
  bool image = false;  // rank 4
  std::vector<double> mean, scale;
  std::vector<uint32_t> columns;
  bool cast = false;
  Constant weight, bias;
  uint32_t groups = 0;
  int steps = 0;
};
using Kind = Value::Kind;

class Importer {
 public:
  explicit Importer(const onnx::GraphProto& graph) : graph_(graph) {}

  Result<ImportedOnnx> run() {
    TRY(read_constants());
    TRY(read_input());
    TRY(choose_output());
    for (int i = 0; i < graph_.node_size(); ++i) {
      const auto& node = graph_.node(i);
      bool wanted = false;
      for (const auto& output : node.output()) wanted = wanted || wanted_.count(output) != 0;
      if (!wanted) continue;
      number_ = i + 1;
      node_ = &node;
      auto value = TRY(read_node());
      values_[node.output(0)] = std::move(value);
    }
    return finish();
  }

 private:
  Error refused(const std::string& why) const {
    return Error(Code::kRefused, "onnx: node " + std::to_string(number_) + " \"" + node_->name() +
                                     "\" (" + node_->op_type() + "): " + why);
  }
  static Error malformed(const std::string& expected) {
    return Error(Code::kMalformed, "onnx: expected " + expected);
  }

  // ---- the frame --------------------------------------------------------------

  Status read_constants() {
    for (const auto& tensor : graph_.initializer()) {
      Value value;
      value.constant = TRY(read_onnx_constant(tensor));
      values_[tensor.name()] = std::move(value);
    }
    return Done{};
  }

  Status read_input() {
    std::vector<const onnx::ValueInfoProto*> inputs;
    for (const auto& input : graph_.input()) {
      if (values_.count(input.name()) == 0) inputs.push_back(&input);
    }
    if (inputs.size() != 1) return malformed("one input, found " + std::to_string(inputs.size()));
    const auto& type = inputs[0]->type().tensor_type();
    if (type.elem_type() != onnx::TensorProto::FLOAT) return malformed("an input of floats");
    const auto& shape = type.shape();
    if (shape.dim_size() != 2 && shape.dim_size() != 4)
      return malformed("an input [N, features] or [N, channels, height, width]");
    for (int i = 1; i < shape.dim_size(); ++i) {
      int64_t size = shape.dim(i).dim_value();
      if (size < 1 || size > 65536)
        return malformed("a fixed shape of the input, but for its first side");
      part_.input_shape.push_back(static_cast<uint32_t>(size));
    }
    bool image = shape.dim_size() == 4;
    shapes_.push_back(image
                          ? Shape3{part_.input_shape[0], part_.input_shape[1], part_.input_shape[2]}
                          : Shape3{part_.input_shape[0], 1, 1});
    Value value;
    value.kind = Kind::kExample;
    value.image = image;
    values_[inputs[0]->name()] = std::move(value);
    return Done{};
  }

  // The first output, without what only turns it into probabilities.
  Status choose_output() {
    if (graph_.output_size() < 1) return malformed("an output");
    output_ = graph_.output(0).name();
    std::map<std::string, const onnx::NodeProto*> makers;
    for (const auto& node : graph_.node()) {
      for (const auto& output : node.output()) makers[output] = &node;
    }
    while (makers.count(output_) != 0) {
      const auto& maker = *makers[output_];
      const std::string& op = maker.op_type();
      bool last = op == "Softmax" || op == "LogSoftmax" || op == "Sigmoid" || op == "Identity";
      if (!last || maker.input_size() < 1) break;
      ends_in_sigmoid_ = ends_in_sigmoid_ || op == "Sigmoid";
      output_ = maker.input(0);
    }
    std::vector<std::string> open{output_};
    while (!open.empty()) {
      std::string name = open.back();
      open.pop_back();
      if (!wanted_.insert(name).second || makers.count(name) == 0) continue;
      for (const auto& input : makers[name]->input()) open.push_back(input);
    }
    return Done{};
  }

  Result<ImportedOnnx> finish() {
    auto found = values_.find(output_);
    if (found == values_.end()) return malformed("a node that makes the output");
    if (!node_) return malformed("a node between input and output");
    uint32_t last = TRY(activation(found->second));
    const Shape3& shape = shapes_[last];
    if (last != part_.model.size() || last == 0)
      return malformed("the output at the end of the graph");
    if (shape.height != 1 || shape.width != 1)
      return malformed("one number for each class at the end");
    part_.classes = std::max(shape.channels, 2U);
    using Loss = contracts::TrainingSpec::Loss;
    part_.loss = ends_in_sigmoid_ || shape.channels == 1 ? Loss::kBce : Loss::kSoftmaxCrossEntropy;
    part_.input_mean = mean_;
    part_.input_scale = scale_;
    ImportedOnnx imported;
    imported.part = std::move(part_);
    TRY(contracts::check_spec(trainable_spec(imported.part)));
    imported.weights = std::move(weights_);
    return imported;
  }

  // ---- our nodes --------------------------------------------------------------

  // A new node of ours that reads `inputs`.
  Result<Value> emit(Node node, std::vector<uint32_t> inputs, const Shape3& shape, bool image) {
    const auto previous = static_cast<uint32_t>(part_.model.size());
    if (inputs.size() != 1 || inputs[0] != previous) node.inputs = std::move(inputs);
    part_.model.push_back(std::move(node));
    shapes_.push_back(shape);
    Value value;
    value.kind = Kind::kActivation;
    value.index = previous + 1;
    value.image = image;
    return value;
  }
  void keep(uint32_t index, const char* part, std::vector<int64_t> shape,
            std::vector<float> values) {
    weights_.tensors.push_back(
        {std::to_string(index) + "." + part, std::move(shape), std::move(values)});
  }

  static std::vector<float> floats(const Constant& constant) {
    if (constant.integers.empty()) return constant.floats;
    return {constant.integers.begin(), constant.integers.end()};
  }

  // The public constants of the example, which every reader must agree about.
  Status use_example(const Value& value) {
    if (example_used_ && (value.mean != mean_ || value.scale != scale_))
      return refused("reads the input on another scale");
    example_used_ = true;
    mean_ = value.mean;
    scale_ = value.scale;
    return Done{};
  }

  Result<Value> emit_norm(const Value& x, std::vector<float> weight, std::vector<float> bias) {
    const Shape3 shape = shapes_[x.index];
    if (weight.size() != shape.channels || bias.size() != shape.channels)
      return refused("expected one scale and shift for each channel");
    Node node;
    node.op = Op::kGroupNorm;
    node.groups = x.groups;
    auto value = TRY(emit(node, {x.index}, shape, x.image));
    keep(value.index, "weight", {shape.channels}, std::move(weight));
    keep(value.index, "bias", {shape.channels}, std::move(bias));
    return value;
  }

  Result<Value> emit_linear(const Value& product, const Constant* bias) {
    const int64_t out = product.weight.shape[0], in = product.weight.shape[1];
    const Shape3& x = shapes_[product.index];
    if (static_cast<uint64_t>(in) != x.count() || x.height != 1 || x.width != 1)
      return refused("expected a matrix for its flat input");
    Node node;
    node.op = Op::kLinear;
    node.units = static_cast<uint32_t>(out);
    node.bias = bias != nullptr;
    auto value = TRY(emit(node, {product.index}, {node.units, 1, 1}, false));
    keep(value.index, "weight", {out, in}, product.weight.floats);
    if (bias) {
      auto values = floats(*bias);
      if (values.size() == 1) values.resize(static_cast<size_t>(out), values[0]);
      if (values.size() != static_cast<size_t>(out))
        return refused("expected one bias for each unit");
      keep(value.index, "bias", {out}, std::move(values));
    }
    return value;
  }

  // The node of ours behind a value; makes it where the value was the middle of something.
  Result<uint32_t> activation(Value& value) {
    switch (value.kind) {
      case Kind::kActivation:
        return value.index;
      case Kind::kExample:
        TRY(use_example(value));
        return uint32_t{0};
      case Kind::kConstant:
        return refused("expected something that depends on the input");
      case Kind::kProduct:
        value = TRY(emit_linear(value, nullptr));
        return value.index;
      case Kind::kSigmoidOf: {
        Node node;
        node.op = Op::kSigmoid;
        value = TRY(emit(node, {value.index}, shapes_[value.index], value.image));
        return value.index;
      }
      case Kind::kNormalized: {
        if (value.steps < 1) return refused("reads groups that are still being normalised");
        const size_t channels = shapes_[value.index].channels;
        std::vector<float> weight =
            value.steps > 1 ? floats(value.weight) : std::vector<float>(channels, 1.0F);
        value = TRY(emit_norm(value, std::move(weight), std::vector<float>(channels, 0.0F)));
        return value.index;
      }
      case Kind::kChosen: {
        if (value.cast) return refused("reads categories without an embedding");
        Node node;
        node.op = Op::kColumns;
        node.columns = value.columns;
        Value example;
        example.mean = value.mean;
        example.scale = value.scale;
        // Columns taken before the scale is applied are read with the scale of the others.
        TRY(use_example(example));
        value = TRY(emit(node, {0}, {static_cast<uint32_t>(value.columns.size()), 1, 1}, false));
        return value.index;
      }
      case Kind::kEmbedded: {
        Node node;
        node.op = Op::kEmbedding;
        node.columns = value.columns;
        node.categories = static_cast<uint32_t>(value.weight.shape[0]);
        node.units = static_cast<uint32_t>(value.weight.shape[1]);
        Constant table = value.weight;
        value = TRY(emit(node, {0}, {static_cast<uint32_t>(node.columns.size()) * node.units, 1, 1},
                         false));
        keep(value.index, "weight", table.shape, table.floats);
        return value.index;
      }
      case Kind::kGrouped:
      case Kind::kGelu:
        return refused("is part of no operation known here");
    }
    return refused("is not supported");
  }

  // ---- reading one node -------------------------------------------------------

  Value* input(int i) {
    if (i >= node_->input_size() || node_->input(i).empty()) return nullptr;
    auto it = values_.find(node_->input(i));
    return it == values_.end() ? nullptr : &it->second;
  }
  const Constant* constant(int i) {
    Value* value = input(i);
    return value && value->kind == Kind::kConstant ? &value->constant : nullptr;
  }
  // The value at input i as a node of ours; [N, C] of a [N, C, 1, 1] too.
  Result<uint32_t> activation_at(int i) {
    Value* value = input(i);
    if (!value) return refused("reads what no earlier node makes");
    return activation(*value);
  }
  Status no_more(const OnnxAttributes& attributes) const {
    std::string left = attributes.left();
    if (!left.empty()) return refused("attribute " + left + " is not supported");
    return Done{};
  }

  Result<Value> same(Value value) { return value; }

  Result<Value> simple(Op op, double slope = 0.01) {
    Value* x = input(0);
    uint32_t index = TRY(activation_at(0));
    Node node;
    node.op = op;
    node.slope = slope;
    return emit(node, {index}, shapes_[index], x->image);
  }

  // Square kernels and strides, equal padding on all sides: a window of ours.
  Status read_window(OnnxAttributes& attributes, std::vector<int64_t> kernel, const Shape3& in,
                     Node& node) {
    kernel = attributes.integers("kernel_shape", std::move(kernel));
    auto strides = attributes.integers("strides", {1, 1});
    auto pads = attributes.integers("pads", {0, 0, 0, 0});
    auto dilations = attributes.integers("dilations", {1, 1});
    auto automatic = attributes.text("auto_pad", "NOTSET");
    auto square = [](const std::vector<int64_t>& sizes) {
      return sizes.size() == 2 && sizes[0] == sizes[1] && sizes[0] >= 1 && sizes[0] <= 1024;
    };
    if (!square(kernel) || !square(strides))
      return refused("expected a square kernel and equal strides");
    if (dilations != std::vector<int64_t>{1, 1}) return refused("dilations are not supported");
    if (automatic == "SAME_UPPER" || automatic == "SAME_LOWER") {
      auto padded = [&](uint32_t size) {
        int64_t out = (size + strides[0] - 1) / strides[0];
        return std::max<int64_t>((out - 1) * strides[0] + kernel[0] - size, 0);
      };
      int64_t rows = padded(in.height), columns = padded(in.width);
      if (rows != columns || rows % 2 != 0) return refused("expected equal padding on all sides");
      pads.assign(4, rows / 2);
    } else if (automatic != "NOTSET" && automatic != "VALID") {
      return refused("expected a known auto_pad");
    }
    if (pads.size() != 4 || std::count(pads.begin(), pads.end(), pads[0]) != 4 || pads[0] < 0 ||
        pads[0] > 1023) {
      return refused("expected equal padding on all sides");
    }
    node.kernel = static_cast<uint32_t>(kernel[0]);
    node.stride = static_cast<uint32_t>(strides[0]);
    node.padding = static_cast<uint32_t>(pads[0]);
    if (node.padding >= node.kernel) return refused("expected padding below the kernel");
    if (in.height + 2 * node.padding < node.kernel || in.width + 2 * node.padding < node.kernel) {
      return refused("expected an image of at least the kernel's size");
    }
    return Done{};
  }
  static Shape3 windowed(const Node& node, const Shape3& in, uint32_t channels) {
    return {channels, (in.height + 2 * node.padding - node.kernel) / node.stride + 1,
            (in.width + 2 * node.padding - node.kernel) / node.stride + 1};
  }

  Result<Value> read_conv() {
    uint32_t x = TRY(activation_at(0));
    const Constant* weight = constant(1);
    const Constant* bias = constant(2);
    if (!weight || weight->shape.size() != 4)
      return refused("expected constant weights [out, in, kernel, kernel]");
    if (node_->input_size() > 2 && !bias) return refused("expected a constant bias");
    OnnxAttributes attributes(*node_);
    Node node;
    node.op = Op::kConv2d;
    TRY(read_window(attributes, {weight->shape[2], weight->shape[3]}, shapes_[x], node));
    int64_t groups = attributes.integer("group", 1);
    TRY(no_more(attributes));
    if (groups < 1 || groups * weight->shape[1] != shapes_[x].channels ||
        weight->shape[0] % groups != 0) {
      return refused("expected weights for the channels of its input");
    }
    if (weight->shape[2] != node.kernel || weight->shape[3] != node.kernel)
      return refused("expected weights of the kernel's size");
    node.groups = static_cast<uint32_t>(groups);
    node.units = static_cast<uint32_t>(weight->shape[0]);
    node.bias = bias != nullptr;
    if (bias && bias->floats.size() != node.units)
      return refused("expected one bias for each channel");
    auto value = TRY(emit(node, {x}, windowed(node, shapes_[x], node.units), true));
    keep(value.index, "weight", weight->shape, weight->floats);
    if (bias) keep(value.index, "bias", {weight->shape[0]}, bias->floats);
    return value;
  }

  Result<Value> read_pool(Op op) {
    uint32_t x = TRY(activation_at(0));
    OnnxAttributes attributes(*node_);
    Node node;
    node.op = op;
    int64_t ceiling = attributes.integer("ceil_mode", 0);
    bool counts_padding = attributes.integer("count_include_pad", 0) != 0;
    attributes.any("storage_order");
    TRY(read_window(attributes, {}, shapes_[x], node));
    TRY(no_more(attributes));
    if (counts_padding && node.padding > 0) return refused("padding that counts is not supported");
    auto partial = [&](uint32_t size) {
      return (size + 2 * node.padding - node.kernel) % node.stride != 0;
    };
    if (ceiling != 0 && (partial(shapes_[x].height) || partial(shapes_[x].width)))
      return refused("windows over the edge are not supported");
    if (node_->output_size() > 1) return refused("a second output is not supported");
    return emit(node, {x}, windowed(node, shapes_[x], shapes_[x].channels), true);
  }

  // y = x B (+ C), from Gemm or MatMul; weight as [out, in].
  Result<Value> read_product() {
    Value* x = input(0);
    const Constant* b = constant(1);
    if (!x || x->image) return refused("expected a flat input");
    if (!b || b->shape.size() != 2 || b->floats.empty())
      return refused("expected a constant matrix on the right");
    bool transposed = false;
    const Constant* c = nullptr;
    if (node_->op_type() == "Gemm") {
      OnnxAttributes attributes(*node_);
      bool plain = attributes.real("alpha", 1) == 1 && attributes.real("beta", 1) == 1 &&
                   attributes.integer("transA", 0) == 0;
      transposed = attributes.integer("transB", 0) != 0;
      TRY(no_more(attributes));
      if (!plain) return refused("expected alpha and beta 1 and transA 0");
      c = constant(2);
      if (node_->input_size() > 2 && !c) return refused("expected a constant bias");
    }
    Value product;
    product.kind = Kind::kProduct;
    product.index = TRY(activation(*x));
    product.weight = *b;
    if (!transposed) {
      const auto rows = static_cast<size_t>(b->shape[0]),
                 columns = static_cast<size_t>(b->shape[1]);
      product.weight.shape = {b->shape[1], b->shape[0]};
      for (size_t r = 0; r < rows; ++r) {
        for (size_t k = 0; k < columns; ++k)
          product.weight.floats[k * rows + r] = b->floats[r * columns + k];
      }
    }
    if (c) return emit_linear(product, c);
    return product;
  }

  Result<Value> read_batch_norm() {
    Value* x = input(0);
    uint32_t index = TRY(activation_at(0));
    const Constant* parts[] = {constant(1), constant(2), constant(3), constant(4)};
    const size_t channels = shapes_[index].channels;
    for (const Constant* part : parts) {
      if (!part || part->floats.size() != channels)
        return refused("expected four constants for each channel");
    }
    OnnxAttributes attributes(*node_);
    double epsilon = attributes.real("epsilon", 1e-5);
    attributes.any("momentum");
    attributes.any("spatial");
    if (attributes.integer("training_mode", 0) != 0)
      return refused("training mode is not supported");
    TRY(no_more(attributes));
    Node node;
    node.op = Op::kBatchNorm;
    auto value = TRY(emit(node, {index}, shapes_[index], x->image));
    auto size = static_cast<int64_t>(channels);
    // Our epsilon is 1e-5: any other moves into the variance.
    std::vector<float> variance = parts[3]->floats;
    for (float& v : variance) v = static_cast<float>(static_cast<double>(v) + epsilon - 1e-5);
    if (std::fabs(epsilon - 1e-5) < 1e-9) variance = parts[3]->floats;
    keep(value.index, "weight", {size}, parts[0]->floats);
    keep(value.index, "bias", {size}, parts[1]->floats);
    keep(value.index, "running_mean", {size}, parts[2]->floats);
    keep(value.index, "running_var", {size}, std::move(variance));
    return value;
  }

  Result<Value> read_instance_norm() {
    Value* x = input(0);
    const Constant* weight = constant(1);
    const Constant* bias = constant(2);
    if (!x || !weight || !bias) return refused("expected constant scale and bias");
    OnnxAttributes attributes(*node_);
    double epsilon = attributes.real("epsilon", 1e-5);
    TRY(no_more(attributes));
    if (std::fabs(epsilon - 1e-5) > 1e-9) return refused("expected an epsilon of 1e-5");
    if (x->kind == Kind::kGrouped) {
      auto is = [](const std::vector<float>& values, float wanted) {
        return std::all_of(values.begin(), values.end(), [&](float v) { return v == wanted; });
      };
      if (weight->floats.size() != x->groups || !is(weight->floats, 1) || !is(bias->floats, 0))
        return refused("expected scale 1 and bias 0 for each group");
      Value value = *x;
      value.kind = Kind::kNormalized;
      value.steps = 0;
      return value;
    }
    Value value;
    value.index = TRY(activation(*x));
    value.image = x->image;
    value.groups = shapes_[value.index].channels;
    return emit_norm(value, weight->floats, bias->floats);
  }

  Result<Value> flattened(Value* x) {
    if (x->kind == Kind::kEmbedded) {
      uint32_t index = TRY(activation(*x));
      return values_at(index, false);
    }
    uint32_t index = TRY(activation(*x));
    const Shape3 shape = shapes_[index];
    // [N, C, 1, 1] is the same as [N, C] here; a flat value stays as it is.
    if (shape.height == 1 && shape.width == 1) return values_at(index, false, x);
    Node node;
    node.op = Op::kFlatten;
    return emit(node, {index}, {static_cast<uint32_t>(shape.count()), 1, 1}, false);
  }
  Result<Value> values_at(uint32_t index, bool image, const Value* example = nullptr) {
    Value value;
    value.kind = Kind::kActivation;
    value.index = index;
    if (example && example->kind == Kind::kExample) value = *example;
    value.image = image;
    return value;
  }

  Result<Value> read_reshape() {
    Value* x = input(0);
    const Constant* target = constant(1);
    if (!x) return refused("reads what no earlier node makes");
    if (x->kind == Kind::kConstant) {
      if (!target) return refused("expected a constant shape");
      Value value = *x;
      auto count = static_cast<int64_t>(x->constant.size());
      value.constant.shape.clear();
      int64_t known = 1;
      for (int64_t size : target->integers) known *= size > 0 ? size : 1;
      for (int64_t size : target->integers)
        value.constant.shape.push_back(size == -1 ? count / known : size);
      return value;
    }
    if (!target || target->integers.empty()) return refused("expected a constant shape");
    const auto& sizes = target->integers;
    if (x->kind == Kind::kEmbedded) {
      if (sizes.size() != 2) return refused("expected embeddings side by side, [N, numbers]");
      return flattened(x);
    }
    if (x->kind == Kind::kNormalized && x->steps == 0) {
      const Shape3& shape = shapes_[x->index];
      bool back =
          sizes.size() == (x->image ? 4U : 2U) && (sizes[1] == shape.channels || sizes[1] == -1);
      if (!back) return refused("expected the shape from before the groups");
      Value value = *x;
      value.steps = 1;
      return value;
    }
    uint32_t index = TRY(activation(*x));
    const Shape3& shape = shapes_[index];
    auto count = static_cast<int64_t>(shape.count());
    if (sizes.size() == 2 && (sizes[1] == -1 || sizes[1] == count)) return flattened(x);
    if (sizes.size() == 3 && sizes[1] > 0 && shape.channels % sizes[1] == 0 &&
        (sizes[2] == -1 || sizes[2] * sizes[1] == count)) {
      Value value;
      value.kind = Kind::kGrouped;
      value.index = index;
      value.image = x->image;
      value.groups = static_cast<uint32_t>(sizes[1]);
      return value;
    }
    if (sizes.size() == 4 && sizes[1] == shape.channels &&
        (sizes[2] == shape.height || sizes[2] == -1) &&
        (sizes[3] == shape.width || sizes[3] == -1)) {
      return values_at(index, true, x);
    }
    return refused("expected a shape that flattens, or groups channels");
  }

  // A constant for each number of the example, or one.
  Result<std::vector<double>> per_number(const Constant& constant) {
    auto values = floats(constant);
    uint64_t count = shapes_[0].count();
    std::vector<double> out;
    for (float value : values) out.push_back(as_written(value));
    if (out.size() == 1 || out.size() == count) return out;
    if (out.size() == shapes_[0].channels && shapes_[0].count() > shapes_[0].channels &&
        constant.shape.size() >= 3) {
      std::vector<double> wide;
      for (double value : out) wide.insert(wide.end(), count / out.size(), value);
      return wide;
    }
    return refused("expected one constant, or one for each number of the input");
  }
  static void combine(std::vector<double>& into, const std::vector<double>& with, double otherwise,
                      bool add) {
    if (into.empty()) into.assign(1, otherwise);
    if (into.size() == 1 && with.size() > 1) into.assign(with.size(), into[0]);
    for (size_t i = 0; i < into.size(); ++i) {
      double value = with[with.size() == 1 ? 0 : i];
      into[i] = add ? into[i] + value : into[i] * value;
    }
  }
  // x' = (x - mean) * scale, one more step of it.
  Result<Value> rescaled(const Value& example, const Constant& by) {
    auto values = TRY(per_number(by));
    Value value = example;
    const std::string& op = node_->op_type();
    if (op == "Add" || op == "Sub") {
      // ((x - m) s) + c = (x - (m - c / s)) s
      for (size_t i = 0; i < values.size(); ++i) {
        if (op == "Add") values[i] = -values[i];
      }
      if (!value.scale.empty()) {
        auto scale = value.scale;
        if (scale.size() == 1) scale.assign(values.size(), scale[0]);
        if (values.size() == 1) values.assign(scale.size(), values[0]);
        for (size_t i = 0; i < values.size(); ++i) values[i] /= scale[i];
      }
      combine(value.mean, values, 0, true);
      return value;
    }
    if (op == "Div") {
      for (double& v : values) v = 1 / v;
    }
    for (double v : values) {
      if (!std::isfinite(v) || v == 0) return refused("expected finite constants other than zero");
    }
    combine(value.scale, values, 1, false);
    return value;
  }

  static bool is_scalar(const Constant* constant, double wanted) {
    return constant && constant->size() == 1 &&
           std::fabs(static_cast<double>(constant->floats.empty()
                                             ? static_cast<float>(constant->integers[0])
                                             : constant->floats[0]) -
                     wanted) < 1e-6;
  }

  Value gelu_step(const Value& x, uint32_t index, int steps) {
    Value value;
    value.kind = Kind::kGelu;
    value.index = index;
    value.image = x.image;
    value.steps = steps;
    return value;
  }

  // Add, Sub, Mul, Div: of two values, or of a value and a constant.
  Result<Value> read_arithmetic() {
    const std::string& op = node_->op_type();
    Value* a = input(0);
    Value* b = input(1);
    if (!a || !b) return refused("reads what no earlier node makes");
    if (a->kind == Kind::kConstant && (op == "Add" || op == "Mul")) std::swap(a, b);
    if (a->kind == Kind::kConstant) return refused("expected the constant on the right");
    if (b->kind != Kind::kConstant) return read_join(*a, *b);
    const Constant& by = b->constant;
    if (a->kind == Kind::kProduct && op == "Add") return emit_linear(*a, &by);
    if (a->kind == Kind::kNormalized && a->steps == 1 && op == "Mul") {
      Value value = *a;
      value.weight = by;
      value.steps = 2;
      return value;
    }
    if (a->kind == Kind::kNormalized && a->steps == 2 && op == "Add")
      return emit_norm(*a, floats(a->weight), floats(by));
    if (a->kind == Kind::kGelu && a->steps == 2 && op == "Add" && is_scalar(&by, 1))
      return gelu_step(*a, a->index, 3);
    if (a->kind == Kind::kGelu && a->steps == 4 && op == "Mul" && is_scalar(&by, 0.5))
      return emit_gelu(*a);
    bool root = (op == "Div" && is_scalar(&by, std::sqrt(2.0))) ||
                (op == "Mul" && is_scalar(&by, std::sqrt(0.5)));
    if (root && a->kind != Kind::kExample) {
      uint32_t index = TRY(activation(*a));
      return gelu_step(*a, index, 1);
    }
    if (op == "Mul" && is_scalar(&by, 0.5) && a->kind != Kind::kExample) {
      uint32_t index = TRY(activation(*a));
      return gelu_step(*a, index, 5);
    }
    if (a->kind == Kind::kExample) return rescaled(*a, by);
    return refused("a constant here is not supported");
  }

  Result<Value> emit_gelu(const Value& x) {
    Node node;
    node.op = Op::kGelu;
    return emit(node, {x.index}, shapes_[x.index], x.image);
  }

  Result<Value> read_join(Value& a, Value& b) {
    const std::string& op = node_->op_type();
    if (op == "Mul") {
      for (auto [x, y] : {std::pair(&a, &b), std::pair(&b, &a)}) {
        if (y->kind == Kind::kSigmoidOf && x->kind == Kind::kActivation && x->index == y->index) {
          Node node;
          node.op = Op::kSilu;
          return emit(node, {x->index}, shapes_[x->index], x->image);
        }
        if (y->kind == Kind::kGelu && y->steps == 3) {
          if (x->kind == Kind::kActivation && x->index == y->index)
            return gelu_step(*x, x->index, 4);
          if (x->kind == Kind::kGelu && x->steps == 5 && x->index == y->index) return emit_gelu(*x);
        }
      }
    }
    if (op != "Add") return refused("of two values that depend on the input is not supported");
    uint32_t left = TRY(activation(a)), right = TRY(activation(b));
    const Shape3 &l = shapes_[left], &r = shapes_[right];
    if (l.channels != r.channels || l.height != r.height || l.width != r.width)
      return refused("expected two inputs of one shape");
    Node node;
    node.op = Op::kAdd;
    return emit(node, {left, right}, l, a.image);
  }

  Result<Value> read_concat() {
    OnnxAttributes attributes(*node_);
    int64_t axis = attributes.integer("axis", 1);
    std::vector<uint32_t> inputs;
    Shape3 shape;
    bool image = false;
    for (int i = 0; i < node_->input_size(); ++i) {
      uint32_t index = TRY(activation_at(i));
      const Shape3& part = shapes_[index];
      image = input(i)->image;
      if (i > 0 && (part.height != shape.height || part.width != shape.width))
        return refused("expected inputs of one height and width");
      shape = {shape.channels + part.channels, part.height, part.width};
      inputs.push_back(index);
    }
    if (axis != 1 && axis != (image ? -3 : -1)) return refused("expected axis 1");
    if (inputs.size() < 2) return refused("expected two inputs or more");
    Node node;
    node.op = Op::kConcat;
    return emit(node, inputs, shape, image);
  }

  Result<Value> read_gather() {
    Value* data = input(0);
    Value* indices = input(1);
    int64_t axis = OnnxAttributes(*node_).integer("axis", 0);
    if (!data || !indices) return refused("reads what no earlier node makes");
    if (data->kind == Kind::kConstant && indices->kind == Kind::kChosen && indices->cast &&
        axis == 0) {
      if (data->constant.shape.size() != 2 || data->constant.floats.empty())
        return refused("expected a table [categories, units]");
      Value value = *indices;
      value.kind = Kind::kEmbedded;
      value.weight = data->constant;
      return value;
    }
    bool columns = data->kind == Kind::kExample && !data->image && axis == 1 &&
                   indices->kind == Kind::kConstant && indices->constant.shape.size() == 1;
    if (!columns) return refused("expected columns of the input, or rows of a table for them");
    Value value = *data;
    value.kind = Kind::kChosen;
    for (int64_t column : indices->constant.integers) {
      if (column < 0 || column >= int64_t{shapes_[0].channels})
        return refused("expected columns of the input");
      if (!value.columns.empty() && column <= int64_t{value.columns.back()})
        return refused("expected rising columns");
      value.columns.push_back(static_cast<uint32_t>(column));
    }
    return value;
  }

  Result<Value> read_dropout() {
    double rate = OnnxAttributes(*node_).real("ratio", 0.5);
    if (node_->input_size() > 1) {
      const Constant* ratio = constant(1);
      if (ratio && ratio->floats.size() == 1) rate = as_written(ratio->floats[0]);
    }
    uint32_t x = TRY(activation_at(0));
    Node node;
    node.op = Op::kDropout;
    node.rate = rate;
    return emit(node, {x}, shapes_[x], input(0)->image);
  }

  // Squeeze, Unsqueeze, ReduceMean over height and width.
  Result<Value> read_axes() {
    const std::string& op = node_->op_type();
    OnnxAttributes attributes(*node_);
    auto axes = attributes.integers("axes");
    if (const Constant* given = constant(1)) axes = given->integers;
    for (int64_t& axis : axes) axis = axis < 0 ? axis + 4 : axis;
    std::sort(axes.begin(), axes.end());
    if (axes != std::vector<int64_t>{2, 3}) return refused("expected axes 2 and 3");
    uint32_t x = TRY(activation_at(0));
    const Shape3 shape = shapes_[x];
    if (op != "ReduceMean") {
      if (shape.height != 1 || shape.width != 1) return refused("expected sides of 1");
      return values_at(x, op == "Unsqueeze", input(0));
    }
    bool keep_sides = attributes.integer("keepdims", 1) != 0;
    Node node;
    node.op = Op::kGlobalAvgPool;
    return emit(node, {x}, {shape.channels, 1, 1}, keep_sides);
  }

  Result<Value> read_constant_node() {
    OnnxAttributes attributes(*node_);
    Value value;
    if (const auto* tensor = attributes.any("value")) {
      value.constant = TRY(read_onnx_constant(tensor->t()));
    } else if (const auto* real = attributes.any("value_float")) {
      value.constant.floats = {real->f()};
    } else if (const auto* whole = attributes.any("value_ints")) {
      value.constant.integers.assign(whole->ints().begin(), whole->ints().end());
      value.constant.shape = {whole->ints_size()};
    } else if (const auto* one = attributes.any("value_int")) {
      value.constant.integers = {one->i()};
    } else {
      return refused("expected a tensor, a float or integers");
    }
    return value;
  }

  Result<Value> read_node() {
    const std::string& op = node_->op_type();
    if (!node_->domain().empty() && node_->domain() != "ai.onnx")
      return refused("domain " + node_->domain() + " is not supported");
    if (node_->output_size() < 1) return refused("expected an output");
    if (op == "Constant") return read_constant_node();
    if (node_->input_size() < 1 || !input(0)) return refused("reads what no earlier node makes");
    if (op == "Identity") return *input(0);
    if (op == "Conv") return read_conv();
    if (op == "Gemm" || op == "MatMul") return read_product();
    if (op == "MaxPool") return read_pool(Op::kMaxPool);
    if (op == "AveragePool") return read_pool(Op::kAvgPool);
    if (op == "GlobalAveragePool") {
      uint32_t x = TRY(activation_at(0));
      Node node;
      node.op = Op::kGlobalAvgPool;
      return emit(node, {x}, {shapes_[x].channels, 1, 1}, true);
    }
    if (op == "Relu") return simple(Op::kRelu);
    if (op == "Tanh") return simple(Op::kTanh);
    if (op == "LeakyRelu")
      return simple(Op::kLeakyRelu, OnnxAttributes(*node_).real("alpha", 0.01));
    if (op == "Sigmoid") {
      Value value;
      value.kind = Kind::kSigmoidOf;
      value.index = TRY(activation_at(0));
      value.image = input(0)->image;
      return value;
    }
    if (op == "Erf") {
      Value* x = input(0);
      if (x->kind != Kind::kGelu || x->steps != 1) return refused("is known only inside a gelu");
      return gelu_step(*x, x->index, 2);
    }
    if (op == "Flatten") {
      if (OnnxAttributes(*node_).integer("axis", 1) != 1) return refused("expected axis 1");
      return flattened(input(0));
    }
    if (op == "Reshape") return read_reshape();
    if (op == "Squeeze" || op == "Unsqueeze" || op == "ReduceMean") return read_axes();
    if (op == "Add" || op == "Sub" || op == "Mul" || op == "Div") return read_arithmetic();
    if (op == "Concat") return read_concat();
    if (op == "Gather") return read_gather();
    if (op == "Dropout") return read_dropout();
    if (op == "BatchNormalization") return read_batch_norm();
    if (op == "InstanceNormalization") return read_instance_norm();
    if (op == "Cast") {
      Value value = *input(0);
      int64_t to = OnnxAttributes(*node_).integer("to", 0);
      if (value.kind == Kind::kChosen &&
          (to == onnx::TensorProto::INT64 || to == onnx::TensorProto::INT32)) {
        value.cast = true;
        return value;
      }
      if (to == onnx::TensorProto::FLOAT && value.kind != Kind::kConstant) return value;
      return refused("is known only for the categories of an embedding");
    }
    return refused("this operation is not supported");
  }

  const onnx::GraphProto& graph_;
  std::map<std::string, Value> values_;
  std::set<std::string> wanted_;  // names that the output depends on
  std::string output_;
  bool ends_in_sigmoid_ = false;
  // The node being read.
  const onnx::NodeProto* node_ = nullptr;
  int number_ = 0;
  // What comes of it.
  ModelPart part_;
  std::vector<Shape3> shapes_;  // of our nodes; 0 is the example
  trainer::Model weights_;
  bool example_used_ = false;
  std::vector<double> mean_, scale_;
};

}  // namespace

Result<ImportedOnnx> import_onnx(ByteView file) {
  onnx::ModelProto model;
  google::protobuf::io::ArrayInputStream bytes(
      file.data(), static_cast<int>(std::min<size_t>(file.size(), INT32_MAX)));
  google::protobuf::io::CodedInputStream stream(&bytes);
  stream.SetRecursionLimit(32);
  if (file.size() > INT32_MAX || !model.ParseFromCodedStream(&stream) ||
      !stream.ConsumedEntireMessage()) {
    return Error(Code::kMalformed, "onnx: expected a model in ONNX");
  }
  if (!model.has_graph()) return Error(Code::kMalformed, "onnx: expected a graph");
  if (model.graph().output_size() == 0) return Error(Code::kMalformed, "onnx: expected an output");
  auto imported = TRY(Importer(model.graph()).run());
  for (const auto& property : model.metadata_props()) {
    auto json = parse_json(property.value());
    if (property.key() == "souk.classes" && json && json->array() &&
        json->array()->size() == imported.part.classes) {
      for (const Json& name : *json->array())
        imported.classes.push_back(name.string() ? *name.string() : "");
    }
    if (property.key() == "souk.csv" && json) {
      auto layout = trainer::csv_layout_from_json(*json, "onnx: souk.csv");
      if (layout) imported.csv = std::move(*layout);
    }
  }
  return imported;
}

}  // namespace souk::market
