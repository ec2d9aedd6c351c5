#include "ledger/proof/cosignature.h"

#include <algorithm>

#include "ledger/crypto/hash.h"

namespace souk::ledger {
namespace {

constexpr uint8_t kCosignatureType = 0x04;
constexpr size_t kTimeBytes = 8;

Error bad(const std::string& expected) {
  return Error(Code::kMalformed, "cosignature: expected " + expected);
}

Bytes typed_key(const PublicKey& key) {
  Bytes out{kCosignatureType};
  append(out, key.value());
  return out;
}

uint32_t key_id(const std::string& name, const PublicKey& key) {
  Bytes bytes = to_bytes(name);
  bytes.push_back('\n');
  append(bytes, typed_key(key));
  auto hash = sha256(bytes);
  return uint32_t{hash[0]} << 24 | uint32_t{hash[1]} << 16 | uint32_t{hash[2]} << 8 | hash[3];
}

std::string id_hex(uint32_t id) {
  Bytes bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<uint8_t>(id >> shift));
  return to_hex(bytes);
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
  TRY(NoteKey::of(name, key));  // the same rule for names
  uint32_t id = key_id(name, key);
  return CosignerKey(std::move(name), id, key);
}

Result<CosignerKey> CosignerKey::parse(std::string_view vkey) {
  size_t first = vkey.find('+');
  size_t second = first == std::string_view::npos ? first : vkey.find('+', first + 1);
  if (second == std::string_view::npos) return bad("a key as name+hash+base64");
  auto typed = TRY(from_base64(vkey.substr(second + 1)));
  if (typed.size() != 33 || typed[0] != kCosignatureType)
    return bad("an Ed25519 cosigner key, type 4");
  auto bytes = TRY(fixed<32>(ByteView(typed).subspan(1)));
  auto key = TRY(of(std::string(vkey.substr(0, first)), PublicKey(bytes)));
  if (vkey.substr(first + 1, second - first - 1) != id_hex(key.id())) {
    return bad("the hash of this name and key");
  }
  return key;
}

std::string CosignerKey::vkey() const {
  return name_ + "+" + id_hex(id_) + "+" + to_base64(typed_key(key_));
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
