#include <onnx/onnx_pb.h>

#include <cmath>
#include <map>

#include "market_api/client/onnx_model.h"

namespace souk::market {
namespace {

using contracts::Node;
using contracts::Shape3;
using contracts::TrainingSpec;

constexpr int64_t kOpset = 17, kIrVersion = 8;
constexpr float kNormEpsilon = 1e-5F;

// A value of the ONNX graph: [N, C], or [N, C, H, W] where it is an image.
struct Value {
  std::string name;
  bool image = false;
  Shape3 shape;
};

class Exporter {
 public:
  Exporter(const StoredModel& stored, const contracts::ModelShape& shape)
      : spec_(stored.notes.spec),
        notes_(stored.notes),
        shape_(shape),
        graph_(*model_.mutable_graph()) {
    for (const auto& tensor : stored.model.tensors) tensors_[tensor.name] = &tensor;
  }

  Bytes run() {
    write_frame();
    std::vector<Value> values{example()};
    for (size_t i = 1; i <= spec_.model.size(); ++i) values.push_back(layer(i, values));
    write_outputs(as_flat(values.back()));
    std::string bytes;
    CHECK(model_.SerializeToString(&bytes));
    return Bytes(bytes.begin(), bytes.end());
  }

 private:
  void write_frame() {
    model_.set_ir_version(kIrVersion);
    model_.set_producer_name("souk");
    auto* opset = model_.add_opset_import();
    opset->set_domain("");
    opset->set_version(kOpset);
    graph_.set_name("souk");
    auto property = [&](const char* name, const std::string& value) {
      auto* entry = model_.add_metadata_props();
      entry->set_key(name);
      entry->set_value(value);
    };
    if (!notes_.classes.empty()) {
      property("souk.classes",
               canonical(Json(Json::Array(notes_.classes.begin(), notes_.classes.end()))));
    }
    // Nothing else in the file tells numbers that are meant as they are from logits.
    if (notes_.spec.loss == contracts::TrainingSpec::Loss::kMse) property("souk.loss", "mse");
    if (notes_.csv) property("souk.csv", canonical(trainer::to_json(*notes_.csv)));
  }

  // ---- pieces -----------------------------------------------------------------

  static void declare(onnx::ValueInfoProto& info, const std::string& name,
                      const std::vector<int64_t>& sizes) {
    info.set_name(name);
    auto* type = info.mutable_type()->mutable_tensor_type();
    type->set_elem_type(onnx::TensorProto::FLOAT);
    type->mutable_shape()->add_dim()->set_dim_param("N");
    for (int64_t size : sizes) type->mutable_shape()->add_dim()->set_dim_value(size);
  }

  std::string constant(const std::string& name, const std::vector<int64_t>& shape,
                       const std::vector<float>& values) {
    auto* tensor = graph_.add_initializer();
    tensor->set_name(name);
    tensor->set_data_type(onnx::TensorProto::FLOAT);
    for (int64_t size : shape) tensor->add_dims(size);
    tensor->set_raw_data(values.data(), values.size() * sizeof(float));
    return name;
  }

  std::string integers(const std::vector<int64_t>& values) {
    auto* tensor = graph_.add_initializer();
    tensor->set_name(fresh("integers"));
    tensor->set_data_type(onnx::TensorProto::INT64);
    tensor->add_dims(static_cast<int64_t>(values.size()));
    tensor->set_raw_data(values.data(), values.size() * sizeof(int64_t));
    return tensor->name();
  }

  std::string scalar(float value) { return constant(fresh("scalar"), {}, {value}); }

  std::string fresh(const std::string& stem) { return stem + "_" + std::to_string(++made_); }

  // The new node's one output is named like the node.
  onnx::NodeProto& node(const std::string& op, const std::vector<std::string>& inputs,
                        std::string name = "") {
    auto* made = graph_.add_node();
    made->set_op_type(op);
    if (name.empty()) name = fresh(op);
    made->set_name(name);
    for (const auto& input : inputs) made->add_input(input);
    made->add_output(name);
    return *made;
  }
  std::string out(const std::string& op, const std::vector<std::string>& inputs) {
    return node(op, inputs).output(0);
  }

