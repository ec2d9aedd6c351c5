// HMAC-SHA-256 (RFC 2104) and HKDF-SHA-256 (RFC 5869), over OpenSSL's SHA-256.
#pragma once

#include <span>

#include "ledger/base/bytes.h"
#include "ledger/base/named.h"

namespace souk::ledger {

Digest hmac_sha256(ByteView key, ByteView message);

// 32 bytes. An empty salt means 32 zero bytes, as the RFC says.
Bytes hkdf_extract(ByteView salt, ByteView ikm);
// CHECKs length <= 255 * 32.
Bytes hkdf_expand(ByteView prk, ByteView info, size_t length);
// The first 32 bytes of hkdf_expand, in place: allocates nothing.
void hkdf_expand_into(ByteView prk, ByteView info, std::span<uint8_t, 32> out);
Bytes hkdf(ByteView ikm, ByteView salt, ByteView info, size_t length);

}  // namespace souk::ledger
