// What a log remembers of its witnesses. Format: ledger/SPEC.md, "Witness".
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "ledger/base/bytes.h"

namespace souk::ledger {

struct WitnessedState {
  std::string note;  // the newest checkpoint that a quorum has cosigned; empty before the first
  std::map<std::string, uint64_t> sizes;  // by vkey: the largest tree each has cosigned

  friend bool operator==(const WitnessedState&, const WitnessedState&) = default;
};

Bytes encode(const WitnessedState& state);
// kMalformed unless encode() wrote it. Says nothing about signatures.
Result<WitnessedState> decode_witnessed_state(ByteView bytes);

}  // namespace souk::ledger
