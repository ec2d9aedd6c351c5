#include "market_api/client/audit.h"

#include <chrono>
#include <filesystem>
#include <functional>
#include <vector>

#include "contracts/lifecycle/follower.h"
#include "ledger/audit/audit.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/proof/merkle.h"
#include "ledger/proof/witnessed_state.h"
#include "market_api/client/local_files.h"
#include "trainer/attest/appraisal.h"

namespace souk::market {
namespace {

constexpr uint64_t kPageLeaves = 256;

// The checkpoint from earlier must be a beginning of what is there now.
Status check_seen(const std::string& seen, const ledger::NoteKey& key,
                  std::span<const Digest> leaf_hashes) {
  auto checkpoint = TRY(ledger::open_checkpoint(seen, key));
  if (checkpoint.size > leaf_hashes.size()) {
    return Error(Code::kUnauthentic, "rolled back: " + std::to_string(checkpoint.size) +
                                         " entries were seen before, " +
                                         std::to_string(leaf_hashes.size()) + " are left");
  }
  if (ledger::tree_root(leaf_hashes.first(checkpoint.size)) != checkpoint.root) {
    return Error(Code::kUnauthentic, "forked: the first " + std::to_string(checkpoint.size) +
                                         " entries are not those seen before");
  }
  return Done{};
}

enum class Extent : uint8_t { kAll, kWitnessed };

Status check_seen(const AuditBasis& basis, const ledger::NoteKey& key,
                  std::span<const Digest> leaf_hashes, Extent extent) {
  for (const auto& seen : basis.seen) {
    if (!seen.by.empty()) {
      auto checkpoint = ledger::open_checkpoint(seen.checkpoint, key);
      if (!checkpoint) continue;
      if (checkpoint->size > leaf_hashes.size() && extent == Extent::kWitnessed) continue;
    }
    auto holds = check_seen(seen.checkpoint, key, leaf_hashes);
    if (holds) continue;
    Error error = std::move(holds).take_error();
    return seen.by.empty() ? error : std::move(error).within("as " + seen.by + " saw it");
  }
  return Done{};
}

// Money is neither made nor lost but by the treasury.
Status check_money(const contracts::MarketState& state) {
  contracts::Minor sum = state.escrow_total();
  for (const auto& [key, account] : state.accounts()) sum += account.balance;
  if (sum == state.minted()) return Done{};
  return Error(Code::kUnauthentic,
               "accounts and escrow do not add up to what the treasury deposited");
}

}  // namespace

namespace {

// The market's own rules over recorded entries, whichever way they were read.
class MarketReplay {
 public:
  MarketReplay(LedgerAudit& audit, const AuditBasis& basis) : audit_(audit), basis_(basis) {
    audit.market_from_ledger = !basis.market;
  }

  Status operator()(const ledger::RecordedEntry& recorded) {
    leaf_hashes_.push_back(recorded.leaf_hash());
    if (recorded.seq() == 0) {
      audit_.market = contracts::market_id(recorded.entry().payload());
      if (basis_.market && audit_.market != *basis_.market) {
        return Error(Code::kUnauthentic, "expected the genesis of market " +
                                             to_hex(*basis_.market) + ", this is " +
                                             to_hex(audit_.market));
      }
    }
    state_ = contracts::apply(std::move(state_), recorded);
    if (recorded.seq() == 0 && state_.genesis()) {
      key_ = TRY(ledger::NoteKey::parse(state_.genesis()->ledger_key));
    }
    return Done{};
  }

  bool is_market() const { return key_.has_value(); }
  // Of the genesis; after a good finish().
  const std::string& witness_policy() const { return state_.genesis()->witness_policy; }
  // Whether a note of this log is over the first leaves of this ledger.
  Status grew_out_of(const std::string& note) const {
    return check_seen(note, *key_, leaf_hashes_);
  }

