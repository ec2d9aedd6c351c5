#include "trainer/data/age.h"

#include <algorithm>
#include <array>

#include "ledger/crypto/aead.h"
#include "ledger/crypto/hash.h"
#include "ledger/crypto/kdf.h"
#include "ledger/crypto/random.h"
#include "trainer/data/bech32.h"

namespace souk::trainer {
namespace {

constexpr std::string_view kVersionLine = "age-encryption.org/v1";
constexpr std::string_view kArmorLine = "-----BEGIN AGE ENCRYPTED FILE-----";
constexpr std::string_view kStanzaStart = "-> ";
constexpr std::string_view kMacStart = "---";
constexpr std::string_view kX25519 = "X25519";
constexpr std::string_view kX25519Info = "age-encryption.org/v1/X25519";
constexpr std::string_view kRecipientPrefix = "age";
constexpr std::string_view kIdentityPrefix = "age-secret-key-";
constexpr size_t kBodyColumns = 64;
constexpr size_t kWrappedKeyBytes = 16 + kAgeTagBytes;
constexpr size_t kSealedChunkBytes = kAgeChunkBytes + kAgeTagBytes;
constexpr std::array<uint8_t, ledger::kAeadNonceBytes> kZeroNonce{};

Error bad(const std::string& expected) {
  return Error(Code::kMalformed, "age: " + expected);
}

void wipe(std::span<uint8_t> bytes) {
  sodium_memzero(bytes.data(), bytes.size());
}
void wipe(std::string& text) {
  sodium_memzero(text.data(), text.size());
}

Secret<32> derive(ByteView key, ByteView salt, std::string_view info) {
  auto bytes = ledger::hkdf(key, salt, as_bytes(info), 32);
  auto secret = Secret<32>::copy_of(std::span<const uint8_t, 32>(bytes.data(), 32));
  wipe(bytes);
  return secret;
}

Secret<32> wrap_key(const Secret<32>& shared, const SealingKey& share,
                    const SealingKey& recipient) {
  Bytes salt;
  append(salt, share.value());
  append(salt, recipient.value());
  return derive(shared.bytes(SecretAccess()), salt, kX25519Info);
}

// HMAC over the header through "---", under a key only holders of the file key have.
Digest header_mac(ByteView through_dashes, const FileKey& file_key) {
  auto key = derive(file_key.bytes(SecretAccess()), {}, "header");
  return ledger::hmac_sha256(key.bytes(SecretAccess()), through_dashes);
}

struct WrappedKey {
  SealingKey share;  // ephemeral
  Bytes body;        // the sealed file key
};

struct Header {
  std::vector<WrappedKey> wrapped_keys;  // X25519 stanzas; others are somebody else's
  size_t mac_covers = 0;                 // bytes, through "---"
  Digest mac{};
};

// Lines of a header. Every line ends with one LF.
class Lines {
 public:
  explicit Lines(std::string_view text) : text_(text) {}

  size_t offset() const { return at_; }
  bool done() const { return at_ == text_.size(); }
  Result<std::string_view> next() {
    auto end = text_.find('\n', at_);
    if (end == std::string_view::npos) return bad("expected a whole header line");
    auto line = text_.substr(at_, end - at_);
    at_ = end + 1;
    return line;
  }

