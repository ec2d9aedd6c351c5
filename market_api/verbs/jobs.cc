// What the market does by itself. Each pass reads the recorded state and does the
// one next thing it asks for, so a restart goes on where the ledger stands:
//   submitted            -> ask the keeper to decide
//   escrowed             -> start a trainer, train, record the result
//   running, nobody runs -> the trainer died with us: abort, the money returns
//   a deadline passed    -> a tick, so that the state machine sees the time
#include <algorithm>
#include <cstdio>

#include "ledger/proof/checkpoint.h"
#include "market_api/verbs/feed.h"
#include "market_api/verbs/market.h"
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
constexpr std::chrono::minutes kSweepEvery{10};
constexpr std::chrono::milliseconds kFirstRetry{200}, kLastRetry{5'000};
constexpr int kBadLuck = 3;  // failures in a row that may still have been somebody else's fault

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

Frame abort_of(const ContractId& contract, const char* reason = "trainer_died",
               const std::string& dataset = "") {
  Json::Object body{{"contract", contract}, {"reason", reason}};
  if (!dataset.empty()) body["dataset"] = dataset;
  return trainer::frame(Kind::kAbort, std::move(body));
}

// The file of its model, at most: parameters and running statistics, names, the specification.
uint64_t model_bytes(const contracts::TrainingSpec& spec) {
  constexpr uint64_t kBeside = uint64_t{512} << 10;
  auto shape = contracts::check_spec(spec);
  if (!shape) return kBeside;  // refused by the keeper
  uint64_t numbers = shape->parameters;
  for (size_t i = 0; i < spec.model.size(); ++i) {
    if (spec.model[i].op == contracts::Node::Op::kBatchNorm)
      numbers += 2 * uint64_t{shape->outputs[i + 1].channels};
  }
  return 4 * numbers + numbers / 1024 + kBeside;  // age adds 16 bytes to 64 KiB
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
    while (decide_once()) wake();
  }
}

// One recorded step, or false when there is none to do now.
bool Market::decide_once() {
  contracts::MarketState state = this->state();
  std::optional<ContractId> training;
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return false;
    training = training_;
  }
  for (const auto& [id, contract] : state.contracts()) {
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return false;
    }
    bool open = contract.phase == Phase::kSubmitted || contract.phase == Phase::kEscrowed ||
                contract.phase == Phase::kRunning || contract.phase == Phase::kStopping;
    bool undecided = contract.phase == Phase::kExpired && !contract.decision;
    std::optional<Frame> next;
    const char* waiting = "";
    if (open && contract.deadline <= clock_.now()) {
      next = trainer::frame(Kind::kTick, Json::Object{});
      waiting = "end waits: ";
    } else if (contract.phase == Phase::kSubmitted || undecided) {
      next = trainer::frame(
          Kind::kDecide,
          Json::Object{{"contract", id},
                       {"unavailable", list_of(unavailable(state, contract.submit.datasets))}});
      waiting = "decision waits: ";
    } else if ((contract.phase == Phase::kRunning || contract.phase == Phase::kStopping) &&
               training != id) {
      next = abort_of(id);
      waiting = "refund waits: ";
    }
    // One that cannot go on holds up no other, and does not fill the ledger with attempts. Where
    // each costs a keeper, it costs no job under way: a trainer heeds no start by a former keeper.
    if (!next || !deciding_.due(id)) continue;
    if (training && deciding_.failures(id) >= kBadLuck) continue;
    auto moved = record_step(*next, contract);
    if (moved) {
      deciding_.succeeded(id);
      return true;
    }
    deciding_.failed(id);
    note_progress(id, {0, 0, waiting + moved.error().expected()});
  }
  return false;
}