  // What only the whole can show.
  Status finish(const std::string& log_key, Extent extent) {
    audit_.without_effect = state_.voids().size();
    if (!key_) return Error(Code::kUnauthentic, "expected a genesis");
    if (log_key != key_->vkey()) {
      return Error(Code::kUnauthentic, "expected a checkpoint by the ledger key of genesis");
    }
    TRY(check_seen(basis_, *key_, leaf_hashes_, extent));
    return check_money(state_);
  }

 private:
  LedgerAudit& audit_;
  const AuditBasis& basis_;
  contracts::MarketState state_{&trainer::appraise_for_market};
  std::optional<ledger::NoteKey> key_;
  std::vector<Digest> leaf_hashes_;
};

// Takes over what the ledger's own audit found.
void take_report(LedgerAudit& audit, ledger::AuditReport report) {
  audit.ok = report.ok;
  audit.entries = report.entries;
  audit.root = report.root;
  audit.first_bad = report.first_bad;
  audit.reason = report.reason;
  audit.counts = std::move(report);
}

// What the log kept of its witnesses beside the ledger: the newest checkpoint they stood
// behind. Losing the file is safe, so only somebody who pins a quorum misses it.
class WitnessedFile {
 public:
  explicit WitnessedFile(const std::string& ledger_path)
      : path_(std::filesystem::path(ledger_path).replace_filename("witnessed.state").string()) {}

  Status check(const MarketReplay& replay, const AuditBasis& basis, LedgerAudit& audit) const {
    ledger::WitnessedState state;
    if (path_exists(path_)) {
      auto bytes = TRY(load_file(path_, 2 * ledger::kMaxNoteBytes));
      audit.place = ledger::AuditPlace{path_, 0, bytes.size()};
      state = TRY(ledger::decode_witnessed_state(bytes));
    }
    if (state.note.empty()) {
      audit.place.reset();
      if (!basis.quorum || !basis.quorum->needed()) return Done{};
      return Error(Code::kUnauthentic,
                   path_ + ": expected a checkpoint that the pinned quorum of witnesses cosigned");
    }
    TRY(replay.grew_out_of(state.note));
    ++audit.counts.checkpoints;
    auto note = TRY(ledger::parse_note(state.note));
    auto named = replay.witness_policy();
    if (!named.empty()) {
      auto quorum = TRY(ledger::WitnessQuorum::parse(named));
      TRY(stood_behind(quorum, note));
      audit.counts.cosignatures += cosignatures(quorum, note);
    }
    if (basis.quorum) TRY(stood_behind(*basis.quorum, note));
    audit.place.reset();
    return Done{};
  }

 private:
  static Status stood_behind(const ledger::WitnessQuorum& quorum, const ledger::Note& note) {
    TRY(quorum.witnessed_at(note));
    return Done{};
  }
  static uint64_t cosignatures(const ledger::WitnessQuorum& quorum, const ledger::Note& note) {
    uint64_t count = 0;
    for (const auto& member : quorum.members()) {
      for (const auto& line : note.signatures) count += is_by(line, member.key) ? 1 : 0;
    }
    return count;
  }