 private:
  std::string_view text_;
  size_t at_ = 0;
};

// "-> X25519 share" without the arrow: one space between arguments, none elsewhere.
Result<std::vector<std::string_view>> read_arguments(std::string_view text) {
  std::vector<std::string_view> arguments;
  while (true) {
    auto space = text.find(' ');
    auto argument = text.substr(0, space);
    auto visible = [](char c) { return c > 0x20 && c < 0x7f; };
    if (argument.empty() || !std::all_of(argument.begin(), argument.end(), visible)) {
      return bad("expected stanza arguments of printable ASCII, one space between");
    }
    arguments.push_back(argument);
    if (space == std::string_view::npos) return arguments;
    text.remove_prefix(space + 1);
  }
}

// Full lines of 64 columns and then a shorter one, perhaps empty.
Result<Bytes> read_body(Lines& lines) {
  std::string text;
  while (true) {
    auto line = TRY(lines.next());
    if (line.size() > kBodyColumns) return bad("expected stanza lines of at most 64 columns");
    text += line;
    if (line.size() < kBodyColumns) break;
  }
  auto body = from_base64_unpadded(text);
  if (!body) return bad("expected a stanza body in canonical base64");
  return body;
}

Result<WrappedKey> read_x25519(std::span<const std::string_view> arguments, Bytes body) {
  if (arguments.size() != 2) return bad("X25519: expected one argument, the share");
  auto share = from_base64_unpadded(arguments[1]);
  if (!share || share->size() != 32) return bad("X25519: expected a share of 32 bytes");
  if (body.size() != kWrappedKeyBytes) return bad("X25519: expected a body of 32 bytes");
  auto point = TRY(fixed<32>(*share));
  return WrappedKey{SealingKey(point), std::move(body)};
}

Result<Header> read_header(ByteView bytes) {
  if (bytes.size() > kMaxAgeHeaderBytes) return bad("expected a header of at most 64 KiB");
  Lines lines(as_text(bytes));
  Header header;
  auto version = TRY(lines.next());
  if (version == kArmorLine) {
    return Error(Code::kRefused, "age: expected a binary file, this one is armored");
  }
  if (version != kVersionLine) return bad("expected the line age-encryption.org/v1");

  size_t stanzas = 0;
  auto line = TRY(lines.next());
  size_t line_at = kVersionLine.size() + 1;
  while (line.substr(0, kStanzaStart.size()) == kStanzaStart) {
    auto arguments = TRY(read_arguments(line.substr(kStanzaStart.size())));
    auto body = TRY(read_body(lines));
    if (arguments[0] == "scrypt") {
      return Error(Code::kRefused, "age: expected X25519 recipients, this file has a pass phrase");
    }
    if (arguments[0] == kX25519) {
      auto wrapped = TRY(read_x25519(arguments, std::move(body)));
      header.wrapped_keys.push_back(std::move(wrapped));
    }
    ++stanzas;
    line_at = lines.offset();
    line = TRY(lines.next());
  }
  if (stanzas == 0) return bad("expected a stanza");

  if (line.substr(0, kMacStart.size() + 1) != "--- ") return bad("expected a stanza or the MAC");
  auto mac = from_base64_unpadded(line.substr(kMacStart.size() + 1));
  if (!mac || mac->size() != header.mac.size()) return bad("expected a MAC of 32 bytes");
  if (!lines.done()) return bad("expected nothing after the header");
  header.mac = TRY(fixed<32>(*mac));
  header.mac_covers = line_at + kMacStart.size();
  return header;
}

Status check_mac(ByteView bytes, const Header& header, const FileKey& file_key) {
  auto expected = header_mac(bytes.first(header.mac_covers), file_key);
  if (sodium_memcmp(expected.data(), header.mac.data(), expected.size()) != 0) {
    return Error(Code::kUnauthentic, "age: expected the header's MAC under this file key");
  }
  return Done{};
}

void write_stanza(const SealingKey& share, ByteView body, std::string& out) {
  out += kStanzaStart;
  out += kX25519;
  out += ' ';
  out += to_base64_unpadded(share.value());
  out += '\n';
  out += to_base64_unpadded(body);  // 43 columns: one short line
  out += '\n';
}

std::array<uint8_t, ledger::kAeadNonceBytes> chunk_nonce(uint64_t counter, bool last) {
  std::array<uint8_t, ledger::kAeadNonceBytes> nonce{};
  for (size_t i = 0; i < 8; ++i) nonce[10 - i] = static_cast<uint8_t>(counter >> (8 * i));
  nonce[11] = last ? 1 : 0;
  return nonce;
}

}  // namespace

std::string recipient_text(const SealingKey& recipient) {
  return bech32_encode(kRecipientPrefix, recipient.value());
}

Result<SealingKey> recipient_from_text(std::string_view text) {
  auto bytes = bech32_decode(kRecipientPrefix, text);
  if (!bytes) return std::move(bytes).take_error().within("age recipient");
  if (bytes->size() != 32) return bad("expected a recipient of 32 bytes");
  auto point = TRY(fixed<32>(*bytes));
  return SealingKey(point);
}

AgeIdentity AgeIdentity::generate() {
  return AgeIdentity(ledger::KemKey::generate());
}

Result<AgeIdentity> AgeIdentity::from_text(std::string_view text) {
  std::string lower;
  lower.reserve(text.size());
  for (char c : text) {
    if (c >= 'a' && c <= 'z') return bad("expected an identity in upper case");
    lower.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
  }
  auto bytes = bech32_decode(kIdentityPrefix, lower);
  wipe(lower);
  if (!bytes) return std::move(bytes).take_error().within("age identity");
  auto key = ledger::KemKey::from_bytes(*bytes);
  wipe(*bytes);
  if (!key) return bad("expected an identity of 32 bytes");
  return AgeIdentity(std::move(key).take());
}

std::string AgeIdentity::text(SecretAccess access) const {
  auto secret = key_.secret(access);
  auto text = bech32_encode(kIdentityPrefix, secret.bytes(access));
  for (char& c : text) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return text;
}

Result<size_t> find_header_length(ByteView prefix) {
  auto text = as_text(prefix.first(std::min(prefix.size(), kMaxAgeHeaderBytes)));
  auto starts_like = [&](std::string_view line) {
    auto whole = std::string(line) + '\n';
    auto length = std::min(whole.size(), text.size());
    return text.substr(0, length) == whole.substr(0, length);
  };
  if (!starts_like(kVersionLine)) {
    if (text.substr(0, kArmorLine.size()) == kArmorLine) {
      return Error(Code::kRefused, "age: expected a binary file, this one is armored");
    }
    return bad("expected the line age-encryption.org/v1");
  }

  // A header is lines of visible ASCII; the one that starts with three dashes is the last.
  size_t line_at = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '\n') {
      if (text.substr(line_at, kMacStart.size()) == kMacStart) return i + 1;
      line_at = i + 1;
    } else if (c < 0x20 || c > 0x7e) {
      return bad("expected a header of printable ASCII");
    }
  }
  if (prefix.size() >= kMaxAgeHeaderBytes) return bad("expected a header of at most 64 KiB");
  return Error(Code::kTryAgain, "age: expected more of the header");
}

