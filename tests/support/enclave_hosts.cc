#include "tests/support/enclave_hosts.h"

#include <signal.h>
#include <sys/socket.h>

#include "tests/support/must.h"
#include "trainer/wire/pieces.h"

namespace souk::flows {

using trainer::Frame;
using trainer::Kind;

namespace {

constexpr int kPatienceMs = 60'000;

std::array<int, 2> two_ends() {
  signal(SIGPIPE, SIG_IGN);
  std::array<int, 2> ends{};
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
  return ends;
}

}  // namespace

std::string kind_and_body(const Frame& frame) {
  std::string out = "kind " + std::to_string(static_cast<int>(frame.kind));
  if (frame.kind != Kind::kBytes) out += " " + to_text(frame.body);
  return out;
}

std::optional<Code> refused(const Frame& frame) {
  if (frame.kind != Kind::kRefused) return std::nullopt;
  auto body = trainer::expect(frame, Kind::kDone);
  CHECK(!body);
  return body.error().code();
}

std::string refusal_message(const Frame& frame) {
  CHECK(frame.kind == Kind::kRefused);
  auto body = trainer::expect(frame, Kind::kDone);
  return body.error().expected();
}

Result<ledger::Envelope> envelope_in(const Frame& frame) {
  const bool of_trainer =
      frame.kind == Kind::kResult || frame.kind == Kind::kStopped || frame.kind == Kind::kResumed;
  Kind kind = of_trainer ? frame.kind : Kind::kEnvelope;
  auto body = TRY(trainer::expect(frame, kind));
  auto fields = TRY(Fields::of(body, "envelope"));
  auto bytes = TRY(fields.base64("envelope"));
  auto json = TRY(parse_canonical(as_text(bytes)));
  return ledger::envelope_from_json(json);
}

Bytes envelope_bytes(const ledger::Envelope& envelope) {
  return to_bytes(canonical(ledger::to_json(envelope)));
}

ledger::AuthenticEntry authentic(const ledger::Envelope& envelope) {
  return must(ledger::authenticate(must(ledger::SignedEntry::decode(envelope_bytes(envelope)))));
}

Json leaves_body(std::span<const Bytes> leaves) {
  Json::Array list;
  for (const auto& leaf : leaves) list.push_back(to_base64(leaf));
  return Json::Object{{"leaves", std::move(list)}};
}

// ---- keeper -------------------------------------------------------------------

KeeperHost::KeeperHost(const trainer::EnclaveSelf& self, trainer::EvaluatePolicy evaluate,
                       trainer::LocalTime local_time)
    : keeper_(self, std::move(evaluate), std::move(local_time)) {}

// The keeper's word, through the bytes of the wire; its sealed state is kept.
Frame KeeperHost::noted(Frame answer) {
  answer = must(trainer::decode(trainer::encode(answer)));
  if (answer.kind == Kind::kConfirmed || answer.kind == Kind::kEnvelope) {
    auto body = must(parse_canonical(as_text(answer.body), trainer::kMaxFrame));
    sealed_ = must(from_base64(*body.find("sealed")->string()));
    const Json* pieces = body.find("pieces");
    for (int64_t index = 0; pieces && index < *pieces->integer(); ++index) {
      auto piece = keeper_.answer(trainer::frame(Kind::kSealed, Json::Object{{"index", index}}));
      CHECK(piece.kind == Kind::kBytes);
      append(sealed_, trainer::framed_piece(piece.body));
    }
  }
  return answer;
}

Frame KeeperHost::ask(Kind kind, const Json& body) {
  return noted(keeper_.answer(must(trainer::decode(trainer::encode(trainer::frame(kind, body))))));
}

Frame KeeperHost::about(Kind kind, const ContractId& contract) {
  return ask(kind, Json::Object{{"contract", contract}});
}

Frame KeeperHost::begin(ByteView genesis_leaf, ByteView sealed) {
  if (sealed.size() > trainer::kMaxInlineSealed) {
    for (const auto& piece : must(trainer::split_pieces(sealed))) {
      auto taken = keeper_.answer(trainer::frame_of_bytes(piece));
      if (taken.kind != Kind::kDone) return taken;
    }
    sealed = {};
  }
  return ask(Kind::kBegin,
             Json::Object{{"genesis", to_base64(genesis_leaf)}, {"sealed", to_base64(sealed)}});
}

Frame KeeperHost::leaves(std::span<const Bytes> leaves) {
  return ask(Kind::kLeaves, leaves_body(leaves));
}

Frame KeeperHost::confirm(const std::string& note) {
  return ask(Kind::kConfirm, Json::Object{{"checkpoint", note}});
}

Frame KeeperHost::follow(const History& history) {
  auto added = leaves(std::span(history.leaves).subspan(fed_));
  if (added.kind != Kind::kDone) return added;
  auto answer = confirm(history.checkpoint);
  if (answer.kind == Kind::kConfirmed) fed_ = history.size();
  return answer;
}

// ---- trainer ------------------------------------------------------------------

Status TrainerLine::send(const Frame& frame) {
  return channel_.send(frame);
}

Result<Frame> TrainerLine::receive() {
  auto frame = TRY(channel_.receive(kPatienceMs));
  heard_.push_back(frame);
  return frame;
}

Result<Frame> TrainerLine::ask(const Frame& frame) {
  TRY(send(frame));
  return receive();
}

void TrainerLine::hang_up() {
  shutdown(channel_.fd(), SHUT_RDWR);
}

TrainerThread::TrainerThread(const trainer::EnclaveSelf& self, std::span<uint8_t> shared)
    : TrainerThread(self, shared, two_ends()) {}

TrainerThread::TrainerThread(const trainer::EnclaveSelf& self, std::span<uint8_t> shared,
                             std::array<int, 2> ends)
    : TrainerLine(trainer::Channel(ends[0])) {
  thread_ = std::thread([this, &self, shared, fd = ends[1]] {
    trainer::Channel channel(fd);
    auto workers = trainer::Workers::start(1);
    CHECK(workers);
    ended_.emplace(trainer::run_trainer(channel, self, **workers, shared));
  });
}

TrainerThread::~TrainerThread() {
  if (thread_.joinable()) {
    auto ended = finish();
    (void)ended;
  }
}

Status TrainerThread::finish() {
  hang_up();
  thread_.join();
  return *ended_;
}

}  // namespace souk::flows
