#include "policy/lua/elaborate.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

namespace souk::policy {
namespace {

using contracts::Node;
using contracts::Optimizer;
using contracts::PrivacySpec;
using contracts::TrainingSpec;

__extension__ typedef unsigned __int128 Wide;

Error wrong(const std::string& place, const std::string& expected) {
  return Error(Code::kMalformed, place + ": expected " + expected);
}

// A real as the sandbox writes it, a whole number, or text such as "1e-5".
Result<double> real_of(const Json& value, const std::string& place) {
  if (auto* whole = value.integer()) return static_cast<double>(*whole);
  auto* text = value.string();
  if (!text) return wrong(place, "a number");
  double real = 0;
  auto [end, status] = std::from_chars(text->data(), text->data() + text->size(), real);
  if (status != std::errc() || end != text->data() + text->size() || !std::isfinite(real))
    return wrong(place, "a number");
  return real;
}

// A number in units of 1/scale, which must come out whole.
Result<int64_t> scaled(const Json& value, double scale, const std::string& unit,
                       const std::string& place) {
  double real = TRY(real_of(value, place));
  double units = real * scale;
  double whole = std::nearbyint(units);
  if (!(whole >= 1) || whole > 9e15) return wrong(place, "more than zero, at least one " + unit);
  if (std::fabs(units - whole) > 1e-9 * whole) return wrong(place, "whole " + unit + "s");
  return static_cast<int64_t>(whole);
}

// The members of one table of the contract, each read once; the rest is refused.
class Table {
 public:
  // Borrows `value`.
  static Result<Table> of(const Json& value, std::string place) {
    static const Json::Object none;
    if (auto* object = value.object()) return Table(object, std::move(place));
    if (value.array() && value.array()->empty()) return Table(&none, std::move(place));  // {}
    return wrong(place, "a table of named members");
  }

  static Result<Table> of(Json&&, std::string) = delete;

  const Json* find(const std::string& name) {
    taken_.push_back(name);
    auto it = members_->find(name);
    return it == members_->end() ? nullptr : &it->second;
  }
  Result<const Json*> need(const std::string& name, const std::string& what) {
    const Json* value = find(name);
    if (!value) return wrong(place(name), what);
    return value;
  }
  Result<int64_t> whole(const std::string& name, int64_t min, int64_t max,
                        std::optional<int64_t> otherwise = std::nullopt) {
    const std::string what =
        "a whole number from " + std::to_string(min) + " to " + std::to_string(max);
    const Json* value = find(name);
    if (!value && otherwise) return *otherwise;
    auto* whole = value ? value->integer() : nullptr;
    if (!whole || *whole < min || *whole > max)
      return wrong(place(name),
                   what + (value && value->string() ? " (// divides whole numbers)" : ""));
    return *whole;
  }
  Result<double> real(const std::string& name, double otherwise) {
    const Json* value = find(name);
    if (!value) return otherwise;
    return real_of(*value, place(name));
  }
  Result<bool> boolean(const std::string& name, bool otherwise) {
    const Json* value = find(name);
    if (!value) return otherwise;
    if (!value->boolean()) return wrong(place(name), "true or false");
    return *value->boolean();
  }
  Result<std::string> text(const std::string& name,
                           std::optional<std::string> otherwise = std::nullopt) {
    const Json* value = find(name);
    if (!value && otherwise) return *otherwise;
    if (!value || !value->string() || value->string()->size() > 256)
      return wrong(place(name), "a text of at most 256 bytes");
    return *value->string();
  }
  Status done() const {
    for (const auto& [name, value] : *members_) {
      if (std::find(taken_.begin(), taken_.end(), name) == taken_.end()) {
        std::string known;
        for (const auto& t : taken_) known += (known.empty() ? "" : ", ") + t;
        return wrong(place(name), "no such member; there are " + known);
      }
    }
    return Done{};
  }
  std::string place(const std::string& name) const {
    return place_.empty() ? name : place_ + "." + name;
  }

