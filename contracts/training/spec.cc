#include "contracts/training/spec.h"

#include <array>
#include <charconv>
#include <cmath>
#include <string_view>

namespace souk::contracts {
namespace {

constexpr int64_t kFormatVersion = 1;
constexpr size_t kMaxNodes = 256;
constexpr uint64_t kMaxParameters = 50'000'000;
constexpr uint64_t kMaxActivations = uint64_t{1} << 24;  // numbers in one node's output for one example
constexpr int64_t kMaxSteps = 1'000'000;
constexpr int64_t kMaxBatch = 65536;
constexpr int64_t kMaxShard = 4096;
constexpr int64_t kMaxWidth = 65536;
constexpr size_t kMaxRates = 65536;
constexpr size_t kMaxConstants = 1 << 18;
constexpr int64_t kMaxEpsilonMicro = 1'000'000'000'000;
constexpr int64_t kMaxDeltaPico = 999'999'999'999;

struct OpName {
  Node::Op op;
  std::string_view name;
};
constexpr std::array<OpName, 16> kOps = {{
    {Node::Op::kLinear, "linear"},
    {Node::Op::kConv2d, "conv2d"},
    {Node::Op::kMaxPool, "max_pool"},
    {Node::Op::kAvgPool, "avg_pool"},
    {Node::Op::kGlobalAvgPool, "global_avg_pool"},
    {Node::Op::kRelu, "relu"},
    {Node::Op::kLeakyRelu, "leaky_relu"},
    {Node::Op::kTanh, "tanh"},
    {Node::Op::kSigmoid, "sigmoid"},
    {Node::Op::kGelu, "gelu"},
    {Node::Op::kSilu, "silu"},
    {Node::Op::kFlatten, "flatten"},
    {Node::Op::kDropout, "dropout"},
    {Node::Op::kGroupNorm, "group_norm"},
    {Node::Op::kAdd, "add"},
    {Node::Op::kConcat, "concat"},
}};

// Which fields of Node an op has. One table for the writer, the reader and the check.
struct OpFields {
  bool units = false, window = false, groups = false, bias = false, slope = false, rate = false;
};
OpFields fields_of(Node::Op op) {
  OpFields has;
  switch (op) {
    case Node::Op::kLinear: has.units = has.bias = true; break;
    case Node::Op::kConv2d: has.units = has.window = has.groups = has.bias = true; break;
    case Node::Op::kMaxPool:
    case Node::Op::kAvgPool: has.window = true; break;
    case Node::Op::kLeakyRelu: has.slope = true; break;
    case Node::Op::kDropout: has.rate = true; break;
    case Node::Op::kGroupNorm: has.groups = true; break;
    case Node::Op::kGlobalAvgPool:
    case Node::Op::kRelu:
    case Node::Op::kTanh:
    case Node::Op::kSigmoid:
    case Node::Op::kGelu:
    case Node::Op::kSilu:
    case Node::Op::kFlatten:
    case Node::Op::kAdd:
    case Node::Op::kConcat: break;
  }
  return has;
}

Error malformed(const std::string& place, const std::string& expected) {
  return Error(Code::kMalformed, place + ": " + expected);
}

// --- writer ---------------------------------------------------------------

Json reals(const std::vector<double>& values) {
  Json::Array out;
  for (double value : values) out.push_back(real_text(value));
  return out;
}

Json integers(const std::vector<uint32_t>& values) {
  Json::Array out;
  for (uint32_t value : values) out.push_back(value);
  return out;
}

Json node_json(const Node& node) {
  auto has = fields_of(node.op);
  Json::Object out;
  out["op"] = op_name(node.op);
  out["inputs"] = integers(node.inputs);
  if (has.units) out["units"] = node.units;
  if (has.window) {
    out["kernel"] = node.kernel;
    out["stride"] = node.stride;
    out["padding"] = node.padding;
  }
  if (has.groups) out["groups"] = node.groups;
  if (has.bias) out["bias"] = node.bias;
  if (has.slope) out["slope"] = real_text(node.slope);
  if (has.rate) out["rate"] = real_text(node.rate);
  return out;
}

Json optimizer_json(const Optimizer& optimizer) {
  Json::Object out;
  out["weight_decay"] = real_text(optimizer.weight_decay);
  if (optimizer.kind == Optimizer::Kind::kSgd) {
    out["kind"] = "sgd";
    out["momentum"] = real_text(optimizer.momentum);
    out["nesterov"] = optimizer.nesterov;
  } else {
    out["kind"] = "adam";
    out["beta1"] = real_text(optimizer.beta1);
    out["beta2"] = real_text(optimizer.beta2);
    out["epsilon"] = real_text(optimizer.epsilon);
  }
  return out;
}

// --- reader ---------------------------------------------------------------

Result<uint32_t> small(Fields& fields, const std::string& name, int64_t min, int64_t max) {
  int64_t value = TRY(fields.integer(name, min, max));
  return static_cast<uint32_t>(value);
}

// An integer up to 2^64 - 1 as a decimal string without leading zeros.
Result<uint64_t> wide(Fields& fields, const std::string& name) {
  auto text = TRY(fields.text(name, 20));
  uint64_t value = 0;
  auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc() || end != text.data() + text.size() || std::to_string(value) != text) {
    return malformed("spec." + name, "expected an integer below 2^64 as a decimal string");
  }
  return value;
}

Result<std::vector<double>> read_reals(Fields& fields, const std::string& name) {
  const Json::Array* array = TRY(fields.array(name, kMaxConstants));
  std::vector<double> out;
  for (const Json& item : *array) {
    auto* text = item.string();
    if (!text) return malformed("spec." + name, "expected decimal strings");
    double value = TRY(parse_real(*text));
    out.push_back(value);
  }
  return out;
}

Result<std::vector<uint32_t>> read_integers(Fields& fields, const std::string& name, size_t max_items) {
  const Json::Array* array = TRY(fields.array(name, max_items));
  std::vector<uint32_t> out;
  for (const Json& item : *array) {
    auto* value = item.integer();
    if (!value || *value < 0 || *value > UINT32_MAX) return malformed("spec." + name, "expected integers from 0 to 4294967295");
    out.push_back(static_cast<uint32_t>(*value));
  }
  return out;
}

Result<Node> read_node(const Json& json, const std::string& place) {
  auto fields = TRY(Fields::of(json, place));
  Node node;
  auto name = TRY(fields.text("op", 32));
  auto op = op_from_name(name);
  if (!op) return malformed(place + ".op", "expected the name of an operation");
  node.op = *op;
  node.inputs = TRY(read_integers(fields, "inputs", kMaxNodes));
  auto has = fields_of(node.op);
  if (has.units) node.units = TRY(small(fields, "units", 1, kMaxWidth));
  if (has.window) {
    node.kernel = TRY(small(fields, "kernel", 1, 1024));
    node.stride = TRY(small(fields, "stride", 1, 1024));
    node.padding = TRY(small(fields, "padding", 0, 1024));
  }
  if (has.groups) node.groups = TRY(small(fields, "groups", 1, kMaxWidth));
  if (has.bias) node.bias = TRY(fields.boolean("bias"));
  if (has.slope) node.slope = TRY(fields.real("slope"));
  if (has.rate) node.rate = TRY(fields.real("rate"));
  TRY(fields.done());
  return node;
}

Result<Optimizer> read_optimizer(const Json& json) {
  auto fields = TRY(Fields::of(json, "spec.optimizer"));
  Optimizer optimizer;
  auto kind = TRY(fields.text("kind", 16));
  optimizer.weight_decay = TRY(fields.real("weight_decay"));
  if (kind == "sgd") {
    optimizer.kind = Optimizer::Kind::kSgd;
    optimizer.momentum = TRY(fields.real("momentum"));
    optimizer.nesterov = TRY(fields.boolean("nesterov"));
  } else if (kind == "adam") {
    optimizer.kind = Optimizer::Kind::kAdam;
    optimizer.beta1 = TRY(fields.real("beta1"));
    optimizer.beta2 = TRY(fields.real("beta2"));
    optimizer.epsilon = TRY(fields.real("epsilon"));
  } else {
    return malformed("spec.optimizer.kind", "expected \"sgd\" or \"adam\"");
  }
  TRY(fields.done());
  return optimizer;
}

Result<PrivacySpec> read_privacy(const Json& json) {
  auto fields = TRY(Fields::of(json, "spec.privacy"));
  PrivacySpec privacy;
  privacy.clip = TRY(fields.real("clip"));
  privacy.noise_multiplier = TRY(fields.real("noise_multiplier"));
  privacy.epsilon_micro = TRY(fields.integer("epsilon_micro", 1, kMaxEpsilonMicro));
  privacy.delta_pico = TRY(fields.integer("delta_pico", 1, kMaxDeltaPico));
  TRY(fields.done());
  return privacy;
}

Result<TrainingSpec::Rate> read_rate(const Json& json) {
  auto fields = TRY(Fields::of(json, "spec.learning_rate"));
  TrainingSpec::Rate rate{};
  rate.steps = TRY(small(fields, "steps", 1, kMaxSteps));
  rate.value = TRY(fields.real("value"));
  TRY(fields.done());
  return rate;
}

// --- check ----------------------------------------------------------------

bool within(double value, double min, double max) { return value >= min && value <= max; }  // false for NaN

Status check_unused_fields(const Node& node, const std::string& place) {
  const Node plain;
  auto has = fields_of(node.op);
  bool stray = (!has.units && node.units != plain.units) ||
               (!has.window && (node.kernel != plain.kernel || node.stride != plain.stride || node.padding != plain.padding)) ||
               (!has.groups && node.groups != plain.groups) || (!has.bias && node.bias != plain.bias) ||
               (!has.slope && node.slope != plain.slope) || (!has.rate && node.rate != plain.rate);
  if (stray) return malformed(place, "expected only the fields that " + op_name(node.op) + " has");
  return Done{};
}

Result<Shape3> windowed(const Node& node, const Shape3& in, uint32_t channels, const std::string& place) {
  if (node.kernel < 1 || node.kernel > 1024 || node.stride < 1 || node.stride > 1024 || node.padding > 1024) {
    return malformed(place, "expected kernel and stride from 1 to 1024 and padding up to 1024");
  }
  if (node.padding >= node.kernel) return malformed(place, "expected padding below kernel");
  auto reach = [&](uint32_t size) { return int64_t{size} + 2 * int64_t{node.padding} - int64_t{node.kernel}; };
  if (reach(in.height) < 0 || reach(in.width) < 0) {
    return malformed(place, "expected an image of at least the kernel's size, here it is " + std::to_string(in.height) +
                                "x" + std::to_string(in.width));
  }
  return Shape3{channels, static_cast<uint32_t>(reach(in.height) / node.stride) + 1,
                static_cast<uint32_t>(reach(in.width) / node.stride) + 1};
}

struct NodeShape {
  Shape3 output;
  uint64_t parameters = 0;
};

Result<NodeShape> shape_of(const Node& node, const std::vector<Shape3>& in, const std::string& place) {
  using Op = Node::Op;
  const Shape3& x = in.front();
  switch (node.op) {
    case Op::kLinear: {
      if (node.units < 1 || node.units > kMaxWidth) return malformed(place + ".units", "expected 1 to 65536");
      if (x.height != 1 || x.width != 1) return malformed(place, "expected a flat input; put flatten before linear");
      return NodeShape{{node.units, 1, 1}, uint64_t{node.units} * x.channels + (node.bias ? node.units : 0)};
    }
    case Op::kConv2d: {
      if (node.units < 1 || node.units > kMaxWidth) return malformed(place + ".units", "expected 1 to 65536");
      if (node.groups < 1 || x.channels % node.groups != 0 || node.units % node.groups != 0) {
        return malformed(place + ".groups", "expected a divisor of the channels in and out");
      }
      Shape3 out = TRY(windowed(node, x, node.units, place));
      uint64_t weights = uint64_t{node.units} * (x.channels / node.groups) * node.kernel * node.kernel;
      return NodeShape{out, weights + (node.bias ? node.units : 0)};
    }
    case Op::kMaxPool:
    case Op::kAvgPool: {
      Shape3 out = TRY(windowed(node, x, x.channels, place));
      return NodeShape{out, 0};
    }
    case Op::kGlobalAvgPool: return NodeShape{{x.channels, 1, 1}, 0};
    case Op::kFlatten: return NodeShape{{static_cast<uint32_t>(x.count()), 1, 1}, 0};
    case Op::kLeakyRelu:
      if (!within(node.slope, 0, 1)) return malformed(place + ".slope", "expected a number from 0 to 1");
      return NodeShape{x, 0};
    case Op::kDropout:
      if (!within(node.rate, 0, 0.999)) return malformed(place + ".rate", "expected a number from 0 to 0.999");
      return NodeShape{x, 0};
    case Op::kGroupNorm:
      if (node.groups < 1 || x.channels % node.groups != 0) {
        return malformed(place + ".groups", "expected a divisor of the " + std::to_string(x.channels) + " channels");
      }
      return NodeShape{x, uint64_t{2} * x.channels};
    case Op::kAdd:
      if (in[1].channels != x.channels || in[1].height != x.height || in[1].width != x.width) {
        return malformed(place, "expected two inputs of one shape");
      }
      return NodeShape{x, 0};
    case Op::kConcat: {
      uint64_t channels = 0;
      for (const Shape3& part : in) {
        if (part.height != x.height || part.width != x.width) {
          return malformed(place, "expected inputs of one height and width");
        }
        channels += part.channels;
      }
      if (channels > kMaxActivations) return malformed(place, "expected at most 16777216 numbers in one output");
      return NodeShape{{static_cast<uint32_t>(channels), x.height, x.width}, 0};
    }
    case Op::kRelu:
    case Op::kTanh:
    case Op::kSigmoid:
    case Op::kGelu:
    case Op::kSilu: return NodeShape{x, 0};
  }
  return malformed(place, "expected a known operation");
}

Result<Shape3> check_input(const TrainingSpec& spec) {
  const auto& shape = spec.input_shape;
  if (shape.size() != 1 && shape.size() != 3) {
    return malformed("spec.input.shape", "expected {features} or {channels, height, width}");
  }
  for (uint32_t size : shape) {
    if (size < 1 || size > kMaxWidth) return malformed("spec.input.shape", "expected sizes from 1 to 65536");
  }
  Shape3 input{shape[0], shape.size() == 3 ? shape[1] : 1, shape.size() == 3 ? shape[2] : 1};
  if (input.count() > kMaxActivations) return malformed("spec.input.shape", "expected at most 16777216 numbers");
  auto fits = [&](const std::vector<double>& values) {
    return values.size() <= kMaxConstants && (values.size() <= 1 || values.size() == input.count());
  };
  if (!fits(spec.input_mean)) return malformed("spec.input.mean", "expected none, one, or one per feature");
  if (!fits(spec.input_scale)) return malformed("spec.input.scale", "expected none, one, or one per feature");
  for (double value : spec.input_mean) {
    if (!std::isfinite(value)) return malformed("spec.input.mean", "expected finite numbers");
  }
  for (double value : spec.input_scale) {
    if (!std::isfinite(value) || value == 0) return malformed("spec.input.scale", "expected finite numbers other than zero");
  }
  return input;
}

Status check_optimizer(const Optimizer& optimizer) {
  const Optimizer plain;
  if (!within(optimizer.weight_decay, 0, 1e6)) return malformed("spec.optimizer.weight_decay", "expected 0 to 1000000");
  if (optimizer.kind == Optimizer::Kind::kSgd) {
    if (!within(optimizer.momentum, 0, 0.999999)) return malformed("spec.optimizer.momentum", "expected 0 to 0.999999");
    if (optimizer.nesterov && optimizer.momentum == 0) return malformed("spec.optimizer.nesterov", "expected a momentum with it");
    if (optimizer.beta1 != plain.beta1 || optimizer.beta2 != plain.beta2 || optimizer.epsilon != plain.epsilon) {
      return malformed("spec.optimizer", "expected no Adam fields with sgd");
    }
    return Done{};
  }
  if (!within(optimizer.beta1, 0, 0.999999)) return malformed("spec.optimizer.beta1", "expected 0 to 0.999999");
  if (!within(optimizer.beta2, 0, 0.999999999)) return malformed("spec.optimizer.beta2", "expected 0 to 0.999999999");
  if (!within(optimizer.epsilon, 1e-30, 1e6)) return malformed("spec.optimizer.epsilon", "expected 1e-30 to 1000000");
  if (optimizer.momentum != 0 || optimizer.nesterov) return malformed("spec.optimizer", "expected no momentum with adam");
  return Done{};
}

Status check_schedule(const TrainingSpec& spec) {
  if (spec.steps < 1 || spec.steps > kMaxSteps) return malformed("spec.steps", "expected 1 to 1000000");
  if (spec.batch < 1 || spec.batch > kMaxBatch) return malformed("spec.batch", "expected 1 to 65536");
  if (spec.shard < 1 || spec.shard > kMaxShard) return malformed("spec.shard", "expected 1 to 4096");
  if (spec.learning_rate.empty() || spec.learning_rate.size() > kMaxRates) {
    return malformed("spec.learning_rate", "expected 1 to 65536 runs");
  }
  uint64_t covered = 0;
  for (const auto& rate : spec.learning_rate) {
    if (rate.steps < 1) return malformed("spec.learning_rate", "expected runs of at least one step");
    if (!within(rate.value, 0, 1e6)) return malformed("spec.learning_rate", "expected rates from 0 to 1000000");
    covered += rate.steps;
  }
  if (covered != spec.steps) return malformed("spec.learning_rate", "expected runs that add up to steps");
  return Done{};
}

Status check_sampling_and_privacy(const TrainingSpec& spec) {
  if (spec.shuffle && spec.sampling_threshold != 0) {
    return malformed("spec.sampling_threshold", "expected \"0\" with shuffle");
  }
  if (!spec.shuffle && spec.sampling_threshold == 0) {
    return malformed("spec.sampling_threshold", "expected above zero; otherwise no example is ever drawn");
  }
  if (!spec.privacy) return Done{};
  if (spec.shuffle) return malformed("spec.shuffle", "expected false under privacy: the accountant covers Poisson sampling only");
  const auto& privacy = *spec.privacy;
  if (!within(privacy.clip, 1e-9, 1e9)) return malformed("spec.privacy.clip", "expected 1e-9 to 1e9");
  if (!within(privacy.noise_multiplier, 1e-3, 1e6)) return malformed("spec.privacy.noise_multiplier", "expected 0.001 to 1000000");
  if (privacy.epsilon_micro < 1 || privacy.epsilon_micro > kMaxEpsilonMicro) {
    return malformed("spec.privacy.epsilon_micro", "expected 1 to 1000000000000");
  }
  if (privacy.delta_pico < 1 || privacy.delta_pico > kMaxDeltaPico) {
    return malformed("spec.privacy.delta_pico", "expected 1 to 999999999999");
  }
  return Done{};
}

}  // namespace

