// How good a received model is on rows one owns.
#pragma once

#include "ledger/base/bytes.h"
#include "market_api/client/receive.h"
#include "trainer/engine/model.h"

namespace souk::market {

struct Accuracy {
  uint64_t rows = 0;
  uint64_t right = 0;  // the largest logit is the label's; the first of equals counts
};

// `model`: the bytes of model.safetensors. kMalformed when model, specification and
// rows do not fit together.
Result<Accuracy> evaluate_model(const contracts::TrainingSpec& spec, ByteView model,
                                const trainer::Features& features, std::span<const int64_t> labels);

}  // namespace souk::market