  static void set(onnx::NodeProto& made, const char* name, int64_t value) {
    auto* attribute = made.add_attribute();
    attribute->set_name(name);
    attribute->set_type(onnx::AttributeProto::INT);
    attribute->set_i(value);
  }
  static void set(onnx::NodeProto& made, const char* name, float value) {
    auto* attribute = made.add_attribute();
    attribute->set_name(name);
    attribute->set_type(onnx::AttributeProto::FLOAT);
    attribute->set_f(value);
  }
  static void set(onnx::NodeProto& made, const char* name, const std::vector<int64_t>& values) {
    auto* attribute = made.add_attribute();
    attribute->set_name(name);
    attribute->set_type(onnx::AttributeProto::INTS);
    for (int64_t value : values) attribute->add_ints(value);
  }

  Value as_flat(const Value& value) {
    if (!value.image) return value;
    auto& made = node("Flatten", {value.name});
    set(made, "axis", int64_t{1});
    return {made.output(0), false, {static_cast<uint32_t>(value.shape.count()), 1, 1}};
  }
  Value as_image(const Value& value) {
    if (value.image) return value;
    auto shape = integers({0, value.shape.channels, 1, 1});
    return {out("Reshape", {value.name, shape}), true, value.shape};
  }

  const trainer::NamedTensor& tensor(size_t i, const char* part) const {
    auto it = tensors_.find(std::to_string(i) + "." + part);
    CHECK(it != tensors_.end());
    return *it->second;
  }
  std::string parameter(size_t i, const char* part, std::vector<int64_t> shape = {}) {
    const auto& found = tensor(i, part);
    return constant(found.name, shape.empty() ? found.shape : shape, found.values);
  }

  // ---- the example ------------------------------------------------------------

  std::string per_feature(const char* name, const std::vector<double>& constants) {
    std::vector<float> values;
    for (double value : constants) values.push_back(static_cast<float>(value));
    if (values.size() == 1) return constant(name, {1}, values);
    std::vector<int64_t> shape(spec_.input_shape.begin(), spec_.input_shape.end());
    return constant(name, shape, values);
  }

  Value example() {
    std::vector<int64_t> sizes(spec_.input_shape.begin(), spec_.input_shape.end());
    declare(*graph_.add_input(), "input", sizes);
    std::string name = "input";
    if (!spec_.input_mean.empty())
      name = out("Sub", {name, per_feature("input.mean", spec_.input_mean)});
    if (!spec_.input_scale.empty())
      name = out("Mul", {name, per_feature("input.scale", spec_.input_scale)});
    return {name, sizes.size() == 3, shape_.outputs[0]};
  }

  // ---- layers -----------------------------------------------------------------

  // Weights as they are used: standardised ones folded in.
  std::string weights(size_t i, const Node& layer) {
    trainer::NamedTensor found = tensor(i, "weight");
    if (layer.standardize) {
      const size_t fan_in = found.values.size() / static_cast<size_t>(found.shape[0]);
      for (size_t unit = 0; unit < static_cast<size_t>(found.shape[0]); ++unit) {
        float* w = found.values.data() + unit * fan_in;
        double mean = 0, variance = 0;
        for (size_t k = 0; k < fan_in; ++k) mean += static_cast<double>(w[k]);
        mean /= static_cast<double>(fan_in);
        for (size_t k = 0; k < fan_in; ++k)
          variance += (static_cast<double>(w[k]) - mean) * (static_cast<double>(w[k]) - mean);
        variance /= static_cast<double>(fan_in);
        for (size_t k = 0; k < fan_in; ++k) {
          w[k] =
              static_cast<float>((static_cast<double>(w[k]) - mean) / std::sqrt(variance + 1e-5));
        }
      }
    }
    return constant(found.name, found.shape, found.values);
  }

