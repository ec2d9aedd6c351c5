// A model as it lies on disk, with what is needed to use it. market_api/SPEC.md, Models.
//
//   DIR/model.safetensors  the parameters; metadata: spec, and names where they are known
//   DIR/model.onnx         the same model for other programs (onnx_model.h)
//   DIR/spec.json          specification, names, and how a CSV becomes rows
//   DIR/MODEL_CARD.md      for people
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "contracts/training/spec.h"
#include "ledger/base/bytes.h"
#include "policy/decide/lineage.h"
#include "trainer/data/csv_layout.h"
#include "trainer/data/safetensors.h"
#include "trainer/engine/model.h"

namespace souk::market {

// What stands beside the parameters. Names may be unknown, and are empty then.
struct ModelNotes {
  contracts::TrainingSpec spec;
  std::vector<std::string> classes;
  std::vector<std::string> feature_names;
  std::string label;
  std::optional<trainer::CsvLayout> csv;
  // Of a model from a market, and of every model that starts from one.
  std::optional<policy::Lineage> lineage;
};
Json to_json(const ModelNotes& notes);
Result<ModelNotes> model_notes_from_json(const Json& json);

struct StoredModel {
  ModelNotes notes;
  trainer::Model model;
};

// The tensors of `file`, in the order, names and shapes that `spec` describes; no others.
Result<trainer::Model> model_from_safetensors(const contracts::TrainingSpec& spec,
                                              const trainer::SafeTensors& file);
// What is known of the safetensors file at `path`: its notes, in spec.json beside it or inside.
Result<std::optional<ModelNotes>> notes_of(const std::string& path,
                                           const trainer::SafeTensors& file);
// What a model that starts from the safetensors file at `path` inherits: of its notes, inside or
// in spec.json beside it. kMalformed where an enclave trained it and nothing says for whom.
Result<std::optional<policy::Lineage>> lineage_of(const std::string& path,
                                                  const trainer::SafeTensors& file);
// Canonical: parameters and, up to 512 KiB, notes in one file.
Result<Bytes> model_to_safetensors(const StoredModel& stored);

// A directory that save_model or receive_model wrote, a safetensors file with its specification
// inside or with spec.json beside it, or an ONNX file. kMalformed says what was expected.
Result<StoredModel> load_model(const std::string& path);
// The last line of a card: whether there is a model.onnx beside it.
std::string about_onnx(const Result<Bytes>& onnx);
// Writes all four files, or none; the model last. Three, where ONNX cannot say the model: the
// folder has no model.onnx then, and `without_onnx` says why. MODEL_CARD.md is `card`
// and about_onnx.
struct Saved {
  std::string without_onnx;
};
Result<Saved> save_model(const std::string& directory, const StoredModel& stored,
                         const std::string& card);

}  // namespace souk::market
