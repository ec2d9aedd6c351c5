// C2SP tlog-cosignature v1.0.1 (c2sp.org/tlog-cosignature), Ed25519 (type 0x04): a
// cosigner says when it had seen no larger tree of a log than this one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "ledger/base/named.h"
#include "ledger/crypto/sign.h"
#include "ledger/proof/note.h"
#include "ledger/proof/vkey.h"

namespace souk::ledger {

// A cosigner's name and Ed25519 key. Its vkey is name+hash8+base64(0x04 || key), where
// hash8 is the key ID SHA-256(name || 0x0A || 0x04 || key)[:4]: never that of a NoteKey.
class CosignerKey {
 public:
  // kMalformed when the name is not one a note key may have.
  static Result<CosignerKey> of(std::string name, const PublicKey& key);
  static Result<CosignerKey> parse(std::string_view vkey);
  static Result<CosignerKey> of(Vkey vkey);

  const std::string& name() const { return name_; }
  uint32_t id() const { return id_; }
  const PublicKey& public_key() const { return key_; }
  std::string vkey() const;

  friend bool operator==(const CosignerKey&, const CosignerKey&) = default;

 private:
  CosignerKey(std::string name, uint32_t id, PublicKey key)
      : name_(std::move(name)), id_(id), key_(key) {}

  std::string name_;
  uint32_t id_;
  PublicKey key_;
};

// POSIX seconds, 1 ... 2^63 - 1.
using CosignTime = uint64_t;
inline constexpr CosignTime kMaxCosignTime = (uint64_t{1} << 63) - 1;

// A note signature over the whole note text of a checkpoint. CHECKs that `key` is the
// private half of `as` and that the time is in range.
NoteSignature cosign(std::string_view checkpoint_text, const CosignerKey& as, const SigningKey& key,
                     CosignTime time);

// Whether this line is in the name of that key: name and key ID agree. Others are
// ignored, as signed-note demands.
bool is_by(const NoteSignature& line, const CosignerKey& key);

// When it was made. kUnauthentic unless the line is by `key` and holds for the text.
Result<CosignTime> verify_cosignature(std::string_view checkpoint_text, const NoteSignature& line,
                                      const CosignerKey& key);

// The time of the newest cosignature of `key` on the note; nullopt when it has none.
// kUnauthentic when a line in its name is false.
Result<std::optional<CosignTime>> cosigned_at(const Note& note, const CosignerKey& key);

// The signature lines of an answer to add-checkpoint: one or more, nothing else.
Result<std::vector<NoteSignature>> parse_signature_lines(std::string_view text);
std::string signature_lines(std::span<const NoteSignature> lines);

}  // namespace souk::ledger
