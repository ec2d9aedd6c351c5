// What the market does by itself, with a trainer: each pass starts one for an escrowed contract,
// takes up what lost its own, and ends what must end. verbs/conversing.cc talks with it,
// verbs/deciding.cc does the rest.
#include <algorithm>

#include "market_api/verbs/market.h"
#include "market_api/verbs/order.h"
#include "market_api/verbs/run.h"
#include "market_api/verbs/steps.h"
#include "trainer/host/process.h"

namespace souk::market {
namespace {

using contracts::Contract;
using contracts::Phase;

constexpr int kMaxStarts = 3;
// Trainers that a run may lose one after another without coming further.
constexpr int kMaxDeaths = 8;
// How long a trainer has to sign how far it came, once its run is withdrawn: between two steps, or
// after the dataset that it reads.
constexpr std::chrono::milliseconds kGrace{2'000}, kGraceBeforeSteps{10'000};

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

}  // namespace souk::market