  static void set_window(onnx::NodeProto& made, const Node& layer) {
    int64_t k = layer.kernel, s = layer.stride, p = layer.padding;
    set(made, "kernel_shape", std::vector<int64_t>{k, k});
    set(made, "strides", std::vector<int64_t>{s, s});
    set(made, "pads", std::vector<int64_t>{p, p, p, p});
  }

  // Opset 17 has no group normalisation: groups as the channels of an instance normalisation.
  Value group_norm(size_t i, int64_t groups, const Value& x) {
    std::vector<float> ones(static_cast<size_t>(groups), 1.0F),
        zeros(static_cast<size_t>(groups), 0.0F);
    auto grouped = out("Reshape", {x.name, integers({0, groups, -1})});
    auto& made = node("InstanceNormalization", {grouped, constant(fresh("ones"), {groups}, ones),
                                                constant(fresh("zeros"), {groups}, zeros)});
    set(made, "epsilon", kNormEpsilon);
    std::vector<int64_t> shape{0, x.shape.channels}, each{x.shape.channels};
    if (x.image) {
      shape.insert(shape.end(), {x.shape.height, x.shape.width});
      each.insert(each.end(), {1, 1});
    }
    auto back = out("Reshape", {made.output(0), integers(shape)});
    auto scaled = out("Mul", {back, parameter(i, "weight", each)});
    return {out("Add", {scaled, parameter(i, "bias", each)}), x.image, x.shape};
  }

  Value embedding(size_t i, const Node& layer, const Value& result) {
    std::vector<int64_t> columns(layer.columns.begin(), layer.columns.end());
    auto& chosen = node("Gather", {"input", integers(columns)});
    set(chosen, "axis", int64_t{1});
    auto& indices = node("Cast", {chosen.output(0)});
    set(indices, "to", int64_t{onnx::TensorProto::INT64});
    auto rows = out("Gather", {parameter(i, "weight"), indices.output(0)});
    return {out("Reshape", {rows, integers({0, result.shape.channels})}), false, result.shape};
  }

