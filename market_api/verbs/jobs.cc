// What the market does by itself, with a trainer: each pass starts one for an escrowed contract,
// and records what becomes of it. verbs/deciding.cc does the rest.
#include <algorithm>
#include <atomic>

#include "ledger/proof/checkpoint.h"
#include "market_api/verbs/feed.h"
#include "market_api/verbs/market.h"
#include "market_api/verbs/order.h"
#include "market_api/verbs/steps.h"
#include "market_api/verbs/witnesses.h"
#include "trainer/host/process.h"

namespace souk::market {
namespace {

using contracts::Contract;
using contracts::Phase;
using trainer::Frame;
using trainer::Kind;

constexpr int kTrainerAnswerMs = 120'000;
constexpr int kMaxStarts = 3;
// Trainers that a run may lose one after another without coming further.
constexpr int kMaxDeaths = 8;
constexpr int kLookMs = 200;  // how often it is looked whether a run goes on
constexpr std::chrono::milliseconds kFirstRetry{200}, kLastRetry{5'000};
// How long a trainer has to sign how far it came, once its run is withdrawn: between two steps, or
// after the dataset that it reads.
constexpr std::chrono::milliseconds kGrace{2'000}, kGraceBeforeSteps{10'000};

Status send_blob(trainer::EnclaveProcess& process, const BlobStore& blobs, const Digest& blob,
                 uint64_t size) {
  for (uint64_t at = 0; at < size; at += trainer::kPieceBytes) {
    auto piece = TRY(blobs.read(blob, at, std::min<uint64_t>(trainer::kPieceBytes, size - at)));
    TRY(process.channel().send(trainer::frame_of_bytes(piece)));
  }
  return Done{};
}

Frame about(Kind kind, const ContractId& contract) {
  return trainer::frame(kind, Json::Object{{"contract", contract}});
}

// The file of its model, at most: parameters and running statistics, names, the specification.
uint64_t model_bytes(const contracts::TrainingSpec& spec) {
  constexpr uint64_t kBeside = uint64_t{512} << 10;
  const uint64_t numbers = numbers_of(spec);
  return 4 * numbers + numbers / 1024 + kBeside;  // age adds 16 bytes to 64 KiB
}

// Asks again and again whether a trainer must end, in a thread of its own: whatever is said to that
// trainer or waited for from it then ends with it.
class Guard {
 public:
  using MustEnd = std::function<std::optional<std::string>()>;

  Guard(trainer::EnclaveProcess& process, MustEnd must_end)
      : process_(process), must_end_(std::move(must_end)), thread_([this] { watch(); }) {}
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;
  ~Guard() { dismiss(); }

  // The last of it. Why it ended the trainer, if it did.
  std::optional<std::string> dismiss() {
    {
      std::lock_guard lock(mutex_);
      dismissed_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
    return why_;
  }

 private:
  void watch() {
    std::unique_lock lock(mutex_);
    auto every = std::chrono::milliseconds(kLookMs);
    while (!changed_.wait_for(lock, every, [&] { return dismissed_; })) {
      lock.unlock();
      why_ = must_end_();
      if (why_) return process_.stop();
      lock.lock();
    }
  }

  trainer::EnclaveProcess& process_;
  const MustEnd must_end_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool dismissed_ = false;          // Guarded by mutex_.
  std::optional<std::string> why_;  // Owned by the thread until it is joined.
  std::thread thread_;
};

}  // namespace

struct Market::Run {
  using Steady = std::chrono::steady_clock;
  ContractId id;
  Steady::time_point begun;                          // its first process here
  std::optional<Steady::time_point> withdrawn = {};  // Owned by the guard.
  std::atomic<bool> trains = false;                  // it has all its data
};

void Market::train_loop() {
  uint64_t seen = 0;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::milliseconds(500),
                        [&] { return stopping_ || news_ != seen; });
      if (stopping_) return;
      seen = news_;
    }
    while (train_once()) wake();
  }
}

