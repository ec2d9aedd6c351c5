#include "ledger/proof/merkle.h"

#include <bit>

#include "ledger/crypto/hash.h"

namespace souk::ledger {
namespace {

// The largest power of two smaller than n; n > 1 (RFC 6962 section 2.1).
uint64_t split_point(uint64_t n) {
  return std::bit_floor(n - 1);
}

Error wrong(const char* what) {
  return Error(Code::kUnauthentic, std::string("expected ") + what);
}

}  // namespace

Digest node_hash(const Digest& left, const Digest& right) {
  std::array<uint8_t, 65> bytes{};
  bytes[0] = 0x01;
  std::copy(left.begin(), left.end(), bytes.begin() + 1);
  std::copy(right.begin(), right.end(), bytes.begin() + 33);
  return sha256(bytes);
}

Digest empty_root() {
  return sha256({});
}

Result<CompactTree> CompactTree::of(uint64_t size, std::vector<Digest> frontier) {
  if (frontier.size() != static_cast<size_t>(std::popcount(size))) {
    return Error(Code::kMalformed, "expected one frontier hash for each one bit of the tree size");
  }
  CompactTree tree;
  tree.size_ = size;
  tree.frontier_ = std::move(frontier);
  return tree;
}

Bytes CompactTree::serialise() const {
  Bytes out;
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<uint8_t>(size_ >> shift));
  for (const auto& hash : frontier_) souk::append(out, hash);
  return out;
}

Result<CompactTree> CompactTree::restore(ByteView bytes) {
  if (bytes.size() < 8 || bytes.size() % 32 != 8 || bytes.size() > 8 + 64 * 32) {
    return Error(Code::kMalformed, "expected a tree size and its frontier hashes");
  }
  uint64_t size = 0;
  for (size_t i = 0; i < 8; ++i) size = size << 8 | bytes[i];
  std::vector<Digest> frontier;
  for (size_t at = 8; at < bytes.size(); at += 32) {
    auto hash = TRY(fixed<32>(bytes.subspan(at, 32)));
    frontier.push_back(hash);
  }
  return of(size, std::move(frontier));
}

void CompactTree::append(const Digest& leaf_hash) {
  Digest hash = leaf_hash;
  for (uint64_t rest = size_; rest & 1; rest >>= 1) {
    hash = node_hash(frontier_.back(), hash);
    frontier_.pop_back();
  }
  frontier_.push_back(hash);
  ++size_;
}

Digest CompactTree::root() const {
  if (frontier_.empty()) return empty_root();
  Digest root = frontier_.back();
  for (size_t i = frontier_.size() - 1; i > 0; --i) root = node_hash(frontier_[i - 1], root);
  return root;
}

void MerkleTree::append(const Digest& leaf_hash) {
  Digest hash = leaf_hash;
  for (size_t level = 0;; ++level) {
    if (level == levels_.size()) levels_.emplace_back();
    auto& row = levels_[level];
    row.push_back(hash);
    if (row.size() % 2 != 0) return;
    hash = node_hash(row[row.size() - 2], row.back());
  }
}

void MerkleTree::truncate(uint64_t size) {
  CHECK(size <= this->size());
  for (size_t level = 0; level < levels_.size(); ++level) levels_[level].resize(size >> level);
  while (!levels_.empty() && levels_.back().empty()) levels_.pop_back();
}

Digest MerkleTree::root(uint64_t size) const {
  CHECK(size <= this->size());
  return size == 0 ? empty_root() : range(0, size);
}

const Digest& MerkleTree::leaf(uint64_t index) const {
  CHECK(index < size());
  return levels_[0][index];
}

// The Merkle tree hash of [begin, end), begin being a multiple of the largest
// power of two of its length rounded up.
Digest MerkleTree::range(uint64_t begin, uint64_t end) const {
  uint64_t n = end - begin;
  if (std::has_single_bit(n)) {
    auto level = static_cast<size_t>(std::countr_zero(n));
    return levels_[level][begin >> level];
  }
  uint64_t k = split_point(n);
  return node_hash(range(begin, begin + k), range(begin + k, end));
}

std::vector<Digest> MerkleTree::inclusion_proof(uint64_t index, uint64_t size) const {
  CHECK(index < size && size <= this->size());
  std::vector<Digest> path;
  uint64_t begin = 0;
  uint64_t end = size;
  while (end - begin > 1) {
    uint64_t middle = begin + split_point(end - begin);
    if (index < middle) {
      path.push_back(range(middle, end));
      end = middle;
    } else {
      path.push_back(range(begin, middle));
      begin = middle;
    }
  }
  return {path.rbegin(), path.rend()};
}

