// What a LedgerStore owns, for its two halves: what any thread reads (store.cc), and what the
// append thread writes (append.cc). Private to this room.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "ledger/store/nonce_index.h"
#include "ledger/store/rows.h"
#include "ledger/store/store.h"
#include "ledger/store/tile_cache.h"

namespace souk::ledger {

struct LedgerStore::Impl {
  static constexpr size_t kCachedTiles = 4096;  // 64 MiB: the hashes of a million entries

  // Set once in open().
  std::string path;
  // Owned by the append thread.
  Writer writer;
  // Guarded by read_mutex.
  mutable std::mutex read_mutex;
  mutable Reader reader;
  // Guarded by head_mutex; the append thread alone changes them.
  mutable std::mutex head_mutex;
  Head head;
  std::string vkey;
  enum class Doubt : uint8_t {
    kNone,
    kFull,     // a commit had no room: what was committed before is certain
    kUnknown,  // for good
  } doubt = Doubt::kNone;

  mutable TileCache cache{kCachedTiles};
  // Opened when it is first asked for.
  mutable std::mutex index_mutex;
  mutable std::unique_ptr<NonceIndex> nonces;  // Guarded by index_mutex.

  const FetchTile fetch = [this](uint8_t level, uint64_t index) { return tile(level, index); };

  Impl(std::string p, Writer w, Reader r, Head h, std::string k)
      : path(std::move(p)),
        writer(std::move(w)),
        reader(std::move(r)),
        head(std::move(h)),
        vkey(std::move(k)) {}

  static Error doubtful() {
    return broken_file("to know whether the last write happened; reopen the ledger");
  }
  Status certain() const {
    std::lock_guard lock(head_mutex);
    if (doubt == Doubt::kUnknown) return doubtful();
    return Done{};
  }
  Doubt doubts() const {
    std::lock_guard lock(head_mutex);
    return doubt;
  }
  void doubt_is(Doubt which) {
    std::lock_guard lock(head_mutex);
    doubt = which;
  }
  Error unknown_outcome() {
    doubt_is(Doubt::kUnknown);
    return doubtful();
  }
  // Ends the transaction; what SQLite cannot undo leaves us in doubt.
  Error undo(Error reason) {
    if (!writer.connection.in_transaction() || writer.connection.run("ROLLBACK") == SQLITE_OK) {
      return reason;
    }
    return unknown_outcome();
  }
  // Nothing was written for this reason of SQLite's.
  Error not_written(int code) {
    code = writer.connection.without_room(code);
    if (is_full(code)) return undo(disk_full());
    return undo(Error(Code::kTryAgain,
                      std::string("ledger file: expected to write: ") + sqlite3_errstr(code)));
  }
  Head current() const {
    std::lock_guard lock(head_mutex);
    return head;
  }
  Result<SharedTile> tile(uint8_t level, uint64_t index) const;
  Result<NonceIndex*> index() const;
  Result<Bytes> bundle(const TileTree& tree, const TilePath& at) const;
  Result<Head> next_head(const Batch& batch, const TileTree& tree, const Digest& root,
                         const Digest& last_leaf) const;
  Error commit_had_no_room();
  Status reopen();
  int write(const Batch& batch, const Head& next, const std::vector<FilledTile>& filled);
};

}  // namespace souk::ledger
