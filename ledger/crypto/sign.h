// Ed25519 (RFC 8032). libsodium makes every signature decision everywhere: it
// refuses small-order keys and non-canonical scalars and points, so that no two
// of our programs can disagree about one signature.
#pragma once

#include "ledger/base/bytes.h"
#include "ledger/base/named.h"
#include "ledger/base/secret.h"

namespace souk::ledger {

class SigningKey {
 public:
  static SigningKey generate();
  // The 32-byte seed of RFC 8032 section 5.1.5. kMalformed when of another length.
  static Result<SigningKey> from_seed(ByteView seed);

  PublicKey public_key() const { return public_key_; }
  Signature sign(ByteView message) const;
  Secret<32> seed(SecretAccess access) const;

 private:
  SigningKey(Secret<64> secret, PublicKey public_key)
      : secret_(std::move(secret)), public_key_(public_key) {}

  Secret<64> secret_;  // seed and public key, as libsodium keeps them
  PublicKey public_key_;
};

[[nodiscard]] bool verify(const PublicKey& key, ByteView message, const Signature& signature);

}  // namespace souk::ledger
