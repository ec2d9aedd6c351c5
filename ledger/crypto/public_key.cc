#include "ledger/crypto/public_key.h"

#include <sodium.h>

#include "ledger/base/result.h"

namespace souk::ledger {

bool is_public_key(const PublicKey& key) {
  CHECK(sodium_init() >= 0);
  return crypto_core_ed25519_is_valid_point(key.value().data()) == 1;
}

// Eight times a point of small order, and of no other, is the neutral element.
bool is_weak_key(const PublicKey& key) {
  CHECK(sodium_init() >= 0);
  Digest sum = key.value();
  for (int doubled = 0; doubled < 3; ++doubled) {
    if (crypto_core_ed25519_add(sum.data(), sum.data(), sum.data()) != 0) return false;
  }
  Digest neutral{};
  neutral[0] = 1;
  return sum == neutral;
}

}  // namespace souk::ledger
