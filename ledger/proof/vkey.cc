#include "ledger/proof/vkey.h"

#include "ledger/crypto/hash.h"

namespace souk::ledger {
namespace {

Error bad(const std::string& expected) {
  return Error(Code::kMalformed, "key: expected " + expected);
}

// The next code point of `text` at `at`, which moves on; 0xffffffff when it is not UTF-8.
uint32_t next_point(std::string_view text, size_t& at) {
  constexpr uint32_t kBad = 0xffffffff;
  auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : 0u; };
  uint32_t first = byte(at);
  size_t length = first < 0x80   ? 1
                  : first < 0xc2 ? 0
                  : first < 0xe0 ? 2
                  : first < 0xf0 ? 3
                  : first < 0xf5 ? 4
                                 : 0;
  if (length == 0) return kBad;
  uint32_t point = length == 1 ? first : first & (0x7fu >> length);
  for (size_t i = 1; i < length; ++i) {
    uint32_t next = byte(at + i);
    if ((next & 0xc0) != 0x80) return kBad;
    point = point << 6 | (next & 0x3f);
  }
  bool overlong = (length == 3 && point < 0x800) || (length == 4 && point < 0x10000);
  bool surrogate = point >= 0xd800 && point <= 0xdfff;
  if (overlong || surrogate || point > 0x10ffff) return kBad;
  at += length;
  return point;
}

bool is_space(uint32_t point) {  // Unicode White_Space
  return (point >= 0x09 && point <= 0x0d) || point == 0x20 || point == 0x85 || point == 0xa0 ||
         point == 0x1680 || (point >= 0x2000 && point <= 0x200a) || point == 0x2028 ||
         point == 0x2029 || point == 0x202f || point == 0x205f || point == 0x3000;
}

size_t key_bytes(KeyType type) {
  switch (type) {
    case KeyType::kEd25519:
    case KeyType::kCosignature:
      return 32;
    case KeyType::kMlDsaCosigner:
      return 1312;
  }
  return 0;
}

Bytes id_bytes(uint32_t id) {
  return {static_cast<uint8_t>(id >> 24), static_cast<uint8_t>(id >> 16),
          static_cast<uint8_t>(id >> 8), static_cast<uint8_t>(id)};
}

}  // namespace

bool is_note_text(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    uint32_t point = next_point(text, at);
    if (point == 0xffffffff || (point < 0x20 && point != '\n')) return false;
  }
  return true;
}

bool is_key_name(std::string_view name) {
  if (name.empty() || !is_note_text(name)) return false;
  for (size_t at = 0; at < name.size();) {
    uint32_t point = next_point(name, at);
    if (is_space(point) || point == '+') return false;
  }
  return true;
}

uint32_t note_key_id(std::string_view name, KeyType type, ByteView key) {
  Bytes bytes = to_bytes(name);
  bytes.push_back('\n');
  bytes.push_back(static_cast<uint8_t>(type));
  append(bytes, key);
  auto hash = sha256(bytes);
  return uint32_t{hash[0]} << 24 | uint32_t{hash[1]} << 16 | uint32_t{hash[2]} << 8 | hash[3];
}

Result<Vkey> Vkey::parse(std::string_view text) {
  size_t first = text.find('+');
  size_t second = first == std::string_view::npos ? first : text.find('+', first + 1);
  if (second == std::string_view::npos) return bad("name+hash+base64");
  auto name = text.substr(0, first);
  if (!is_key_name(name)) return bad("a name without spaces and plus signs");
  auto id = TRY(from_hex(text.substr(first + 1, second - first - 1)));
  auto typed = TRY(from_base64(text.substr(second + 1)));
  Vkey out{.name = std::string(name), .id = 0, .type = {}, .key = {}};
  if (!typed.empty()) out.type = static_cast<KeyType>(typed[0]);
  if (typed.empty() || key_bytes(out.type) == 0) return bad("a signature type 1, 4 or 6");
  out.key.assign(typed.begin() + 1, typed.end());
  if (out.key.size() != key_bytes(out.type)) return bad("a key of its type's length");
  out.id = note_key_id(name, out.type, out.key);
  if (id != id_bytes(out.id)) return bad("the hash of this name and key");
  return out;
}

std::string Vkey::text() const {
  Bytes typed{static_cast<uint8_t>(type)};
  append(typed, key);
  return name + "+" + to_hex(id_bytes(id)) + "+" + to_base64(typed);
}

}  // namespace souk::ledger
