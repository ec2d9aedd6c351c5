// Layers with weights, windows and norms; and which node is read by what.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <string_view>

#include "market_api/client/onnx_importer.h"

namespace souk::market::from_onnx {

Value* OnnxImporter::input(int i) {
  if (i >= node_->input_size() || node_->input(i).empty()) return nullptr;
  auto it = values_.find(node_->input(i));
  return it == values_.end() ? nullptr : &it->second;
}

const Constant* OnnxImporter::constant(int i) {
  Value* value = input(i);
  return value && value->kind == Kind::kConstant ? &value->constant : nullptr;
}

Result<uint32_t> OnnxImporter::activation_at(int i) {
  Value* value = input(i);
  if (!value) return refused("reads what no earlier node makes");
  return activation(*value);
}

Status OnnxImporter::no_more(const OnnxAttributes& attributes) const {
  std::string left = attributes.left();
  if (!left.empty()) return refused("attribute " + left + " is not supported");
  return Done{};
}

Result<Value> OnnxImporter::simple(Op op, double slope) {
  Value* x = input(0);
  uint32_t index = TRY(activation_at(0));
  Node node;
  node.op = op;
  node.slope = slope;
  return emit(node, {index}, shapes_[index], x->image);
}

Status OnnxImporter::read_window(OnnxAttributes& attributes, std::vector<int64_t> kernel,
                                 const Shape3& in, Node& node) {
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

Shape3 OnnxImporter::windowed(const Node& node, const Shape3& in, uint32_t channels) {
  return {channels, (in.height + 2 * node.padding - node.kernel) / node.stride + 1,
          (in.width + 2 * node.padding - node.kernel) / node.stride + 1};
}

Result<Value> OnnxImporter::read_conv() {
  uint32_t x = TRY(activation_at(0));
  const Constant* weight = constant(1);
  const Constant* bias = constant(2);
  if (!weight || weight->shape.size() != 4 || weight->floats.empty())
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

Result<Value> OnnxImporter::read_pool(Op op) {
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

Result<Value> OnnxImporter::read_product() {
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
    const auto rows = static_cast<size_t>(b->shape[0]), columns = static_cast<size_t>(b->shape[1]);
    product.weight.shape = {b->shape[1], b->shape[0]};
    for (size_t r = 0; r < rows; ++r) {
      for (size_t k = 0; k < columns; ++k)
        product.weight.floats[k * rows + r] = b->floats[r * columns + k];
    }
  }
  if (c) return emit_linear(product, c);
  return product;
}

Result<Value> OnnxImporter::read_batch_norm() {
  Value* x = input(0);
  uint32_t index = TRY(activation_at(0));
  const Constant* parts[] = {constant(1), constant(2), constant(3), constant(4)};
  const size_t channels = shapes_[index].channels;
  for (const Constant* part : parts) {
    if (!part || part->floats.size() != channels)
      return refused("expected four constants for each channel");
  }
  if (std::any_of(parts[3]->floats.begin(), parts[3]->floats.end(), [](float v) { return v < 0; }))
    return refused("expected variances that are not negative");
  OnnxAttributes attributes(*node_);
  double epsilon = attributes.real("epsilon", 1e-5);
  attributes.any("momentum");
  if (attributes.integer("spatial", 1) == 0)
    return refused("expected statistics of each channel, not of each number");
  if (attributes.integer("training_mode", 0) != 0) return refused("training mode is not supported");
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

Result<Value> OnnxImporter::read_instance_norm() {
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

Result<Value> OnnxImporter::read_dropout() {
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

Result<Value> OnnxImporter::read_constant_node() {
  OnnxAttributes attributes(*node_);
  Value value;
  if (const auto* tensor = attributes.any("value")) {
    value.constant = TRY(read_onnx_constant(tensor->t()));
  } else if (const auto* real = attributes.any("value_float")) {
    if (!std::isfinite(real->f())) return refused("expected a finite value");
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

Status OnnxImporter::check_operator() const {
  // Those that read_node reads, and the two that only end a graph.
  constexpr std::string_view kKnown[] = {"Add",
                                         "AveragePool",
                                         "BatchNormalization",
                                         "Cast",
                                         "Concat",
                                         "Constant",
                                         "Conv",
                                         "Div",
                                         "Dropout",
                                         "Erf",
                                         "Flatten",
                                         "Gather",
                                         "Gemm",
                                         "GlobalAveragePool",
                                         "Identity",
                                         "InstanceNormalization",
                                         "LeakyRelu",
                                         "LogSoftmax",
                                         "MatMul",
                                         "MaxPool",
                                         "Mul",
                                         "ReduceMean",
                                         "Relu",
                                         "Reshape",
                                         "Shape",
                                         "Sigmoid",
                                         "Softmax",
                                         "Squeeze",
                                         "Sub",
                                         "Tanh",
                                         "Unsqueeze"};
  if (!node_->domain().empty() && node_->domain() != "ai.onnx")
    return refused("domain " + node_->domain() + " is not supported");
  if (std::count(std::begin(kKnown), std::end(kKnown), node_->op_type()) == 0)
    return refused("this operation is not supported");
  return Done{};
}

Result<Value> OnnxImporter::read_node() {
  const std::string& op = node_->op_type();
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
  if (op == "LeakyRelu") return simple(Op::kLeakyRelu, OnnxAttributes(*node_).real("alpha", 0.01));
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
  if (op == "Shape") {
    OnnxAttributes attributes(*node_);
    if (attributes.integer("start", 0) != 0) return refused("expected the whole shape");
    TRY(no_more(attributes));
    Value value;
    value.index = TRY(activation_at(0));
    value.kind = Kind::kShapeOf;
    value.image = input(0)->image;
    return value;
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

}  // namespace souk::market::from_onnx
