// The ledger on disk: one SQLite file, append-only. Format and recovery:
// ledger/SPEC.md, "Store".
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ledger/base/bytes.h"
#include "ledger/base/clock.h"
#include "ledger/base/named.h"
#include "ledger/proof/merkle.h"

namespace souk::ledger {

struct NewEntry {
  Bytes leaf;
  PublicKey author;
  std::string nonce;
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

// One thread appends; any thread reads. Another process may read the file, and a
// second one that appends loses the compare-and-swap on the head.
class LedgerStore {
 public:
  // A new file. kConflict when there is one already.
  static Result<LedgerStore> create(const std::string& path);
  // kNotFound when there is no file; kBroken when the entries on disk do not add up
  // to the head and its checkpoint.
  static Result<LedgerStore> open(const std::string& path);

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

  // kNotFound past the end.
  Result<Bytes> leaf(uint64_t seq) const;
  // At most `max` from `from` on, in order; fewer at the end.
  Result<std::vector<Bytes>> leaves(uint64_t from, size_t max) const;
  Result<std::optional<uint64_t>> find_nonce(const PublicKey& author,
                                             const std::string& nonce) const;
  // Level 0 of the tree: the leaf hashes of [from, from + count).
  Result<std::vector<Digest>> leaf_hashes(uint64_t from, uint64_t count) const;

  // The log's verification key. Set once; kConflict when the file has another.
  Status bind_log_key(const std::string& vkey);
  std::string log_key() const;

  // All or nothing, and on disk when it returns Done. kConflict: the head has moved or
  // a nonce is taken; kTryAgain: nothing was written; kMalformed: the batch does not
  // add up. kBroken: whether it was written is unknown; this object answers nothing but
  // kBroken afterwards, and only open() finds out.
  Status append_batch(const Batch& batch);

 private:
  struct Impl;
  explicit LedgerStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace souk::ledger
