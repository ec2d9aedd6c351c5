// A whole market inside one test process, seen by its host: a real sequencer, a real
// keeper and a real trainer, spoken to frame by frame, so that a test can lie at
// every step. Helpers CHECK what an honest step needs; what a test judges comes back
// as a frame, a Result or a state.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "contracts/lifecycle/follower.h"
#include "ledger/crypto/hpke.h"
#include "ledger/crypto/sign.h"
#include "ledger/sequencer/sequencer.h"
#include "tests/support/enclave_hosts.h"
#include "tests/support/offers.h"
#include "trainer/attest/appraisal.h"

namespace souk::flows {

class ManualClock final : public Clock {
 public:
  TimeMs now() override { return time_; }
  void advance(TimeMs by) { time_ += by; }

 private:
  std::atomic<TimeMs> time_{1'700'000'000'000};
};

// A fresh folder, gone with its owner.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  std::string file(const std::string& name) const { return (path_ / name).string(); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

// An enclave process without a process: keys, and evidence of them.
struct StandIn {
  ledger::SigningKey signing = ledger::SigningKey::generate();
  ledger::KemKey kem = ledger::KemKey::generate();
  contracts::Evidence evidence;
};

// What a trainer gave to the host.
struct Delivery {
  Bytes payload;
  ledger::Envelope result;
};

class MarketFixture {
 public:
  MarketFixture();
  // With witnesses: what they add to each checkpoint that is shown to anybody.
  using Cosign = std::function<std::string(const std::string& note)>;
  MarketFixture(ManualClock& clock, const std::string& witness_policy, Cosign cosign);
  // Of processes of this program, which is then what genesis lists.
  explicit MarketFixture(const Digest& measurement);

  // ---- keys of the operator
  const ledger::SigningKey& platform() const { return self_->platform; }
  const trainer::EnclaveSelf& self() const { return *self_; }
  trainer::EnclaveSelf another_self(const ledger::SigningKey& platform,
                                    const Digest& measurement) const;
  const contracts::Genesis& genesis() const { return genesis_; }
  const MarketId& market() const { return market_; }
  ManualClock& clock() { return clock_; }

  // ---- the ledger
  std::string ledger_file() const { return folder_.file("ledger.db"); }
  Result<ledger::Receipt> try_append(const ledger::Envelope& envelope);
  uint64_t append(const ledger::Envelope& envelope);
  History history() const;
  // The first `size` entries, with a checkpoint the log really signed over them.
  History prefix(uint64_t size) const;
  // These envelopes, chained and signed anew by the log key: what a host can always make.
  History rewrite(const std::vector<Bytes>& envelopes) const;
  std::vector<Bytes> envelopes() const;
  const contracts::MarketState& state();
  // Why entry `seq` is without effect; empty when it has one.
  std::string void_of(uint64_t seq);
  contracts::Phase phase(const ContractId& contract);
  // Folds any history as an auditor would. CHECKs that it is well formed.
  contracts::MarketState fold(const History& history) const;

  // ---- the keeper
  KeeperHost& keeper() { return *keeper_; }
  // Anew from what it sealed, and through the whole ledger; boots.
  void restart_keeper();
  // A keeper that has begun with this sealed state and seen nothing yet.
  std::unique_ptr<KeeperHost> new_keeper(ByteView sealed) const;
  // What one answers that is to begin with it.
  trainer::Frame try_keeper(ByteView sealed) const;
  void set_policy_runner(trainer::EvaluatePolicy evaluate) { evaluate_ = std::move(evaluate); }
  // Feeds the keeper, asks, records. The seq, or the refusal as an error.
  Result<uint64_t> record(trainer::Kind kind, const ContractId& contract);
  Result<uint64_t> record(trainer::Kind kind, const Json& body);
  void follow();  // feeds the keeper to the end; CHECKs that it agrees

  // ---- the parties
  Party treasury{"treasury"};
  Party lab{"lab"};
  std::vector<Party> providers;

  void deposit(const PublicKey& account, contracts::Minor minor);
  Offered make_offer(const Party& provider, const OfferOptions& options = {});
  Offered publish(const Party& provider, const OfferOptions& options = {});
  contracts::TrainingSpec spec() const;
  contracts::ContractSubmit contract(const std::vector<DatasetId>& datasets) const;
  ContractId submit(const contracts::ContractSubmit& contract);
  // Submitted, decided, allowed, escrowed. CHECKs each.
  ContractId escrowed(const std::vector<DatasetId>& datasets);

  // ---- enclaves of the simulated platform
  trainer::Claims trainer_claims(const StandIn& enclave, const ContractId& contract,
                                 const std::string& nonce) const;
  std::string challenge(const ContractId& contract);
  // With honest evidence for the keeper's newest challenge.
  StandIn stand_in(const ContractId& contract, const std::string& nonce) const;
  trainer::Frame start_frame(const ContractId& contract, const contracts::Evidence& evidence) const;
  // job.start for a stand-in, recorded.
  StandIn started(const ContractId& contract);
  // What an honest trainer would say; `header` goes sealed to the keeper.
  contracts::JobResult result_of(const ContractId& contract, ByteView header, ByteView payload);

  // ---- a real trainer, honestly hosted. The first thing that goes wrong.
  Result<contracts::Evidence> prepare(TrainerLine& trainer, const ContractId& contract,
                                      const std::string& nonce) const;
  Result<trainer::Frame> show(TrainerLine& trainer, const History& history) const;
  // The rest of `history` that it has not been shown yet, at a checkpoint of its run.
  Result<trainer::Frame> show_more(TrainerLine& trainer, const History& history) const;
  Result<trainer::Frame> send_dataset(TrainerLine& trainer, const DatasetId& name,
                                      ByteView file) const;
  Result<trainer::Frame> send_initial(TrainerLine& trainer, ByteView file) const;
  Result<Delivery> train(TrainerLine& trainer) const;

 private:
  MarketFixture(ManualClock* clock, const Digest& measurement, const std::string& witness_policy,
                Cosign cosign);

  TempFolder folder_;
  ManualClock own_clock_;
  ManualClock& clock_;
  Cosign cosign_;
  std::unique_ptr<trainer::EnclaveSelf> self_;
  ledger::SigningKey log_key_ = ledger::SigningKey::generate();
  contracts::Genesis genesis_;
  MarketId market_;
  std::unique_ptr<ledger::Sequencer> ledger_;
  std::optional<contracts::Follower> follower_;
  trainer::EvaluatePolicy evaluate_;
  std::unique_ptr<KeeperHost> keeper_;
};

}  // namespace souk::flows
