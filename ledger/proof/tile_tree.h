// The Merkle tree of merkle.h kept as C2SP tlog-tiles: full tiles, which never change
// and lie elsewhere, and one partial tile a level, which is all that a growing tree
// needs in memory.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "ledger/proof/merkle.h"
#include "ledger/proof/tile_path.h"

namespace souk::ledger {

// Up to 256 hashes of one level and every node between them that is complete.
class Tile {
 public:
  Tile() = default;
  // kMalformed unless `hashes` are 1 to 256 of 32 bytes.
  static Result<Tile> of(ByteView hashes);

  uint64_t width() const { return width_; }
  bool full() const { return width_ == kTileWidth; }
  // CHECKs that it is not full.
  void push(const Digest& hash);
  // The root of hashes [index·2^height, (index+1)·2^height). CHECKs that it has them.
  const Digest& node(int height, uint64_t index) const;
  // CHECKs that it is full.
  const Digest& root() const { return node(kTileHeight, 0); }
  // The first `width` hashes, as tlog-tiles serves them. CHECKs width <= width().
  Bytes bytes(uint64_t width) const;
  Bytes bytes() const { return bytes(width_); }

 private:
  uint64_t width_ = 0;
  std::array<Digest, 2 * kTileWidth - 1> nodes_{};  // 256 hashes, 128 of pairs, … 1
};

using SharedTile = std::shared_ptr<const Tile>;

// A tile that an append has filled.
struct FilledTile {
  uint8_t level = 0;
  uint64_t index = 0;
  SharedTile tile;
};

// The right edge. A value: copying one is how a batch is tried and thrown away.
class TileTree {
 public:
  TileTree() = default;
  // From the hashes of each level's partial tile: levels[l] has size / 256^l % 256.
  static Result<TileTree> of(uint64_t size, std::span<const std::vector<Digest>> levels);

  // Tiles it fills are added to `filled`, lowest level first.
  void append(const Digest& leaf_hash, std::vector<FilledTile>& filled);
  uint64_t size() const { return size_; }
  Digest root() const;
  // The same tree as its complete subtrees, largest first.
  CompactTree compact() const;
  // The partial tile of a level; null when it is empty.
  const Tile* edge(uint8_t level) const;

 private:
  uint64_t size_ = 0;
  std::vector<Tile> edges_;
};

// Finds a full tile. What it returns must be the one that was filled.
using FetchTile = std::function<Result<SharedTile>(uint8_t level, uint64_t index)>;

// Proofs over a tree and every smaller one it has been. Borrows both arguments. Errors
// are those of the fetch.
class TileProver {
 public:
  TileProver(const TileTree& tree, const FetchTile& fetch) : tree_(tree), fetch_(fetch) {}

  // CHECKs size <= tree.size().
  Result<Digest> root(uint64_t size);
  // CHECKs index < size <= tree.size().
  Result<std::vector<Digest>> inclusion(uint64_t index, uint64_t size);
  // CHECKs 0 < old_size <= new_size <= tree.size().
  Result<std::vector<Digest>> consistency(uint64_t old_size, uint64_t new_size);

 private:
  Result<Digest> node(int height, uint64_t index);
  Result<Digest> range(uint64_t begin, uint64_t end);

  const TileTree& tree_;
  const FetchTile& fetch_;
  // The tile last fetched at each level: a path asks for eight nodes of one in a row.
  struct Held {
    uint64_t index = 0;
    SharedTile tile;
  };
  std::array<Held, 8> held_{};
};

}  // namespace souk::ledger