bool Market::train_once() {
  contracts::MarketState state = this->state();
  if (take_up(state)) return true;
  auto waiting = to_train(state, train_turns_);
  auto due = std::find_if(waiting.begin(), waiting.end(), [&](const Contract* contract) {
    return starting_.due(contract->id) && without_room_.due(contract->id);
  });
  if (due == waiting.end()) return false;
  const Contract* next = *due;
  ContractId id = next->id;
  // Nothing was opened: the money returns, and the reservation is free again.
  if (auto gone = unavailable(state, next->submit.datasets); !gone.empty()) {
    auto aborted = record_step(abort_of(id, "ciphertext_missing", to_hex(gone.front())), *next);
    if (!aborted) starting_.failed(id);
    return true;
  }
  if (starting_.failures(id) >= kMaxStarts) {  // given up: the money returns
    note_end(id, progress(id).detail);
    runs_.remove(id);
    auto aborted = record_step(abort_of(id), *next);
    if (!aborted) starting_.failed(id);
    return true;
  }
  // Nothing is asked for, and no epsilon spent, before there is room for what comes of it; from
  // here to the end of the run uploads leave that room alone.
  const uint64_t model = model_bytes(next->submit.spec);
  auto ample = blobs_->hold(model + run_file_bytes(next->submit.spec));
  const bool keeps = static_cast<bool>(ample);  // else the run is as long as its process
  auto room = keeps ? std::move(ample) : blobs_->hold(model);
  if (!room) {
    without_room_.failed(id);
    note_waiting(*next, "start waits: " + room.error().expected());
    return true;
  }
  without_room_.succeeded(id);
  train_turns_.took(next->consumer, state.size());
  return have_trainer(*next, keeps);
}

// A run that has lost its trainer goes on before another begins. One that loses them again and
// again without coming further is left to decide_once().
bool Market::take_up(const contracts::MarketState& state) {
  for (const auto& id : runs_.all()) {
    const Contract* contract = state.contract(id);
    if (!contract || contract->phase == Phase::kEscrowed) continue;
    if (contract->phase != Phase::kRunning) {  // it has ended without a trainer
      runs_.remove(id);
      continue;
    }
    if (!runs_.find(id)) continue;
    if (taking_up_.failures(id) >= kMaxDeaths) {
      note_end(id, progress(id).detail);
      runs_.remove(id);
      wake();
      continue;
    }
    if (!taking_up_.due(id) || !without_room_.due(id)) continue;
    auto room = blobs_->hold(model_bytes(contract->submit.spec));
    // What the host itself cannot do now is no trainer's death.
    auto ready = room ? witnessed_checkpoint() : Result<std::string>(room.error());
    if (!ready) {
      without_room_.failed(id);
      auto said = progress(id);
      said.detail = "goes on later: " + ready.error().expected();
      note_running(id, said);
      continue;
    }
    return have_trainer(*contract, true);
  }
  return false;
}

// The market's one trainer is this contract's. False when the market is closing.
bool Market::have_trainer(const Contract& contract, bool keeps) {
  const ContractId& id = contract.id;
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return false;
    training_ = id;
  }
  auto done = run_job(contract, keeps);
  if (!done) {
    std::string how = "job ended: " + done.error().expected();
    if (phase_of(id) == Phase::kEscrowed) {
      note_waiting(contract, how);
    } else if (runs_.find(id)) {
      auto said = progress(id);
      said.detail = "is taken up again: " + done.error().expected();
      note_running(id, said);
    } else {
      note_end(id, how);
    }
  }
  {
    std::lock_guard lock(mutex_);
    training_.reset();
  }
  if (done) {
    starting_.succeeded(id);
    taking_up_.succeeded(id);
    return true;
  }
  // Past its start it is taken up, or decide_once() aborts it; before, it is tried again.
  starting_.failed(id);
  return true;
}

// Where its trainer keeps what it would take to go on; "" where there is no room for that, and the
// run is as long as its process.
Result<std::string> Market::state_file(const Contract& contract, bool keeps) const {
  if (contract.phase == Phase::kRunning) {
    auto left = runs_.find(contract.id);
    if (!left) return Error(Code::kNotFound, "expected the state that the run left");
    return *left;
  }
  if (!keeps) return std::string();
  auto made = runs_.make(contract.id, run_file_bytes(contract.submit.spec));
  return made ? *made : std::string();
}

