// The host's side of the talk with one trainer, from its start to its result or its end.
#include <algorithm>

#include "ledger/proof/checkpoint.h"
#include "market_api/verbs/feed.h"
#include "market_api/verbs/run.h"
#include "market_api/verbs/witnesses.h"
#include "trainer/host/process.h"

namespace souk::market {
namespace {

using contracts::Contract;
using contracts::Phase;
using trainer::Frame;
using trainer::Kind;

constexpr int kTrainerAnswerMs = 120'000;
constexpr std::chrono::milliseconds kFirstRetry{200}, kLastRetry{5'000};

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

}  // namespace

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
