// Shows an enclave the ledger, keeper and trainer alike.
#pragma once

#include <functional>
#include <string>

#include "ledger/sequencer/sequencer.h"
#include "trainer/wire/messages.h"

namespace souk::market {

struct Fed {
  uint64_t size = 0;  // what the enclave has confirmed
  Json body;          // of its answer
  // or kStopped or kResumed, which a trainer may give instead
  trainer::Kind kind = trainer::Kind::kConfirmed;
};

// Leaves from `from` in pieces, then `note`, a checkpoint that covers exactly them. `ask` is
// one request and its answer; its first error, or the enclave's first refusal, is the answer.
Result<Fed> feed_ledger(const ledger::Sequencer& ledger, uint64_t from, const std::string& note,
                        const std::function<Result<trainer::Frame>(const trainer::Frame&)>& ask);

}  // namespace souk::market
