#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "market_api/client/onnx_importer.h"

namespace souk::market {
namespace from_onnx {

namespace {

bool is_standard(const onnx::NodeProto& node) {
  return node.domain().empty() || node.domain() == "ai.onnx";
}

}  // namespace

Result<ImportedOnnx> OnnxImporter::run() {
  TRY(read_constants());
  TRY(read_input());
  TRY(choose_output());
  for (int i = 0; i < graph_.node_size(); ++i) {
    const auto& node = graph_.node(i);
    bool wanted = false;
    for (const auto& output : node.output()) wanted = wanted || wanted_.count(output) != 0;
    const onnx::NodeProto* before = std::exchange(node_, &node);
    number_ = i + 1;
    TRY(check_operator());
    if (!wanted) {
      node_ = before;
      continue;
    }
    auto value = TRY(read_node());
    values_[node.output(0)] = std::move(value);
  }
  return finish();
}

Error OnnxImporter::refused(const std::string& why) const {
  return Error(Code::kRefused, "onnx: node " + std::to_string(number_) + " \"" + node_->name() +
                                   "\" (" + node_->op_type() + "): " + why);
}

Error OnnxImporter::malformed(const std::string& expected) {
  return Error(Code::kMalformed, "onnx: expected " + expected);
}

Status OnnxImporter::read_constants() {
  for (const auto& tensor : graph_.initializer()) {
    Value value;
    value.constant = TRY(read_onnx_constant(tensor));
    if (!values_.emplace(tensor.name(), std::move(value)).second)
      return malformed("each constant once, found " + tensor.name() + " again");
  }
  return Done{};
}

Status OnnxImporter::read_input() {
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
  shapes_.push_back(image ? Shape3{part_.input_shape[0], part_.input_shape[1], part_.input_shape[2]}
                          : Shape3{part_.input_shape[0], 1, 1});
  Value value;
  value.kind = Kind::kExample;
  value.image = image;
  values_[inputs[0]->name()] = std::move(value);
  return Done{};
}

Status OnnxImporter::choose_output() {
  if (graph_.output_size() < 1) return malformed("an output");
  output_ = graph_.output(0).name();
  std::map<std::string, const onnx::NodeProto*> makers;
  for (const auto& node : graph_.node()) {
    for (const auto& output : node.output()) {
      if (output.empty()) continue;
      if (values_.count(output) != 0 || !makers.emplace(output, &node).second)
        return malformed("each name once, found " + output + " again");
    }
  }
  while (makers.count(output_) != 0) {
    const auto& maker = *makers[output_];
    const std::string& op = maker.op_type();
    bool ends = op == "Softmax" || op == "LogSoftmax" || op == "Sigmoid";
    bool last = op == "Identity" || (ends && !ending_);
    if (!last || !is_standard(maker) || maker.input_size() < 1) break;
    if (ends) ending_ = &maker;
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

Status OnnxImporter::check_ending(bool image) {
  if (!ending_) return Done{};
  node_ = ending_;
  for (int i = 0; i < graph_.node_size(); ++i) {
    if (&graph_.node(i) == ending_) number_ = i + 1;
  }
  OnnxAttributes attributes(*ending_);
  // Until opset 12 everything from the axis on is one row, from 13 on the axis alone.
  int64_t axis =
      ending_->op_type() == "Sigmoid" ? 1 : attributes.integer("axis", opset_ < 13 ? 1 : -1);
  if (axis != 1 && axis != (image ? -3 : -1))
    return refused("expected axis 1, the classes; found " + std::to_string(axis));
  return no_more(attributes);
}

Result<ImportedOnnx> OnnxImporter::finish() {
  auto found = values_.find(output_);
  if (found == values_.end()) return malformed("a node that makes the output");
  if (!node_) return malformed("a node between input and output");
  uint32_t last = TRY(activation(found->second));
  const Shape3& shape = shapes_[last];
  if (last != part_.model.size() || last == 0)
    return malformed("the output at the end of the graph");
  if (shape.height != 1 || shape.width != 1)
    return malformed("one number for each class at the end");
  TRY(check_ending(found->second.image));
  part_.classes = std::max(shape.channels, 2U);
  using Loss = contracts::TrainingSpec::Loss;
  bool in_sigmoid = ending_ && ending_->op_type() == "Sigmoid";
  part_.loss = in_sigmoid || shape.channels == 1 ? Loss::kBce : Loss::kSoftmaxCrossEntropy;
  part_.input_mean = mean_;
  part_.input_scale = scale_;
  ImportedOnnx imported;
  imported.part = std::move(part_);
  TRY(contracts::check_spec(trainable_spec(imported.part)));
  imported.weights = std::move(weights_);
  return imported;
}

Result<Value> OnnxImporter::emit(Node node, std::vector<uint32_t> inputs, const Shape3& shape,
                                 bool image) {
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

void OnnxImporter::keep(uint32_t index, const char* part, std::vector<int64_t> shape,
                        std::vector<float> values) {
  weights_.tensors.push_back(
      {std::to_string(index) + "." + part, std::move(shape), std::move(values)});
}

std::vector<float> OnnxImporter::floats(const Constant& constant) {
  if (constant.integers.empty()) return constant.floats;
  return {constant.integers.begin(), constant.integers.end()};
}

Status OnnxImporter::use_example(const Value& value) {
  if (example_used_ && (value.mean != mean_ || value.scale != scale_))
    return refused("reads the input on another scale");
  example_used_ = true;
  mean_ = value.mean;
  scale_ = value.scale;
  return Done{};
}

Result<Value> OnnxImporter::emit_norm(const Value& x, std::vector<float> weight,
                                      std::vector<float> bias) {
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

Result<Value> OnnxImporter::emit_linear(const Value& product, const Constant* bias) {
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

Result<uint32_t> OnnxImporter::activation(Value& value) {
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
      value = TRY(
          emit(node, {0}, {static_cast<uint32_t>(node.columns.size()) * node.units, 1, 1}, false));
      keep(value.index, "weight", table.shape, table.floats);
      return value.index;
    }
    case Kind::kGrouped:
    case Kind::kShapeOf:
    case Kind::kGelu:
      return refused("is part of no operation known here");
  }
  return refused("is not supported");
}

}  // namespace from_onnx

namespace {

// From 7 on operators broadcast and know no mode of training but by attribute, as they are read
// here; 21 is the last whose changes to them are known here.
constexpr int64_t kFirstOpset = 7, kLastOpset = 21;

Result<int64_t> opset_of(const onnx::ModelProto& model) {
  std::optional<int64_t> opset;
  for (const auto& import : model.opset_import()) {
    if (!import.domain().empty() && import.domain() != "ai.onnx") continue;
    if (opset) return Error(Code::kMalformed, "onnx: expected one opset_import without a domain");
    opset = import.version();
  }
  if (!opset) return Error(Code::kMalformed, "onnx: expected an opset_import without a domain");
  if (*opset >= kFirstOpset && *opset <= kLastOpset) return *opset;
  return Error(Code::kRefused, "onnx: expected opset " + std::to_string(kFirstOpset) + " to " +
                                   std::to_string(kLastOpset) + ", found " +
                                   std::to_string(*opset));
}

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
  int64_t opset = TRY(opset_of(model));
  auto imported = TRY(from_onnx::OnnxImporter(model.graph(), opset).run());
  using Loss = contracts::TrainingSpec::Loss;
  bool number = false;  // a single one, for as many classes as have names
  for (const auto& property : model.metadata_props()) {
    if (property.key() != "souk.loss" || property.value() != "mse") continue;
    number = imported.part.loss == Loss::kBce;
    imported.part.loss = Loss::kMse;
  }
  for (const auto& property : model.metadata_props()) {
    auto json = parse_json(property.value());
    if (property.key() == "souk.classes" && json && json->array() &&
        (json->array()->size() == imported.part.classes ||
         (number && json->array()->size() >= 2 && json->array()->size() <= trainer::kMaxClasses))) {
      imported.part.classes = static_cast<uint32_t>(json->array()->size());
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