  std::string path_;
};

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

LedgerAudit audit_ledger_file(const std::string& path, const AuditBasis& basis) {
  LedgerAudit audit;
  Stopwatch watch;
  MarketReplay replay(audit, basis);
  auto report = ledger::audit_file(path, std::nullopt, std::ref(replay));
  audit.seconds = watch.seconds();
  if (!report.ok) audit.place = ledger::place_of(path, report);
  take_report(audit, std::move(report));
  auto whole = replay.finish(audit.counts.log_key, Extent::kAll);
  if (audit.ok && whole) whole = WitnessedFile(path).check(replay, basis, audit);
  if (!audit.ok || whole) return audit;
  audit.ok = false;
  audit.reason = whole.error().expected();
  return audit;
}

LedgerAudit audit_log_tiles(
    const ledger::FetchTileFile& fetch,
    const std::function<Result<ledger::PolicyVerdict>(std::string_view)>& judge,
    const AuditBasis& basis) {
  LedgerAudit audit;
  Stopwatch watch;
  MarketReplay replay(audit, basis);
  auto under_quorum = [&](std::string_view text) -> Result<ledger::PolicyVerdict> {
    auto verdict = TRY(judge(text));
    if (!basis.quorum) return verdict;
    auto note = TRY(ledger::parse_note(text));
    TRY(basis.quorum->witnessed_at(note));
    return verdict;
  };
  auto tiles = ledger::audit_tiles(fetch, under_quorum, std::ref(replay));
  audit.seconds = watch.seconds();
  if (!tiles.report.ok) audit.place = tiles.place;
  audit.cannot_now = tiles.cannot_now;
  take_report(audit, std::move(tiles.report));
  // Without a market named, a log that is none is a log.
  if (!replay.is_market() && !basis.market && basis.seen.empty()) return audit;
  auto whole =
      replay.finish(audit.counts.log_key, basis.quorum ? Extent::kWitnessed : Extent::kAll);
  if (!audit.ok || whole) return audit;
  audit.ok = false;
  audit.reason = whole.error().expected();
  return audit;
}

Result<LedgerAudit> audit_served_ledger(MarketLine& line, const AuditBasis& basis) {
  LedgerAudit audit;
  audit.market_from_ledger = !basis.market;
  if (basis.quorum) line.ask_witnessed();
  Stopwatch watch;
  audit.counts.threads = 1;
  std::optional<contracts::Follower> follower;
  std::vector<Digest> leaf_hashes;
  auto bad = [&](std::optional<uint64_t> seq, const Error& error) {
    audit.first_bad = seq;
    audit.reason = error.expected();
    audit.entries = leaf_hashes.size();
    audit.seconds = watch.seconds();
    if (follower) audit.root = follower->root();
    return audit;
  };
  while (true) {
    auto page = TRY(line.entries(leaf_hashes.size(), kPageLeaves));
    if (!follower) {
      if (page.leaves.empty()) return bad(0, Error(Code::kUnauthentic, "expected a genesis"));
      auto pinned = contracts::Follower::pin(page.leaves.front(), basis.market,
                                             &trainer::appraise_for_market);
      if (!pinned) return bad(0, pinned.error());
      follower = std::move(*pinned);
      audit.market = follower->market();
    }
    auto checkpoint = ledger::open_checkpoint(page.checkpoint, follower->ledger_key());
    if (!checkpoint) return bad(std::nullopt, checkpoint.error());
    ++audit.counts.checkpoints;
    if (basis.quorum) {
      auto note = TRY(ledger::parse_note(page.checkpoint));
      auto witnessed = basis.quorum->witnessed_at(note);
      if (!witnessed) return bad(std::nullopt, witnessed.error());
    }
    uint64_t missing = checkpoint->size - std::min<uint64_t>(checkpoint->size, leaf_hashes.size());
    if (page.leaves.size() > missing || (page.leaves.empty() && missing > 0)) {
      return bad(leaf_hashes.size(),
                 Error(Code::kUnauthentic, "expected the leaves up to the checkpoint"));
    }
    for (const Bytes& leaf : page.leaves) {
      auto added = follower->add(leaf);
      if (!added) return bad(leaf_hashes.size(), added.error());
      leaf_hashes.push_back(ledger::leaf_hash(leaf));
      audit.counts.bytes += leaf.size();
      ++audit.counts.signatures;
      ++audit.counts.hashes;
    }
    if (leaf_hashes.size() < checkpoint->size) continue;
    auto confirmed = follower->confirm(page.checkpoint);
    if (!confirmed) return bad(std::nullopt, confirmed.error());
    break;
  }
  auto seen = check_seen(basis, follower->ledger_key(), leaf_hashes,
                         basis.quorum ? Extent::kWitnessed : Extent::kAll);
  if (!seen) return bad(std::nullopt, seen.error());
  auto money = check_money(follower->state());
  if (!money) return bad(std::nullopt, money.error());
  audit.ok = true;
  audit.seconds = watch.seconds();
  audit.entries = leaf_hashes.size();
  audit.root = follower->confirmed_root();
  audit.without_effect = follower->state().voids().size();
  return audit;
}

}  // namespace souk::market
