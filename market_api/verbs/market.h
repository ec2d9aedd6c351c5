// The host's side of the market: ledger, blobs, keeper and jobs under one
// directory. Everything here may be done wrong by a dishonest operator; nothing
// here is believed by the keeper, a client or an auditor.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "contracts/lifecycle/follower.h"
#include "ledger/base/clock.h"
#include "ledger/sequencer/sequencer.h"
#include "ledger/witness/feeder.h"
#include "market_api/blobs/blobs.h"
#include "market_api/verbs/blob_uses.h"
#include "market_api/verbs/entrance.h"
#include "market_api/verbs/files.h"
#include "market_api/verbs/keeper_link.h"
#include "market_api/verbs/order.h"
#include "market_api/verbs/patience.h"
#include "market_api/verbs/run_files.h"
#include "market_api/verbs/turns.h"
#include "trainer/host/process.h"

namespace souk::market {

struct MarketConfig {
  std::string directory;                // created if missing
  std::string enclave_program;          // souk-enclave
  bool program_is_the_enclave = true;   // and not one that stands between, which is none of genesis
  std::optional<PublicKey> treasury;    // needed when the market is new
  std::optional<std::string> currency;  // of a new market EUR, if none is named
  // C2SP tlog-policy text. A new market writes it into its genesis, for good; of an
  // existing one only the witnesses' addresses may differ from genesis. What is named here, the
  // treasury and the currency are for an existing market to confirm: kMalformed where they differ.
  std::string witness_policy;
  BlobLimits uploads = {};
  // A run that has had the trainer for so long gives way to a contract of another consumer that
  // waits in escrow and has paid more.
  std::chrono::milliseconds longest_run = std::chrono::minutes(60);
  // Asked when the market is new, can be made, and `treasury` is not set.
  std::function<Result<PublicKey>()> ask_treasury = nullptr;
  // Called once, from a thread of the market's, when the ledger has failed for good: whoever
  // runs the market ends it, and the next start finds out what is on the disk.
  std::function<void()> on_ledger_failed = nullptr;
};

// How far an entry must have come before it is acknowledged.
enum class Acknowledgement : uint8_t {
  kLocal,      // on this disk
  kWitnessed,  // and a quorum of witnesses stands behind it
};

// A connection to a witness: one for each, used by one thread.
using ConnectWitness =
    std::function<Result<ledger::WitnessFeeder::Exchange>(const std::string& url)>;

// As the host sees it; decides nothing.
struct JobProgress {
  int64_t step = 0;
  int64_t epsilon_micro = 0;
  std::string detail;  // what it waits for now, or how it ended
};

class Market {
 public:
  // Opens the market in the directory; a new one gets its keys and its genesis, and on an error
  // leaves nothing of them behind.
  // kMalformed when what lies in the directory is not what a market keeps there, or is not a new
  // market's to lie beside: the message names the file, and it is as it was. kRefused when it is
  // new and no treasury is named. kConflict when another process has it open. kTryAgain when no
  // quorum of its witnesses answers; kUnauthentic when one of them has caught this ledger rolled
  // back or forked.
  static Result<std::unique_ptr<Market>> open(MarketConfig config, Clock& clock,
                                              const ConnectWitness& connect = nullptr);
  // Makes the market in the directory if there is none, and answers its ledger's key.
  static Result<ledger::NoteKey> found(const MarketConfig& config, Clock& clock);
  ~Market();
  Market(const Market&) = delete;
  Market& operator=(const Market&) = delete;

  const MarketId& id() const { return id_; }
  const PublicKey& treasury() const { return treasury_; }
  const std::string& genesis_leaf() const { return genesis_leaf_; }  // base64
  ledger::Sequencer& ledger() { return *ledger_; }
  BlobStore& blobs() { return *blobs_; }
  KeeperLink& keeper() { return *keeper_; }

  // Records what a participant signed: dataset.offer (its blob must be here),
  // dataset.revoke, contract.submit, treasury.deposit. kConflict when it would be void, and then
  // it is not recorded, or became void by what came between: the message says why. kRefused: also
  // a policy that answers no request, and a ciphertext that is no age file. kMalformed: also
  // initial weights that the contract's model cannot start from.
  // kTryAgain when it is recorded and no quorum has cosigned it yet: sending it again asks
  // again. A market without witnesses refuses to wait for them.
  Result<ledger::Receipt> record(ByteView envelope,
                                 Acknowledgement wanted = Acknowledgement::kLocal);
  // The receipt of an entry under the newest checkpoint, or the newest witnessed one.
  Result<ledger::Receipt> prove(uint64_t seq, Acknowledgement level);
  // Null where genesis names no witnesses.
  ledger::WitnessFeeder* witnesses() { return witnesses_.get(); }

  // The host's own view of the market, for answering and queueing.
  contracts::MarketState state();
  JobProgress progress(const ContractId& contract);

  // Of these datasets, those whose ciphertext is not here as its offer says: of that length, and
  // with that digest where that is soon found out. Unknown ones are not among them.
  std::vector<DatasetId> unavailable(const contracts::MarketState& state,
                                     const std::vector<DatasetId>& datasets) const;

  // Why on_ledger_failed was called; Done as long as it was not.
  Status ledger_failure();