std::string op_name(Node::Op op) {
  for (const auto& row : kOps) {
    if (row.op == op) return std::string(row.name);
  }
  return "unknown";
}

std::optional<Node::Op> op_from_name(std::string_view name) {
  for (const auto& row : kOps) {
    if (row.name == name) return row.op;
  }
  return std::nullopt;
}

Json to_json(const TrainingSpec& spec) {
  Json::Array model;
  for (const Node& node : spec.model) model.push_back(node_json(node));
  Json::Array rates;
  for (const auto& rate : spec.learning_rate) {
    rates.push_back(Json::Object{{"steps", rate.steps}, {"value", real_text(rate.value)}});
  }
  Json privacy;
  if (spec.privacy) {
    privacy = Json::Object{{"clip", real_text(spec.privacy->clip)},
                           {"noise_multiplier", real_text(spec.privacy->noise_multiplier)},
                           {"epsilon_micro", spec.privacy->epsilon_micro},
                           {"delta_pico", spec.privacy->delta_pico}};
  }
  return Json::Object{
      {"version", kFormatVersion},
      {"input_shape", integers(spec.input_shape)},
      {"input_mean", reals(spec.input_mean)},
      {"input_scale", reals(spec.input_scale)},
      {"classes", spec.classes},
      {"model", std::move(model)},
      {"loss", "softmax_cross_entropy"},
      {"optimizer", optimizer_json(spec.optimizer)},
      {"steps", spec.steps},
      {"batch", spec.batch},
      {"sampling_threshold", std::to_string(spec.sampling_threshold)},
      {"shuffle", spec.shuffle},
      {"learning_rate", std::move(rates)},
      {"shard", spec.shard},
      {"seed", std::to_string(spec.seed)},
      {"privacy", std::move(privacy)},
  };
}

