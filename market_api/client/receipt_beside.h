// The receipt that lies beside a model: whether it is about this model at all.
#pragma once

#include <string>

#include "ledger/base/result.h"

namespace souk::market {

// `path` as load_model takes it. True where receipt.json stands beside model.safetensors, holds
// (whichever market it is of), and names the SHA-256 of that file. False where there is none, as
// beside a model that was trained locally or an ONNX file. kUnauthentic where it does not hold or
// is of another model: one of the two was changed. kMalformed where it is no receipt.
Result<bool> receipt_is_of_model(const std::string& path);

}  // namespace souk::market
