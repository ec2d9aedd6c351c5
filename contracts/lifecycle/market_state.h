// The market as a pure function of its ledger: MarketState apply(MarketState,
// RecordedEntry). Host, keeper and every auditor fold the same entries through
// it and reach the same state. Total and integer-only: an authentic but
// impossible entry is void, without effect; nothing here fails or reads a clock.
// The state machine of a contract is the table in contracts/SPEC.md, which also
// lists the codes of voids. Values: copied and compared freely, one thread at a time; copies share
// what they have in common.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "contracts/lifecycle/shared_map.h"
#include "contracts/records/records.h"
#include "ledger/proof/merkle.h"
#include "ledger/proof/recorded.h"

namespace souk::contracts {

struct Account {
  Minor balance = 0;
  uint64_t changed = 0;  // seq of the entry that last changed it
  friend bool operator==(const Account&, const Account&) = default;
};

// Privacy money that is gone or held. Sums stop at kMaxJsonInteger; one that has reached
// it admits nothing more.
struct Spending {
  Charges reserved{};  // over the contracts in `holders`
  Charges committed{};
  std::set<ContractId> holders;         // escrowed or running on this dataset
  int64_t runs = 0;                     // committed ones
  int64_t epsilon_micro_committed = 0;  // plain sum, shown to people; admission uses charges
  int64_t epsilon_micro_reserved = 0;
  friend bool operator==(const Spending&, const Spending&) = default;
};

// Of a whole dataset.
struct Budget : Spending {
  Charges caps{};
  friend bool operator==(const Budget&, const Budget&) = default;
};

// One version of a dataset's policy.
struct PolicyVersion {
  std::string source;
  Json parameters = Json::Object{};
  std::string engine;
  enum class Standing : uint8_t {
    kPublished,
    kActive,
    kDeprecated,
    kRevoked
  } standing = Standing::kPublished;
  PolicyChange::Move last_move = PolicyChange::Move::kActivate;  // of a revoked one: how
  uint64_t seq = 0;                                              // of its publication
  friend bool operator==(const PolicyVersion&, const PolicyVersion&) = default;
};
const char* standing_name(PolicyVersion::Standing standing);

struct Dataset {
  DatasetId id;
  PublicKey provider;
  Manifest manifest;
  Bytes wrap;
  Digest keeper_evidence{};
  Budget budget;
  // The other side of each posting: the same charges, by who asked and by what for. Every
  // sum over one of these is the dataset's. Their caps stand in the grants.
  std::map<PublicKey, Spending> consumers;
  std::map<std::string, Spending> purposes;
  // All that were ever published, the offer's own among them; at most one is active.
  std::map<Digest, PolicyVersion> policies;
  bool revoked = false;
  bool erased = false;   // revoked for good; `wrap` is empty then
  uint64_t seq = 0;      // of its offer
  uint64_t changed = 0;  // seq of the entry that last changed it or its budget
  friend bool operator==(const Dataset&, const Dataset&) = default;
};

enum class Phase : uint8_t {
  kSubmitted,  // waits for a decision; leaves by decision or deadline
  kRefused,    // final
  kEscrowed,   // allowed and paid in; leaves by job.start or deadline
  kRunning,    // started; leaves by job.result, job.abort, a revocation or deadline
  kSettled,    // final: providers paid
  kRefunded,   // final: money back
  kExpired,    // final: deadline passed before a decision
  kStopping,   // its policy, or one that its initial weights were learned under, was revoked, or a
               // dataset erased, while it ran; leaves by job.stop, job.abort or deadline
};
const char* phase_name(Phase phase);

struct Contract {
  ContractId id;
  PublicKey consumer;
  ContractSubmit submit;
  Digest spec_hash{};
  Phase phase = Phase::kSubmitted;
  TimeMs deadline = 0;
  Minor escrow = 0;
  std::optional<ContractDecision> decision;
  std::vector<Digest> policies;  // versions it was allowed under, one for each dataset
  bool destroyed = false;        // a version was revoked so that no model of it is released
  Digest decision_hash{};        // payload hash
  std::optional<JobStart> start;
  Digest start_hash{};
  SealingKey keeper_kem;            // of the keeper that signed the start
  std::optional<JobResume> resume;  // the newest
  std::optional<JobResult> result;
  std::optional<JobStop> stop;
  std::string ended_because;  // status of a refusal, reason of an abort, or "deadline"
  std::optional<DatasetId> ended_by_dataset;  // where one of the contract's was the reason
  uint64_t submit_seq = 0, decision_seq = 0, start_seq = 0, result_seq = 0;
  TimeMs decision_time = 0, start_time = 0;  // ledger time; 0: not yet
  friend bool operator==(const Contract&, const Contract&) = default;
};

struct Keeper {
  PublicKey key;
  SealingKey kem;
  Digest evidence{};
  Evidence evidence_record;
  uint64_t seq = 0;  // of its newest boot
  friend bool operator==(const Keeper&, const Keeper&) = default;
};

// Whether evidence for these claims is acceptable under genesis. trainer/attest
// supplies it; contracts do not know evidence formats.
//   role: "keeper" or "trainer". Answers the appraised claims' keys.
struct AppraisedKeys {
  PublicKey signing;
  SealingKey kem;
};
using Appraiser = Result<AppraisedKeys> (*)(const Evidence& evidence, const Genesis& genesis,
                                            const MarketId& market, const std::string& role);

class MarketState {
 public:
  // The state before genesis.
  explicit MarketState(Appraiser appraiser) : appraiser_(appraiser) {}

