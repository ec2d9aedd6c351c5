// Which keys have never been seen: a blocked Bloom filter (Putze, Sanders, Singler, "Cache-,
// Hash- and Space-Efficient Bloom Filters", 2007). It forgets nothing and is wrong about one
// key in a hundred that it has not seen.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

namespace souk::ledger {

// For keys that are hashes themselves: their bytes are taken as they are. For one thread at a
// time.
class KeyFilter {
 public:
  using Key = std::array<uint8_t, 16>;

  explicit KeyFilter(uint64_t capacity)
      : capacity_(capacity),
        blocks_(static_cast<size_t>(capacity * kBitsPerKey / kBlockBits + 1)) {}

  void add(const Key& key) {
    ++size_;
    auto& block = blocks_[block_of(key)];
    visit(key, [&](size_t word, uint64_t bit) {
      block[word] |= bit;
      return true;
    });
  }
  bool may_have(const Key& key) const {
    const auto& block = blocks_[block_of(key)];
    return visit(key, [&](size_t word, uint64_t bit) { return (block[word] & bit) != 0; });
  }
  // Past its capacity it still answers, and is wrong more often.
  bool full() const { return size_ >= capacity_; }

 private:
  static constexpr uint64_t kBlockBits = 512;  // a cache line
  static constexpr uint64_t kBitsPerKey = 12;
  static constexpr int kProbes = 6;
  using Block = std::array<uint64_t, kBlockBits / 64>;

  size_t block_of(const Key& key) const {
    uint64_t low = 0;
    std::memcpy(&low, key.data(), sizeof low);
    return static_cast<size_t>(low % blocks_.size());
  }
  // Six places of nine bits each, from the other half of the key.
  template <class Each>
  static bool visit(const Key& key, Each each) {
    uint64_t bits = 0;
    std::memcpy(&bits, key.data() + 8, sizeof bits);
    for (int i = 0; i < kProbes; ++i, bits >>= 9) {
      if (!each(static_cast<size_t>(bits >> 6 & 7), uint64_t{1} << (bits & 63))) return false;
    }
    return true;
  }

  uint64_t capacity_;
  uint64_t size_ = 0;
  std::vector<Block> blocks_;
};

}  // namespace souk::ledger
