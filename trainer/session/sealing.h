// Keys under which an enclave process leaves something for the next one of its program.
#pragma once

#include <string_view>

#include "trainer/session/session.h"

namespace souk::trainer {

// HKDF-SHA-256: 32 bytes of this program on this platform and of no other, for one purpose.
Bytes sealing_key(const EnclaveSelf& self, std::string_view purpose);

}  // namespace souk::trainer
