// UTF-8 (RFC 3629), one character at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace souk::policy {

struct Utf8Character {
  uint32_t point = 0;
  size_t length = 0;  // 0: not UTF-8
};

inline Utf8Character utf8_at(std::string_view text, size_t at) {
  auto byte = [&](size_t i) { return static_cast<uint8_t>(text[at + i]); };
  uint8_t b = byte(0);
  if (b < 0x80) return {b, 1};
  size_t length = b >= 0xc2 && b <= 0xdf   ? 2
                  : b >= 0xe0 && b <= 0xef ? 3
                  : b >= 0xf0 && b <= 0xf4 ? 4
                                           : 0;
  if (length == 0 || at + length > text.size()) return {};
  uint32_t point = b & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    point = (point << 6) | (byte(i) & 0x3fu);
  }
  bool overlong = (length == 3 && point < 0x800) || (length == 4 && point < 0x10000);
  bool surrogate = point >= 0xd800 && point <= 0xdfff;
  if (overlong || surrogate || point > 0x10ffff) return {};
  return {point, length};
}

inline bool is_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    auto character = utf8_at(text, at);
    if (character.length == 0) return false;
    at += character.length;
  }
  return true;
}

// Control, invisible and direction-changing characters: nothing a person can see.
inline bool is_invisible(uint32_t point) {
  return point < 0x20 || (point >= 0x7f && point <= 0xa0) || point == 0xad || point == 0x34f ||
         point == 0x61c || point == 0x115f || point == 0x1160 ||
         (point >= 0x17b4 && point <= 0x17b5) || (point >= 0x180b && point <= 0x180f) ||
         point == 0x1680 || (point >= 0x2000 && point <= 0x200f) ||
         (point >= 0x2028 && point <= 0x202f) || (point >= 0x205f && point <= 0x206f) ||
         point == 0x3000 || point == 0x3164 || (point >= 0xfe00 && point <= 0xfe0f) ||
         point == 0xfeff || point == 0xffa0 || (point >= 0xfff0 && point <= 0xfffb) ||
         (point >= 0xe0000 && point <= 0xe0fff);
}

// One line that is safe to print: what is invisible or not UTF-8 becomes a space,
// and the end is cut at a character.
inline std::string one_line(std::string_view text, size_t max_bytes) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    auto character = utf8_at(text, at);
    size_t length = character.length == 0 ? 1 : character.length;
    bool keep = character.length != 0 && !is_invisible(character.point);
    if (out.size() + (keep ? length : 1) > max_bytes) break;
    if (keep) {
      out.append(text.substr(at, length));
    } else {
      out.push_back(' ');
    }
    at += length;
  }
  return out;
}

}  // namespace souk::policy