Status check_header(ByteView header) {
  TRY(read_header(header));
  return Done{};
}

Result<Bytes> make_header(const FileKey& file_key, std::span<const SealingKey> recipients) {
  if (recipients.empty() || recipients.size() > kMaxAgeRecipients) {
    return bad("expected 1 to 256 recipients");
  }
  std::string text(kVersionLine);
  text += '\n';
  for (const auto& recipient : recipients) {
    auto ephemeral = ledger::KemKey::generate();
    auto shared = ephemeral.shared_secret(recipient);
    if (!shared) return bad("expected a recipient that is not of low order");
    auto share = ephemeral.public_key();
    auto key = wrap_key(*shared, share, recipient);
    // A zero nonce is right here: the wrap key is used once.
    auto body =
        ledger::seal(key.bytes(SecretAccess()), kZeroNonce, {}, file_key.bytes(SecretAccess()));
    write_stanza(share, body, text);
  }
  text += kMacStart;
  auto mac = header_mac(as_bytes(text), file_key);
  text += ' ';
  text += to_base64_unpadded(mac);
  text += '\n';
  return to_bytes(text);
}

Result<FileKey> open_header(ByteView header, const AgeIdentity& identity) {
  auto parsed = TRY(read_header(header));
  for (const auto& wrapped : parsed.wrapped_keys) {
    auto shared = identity.key().shared_secret(wrapped.share);
    if (!shared) return bad("X25519: expected a share that is not of low order");
    auto key = wrap_key(*shared, wrapped.share, identity.recipient());
    auto opened = ledger::open(key.bytes(SecretAccess()), kZeroNonce, {}, wrapped.body);
    if (!opened) continue;  // another recipient's
    auto file_key = FileKey::copy_of(std::span<const uint8_t, 16>(opened->data(), 16));
    wipe(*opened);
    TRY(check_mac(header, parsed, file_key));
    return file_key;
  }
  return Error(Code::kNotFound, "age: expected this identity among the recipients");
}

