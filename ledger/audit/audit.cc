#include "ledger/audit/audit.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "ledger/audit/pipeline.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/proof/tile_tree.h"
#include "ledger/store/ledger_file.h"
#include "ledger/store/wal_check.h"

namespace souk::ledger {
namespace {

bool equal(const Digest& a, ByteView b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

Result<NoteKey> choose_key(const LedgerFile& file, std::optional<NoteKey> vkey,
                           AuditReport& report) {
  if (!vkey) {
    report.log_key_source = LogKeySource::kFromFile;
    auto text = TRY(file.log_key());
    vkey = TRY(NoteKey::parse(text));
  }
  report.log_key = vkey->vkey();
  return *vkey;
}

// The stored tiles and nodes, each once and in order, are those of the leaves' hashes.
class TileComparison {
 public:
  TileComparison(const LedgerFile& file, std::span<const Digest> hashes) : file_(file) {
    TileTree tree;
    for (const auto& hash : hashes) tree.append(hash, expected_);
    std::sort(expected_.begin(), expected_.end(), [](const auto& a, const auto& b) {
      return std::pair(a.level, a.index) < std::pair(b.level, b.index);
    });
  }

  // The first entry under a tile that differs, when one can be named.
  std::optional<uint64_t> first_bad;
  uint64_t compared = 0;

  Status tiles() {
    size_t at = 0;
    auto read = file_.each_tile([&](uint64_t level, uint64_t index, ByteView stored) -> Status {
      TRY(in_turn(at, level, index));
      auto hashes = expected_[at++].tile->bytes();
      compared += kTileWidth;
      if (std::equal(hashes.begin(), hashes.end(), stored.begin(), stored.end())) return Done{};
      auto [good, bad] = std::mismatch(hashes.begin(), hashes.end(), stored.begin(), stored.end());
      auto hash = static_cast<uint64_t>(good - hashes.begin()) / 32;
      return differs(level, index * kTileWidth + std::min<uint64_t>(hash, kTileWidth - 1));
    });
    return read ? ended(at) : read;
  }

  Status nodes() {
    size_t at = 0;
    auto read = file_.each_node([&](uint64_t level, uint64_t index, ByteView stored) -> Status {
      TRY(in_turn(at, level, index));
      ++compared;
      if (equal(expected_[at++].tile->root(), stored)) return Done{};
      return differs(level + 1, index);
    });
    return read ? ended(at) : read;
  }

 private:
  Status in_turn(size_t at, uint64_t level, uint64_t index) {
    if (at == expected_.size()) {
      return Error(Code::kBroken, "expected full tiles of stored entries only");
    }
    if (expected_[at].level == level && expected_[at].index == index) return Done{};
    return differs(expected_[at].level, expected_[at].index * kTileWidth);
  }
  Status ended(size_t at) {
    if (at == expected_.size()) return Done{};
    return differs(expected_[at].level, expected_[at].index * kTileWidth);
  }
  // A hash of a level stands for this entry and those after it.
  Error differs(uint64_t level, uint64_t hash) {
    first_bad = hash << (kTileHeight * level);
    return Error(Code::kBroken,
                 "entry " + std::to_string(*first_bad) + ": expected its hash in the stored tiles");
  }

  const LedgerFile& file_;
  std::vector<FilledTile> expected_;
};

// A ledger that may be long and is probably good: hashes first, which confirm the whole,
// then every entry in parallel against them.
class FastAudit {
 public:
  FastAudit(const LedgerFile& file, const NoteKey& key, AuditReport& report)
      : file_(file), key_(key), report_(report) {}

  // Whether what is stored is what the log signed. Where it is not, the slow audit
  // finds out which byte.
  Result<ConfirmedHashes> confirm(const LedgerFile::Head& head) {
    std::vector<Digest> hashes;
    TRY(file_.each_entry([&](int64_t seq, ByteView leaf) -> Status {
      if (seq != static_cast<int64_t>(hashes.size())) {
        return Error(Code::kBroken, "expected every entry once");
      }
      hashes.push_back(leaf_hash(leaf));
      report_.bytes += leaf.size();
      return Done{};
    }));
    TileComparison comparison(file_, hashes);
    TRY(comparison.tiles());
    TRY(comparison.nodes());
    report_.hashes = comparison.compared;
    auto confirmed = TRY(ConfirmedHashes::of(std::move(hashes), head.checkpoint, key_));
    ++report_.checkpoints;
    return confirmed;
  }

  Status entries(const ConfirmedHashes& confirmed, const LedgerFile::Head& head,
                 const Replay& replay) {
    auto reader = ChainReader::start(key_.name(), key_);
    LeafPipeline pipeline(report_.threads, [&](uint64_t seq, CheckedLeaf leaf) -> Status {
      auto place = [&](const Error& error) {
        report_.first_bad = seq;
        return Error(Code::kBroken, "entry " + std::to_string(seq) + ": " + error.expected());
      };
      if (!leaf.prepared) return place(leaf.prepared.error());
      ++report_.signatures;
      auto added = reader.add(std::move(*leaf.prepared));
      if (!added) return place(added.error());
      auto recorded = reader.take_confirmed_by(confirmed);
      if (!recorded) return place(recorded.error());
      for (const auto& entry : *recorded) {
        auto accepted = replay ? replay(entry) : Status(Done{});
        if (!accepted) return place(accepted.error());
      }
      report_.entries = reader.size();
      return Done{};
    });
    TRY(file_.each_entry(
        [&](int64_t, ByteView leaf) { return pipeline.push(Bytes(leaf.begin(), leaf.end())); }));
    TRY(pipeline.finish());
    report_.root = reader.root();
    bool same = head.size == static_cast<int64_t>(reader.size()) &&
                equal(reader.root(), head.root) && equal(reader.last_leaf(), head.last_leaf) &&
                head.time == reader.last_time();
    if (!same) return Error(Code::kBroken, "expected the head to name the last entry");
    return Done{};
  }

 private:
  const LedgerFile& file_;
  const NoteKey& key_;
  AuditReport& report_;
};

// The same in one pass and one thread, with every leaf in memory: names what is wrong.
class Auditor {
 public:
  Auditor(const LedgerFile& file, AuditReport& report) : file_(file), report_(report) {}

  Status run(const NoteKey& key, const LedgerFile::Head& head, const Replay& replay) {
    auto reader = ChainReader::start(key.name(), key);
    TRY(read_entries(reader, head));
    TRY(compare_tiles());
    TRY(compare_head(head, reader));
    auto recorded = TRY(reader.confirm(head.checkpoint));
    if (replay) TRY(replay_all(recorded, replay));
    return Done{};
  }

 private:
  Error bad(uint64_t seq, const std::string& expected) {
    report_.first_bad = seq;
    return Error(Code::kBroken, "entry " + std::to_string(seq) + ": " + expected);
  }

  Status read_entries(ChainReader& reader, const LedgerFile::Head& head) {
    auto read = file_.each_entry([&](int64_t seq, ByteView leaf) -> Status {
      uint64_t next = reader.size();
      if (seq != static_cast<int64_t>(next)) return bad(next, "expected a row with this number");
      auto added = reader.add(leaf);
      if (!added && only_link_broken(reader, leaf) && vouched_for(leaf, next, head)) {
        keep(next - 1);
        return bad(next - 1, "expected the leaf that its successor names");
      }
      if (!added) return bad(next, added.error().expected());
      hashes_.push_back(reader.last_leaf());
      report_.entries = reader.size();
      report_.root = reader.root();
      return Done{};
    });
    if (!read && !report_.first_bad) return bad(reader.size(), read.error().expected());
    return read;
  }

  // The leaf is where it should be but names another predecessor: either of the two
  // may be the altered one.
  static bool only_link_broken(const ChainReader& reader, ByteView bytes) {
    auto leaf = decode_leaf(bytes);
    return leaf && reader.size() > 0 && leaf->seq == reader.size() &&
           leaf->prev != reader.last_leaf();
  }

  // Whether the leaf's own successor, or the head, names it as it stands.
  bool vouched_for(ByteView bytes, uint64_t seq, const LedgerFile::Head& head) const {
    auto hash = leaf_hash(bytes);
    if (equal(hash, head.last_leaf)) return true;
    bool named = false;
    auto scan = file_.each_entry([&](int64_t at, ByteView next) -> Status {
      if (at != static_cast<int64_t>(seq) + 1) return Done{};
      auto leaf = TRY(decode_leaf(next));
      named = leaf.prev == hash;
      return Done{};
    });
    return scan && named;
  }

  // Only the first `count` entries were good after all.
  void keep(uint64_t count) {
    report_.entries = count;
    report_.root = tree_root(std::span(hashes_).first(count));
  }

  Status compare_tiles() {
    TileComparison comparison(file_, hashes_);
    auto tiles = comparison.tiles();
    if (!tiles) {
      report_.first_bad = comparison.first_bad;
      return tiles;
    }
    auto nodes = comparison.nodes();
    if (!nodes) report_.first_bad = comparison.first_bad;
    return nodes;
  }

  Status compare_head(const LedgerFile::Head& head, const ChainReader& reader) {
    if (head.size != static_cast<int64_t>(reader.size())) {
      return bad(reader.size(), "expected as many entries as the head counts");
    }
    bool same_root = equal(reader.root(), head.root);
    bool same_last = equal(reader.last_leaf(), head.last_leaf);
    if (!same_root && !same_last && reader.size() > 0) {
      keep(reader.size() - 1);
      return bad(reader.size() - 1, "expected the leaf that the head names");
    }
    if (!same_root)
      return Error(Code::kBroken, "expected the head to have the root of the entries");
    if (!same_last || head.time != reader.last_time()) {
      return Error(Code::kBroken, "expected the head to name the last entry");
    }
    return Done{};
  }

  Status replay_all(const std::vector<RecordedEntry>& entries, const Replay& replay) {
    for (const auto& entry : entries) {
      auto accepted = replay(entry);
      if (!accepted) return bad(entry.seq(), accepted.error().expected());
    }
    return Done{};
  }

  const LedgerFile& file_;
  AuditReport& report_;
  std::vector<Digest> hashes_;
};

}  // namespace

namespace {

// Where the stored bytes of an entry lie: SQLite keeps a row of up to a page in one
// piece. The newest copy is the one in the write-ahead log.
std::optional<AuditPlace> locate(const std::string& path, ByteView bytes) {
  std::optional<AuditPlace> found;
  auto needle = as_text(bytes.first(std::min<size_t>(bytes.size(), 4096)));
  if (needle.empty()) return found;
  for (const std::string& file : {path, path + "-wal"}) {
    std::ifstream in(file, std::ios::binary);
    std::string window;
    uint64_t start = 0;
    std::vector<char> piece(1 << 20);
    while (in) {
      in.read(piece.data(), static_cast<std::streamsize>(piece.size()));
      window.append(piece.data(), static_cast<size_t>(in.gcount()));
      size_t at = window.rfind(needle);
      if (at != std::string::npos) {
        found = AuditPlace{file, start + at, start + at + bytes.size()};
      }
      size_t keep = std::min(window.size(), needle.size() - 1);
      start += window.size() - keep;
      window.erase(0, window.size() - keep);
    }
  }
  return found;
}

AuditPlace whole_file(const std::string& path) {
  std::error_code failure;
  auto size = std::filesystem::file_size(path, failure);
  return {path, 0, failure ? 0 : static_cast<uint64_t>(size)};
}

bool written_lately(const std::string& path) {
  std::error_code failure;
  auto written = std::filesystem::last_write_time(path, failure);
  return !failure &&
         std::filesystem::file_time_type::clock::now() - written < std::chrono::seconds(2);
}

// A log that breaks off would pass for an older, honest ledger. While somebody appends, its
// end may be read half written: what is damaged stays so.
Status check_wal(const std::string& path, AuditReport& report) {
  std::string log = path + "-wal";
  std::optional<WalDamage> damage;
  for (int attempt = 0; attempt < 3; ++attempt) {
    damage = TRY(find_wal_damage(log));
    if (!damage) return Done{};
    if (!written_lately(log)) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  report.place = AuditPlace{log, damage->from, damage->to};
  return Error(Code::kBroken,
               damage->was_durable
                   ? "write-ahead log: expected it as it was written; later commits follow"
                   : "write-ahead log: expected its last transaction whole; it was altered, or "
                     "torn by a power cut before anybody was told of it");
}

Status audit_open_file(const std::string& file_path, const LedgerFile& file,
                       std::optional<NoteKey> vkey, const Replay& replay, AuditReport& report) {
  // First what is cheap: under a log that breaks off lies an older ledger, honest in itself.
  TRY(check_wal(file_path, report));
  auto key = TRY(choose_key(file, std::move(vkey), report));
  auto head = TRY(file.head());
  report.checkpoint = head.checkpoint;
  FastAudit fast(file, key, report);
  auto confirmed = fast.confirm(head);
  if (confirmed) {
    TRY(fast.entries(*confirmed, head, replay));
  } else {
    auto named = Auditor(file, report).run(key, head, nullptr);
    return named ? Status(confirmed.error()) : named;
  }
  // What it finds it cannot name: pages, indices, free lists.
  return file.integrity();
}

}  // namespace

AuditReport audit_file(const std::string& path, std::optional<NoteKey> vkey, const Replay& replay) {
  AuditReport report;
  report.threads = std::max(1u, std::thread::hardware_concurrency());
  auto file = LedgerFile::open(path);
  if (!file) {
    report.reason = file.error().expected();
    return report;
  }
  auto outcome = audit_open_file(path, *file, std::move(vkey), replay, report);
  report.ok = static_cast<bool>(outcome);
  if (outcome) return report;
  report.reason = outcome.error().expected();
  return report;
}

AuditPlace place_of(const std::string& path, const AuditReport& report) {
  if (report.place) return *report.place;
  auto file = LedgerFile::open(path);
  if (!file || !report.first_bad) return whole_file(path);
  auto stored = file->entry(*report.first_bad);
  auto place = stored ? locate(path, *stored) : std::nullopt;
  return place ? *place : whole_file(path);
}

}  // namespace souk::ledger
