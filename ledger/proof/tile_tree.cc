#include "ledger/proof/tile_tree.h"

#include <algorithm>
#include <bit>

namespace souk::ledger {
namespace {

// Where the nodes of a height begin among a tile's 511.
constexpr uint64_t first_of(int height) {
  return 2 * kTileWidth - (2 * kTileWidth >> height);
}

// The largest power of two smaller than n; n > 1 (RFC 6962 section 2.1).
uint64_t split_point(uint64_t n) {
  return std::bit_floor(n - 1);
}

}  // namespace

Result<Tile> Tile::of(ByteView hashes) {
  if (hashes.empty() || hashes.size() % 32 != 0 || hashes.size() > kTileBytes) {
    return Error(Code::kMalformed, "tile: expected 1 to 256 hashes of 32 bytes");
  }
  Tile tile;
  for (size_t at = 0; at < hashes.size(); at += 32) {
    auto hash = TRY(fixed<32>(hashes.subspan(at, 32)));
    tile.push(hash);
  }
  return tile;
}

void Tile::push(const Digest& hash) {
  CHECK(width_ < kTileWidth);
  uint64_t index = width_++;
  nodes_[index] = hash;
  for (int height = 0; (index & 1) != 0; ++height, index >>= 1) {
    uint64_t first = first_of(height);
    nodes_[first_of(height + 1) + (index >> 1)] =
        node_hash(nodes_[first + index - 1], nodes_[first + index]);
  }
}

const Digest& Tile::node(int height, uint64_t index) const {
  CHECK(height >= 0 && height <= kTileHeight && (index + 1) << height <= width_);
  return nodes_[first_of(height) + index];
}

Bytes Tile::bytes(uint64_t width) const {
  CHECK(width <= width_);
  Bytes out;
  out.reserve(width * 32);
  for (uint64_t i = 0; i < width; ++i) append(out, nodes_[i]);
  return out;
}

Result<TileTree> TileTree::of(uint64_t size, std::span<const std::vector<Digest>> levels) {
  TileTree tree;
  tree.size_ = size;
  uint64_t hashes = size;
  for (const auto& level : levels) {
    if (level.size() != hashes % kTileWidth) {
      return Error(Code::kMalformed, "tree: expected the partial tiles of its size");
    }
    tree.edges_.emplace_back();
    for (const auto& hash : level) tree.edges_.back().push(hash);
    hashes /= kTileWidth;
  }
  if (hashes != 0) return Error(Code::kMalformed, "tree: expected a tile for every level");
  return tree;
}

void TileTree::append(const Digest& leaf_hash, std::vector<FilledTile>& filled) {
  Digest hash = leaf_hash;
  for (uint8_t level = 0;; ++level) {
    if (level == edges_.size()) edges_.emplace_back();
    auto& edge = edges_[level];
    edge.push(hash);
    if (!edge.full()) break;
    hash = edge.root();
    uint64_t index = size_ >> (kTileHeight * (level + 1));
    filled.push_back({level, index, std::make_shared<const Tile>(edge)});
    edge = Tile();
  }
  ++size_;
}

CompactTree TileTree::compact() const {
  std::vector<Digest> frontier;
  for (size_t level = edges_.size(); level-- > 0;) {
    uint64_t width = edges_[level].width();
    for (int height = kTileHeight - 1; height >= 0; --height) {
      if ((width >> height & 1) == 0) continue;
      frontier.push_back(edges_[level].node(height, (width >> height) - 1));
    }
  }
  return CompactTree::of(size_, std::move(frontier)).take();
}

Digest TileTree::root() const {
  return compact().root();
}

const Tile* TileTree::edge(uint8_t level) const {
  if (level >= edges_.size() || edges_[level].width() == 0) return nullptr;
  return &edges_[level];
}

// The complete subtree [index·2^height, (index+1)·2^height).
Result<Digest> TileProver::node(int height, uint64_t index) {
  int level = height / kTileHeight;
  int inner = height % kTileHeight;
  uint64_t tile = index >> (kTileHeight - inner);
  uint64_t at = index & ((kTileWidth >> inner) - 1);
  uint64_t full = tree_.size() >> (kTileHeight * level) >> kTileHeight;
  if (tile >= full) {
    const Tile* edge = tree_.edge(static_cast<uint8_t>(level));
    CHECK(edge != nullptr && tile == full);
    return edge->node(inner, at);
  }
  auto& held = held_[static_cast<size_t>(level)];
  if (!held.tile || held.index != tile) {
    held.tile = TRY(fetch_(static_cast<uint8_t>(level), tile));
    held.index = tile;
    if (!held.tile || !held.tile->full()) {
      held.tile = nullptr;
      return Error(Code::kBroken, "expected a full tile");
    }
  }
  return held.tile->node(inner, at);
}

// The Merkle tree hash of [begin, end), begin being a multiple of the largest power of
// two of its length rounded up: its complete subtrees, folded from the right.
Result<Digest> TileProver::range(uint64_t begin, uint64_t end) {
  uint64_t n = end - begin;
  std::optional<Digest> hash;
  for (int height = 0; height < 64; ++height) {
    if ((n >> height & 1) == 0) continue;
    uint64_t start = begin + (n >> height << height) - (uint64_t{1} << height);
    auto left = TRY(node(height, start >> height));
    hash = hash ? node_hash(left, *hash) : left;
  }
  CHECK(hash);
  return *hash;
}

Result<Digest> TileProver::root(uint64_t size) {
  CHECK(size <= tree_.size());
  if (size == 0) return empty_root();
  return range(0, size);
}

Result<std::vector<Digest>> TileProver::inclusion(uint64_t index, uint64_t size) {
  CHECK(index < size && size <= tree_.size());
  std::vector<Digest> path;
  path.reserve(inclusion_length(index, size));
  // From the leaf up: siblings that are complete, then the one that is not, then those
  // on the left; see inclusion_length.
  uint64_t last = size - 1;
  for (int height = 0; (last >> height) != 0; ++height) {
    uint64_t at = index >> height;
    uint64_t sibling = at ^ 1;
    if (sibling < last >> height) {
      auto hash = TRY(node(height, sibling));
      path.push_back(hash);
    } else if (sibling == last >> height) {
      auto hash = TRY(range(sibling << height, size));
      path.push_back(hash);
    }
  }
  return path;
}

// RFC 6962 section 2.1.2: the proof is collected from the old tree's last complete
// subtree up.
Result<std::vector<Digest>> TileProver::consistency(uint64_t old_size, uint64_t new_size) {
  CHECK(0 < old_size && old_size <= new_size && new_size <= tree_.size());
  std::vector<Digest> proof;
  if (old_size == new_size) return proof;
  uint64_t begin = 0;
  uint64_t end = new_size;
  std::vector<std::pair<uint64_t, uint64_t>> parts;  // from the top down
  while (end != old_size) {
    uint64_t middle = begin + split_point(end - begin);
    if (old_size <= middle) {
      parts.emplace_back(middle, end);
      end = middle;
    } else {
      parts.emplace_back(begin, middle);
      begin = middle;
    }
  }
  if (begin != 0) parts.emplace_back(begin, end);
  std::reverse(parts.begin(), parts.end());
  for (auto [from, to] : parts) {
    auto hash = TRY(range(from, to));
    proof.push_back(hash);
  }
  return proof;
}

}  // namespace souk::ledger
