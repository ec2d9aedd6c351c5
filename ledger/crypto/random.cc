#include "ledger/crypto/random.h"

#include <sodium.h>

#include "ledger/base/result.h"

namespace souk::ledger {

void random_bytes(std::span<uint8_t> out) {
  CHECK(sodium_init() >= 0);
  randombytes_buf(out.data(), out.size());
}

}  // namespace souk::ledger
