#include "market_api/verbs/keeper_link.h"

#include "market_api/verbs/feed.h"
#include "market_api/verbs/files.h"
#include "trainer/wire/pieces.h"

namespace souk::market {
namespace {

using trainer::Frame;
using trainer::Kind;

constexpr int kAnswerMs = 60'000;
// The keeper releases nothing on a view older than its lease of 60 s.
constexpr int64_t kWitnessedAgeMs = 20'000;
constexpr int64_t kWitnessWaitMs = 10'000;
// Erasures that come closer together share one new key: whoever publishes meanwhile has that long
// to wrap and to record, however fast a stranger erases.
constexpr auto kBetweenKeys = std::chrono::seconds(2);

}  // namespace

Result<Frame> KeeperLink::talk(const Frame& request) {
  auto answer = process_->ask(request, kAnswerMs);
  if (!answer) {
    process_.reset();
    return std::move(answer).take_error().within("keeper");
  }
  return answer;
}

// The state that the keeper has just sealed: all of it, or what was there before.
Status KeeperLink::keep_sealed(Fields& answer) {
  auto sealed = TRY(answer.base64("sealed"));
  auto file = TRY(NewFile::create(config_.sealed));
  TRY(file.write(sealed));
  int64_t pieces = 0;
  if (answer.has("pieces")) {
    pieces = TRY(answer.integer("pieces", 2, trainer::kMaxSealedPieces));
  }
  for (int64_t index = 0; index < pieces; ++index) {
    auto piece = TRY(talk(trainer::frame(Kind::kSealed, Json::Object{{"index", index}})));
    if (piece.kind != Kind::kBytes) {
      TRY(trainer::expect(piece, Kind::kBytes));
      return Error(Code::kBroken, "expected sealed state from the keeper");
    }
    TRY(file.write(trainer::framed_piece(piece.body)));
  }
  return file.keep();
}

// What is kept of it, for kBegin: in the message, or piece by piece before it and "".
Result<std::string> KeeperLink::restore_sealed() {
  if (!file_exists(config_.sealed)) return std::string();
  auto bytes =
      TRY(read_file(config_.sealed, trainer::kMaxSealedPieces * (trainer::kMaxInlineSealed + 4)));
  if (bytes.size() <= trainer::kMaxInlineSealed + 4) return to_base64(bytes);
  auto pieces = TRY(trainer::split_pieces(bytes));
  for (const auto& piece : pieces) {
    auto taken = TRY(talk(trainer::frame_of_bytes(piece)));
    TRY(trainer::expect(taken, Kind::kDone));
  }
  return std::string();
}

// Of everything committed by now; cosigned by a quorum just now, where there are witnesses.
Result<std::string> KeeperLink::checkpoint() const {
  if (!witnesses_) return ledger_.checkpoint();
  auto witnessed = TRY(witnesses_->wait_for(ledger_.size(), kWitnessedAgeMs, kWitnessWaitMs));
  return witnessed.note;
}

// Until the keeper is at the end, and has no new key to announce that is due.
Status KeeperLink::feed() {
  while (true) {
    TRY(feed_once());
    auto now = std::chrono::steady_clock::now();
    if (!wants_boot_ || now < next_key_) return Done{};
    auto boot = TRY(talk(trainer::frame(Kind::kBoot, Json::Object{})));
    TRY(keep(boot, appending_));
    next_key_ = now + kBetweenKeys;
  }
}

Status KeeperLink::feed_once() {
  std::string note = TRY(checkpoint());
  if (note == fed_note_) return Done{};
  auto fed =
      TRY(feed_ledger(ledger_, fed_, note, [&](const Frame& request) { return talk(request); }));
  auto fields = TRY(Fields::of(fed.body, "confirmed"));
  wants_boot_ = TRY(fields.boolean("boot"));
  fed_ = fed.size;
  fed_note_ = note;
  return keep_sealed(fields);
}

Result<uint64_t> KeeperLink::keep(const Frame& answer, const Append& append) {
  auto body = TRY(trainer::expect(answer, Kind::kEnvelope));
  auto fields = TRY(Fields::of(body, "envelope"));
  auto envelope = TRY(fields.base64("envelope"));
  // Sealed first: a keeper that forgot what it signed could sign another.
  TRY(keep_sealed(fields));
  auto signed_entry = TRY(ledger::SignedEntry::decode(envelope));
  auto entry = TRY(ledger::authenticate(std::move(signed_entry)));
  auto receipt = TRY(append(std::move(entry)));
  return receipt.seq;
}

void KeeperLink::stop() {
  auto turn = turns_.take(Rank::kLedger);
  if (turn) process_.reset();
}

Status KeeperLink::ensure() {
  auto caught = witnesses_ ? witnesses_->halted() : Status(Done{});
  if (!caught) {
    process_.reset();
    return caught;
  }
  if (process_ && process_->alive()) return feed();
  // A keeper that refuses its state or its ledger, or has not booted on it, is of no
  // use: drop it, say why, and begin anew next time.
  auto started = start();
  if (!started) process_.reset();
  return started;
}

Status KeeperLink::start() {
  fed_ = 0;
  fed_note_.clear();
  wants_boot_ = false;
  process_ = TRY(trainer::EnclaveProcess::start(config_.program, "keeper", config_.platform_key));
  auto sealed = TRY(restore_sealed());
  auto genesis = TRY(ledger_.leaf(0));
  auto ready = TRY(talk(trainer::frame(
      Kind::kBegin, Json::Object{{"genesis", to_base64(genesis)}, {"sealed", sealed}})));
  auto begun = trainer::expect(ready, Kind::kReady);
  if (!begun) {
    Error error = std::move(begun).take_error();
    // What it cannot open is not its state: another market's, another program's, or damaged.
    if (!file_exists(config_.sealed)) return error;
    bool foreign = error.code() == Code::kUnauthentic;
    return Error(foreign ? Code::kMalformed : error.code(), error.expected())
        .within(config_.sealed);
  }
  TRY(feed());
  auto boot = TRY(talk(trainer::frame(Kind::kBoot, Json::Object{})));
  TRY(keep(boot, appending_));
  return feed();
}

Result<Frame> KeeperLink::ask(const Frame& request, Rank rank) {
  auto turn = TRY(turns_.take(rank));
  TRY(ensure());
  return talk(request);
}

Result<uint64_t> KeeperLink::record(const Frame& request, const Append& append) {
  auto turn = TRY(turns_.take(Rank::kLedger));
  TRY(ensure());
  auto answer = TRY(talk(request));
  return keep(answer, append);
}

Result<uint64_t> KeeperLink::record(const Frame& request) {
  return record(request, appending_);
}

}  // namespace souk::market