 private:
  Table(const Json::Object* members, std::string place)
      : members_(members), place_(std::move(place)) {}
  const Json::Object* members_;
  std::string place_;
  std::vector<std::string> taken_;
};

// --- datasets ----------------------------------------------------------------

struct Selection {
  std::vector<const CatalogEntry*> entries;
  uint64_t rows = 0;
};

Result<const CatalogEntry*> find_entry(const std::string& wanted,
                                       const std::vector<CatalogEntry>& catalog,
                                       const std::string& place) {
  std::vector<const CatalogEntry*> found;
  for (const auto& entry : catalog) {
    if (entry.name == wanted) found.push_back(&entry);
  }
  if (found.empty() && wanted.size() >= 6) {
    for (const auto& entry : catalog) {
      if (to_hex(entry.id).compare(0, wanted.size(), wanted) == 0) found.push_back(&entry);
    }
  }
  if (found.empty())
    return wrong(place, "the name of a dataset on offer, or at least 6 digits of its id");
  if (found.size() > 1)
    return wrong(place, "one dataset, this means " + std::to_string(found.size()) +
                            " of them; use more digits of the id");
  return found.front();
}

Result<Selection> select_datasets(const Json* names, const std::vector<CatalogEntry>& catalog) {
  if (!names || !names->array() || names->array()->empty() || names->array()->size() > 256) {
    return wrong("datasets", "a list of 1 to 256 names");
  }
  Selection selection;
  if (catalog.size() == 1 && catalog.front().any_name) {
    selection.entries.push_back(&catalog.front());
    selection.rows = catalog.front().rows;
    return selection;
  }
  for (size_t i = 0; i < names->array()->size(); ++i) {
    const std::string place = "datasets[" + std::to_string(i + 1) + "]";
    auto* name = (*names->array())[i].string();
    if (!name) return wrong(place, "a name");
    const CatalogEntry* entry = TRY(find_entry(*name, catalog, place));
    if (std::find(selection.entries.begin(), selection.entries.end(), entry) !=
        selection.entries.end()) {
      return wrong(place, "each dataset once");
    }
    const CatalogEntry& first = selection.entries.empty() ? *entry : *selection.entries.front();
    if (entry->feature_shape != first.feature_shape)
      return wrong(place, "the feature shape of datasets[1]");
    if (entry->classes != first.classes)
      return wrong(place, "the " + std::to_string(first.classes) + " classes of datasets[1]");
    selection.entries.push_back(entry);
    selection.rows += entry->rows;
  }
  if (selection.rows == 0) return wrong("datasets", "datasets with rows");
  return selection;
}

// --- model -------------------------------------------------------------------

Result<uint32_t> node_number(Table& table, const std::string& name, int64_t min,
                             std::optional<int64_t> otherwise) {
  int64_t value = TRY(table.whole(name, min, 65536, otherwise));
  return static_cast<uint32_t>(value);
}

// Earlier nodes by the names their authors gave them; "input" is the example.
struct Names {
  std::map<std::string, uint32_t> index{{"input", 0}};

