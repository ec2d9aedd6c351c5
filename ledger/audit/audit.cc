#include "ledger/audit/audit.h"

#include <algorithm>

#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/store/ledger_file.h"

namespace souk::ledger {
namespace {

constexpr size_t kTileHashes = 256;

// One audit; each step adds to the report, and the first error ends it.
class Auditor {
 public:
  Auditor(const LedgerFile& file, AuditReport& report) : file_(file), report_(report) {}

  Status run(std::optional<NoteKey> vkey, const Replay& replay) {
    auto key = TRY(choose_key(std::move(vkey)));
    auto head = TRY(file_.head());
    report_.checkpoint = head.checkpoint;
    auto reader = ChainReader::start(key.name(), key);
    TRY(read_entries(reader, head));
    TRY(compare_tiles());
    TRY(compare_head(head, reader));
    auto recorded = TRY(reader.confirm(head.checkpoint));
    TRY(compare_nonces(recorded));
    if (replay) TRY(replay_all(recorded, replay));
    // Last, because what it finds it cannot name: pages, indices, free lists.
    return file_.integrity();
  }

 private:
  Result<NoteKey> choose_key(std::optional<NoteKey> vkey) {
    if (!vkey) {
      report_.log_key_source = LogKeySource::kFromFile;
      auto text = TRY(file_.log_key());
      vkey = TRY(NoteKey::parse(text));
    }
    report_.log_key = vkey->vkey();
    return *vkey;
  }

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

  static bool equal(const Digest& a, ByteView b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

  // Only the first `count` entries were good after all.
  void keep(uint64_t count) {
    report_.entries = count;
    report_.root = tree_root(std::span(hashes_).first(count));
  }

  Status compare_tiles() {
    size_t tiles = 0;
    TRY(file_.each_tile([&](int64_t id, ByteView stored) -> Status {
      if (id != static_cast<int64_t>(tiles))
        return bad(tiles * kTileHashes, "expected the tile of its hash");
      if ((tiles + 1) * kTileHashes > hashes_.size() || stored.size() != kTileHashes * 32) {
        return Error(Code::kBroken, "expected full tiles of stored entries only");
      }
      for (size_t i = 0; i < kTileHashes; ++i) {
        const auto& hash = hashes_[tiles * kTileHashes + i];
        if (!std::equal(hash.begin(), hash.end(),
                        stored.begin() + static_cast<std::ptrdiff_t>(i * 32))) {
          return bad(tiles * kTileHashes + i, "expected its hash in the stored tile");
        }
      }
      ++tiles;
      return Done{};
    }));
    if (tiles != hashes_.size() / kTileHashes)
      return bad(tiles * kTileHashes, "expected the tile of its hash");
    return Done{};
  }

  Status compare_nonces(const std::vector<RecordedEntry>& entries) {
    uint64_t next = 0;
    TRY(file_.each_nonce([&](ByteView author, const std::string& nonce, int64_t seq) -> Status {
      bool same = next < entries.size() && seq == static_cast<int64_t>(next);
      same = same && entries[next].entry().nonce() == nonce &&
             equal(entries[next].entry().author().value(), author);
      if (!same) return bad(next, "expected its author and nonce in the index");
      ++next;
      return Done{};
    }));
    if (next != entries.size()) return bad(next, "expected its author and nonce in the index");
    return Done{};
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

AuditReport audit_file(const std::string& path, std::optional<NoteKey> vkey, const Replay& replay) {
  AuditReport report;
  auto file = LedgerFile::open(path);
  if (!file) {
    report.reason = file.error().expected();
    return report;
  }
  auto outcome = Auditor(*file, report).run(std::move(vkey), replay);
  report.ok = static_cast<bool>(outcome);
  if (!outcome) report.reason = outcome.error().expected();
  return report;
}

}  // namespace souk::ledger
