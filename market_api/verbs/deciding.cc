// What the market does by itself, but for training. Each pass reads the recorded state and does the
// one next thing it asks for, so a restart goes on where the ledger stands:
//   submitted            -> ask the keeper to decide, in turns (verbs/order.h)
//   running, nobody runs -> the trainer died and left nothing to go on from: abort, the money
//   returns a deadline passed    -> a tick, so that the state machine sees the time
#include <cstdio>

#include "contracts/lifecycle/void_words.h"
#include "market_api/verbs/market.h"
#include "market_api/verbs/order.h"
#include "market_api/verbs/steps.h"

namespace souk::market {
namespace {

using contracts::Contract;
using contracts::Phase;
using trainer::Frame;
using trainer::Kind;

constexpr std::chrono::minutes kSweepEvery{10};
// How often the keeper is asked at once for a step that others overtake; then after a while.
constexpr int kAskedAtOnce = 8;
constexpr TimeMs kPlacedWithin = 1000;  // an entry that finds nobody before it
constexpr int kBadLuck = 3;  // failures in a row that may still have been somebody else's fault

bool is_open(Phase phase) {
  return phase == Phase::kSubmitted || phase == Phase::kEscrowed || phase == Phase::kRunning ||
         phase == Phase::kStopping;
}

// Of what the ledger says alone.
std::string detail_of(const Contract& contract) {
  switch (contract.phase) {
    case Phase::kSubmitted:
      return "";
    case Phase::kEscrowed:
      return "waits for a trainer";
    case Phase::kRunning:
      return "started";
    case Phase::kStopping:
      return "stops: a provider revoked its policy or erased its dataset";
    case Phase::kRefused:
      return "refused: " + contract.ended_because;
    case Phase::kRefunded:
      return "refunded: " + contracts::words_of_void(contract.ended_because);
    case Phase::kExpired:
      return "expired: its deadline passed before a decision";
    case Phase::kSettled:
      return "settled";
  }
  return "";
}

Json list_of(const std::vector<DatasetId>& datasets) {
  Json::Array out;
  for (const auto& id : datasets) out.push_back(Json(id));
  return out;
}

}  // namespace

// Says what whoever looks after the disk must know. False when the ledger has failed for good.
bool Market::watch_ledger() {
  auto health = ledger_->health();
  bool full = !health && health.error().expected().starts_with("disk full");
  if (full && !disk_full_) {
    std::fprintf(stderr, "soukd: %s; reading goes on\n", health.error().expected().c_str());
  }
  if (!full && health && disk_full_) {
    std::fputs("soukd: the disk has room again, and the ledger takes entries\n", stderr);
  }
  disk_full_ = full;
  if (ledger_failure()) return true;
  if (config_.on_ledger_failed) config_.on_ledger_failed();
  return false;
}

Status Market::ledger_failure() {
  auto health = ledger_->health();
  if (health || health.error().code() == Code::kTryAgain) return Done{};
  return Error(Code::kTryAgain,
               "the ledger's last write has no known outcome; ended, so that the next start finds "
               "out what is on the disk");
}

void Market::decide_loop() {
  uint64_t seen = 0;
  auto swept = std::chrono::steady_clock::now();
  while (true) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::milliseconds(500),
                        [&] { return stopping_ || news_ != seen; });
      if (stopping_) return;
      seen = news_;
    }
    if (!watch_ledger()) return;
    if (std::chrono::steady_clock::now() - swept > kSweepEvery) {
      swept = std::chrono::steady_clock::now();
      sweep_blobs();
    }
    if (witnesses_) {
      // Caught: no keeper on this ledger any more. What is recorded can still be read.
      auto caught = witnesses_->halted();
      if (!caught) {
        std::fprintf(stderr, "soukd: %s\n", caught.error().expected().c_str());
        keeper_->stop();
        return;
      }
      witnesses_->kick();
    }
    if (decide_once()) wake();
  }
}

// One step that the recorded state asks for, tried; false when there is none to do now. After each
// the state is looked at anew: what comes meanwhile may be next.
bool Market::decide_once() {
  contracts::MarketState state = this->state();
  std::optional<ContractId> training;
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return false;
    training = training_;
  }
  // One that cannot go on holds up no other, and does not fill the ledger with attempts. Where
  // each costs a keeper, it costs no job under way: a trainer heeds no start by a former keeper.
  auto may_try = [&](const Contract& contract) {
    if (!deciding_.due(contract.id)) return false;
    return !training || deciding_.failures(contract.id) < kBadLuck;
  };
  TimeMs now = clock_.now();
  auto too_late = [&](const Contract& contract) {
    return is_open(contract.phase) && contract.deadline <= now;
  };
  // What ends first: it asks little of the keeper.
  for (const auto& [id, contract] : state.contracts()) {
    bool abandoned =
        (contract.phase == Phase::kRunning || contract.phase == Phase::kStopping) && training != id;
    if (abandoned && contract.phase == Phase::kRunning && runs_.find(id)) abandoned = false;
    if (!too_late(contract) && !abandoned) continue;
    if (!may_try(contract)) continue;
    bool tick = too_late(contract);
    step(tick ? trainer::frame(Kind::kTick, Json::Object{}) : abort_of(id), contract,
         tick ? "end waits: " : "refund waits: ");
    return true;
  }
  for (const Contract* contract : to_decide(state, decide_turns_)) {
    if (too_late(*contract) || !may_try(*contract)) continue;
    decide_turns_.took(contract->consumer, state.size());
    step(trainer::frame(
             Kind::kDecide,
             Json::Object{{"contract", contract->id},
                          {"unavailable", list_of(unavailable(state, contract->submit.datasets))}}),
         *contract, "decision waits: ");
    return true;
  }
  return false;
}

