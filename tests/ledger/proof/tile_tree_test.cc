#include "ledger/proof/tile_tree.h"

#include <gtest/gtest.h>

#include <map>
#include <unordered_map>

#include "ledger/crypto/hash.h"
#include "ledger/entry/leaf.h"

namespace souk::ledger {
namespace {

#ifdef SOUK_SANITIZED
constexpr uint64_t kAll = 300;
#else
constexpr uint64_t kAll = 2000;
#endif

std::vector<Digest> leaves_of(uint64_t n) {
  std::vector<Digest> out;
  for (uint64_t i = 0; i < n; ++i) out.push_back(leaf_hash(as_bytes("leaf " + std::to_string(i))));
  return out;
}

// RFC 6962 section 2.1, word for word and recursively; what it has hashed it remembers.
class Reference {
 public:
  explicit Reference(std::vector<Digest> leaves) : leaves_(std::move(leaves)) {}

  Digest root(uint64_t begin, uint64_t end) {
    if (begin == end) return sha256({});
    if (end - begin == 1) return leaves_[begin];
    auto [at, is_new] = known_.try_emplace(begin << 32 | end);
    if (!is_new) return at->second;
    uint64_t k = split(end - begin);
    Bytes both{0x01};
    append(both, root(begin, begin + k));
    append(both, root(begin + k, end));
    return known_[begin << 32 | end] = sha256(both);
  }
  void path(uint64_t m, uint64_t begin, uint64_t end, std::vector<Digest>& out) {
    if (end - begin == 1) return;
    uint64_t k = split(end - begin);
    if (m < k) {
      path(m, begin, begin + k, out);
      out.push_back(root(begin + k, end));
    } else {
      path(m - k, begin + k, end, out);
      out.push_back(root(begin, begin + k));
    }
  }
  void subproof(uint64_t m, uint64_t begin, uint64_t end, bool whole, std::vector<Digest>& out) {
    if (m == end - begin) {
      if (!whole) out.push_back(root(begin, end));
      return;
    }
    uint64_t k = split(end - begin);
    if (m <= k) {
      subproof(m, begin, begin + k, whole, out);
      out.push_back(root(begin + k, end));
    } else {
      subproof(m - k, begin + k, end, false, out);
      out.push_back(root(begin, begin + k));
    }
  }

 private:
  static uint64_t split(uint64_t n) {
    uint64_t k = 1;
    while (k * 2 < n) k *= 2;
    return k;
  }
  std::vector<Digest> leaves_;
  std::unordered_map<uint64_t, Digest> known_;
};

// A tree whose full tiles lie in a map.
struct Tiled {
  TileTree tree;
  std::map<std::pair<uint8_t, uint64_t>, SharedTile> full;
  FetchTile fetch = [this](uint8_t level, uint64_t index) -> Result<SharedTile> {
    auto it = full.find({level, index});
    if (it == full.end()) return Error(Code::kNotFound, "expected a tile");
    return it->second;
  };

