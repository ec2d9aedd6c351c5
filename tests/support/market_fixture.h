// A whole market inside one test process, seen by its host: a real sequencer, a real
// keeper and a real trainer, spoken to frame by frame, so that a test can lie at
// every step. Helpers CHECK what an honest step needs; what a test judges comes back
// as a frame, a Result or a state.
#pragma once

#include <array>
#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "contracts/lifecycle/follower.h"
#include "ledger/crypto/hpke.h"
#include "ledger/crypto/sign.h"
#include "ledger/sequencer/sequencer.h"
#include "trainer/attest/appraisal.h"
#include "trainer/data/age.h"
#include "trainer/keeper/keeper.h"
#include "trainer/session/session.h"
#include "trainer/wire/messages.h"

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

// Provider, consumer, treasury: whoever signs.
struct Party {
  std::string name;
  ledger::SigningKey key = ledger::SigningKey::generate();
  trainer::AgeIdentity age = trainer::AgeIdentity::generate();
  PublicKey account() const { return key.public_key(); }
  std::string recipient() const { return trainer::recipient_text(age.recipient()); }
};

// A ledger as a host may show it: leaves from seq 0 and a checkpoint over all.
struct History {
  std::vector<Bytes> leaves;
  std::string checkpoint;
  uint64_t size() const { return leaves.size(); }
};

// A dataset as its provider knows it.
struct Offered {
  DatasetId id;
  contracts::DatasetOffer offer;
  Bytes file;  // age
  trainer::FileKey file_key;
};

inline constexpr const char* kFriendlyPolicy =
    "return {allow = true, obligations = {min_noise_micro = 1000000, max_steps = 100}}";

struct OfferOptions {
  std::string policy = kFriendlyPolicy;
  contracts::Minor price = 100;
  int64_t budget_epsilon_micro = 10'000'000;
  int64_t budget_delta_pico = 10'000'000;
  uint32_t rows = 40;
  int64_t user_cap = 1;
  std::optional<uint64_t> rows_number = {};  // the same rows for the same number; else any
  bool name_classes = true;
};

// `plain` encrypted, its key wrapped to this keeper, under a manifest of a dataset of
// two classes and this many features.
Offered offer_of(const Party& provider, const OfferOptions& options, const MarketId& market,
                 const contracts::Keeper& keeper, ByteView plain, uint32_t features);
// One linear layer, DP-SGD with noise multiplier `noise`; its epsilon claimed as it is.
contracts::TrainingSpec private_spec(uint32_t features, uint32_t steps, double noise);

// The same for two datasets: the second is drawn less often, and clipped to a quarter of the norm.
contracts::TrainingSpec pooled_spec();

// An enclave process without a process: keys, and evidence of them.
struct StandIn {
  ledger::SigningKey signing = ledger::SigningKey::generate();
  ledger::KemKey kem = ledger::KemKey::generate();
  contracts::Evidence evidence;
};

std::string kind_and_body(const trainer::Frame& frame);  // for messages of failed tests
// The code of a refusal; nullopt for every other frame.
std::optional<Code> refused(const trainer::Frame& frame);
std::string refusal_message(const trainer::Frame& frame);
// The envelope of a kEnvelope or kResult frame.
Result<ledger::Envelope> envelope_in(const trainer::Frame& frame);
ledger::AuthenticEntry authentic(const ledger::Envelope& envelope);
Bytes envelope_bytes(const ledger::Envelope& envelope);

// A keeper of this process and what its host keeps for it.
class KeeperHost {
 public:
  KeeperHost(const trainer::EnclaveSelf& self, trainer::EvaluatePolicy evaluate,
             trainer::LocalTime local_time = trainer::boot_time());

  trainer::Frame ask(trainer::Kind kind, const Json& body);
  trainer::Frame about(trainer::Kind kind, const ContractId& contract);
  trainer::Frame begin(ByteView genesis_leaf, ByteView sealed = {});
  // kLeaves with exactly these; kConfirm with this note.
  trainer::Frame leaves(std::span<const Bytes> leaves);
  trainer::Frame confirm(const std::string& note);
  // What of `history` it has not been fed, then the checkpoint. The first refusal.
  trainer::Frame follow(const History& history);

  const Bytes& sealed() const { return sealed_; }

 private:
  trainer::Frame noted(trainer::Frame answer);

  trainer::Keeper keeper_;
  Bytes sealed_;
  uint64_t fed_ = 0;
};

// A host's end of the line to a trainer, wherever that runs. Every frame received is also kept.
class TrainerLine {
 public:
  explicit TrainerLine(trainer::Channel channel) : channel_(std::move(channel)) {}

  // kTryAgain when the trainer has gone.
  Status send(const trainer::Frame& frame);
  Result<trainer::Frame> receive();
  Result<trainer::Frame> ask(const trainer::Frame& frame);
  const std::vector<trainer::Frame>& heard() const { return heard_; }
  // How much of the ledger it was shown, for who shows it more.
  uint64_t shown() const { return shown_; }
  void note_shown(uint64_t size) { shown_ = size; }

 protected:
  void hang_up();

 private:
  trainer::Channel channel_;
  std::vector<trainer::Frame> heard_;
  uint64_t shown_ = 0;
};

// run_trainer in a thread behind a socket pair.
class TrainerThread : public TrainerLine {
 public:
  explicit TrainerThread(const trainer::EnclaveSelf& self);
  ~TrainerThread();
  TrainerThread(const TrainerThread&) = delete;
  TrainerThread& operator=(const TrainerThread&) = delete;

  // What run_trainer answered. Closes the channel first if it must.
  Status finish();

 private:
  TrainerThread(const trainer::EnclaveSelf& self, std::array<int, 2> ends);

  std::optional<Status> ended_;
  std::thread thread_;
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