// One trainer process, one job. A crash before job.start is recorded leaves the contract escrowed
// and it is tried again; after it, the next process takes the run up where the last one left it.
// Deadlines, revocations and longest_run end the trainer, whatever it says or does not say, and
// then the run: it is aborted and refunded.
Status Market::run_job(const Contract& contract, bool keeps) {
  const ContractId& id = contract.id;
  auto state = TRY(state_file(contract, keeps));
  auto started = trainer::EnclaveProcess::start(config_.enclave_program, "trainer",
                                                config_.directory + "/platform.key", state);
  if (!started) without_room_.failed(id);
  auto process = TRY(std::move(started));
  without_room_.succeeded(id);
  if (contract.phase == Phase::kRunning) taking_up_.failed(id);  // until it has come further
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return Error(Code::kTryAgain, "the market is closing");
    process_ = process.get();
  }
  Run run{id, courses_[id].begun};
  Guard guard(*process, [&] { return must_end(run); });
  auto done = converse(*process, contract, run);
  auto why = guard.dismiss();
  bool closing = false;
  {
    std::lock_guard lock(mutex_);
    process_ = nullptr;
    closing = stopping_;
  }
  // What a trainer refuses it would refuse again; what is to end ends.
  const bool died = !done && !why && (closing || done.error().code() == Code::kTryAgain);
  const Phase phase = phase_of(id);
  if (!died || (phase != Phase::kRunning && phase != Phase::kEscrowed)) runs_.remove(id);
  if (phase != Phase::kRunning) courses_.erase(id);
  if (!done && why) return Error(Code::kRefused, *why);
  return done;
}

// Why the run may not go on; nullopt as long as it may.
std::optional<std::string> Market::must_end(Run& run) {
  auto followed = follow();
  (void)followed;  // the newest state that can be had
  std::lock_guard lock(follow_mutex_);
  const Contract* now = follower_->state().contract(run.id);
  if (!now || now->phase == Phase::kSettled) return std::nullopt;
  if (now->deadline <= clock_.now()) return "its deadline has passed";
  auto time = Run::Steady::now();
  if (now->phase == Phase::kStopping) {
    if (!run.withdrawn) run.withdrawn = time;
    if (time - *run.withdrawn < (run.trains ? kGrace : kGraceBeforeSteps)) return std::nullopt;
    return "withdrawn by a provider, and its trainer did not say in time how far it came";
  }
  if (now->phase == Phase::kEscrowed) return std::nullopt;
  if (now->phase != Phase::kRunning) return "the contract has ended";
  if (time - run.begun < config_.longest_run) return std::nullopt;
  if (!pays_less_than_another(follower_->state(), *now)) return std::nullopt;
  auto had = std::chrono::duration_cast<std::chrono::seconds>(time - run.begun).count();
  return "it gave way: it had the trainer for " + std::to_string(had / 60) + " min " +
         std::to_string(had % 60) +
         " s, and a contract of another consumer that has paid more was waiting";
}

Phase Market::phase_of(const ContractId& id) {
  auto followed = follow();
  (void)followed;  // likewise
  std::lock_guard lock(follow_mutex_);
  const Contract* contract = follower_->state().contract(id);
  return contract ? contract->phase : Phase::kSubmitted;
}

// The ledger as it stands at a checkpoint of the run, as far as witnesses have cosigned it
// where there are any. What the trainer signed, if it is told to stop by it.
Result<std::optional<Json>> Market::show_more(trainer::EnclaveProcess& process,
                                              const ContractId& id, uint64_t& size,
                                              std::string& note) {
  std::string newest = witnesses_ ? witnesses_->newest().note : ledger_->checkpoint();
  if (!newest.empty()) {
    auto checkpoint = TRY(ledger::open_checkpoint(newest, ledger_->log_key()));
    if (checkpoint.size >= size) note = newest;
  }
  auto ask = [&](const Frame& request) -> Result<Frame> {
    TRY(process.channel().send(request));
    while (true) {
      auto answer = TRY(process.channel().receive(kTrainerAnswerMs));
      if (answer.kind != Kind::kProgress) return answer;
      TRY(note_report(id, answer));  // said before it read the request
    }
  };
  Fed fed = TRY(feed_ledger(*ledger_, size, note, ask));
  size = fed.size;
  if (fed.kind != Kind::kStopped) return std::optional<Json>();
  return std::optional<Json>(std::move(fed.body));
}

Status Market::note_report(const ContractId& id, const Frame& report) {
  auto body = TRY(trainer::expect(report, Kind::kProgress));
  auto fields = TRY(Fields::of(body, "progress"));
  JobProgress progress;
  progress.step = TRY(fields.integer("step"));
  progress.epsilon_micro = TRY(fields.integer("epsilon_micro"));
  progress.detail = "training";
  note_running(id, std::move(progress));
  return Done{};
}

