#include "trainer/session/sealing.h"

#include "ledger/crypto/kdf.h"

namespace souk::trainer {

Bytes sealing_key(const EnclaveSelf& self, std::string_view purpose) {
  auto seed = self.platform.seed(SecretAccess{});
  return ledger::hkdf(seed.bytes(SecretAccess{}), ByteView(self.measurement), as_bytes(purpose),
                      32);
}

}  // namespace souk::trainer
