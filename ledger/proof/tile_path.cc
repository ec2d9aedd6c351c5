#include "ledger/proof/tile_path.h"

#include <algorithm>
#include <vector>

#include "ledger/proof/decimal.h"

namespace souk::ledger {
namespace {

constexpr uint64_t kMaxLevel = 63;
constexpr size_t kMaxIndexGroups = 6;  // 10^18 > 2^56

Error bad(const char* expected) {
  return Error(Code::kMalformed, std::string("tile path: expected ") + expected);
}

bool is_group(std::string_view text) {
  return text.size() == 3 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// "x001", "x234", "067": all but the last begin with an x, and no leading group is zero.
Result<uint64_t> read_index(const std::vector<std::string_view>& parts) {
  if (parts.empty() || parts.size() > kMaxIndexGroups) return bad("an index of 3-digit groups");
  uint64_t index = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    auto part = parts[i];
    if (i + 1 < parts.size()) {
      if (part.empty() || part.front() != 'x') return bad("x before all groups but the last");
      part.remove_prefix(1);
    }
    if (!is_group(part)) return bad("an index of 3-digit groups");
    if (i == 0 && parts.size() > 1 && part == "000") return bad("the shortest form of the index");
    for (char c : part) index = index * 10 + static_cast<uint64_t>(c - '0');
  }
  if (index >> 56 != 0) return bad("an index below 2^56");
  return index;
}

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> parts;
  while (true) {
    size_t slash = text.find('/');
    parts.push_back(text.substr(0, slash));
    if (slash == std::string_view::npos) return parts;
    text.remove_prefix(slash + 1);
  }
}

}  // namespace

std::string TilePath::text() const {
  std::string number;
  uint64_t rest = index;
  do {
    std::string group = std::to_string(1000 + rest % 1000).substr(1);
    number = number.empty() ? group : "x" + group + "/" + number;
    rest /= 1000;
  } while (rest > 0);
  std::string out = "tile/" + (level ? std::to_string(*level) : "entries") + "/" + number;
  return width == kTileWidth ? out : out + ".p/" + std::to_string(width);
}

Result<TilePath> parse_tile_path(std::string_view path) {
  auto parts = split(path);
  if (parts.size() < 3 || parts[0] != "tile") return bad("tile/LEVEL/INDEX");
  TilePath out;
  if (parts[1] != "entries") {
    auto level = TRY(parse_decimal(parts[1]));
    if (level > kMaxLevel) return bad("a level from 0 to 63");
    out.level = static_cast<uint8_t>(level);
  }
  parts.erase(parts.begin(), parts.begin() + 2);
  constexpr std::string_view kPartial = ".p";
  if (parts.size() > 1) {
    auto& before = parts[parts.size() - 2];
    if (before.size() > kPartial.size() &&
        before.substr(before.size() - kPartial.size()) == kPartial) {
      auto width = TRY(parse_decimal(parts.back()));
      if (width < 1 || width >= kTileWidth) return bad("a width from 1 to 255");
      out.width = static_cast<uint16_t>(width);
      before.remove_suffix(kPartial.size());
      parts.pop_back();
    }
  }
  out.index = TRY(read_index(parts));
  return out;
}

uint64_t tile_width(const TilePath& path, uint64_t size) {
  int shift = kTileHeight * path.level.value_or(0);
  uint64_t hashes = shift >= 64 ? 0 : size >> shift;
  if (path.index > hashes / kTileWidth) return 0;
  return std::min(kTileWidth, hashes - path.index * kTileWidth);
}

}  // namespace souk::ledger
