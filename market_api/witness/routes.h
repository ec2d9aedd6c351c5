// The HTTP face of a witness: C2SP tlog-witness, submission and monitoring under one prefix.
#pragma once

#include <string>

#include "ledger/witness/witness.h"
#include "market_api/transport/message.h"

namespace souk::market {

// The longest add-checkpoint: old size, 63 hashes, a note.
inline constexpr size_t kMaxWitnessBody = ledger::kMaxNoteBytes + 4096;

// POST <prefix>/add-checkpoint, GET <prefix>/<origin hash>/checkpoint; anything else is 404,
// another method there 405. `prefix` is empty or begins with '/' and does not end with one.
Response route_witness(ledger::Witness& witness, const std::string& prefix, const Request& request);

}  // namespace souk::market