// The keeper's answer is recorded, and the contract has left its phase by it.
Status Market::record_step(const Frame& request, const Contract& contract) {
  uint64_t seq = TRY(keeper_->record(request));
  contracts::MarketState after = state();
  const Contract* now = after.contract(contract.id);
  bool moved = now && (now->phase != contract.phase ||
                       now->decision.has_value() != contract.decision.has_value());
  if (moved) return Done{};
  auto why = after.voids().find(seq);
  return Error(Code::kTryAgain, "entry " + std::to_string(seq) + " had no effect on it" +
                                    (why == after.voids().end() ? "" : ": " + why->second));
}

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
  const Contract* next = nullptr;  // first come, first served
  for (const auto& [id, contract] : state.contracts()) {
    if (contract.phase != Phase::kEscrowed || !starting_.due(id) || !without_room_.due(id))
      continue;
    if (!next || contract.decision_seq < next->decision_seq) next = &contract;
  }
  if (!next) return false;
  ContractId id = next->id;
  // Nothing was opened: the money returns, and the reservation is free again.
  if (auto gone = unavailable(state, next->submit.datasets); !gone.empty()) {
    auto aborted = record_step(abort_of(id, "ciphertext_missing", to_hex(gone.front())), *next);
    if (!aborted) starting_.failed(id);
    return true;
  }
  if (starting_.failures(id) >= kMaxStarts) {  // given up: the money returns
    auto aborted = record_step(abort_of(id), *next);
    if (!aborted) starting_.failed(id);
    return true;
  }
  // Nothing is asked for, and no epsilon spent, before there is room for what comes of it; from
  // here to the end of the run uploads leave that room alone.
  auto room = blobs_->hold(model_bytes(next->submit.spec));
  if (!room) {
    without_room_.failed(id);
    note_progress(id, {0, 0, "start waits: " + room.error().expected()});
    return true;
  }
  without_room_.succeeded(id);
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return false;
    training_ = id;
  }
  auto done = run_job(*next);
  {
    std::lock_guard lock(mutex_);
    training_.reset();
  }
  if (done) {
    starting_.succeeded(id);
    return true;
  }
  // Past its start decide_once() aborts it; before, it is tried again.
  starting_.failed(id);
  note_progress(id, {0, 0, "job ended: " + done.error().expected()});
  return true;
}

// One trainer process, one job. A crash before job.start is recorded leaves the
// contract escrowed and it is tried again; after it, the job is aborted and refunded.
Status Market::run_job(const Contract& contract) {
  auto process = TRY(trainer::EnclaveProcess::start(config_.enclave_program, "trainer",
                                                    config_.directory + "/platform.key"));
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return Error(Code::kTryAgain, "the market is closing");
    process_ = process.get();
  }
  auto done = converse(*process, contract);
  std::lock_guard lock(mutex_);
  process_ = nullptr;
  return done;
}

// The ledger as it stands at a checkpoint of the run, as far as witnesses have cosigned it
// where there are any. What the trainer signed, if it is told to stop by it.
Result<std::optional<Json>> Market::show_more(trainer::EnclaveProcess& process, uint64_t& size,
                                              std::string& note) {
  std::string newest = witnesses_ ? witnesses_->newest().note : ledger_->checkpoint();
  if (!newest.empty()) {
    auto checkpoint = TRY(ledger::open_checkpoint(newest, ledger_->log_key()));
    if (checkpoint.size >= size) note = newest;
  }
  Fed fed = TRY(feed_ledger(*ledger_, size, note, [&](const Frame& request) {
    return process.ask(request, kTrainerAnswerMs);
  }));
  size = fed.size;
  if (!fed.stopped) return std::optional<Json>();
  return std::optional<Json>(std::move(fed.confirmed));
}

