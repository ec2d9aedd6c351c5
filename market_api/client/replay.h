// Recorded decisions, made again from the ledger's bytes alone.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "market_api/client/audit.h"
#include "trainer/decision/decision.h"

namespace souk::market {

// One provider's policy, asked about one recorded contract.
struct RecordedQuestion {
  uint64_t seq = 0;  // of the decision
  ContractId contract;
  std::string source;
  Json request, dataset, ctx;
  policy::PolicyDecision answer;  // as it comes out now
};

struct PolicyReplay {
  bool ok = false;         // the ledger is whole, and every decision came out as recorded
  uint64_t entries = 0;    // read
  uint64_t decisions = 0;  // made again
  uint64_t same = 0;
  // Policies that were stopped from outside when they were asked, and so refused: how they were is
  // taken from the record, everything else about the decision is made again.
  uint64_t interrupted = 0;
  std::optional<uint64_t> first_differing;  // seq of the entry
  std::string reason;                       // what differs there, or why the ledger is not whole
  std::vector<RecordedQuestion> questions;
};

// The file `path` of a ledger store. Each decision is made again on the state at the
// head it names, policies by `evaluate`, and compared in every member.
PolicyReplay replay_ledger_file(const std::string& path, const AuditBasis& basis,
                                const trainer::EvaluatePolicy& evaluate);

}  // namespace souk::market
