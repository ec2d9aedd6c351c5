// The ledger on disk: one SQLite file, append-only. Format and recovery:
// ledger/SPEC.md, "Store".
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/bytes.h"
#include "ledger/base/clock.h"
#include "ledger/base/named.h"
#include "ledger/proof/note.h"
#include "ledger/proof/tile_tree.h"

namespace souk::ledger {

// What an author's nonce is indexed by: the first 16 bytes of SHA-256(author || nonce).
using NonceKey = std::array<uint8_t, 16>;
NonceKey nonce_key(const PublicKey& author, std::string_view nonce);

struct NewEntry {
  NewEntry(Bytes bytes, const NonceKey& nonce) : leaf(std::move(bytes)), key(nonce) {}
  NewEntry(Bytes bytes, const PublicKey& author, std::string_view nonce)
      : NewEntry(std::move(bytes), nonce_key(author, nonce)) {}

  Bytes leaf;
  NonceKey key;
};

// What one transaction adds. It applies to the head it names and to no other.
struct Batch {
  uint64_t old_size = 0;
  Digest old_root{};
  std::vector<NewEntry> entries;  // empty: only a newer checkpoint of the same tree
  uint64_t new_size = 0;
  Digest new_root{};
  TimeMs time = 0;         // of the last leaf
  std::string checkpoint;  // signed, over new_size and new_root
};

// A tree that was committed, and the checkpoint over it.
struct Snapshot {
  std::shared_ptr<const TileTree> tree;
  std::string checkpoint;  // empty before the first
};

// What the leaves of a batch make of the ledger, hashed by the store itself from the bytes
// that it will write. Only the store makes one.
class Extension {
 public:
  const TileTree& tree() const { return *tree_; }
  const std::vector<FilledTile>& filled() const { return filled_; }
  const Digest& root() const { return root_; }
  const std::vector<Digest>& leaf_hashes() const { return leaf_hashes_; }

 private:
  friend class LedgerStore;
  std::shared_ptr<const TileTree> tree_;
  std::vector<FilledTile> filled_;
  Digest root_{};
  Digest last_leaf_{};
  std::vector<Digest> leaf_hashes_;
  uint64_t old_size_ = 0;
};

// What find_nonce knew when it was asked.
struct NonceAnswer {
  std::optional<uint64_t> seq;
  uint64_t generation = 0;
  uint64_t added = 0;
};

// One thread appends; any thread reads. Another process may read the file, and a
// second one that appends loses the compare-and-swap on the head.
class LedgerStore {
 public:
  // A new file. kConflict when there is one already, kTryAgain on a full disk; on every error
  // nothing of it is left.
  static Result<LedgerStore> create(const std::string& path);
  // kNotFound when there is no file; kBroken when the entries on disk do not add up
  // to the head and its checkpoint, or it is no ledger: the file is then as it was.
  static Result<LedgerStore> open(const std::string& path);

  // A new file from all leaves of a ledger and a checkpoint over them by `key`. Does not
  // look at authors: the checkpoint's log did, and the audit does. kUnauthentic when they
  // do not add up; then, as on every error, there is no file.
  using VisitLeaf = std::function<Status(uint64_t seq, ByteView leaf)>;
  using EachLeaf = std::function<Status(const VisitLeaf&)>;
  static Status restore(const std::string& path, const NoteKey& key, const std::string& checkpoint,
                        const EachLeaf& each_leaf);

  LedgerStore(LedgerStore&&) noexcept;
  LedgerStore& operator=(LedgerStore&&) noexcept;
  ~LedgerStore();

  const std::string& path() const;
  uint64_t size() const;
  Digest root() const;
  Digest last_leaf() const;  // zero before the first
  TimeMs last_time() const;
  std::string checkpoint() const;  // the newest signed one; empty before the first
  CompactTree tree() const;
  Snapshot snapshot() const;

  // kNotFound past the end.
  Result<Bytes> leaf(uint64_t seq) const;
  // At most `max` from `from` on, in order; fewer at the end.
  Result<std::vector<Bytes>> leaves(uint64_t from, size_t max) const;
  Result<std::optional<uint64_t>> find_nonce(const PublicKey& author,
                                             const std::string& nonce) const;
  // The same in two steps, the second for the append thread: what was appended since the
  // first is in memory.
  Result<NonceAnswer> ask_nonce(const NonceKey& key) const;
  Result<std::optional<uint64_t>> ask_nonce_again(const NonceKey& key,
                                                  const NonceAnswer& before) const;

  // kMalformed unless index < size <= the snapshot's, or 0 < old_size <= new_size <= it.
  Result<std::vector<Digest>> inclusion_proof(const Snapshot& of, uint64_t index,
                                              uint64_t size) const;
  Result<std::vector<Digest>> consistency_proof(const Snapshot& of, uint64_t old_size,
                                                uint64_t new_size) const;
  // What tlog-tiles serves at this path; kNotFound when this tree has no such tile, or
  // one that is less wide.
  Result<Bytes> tile(const TilePath& path) const;
  Result<SharedTile> full_tile(uint8_t level, uint64_t index) const;
  // Level 0 of the tree: the leaf hashes of [from, from + count).
  Result<std::vector<Digest>> leaf_hashes(uint64_t from, uint64_t count) const;

  // The log's verification key. Set once; kConflict when the file has another.
  Status bind_log_key(const std::string& vkey);
  std::string log_key() const;

  // All or nothing, and on disk when it returns Done. Whether a nonce is taken is the
  // caller's to ask. kConflict: the head has moved; kTryAgain: nothing was written; kMalformed: the
  // batch does not add up. kBroken: whether it was written is unknown; this object answers nothing
  // but kBroken afterwards, and only open() finds out. A commit that had no room on the disk is
  // kTryAgain: reading goes on, and appending once recover() has found out.
  Status append_batch(const Batch& batch);
  // The same in two steps, between which the append thread signs what the first has found.
  // kConflict: the batch is not for the head as it is; kMalformed: a leaf is too long.
  Result<Extension> extend(const Batch& batch) const;
  Status append_batch(const Batch& batch, Extension extension);
  // Done where there is nothing to find out. After a commit that had no room: opens the file
  // again as every start does, and folds its log in. kTryAgain while there is no room for that;
  // kBroken when what is there is not what was there before that commit.
  Status recover();

 private:
  struct Impl;
  explicit LedgerStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace souk::ledger