Result<TrainingSpec> training_spec_from_json(const Json& json) {
  auto fields = TRY(Fields::of(json, "spec"));
  TRY(fields.integer("version", kFormatVersion, kFormatVersion));
  TrainingSpec spec;
  spec.input_shape = TRY(read_integers(fields, "input_shape", 3));
  spec.input_mean = TRY(read_reals(fields, "input_mean"));
  spec.input_scale = TRY(read_reals(fields, "input_scale"));
  spec.classes = TRY(small(fields, "classes", 2, kMaxWidth));
  const Json::Array* model = TRY(fields.array("model", kMaxNodes));
  for (size_t i = 0; i < model->size(); ++i) {
    Node node = TRY(read_node((*model)[i], "spec.model[" + std::to_string(i + 1) + "]"));
    spec.model.push_back(std::move(node));
  }
  auto loss = TRY(fields.text("loss", 64));
  if (loss != "softmax_cross_entropy") return malformed("spec.loss", "expected \"softmax_cross_entropy\"");
  const Json* optimizer = TRY(fields.any("optimizer"));
  spec.optimizer = TRY(read_optimizer(*optimizer));
  spec.steps = TRY(small(fields, "steps", 1, kMaxSteps));
  spec.batch = TRY(small(fields, "batch", 1, kMaxBatch));
  spec.sampling_threshold = TRY(wide(fields, "sampling_threshold"));
  spec.shuffle = TRY(fields.boolean("shuffle"));
  const Json::Array* rates = TRY(fields.array("learning_rate", kMaxRates));
  for (const Json& item : *rates) {
    auto rate = TRY(read_rate(item));
    spec.learning_rate.push_back(rate);
  }
  spec.shard = TRY(small(fields, "shard", 1, kMaxShard));
  spec.seed = TRY(wide(fields, "seed"));
  const Json* privacy = TRY(fields.any("privacy"));
  if (!privacy->is_null()) spec.privacy = TRY(read_privacy(*privacy));
  TRY(fields.done());
  TRY(check_spec(spec));
  return spec;
}

