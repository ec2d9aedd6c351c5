// A whole small market for tests: a real log key, real signatures, and an
// appraiser that believes whoever says "believe me". The same calls make the same
// market, with the same identifiers.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "contracts/lifecycle/market_state.h"
#include "contracts/records/records.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/proof/recorded.h"

namespace souk::contracts {

// The same key for the same name, always.
ledger::SigningKey key_named(const std::string& name);
SealingKey kem_named(const std::string& name);
Digest digest_named(const std::string& name);
std::string recipient_named(char letter);  // of bech32's alphabet

// Evidence that test_appraiser accepts for this role, under names' keys.
Evidence evidence_for(const std::string& role, const std::string& name);
Result<AppraisedKeys> test_appraiser(const Evidence& evidence, const Genesis& genesis,
                                     const MarketId& market, const std::string& role);

TrainingSpec sample_spec();       // private, 10 steps
TrainingSpec sample_open_spec();  // the same without privacy
Manifest sample_manifest(const std::string& name, Minor price);

class World {
 public:
  static constexpr const char* kOrigin = "souk.test/log";
  // With genesis at seq 0 and the keeper "keeper" booted at seq 1.
  World();

  // Records, folds, and answers why the entry was void; "" when it had its effect.
  std::string record(const Record& record, const std::string& author, std::string nonce = {});
  std::string record(const ledger::Envelope& envelope);
  // The same in two steps, for batches: the state moves in fold() only.
  void append(const ledger::Envelope& envelope);
  std::vector<ledger::RecordedEntry> confirm();
  void fold(const ledger::RecordedEntry& entry) { state_ = apply(std::move(state_), entry); }

  const MarketState& state() const { return state_; }
  const MarketId& market() const { return market_; }
  const Genesis& genesis() const { return genesis_; }
  const std::vector<Bytes>& leaves() const { return leaves_; }
  void pass(TimeMs ms) { now_ += ms; }
  TimeMs now() const { return now_; }
  const Contract& contract(const ContractId& id) const { return *state_.contract(id); }
  Minor balance(const std::string& name) const {
    return state_.balance(key_named(name).public_key());
  }

  // A new reader and state over the same leaves, in batches of `batch`.
  MarketState replay(size_t batch) const;
  // From this earlier state on.
  MarketState replay(size_t batch, MarketState from) const;

  // Valid records for the present state.
  KeeperBoot boot(const std::string& name) const;
  DatasetOffer offer(const std::string& name, Minor price) const;
  ContractSubmit submit(const std::vector<DatasetId>& datasets, Minor offered) const;
  ContractDecision allow(const ContractId& contract) const;
  ContractDecision deny(const ContractId& contract) const;
  JobStart start(const ContractId& contract, const std::string& trainer = "trainer") const;
  // The next one, after `steps` of its steps.
  JobResume resume(const ContractId& contract, uint32_t steps) const;
  JobResult result(const ContractId& contract) const;
  // After `steps` of its steps, at that share of its charges.
  JobStop stop(const ContractId& contract, uint32_t steps) const;

  // Recorded with success, by "keeper", "treasury", or the one named.
  void fund(const std::string& consumer, Minor minor);
  DatasetId publish(const std::string& provider, const std::string& name, Minor price);
  ContractId order(const std::string& consumer, const std::vector<DatasetId>& datasets,
                   Minor offered);

 private:
  std::string checkpoint() const;
  std::string next_nonce();

  ledger::SigningKey log_ = key_named("log");
  ledger::NoteKey vkey_;
  Genesis genesis_;
  MarketId market_;
  ledger::ChainReader reader_;
  MarketState state_{test_appraiser};
  std::vector<Bytes> leaves_;
  TimeMs now_ = 1'700'000'000'000;
  uint64_t nonces_ = 0;
};

}  // namespace souk::contracts
