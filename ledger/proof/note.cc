#include "ledger/proof/note.h"

#include <algorithm>

#include "ledger/crypto/public_key.h"

namespace souk::ledger {
namespace {

constexpr std::string_view kSignatureStart = "\xe2\x80\x94 ";  // em dash, space

Error bad(const std::string& expected) {
  return Error(Code::kMalformed, "note: expected " + expected);
}

Bytes id_bytes(uint32_t id) {
  return {static_cast<uint8_t>(id >> 24), static_cast<uint8_t>(id >> 16),
          static_cast<uint8_t>(id >> 8), static_cast<uint8_t>(id)};
}

std::string signature_line(const NoteSignature& signature) {
  Bytes bytes = id_bytes(signature.id);
  append(bytes, signature.signature);
  return std::string(kSignatureStart) + signature.name + " " + to_base64(bytes) + "\n";
}

Result<NoteSignature> read_signature_line(std::string_view line) {
  if (line.substr(0, kSignatureStart.size()) != kSignatureStart) {
    return bad("a signature line that starts with an em dash and a space");
  }
  line.remove_prefix(kSignatureStart.size());
  size_t space = line.find(' ');
  if (space == std::string_view::npos) return bad("a key name, a space and a signature");
  auto name = line.substr(0, space);
  if (!is_key_name(name)) return bad("a key name without spaces and plus signs");
  auto bytes = from_base64(line.substr(space + 1));
  if (!bytes) return std::move(bytes).take_error().within("note signature");
  if (bytes->size() < 5) return bad("a key id and a signature");
  const Bytes& raw = *bytes;
  uint32_t id = uint32_t{raw[0]} << 24 | uint32_t{raw[1]} << 16 | uint32_t{raw[2]} << 8 | raw[3];
  return NoteSignature{
      .name = std::string(name), .id = id, .signature = Bytes(raw.begin() + 4, raw.end())};
}

}  // namespace

Result<NoteKey> NoteKey::of(std::string name, const PublicKey& key) {
  if (!is_key_name(name)) return bad("a key name without spaces and plus signs");
  uint32_t id = note_key_id(name, KeyType::kEd25519, key.value());
  return NoteKey(std::move(name), id, key);
}

Result<NoteKey> NoteKey::parse(std::string_view vkey) {
  auto parsed = TRY(Vkey::parse(vkey));
  return of(std::move(parsed));
}

Result<NoteKey> NoteKey::of(Vkey vkey) {
  if (vkey.type != KeyType::kEd25519) return bad("an Ed25519 key, type 1");
  auto bytes = TRY(fixed<32>(vkey.key));
  if (is_weak_key(PublicKey(bytes))) return bad("a key that somebody can sign for");
  return NoteKey(std::move(vkey.name), vkey.id, PublicKey(bytes));
}

std::string NoteKey::vkey() const {
  Bytes key(key_.value().begin(), key_.value().end());
  return Vkey{.name = name_, .id = id_, .type = KeyType::kEd25519, .key = std::move(key)}.text();
}

std::string sign_note(std::string_view text, const NoteKey& as, const SigningKey& key) {
  CHECK(as.public_key() == key.public_key());
  CHECK(!text.empty() && text.back() == '\n' && is_note_text(text));
  auto signature = key.sign(as_bytes(text));
  NoteSignature line{.name = as.name(),
                     .id = as.id(),
                     .signature = Bytes(signature.value().begin(), signature.value().end())};
  return std::string(text) + "\n" + signature_line(line);
}

Result<Note> parse_note(std::string_view note) {
  if (note.size() > kMaxNoteBytes) return bad("at most 1000000 bytes");
  if (!is_note_text(note)) return bad("UTF-8 without control characters");
  if (note.empty() || note.back() != '\n') return bad("a newline at the end");
  size_t gap = note.rfind("\n\n");  // the last empty line
  if (gap == std::string_view::npos) return bad("an empty line before the signatures");
  Note out{.text = std::string(note.substr(0, gap + 1)), .signatures = {}};
  auto rest = note.substr(gap + 2);
  while (!rest.empty()) {
    size_t end = rest.find('\n');
    if (out.signatures.size() == kMaxNoteSignatures) return bad("at most 100 signatures");
    auto signature = TRY(read_signature_line(rest.substr(0, end)));
    out.signatures.push_back(std::move(signature));
    rest.remove_prefix(end + 1);
  }
  if (out.signatures.empty()) return bad("at least one signature");
  return out;
}

std::string encode_note(const Note& note) {
  std::string out = note.text + "\n";
  for (const auto& signature : note.signatures) out += signature_line(signature);
  return out;
}

Status verify_note(const Note& note, std::span<const NoteKey> keys) {
  bool signed_by_known = false;
  for (const auto& signature : note.signatures) {
    auto key = std::find_if(keys.begin(), keys.end(), [&](const NoteKey& k) {
      return k.name() == signature.name && k.id() == signature.id;
    });
    if (key == keys.end()) continue;
    auto bytes = fixed<64>(signature.signature);
    if (!bytes || !verify(key->public_key(), as_bytes(note.text), Signature(*bytes))) {
      return Error(Code::kUnauthentic, "note: expected the signature of a known key to hold");
    }
    signed_by_known = true;
  }
  if (!signed_by_known)
    return Error(Code::kUnauthentic, "note: expected the signature of a known key");
  return Done{};
}

}  // namespace souk::ledger
