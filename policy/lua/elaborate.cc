#include "policy/lua/elaborate.h"

#include <algorithm>

#include "contracts/training/columns.h"
#include "contracts/training/shard.h"
#include "policy/lua/contract_parts.h"

namespace souk::policy {
namespace {

using contracts::TrainingSpec;

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
    // Otherwise the model would learn from one table's weight as if it were another's age.
    if (auto other = contracts::different_column(first.feature_names, entry->feature_names)) {
      return wrong(place, "the columns of datasets[1] in their order; " +
                              other->words(first.name, entry->name));
    }
    if (entry->classes != first.classes)
      return wrong(place, "the " + std::to_string(first.classes) + " classes of datasets[1]");
    if (entry->categories != first.categories)
      return wrong(place, "the categories of datasets[1], numbered alike");
    selection.entries.push_back(entry);
    selection.rows += entry->rows;
  }
  if (selection.rows == 0) return wrong("datasets", "datasets with rows");
  return selection;
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

std::string sides(const std::vector<uint32_t>& shape) {
  std::string out;
  for (uint32_t side : shape) out += (out.empty() ? "" : " x ") + std::to_string(side);
  return out;
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
    if (!entry.categories.empty()) {
      Json::Object categories;
      for (const auto& [column, values] : entry.categories) {
        Json::Array texts;
        for (const auto& value : values) texts.push_back(value);
        categories[column] = std::move(texts);
      }
      (*out.back().object())["categories"] = std::move(categories);
    }
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
    if (fields.has("categories")) {
      const Json* categories = TRY(fields.any("categories"));
      if (!categories->object()) return wrong("catalog.categories", "an object");
      for (const auto& [column, values] : *categories->object()) {
        if (!values.array()) return wrong("catalog.categories", "lists of texts");
        for (const Json& value : *values.array()) {
          if (!value.string()) return wrong("catalog.categories", "lists of texts");
          entry.categories[column].push_back(*value.string());
        }
      }
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
  std::string_view said = evaluation.error;
  bool silent = said.empty() || said.ends_with(": ");  // error("")
  return Error(Code::kMalformed,
               "contract: " + evaluation.error + (silent ? "it ended in an error" : ""));
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
    if (named->input_shape != spec.input_shape) {
      return wrong("model", "a file for examples of " + sides(spec.input_shape) +
                                " numbers, as the datasets have; this one is for " +
                                sides(named->input_shape));
    }
    spec.model = std::move(named->model);
    spec.input_mean = std::move(named->input_mean);
    spec.input_scale = std::move(named->input_scale);
  } else {
    spec.model = TRY(read_model(model, *selection.entries.front()));
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
  const bool shard_is_named = train.find("shard") || train.find("micro_batch");
  TRY(read_arithmetic(train, spec));
  TRY(train.done());
  if (!spec.shuffle) spec.sampling_threshold = poisson_threshold(batch, selection.rows);

  if (const Json* privacy = contract.find("privacy")) {
    if (spec.shuffle)
      return wrong("train.shuffle",
                   "false with privacy: the accountant covers Poisson sampling only");
    std::vector<uint64_t> rows;
    for (const CatalogEntry* entry : selection.entries) {
      if (!entry->any_name) rows.push_back(entry->rows);
    }
    auto read = TRY(read_privacy(*privacy, spec, rows, calibrate));
    spec.privacy = read.spec;
    out.noise_calibrated = read.calibrated;
  }
  TRY(contract.done());
  const auto shape = TRY(contracts::check_spec(spec));
  if (!shard_is_named) spec.shard = contracts::usual_shard(spec, shape);
  return out;
}

Result<Elaborated> elaborate(std::string_view source, const std::vector<CatalogEntry>& catalog,
                             const Calibrate& calibrate, const Limits& limits) {
  auto table = TRY(run_contract(source, catalog, limits));
  return assemble(table, catalog, calibrate);
}

}  // namespace souk::policy