// RFC 6962 section 2.1.2, SUBPROOF over [begin, end) for the first old_size leaves.
void MerkleTree::consistency(uint64_t old_size, uint64_t begin, uint64_t end,
                             std::vector<Digest>& out) const {
  uint64_t n = end - begin;
  uint64_t m = old_size - begin;
  if (m == n) {
    if (begin != 0) out.push_back(range(begin, end));
    return;
  }
  uint64_t k = split_point(n);
  if (m <= k) {
    consistency(old_size, begin, begin + k, out);
    out.push_back(range(begin + k, end));
  } else {
    consistency(old_size, begin + k, end, out);
    out.push_back(range(begin, begin + k));
  }
}

std::vector<Digest> MerkleTree::consistency_proof(uint64_t old_size, uint64_t new_size) const {
  CHECK(0 < old_size && old_size <= new_size && new_size <= size());
  std::vector<Digest> proof;
  consistency(old_size, 0, new_size, proof);
  return proof;
}

namespace {

MerkleTree tree_of(std::span<const Digest> leaves) {
  MerkleTree tree;
  for (const auto& leaf : leaves) tree.append(leaf);
  return tree;
}

}  // namespace

Digest tree_root(std::span<const Digest> leaves) {
  CompactTree tree;
  for (const auto& leaf : leaves) tree.append(leaf);
  return tree.root();
}

std::vector<Digest> inclusion_proof(std::span<const Digest> leaves, uint64_t index) {
  return tree_of(leaves).inclusion_proof(index, leaves.size());
}

std::vector<Digest> consistency_proof(std::span<const Digest> leaves, uint64_t old_size) {
  return tree_of(leaves).consistency_proof(old_size, leaves.size());
}

// Up to where the paths of this leaf and the last one part there is a sibling on every
// level; above, one where this path goes right.
size_t inclusion_length(uint64_t index, uint64_t size) {
  if (index >= size) return 65;
  auto shared = static_cast<int>(std::bit_width(index ^ (size - 1)));
  uint64_t above = shared == 64 ? 0 : index >> shared;
  return static_cast<size_t>(shared + std::popcount(above));
}

// RFC 9162 section 2.1.3.2.
Status verify_inclusion(const Digest& leaf_hash, uint64_t index, uint64_t size,
                        std::span<const Digest> proof, const Digest& root) {
  if (index >= size) return wrong("an index inside the tree");
  uint64_t fn = index;
  uint64_t sn = size - 1;
  Digest hash = leaf_hash;
  for (const auto& step : proof) {
    if (sn == 0) return wrong("an inclusion proof with no more hashes");
    if ((fn & 1) != 0 || fn == sn) {
      hash = node_hash(step, hash);
      while ((fn & 1) == 0 && fn != 0) {
        fn >>= 1;
        sn >>= 1;
      }
    } else {
      hash = node_hash(hash, step);
    }
    fn >>= 1;
    sn >>= 1;
  }
  if (sn != 0) return wrong("an inclusion proof with more hashes");
  if (hash != root) return wrong("an inclusion proof that leads to the root");
  return Done{};
}

// RFC 9162 section 2.1.4.2.
Status verify_consistency(uint64_t old_size, uint64_t new_size, std::span<const Digest> proof,
                          const Digest& old_root, const Digest& new_root) {
  if (old_size == 0) return Error(Code::kMalformed, "expected an old tree that is not empty");
  if (old_size > new_size) return wrong("a tree that has not shrunk");
  if (old_size == new_size) {
    if (!proof.empty()) return wrong("an empty proof for one and the same size");
    if (old_root != new_root) return wrong("one root for one size");
    return Done{};
  }
  if (proof.empty()) return wrong("a consistency proof with more hashes");
  uint64_t fn = old_size - 1;
  uint64_t sn = new_size - 1;
  while ((fn & 1) != 0) {
    fn >>= 1;
    sn >>= 1;
  }
  // A whole old tree is a node of the new one and not repeated in the proof.
  bool whole = std::has_single_bit(old_size);
  Digest fr = whole ? old_root : proof.front();
  Digest sr = fr;
  for (const auto& step : proof.subspan(whole ? 0 : 1)) {
    if (sn == 0) return wrong("a consistency proof with no more hashes");
    if ((fn & 1) != 0 || fn == sn) {
      fr = node_hash(step, fr);
      sr = node_hash(step, sr);
      while ((fn & 1) == 0 && fn != 0) {
        fn >>= 1;
        sn >>= 1;
      }
    } else {
      sr = node_hash(sr, step);
    }
    fn >>= 1;
    sn >>= 1;
  }
  if (sn != 0) return wrong("a consistency proof with more hashes");
  if (fr != old_root) return wrong("a consistency proof that leads to the old root");
  if (sr != new_root) return wrong("a consistency proof that leads to the new root");
  return Done{};
}

}  // namespace souk::ledger