  explicit Tiled(std::span<const Digest> leaves) {
    std::vector<FilledTile> filled;
    for (const auto& leaf : leaves) tree.append(leaf, filled);
    for (auto& one : filled) full[{one.level, one.index}] = one.tile;
  }
  Tiled(const Tiled&) = delete;
};

TEST(TileTree, InclusionProofsOfEveryLeafOfEveryTreeAreThoseOfRfc6962) {
  auto leaves = leaves_of(kAll);
  Reference reference(leaves);
  Tiled tiled(leaves);
  TileProver prover(tiled.tree, tiled.fetch);
  uint64_t wrong = 0;
  for (uint64_t n = 1; n <= kAll; ++n) {
    auto root = reference.root(0, n);
    wrong += *prover.root(n) != root;
    for (uint64_t i = 0; i < n; ++i) {
      std::vector<Digest> expected;
      reference.path(i, 0, n, expected);
      auto path = prover.inclusion(i, n);
      wrong += !path || *path != expected || inclusion_length(i, n) != expected.size();
      wrong += !verify_inclusion(leaves[i], i, n, expected, root);
      // A wrong index in the same tree must not pass with this path.
      wrong += i % 13 == 7 && bool(verify_inclusion(leaves[i], i - 1, n, expected, root));
    }
  }
  EXPECT_EQ(wrong, 0u);
}

TEST(TileTree, ConsistencyProofsOfEveryPairOfTreesAreThoseOfRfc6962) {
  auto leaves = leaves_of(kAll);
  Reference reference(leaves);
  Tiled tiled(leaves);
  TileProver prover(tiled.tree, tiled.fetch);
  uint64_t wrong = 0;
  for (uint64_t n = 1; n <= kAll; ++n) {
    auto root = reference.root(0, n);
    for (uint64_t m = 1; m <= n; ++m) {
      std::vector<Digest> expected;
      reference.subproof(m, 0, n, true, expected);
      auto proof = prover.consistency(m, n);
      wrong += !proof || *proof != expected;
      wrong += !verify_consistency(m, n, expected, reference.root(0, m), root);
    }
  }
  EXPECT_EQ(wrong, 0u);
}

TEST(TileTree, RootAndCompactTreeAreThoseOfTheLeavesAtEverySize) {
  auto leaves = leaves_of(700);
  TileTree tree;
  CompactTree compact;
  std::vector<FilledTile> filled;
  for (const auto& leaf : leaves) {
    EXPECT_EQ(tree.root(), compact.root());
    EXPECT_EQ(tree.compact(), compact);
    tree.append(leaf, filled);
    compact.append(leaf);
  }
  ASSERT_EQ(filled.size(), 2u);
  for (uint64_t i = 0; i < 2; ++i) {
    EXPECT_EQ(filled[i].level, 0);
    EXPECT_EQ(filled[i].index, i);
    EXPECT_EQ(filled[i].tile->root(),
              tree_root(std::span<const Digest>(leaves).subspan(i * 256, 256)));
  }
}

TEST(TileTree, GoesOnFromItsPartialTiles) {
  auto leaves = leaves_of(66000);  // two levels of full tiles
  Tiled whole(leaves);
  EXPECT_EQ(whole.full.count({1, 0}), 1u);
  for (uint64_t cut : {0u, 1u, 255u, 256u, 257u, 65535u, 65536u, 65600u}) {
    Tiled part(std::span<const Digest>(leaves).first(cut));
    std::vector<std::vector<Digest>> levels;
    for (uint64_t rest = cut, level = 0; rest > 0; rest /= 256, ++level) {
      levels.emplace_back();
      const Tile* edge = part.tree.edge(static_cast<uint8_t>(level));
      for (uint64_t i = 0; i < rest % 256; ++i) levels.back().push_back(edge->node(0, i));
    }
    auto restored = TileTree::of(cut, levels);
    ASSERT_TRUE(restored) << cut;
    EXPECT_EQ(restored->root(), part.tree.root()) << cut;
    std::vector<FilledTile> filled;
    for (uint64_t i = cut; i < leaves.size(); ++i) restored->append(leaves[i], filled);
    EXPECT_EQ(restored->root(), whole.tree.root()) << cut;
    if (cut > 0) {
      levels.back().pop_back();
      EXPECT_FALSE(TileTree::of(cut, levels)) << cut;
    }
  }
  TileProver prover(whole.tree, whole.fetch);
  for (uint64_t i : {0u, 255u, 256u, 65535u, 65536u, 65999u}) {
    auto path = prover.inclusion(i, 66000);
    ASSERT_TRUE(path);
    EXPECT_TRUE(verify_inclusion(leaves[i], i, 66000, *path, whole.tree.root())) << i;
  }
  auto proof = prover.consistency(65537, 66000);
  ASSERT_TRUE(proof);
  EXPECT_TRUE(verify_consistency(65537, 66000, *proof, *prover.root(65537), whole.tree.root()));
}

TEST(TileTree, SaysWhichTileItCouldNotFetch) {
  Tiled tiled(leaves_of(600));
  tiled.full.erase({0, 1});
  TileProver prover(tiled.tree, tiled.fetch);
  EXPECT_TRUE(prover.inclusion(3, 256));
  EXPECT_FALSE(prover.inclusion(300, 600));
  Tiled other(leaves_of(600));
  FetchTile partial = [&](uint8_t, uint64_t) -> Result<SharedTile> {
    auto tile = Tile::of(other.full.at({0, 0})->bytes(255));
    return std::make_shared<const Tile>(*tile);
  };
  TileProver fooled(other.tree, partial);
  EXPECT_EQ(fooled.inclusion(3, 600).error().code(), Code::kBroken);
}

TEST(Tile, ReadsOneTo256Hashes) {
  EXPECT_FALSE(Tile::of({}));
  EXPECT_FALSE(Tile::of(Bytes(31)));
  EXPECT_FALSE(Tile::of(Bytes(33)));
  EXPECT_FALSE(Tile::of(Bytes(8192 + 32)));
  EXPECT_EQ(Tile::of(Bytes(32))->width(), 1u);
  auto tile = Tile::of(Bytes(8192));
  ASSERT_TRUE(tile);
  EXPECT_TRUE(tile->full());
  EXPECT_EQ(tile->bytes(), Bytes(8192));
  EXPECT_EQ(tile->bytes(3), Bytes(96));
}

}  // namespace
}  // namespace souk::ledger
