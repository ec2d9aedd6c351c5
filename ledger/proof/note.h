// C2SP signed-note v1.0.0 (c2sp.org/signed-note), Ed25519 signatures (type 0x01).
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/bytes.h"
#include "ledger/base/named.h"
#include "ledger/crypto/sign.h"
#include "ledger/proof/vkey.h"

namespace souk::ledger {

inline constexpr size_t kMaxNoteBytes = 1'000'000;
inline constexpr size_t kMaxNoteSignatures = 100;

// Who may sign: a name and an Ed25519 public key. Its text, the vkey, is
// name+hash8+base64(0x01 || key).
class NoteKey {
 public:
  // kMalformed when the name is empty, has white space, a plus or control
  // characters, or is not UTF-8.
  static Result<NoteKey> of(std::string name, const PublicKey& key);
  static Result<NoteKey> parse(std::string_view vkey);
  static Result<NoteKey> of(Vkey vkey);

  const std::string& name() const { return name_; }
  uint32_t id() const { return id_; }
  const PublicKey& public_key() const { return key_; }
  std::string vkey() const;

  friend bool operator==(const NoteKey&, const NoteKey&) = default;

 private:
  NoteKey(std::string name, uint32_t id, PublicKey key)
      : name_(std::move(name)), id_(id), key_(key) {}

  std::string name_;
  uint32_t id_;
  PublicKey key_;
};

struct NoteSignature {
  std::string name;
  uint32_t id = 0;
  Bytes signature;  // of any type; ours are 64 bytes

  friend bool operator==(const NoteSignature&, const NoteSignature&) = default;
};

struct Note {
  std::string text;  // with its last newline
  std::vector<NoteSignature> signatures;

  friend bool operator==(const Note&, const Note&) = default;
};

// The whole signed note. CHECKs that `key` is the private half of `as` and that
// the text is one a note may have.
std::string sign_note(std::string_view text, const NoteKey& as, const SigningKey& key);

// Well formed only; nothing is verified.
Result<Note> parse_note(std::string_view note);
std::string encode_note(const Note& note);

// At least one of `keys` signed, and no signature in the name of one of them is
// false. Others are ignored, as the specification demands. kUnauthentic otherwise.
Status verify_note(const Note& note, std::span<const NoteKey> keys);

}  // namespace souk::ledger