 private:
  Market(MarketConfig config, Clock& clock)
      : config_(std::move(config)), clock_(clock), runs_(config_.directory + "/runs") {}
  Status open_parts(const ConnectWitness& connect);
  Status connect_witnesses(const ConnectWitness& connect);
  Result<ledger::Receipt> witnessed_receipt(uint64_t seq, int64_t wait_ms);
  void erase_all();
  void erase_dataset(const DatasetId& id);
  void erase_destroyed();
  void erase_unneeded(const Digest& blob);
  BlobKind kind_of(const Digest& blob) const;
  void sweep_blobs();
  void sweep_runs();
  Status room_for(const contracts::Record& record) const;
  Status check_ciphertext(const contracts::Manifest& manifest, const PublicKey& author);
  Status check_weights(const contracts::TrainingSpec& spec);
  Status try_policy(const contracts::Record& record);
  Status follow();
  bool watch_ledger();
  void decide_loop();
  void train_loop();
  bool decide_once();
  bool train_once();
  void step(const trainer::Frame& request, const contracts::Contract& contract,
            const char* waiting);
  Status record_step(const trainer::Frame& request, const contracts::Contract& contract);
  Result<std::optional<std::string>> in_vain(const ledger::AuthenticEntry& entry);
  bool take_up(const contracts::MarketState& state);
  bool have_trainer(const contracts::Contract& contract, bool keeps);
  Result<std::string> state_file(const contracts::Contract& contract, bool keeps) const;
  Status run_job(const contracts::Contract& contract, bool keeps);
  struct Run;
  Status converse(trainer::EnclaveProcess& process, const contracts::Contract& contract, Run& run);
  Status start_anew(trainer::EnclaveProcess& process, const ContractId& id);
  Result<std::string> witnessed_checkpoint() const;
  std::optional<std::string> must_end(Run& run);
  contracts::Phase phase_of(const ContractId& contract);
  Result<bool> bring_dataset(trainer::EnclaveProcess& process, const contracts::Contract& contract,
                             const DatasetId& id, const contracts::Manifest& manifest);
  Result<std::optional<Json>> show_more(trainer::EnclaveProcess& process, const ContractId& id,
                                        uint64_t& size, std::string& note);
  Status note_report(const ContractId& contract, const trainer::Frame& report);
  Status append_from_trainer(const Json& body);
  Status keep_result(const contracts::Contract& contract, ByteView model, const Json& body);
  Status keep_trying(const contracts::Contract& contract, const std::function<Status()>& attempt);
  struct Note {
    JobProgress progress;
    contracts::Phase phase = contracts::Phase::kSubmitted;  // what it speaks of
    bool last = false;                                      // how a run ended: it stands
  };
  void note_waiting(const contracts::Contract& contract, std::string detail);
  void note_running(const ContractId& contract, JobProgress progress);
  void note_end(const ContractId& contract, std::string detail);
  void note_moved(const ContractId& contract);
  void note(const ContractId& contract, Note note);
  void wake();

  const MarketConfig config_;
  Clock& clock_;
  const RunFiles runs_;

  // Set once in open().
  std::optional<FolderLock> lock_;
  MarketId id_;
  PublicKey treasury_;
  std::string genesis_leaf_;
  std::unique_ptr<ledger::Sequencer> ledger_;
  std::unique_ptr<Entrance> entrance_;  // once the market serves, nothing is appended but by it
  std::unique_ptr<BlobStore> blobs_;
  std::unique_ptr<ledger::WitnessFeeder> witnesses_;
  std::unique_ptr<KeeperLink> keeper_;

  std::mutex follow_mutex_;
  std::optional<contracts::Follower> follower_;  // Guarded by follow_mutex_.
  std::optional<BlobUses> uses_;                 // Guarded by follow_mutex_. Of what it follows.
  std::set<ContractId> models_erased_;           // Guarded by follow_mutex_. Since the start.

  // Who has a file of weights looked at: one at a time, and two wait, or the server's threads
  // would.
  Turns weights_turns_{Turns::Queues{{{2, std::chrono::seconds(10)},
                                      {2, std::chrono::seconds(10)},
                                      {2, std::chrono::seconds(10)}}}};

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;                       // Guarded by mutex_.
  uint64_t news_ = 0;                           // Guarded by mutex_.
  std::optional<ContractId> training_;          // Guarded by mutex_.
  trainer::EnclaveProcess* process_ = nullptr;  // Guarded by mutex_. Owned by run_job().
  std::map<ContractId, Note> notes_;            // Guarded by mutex_.
  bool disk_full_ = false;                      // Owned by the decide thread.
  Patience deciding_;                           // Owned by the decide thread.
  Rota decide_turns_;                           // Owned by the decide thread.
  Rota train_turns_;                            // Owned by the train thread.
  struct Course {
    std::chrono::steady_clock::time_point begun = std::chrono::steady_clock::now();
    int64_t furthest = 0;  // step that was reported, by whichever of its trainers
  };
  std::map<ContractId, Course> courses_;  // Owned by the train thread. Of runs under way.
  Patience taking_up_;                    // Owned by the train thread.
  Patience starting_;                     // Owned by the train thread.
  Patience without_room_;                 // Owned by the train thread.

  std::thread decider_;
  std::thread trainer_;
};

}  // namespace souk::market
