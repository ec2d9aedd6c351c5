// The first rungs of the ladder of trust: bytes -> SignedEntry (well formed) ->
// AuthenticEntry (the signature holds). The third, RecordedEntry, is in
// ledger/proof/recorded.h.
#pragma once

#include <string>

#include "ledger/base/bytes.h"
#include "ledger/codec/json.h"
#include "ledger/entry/envelope.h"
#include "ledger/entry/leaf.h"

namespace souk::ledger {

inline constexpr char kInTotoPayloadType[] = "application/vnd.in-toto+json";

// Room for everything a leaf adds to its envelope; see leaf.h.
inline constexpr size_t kMaxEnvelopeBytes = kMaxRecordBytes - 255;

// Well formed: the envelope is canonical JSON of at most kMaxEnvelopeBytes, its
// payload a canonical JSON object whose `author` is the signing key, whose
// `market` is 64 hex digits (or empty: genesis), whose `nonce` is 32 hex digits.
// In an in-toto statement these three stand inside `predicate`.
class SignedEntry {
 public:
  static Result<SignedEntry> decode(ByteView envelope_json);
  // The same of a leaf's envelope, without parsing it again.
  static Result<SignedEntry> decode(ReadLeaf leaf);

  // What it says; nothing vouches for it.
  const PublicKey& claimed_author() const { return envelope_.signatures.front().key; }
  const std::string& nonce() const { return nonce_; }

 private:
  friend class AuthenticEntry;
  friend Result<class AuthenticEntry> authenticate(SignedEntry entry);
  SignedEntry() = default;
  static Result<SignedEntry> read(Bytes envelope_json, const Json& json);

  Bytes envelope_bytes_;
  Envelope envelope_;
  Json body_;
  std::string market_;
  std::string nonce_;
};

// The author's signature over the payload holds. Says nothing about whether the
// entry is in any ledger, or means anything there.
class AuthenticEntry {
 public:
  const std::string& payload_type() const { return entry_.envelope_.payload_type; }
  const Json& body() const { return entry_.body_; }  // the payload, parsed
  ByteView payload() const { return entry_.envelope_.payload; }
  PublicKey author() const { return entry_.envelope_.signatures.front().key; }
  const std::string& market() const { return entry_.market_; }  // hex; empty in a genesis
  const std::string& nonce() const { return entry_.nonce_; }
  const Digest& payload_hash() const { return payload_hash_; }  // SHA-256 of payload()
  const Bytes& envelope_bytes() const { return entry_.envelope_bytes_; }
  Bytes take_envelope() && { return std::move(entry_.envelope_bytes_); }
  // SHA-256 of them as they were when the signature was verified.
  const Digest& envelope_hash() const { return envelope_hash_; }

 private:
  friend Result<AuthenticEntry> authenticate(SignedEntry entry);
  AuthenticEntry(SignedEntry entry, const Digest& payload_hash, const Digest& envelope_hash)
      : entry_(std::move(entry)), payload_hash_(payload_hash), envelope_hash_(envelope_hash) {}

  SignedEntry entry_;
  Digest payload_hash_;
  Digest envelope_hash_;
};

// kUnauthentic when the signature does not hold.
Result<AuthenticEntry> authenticate(SignedEntry entry);

// For authors: the bytes SignedEntry::decode reads, from a body that already has
// its author, market and nonce. kMalformed when decode would refuse them.
Result<Bytes> sign_entry(const SigningKey& key, std::string payload_type, const Json& body);

}  // namespace souk::ledger
