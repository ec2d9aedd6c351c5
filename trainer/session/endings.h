// What a trainer signs about the end of a job, and what goes with it.
#pragma once

#include <optional>

#include "contracts/lifecycle/market_state.h"
#include "ledger/base/bytes.h"
#include "trainer/data/age.h"
#include "trainer/engine/model.h"

namespace souk::trainer {

// What `steps` of a running contract cost each dataset's people, by the keeper's own arithmetic.
contracts::JobStop stop_after(const contracts::MarketState& state,
                              const contracts::Contract& contract, uint32_t steps);

// The model, encrypted to the contract's recipient, and the receipt that fits it. The header of the
// payload is in the receipt alone, sealed to the keeper that signed the start.
struct Package {
  Bytes payload;
  contracts::JobResult result;
};
Result<Package> package_model(const MarketId& market, const contracts::Contract& contract,
                              const SealingKey& recipient, const Model& model,
                              int64_t epsilon_micro,
                              const std::optional<contracts::JobAudit>& audit);

}  // namespace souk::trainer