  Value layer(size_t i, const std::vector<Value>& values) {
    using Op = Node::Op;
    const Node& node_spec = spec_.model[i - 1];
    std::vector<Value> x;
    for (uint32_t input : node_spec.inputs) x.push_back(values[input]);
    if (x.empty()) x.push_back(values[i - 1]);
    Value result{"", x[0].image, shape_.outputs[i]};
    auto elementwise = [&](const char* op) { result.name = out(op, {x[0].name}); };
    switch (node_spec.op) {
      case Op::kLinear: {
        std::vector<std::string> inputs{as_flat(x[0]).name, weights(i, node_spec)};
        if (node_spec.bias) inputs.push_back(parameter(i, "bias"));
        auto& made = node("Gemm", inputs);
        set(made, "transB", int64_t{1});
        return {made.output(0), false, result.shape};
      }
      case Op::kConv2d: {
        std::vector<std::string> inputs{as_image(x[0]).name, weights(i, node_spec)};
        if (node_spec.bias) inputs.push_back(parameter(i, "bias"));
        auto& made = node("Conv", inputs);
        set_window(made, node_spec);
        set(made, "group", int64_t{node_spec.groups});
        return {made.output(0), true, result.shape};
      }
      case Op::kMaxPool:
      case Op::kAvgPool: {
        auto& made =
            node(node_spec.op == Op::kMaxPool ? "MaxPool" : "AveragePool", {as_image(x[0]).name});
        set_window(made, node_spec);
        return {made.output(0), true, result.shape};
      }
      case Op::kGlobalAvgPool:
        if (!x[0].image) return x[0];
        elementwise("GlobalAveragePool");
        return result;
      case Op::kRelu:
        elementwise("Relu");
        return result;
      case Op::kTanh:
        elementwise("Tanh");
        return result;
      case Op::kSigmoid:
        elementwise("Sigmoid");
        return result;
      case Op::kLeakyRelu: {
        auto& made = node("LeakyRelu", {x[0].name});
        set(made, "alpha", static_cast<float>(node_spec.slope));
        result.name = made.output(0);
        return result;
      }
      case Op::kGelu: {
        auto erf = out("Erf", {out("Div", {x[0].name, scalar(std::sqrt(2.0F))})});
        auto twice = out("Mul", {x[0].name, out("Add", {erf, scalar(1)})});
        result.name = out("Mul", {twice, scalar(0.5F)});
        return result;
      }
      case Op::kSilu:
        result.name = out("Mul", {x[0].name, out("Sigmoid", {x[0].name})});
        return result;
      case Op::kFlatten:
        return as_flat(x[0]);
      case Op::kDropout:
        result.name = out("Dropout", {x[0].name, scalar(static_cast<float>(node_spec.rate))});
        return result;
      case Op::kGroupNorm:
        return group_norm(i, node_spec.groups, x[0]);
      case Op::kLayerNorm:
        return group_norm(i, 1, x[0]);
      case Op::kBatchNorm: {
        auto& made =
            node("BatchNormalization", {x[0].name, parameter(i, "weight"), parameter(i, "bias"),
                                        parameter(i, "running_mean"), parameter(i, "running_var")});
        set(made, "epsilon", kNormEpsilon);
        result.name = made.output(0);
        return result;
      }
      case Op::kAdd:
      case Op::kConcat: {
        bool flat = false;
        for (const Value& value : x) flat = flat || !value.image;
        std::vector<std::string> inputs;
        for (const Value& value : x) inputs.push_back(flat ? as_flat(value).name : value.name);
        auto& made = node(node_spec.op == Op::kAdd ? "Add" : "Concat", inputs);
        if (node_spec.op == Op::kConcat) set(made, "axis", int64_t{1});
        return {made.output(0), !flat, result.shape};
      }
      case Op::kEmbedding:
        return embedding(i, node_spec, result);
      case Op::kScattering:
        break;  // export_onnx has refused it
      case Op::kColumns: {
        std::vector<int64_t> columns(node_spec.columns.begin(), node_spec.columns.end());
        auto& made = node("Gather", {x[0].name, integers(columns)});
        set(made, "axis", int64_t{1});
        return {made.output(0), false, result.shape};
      }
    }
    CHECK(false);
  }

  void write_outputs(const Value& last) {
    const int64_t outputs = last.shape.channels;
    node("Identity", {last.name}, "logits");
    declare(*graph_.add_output(), "logits", {outputs});
    if (spec_.loss == TrainingSpec::Loss::kMse) return;
    if (spec_.loss == TrainingSpec::Loss::kBce) {
      node("Sigmoid", {"logits"}, "probabilities");
    } else {
      set(node("Softmax", {"logits"}, "probabilities"), "axis", int64_t{1});
    }
    declare(*graph_.add_output(), "probabilities", {outputs});
  }

  const TrainingSpec& spec_;
  const ModelNotes& notes_;
  const contracts::ModelShape& shape_;
  std::map<std::string, const trainer::NamedTensor*> tensors_;
  onnx::ModelProto model_;
  onnx::GraphProto& graph_;
  int made_ = 0;
};

}  // namespace

Result<Bytes> export_onnx(const StoredModel& stored) {
  auto shape = TRY(contracts::check_spec(stored.notes.spec));
  for (const auto& node : stored.notes.spec.model) {
    if (node.op != contracts::Node::Op::kScattering) continue;
    return Error(
        Code::kRefused,
        "onnx: expected no scattering; its wavelets are not among ONNX's operators, so the "
        "model stays safetensors");
  }
  TRY(trainer::check_model(stored.notes.spec, stored.model));
  return Exporter(stored, shape).run();
}

}  // namespace souk::market
