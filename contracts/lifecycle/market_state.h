// The market as a pure function of its ledger: MarketState apply(MarketState,
// RecordedEntry). Host, keeper and every auditor fold the same entries through
// it and reach the same state. Total and integer-only: an authentic but
// impossible entry is void, without effect; nothing here fails or reads a clock.
// The state machine of a contract is the table in contracts/SPEC.md.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "contracts/records/records.h"
#include "ledger/proof/recorded.h"

namespace souk::contracts {

struct Account {
  Minor balance = 0;
  friend bool operator==(const Account&, const Account&) = default;
};

// Privacy money of one dataset.
struct Budget {
  Charges caps{};
  Charges reserved{};
  Charges committed{};
  int64_t runs = 0;
  int64_t epsilon_micro_committed = 0;  // plain sum, shown to people; admission uses charges
  int64_t epsilon_micro_reserved = 0;
  friend bool operator==(const Budget&, const Budget&) = default;
};

struct Dataset {
  DatasetId id;
  PublicKey provider;
  Manifest manifest;
  Bytes wrap;
  Digest keeper_evidence{};
  Budget budget;
  bool revoked = false;
  uint64_t seq = 0;
  friend bool operator==(const Dataset&, const Dataset&) = default;
};

enum class Phase : uint8_t {
  kSubmitted,  // waits for a decision; leaves by decision or deadline
  kRefused,    // final
  kEscrowed,   // allowed and paid in; leaves by job.start or deadline
  kRunning,    // started; leaves by job.result, job.abort or deadline
  kSettled,    // final: providers paid
  kRefunded,   // final: money back
  kExpired,    // final: deadline passed before a decision
};
const char* phase_name(Phase phase);

struct Contract {
  ContractId id;
  PublicKey consumer;
  ContractSubmit submit;
  Phase phase = Phase::kSubmitted;
  TimeMs deadline = 0;
  Minor escrow = 0;
  std::optional<ContractDecision> decision;
  Digest decision_hash{};   // payload hash
  std::optional<JobStart> start;
  Digest start_hash{};
  std::optional<JobResult> result;
  std::string ended_because;  // reason of a refund
  uint64_t submit_seq = 0, decision_seq = 0, start_seq = 0, result_seq = 0;
};

struct Keeper {
  PublicKey key;
  SealingKey kem;
  Digest evidence{};
  Evidence evidence_record;
  uint64_t seq = 0;
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
  // Every appraised boot ever seen: a wrap may name an older evidence digest.
  const std::set<Digest>& keeper_evidence() const { return keeper_evidence_; }
  TimeMs time() const { return time_; }
  uint64_t size() const { return size_; }

  Minor balance(const PublicKey& account) const;
  Minor escrow_total() const;
  Minor minted() const { return minted_; }
  const std::map<PublicKey, Account>& accounts() const { return accounts_; }
  const std::map<DatasetId, Dataset>& datasets() const { return datasets_; }
  const std::map<ContractId, Contract>& contracts() const { return contracts_; }
  const Dataset* dataset(const DatasetId& id) const;
  const Contract* contract(const ContractId& id) const;

  // seq -> why the entry had no effect.
  const std::map<uint64_t, std::string>& voids() const { return voids_; }

 private:
  friend MarketState apply(MarketState state, const ledger::RecordedEntry& entry);
  friend class Folding;

  Appraiser appraiser_;
  std::optional<Genesis> genesis_;
  MarketId market_;
  std::optional<Keeper> keeper_;
  std::set<Digest> keeper_evidence_;
  TimeMs time_ = 0;
  uint64_t size_ = 0;
  Minor minted_ = 0;
  std::map<PublicKey, Account> accounts_;
  std::map<DatasetId, Dataset> datasets_;
  std::map<ContractId, Contract> contracts_;
  std::set<ContractId> open_;                            // contracts with a deadline to watch
  std::set<std::pair<PublicKey, std::string>> nonces_;   // (author, nonce) seen
  std::map<uint64_t, std::string> voids_;
};

// The next state. `apply` moves its argument: a fold costs no copies.
MarketState apply(MarketState state, const ledger::RecordedEntry& entry);

// What the rules of money, budget and time say about an allowing decision in this
// state, before it is recorded: nullopt, or the code of the first obstacle
// ("unfunded", "budget_exhausted", "revoked", "unknown_dataset", "expired", ...).
// The keeper asks it before signing; apply asks it again.
struct Obstacle { std::string code, dataset, got, need; };
std::optional<Obstacle> obstacle(const MarketState& state, const ContractDecision& decision);

// Provider payouts of a settled contract: grants summed by provider. Sums to `price`.
std::map<PublicKey, Minor> payouts(const MarketState& state, const Contract& contract);

}  // namespace souk::contracts
