#include "ledger/proof/cosignature.h"

#include <algorithm>

#include "ledger/crypto/public_key.h"
#include "ledger/proof/vkey.h"

namespace souk::ledger {
namespace {

constexpr size_t kTimeBytes = 8;

Error bad(const std::string& expected) {
  return Error(Code::kMalformed, "cosignature: expected " + expected);
}

// tlog-cosignature, "Ed25519 signed message".
Bytes signed_message(std::string_view checkpoint_text, CosignTime time) {
  return to_bytes("cosignature/v1\ntime " + std::to_string(time) + "\n" +
                  std::string(checkpoint_text));
}

// A text that parse_note reads, so that the signature lines get its strict reading.
std::string as_note(std::string_view lines) {
  return "-\n\n" + std::string(lines);
}

}  // namespace

Result<CosignerKey> CosignerKey::of(std::string name, const PublicKey& key) {
  if (!is_key_name(name)) return bad("a key name without spaces and plus signs");
  uint32_t id = note_key_id(name, KeyType::kCosignature, key.value());
  return CosignerKey(std::move(name), id, key);
}

Result<CosignerKey> CosignerKey::parse(std::string_view vkey) {
  auto parsed = TRY(Vkey::parse(vkey));
  return of(std::move(parsed));
}

Result<CosignerKey> CosignerKey::of(Vkey vkey) {
  if (vkey.type != KeyType::kCosignature) return bad("an Ed25519 cosigner key, type 4");
  auto bytes = TRY(fixed<32>(vkey.key));
  if (is_weak_key(PublicKey(bytes))) return bad("a key that somebody can sign for");
  return CosignerKey(std::move(vkey.name), vkey.id, PublicKey(bytes));
}

std::string CosignerKey::vkey() const {
  Bytes key(key_.value().begin(), key_.value().end());
  return Vkey{.name = name_, .id = id_, .type = KeyType::kCosignature, .key = std::move(key)}
      .text();
}

NoteSignature cosign(std::string_view checkpoint_text, const CosignerKey& as, const SigningKey& key,
                     CosignTime time) {
  CHECK(as.public_key() == key.public_key());
  CHECK(time > 0 && time <= kMaxCosignTime);
  NoteSignature line{.name = as.name(), .id = as.id(), .signature = {}};
  for (int shift = 56; shift >= 0; shift -= 8) {
    line.signature.push_back(static_cast<uint8_t>(time >> shift));
  }
  append(line.signature, key.sign(signed_message(checkpoint_text, time)).value());
  return line;
}

bool is_by(const NoteSignature& line, const CosignerKey& key) {
  return line.name == key.name() && line.id == key.id();
}

Result<CosignTime> verify_cosignature(std::string_view checkpoint_text, const NoteSignature& line,
                                      const CosignerKey& key) {
  Error unauthentic(Code::kUnauthentic, "cosignature: expected that of the cosigner's key");
  if (!is_by(line, key) || line.signature.size() != kTimeBytes + 64) return unauthentic;
  CosignTime time = 0;
  for (size_t i = 0; i < kTimeBytes; ++i) time = time << 8 | line.signature[i];
  if (time == 0 || time > kMaxCosignTime) return unauthentic;
  auto bytes = TRY(fixed<64>(ByteView(line.signature).subspan(kTimeBytes)));
  if (!verify(key.public_key(), signed_message(checkpoint_text, time), Signature(bytes))) {
    return unauthentic;
  }
  return time;
}

Result<std::optional<CosignTime>> cosigned_at(const Note& note, const CosignerKey& key) {
  std::optional<CosignTime> newest;
  for (const auto& line : note.signatures) {
    if (!is_by(line, key)) continue;
    auto time = TRY(verify_cosignature(note.text, line, key));
    newest = std::max(newest.value_or(0), time);
  }
  return newest;
}

Result<std::vector<NoteSignature>> parse_signature_lines(std::string_view text) {
  auto note = TRY(parse_note(as_note(text)));
  if (note.text != "-\n") return bad("signature lines and nothing else");
  return note.signatures;
}

std::string signature_lines(std::span<const NoteSignature> lines) {
  auto note = encode_note({.text = "", .signatures = {lines.begin(), lines.end()}});
  return note.substr(1);  // without the empty line
}

}  // namespace souk::ledger
