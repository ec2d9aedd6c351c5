#include "ledger/audit/tiles_audit.h"

#include <algorithm>
#include <thread>

#include "ledger/audit/pipeline.h"
#include "ledger/entry/leaf.h"

namespace souk::ledger {
namespace {

using Judge = std::function<Result<PolicyVerdict>(std::string_view)>;

class Auditor {
 public:
  Auditor(const FetchTileFile& fetch, TilesAudit& audit)
      : fetch_(fetch), audit_(audit), report_(audit.report) {}

  Status run(const Judge& judge, const Replay& replay) {
    TRY(read_checkpoint(judge));
    TRY(read_bundles());
    TRY(compare_tiles());
    if (tree_.root() != root_) {
      return bad("checkpoint", 0, 0, "expected the root of the entries that are served");
    }
    report_.entries = tree_.size();
    report_.root = tree_.root();
    if (audit_.kind == EntryKind::kSouk) TRY(check_entries(replay));
    return Done{};
  }

 private:
  Error bad(const std::string& file, uint64_t from, uint64_t to, const std::string& expected) {
    audit_.place = {file, from, to};
    return Error(Code::kBroken, file + ": " + expected);
  }
  Error unread(const std::string& file, const Error& error) {
    Error failed = bad(file, 0, 0, error.expected());
    return error.code() == Code::kTryAgain ? Error(Code::kTryAgain, failed.expected()) : failed;
  }
  Error bad_entry(uint64_t seq, const Error& error) {
    report_.first_bad = seq;
    auto [from, to] = range_of(seq);
    audit_.place = {bundle_of(seq).text(), from, to};
    return Error(Code::kBroken, "entry " + std::to_string(seq) + ": " + error.expected());
  }

  Status read_checkpoint(const Judge& judge) {
    auto bytes = fetch_("checkpoint");
    if (!bytes) return unread("checkpoint", bytes.error());
    report_.checkpoint = to_text(*bytes);
    auto verdict = judge(report_.checkpoint);
    if (!verdict) return bad("checkpoint", 0, bytes->size(), verdict.error().expected());
    report_.checkpoints = 1;
    report_.cosignatures = verdict->witnesses.size();
    report_.log_key = verdict->log_key;
    size_ = verdict->checkpoint.size;
    root_ = verdict->checkpoint.root;
    audit_.verdict = std::move(*verdict);
    if (size_ >> 40 != 0) return bad("checkpoint", 0, bytes->size(), "expected a size below 2^40");
    return Done{};
  }

  TilePath bundle_of(uint64_t seq) const {
    TilePath path{.level = {}, .index = seq / kTileWidth};
    path.width = static_cast<uint16_t>(tile_width(path, size_));
    return path;
  }

  // Where an entry lies in its bundle.
  std::pair<uint64_t, uint64_t> range_of(uint64_t seq) const {
    auto path = bundle_of(seq);
    auto bytes = fetch_(path.text());
    if (!bytes) return {0, 0};
    auto leaves = parse_bundle(*bytes, path.width);
    if (!leaves) return {0, bytes->size()};
    uint64_t at = 0;
    for (uint64_t i = 0; i < seq % kTileWidth; ++i) at += 2 + (*leaves)[i].size();
    return {at, at + 2 + (*leaves)[seq % kTileWidth].size()};
  }

  Status read_bundles() {
    auto read = each_leaf(fetch_, size_, [&](uint64_t seq, ByteView leaf) -> Status {
      if (seq == 0 && decode_leaf(leaf)) audit_.kind = EntryKind::kSouk;
      hashes_.push_back(leaf_hash(leaf));
      report_.bytes += leaf.size();
      return Done{};
    });
    if (read) return read;
    report_.first_bad = hashes_.size();
    auto path = bundle_of(hashes_.size()).text();
    if (read.error().code() == Code::kTryAgain) return read;
    auto bytes = fetch_(path);
    return bad(path, 0, bytes ? bytes->size() : 0, read.error().expected());
  }

