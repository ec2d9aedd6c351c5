// HPKE (RFC 9180), base mode, single shot: DHKEM(X25519, HKDF-SHA256) 0x0020,
// HKDF-SHA256 0x0001, ChaCha20Poly1305 0x0003. Base mode authenticates nobody:
// what must be known about the sender is bound through `info` and signed elsewhere.
#pragma once

#include "ledger/base/bytes.h"
#include "ledger/base/named.h"
#include "ledger/base/secret.h"

namespace souk::ledger {

class KemKey {
 public:
  static KemKey generate();
  // The 32 bytes of an X25519 private key. kMalformed when of another length.
  static Result<KemKey> from_bytes(ByteView secret);

  SealingKey public_key() const { return public_key_; }
  Secret<32> secret(SecretAccess access) const { return secret_.clone(access); }
  // X25519 with another party's point (RFC 7748). kUnauthentic when the shared
  // secret is all zero, that is, when the point has small order.
  Result<Secret<32>> shared_secret(const SealingKey& with) const;

 private:
  KemKey(Secret<32> secret, SealingKey public_key)
      : secret_(std::move(secret)), public_key_(public_key) {}

  Secret<32> secret_;
  SealingKey public_key_;
};

// enc (32 bytes) followed by the ciphertext. kUnauthentic when `to` has small order.
Result<Bytes> hpke_seal(const SealingKey& to, ByteView info, ByteView aad, ByteView plain);
// kMalformed when too short, kUnauthentic when it does not open.
Result<Bytes> hpke_open(const KemKey& key, ByteView info, ByteView aad, ByteView sealed);

}  // namespace souk::ledger