  Result<uint32_t> find(const Json& name, const std::string& place) const {
    auto it = name.string() ? index.find(*name.string()) : index.end();
    if (it == index.end()) return wrong(place, "the name of an earlier node, or \"input\"");
    return it->second;
  }
};

Result<std::vector<uint32_t>> read_sources(Table& table, const Names& names, Node::Op op,
                                           uint32_t previous) {
  std::vector<uint32_t> sources;
  const Json* from = table.find("from");
  const Json* list = table.find("list");  // add{"a", "b"}
  if (from && list) return wrong(table.place("from"), "either from or a list of names");
  const Json* chosen = from ? from : list;
  if (chosen && chosen->string()) {
    uint32_t source = TRY(names.find(*chosen, table.place("from")));
    sources.push_back(source);
  } else if (chosen && chosen->array()) {
    for (const Json& name : *chosen->array()) {
      uint32_t source = TRY(names.find(name, table.place("from")));
      sources.push_back(source);
    }
  } else if (chosen) {
    return wrong(table.place("from"), "a name or a list of names");
  }
  bool joins = op == Node::Op::kAdd || op == Node::Op::kConcat;
  if (joins && sources.size() == 1) sources.insert(sources.begin(), previous);
  if (!joins && sources.size() == 1 && sources[0] == previous) sources.clear();
  return sources;
}

// Positions of columns in a flat example: numbers from 0, or feature names where the offer has
// them.
Result<std::vector<uint32_t>> read_columns(Table& table, const std::vector<std::string>& features) {
  const Json* value = TRY(table.need("columns", "a list of columns"));
  const std::string place = table.place("columns");
  if (!value->array() || value->array()->empty()) return wrong(place, "a list of columns");
  std::vector<uint32_t> columns;
  for (const Json& item : *value->array()) {
    if (auto* number = item.integer(); number && *number >= 0 && *number <= 65535) {
      columns.push_back(static_cast<uint32_t>(*number));
      continue;
    }
    auto at = item.string() ? std::find(features.begin(), features.end(), *item.string())
                            : features.end();
    if (at == features.end())
      return wrong(place, "the names of features on offer, or their numbers from 0");
    columns.push_back(static_cast<uint32_t>(at - features.begin()));
  }
  std::sort(columns.begin(), columns.end());
  return columns;
}

Result<Node> read_node(const Json& value, const std::string& place, Names& names, uint32_t previous,
                       const std::vector<std::string>& features) {
  auto table = TRY(Table::of(value, place));
  auto name = table.text("op");
  auto op = name ? contracts::op_from_name(*name) : std::nullopt;
  if (!op) return wrong(place, "a layer, such as linear{units = 16} or relu()");
  Node node;
  node.op = *op;
  node.inputs = TRY(read_sources(table, names, *op, previous));
  using Op = Node::Op;
  bool pool = *op == Op::kMaxPool || *op == Op::kAvgPool;
  if (*op == Op::kLinear || *op == Op::kConv2d) {
    node.units = TRY(node_number(table, "units", 1, std::nullopt));
    node.bias = TRY(table.boolean("bias", true));
  }
  if (*op == Op::kConv2d || pool) {
    node.kernel = TRY(node_number(table, "kernel", 1, std::nullopt));
    node.stride = TRY(node_number(table, "stride", 1, pool ? int64_t{node.kernel} : 1));
    node.padding = TRY(node_number(table, "padding", 0, 0));
  }
  if (*op == Op::kConv2d) node.groups = TRY(node_number(table, "groups", 1, 1));
  if (*op == Op::kGroupNorm) node.groups = TRY(node_number(table, "groups", 1, std::nullopt));
  if (*op == Op::kLeakyRelu) node.slope = TRY(table.real("slope", 0.01));
  if (*op == Op::kDropout) {
    const Json* rate = TRY(table.need("rate", "a number from 0 to 0.999"));
    node.rate = TRY(real_of(*rate, table.place("rate")));
  }
  if (*op == Op::kEmbedding) {
    node.units = TRY(node_number(table, "units", 1, std::nullopt));
    node.categories = static_cast<uint32_t>(TRY(table.whole("categories", 1, 1'000'000)));
  }
  if (*op == Op::kEmbedding || *op == Op::kColumns) {
    node.columns = TRY(read_columns(table, features));
    if (node.inputs.empty() && previous != 0) node.inputs = {0};
  }
  if (*op == Op::kLinear || *op == Op::kConv2d)
    node.standardize = TRY(table.boolean("standardize", false));
  bool has_weights = *op == Op::kLinear || *op == Op::kConv2d || *op == Op::kEmbedding ||
                     *op == Op::kGroupNorm || *op == Op::kBatchNorm || *op == Op::kLayerNorm;
  if (has_weights) node.frozen = TRY(table.boolean("frozen", false));
  auto own_name = TRY(table.text("name", ""));
  TRY(table.done());
  if (!own_name.empty() && !names.index.emplace(own_name, previous + 1).second) {
    return wrong(table.place("name"), "a name of its own");
  }
  return node;
}

Result<std::vector<Node>> read_model(const Json* model, const std::vector<std::string>& features) {
  if (!model || !model->array() || model->array()->empty() || model->array()->size() > 256) {
    return wrong("model", "a list of 1 to 256 layers");
  }
  std::vector<Node> nodes;
  Names names;
  for (size_t i = 0; i < model->array()->size(); ++i) {
    const std::string place = "model[" + std::to_string(i + 1) + "]";
    Node node =
        TRY(read_node((*model->array())[i], place, names, static_cast<uint32_t>(i), features));
    nodes.push_back(std::move(node));
  }
  return nodes;
}

// --- training ----------------------------------------------------------------

Result<uint32_t> read_steps(Table& train, uint64_t rows, int64_t batch) {
  const Json* steps = train.find("steps");
  const Json* epochs = train.find("epochs");
  if ((steps != nullptr) == (epochs != nullptr)) return wrong("train", "either steps or epochs");
  if (steps) {
    int64_t count = TRY(train.whole("steps", 1, 1'000'000));
    return static_cast<uint32_t>(count);
  }
  double passes = TRY(real_of(*epochs, "train.epochs"));
  if (!(passes > 0 && passes <= 1e6)) return wrong("train.epochs", "more than 0, at most 1000000");
  double count = std::ceil(passes * static_cast<double>(rows) / static_cast<double>(batch));
  if (count > 1e6) return wrong("train.epochs", "at most 1000000 steps in all");
  return static_cast<uint32_t>(std::max(count, 1.0));
}

Result<Optimizer> read_optimizer(const Json* value) {
  Optimizer optimizer;
  if (!value) return optimizer;
  auto table = TRY(Table::of(*value, "train.optimizer"));
  auto kind = table.text("kind");
  if (!kind || (*kind != "sgd" && *kind != "adam"))
    return wrong("train.optimizer", "sgd{...}, adam{...} or adamw{...}");
  optimizer.weight_decay = TRY(table.real("weight_decay", 0));
  auto decay = TRY(table.text("decay", "decoupled"));
  auto way = contracts::decay_from_name(decay);
  if (!way) return wrong("train.optimizer.decay", "\"decoupled\" or \"coupled\"");
  optimizer.decay = *way;
  if (*kind == "sgd") {
    optimizer.momentum = TRY(table.real("momentum", 0));
    optimizer.nesterov = TRY(table.boolean("nesterov", false));
  } else {
    optimizer.kind = Optimizer::Kind::kAdam;
    optimizer.beta1 = TRY(table.real("beta1", optimizer.beta1));
    optimizer.beta2 = TRY(table.real("beta2", optimizer.beta2));
    optimizer.epsilon = TRY(table.real("epsilon", optimizer.epsilon));
  }
  table.find("lr");
  TRY(table.done());
  return optimizer;
}

Result<std::vector<TrainingSpec::Rate>> read_rates(Table& train, const Json* optimizer,
                                                   uint32_t steps) {
  const Json* own = train.find("learning_rate");
  const Json* inside = optimizer ? optimizer->find("lr") : nullptr;
  if (own && inside)
    return wrong("train.learning_rate", "one learning rate, here or as the optimizer's lr");
  const Json* value = own ? own : inside;
  const std::string place = inside ? "train.optimizer.lr" : "train.learning_rate";
  if (!value) return wrong(place, "a number or a function of the step");
  std::vector<TrainingSpec::Rate> rates;
  if (!value->array()) {
    double rate = TRY(real_of(*value, place));
    rates.push_back({steps, rate});
    return rates;
  }
  for (const Json& item : *value->array()) {
    auto run = TRY(Table::of(item, place));
    int64_t length = TRY(run.whole("steps", 1, 1'000'000));
    const Json* number = TRY(run.need("value", "a number"));
    double rate = TRY(real_of(*number, run.place("value")));
    TRY(run.done());
    rates.push_back({static_cast<uint32_t>(length), rate});
  }
  return rates;
}

Result<std::vector<double>> read_constants(const Json* value, const std::string& place) {
  std::vector<double> out;
  if (!value) return out;
  if (!value->array()) {
    double number = TRY(real_of(*value, place));
    out.push_back(number);
    return out;
  }
  for (size_t i = 0; i < value->array()->size(); ++i) {
    double number = TRY(real_of((*value->array())[i], place + "[" + std::to_string(i + 1) + "]"));
    out.push_back(number);
  }
  return out;
}

struct Privacy {
  PrivacySpec spec;
  bool calibrated = false;
};

Result<Privacy> read_privacy(const Json& value, uint64_t threshold, uint32_t steps,
                             const Calibrate& calibrate) {
  auto table = TRY(Table::of(value, "privacy"));
  Privacy privacy;
  const Json* epsilon = table.find("epsilon");
  const Json* micro = table.find("epsilon_micro");
  if ((epsilon != nullptr) == (micro != nullptr))
    return wrong("privacy", "either epsilon or epsilon_micro");
  privacy.spec.epsilon_micro = epsilon ? TRY(scaled(*epsilon, 1e6, "millionth", "privacy.epsilon"))
                                       : TRY(table.whole("epsilon_micro", 1, 1'000'000'000'000));
  const Json* delta = TRY(table.need("delta", "a number such as \"1e-5\""));
  privacy.spec.delta_pico = TRY(scaled(*delta, 1e12, "1e-12", "privacy.delta"));
  privacy.spec.clip = TRY(table.real("clip", 1.0));
  auto clipping = TRY(table.text("clipping", "flat"));
  auto way = contracts::clipping_from_name(clipping);
  if (!way) return wrong("privacy.clipping", "\"flat\", \"per_layer\" or \"automatic\"");
  privacy.spec.clipping = *way;
  const Json* noise = table.find("noise_multiplier");
  TRY(table.done());
  if (noise) {
    privacy.spec.noise_multiplier = TRY(real_of(*noise, "privacy.noise_multiplier"));
    return privacy;
  }
  if (!calibrate) return wrong("privacy.noise_multiplier", "a number");
  double q = std::ldexp(static_cast<double>(threshold), -64);
  double least = TRY(calibrate(static_cast<double>(privacy.spec.epsilon_micro) / 1e6,
                               static_cast<double>(privacy.spec.delta_pico) / 1e12, q, steps));
  // Up to whole millionths, the unit policies are asked in.
  privacy.spec.noise_multiplier = std::ceil(least * 1e6) / 1e6;
  privacy.calibrated = true;
  return privacy;
}

Result<contracts::Augmentation> read_augmentation(Table& train) {
  contracts::Augmentation augmentation;
  const Json* value = train.find("augment");
  if (!value) return augmentation;
  auto table = TRY(Table::of(*value, "train.augment"));
  augmentation.flip = TRY(table.boolean("flip", false));
  augmentation.crop = static_cast<uint32_t>(TRY(table.whole("crop", 0, 64, 0)));
  augmentation.multiplicity = static_cast<uint32_t>(TRY(table.whole("multiplicity", 1, 64, 1)));
  TRY(table.done());
  return augmentation;
}

// Loss, precision, and how gradients become updates.
Status read_arithmetic(Table& train, TrainingSpec& spec) {
  auto loss = TRY(train.text("loss", "softmax_cross_entropy"));
  auto known_loss = contracts::loss_from_name(loss);
  if (!known_loss) return wrong("train.loss", "\"softmax_cross_entropy\", \"bce\" or \"mse\"");
  spec.loss = *known_loss;
  auto dtype = TRY(train.text("dtype", "f32"));
  auto known_dtype = contracts::dtype_from_name(dtype);
  if (!known_dtype) return wrong("train.dtype", "\"f32\" or \"bf16\"");
  spec.dtype = *known_dtype;
  spec.accumulate = static_cast<uint32_t>(TRY(train.whole("accumulate", 1, 1'000'000, 1)));
  spec.ema = TRY(train.real("ema", 0));
  if (train.find("micro_batch") && train.find("shard"))
    return wrong("train.micro_batch", "micro_batch or shard, which is the same");
  const char* shard = train.find("micro_batch") ? "micro_batch" : "shard";
  spec.shard = static_cast<uint32_t>(TRY(train.whole(shard, 1, 4096, 32)));
  spec.augmentation = TRY(read_augmentation(train));
  return Done{};
}

uint64_t poisson_threshold(int64_t batch, uint64_t rows) {
  if (static_cast<uint64_t>(batch) >= rows) return UINT64_MAX;
  return static_cast<uint64_t>((static_cast<Wide>(static_cast<uint64_t>(batch)) << 64) / rows);
}

Result<int64_t> read_batch(Table& train, uint64_t rows) {
  int64_t batch = TRY(train.whole("batch", 1, 65536));
  if (static_cast<uint64_t>(batch) > rows)
    return wrong("train.batch", "at most the " + std::to_string(rows) + " rows of the datasets");
  return batch;
}

// The model that the contract names, if it names one.
Result<std::optional<NamedModel>> find_named_model(const Json* model, const ModelSource& models) {
  std::string file, norm;
  if (model && model->string()) {
    file = *model->string();
  } else if (model && model->object() && model->find("file")) {
    auto table = TRY(Table::of(*model, "model"));
    file = TRY(table.text("file"));
    norm = TRY(table.text("norm", ""));
    TRY(table.done());
    if (!norm.empty() && norm != "batch" && norm != "group")
      return wrong("model.norm", "\"batch\" or \"group\"");
  } else {
    return std::optional<NamedModel>();
  }
  if (!models) return wrong("model", "a list of layers; nobody looks for files here");
  auto found = models(file, norm);
  if (!found) return Error(found.error().code(), "model: " + found.error().expected());
  return std::optional(std::move(*found));
}

Result<uint32_t> steps_of_table(const Json& result, const std::vector<CatalogEntry>& catalog) {
  auto selection = TRY(select_datasets(result.find("datasets"), catalog));
  const Json* value = result.find("train");
  if (!value) return wrong("train", "a table");
  auto train = TRY(Table::of(*value, "train"));
  int64_t batch = TRY(read_batch(train, selection.rows));
  return read_steps(train, selection.rows, batch);
}

}  // namespace

Json to_json(const std::vector<CatalogEntry>& catalog) {
  Json::Array out;
  for (const auto& entry : catalog) {
    Json::Array shape, names;
    for (uint32_t size : entry.feature_shape) shape.push_back(size);
    for (const auto& name : entry.feature_names) names.push_back(name);
    out.push_back(Json::Object{{"id", entry.id},
                               {"name", entry.name},
                               {"rows", entry.rows},
                               {"feature_shape", std::move(shape)},
                               {"classes", entry.classes},
                               {"label", entry.label},
                               {"feature_names", std::move(names)}});
    if (entry.any_name) (*out.back().object())["any_name"] = true;
  }
  return out;
}

Result<std::vector<CatalogEntry>> catalog_from_json(const Json& json) {
  if (!json.array()) return wrong("catalog", "a list");
  std::vector<CatalogEntry> out;
  for (const Json& item : *json.array()) {
    auto fields = TRY(Fields::of(item, "catalog"));
    CatalogEntry entry;
    entry.id = TRY(fields.named<DatasetId>("id"));
    entry.name = TRY(fields.text("name", 256));
    entry.rows = static_cast<uint64_t>(TRY(fields.integer("rows", 0, int64_t{1} << 40)));
    const Json::Array* shape = TRY(fields.array("feature_shape", 3));
    for (const Json& size : *shape) {
      if (!size.integer() || *size.integer() < 1 || *size.integer() > 65536)
        return wrong("catalog.feature_shape", "1 to 65536");
      entry.feature_shape.push_back(static_cast<uint32_t>(*size.integer()));
    }
    entry.classes = static_cast<uint32_t>(TRY(fields.integer("classes", 1, 65536)));
    entry.label = TRY(fields.text("label", 256));
    const Json::Array* names = TRY(fields.array("feature_names", 1 << 18));
    for (const Json& name : *names) {
      if (!name.string()) return wrong("catalog.feature_names", "texts");
      entry.feature_names.push_back(*name.string());
    }
    if (fields.has("any_name")) entry.any_name = TRY(fields.boolean("any_name"));
    TRY(fields.done());
    out.push_back(std::move(entry));
  }
  return out;
}

Result<Json> run_contract(std::string_view source, const std::vector<CatalogEntry>& catalog,
                          const Limits& limits) {
  Json seen = to_json(catalog);
  Program program;
  program.source = source;
  program.vocabulary = Vocabulary::kContract;
  program.inputs = {{"catalog", &seen}};
  program.steps_of = [&catalog](const Json& result) { return steps_of_table(result, catalog); };
  Evaluation evaluation = run_confined(program, limits);
  switch (evaluation.outcome) {
    case Evaluation::Outcome::kValue:
      return std::move(evaluation.value);
    case Evaluation::Outcome::kLimit:
      return Error(Code::kExhausted, "contract: " + evaluation.error);
    case Evaluation::Outcome::kError:
    case Evaluation::Outcome::kSyntax:
      break;
  }
  return Error(Code::kMalformed, "contract: " + evaluation.error);
}

Result<Elaborated> assemble(const Json& table, const std::vector<CatalogEntry>& catalog,
                            const Calibrate& calibrate, const ModelSource& models) {
  auto contract = TRY(Table::of(table, ""));
  Elaborated out;
  out.purpose = TRY(contract.text("purpose"));
  out.region = TRY(contract.text("region", ""));
  out.offered_minor = TRY(contract.whole("payment", 0, kMaxJsonInteger));
  out.deadline_minutes = TRY(contract.whole("deadline_minutes", 1, 60 * 24 * 7, 60));
  auto selection = TRY(select_datasets(contract.find("datasets"), catalog));
  for (const CatalogEntry* entry : selection.entries) out.datasets.push_back(entry->id);
  out.rows_total = selection.rows;

  TrainingSpec& spec = out.spec;
  spec.input_shape = selection.entries.front()->feature_shape;
  spec.classes = selection.entries.front()->classes;
  const Json* model = contract.find("model");
  auto named = TRY(find_named_model(model, models));
  if (named) {
    spec.model = std::move(named->model);
    spec.input_mean = std::move(named->input_mean);
    spec.input_scale = std::move(named->input_scale);
  } else {
    spec.model = TRY(read_model(model, selection.entries.front()->feature_names));
  }
  if (const Json* csv = contract.find("csv")) out.csv = *csv;
  out.initial_file = TRY(contract.text("initial", ""));
  if (const Json* input = contract.find("input")) {
    auto constants = TRY(Table::of(*input, "input"));
    spec.input_mean = TRY(read_constants(constants.find("mean"), "input.mean"));
    spec.input_scale = TRY(read_constants(constants.find("scale"), "input.scale"));
    TRY(constants.done());
  }

  const Json* train_value =
      TRY(contract.need("train", "a table such as {epochs = 10, batch = 64, learning_rate = 0.1}"));
  auto train = TRY(Table::of(*train_value, "train"));
  int64_t batch = TRY(read_batch(train, selection.rows));
  spec.batch = static_cast<uint32_t>(batch);
  spec.steps = TRY(read_steps(train, selection.rows, batch));
  const Json* optimizer = train.find("optimizer");
  spec.optimizer = TRY(read_optimizer(optimizer));
  spec.learning_rate = TRY(read_rates(train, optimizer, spec.steps));
  spec.seed = static_cast<uint64_t>(TRY(train.whole("seed", 0, kMaxJsonInteger, 1)));
  spec.shuffle = TRY(train.boolean("shuffle", false));
  TRY(read_arithmetic(train, spec));
  TRY(train.done());
  if (!spec.shuffle) spec.sampling_threshold = poisson_threshold(batch, selection.rows);

  if (const Json* privacy = contract.find("privacy")) {
    if (spec.shuffle)
      return wrong("train.shuffle",
                   "false with privacy: the accountant covers Poisson sampling only");
    auto read = TRY(read_privacy(*privacy, spec.sampling_threshold, spec.steps, calibrate));
    spec.privacy = read.spec;
    out.noise_calibrated = read.calibrated;
  }
  TRY(contract.done());
  TRY(contracts::check_spec(spec));
  return out;
}

Result<Elaborated> elaborate(std::string_view source, const std::vector<CatalogEntry>& catalog,
                             const Calibrate& calibrate, const Limits& limits) {
  auto table = TRY(run_contract(source, catalog, limits));
  return assemble(table, catalog, calibrate);
}

}  // namespace souk::policy