Status verify_header(ByteView header, const FileKey& file_key) {
  auto parsed = TRY(read_header(header));
  return check_mac(header, parsed, file_key);
}

Digest header_digest(ByteView header) {
  return ledger::sha256(header);
}

uint64_t payload_size(uint64_t plain_bytes) {
  uint64_t chunks = plain_bytes == 0 ? 1 : (plain_bytes - 1) / kAgeChunkBytes + 1;
  return kAgeNonceBytes + plain_bytes + chunks * kAgeTagBytes;
}

Result<uint64_t> plain_size(uint64_t payload_bytes) {
  if (payload_bytes < kAgeNonceBytes + kAgeTagBytes) return bad("expected a nonce and a chunk");
  uint64_t sealed = payload_bytes - kAgeNonceBytes;
  uint64_t full = sealed / kSealedChunkBytes;
  uint64_t rest = sealed % kSealedChunkBytes;
  if (rest == 0) return full * kAgeChunkBytes;
  if (rest < kAgeTagBytes) return bad("expected a whole last chunk");
  if (rest == kAgeTagBytes && full > 0) return bad("expected a last chunk that is not empty");
  return full * kAgeChunkBytes + rest - kAgeTagBytes;
}

PayloadEncryptor::PayloadEncryptor(Secret<32> key, Bytes nonce)
    : key_(std::move(key)), unsent_nonce_(std::move(nonce)) {
  buffer_.reserve(kAgeChunkBytes);
}

PayloadEncryptor::~PayloadEncryptor() {
  wipe(buffer_);
}

PayloadEncryptor PayloadEncryptor::start(const FileKey& file_key) {
  Bytes nonce(kAgeNonceBytes);
  ledger::random_bytes(nonce);
  auto key = derive(file_key.bytes(SecretAccess()), nonce, "payload");
  return PayloadEncryptor(std::move(key), std::move(nonce));
}

void PayloadEncryptor::seal(ByteView plain, bool last, const ByteSink& sink) {
  if (!unsent_nonce_.empty()) {
    sink(unsent_nonce_);
    unsent_nonce_.clear();
  }
  sink(ledger::seal(key_.bytes(SecretAccess()), chunk_nonce(counter_, last), {}, plain));
  ++counter_;
}

void PayloadEncryptor::update(ByteView plain, const ByteSink& sink) {
  CHECK(!finished_);
  while (!plain.empty()) {
    // A full chunk waits until it is known not to be the last.
    if (buffer_.size() == kAgeChunkBytes) {
      seal(buffer_, false, sink);
      buffer_.clear();
    }
    if (buffer_.empty() && plain.size() > kAgeChunkBytes) {
      seal(plain.first(kAgeChunkBytes), false, sink);
      plain = plain.subspan(kAgeChunkBytes);
      continue;
    }
    auto piece = plain.first(std::min(plain.size(), kAgeChunkBytes - buffer_.size()));
    append(buffer_, piece);
    plain = plain.subspan(piece.size());
  }
}

void PayloadEncryptor::finish(const ByteSink& sink) {
  CHECK(!finished_);
  finished_ = true;
  seal(buffer_, true, sink);
}

PayloadDecryptor::PayloadDecryptor(FileKey file_key) : file_key_(std::move(file_key)) {
  buffer_.reserve(kSealedChunkBytes);
}

PayloadDecryptor PayloadDecryptor::start(const FileKey& file_key) {
  return PayloadDecryptor(file_key.clone(SecretAccess()));
}

