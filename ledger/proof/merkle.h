// The Merkle tree of RFC 6962 section 2.1 (RFC 9162 section 2.1.3 and 2.1.4 for
// verification) over SHA-256. Proof lengths are exact: one hash more or less is refused.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ledger/base/bytes.h"
#include "ledger/base/named.h"

namespace souk::ledger {

// SHA-256(0x01 || left || right).
Digest node_hash(const Digest& left, const Digest& right);
// SHA-256 of nothing: the root of no leaves.
Digest empty_root();

// The right edge of a growing tree: popcount(size) hashes say all there is to
// say about what came before.
class CompactTree {
 public:
  CompactTree() = default;
  // The hashes of the complete subtrees of `size` leaves, largest first.
  // kMalformed unless there are popcount(size) of them.
  static Result<CompactTree> of(uint64_t size, std::vector<Digest> frontier);
  // Reads what serialise() wrote.
  static Result<CompactTree> restore(ByteView bytes);

  void append(const Digest& leaf_hash);
  uint64_t size() const { return size_; }
  Digest root() const;
  const std::vector<Digest>& frontier() const { return frontier_; }
  // size (8 bytes, big endian), then the frontier.
  Bytes serialise() const;

  friend bool operator==(const CompactTree&, const CompactTree&) = default;

 private:
  uint64_t size_ = 0;
  std::vector<Digest> frontier_;
};

// Every complete subtree of a growing tree in memory (64 bytes a leaf), so that
// a proof costs a logarithm.
class MerkleTree {
 public:
  void append(const Digest& leaf_hash);
  // Forgets every leaf from `size` on. CHECKs size <= size().
  void truncate(uint64_t size);
  uint64_t size() const { return levels_.empty() ? 0 : levels_.front().size(); }
  // Of the first `size` leaves. CHECKs size <= size().
  Digest root(uint64_t size) const;
  Digest root() const { return root(size()); }
  // CHECKs index < size().
  const Digest& leaf(uint64_t index) const;
  // CHECK index < size <= size().
  std::vector<Digest> inclusion_proof(uint64_t index, uint64_t size) const;
  // CHECK 0 < old_size <= new_size <= size().
  std::vector<Digest> consistency_proof(uint64_t old_size, uint64_t new_size) const;

 private:
  Digest range(uint64_t begin, uint64_t end) const;
  void consistency(uint64_t old_size, uint64_t begin, uint64_t end, std::vector<Digest>& out) const;

  std::vector<std::vector<Digest>> levels_;  // levels_[k][i]: leaves [i·2^k, (i+1)·2^k)
};

Digest tree_root(std::span<const Digest> leaves);
// CHECKs index < leaves.size().
std::vector<Digest> inclusion_proof(std::span<const Digest> leaves, uint64_t index);
// CHECKs 0 < old_size <= leaves.size().
std::vector<Digest> consistency_proof(std::span<const Digest> leaves, uint64_t old_size);

// How many hashes an inclusion proof has; 64 and one, which none has, for index >= size.
size_t inclusion_length(uint64_t index, uint64_t size);

// kUnauthentic unless `proof` shows the leaf at `index` of the tree of `size`
// leaves with this root.
Status verify_inclusion(const Digest& leaf_hash, uint64_t index, uint64_t size,
                        std::span<const Digest> proof, const Digest& root);
// kUnauthentic unless `proof` shows that the tree of new_size leaves extends the
// tree of old_size leaves. old_size 0 is refused (kMalformed): there everything follows.
Status verify_consistency(uint64_t old_size, uint64_t new_size, std::span<const Digest> proof,
                          const Digest& old_root, const Digest& new_root);

}  // namespace souk::ledger
