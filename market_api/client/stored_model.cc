#include "market_api/client/stored_model.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "market_api/client/local_files.h"
#include "market_api/client/onnx_model.h"
#include "market_api/outcome/outcome.h"

namespace souk::market {
namespace {

constexpr size_t kMaxNotes = size_t{16} << 20;
constexpr size_t kMaxModelFile = size_t{2} << 30;  // also the limit of protobuf
constexpr size_t kMaxEmbeddedNotes = 512 << 10;    // of the header's 1 MiB; spec.json has it all
constexpr char kNotesName[] = "souk";              // metadata of our files: the text of spec.json
constexpr char kContractName[] = "contract";       // likewise: who it was trained for
constexpr char kSpecName[] = "spec";  // metadata of an enclave's files: the specification alone

Json texts(const std::vector<std::string>& values) {
  return Json::Array(values.begin(), values.end());
}

Result<std::vector<std::string>> texts_from(Fields& fields, const std::string& name) {
  const Json::Array* array = TRY(fields.array(name, size_t{1} << 24));
  std::vector<std::string> values;
  for (const Json& item : *array) {
    if (!item.string()) return Error(Code::kMalformed, "model notes." + name + ": expected texts");
    values.push_back(*item.string());
  }
  return values;
}

Result<Bytes> load(const std::string& path, size_t max_bytes) {
  auto bytes = load_file(path, max_bytes);
  if (!bytes && bytes.error().code() == Code::kNotFound)
    return Error(Code::kMalformed, "no file " + path);
  return bytes;
}

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

Result<ModelNotes> notes_at(const std::string& path) {
  auto bytes = TRY(load(path, kMaxNotes));
  auto json = TRY(about_file(parse_json(as_text(bytes), kMaxNotes), path));
  return about_file(model_notes_from_json(json), path);
}

Result<StoredModel> from_safetensors(const std::string& path, const std::string& notes_path) {
  auto bytes = TRY(load(path, kMaxModelFile));
  auto file = TRY(trainer::SafeTensors::read(bytes));
  StoredModel stored;
  auto notes = file.metadata().find(kNotesName);
  auto spec = file.metadata().find(kSpecName);
  // The names beside a fetched model say more than the specification inside it.
  if (path_exists(notes_path)) {
    stored.notes = TRY(notes_at(notes_path));
  } else if (notes != file.metadata().end()) {
    auto json = TRY(parse_json(notes->second, kMaxNotes));
    stored.notes = TRY(model_notes_from_json(json));
  } else if (spec != file.metadata().end()) {
    auto json = TRY(parse_json(spec->second, kMaxNotes));
    stored.notes.spec = TRY(contracts::training_spec_from_json(json));
  } else {
    return Error(Code::kMalformed,
                 "expected a specification in its metadata, or spec.json beside it");
  }
  stored.model = TRY(model_from_safetensors(stored.notes.spec, file));
  return stored;
}

// Sizes of the same shape are the same: the reader has checked that bytes fit shapes.
bool has_shape(const trainer::Tensor& tensor, const std::vector<int64_t>& shape) {
  return std::equal(tensor.shape.begin(), tensor.shape.end(), shape.begin(), shape.end(),
                    [](uint64_t a, int64_t b) { return static_cast<int64_t>(a) == b; });
}

Result<StoredModel> from_onnx(const std::string& path) {
  auto bytes = TRY(load(path, kMaxModelFile));
  auto imported = TRY(import_onnx(bytes));
  StoredModel stored;
  stored.notes.spec = trainable_spec(imported.part);
  stored.notes.classes = imported.classes;
  stored.notes.csv = imported.csv;
  if (stored.notes.csv) stored.notes.feature_names = stored.notes.csv->feature_names();
  stored.model = std::move(imported.weights);
  TRY(trainer::check_model(stored.notes.spec, stored.model));
  return stored;
}

// spec.json is about the model of its folder, not about any other file there: "" for those.
std::string notes_beside(const std::string& path) {
  size_t slash = path.rfind('/');
  std::string folder = slash == std::string::npos ? "." : path.substr(0, slash);
  bool own = path.substr(slash == std::string::npos ? 0 : slash + 1) == "model.safetensors";
  return own ? folder + "/spec.json" : "";
}

Result<StoredModel> load_any(const std::string& path) {
  if (is_directory(path)) return from_safetensors(path + "/model.safetensors", path + "/spec.json");
  if (ends_with(path, ".onnx")) return from_onnx(path);
  return from_safetensors(path, notes_beside(path));
}

}  // namespace

Json to_json(const ModelNotes& notes) {
  Json::Object out{{"classes", texts(notes.classes)},
                   {"feature_names", texts(notes.feature_names)},
                   {"label", notes.label},
                   {"spec", contracts::to_json(notes.spec)}};
  if (notes.csv) out["csv"] = trainer::to_json(*notes.csv);
  if (notes.lineage) out["lineage"] = policy::to_json(*notes.lineage);
  return out;
}

Result<ModelNotes> model_notes_from_json(const Json& json) {
  auto fields = TRY(Fields::of(json, "model notes"));
  ModelNotes notes;
  notes.classes = TRY(texts_from(fields, "classes"));
  notes.feature_names = TRY(texts_from(fields, "feature_names"));
  notes.label = TRY(fields.text("label"));
  const Json* spec = TRY(fields.any("spec"));
  notes.spec = TRY(contracts::training_spec_from_json(*spec));
  if (fields.has("csv")) {
    const Json* csv = TRY(fields.any("csv"));
    notes.csv = TRY(trainer::csv_layout_from_json(*csv, "model notes.csv"));
  }
  if (fields.has("lineage")) {
    const Json* lineage = TRY(fields.any("lineage"));
    notes.lineage = TRY(policy::lineage_from_json(*lineage));
  }
  TRY(fields.done());
  return notes;
}

Result<std::optional<ModelNotes>> notes_of(const std::string& path,
                                           const trainer::SafeTensors& file) {
  auto inside = file.metadata().find(kNotesName);
  const std::string beside = notes_beside(path);
  std::optional<ModelNotes> notes;
  if (path_exists(beside)) {
    notes = TRY(notes_at(beside));
  } else if (inside != file.metadata().end()) {
    auto json = TRY(parse_json(inside->second, kMaxNotes));
    notes = TRY(model_notes_from_json(json));
  }
  return notes;
}

Result<std::optional<policy::Lineage>> lineage_of(const std::string& path,
                                                  const trainer::SafeTensors& file) {
  auto notes = TRY(notes_of(path, file));
  if (notes && notes->lineage) return notes->lineage;
  if (file.metadata().count(kContractName) != 0) {
    return Error(Code::kMalformed,
                 "expected the lineage of a market's model in spec.json beside it, as souk model "
                 "fetch writes it");
  }
  return std::optional<policy::Lineage>();
}

Result<trainer::Model> model_from_safetensors(const contracts::TrainingSpec& spec,
                                              const trainer::SafeTensors& file) {
  auto model = TRY(trainer::initial_model(spec));
  if (file.tensors().size() != model.tensors.size()) {
    return Error(Code::kMalformed, "model: expected the " + std::to_string(model.tensors.size()) +
                                       " tensors of its specification, found " +
                                       std::to_string(file.tensors().size()));
  }
  for (auto& tensor : model.tensors) {
    const trainer::Tensor* found = file.find(tensor.name);
    bool fits = found && found->dtype == trainer::Dtype::kF32 && has_shape(*found, tensor.shape);
    if (!fits) {
      return Error(Code::kMalformed,
                   "model: expected the tensor " + tensor.name + " of its specification");
    }
    std::memcpy(tensor.values.data(), found->bytes.data(), found->bytes.size());
  }
  return model;
}

Result<Bytes> model_to_safetensors(const StoredModel& stored) {
  std::vector<trainer::Tensor> tensors;
  for (const auto& tensor : stored.model.tensors) {
    trainer::TensorShape shape(tensor.shape.begin(), tensor.shape.end());
    tensors.push_back({tensor.name, trainer::Dtype::kF32, shape,
                       ByteView(reinterpret_cast<const uint8_t*>(tensor.values.data()),
                                tensor.values.size() * sizeof(float))});
  }
  trainer::TensorMetadata metadata;
  std::string notes = canonical(to_json(stored.notes));
  if (notes.size() <= kMaxEmbeddedNotes) metadata.emplace(kNotesName, std::move(notes));
  return trainer::write_safetensors(tensors, metadata);
}

Result<StoredModel> load_model(const std::string& path) {
  auto stored = load_any(path);
  if (!stored) return about_file(std::move(stored).take_error(), path);
  return stored;
}

std::string about_onnx(const Result<Bytes>& onnx) {
  return onnx ? "`model.onnx` is the model for other programs: input as in the data, the public "
                "constants are inside.\n"
              : "There is no `model.onnx`: this model could not be written as one.\n";
}

Result<Saved> save_model(const std::string& directory, const StoredModel& stored,
                         const std::string& card) {
  auto model = TRY(model_to_safetensors(stored));
  auto onnx = export_onnx(stored);
  if (!onnx && onnx.error().code() != Code::kRefused) return std::move(onnx).take_error();
  std::string notes = canonical(to_json(stored.notes)) + "\n";
  const std::string whole_card = card + about_onnx(onnx);
  std::vector<NewFile> files{{"spec.json", as_bytes(notes)},
                             {"MODEL_CARD.md", as_bytes(whole_card)}};
  if (onnx) files.push_back({"model.onnx", *onnx, FileMode::kPrivate});
  files.push_back({"model.safetensors", model, FileMode::kPrivate});
  TRY(save_files(directory, files));
  if (!onnx) ::unlink((directory + "/model.onnx").c_str());  // of another model
  return Saved{onnx ? "" : onnx.error().expected()};
}

}  // namespace souk::market