// A record that the trainer has signed: its result, or how far it came.
Status Market::append_from_trainer(const Json& body) {
  auto fields = TRY(Fields::of(body, "trainer"));
  auto envelope = TRY(fields.base64("envelope"));
  TRY(fields.done());
  auto signed_entry = TRY(ledger::SignedEntry::decode(envelope));
  auto entry = TRY(ledger::authenticate(std::move(signed_entry)));
  TRY(entrance_->append(std::move(entry)));
  return Done{};
}

// What a trainer has given is in this process alone until it is on the disk: a full disk is waited
// out as long as the contract runs.
Status Market::keep_trying(const Contract& contract, const std::function<Status()>& attempt) {
  auto wait = kFirstRetry;
  while (true) {
    auto done = attempt();
    bool later =
        !done && (done.error().code() == Code::kTryAgain || done.error().code() == Code::kBroken);
    if (!later || contract.deadline <= clock_.now()) return done;
    auto said = progress(contract.id);
    said.detail = "its end waits: " + done.error().expected();
    note_running(contract.id, said);
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, wait, [&] { return stopping_; })) return done;
    wait = std::min(2 * wait, kLastRetry);
  }
}

// One dataset to the trainer. False where its ciphertext is not what was offered: the trainer has
// then signed that it began no step, and that is recorded.
Result<bool> Market::bring_dataset(trainer::EnclaveProcess& process, const Contract& contract,
                                   const DatasetId& id, const contracts::Manifest& manifest) {
  Json named = Json::Object{{"dataset", id}};
  auto size = blobs_->size(manifest.ciphertext);
  bool there = size && *size == static_cast<uint64_t>(manifest.size);
  if (there) {
    TRY(process.channel().send(trainer::frame(Kind::kDataset, named)));
    there = static_cast<bool>(send_blob(process, *blobs_, manifest.ciphertext, *size));
  }
  auto answer =
      TRY(process.ask(there ? trainer::frame_of_bytes({}) : trainer::frame(Kind::kMissing, named),
                      kTrainerAnswerMs));
  if (answer.kind != Kind::kStopped) {
    TRY(trainer::expect(answer, Kind::kDone));
    return true;
  }
  auto stopped = TRY(trainer::expect(answer, Kind::kStopped));
  TRY(keep_trying(contract, [&] { return append_from_trainer(stopped); }));
  return false;
}

// The newest checkpoint that a trainer would believe.
Result<std::string> Market::witnessed_checkpoint() const {
  if (!witnesses_) return ledger_->checkpoint();
  auto witnessed = TRY(witnesses_->wait_for(ledger_->size(), -1, kWitnessWaitMs));
  return witnessed.note;
}

// The keeper starts the job for this process, and that is recorded.
Status Market::start_anew(trainer::EnclaveProcess& process, const ContractId& id) {
  auto challenge = TRY(keeper_->ask(about(Kind::kChallenge, id)));
  auto nonce_body = TRY(trainer::expect(challenge, Kind::kNonce));
  auto nonce_fields = TRY(Fields::of(nonce_body, "nonce"));
  auto nonce = TRY(nonce_fields.text("nonce", 64));
  auto prepared = TRY(process.ask(
      trainer::frame(Kind::kPrepare,
                     Json::Object{{"genesis", genesis_leaf_}, {"contract", id}, {"nonce", nonce}}),
      kTrainerAnswerMs));
  auto evidence_body = TRY(trainer::expect(prepared, Kind::kEvidence));
  const Json* evidence = evidence_body.find("evidence");
  if (!evidence) return Error(Code::kMalformed, "expected evidence from the trainer");
  TRY(keeper_->record(
      trainer::frame(Kind::kStart, Json::Object{{"contract", id}, {"evidence", *evidence}})));
  note_running(id, {0, 0, "started"});
  return Done{};
}