void Market::step(const Frame& request, const Contract& contract, const char* waiting) {
  auto moved = record_step(request, contract);
  if (moved) {
    deciding_.succeeded(contract.id);
    return;
  }
  deciding_.failed(contract.id);
  note_waiting(contract, waiting + moved.error().expected());
}

// Why this entry would be void, were it the next one, by its place in time or a little later.
Result<std::optional<std::string>> Market::in_vain(const ledger::AuthenticEntry& entry) {
  TRY(follow());
  contracts::MarketState now = state();
  TimeMs next = std::max(clock_.now(), now.time());
  auto why = contracts::would_be_void(now, entry, next);
  return why ? why : contracts::would_be_void(std::move(now), entry, next + kPlacedWithin);
}

// The keeper's answer is recorded, and the contract has left its phase by it. What has come between
// the state that the keeper saw and the answer's place may have made it void: then it is not
// recorded, and the keeper is asked anew. Who keeps such an answer can only record it void.
Status Market::record_step(const Frame& request, const Contract& contract) {
  bool overtaken = false;
  auto alone = [&](ledger::AuthenticEntry entry) {
    return entrance_->append_alone(
        std::move(entry), [&](const ledger::AuthenticEntry& signed_entry) -> Status {
          auto why = TRY(in_vain(signed_entry));
          overtaken = why.has_value();
          if (!overtaken) return Done{};
          return Error(Code::kTryAgain, "others came first: " + contracts::words_of_void(*why));
        });
  };
  auto recorded = keeper_->record(request, alone);
  for (int asked = 1; overtaken && asked < kAskedAtOnce; ++asked) {
    overtaken = false;
    recorded = keeper_->record(request, alone);
  }
  uint64_t seq = TRY(std::move(recorded));
  contracts::MarketState after = state();
  const Contract* now = after.contract(contract.id);
  bool moved = now && (now->phase != contract.phase ||
                       now->decision.has_value() != contract.decision.has_value());
  if (moved) {
    note_moved(contract.id);
    return Done{};
  }
  auto why = after.voids().find(seq);
  return Error(Code::kTryAgain, "entry " + std::to_string(seq) + " had no effect on it" +
                                    (why == after.voids().end() ? "" : ": " + why->second));
}

// ---- what a job's detail says ----------------------------------------------------------

// A note holds as long as the contract is as it was when it was made; from then on, and where there
// is none, the ledger tells.
JobProgress Market::progress(const ContractId& id) {
  Note note;
  {
    std::lock_guard lock(mutex_);
    if (auto it = notes_.find(id); it != notes_.end()) note = it->second;
  }
  if (note.last) return note.progress;
  std::lock_guard lock(follow_mutex_);
  const Contract* contract = follower_->state().contract(id);
  if (!contract) return note.progress;
  bool running = contract->phase == Phase::kStopping && note.phase == Phase::kRunning;
  if (note.phase != contract->phase && !running) note.progress.detail = detail_of(*contract);
  return note.progress;
}

void Market::note_waiting(const Contract& contract, std::string detail) {
  note(contract.id, {{0, 0, std::move(detail)}, contract.phase});
}

void Market::note_running(const ContractId& id, JobProgress progress) {
  note(id, {std::move(progress), Phase::kRunning});
}

// The last word on a run: it stands whatever becomes of the contract.
void Market::note_end(const ContractId& id, std::string detail) {
  JobProgress said = progress(id);
  said.detail = std::move(detail);
  note(id, {std::move(said), Phase::kRunning, true});
}

// What it waited for has come. The last word on a run stands.
void Market::note_moved(const ContractId& id) {
  std::lock_guard lock(mutex_);
  auto it = notes_.find(id);
  if (it != notes_.end() && !it->second.last && it->second.phase != Phase::kRunning)
    notes_.erase(it);
}

void Market::note(const ContractId& id, Note note) {
  std::lock_guard lock(mutex_);
  notes_[id] = std::move(note);
}

}  // namespace souk::market
