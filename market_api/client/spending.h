// Who spent what of a dataset's privacy budget: read off the ledger, nothing is stored.
#pragma once

#include <vector>

#include "contracts/lifecycle/market_state.h"
#include "policy/privacy/odometer.h"

namespace souk::market {

struct Spending {
  policy::Odometer committed;           // of what ran, or may have
  policy::Odometer with_reserved;       // and of what may still run
  uint64_t runs = 0, reservations = 0;  // contracts under privacy
};

// Every number follows from the state alone; an auditor gets the same.
Result<Spending> spending_of(const contracts::MarketState& state,
                             const contracts::Dataset& dataset);

}  // namespace souk::market