  const std::optional<Genesis>& genesis() const { return genesis_; }
  const MarketId& market() const { return market_; }
  const std::optional<Keeper>& keeper() const { return keeper_; }  // the newest appraised one
  // Every appraised boot with the KEM key of the newest: a wrap may name an older digest.
  const std::set<Digest>& keeper_evidence() const { return keeper_evidence_; }
  TimeMs time() const { return time_; }
  uint64_t size() const { return tree_.size(); }
  // Merkle root of the entries folded: a decision made on this state names size()
  // and root() as its head.
  Digest root() const { return tree_.root(); }

  Minor balance(const PublicKey& account) const;
  Minor escrow_total() const;
  Minor minted() const { return minted_; }
  const SharedMap<PublicKey, Account>& accounts() const { return accounts_; }
  const SharedMap<DatasetId, Dataset>& datasets() const { return datasets_; }
  const SharedMap<ContractId, Contract>& contracts() const { return contracts_; }
  const Dataset* dataset(const DatasetId& id) const;
  const Contract* contract(const ContractId& id) const;

  // seq -> code of why the entry had no effect.
  const std::map<uint64_t, std::string>& voids() const { return voids_; }

  friend bool operator==(const MarketState&, const MarketState&) = default;

 private:
  friend class Folding;  // one apply()

  Appraiser appraiser_;
  std::optional<Genesis> genesis_;
  MarketId market_;
  std::optional<Keeper> keeper_;
  std::set<Digest> keeper_evidence_;
  TimeMs time_ = 0;
  Minor minted_ = 0;
  SharedMap<PublicKey, Account> accounts_;
  SharedMap<DatasetId, Dataset> datasets_;
  SharedMap<ContractId, Contract> contracts_;
  std::set<std::pair<TimeMs, ContractId>> open_;  // deadlines of contracts that are not final
  SharedMap<std::pair<PublicKey, std::string>, std::monostate> nonces_;  // (author, nonce) seen
  std::map<uint64_t, std::string> voids_;
  ledger::CompactTree tree_;          // of the entries folded
  std::set<uint64_t> undecided_;      // submit_seq of contracts without a decision
  std::map<uint64_t, Digest> heads_;  // size -> root, since the oldest undecided contract
};

// The next state: state = apply(std::move(state), entry) costs no copies. Entries
// come in order from seq 0: CHECKs entry.seq() == state.size().
MarketState apply(MarketState state, const ledger::RecordedEntry& entry);

// The code with which this entry would be void as the next one, at this time; nullopt when it
// would have its effect. For whoever would rather not record what does nothing.
std::optional<std::string> would_be_void(MarketState state, const ledger::AuthenticEntry& entry,
                                         TimeMs now);

// What the rules of money, budget and time say about an allowing decision in this
// state, before it is recorded: nullopt, or the code of the first obstacle
// ("unfunded", "budget_exhausted", "revoked", "unknown_dataset", "expired", ...).
// The keeper asks it before signing; apply asks it again.
// `decision.allow` and its head are not looked at.
// The policy version that a contract is judged under at one of its datasets: the one it
// was quoted, else the active one. Without one, `obstacle` is the code of why.
struct PolicyChoice {
  Digest version{};
  const PolicyVersion* policy = nullptr;
  const char* obstacle = nullptr;  // "policy_unknown", "policy_not_active", "policy_revoked"
};
PolicyChoice policy_for(const Dataset& dataset, const ContractSubmit& submit, size_t index);

struct Obstacle {
  std::string code, dataset, got, need;
};
std::optional<Obstacle> obstacle(const MarketState& state, const ContractDecision& decision);
// The part of it that needs no recorded contract, for quotes: datasets, prices, budgets;
// not the balance, which a quote does not touch.
std::optional<Obstacle> obstacle_of_terms(const MarketState& state, const PublicKey& consumer,
                                          const ContractSubmit& submit,
                                          const ContractDecision& decision);

// Provider payouts of a settled contract: grants summed by provider. Sums to `price`.
std::map<PublicKey, Minor> payouts(const MarketState& state, const Contract& contract);

}  // namespace souk::contracts
