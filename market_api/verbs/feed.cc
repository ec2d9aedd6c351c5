#include "market_api/verbs/feed.h"

#include "ledger/proof/checkpoint.h"

namespace souk::market {
namespace {

using trainer::Kind;

constexpr size_t kFeedBytes = size_t{1} << 20;

}  // namespace

Result<Fed> feed_ledger(const ledger::Sequencer& ledger, uint64_t from, const std::string& note,
                        const std::function<Result<trainer::Frame>(const trainer::Frame&)>& ask) {
  auto checkpoint = TRY(ledger::open_checkpoint(note, ledger.log_key()));
  for (uint64_t seq = from; seq < checkpoint.size;) {
    Json::Array piece;
    for (size_t bytes = 0; seq < checkpoint.size && bytes < kFeedBytes; ++seq) {
      auto leaf = TRY(ledger.leaf(seq));
      bytes += leaf.size();
      piece.push_back(to_base64(leaf));
    }
    auto taken =
        TRY(ask(trainer::frame(Kind::kLeaves, Json::Object{{"leaves", std::move(piece)}})));
    TRY(trainer::expect(taken, Kind::kDone));
  }
  auto answer = TRY(ask(trainer::frame(Kind::kConfirm, Json::Object{{"checkpoint", note}})));
  const bool other = answer.kind == Kind::kStopped || answer.kind == Kind::kResumed;
  const Kind kind = other ? answer.kind : Kind::kConfirmed;
  auto body = TRY(trainer::expect(answer, kind));
  return Fed{checkpoint.size, std::move(body), kind};
}

}  // namespace souk::market