Status Market::converse(trainer::EnclaveProcess& process, const Contract& contract, Run& run) {
  const ContractId& id = contract.id;
  auto ask = [&](const Frame& request, Kind answer_kind) -> Result<Json> {
    auto answer = TRY(process.ask(request, kTrainerAnswerMs));
    return trainer::expect(answer, answer_kind);
  };

  // Without its weights a job could only be aborted once it is started.
  if (contract.submit.spec.initial && !blobs_->has(*contract.submit.spec.initial))
    return Error(Code::kNotFound, "expected the contract's initial weights");

  const bool taken_up = contract.phase == Phase::kRunning;
  if (taken_up) {
    TRY(ask(
        trainer::frame(Kind::kTakeUp, Json::Object{{"genesis", genesis_leaf_}, {"contract", id}}),
        Kind::kEvidence));
    auto said = progress(id);
    if (contract.resume) said.step = std::max<int64_t>(said.step, contract.resume->steps);
    said.detail = "taken up again";
    note_running(id, said);
  } else {
    TRY(start_anew(process, id));
  }

  // The trainer reads the whole ledger, as the keeper does, and finds its own start in it.
  auto show = [&](const Frame& request) { return process.ask(request, kTrainerAnswerMs); };
  std::string note = TRY(witnessed_checkpoint());
  Fed shown = TRY(feed_ledger(*ledger_, 0, note, show));
  if (shown.kind == Kind::kResumed) {
    TRY(runs_.sync(id));  // no ledger after a power failure is ahead of its run
    TRY(keep_trying(contract, [&] { return append_from_trainer(shown.body); }));
    note = TRY(witnessed_checkpoint());
    shown = TRY(feed_ledger(*ledger_, shown.size, note, show));
  }

  if (shown.kind == Kind::kStopped) {
    TRY(keep_trying(contract, [&] { return append_from_trainer(shown.body); }));
    note_end(id, "stopped before its first step: withdrawn by a provider");
    return Done{};
  }
  if (contract.submit.spec.initial) {
    const Digest& blob = *contract.submit.spec.initial;
    TRY(process.channel().send(trainer::frame(Kind::kInitial, Json::Object{})));
    auto size = TRY(blobs_->size(blob));
    TRY(send_blob(process, *blobs_, blob, size));
    auto taken = TRY(process.ask(trainer::frame_of_bytes({}), kTrainerAnswerMs));
    TRY(trainer::expect(taken, Kind::kDone));
  }
  contracts::MarketState now = state();
  for (const auto& dataset_id : contract.submit.datasets) {
    const auto* dataset = now.dataset(dataset_id);
    if (!dataset) return Error(Code::kNotFound, "expected the dataset on the ledger");
    bool taken = TRY(bring_dataset(process, contract, dataset_id, dataset->manifest));
    if (taken) continue;
    note_end(id, "ended: the ciphertext of dataset " + to_hex(dataset_id) +
                     " is not here as it was offered");
    return Done{};
  }

  TRY(process.channel().send(trainer::frame(Kind::kTrain, Json::Object{})));
  run.trains = true;
  Bytes model;
  while (true) {
    std::optional<Json> stop;
    if (!process.channel().readable(kLookMs)) {
      // A revocation is shown at once, whenever the next report is due.
      if (phase_of(id) == Phase::kStopping) stop = TRY(show_more(process, id, shown.size, note));
    } else {
      auto message = TRY(process.channel().receive(kTrainerAnswerMs));
      if (message.kind == Kind::kBytes) {
        append(model, message.body);
        continue;
      }
      if (message.kind != Kind::kProgress) {
        auto body = TRY(trainer::expect(message, Kind::kResult));
        return keep_result(contract, model, body);
      }
      Phase phase = phase_of(id);
      if (phase != Phase::kRunning && phase != Phase::kStopping)
        return Error(Code::kRefused, "the job ended before its result");
      TRY(note_report(id, message));
      // What a former trainer had reported is no progress.
      if (auto& course = courses_[id]; progress(id).step > course.furthest) {
        course.furthest = progress(id).step;
        taking_up_.succeeded(id);
      }
      stop = TRY(show_more(process, id, shown.size, note));
    }
    if (!stop) continue;
    TRY(keep_trying(contract, [&] { return append_from_trainer(*stop); }));
    note_end(id, "stopped: a provider revoked its policy or erased its dataset");
    return Done{};
  }
}

// The blob, then the entry: a crash between leaves an unused blob and a refund.
Status Market::keep_result(const Contract& contract, ByteView model, const Json& body) {
  auto keep = [&]() -> Status {
    TRY(blobs_->put(model));
    return append_from_trainer(body);
  };
  TRY(keep_trying(contract, keep));
  if (phase_of(contract.id) != Phase::kSettled)
    note_end(contract.id, "its result came after its end");
  return Done{};
}

}  // namespace souk::market