Result<ModelShape> check_spec(const TrainingSpec& spec) {
  ModelShape shape;
  Shape3 input = TRY(check_input(spec));
  shape.outputs.push_back(input);
  if (spec.classes < 2 || spec.classes > kMaxWidth) return malformed("spec.classes", "expected 2 to 65536");
  if (spec.model.empty() || spec.model.size() > kMaxNodes) return malformed("spec.model", "expected 1 to 256 nodes");
  TRY(check_schedule(spec));
  TRY(check_optimizer(spec.optimizer));
  TRY(check_sampling_and_privacy(spec));

  std::vector<bool> read(spec.model.size() + 1, false);
  for (size_t i = 0; i < spec.model.size(); ++i) {
    const Node& node = spec.model[i];
    const std::string place = "spec.model[" + std::to_string(i + 1) + "]";
    TRY(check_unused_fields(node, place));
    size_t least = node.op == Node::Op::kAdd || node.op == Node::Op::kConcat ? 2 : 1;
    size_t most = node.op == Node::Op::kConcat ? kMaxNodes : least;
    std::vector<uint32_t> sources = node.inputs;
    if (sources.empty()) sources.push_back(static_cast<uint32_t>(i));
    if (sources.size() < least || sources.size() > most) {
      return malformed(place + ".inputs", "expected " + std::to_string(least) + (most > least ? " or more" : "") + " for " + op_name(node.op));
    }
    std::vector<Shape3> inputs;
    for (uint32_t source : sources) {
      if (source > i) return malformed(place + ".inputs", "expected earlier nodes only");
      read[source] = true;
      inputs.push_back(shape.outputs[source]);
    }
    NodeShape result = TRY(shape_of(node, inputs, place));
    if (result.output.count() > kMaxActivations) return malformed(place, "expected at most 16777216 numbers in one output");
    shape.outputs.push_back(result.output);
    shape.parameters += result.parameters;
    if (shape.parameters > kMaxParameters) return malformed(place, "expected at most 50000000 parameters in all");
  }
  for (size_t i = 0; i < spec.model.size(); ++i) {
    if (!read[i]) {
      return malformed(i == 0 ? "spec.model" : "spec.model[" + std::to_string(i) + "]",
                       "expected every node's output, and the example, to be read by a later node");
    }
  }
  const Shape3& last = shape.outputs.back();
  if (last.channels != spec.classes || last.height != 1 || last.width != 1) {
    return malformed("spec.model", "expected the last node to give " + std::to_string(spec.classes) + " numbers, it gives " +
                                       std::to_string(last.count()));
  }
  if (shape.parameters == 0) return malformed("spec.model", "expected something to train");
  return shape;
}

}  // namespace souk::contracts
