// Receiving the model: what the recorded result promises, or nothing.
#pragma once

#include <string>

#include "market_api/client/identity.h"
#include "market_api/client/market_line.h"
#include "market_api/client/market_view.h"

namespace souk::market {

struct Received {
  std::string directory;
  Digest model{};  // SHA-256 of model.safetensors, as recorded
};

// Writes model.safetensors, spec.json, MODEL_CARD.md and receipt.json into
// `directory`, the model last. kConflict: not settled yet; kUnauthentic: header,
// payload or plaintext are not those of the recorded job.result; nothing is
// written then.
Result<Received> receive_model(const ContractId& contract, const std::string& directory,
                               const Identity& identity, MarketLine& line, MarketView& view,
                               const Progress& progress);

// What stands beside a model so that it can be used later: spec.json.
struct ModelNotes {
  contracts::TrainingSpec spec;
  std::vector<std::string> classes;
  std::vector<std::string> feature_names;
  std::string label;
};
Result<ModelNotes> load_model_notes(const std::string& directory);

}  // namespace souk::market
