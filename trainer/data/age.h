// Datasets and models are sealed as age v1 files (C2SP age.md), so that the stock
// `age` program reads what we write and the reverse.
//
//   header   "age-encryption.org/v1", one stanza per recipient, MAC   (text)
//   payload  16-byte nonce, then 64 KiB chunks of ChaCha20-Poly1305   (STREAM)
//
// The two halves travel apart: ciphertext is kept by a host nobody trusts, the
// header or the file key by whoever decides. trainer/SPEC.md, "Age in two halves".
//
// Only X25519 recipients. Pass phrases (scrypt) and ASCII armour are refused by name.
//
// Error codes: kMalformed the bytes are not age; kRefused age we do not read
// (armour, scrypt); kNotFound no stanza for this identity; kUnauthentic a MAC or
// a chunk's tag is wrong.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "ledger/base/bytes.h"
#include "ledger/base/named.h"
#include "ledger/base/result.h"
#include "ledger/base/secret.h"
#include "ledger/crypto/hpke.h"

namespace souk::trainer {

using FileKey = Secret<16>;

inline constexpr size_t kAgeChunkBytes = 64 * 1024;      // plaintext of a full chunk
inline constexpr size_t kAgeTagBytes = 16;               // added to each chunk
inline constexpr size_t kAgeNonceBytes = 16;             // first bytes of the payload
inline constexpr size_t kMaxAgeHeaderBytes = 64 * 1024;  // ours; age sets no limit
inline constexpr size_t kMaxAgeRecipients = 256;

// ---- recipients and identities ------------------------------------------------

// "age1…" (bech32, lower case).
std::string recipient_text(const SealingKey& recipient);
Result<SealingKey> recipient_from_text(std::string_view text);

// The X25519 secret of one recipient.
class AgeIdentity {
 public:
  static AgeIdentity generate();
  explicit AgeIdentity(ledger::KemKey key) : key_(std::move(key)) {}
  // "AGE-SECRET-KEY-1…" (bech32, upper case), without white space around it.
  static Result<AgeIdentity> from_text(std::string_view text);

  SealingKey recipient() const { return key_.public_key(); }
  std::string text(SecretAccess) const;
  const ledger::KemKey& key() const { return key_; }

 private:
  ledger::KemKey key_;
};

// ---- header -------------------------------------------------------------------

// Length of the header at the start of a file: through the newline after the MAC.
// kTryAgain when `prefix` ends inside the header; kMalformed when no header can
// start like this or it is longer than kMaxAgeHeaderBytes. A length is a promise
// about framing only; check_header, verify_header and open_header read it all.
Result<size_t> find_header_length(ByteView prefix);

// The header is exactly one well-formed age header, nothing after it. For those
// who hold no key. Says nothing about authenticity.
Status check_header(ByteView header);

// A header that gives `file_key` to each recipient, in this order. kMalformed
// without recipients, with more than kMaxAgeRecipients, or for a recipient of low
// order.
Result<Bytes> make_header(const FileKey& file_key, std::span<const SealingKey> recipients);

// The file key, from the first stanza this identity opens, after the MAC was checked.
Result<FileKey> open_header(ByteView header, const AgeIdentity& identity);

// The header is well formed and was made with this file key (its MAC).
Status verify_header(ByteView header, const FileKey& file_key);

// What records name a header by: SHA-256 of its bytes.
Digest header_digest(ByteView header);

// ---- payload ------------------------------------------------------------------

// Bytes of the payload (nonce, chunks, tags) for a plaintext, and back. The
// reverse is kMalformed for a size no payload can have.
uint64_t payload_size(uint64_t plain_bytes);
Result<uint64_t> plain_size(uint64_t payload_bytes);

// Receives pieces of at most 64 KiB + tag, in order. The view dies when it returns.
using ByteSink = std::function<void(ByteView)>;

// One payload, in any pieces. Not thread safe. finish() exactly once, last.
//   auto encryptor = PayloadEncryptor::start(file_key);
//   encryptor.update(piece, sink);  …  encryptor.finish(sink);
class PayloadEncryptor {
 public:
  // With a fresh nonce.
  static PayloadEncryptor start(const FileKey& file_key);

  void update(ByteView plain, const ByteSink& sink);
  void finish(const ByteSink& sink);

  PayloadEncryptor(PayloadEncryptor&&) noexcept = default;
  PayloadEncryptor& operator=(PayloadEncryptor&&) = delete;
  ~PayloadEncryptor();  // wipes the buffered plaintext

 private:
  PayloadEncryptor(Secret<32> key, Bytes nonce);
  void seal(ByteView plain, bool last, const ByteSink& sink);

  Secret<32> key_;
  Bytes unsent_nonce_;
  Bytes buffer_;  // at most one chunk of plaintext
  uint64_t counter_ = 0;
  bool finished_ = false;
};

// Every piece given to the sink is authentic and in its place. Only a good
// finish() says that the file is complete: until then it may have been cut.
// After an error every further call returns an error.
class PayloadDecryptor {
 public:
  static PayloadDecryptor start(const FileKey& file_key);

  Status update(ByteView payload, const ByteSink& sink);
  Status finish(const ByteSink& sink);

  PayloadDecryptor(PayloadDecryptor&&) noexcept = default;
  PayloadDecryptor& operator=(PayloadDecryptor&&) = delete;
  ~PayloadDecryptor() = default;

 private:
  explicit PayloadDecryptor(FileKey file_key);
  Status open(ByteView sealed, bool last, const ByteSink& sink);

  FileKey file_key_;
  Bytes nonce_;                    // complete when it has kAgeNonceBytes
  std::optional<Secret<32>> key_;  // of the payload; there once the nonce is complete
  Bytes buffer_;                   // at most one sealed chunk
  uint64_t counter_ = 0;
  bool over_ = false;  // finished, or failed
};

// The whole payload at once.
Bytes encrypt_payload(const FileKey& file_key, ByteView plain);
Result<Bytes> decrypt_payload(const FileKey& file_key, ByteView payload);

// ---- whole files --------------------------------------------------------------

struct AgeFile {
  Bytes header;
  Bytes payload;
};
// Cuts a file in two. The header is checked as by check_header, the payload not.
Result<AgeFile> split_file(ByteView file);

// With a fresh file key.
Result<Bytes> encrypt_file(ByteView plain, std::span<const SealingKey> recipients);
Result<Bytes> decrypt_file(ByteView file, const AgeIdentity& identity);

}  // namespace souk::trainer
