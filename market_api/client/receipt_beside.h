// The receipt that lies beside a model: whether it is about this model at all, and what it says of
// the notes in spec.json.
#pragma once

#include <string>
#include <vector>

#include "contracts/records/records.h"
#include "ledger/base/result.h"
#include "market_api/client/stored_model.h"

namespace souk::market {

// What stands in spec.json of a market's model, as its contract and the offer of its first dataset
// say it; without the lineage, which the whole ledger tells.
ModelNotes offered_notes(const contracts::TrainingSpec& spec, const contracts::Manifest& first);

struct ProvenModel {
  StoredModel stored;
  bool receipt = false;  // receipt.json stands beside model.safetensors, and holds for it
  // With a receipt: what of spec.json it says, and what it does not.
  std::vector<std::string> covered, not_covered;
};

// `path` as load_model takes it. A receipt beside model.safetensors must hold (whichever market it
// is of), name the SHA-256 of that file, and agree with what spec.json says; without spec.json,
// names and categories are taken from it. There is none beside a model that was trained locally or
// an ONNX file. kUnauthentic where it does not hold, is of another model, or spec.json says
// something else: one of them was changed. kMalformed where a file is not of its kind.
Result<ProvenModel> load_proven_model(const std::string& path);

}  // namespace souk::market