  // Every tile, from the leaves up. Where tile and entries disagree, the one that leads to
  // the signed root is right.
  Status compare_tiles() {
    std::vector<FilledTile> filled;
    for (const auto& hash : hashes_) tree_.append(hash, filled);
    bool entries_are_right = tree_.root() == root_;
    for (const auto& one : filled) {
      TRY(compare({.level = one.level, .index = one.index}, *one.tile, entries_are_right));
    }
    for (uint8_t level = 0; size_ >> (kTileHeight * level) > 0; ++level) {
      const Tile* edge = tree_.edge(level);
      if (!edge) continue;
      TilePath path{.level = level,
                    .index = size_ >> (kTileHeight * level) >> kTileHeight,
                    .width = static_cast<uint16_t>(edge->width())};
      TRY(compare(path, *edge, entries_are_right));
    }
    return Done{};
  }

  Status compare(const TilePath& path, const Tile& expected, bool entries_are_right) {
    auto served = fetch_(path.text());
    bool missing = !served && served.error().code() == Code::kNotFound;
    if (missing && path.width < kTileWidth) {
      served = fetch_((TilePath{.level = path.level, .index = path.index}).text());
      if (served && served->size() == kTileBytes) served->resize(size_t{path.width} * 32);
    }
    if (!served) return unread(path.text(), served.error());
    report_.hashes += path.width;
    auto hashes = expected.bytes();
    if (*served == hashes) return Done{};
    auto [ours, theirs] =
        std::mismatch(hashes.begin(), hashes.end(), served->begin(), served->end());
    auto at =
        std::min<uint64_t>(static_cast<uint64_t>(ours - hashes.begin()) / 32, expected.width() - 1);
    uint64_t seq = (path.index * kTileWidth + at) << (kTileHeight * *path.level);
    bool whole = served->size() == hashes.size();
    if (entries_are_right || *path.level > 0 || !whole) {
      report_.first_bad = seq;
      return bad(path.text(), at * 32, whole ? at * 32 + 32 : served->size(),
                 "expected the hash of entry " + std::to_string(seq));
    }
    return bad_entry(seq, Error(Code::kBroken, "expected the entry that its tile names"));
  }

  Status check_entries(const Replay& replay) {
    const auto& key_text = audit_.verdict.log_key;
    auto key = TRY(NoteKey::parse(key_text));
    auto confirmed = TRY(ConfirmedHashes::of(hashes_, report_.checkpoint, key));
    auto reader = ChainReader::start(key.name(), key);
    LeafPipeline pipeline(report_.threads, [&](uint64_t seq, CheckedLeaf leaf) -> Status {
      if (!leaf.prepared) return bad_entry(seq, leaf.prepared.error());
      ++report_.signatures;
      auto added = reader.add(std::move(*leaf.prepared));
      if (!added) return bad_entry(seq, added.error());
      auto recorded = reader.take_confirmed_by(confirmed);
      if (!recorded) return bad_entry(seq, recorded.error());
      for (const auto& entry : *recorded) {
        auto accepted = replay ? replay(entry) : Status(Done{});
        if (!accepted) return bad_entry(seq, accepted.error());
      }
      return Done{};
    });
    TRY(each_leaf(fetch_, size_, [&](uint64_t, ByteView leaf) {
      return pipeline.push(Bytes(leaf.begin(), leaf.end()));
    }));
    return pipeline.finish();
  }

  const FetchTileFile& fetch_;
  TilesAudit& audit_;
  AuditReport& report_;
  uint64_t size_ = 0;
  Digest root_{};
  std::vector<Digest> hashes_;
  TileTree tree_;
};

}  // namespace

TilesAudit audit_tiles(const FetchTileFile& fetch, const Judge& judge, const Replay& replay) {
  TilesAudit audit;
  audit.report.threads = std::max(1u, std::thread::hardware_concurrency());
  auto outcome = Auditor(fetch, audit).run(judge, replay);
  audit.report.ok = static_cast<bool>(outcome);
  if (!outcome) audit.report.reason = outcome.error().expected();
  audit.cannot_now = !outcome && outcome.error().code() == Code::kTryAgain;
  return audit;
}

}  // namespace souk::ledger
