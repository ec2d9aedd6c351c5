#include "ledger/proof/note.h"

#include <algorithm>

#include "ledger/crypto/hash.h"

namespace souk::ledger {
namespace {

constexpr uint8_t kEd25519Type = 0x01;
constexpr std::string_view kSignatureStart = "\xe2\x80\x94 ";  // em dash, space

Error bad(const std::string& expected) {
  return Error(Code::kMalformed, "note: expected " + expected);
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

// UTF-8 without control characters below U+0020 other than newline.
bool is_note_text(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    uint32_t point = next_point(text, at);
    if (point == 0xffffffff || (point < 0x20 && point != '\n')) return false;
  }
  return true;
}

bool is_space(uint32_t point) {  // Unicode White_Space
  return (point >= 0x09 && point <= 0x0d) || point == 0x20 || point == 0x85 || point == 0xa0 ||
         point == 0x1680 || (point >= 0x2000 && point <= 0x200a) || point == 0x2028 ||
         point == 0x2029 || point == 0x202f || point == 0x205f || point == 0x3000;
}

bool is_key_name(std::string_view name) {
  if (name.empty() || !is_note_text(name)) return false;
  for (size_t at = 0; at < name.size();) {
    uint32_t point = next_point(name, at);
    if (is_space(point) || point == '+') return false;
  }
  return true;
}

Bytes typed_key(const PublicKey& key) {
  Bytes out{kEd25519Type};
  append(out, key.value());
  return out;
}

// SHA-256(name || 0x0A || type || key)[:4], big endian.
uint32_t key_id(const std::string& name, const PublicKey& key) {
  Bytes bytes = to_bytes(name);
  bytes.push_back('\n');
  append(bytes, typed_key(key));
  auto hash = sha256(bytes);
  return uint32_t{hash[0]} << 24 | uint32_t{hash[1]} << 16 | uint32_t{hash[2]} << 8 | hash[3];
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
  uint32_t id = key_id(name, key);
  return NoteKey(std::move(name), id, key);
}

Result<NoteKey> NoteKey::parse(std::string_view vkey) {
  size_t first = vkey.find('+');
  size_t second = first == std::string_view::npos ? first : vkey.find('+', first + 1);
  if (second == std::string_view::npos) return bad("a key as name+hash+base64");
  auto id = TRY(from_hex(vkey.substr(first + 1, second - first - 1)));
  auto typed = TRY(from_base64(vkey.substr(second + 1)));
  if (typed.size() != 33 || typed[0] != kEd25519Type) return bad("an Ed25519 key, type 1");
  auto bytes = TRY(fixed<32>(ByteView(typed).subspan(1)));
  auto key = TRY(of(std::string(vkey.substr(0, first)), PublicKey(bytes)));
  if (id != id_bytes(key.id())) return bad("the hash of this name and key");
  return key;
}

std::string NoteKey::vkey() const {
  return name_ + "+" + to_hex(id_bytes(id_)) + "+" + to_base64(typed_key(key_));
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
