#include "ledger/crypto/sign.h"

#include <sodium.h>

namespace souk::ledger {

SigningKey SigningKey::generate() {
  auto seed = Secret<32>::random();
  return from_seed(seed.bytes(SecretAccess())).take();
}

Result<SigningKey> SigningKey::from_seed(ByteView seed) {
  if (seed.size() != crypto_sign_SEEDBYTES) {
    return Error(Code::kMalformed, "expected a signing seed of 32 bytes");
  }
  CHECK(sodium_init() >= 0);
  std::array<uint8_t, 64> pair{};
  Digest public_key{};
  CHECK(crypto_sign_seed_keypair(public_key.data(), pair.data(), seed.data()) == 0);
  auto secret = Secret<64>::copy_of(pair);
  sodium_memzero(pair.data(), pair.size());
  return SigningKey(std::move(secret), PublicKey(public_key));
}

Signature SigningKey::sign(ByteView message) const {
  std::array<uint8_t, 64> out{};
  CHECK(crypto_sign_detached(out.data(), nullptr, message.data(), message.size(),
                             secret_.bytes(SecretAccess()).data()) == 0);
  return Signature(out);
}

Secret<32> SigningKey::seed(SecretAccess access) const {
  return Secret<32>::copy_of(secret_.bytes(access).first<32>());
}

bool verify(const PublicKey& key, ByteView message, const Signature& signature) {
  return crypto_sign_verify_detached(signature.value().data(), message.data(), message.size(),
                                     key.value().data()) == 0;
}

}  // namespace souk::ledger
