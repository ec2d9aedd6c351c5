// HMAC-SHA-256 (RFC 2104) and HKDF-SHA-256 (RFC 5869), over OpenSSL's SHA-256.
#pragma once

#include "ledger/base/bytes.h"
#include "ledger/base/named.h"

namespace souk::ledger {

Digest hmac_sha256(ByteView key, ByteView message);

// 32 bytes. An empty salt means 32 zero bytes, as the RFC says.
Bytes hkdf_extract(ByteView salt, ByteView ikm);
// CHECKs length <= 255 * 32.
Bytes hkdf_expand(ByteView prk, ByteView info, size_t length);
Bytes hkdf(ByteView ikm, ByteView salt, ByteView info, size_t length);

}  // namespace souk::ledger
