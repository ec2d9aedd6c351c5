// One line about a ledger entry.
#pragma once

#include <string>

#include "contracts/records/records.h"

namespace souk::market {

// "dataset.offer", "contract.decision", ... for a payload type.
std::string entry_kind(const std::string& payload_type);
// What it says, shortly: "wdbc-a, 190 rows, price 500".
// `payload_hash` is what names a contract.
std::string entry_summary(const contracts::Record& record, const Digest& payload_hash);

}  // namespace souk::market