Status PayloadDecryptor::open(ByteView sealed, bool last, const ByteSink& sink) {
  auto plain = ledger::open(key_->bytes(SecretAccess()), chunk_nonce(counter_, last), {}, sealed);
  if (!plain) {
    over_ = true;
    return Error(Code::kUnauthentic,
                 "age: expected chunk " + std::to_string(counter_) + " as it was sealed");
  }
  sink(*plain);
  wipe(*plain);
  ++counter_;
  return Done{};
}

Status PayloadDecryptor::update(ByteView payload, const ByteSink& sink) {
  if (over_) return Error(Code::kUnauthentic, "age: expected no more after the end or an error");
  if (!key_) {
    auto piece = payload.first(std::min(payload.size(), kAgeNonceBytes - nonce_.size()));
    append(nonce_, piece);
    payload = payload.subspan(piece.size());
    if (nonce_.size() < kAgeNonceBytes) return Done{};
    key_ = derive(file_key_.bytes(SecretAccess()), nonce_, "payload");
  }
  while (!payload.empty()) {
    // A full chunk waits until it is known not to be the last.
    if (buffer_.size() == kSealedChunkBytes) {
      TRY(open(buffer_, false, sink));
      buffer_.clear();
    }
    if (buffer_.empty() && payload.size() > kSealedChunkBytes) {
      TRY(open(payload.first(kSealedChunkBytes), false, sink));
      payload = payload.subspan(kSealedChunkBytes);
      continue;
    }
    auto piece = payload.first(std::min(payload.size(), kSealedChunkBytes - buffer_.size()));
    append(buffer_, piece);
    payload = payload.subspan(piece.size());
  }
  return Done{};
}

Status PayloadDecryptor::finish(const ByteSink& sink) {
  if (over_) return Error(Code::kUnauthentic, "age: expected no more after the end or an error");
  if (!key_ || buffer_.size() < kAgeTagBytes) {
    over_ = true;
    return bad("expected a nonce and a whole last chunk");
  }
  if (buffer_.size() == kAgeTagBytes && counter_ > 0) {
    over_ = true;
    return bad("expected a last chunk that is not empty");
  }
  TRY(open(buffer_, true, sink));
  over_ = true;
  return Done{};
}

Bytes encrypt_payload(const FileKey& file_key, ByteView plain) {
  Bytes out;
  out.reserve(payload_size(plain.size()));
  auto sink = [&](ByteView piece) { append(out, piece); };
  auto encryptor = PayloadEncryptor::start(file_key);
  encryptor.update(plain, sink);
  encryptor.finish(sink);
  return out;
}

Result<Bytes> decrypt_payload(const FileKey& file_key, ByteView payload) {
  auto size = TRY(plain_size(payload.size()));
  Bytes out;
  out.reserve(size);
  auto sink = [&](ByteView piece) { append(out, piece); };
  auto decryptor = PayloadDecryptor::start(file_key);
  TRY(decryptor.update(payload, sink));
  TRY(decryptor.finish(sink));
  return out;
}

Result<AgeFile> split_file(ByteView file) {
  auto length = find_header_length(file);
  if (!length && length.error().code() == Code::kTryAgain) return bad("expected the whole header");
  if (!length) return std::move(length).take_error();
  auto header = file.first(*length);
  TRY(check_header(header));
  auto payload = file.subspan(*length);
  return AgeFile{Bytes(header.begin(), header.end()), Bytes(payload.begin(), payload.end())};
}

Result<Bytes> encrypt_file(ByteView plain, std::span<const SealingKey> recipients) {
  auto file_key = FileKey::random();
  auto file = TRY(make_header(file_key, recipients));
  append(file, encrypt_payload(file_key, plain));
  return file;
}

Result<Bytes> decrypt_file(ByteView file, const AgeIdentity& identity) {
  auto parts = TRY(split_file(file));
  auto file_key = TRY(open_header(parts.header, identity));
  return decrypt_payload(file_key, parts.payload);
}

}  // namespace souk::trainer
