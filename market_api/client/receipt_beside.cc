#include "market_api/client/receipt_beside.h"

#include <algorithm>

#include "ledger/crypto/hash.h"
#include "market_api/client/local_files.h"
#include "market_api/client/receipt.h"
#include "market_api/outcome/outcome.h"

namespace souk::market {
namespace {

constexpr size_t kMaxModelFile = size_t{2} << 30;
constexpr size_t kMaxNotesFile = size_t{64} << 20;
constexpr std::string_view kModelName = "model.safetensors";

// "" for a file that is not the one fetched beside its receipt.
std::string folder_of_model(const std::string& path) {
  if (is_directory(path)) return path;
  size_t slash = path.rfind('/');
  size_t name = slash == std::string::npos ? 0 : slash + 1;
  if (std::string_view(path).substr(name) != kModelName) return "";
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

// How a CSV of such rows is read: what the offer said about its columns.
trainer::CsvLayout layout_of(const contracts::Manifest& manifest) {
  using Column = trainer::CsvColumn;
  trainer::CsvLayout layout;
  for (const auto& name : manifest.feature_names) {
    Column column;
    column.name = name;
    if (auto listed = manifest.categories.find(name); listed != manifest.categories.end()) {
      column.role = Column::Role::kCategory;
      column.values = listed->second;
    }
    layout.columns.push_back(std::move(column));
  }
  Column label;
  label.name = manifest.label;
  label.role = Column::Role::kLabel;
  label.values = manifest.class_names;
  layout.columns.push_back(std::move(label));
  return layout;
}

bool same(const Json* a, const Json* b) {
  return a && b ? canonical(*a) == canonical(*b) : a == b;
}

// The first member of `said` that is not as `proven`, or "" where all are.
std::string first_difference(const Json& said, const Json& proven) {
  for (const char* name : {"classes", "csv", "feature_names", "label"}) {
    if (!same(said.find(name), proven.find(name))) return name;
  }
  const Json *spec = said.find("spec"), *own = proven.find("spec");
  if (same(spec, own)) return "";
  if (spec && own && spec->object() && own->object()) {
    for (const auto& [name, value] : *own->object()) {
      if (!same(spec->find(name), &value)) return "spec." + name;
    }
  }
  return "spec";
}

// Of the lineage a receipt knows what the model learned from itself, not from its ancestors.
bool has_its_own(const policy::Lineage& lineage, const ReceiptReport& report) {
  return lineage.jobs.count(report.contract) != 0 &&
         std::all_of(report.datasets.begin(), report.datasets.end(),
                     [&](const DatasetId& id) { return lineage.datasets.count(id) != 0; });
}

Result<ReceiptReport> report_on(const std::string& folder, const std::string& receipt_path) {
  auto text = TRY(load_file(receipt_path, kMaxReceiptBytes));
  auto receipt = TRY(about_file(parse_receipt(as_text(text)), receipt_path));
  auto report = verify_receipt(receipt, std::nullopt);
  if (!report.ok) {
    return Error(Code::kUnauthentic, receipt_path + ": expected a receipt that holds: " +
                                         report.section + ": " + report.reason);
  }
  const std::string model_path = folder + "/" + std::string(kModelName);
  auto model = TRY(load_file(model_path, kMaxModelFile));
  if (ledger::sha256(model) == report.result.model) return report;
  return Error(Code::kUnauthentic, model_path + ": expected the model that " + receipt_path +
                                       " is about; one of the two is another's, or was changed");
}

Status check_notes(const std::string& path, const std::string& receipt_path,
                   const ModelNotes& proven, const ReceiptReport& report) {
  auto bytes = TRY(load_file(path, kMaxNotesFile));
  auto json = TRY(about_file(parse_json(as_text(bytes), kMaxNotesFile), path));
  auto said = TRY(about_file(model_notes_from_json(json), path));
  std::string other = first_difference(to_json(said), to_json(proven));
  if (other.empty() && said.lineage && !has_its_own(*said.lineage, report)) other = "lineage";
  if (other.empty()) return Done{};
  return Error(Code::kUnauthentic, path + ": expected " + other + " as " + receipt_path +
                                       " proves it; one of the two is another's, or was changed");
}

}  // namespace

ModelNotes offered_notes(const contracts::TrainingSpec& spec, const contracts::Manifest& first) {
  ModelNotes notes;
  notes.spec = spec;
  notes.classes = first.class_names;
  notes.feature_names = first.feature_names;
  notes.label = first.label;
  if (!first.categories.empty()) notes.csv = layout_of(first);
  return notes;
}

Result<ProvenModel> load_proven_model(const std::string& path) {
  const std::string folder = folder_of_model(path), receipt_path = folder + "/receipt.json";
  ProvenModel model;
  if (folder.empty() || !path_exists(receipt_path)) {
    model.stored = TRY(load_model(path));
    return model;
  }
  auto report = TRY(report_on(folder, receipt_path));
  auto proven = offered_notes(*report.spec, *report.first_manifest);
  const std::string notes_path = folder + "/spec.json";
  const bool has_notes = path_exists(notes_path);
  // Before the parameters are read by it: a specification that was changed may not fit them.
  if (has_notes) TRY(check_notes(notes_path, receipt_path, proven, report));
  model.stored = TRY(load_model(path));
  if (!has_notes) model.stored.notes = std::move(proven);
  model.receipt = true;
  model.covered = {"classes", "csv", "feature_names", "label", "model", "spec"};
  model.not_covered = {"lineage"};
  return model;
}

}  // namespace souk::market
