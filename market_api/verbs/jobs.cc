// What the market does by itself. Each pass reads the recorded state and does the
// one next thing it asks for, so a restart goes on where the ledger stands:
//   submitted            -> ask the keeper to decide
//   escrowed             -> start a trainer, train, record the result
//   running, nobody runs -> the trainer died with us: abort, the money returns
//   a deadline passed    -> a tick, so that the state machine sees the time
#include <algorithm>

#include "ledger/proof/checkpoint.h"
#include "market_api/verbs/market.h"
#include "trainer/host/process.h"

namespace souk::market {
namespace {

using contracts::Contract;
using contracts::Phase;
using trainer::Frame;
using trainer::Kind;

constexpr int kTrainerAnswerMs = 120'000;
constexpr int kMaxStarts = 3;

Frame about(Kind kind, const ContractId& contract) {
  return trainer::frame(kind, Json::Object{{"contract", contract}});
}

}  // namespace

void Market::decide_loop() {
  uint64_t seen = 0;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::milliseconds(500),
                        [&] { return stopping_ || news_ != seen; });
      if (stopping_) return;
      seen = news_;
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
    bool open = contract.phase == Phase::kSubmitted || contract.phase == Phase::kEscrowed ||
                contract.phase == Phase::kRunning;
    if (open && contract.deadline <= clock_.now()) {
      if (keeper_->record(trainer::frame(Kind::kTick, Json::Object{}))) return true;
      continue;
    }
    if (contract.phase == Phase::kSubmitted) {
      auto done = keeper_->record(about(Kind::kDecide, id));
      if (done) return true;
      note_progress(id, {0, 0, "decision waits: " + done.error().expected()});
      continue;  // one that cannot be decided holds up no other
    }
    if (contract.phase == Phase::kRunning && training != id) {
      auto done = keeper_->record(
          trainer::frame(Kind::kAbort, Json::Object{{"contract", id}, {"reason", "trainer_died"}}));
      if (done) return true;
      note_progress(id, {0, 0, "refund waits: " + done.error().expected()});
    }
  }
  return false;
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
    if (contract.phase != Phase::kEscrowed || failures_[id] >= kMaxStarts) continue;
    if (!next || contract.decision_seq < next->decision_seq) next = &contract;
  }
  if (!next) return false;
  ContractId id = next->id;
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
  if (done) return true;
  note_progress(id, {0, 0, "job ended: " + done.error().expected()});
  contracts::MarketState after = this->state();
  const Contract* contract = after.contract(id);
  bool started = contract && contract->phase == Phase::kRunning;
  bool given_up = contract && contract->phase == Phase::kEscrowed && ++failures_[id] >= kMaxStarts;
  if (started || given_up) {
    auto aborted = keeper_->record(
        trainer::frame(Kind::kAbort, Json::Object{{"contract", id}, {"reason", "trainer_died"}}));
    (void)aborted;  // decide_once() tries again
  }
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

Status Market::converse(trainer::EnclaveProcess& process, const Contract& contract) {
  const ContractId& id = contract.id;
  auto ask = [&](const Frame& request, Kind answer_kind) -> Result<Json> {
    auto answer = TRY(process.ask(request, kTrainerAnswerMs));
    return trainer::expect(answer, answer_kind);
  };

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
  auto checkpoint = TRY(ledger::open_checkpoint(note, ledger_->log_key()));
  for (uint64_t seq = 0; seq < checkpoint.size;) {
    Json::Array piece;
    size_t bytes = 0;
    while (seq < checkpoint.size && bytes < (1 << 20)) {
      auto leaf = TRY(ledger_->leaf(seq));
      bytes += leaf.size();
      piece.push_back(to_base64(leaf));
      ++seq;
    }
    TRY(ask(trainer::frame(Kind::kLeaves, Json::Object{{"leaves", std::move(piece)}}),
            Kind::kDone));
  }
  TRY(ask(trainer::frame(Kind::kConfirm, Json::Object{{"checkpoint", note}}), Kind::kConfirmed));

  contracts::MarketState now = state();
  for (const auto& dataset_id : contract.submit.datasets) {
    const auto* dataset = now.dataset(dataset_id);
    if (!dataset) return Error(Code::kNotFound, "expected the dataset on the ledger");
    TRY(process.channel().send(
        trainer::frame(Kind::kDataset, Json::Object{{"dataset", dataset_id}})));
    auto size = TRY(blobs_->size(dataset->manifest.ciphertext));
    for (uint64_t at = 0; at < size; at += trainer::kPieceBytes) {
      auto piece = TRY(blobs_->read(dataset->manifest.ciphertext, at,
                                    std::min<uint64_t>(trainer::kPieceBytes, size - at)));
      TRY(process.channel().send(trainer::frame_of_bytes(piece)));
    }
    auto answer = TRY(process.ask(trainer::frame_of_bytes({}), kTrainerAnswerMs));
    TRY(trainer::expect(answer, Kind::kDone));
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
      if (!recorded || recorded->phase != Phase::kRunning || recorded->deadline <= clock_.now()) {
        return Error(Code::kRefused, "the job ended before its result");
      }
      std::lock_guard lock(mutex_);
      if (stopping_) return Error(Code::kTryAgain, "the market is closing");
      continue;
    }
    auto body = TRY(trainer::expect(message, Kind::kResult));
    auto fields = TRY(Fields::of(body, "result"));
    auto envelope = TRY(fields.base64("envelope"));
    // The blob, then the entry: a crash between leaves an unused blob and a refund.
    TRY(blobs_->put(model));
    auto signed_entry = TRY(ledger::SignedEntry::decode(envelope));
    auto entry = TRY(ledger::authenticate(std::move(signed_entry)));
    TRY(ledger_->append(std::move(entry)));
    auto last = progress(id);
    last.detail = "settled";
    note_progress(id, last);
    return Done{};
  }
}

}  // namespace souk::market
