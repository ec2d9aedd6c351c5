// Names and verifier keys of C2SP signed-note v1.0.0, for every signature type
// whose keys we read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "ledger/base/bytes.h"

namespace souk::ledger {

// The signature type byte of a key (signed-note, "Signature types").
enum class KeyType : uint8_t {
  kEd25519 = 0x01,
  kCosignature = 0x04,    // timestamped Ed25519 (tlog-cosignature)
  kMlDsaCosigner = 0x06,  // timestamped ML-DSA-44: read in policies, not verified
};

// UTF-8 without control characters below U+0020 other than newline.
bool is_note_text(std::string_view text);
// A non-empty note text without Unicode white space and without '+'.
bool is_key_name(std::string_view name);

// SHA-256(name || 0x0A || type || key)[:4], big endian.
uint32_t note_key_id(std::string_view name, KeyType type, ByteView key);

// name+hash8+base64(type || key).
struct Vkey {
  std::string name;
  uint32_t id = 0;
  KeyType type = KeyType::kEd25519;
  Bytes key;  // 32 bytes for Ed25519, 1312 for ML-DSA-44

  // kMalformed when the name is none, the type or its key's length is not one of
  // ours, or the hash is not that of name and key. Hash digits are lower case.
  static Result<Vkey> parse(std::string_view text);
  std::string text() const;

  friend bool operator==(const Vkey&, const Vkey&) = default;
};

}  // namespace souk::ledger
