// Recorded decisions, made again from the ledger's bytes alone.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "market_api/client/audit.h"
#include "trainer/decision/decision.h"

namespace souk::market {

// How one contract came out, as far as one of its datasets goes.
struct Outcome {
  std::string status;  // of the whole decision: "allowed", "denied", "unfunded", ...
  bool allow = false;
  Json reasons = Json::Array{};
  // What the dataset's provider was paid, or has bound for it; 0 where the money went back.
  contracts::Minor price = 0;
  int64_t epsilon_micro = 0;  // what the dataset was charged, or has reserved for it
};

// Another policy in place of a dataset's own.
struct Draft {
  std::function<bool(const Json& dataset)> replaces;
  trainer::EvaluatePolicy evaluate;
};

// One provider's policy, asked about one recorded contract.
struct RecordedQuestion {
  uint64_t seq = 0;  // of the decision
  ContractId contract;
  std::string source;
  Json request, dataset, ctx;
  policy::PolicyDecision answer;  // as it comes out now
  // False: of a decision without effect, or asked once more about a dataset of the same contract.
  bool counts = true;
  Outcome recorded = {};             // by the ledger: its decision, and how the contract went on
  std::vector<Outcome> drafts = {};  // the decision with each draft in place, gone on like that
};

// Decisions that name another engine: what a policy means and costs was something else there, so
// that they cannot come out bit by bit. What came of them can be compared.
struct OtherEngine {
  Digest engine{};
  uint64_t first = 0;  // seq of the first
  uint64_t decisions = 0;
  uint64_t same_outcome = 0;  // all but what the policies' evaluations cost, read and hash to
};

struct PolicyReplay {
  bool ok = false;  // the ledger is whole, all decisions are this engine's and come out as recorded
  bool whole = false;               // the ledger
  uint64_t entries = 0;             // read
  uint64_t decisions = 0;           // made again
  uint64_t same = 0;                // of this engine's
  std::vector<OtherEngine> others;  // in the order of their first decisions
  // Policies that were stopped from outside when they were asked, and so refused: how they were is
  // taken from the record, everything else about the decision is made again.
  uint64_t interrupted = 0;
  std::optional<uint64_t> first_differing;  // seq of the entry
  std::string reason;                       // what differs there, or why the ledger is not whole
  std::vector<RecordedQuestion> questions;
};

// The file `path` of a ledger store. Each decision is made again on the state at the
// head it names, policies by `evaluate`, and compared in every member if it is this engine's.
// Decisions that ask a policy which a draft replaces are made once more with the draft: budgets and
// balances stand as they did then.
PolicyReplay replay_ledger_file(const std::string& path, const AuditBasis& basis,
                                const trainer::EvaluatePolicy& evaluate,
                                const std::vector<Draft>& drafts = {});

}  // namespace souk::market
