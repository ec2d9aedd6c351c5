// What a witness policy must be for a market to live by it.
#pragma once

#include <string>

#include "ledger/base/result.h"

namespace souk::market {

inline constexpr int64_t kWitnessWaitMs = 10'000;  // of one request

// Any two quorums share a witness, or each could be shown another ledger; and a quorum of
// them has an address. kMalformed, kRefused.
Status check_witness_policy(const std::string& text);

}  // namespace souk::market