// A record that the trainer has signed: its result, or how far it came.
Status Market::append_from_trainer(const Json& body) {
  auto fields = TRY(Fields::of(body, "trainer"));
  auto envelope = TRY(fields.base64("envelope"));
  TRY(fields.done());
  auto signed_entry = TRY(ledger::SignedEntry::decode(envelope));
  auto entry = TRY(ledger::authenticate(std::move(signed_entry)));
  TRY(ledger_->append(std::move(entry)));
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
    note_progress(contract.id, said);
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

Status Market::converse(trainer::EnclaveProcess& process, const Contract& contract) {
  const ContractId& id = contract.id;
  auto ask = [&](const Frame& request, Kind answer_kind) -> Result<Json> {
    auto answer = TRY(process.ask(request, kTrainerAnswerMs));
    return trainer::expect(answer, answer_kind);
  };

  // Without its weights a job could only be aborted once it is started.
  if (contract.submit.spec.initial && !blobs_->has(*contract.submit.spec.initial))
    return Error(Code::kNotFound, "expected the contract's initial weights");

  auto challenge = TRY(keeper_->ask(about(Kind::kChallenge, id)));
  auto nonce_body = TRY(trainer::expect(challenge, Kind::kNonce));
  auto nonce_fields = TRY(Fields::of(nonce_body, "nonce"));
  auto nonce = TRY(nonce_fields.text("nonce", 64));
  auto evidence_body = TRY(ask(
      trainer::frame(Kind::kPrepare,
                     Json::Object{{"genesis", genesis_leaf_}, {"contract", id}, {"nonce", nonce}}),
      Kind::kEvidence));
  const Json* evidence = evidence_body.find("evidence");
  if (!evidence) return Error(Code::kMalformed, "expected evidence from the trainer");
  TRY(keeper_->record(
      trainer::frame(Kind::kStart, Json::Object{{"contract", id}, {"evidence", *evidence}})));
  note_progress(id, {0, 0, "started"});

  // The trainer reads the whole ledger, as the keeper does, and finds its own start in it.
  std::string note = ledger_->checkpoint();
  if (witnesses_) {
    auto witnessed = TRY(witnesses_->wait_for(ledger_->size(), -1, kWitnessWaitMs));
    note = witnessed.note;
  }
  Fed shown = TRY(feed_ledger(*ledger_, 0, note, [&](const Frame& request) {
    return process.ask(request, kTrainerAnswerMs);
  }));

  if (shown.stopped) {
    TRY(keep_trying(contract, [&] { return append_from_trainer(shown.confirmed); }));
    note_progress(id, {0, 0, "stopped before its first step: withdrawn by a provider"});
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
    note_progress(id, {0, 0,
                       "ended: the ciphertext of dataset " + to_hex(dataset_id) +
                           " is not here as it was offered"});
    return Done{};
  }

  TRY(process.channel().send(trainer::frame(Kind::kTrain, Json::Object{})));
  Bytes model;
  while (true) {
    auto message = TRY(process.channel().receive(1000 * 3600));
    if (message.kind == Kind::kBytes) {
      append(model, message.body);
      continue;
    }
    if (message.kind == Kind::kProgress) {
      auto body = TRY(trainer::expect(message, Kind::kProgress));
      auto fields = TRY(Fields::of(body, "progress"));
      JobProgress progress;
      progress.step = TRY(fields.integer("step"));
      progress.epsilon_micro = TRY(fields.integer("epsilon_micro"));
      progress.detail = "training";
      note_progress(id, progress);
      contracts::MarketState current = state();
      const Contract* recorded = current.contract(id);
      bool on =
          recorded && (recorded->phase == Phase::kRunning || recorded->phase == Phase::kStopping);
      if (!on || recorded->deadline <= clock_.now()) {
        return Error(Code::kRefused, "the job ended before its result");
      }
      {
        std::lock_guard lock(mutex_);
        if (stopping_) return Error(Code::kTryAgain, "the market is closing");
      }
      std::optional<Json> stop = TRY(show_more(process, shown.size, note));
      if (!stop) continue;
      TRY(keep_trying(contract, [&] { return append_from_trainer(*stop); }));
      note_progress(id, {progress.step, progress.epsilon_micro,
                         "stopped: a provider revoked its policy or erased its dataset"});
      return Done{};
    }
    auto body = TRY(trainer::expect(message, Kind::kResult));
    // The blob, then the entry: a crash between leaves an unused blob and a refund.
    auto keep = [&]() -> Status {
      TRY(blobs_->put(model));
      return append_from_trainer(body);
    };
    TRY(keep_trying(contract, keep));
    auto last = progress(id);
    last.detail = "settled";
    note_progress(id, last);
    return Done{};
  }
}

}  // namespace souk::market
