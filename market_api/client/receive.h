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
  // Why there is no model.onnx; empty where there is one. What was paid for is
  // delivered also when this program cannot say it in ONNX.
  std::string without_onnx;
};

// Writes model.safetensors, model.onnx (if it can be said in ONNX), spec.json, MODEL_CARD.md
// and receipt.json into `directory`, the model last. kConflict: not settled yet; kUnauthentic:
// header, payload or plaintext are not those of the recorded job.result; nothing is written then.
Result<Received> receive_model(const ContractId& contract, const std::string& directory,
                               const Identity& identity, MarketLine& line, MarketView& view,
                               const Progress& progress);

}  // namespace souk::market
