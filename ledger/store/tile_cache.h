// Full tiles kept in memory, the longest unused thrown out first.
#pragma once

#include <list>
#include <mutex>
#include <unordered_map>

#include "ledger/proof/tile_tree.h"

namespace souk::ledger {

// All functions may be called from any thread.
class TileCache {
 public:
  // A tile takes 16 KiB.
  explicit TileCache(size_t max_tiles) : max_tiles_(max_tiles) {}

  // Null when it is not here.
  SharedTile find(uint8_t level, uint64_t index) {
    std::lock_guard lock(mutex_);
    auto it = places_.find(key(level, index));
    if (it == places_.end()) return nullptr;
    tiles_.splice(tiles_.begin(), tiles_, it->second);
    return it->second->second;
  }

  void put(uint8_t level, uint64_t index, SharedTile tile) {
    std::lock_guard lock(mutex_);
    auto [it, is_new] = places_.try_emplace(key(level, index));
    if (!is_new) return;
    tiles_.emplace_front(it->first, std::move(tile));
    it->second = tiles_.begin();
    if (tiles_.size() <= max_tiles_) return;
    places_.erase(tiles_.back().first);
    tiles_.pop_back();
  }

 private:
  using Tiles = std::list<std::pair<uint64_t, SharedTile>>;
  static uint64_t key(uint8_t level, uint64_t index) { return uint64_t{level} << 56 | index; }

  const size_t max_tiles_;
  std::mutex mutex_;
  Tiles tiles_;                                           // Guarded by mutex_; newest first.
  std::unordered_map<uint64_t, Tiles::iterator> places_;  // Guarded by mutex_.
};

}  // namespace souk::ledger
