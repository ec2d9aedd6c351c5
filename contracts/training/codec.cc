// The JSON of a specification: writer and strict reader. contracts/SPEC.md, Training specification.
#include <array>
#include <charconv>
#include <string_view>

#include "contracts/training/vocabulary.h"

namespace souk::contracts {
namespace {

constexpr int64_t kFormatVersion = 2;

// The names of small choices, in JSON and in Lua.
template <class Value>
struct Choice {
  Value value;
  const char* name;
};
constexpr std::array<Choice<Optimizer::Decay>, 2> kDecays = {
    {{Optimizer::Decay::kDecoupled, "decoupled"}, {Optimizer::Decay::kCoupled, "coupled"}}};
constexpr std::array<Choice<PrivacySpec::Clipping>, 3> kClippings = {
    {{PrivacySpec::Clipping::kFlat, "flat"},
     {PrivacySpec::Clipping::kPerLayer, "per_layer"},
     {PrivacySpec::Clipping::kAutomatic, "automatic"}}};
constexpr std::array<Choice<TrainingSpec::Loss>, 3> kLosses = {
    {{TrainingSpec::Loss::kSoftmaxCrossEntropy, "softmax_cross_entropy"},
     {TrainingSpec::Loss::kBce, "bce"},
     {TrainingSpec::Loss::kMse, "mse"}}};
constexpr std::array<Choice<TrainingSpec::Dtype>, 2> kDtypes = {
    {{TrainingSpec::Dtype::kF32, "f32"}, {TrainingSpec::Dtype::kBf16, "bf16"}}};

template <class Value, size_t n>
std::string name_of(const std::array<Choice<Value>, n>& choices, Value value) {
  for (const auto& choice : choices) {
    if (choice.value == value) return choice.name;
  }
  return "unknown";
}

template <class Value, size_t n>
std::optional<Value> value_of(const std::array<Choice<Value>, n>& choices, std::string_view name) {
  for (const auto& choice : choices) {
    if (choice.name == name) return choice.value;
  }
  return std::nullopt;
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
  if (has.categories) out["categories"] = node.categories;
  if (has.columns) out["columns"] = integers(node.columns);
  if (has.scattering) {
    out["scales"] = node.scales;
    out["orientations"] = node.orientations;
  }
  if (has.standardize) out["standardize"] = node.standardize;
  if (has.frozen) out["frozen"] = node.frozen;
  return out;
}

Json optimizer_json(const Optimizer& optimizer) {
  Json::Object out;
  out["weight_decay"] = real_text(optimizer.weight_decay);
  out["decay"] = name_of(kDecays, optimizer.decay);
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

template <class Value, size_t n>
Result<Value> choice(Fields& fields, const std::string& name,
                     const std::array<Choice<Value>, n>& choices, const std::string& place) {
  auto text = TRY(fields.text(name, 64));
  auto value = value_of(choices, text);
  if (value) return *value;
  std::string known;
  for (const auto& c : choices) known += std::string(known.empty() ? "\"" : ", \"") + c.name + "\"";
  return malformed(place + "." + name, "expected one of " + known);
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
    auto value = parse_real(*text);
    if (!value) {
      return std::move(value).take_error().within("spec." + name + "[" +
                                                  std::to_string(out.size() + 1) + "]");
    }
    out.push_back(*value);
  }
  return out;
}

Result<std::vector<uint32_t>> read_integers(Fields& fields, const std::string& name,
                                            size_t max_items) {
  const Json::Array* array = TRY(fields.array(name, max_items));
  std::vector<uint32_t> out;
  for (const Json& item : *array) {
    auto* value = item.integer();
    if (!value || *value < 0 || *value > UINT32_MAX)
      return malformed("spec." + name, "expected integers from 0 to 4294967295");
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
  if (has.categories) node.categories = TRY(small(fields, "categories", 1, kMaxCategories));
  if (has.columns) node.columns = TRY(read_integers(fields, "columns", kMaxWidth));
  if (has.scattering) {
    node.scales = TRY(small(fields, "scales", 1, kMaxScales));
    node.orientations = TRY(small(fields, "orientations", 1, kMaxOrientations));
  }
  if (has.standardize) node.standardize = TRY(fields.boolean("standardize"));
  if (has.frozen) node.frozen = TRY(fields.boolean("frozen"));
  TRY(fields.done());
  return node;
}

Result<Optimizer> read_optimizer(const Json& json) {
  auto fields = TRY(Fields::of(json, "spec.optimizer"));
  Optimizer optimizer;
  auto kind = TRY(fields.text("kind", 16));
  optimizer.weight_decay = TRY(fields.real("weight_decay"));
  optimizer.decay = TRY(choice(fields, "decay", kDecays, "spec.optimizer"));
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
  privacy.clipping = TRY(choice(fields, "clipping", kClippings, "spec.privacy"));
  if (fields.has("user_cap")) {
    privacy.user_cap = static_cast<uint32_t>(TRY(fields.integer("user_cap", 2, kMaxUserCap)));
  }
  if (fields.has("pool")) {
    const Json::Array* pool = TRY(fields.array("pool", kMaxPool));
    if (pool->empty()) return malformed("spec.privacy.pool", "expected one for each dataset");
    for (const Json& item : *pool) {
      auto own = TRY(Fields::of(item, "spec.privacy.pool"));
      PoolMember member;
      member.clip = TRY(own.real("clip"));
      member.epsilon_micro = TRY(own.integer("epsilon_micro", 1, kMaxEpsilonMicro));
      member.sampling_threshold = TRY(wide(own, "sampling_threshold"));
      TRY(own.done());
      privacy.pool.push_back(member);
    }
  }
  TRY(fields.done());
  return privacy;
}

Result<Augmentation> read_augmentation(const Json& json) {
  auto fields = TRY(Fields::of(json, "spec.augmentation"));
  Augmentation augmentation;
  augmentation.flip = TRY(fields.boolean("flip"));
  augmentation.crop = TRY(small(fields, "crop", 0, kMaxCrop));
  augmentation.multiplicity = TRY(small(fields, "multiplicity", 1, kMaxMultiplicity));
  TRY(fields.done());
  return augmentation;
}

Result<TrainingSpec::Rate> read_rate(const Json& json) {
  auto fields = TRY(Fields::of(json, "spec.learning_rate"));
  TrainingSpec::Rate rate{};
  rate.steps = TRY(small(fields, "steps", 1, kMaxSteps));
  rate.value = TRY(fields.real("value"));
  TRY(fields.done());
  return rate;
}

}  // namespace

std::optional<TrainingSpec::Loss> loss_from_name(std::string_view name) {
  return value_of(kLosses, name);
}
std::optional<TrainingSpec::Dtype> dtype_from_name(std::string_view name) {
  return value_of(kDtypes, name);
}
std::optional<PrivacySpec::Clipping> clipping_from_name(std::string_view name) {
  return value_of(kClippings, name);
}
std::optional<Optimizer::Decay> decay_from_name(std::string_view name) {
  return value_of(kDecays, name);
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
                           {"delta_pico", spec.privacy->delta_pico},
                           {"clipping", name_of(kClippings, spec.privacy->clipping)}};
    // Left out where a row is the unit, so that every specification has one text.
    if (spec.privacy->user_cap != 1) (*privacy.object())["user_cap"] = spec.privacy->user_cap;
    Json::Array pool;
    for (const PoolMember& member : spec.privacy->pool) {
      pool.push_back(
          Json::Object{{"clip", real_text(member.clip)},
                       {"epsilon_micro", member.epsilon_micro},
                       {"sampling_threshold", std::to_string(member.sampling_threshold)}});
    }
    if (!pool.empty()) (*privacy.object())["pool"] = std::move(pool);
  }
  Json::Object out{
      {"version", kFormatVersion},
      {"input_shape", integers(spec.input_shape)},
      {"input_mean", reals(spec.input_mean)},
      {"input_scale", reals(spec.input_scale)},
      {"classes", spec.classes},
      {"model", std::move(model)},
      {"loss", name_of(kLosses, spec.loss)},
      {"augmentation", Json::Object{{"flip", spec.augmentation.flip},
                                    {"crop", spec.augmentation.crop},
                                    {"multiplicity", spec.augmentation.multiplicity}}},
      {"optimizer", optimizer_json(spec.optimizer)},
      {"steps", spec.steps},
      {"batch", spec.batch},
      {"sampling_threshold", std::to_string(spec.sampling_threshold)},
      {"shuffle", spec.shuffle},
      {"learning_rate", std::move(rates)},
      {"accumulate", spec.accumulate},
      {"ema", real_text(spec.ema)},
      {"shard", spec.shard},
      {"dtype", name_of(kDtypes, spec.dtype)},
      {"seed", std::to_string(spec.seed)},
      {"privacy", std::move(privacy)},
  };
  if (spec.initial) out["initial"] = *spec.initial;
  return out;
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
    Node node = TRY(read_node((*model)[i], node_place(i)));
    spec.model.push_back(std::move(node));
  }
  spec.loss = TRY(choice(fields, "loss", kLosses, "spec"));
  const Json* augmentation = TRY(fields.any("augmentation"));
  spec.augmentation = TRY(read_augmentation(*augmentation));
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
  spec.accumulate = TRY(small(fields, "accumulate", 1, kMaxSteps));
  spec.ema = TRY(fields.real("ema"));
  spec.shard = TRY(small(fields, "shard", 1, kMaxShard));
  spec.dtype = TRY(choice(fields, "dtype", kDtypes, "spec"));
  spec.seed = TRY(wide(fields, "seed"));
  if (fields.has("initial")) spec.initial = TRY(fields.digest("initial"));
  const Json* privacy = TRY(fields.any("privacy"));
  if (!privacy->is_null()) spec.privacy = TRY(read_privacy(*privacy));
  TRY(fields.done());
  TRY(check_spec(spec));
  return spec;
}

}  // namespace souk::contracts
