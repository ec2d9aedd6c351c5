// The paths of C2SP tlog-tiles (c2sp.org/tlog-tiles): tile/<L>/<N>[.p/<W>] and
// tile/entries/<N>[.p/<W>].
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "ledger/base/result.h"

namespace souk::ledger {

inline constexpr uint64_t kTileWidth = 256;
inline constexpr size_t kTileBytes = kTileWidth * 32;
inline constexpr int kTileHeight = 8;

// One tile or entry bundle.
struct TilePath {
  std::optional<uint8_t> level;  // 0 to 63; absent: the bundle of entries
  uint64_t index = 0;
  uint16_t width = kTileWidth;  // 1 to 256; below 256 it is partial

  std::string text() const;  // without a leading slash

  friend bool operator==(const TilePath&, const TilePath&) = default;
};

// kMalformed when it is no path of any tile: another spelling of a number, a level
// past 63, an index of 2^56 and more (of which there can be no leaf), a width of 0 or 256.
Result<TilePath> parse_tile_path(std::string_view path);

// How many hashes the tile has in a tree of `size` leaves: 0 when there is no such
// tile, kTileWidth when it is full. The same for a bundle as for level 0.
uint64_t tile_width(const TilePath& path, uint64_t size);

}  // namespace souk::ledger
