// OpenSSL's algorithms, fetched once: a lookup by name costs more than a hash.
// Private to this room.
#pragma once

#include <openssl/evp.h>

#include "ledger/base/result.h"

namespace souk::ledger {

inline const EVP_MD* sha256_algorithm() {
  static const EVP_MD* const algorithm = [] {
    EVP_MD* fetched = EVP_MD_fetch(nullptr, "SHA2-256", nullptr);
    CHECK(fetched != nullptr);
    return fetched;
  }();
  return algorithm;
}

inline const EVP_CIPHER* chacha20_poly1305_algorithm() {
  static const EVP_CIPHER* const algorithm = [] {
    EVP_CIPHER* fetched = EVP_CIPHER_fetch(nullptr, "ChaCha20-Poly1305", nullptr);
    CHECK(fetched != nullptr);
    return fetched;
  }();
  return algorithm;
}

}  // namespace souk::ledger
