// ChaCha20-Poly1305 (RFC 8439), from OpenSSL. The caller never repeats a
// (key, nonce) pair.
#pragma once

#include "ledger/base/bytes.h"

namespace souk::ledger {

inline constexpr size_t kAeadKeyBytes = 32;
inline constexpr size_t kAeadNonceBytes = 12;
inline constexpr size_t kAeadTagBytes = 16;

// Ciphertext followed by the tag. CHECKs the lengths of key and nonce.
Bytes seal(ByteView key, ByteView nonce, ByteView aad, ByteView plain);
// kUnauthentic unless `sealed` was made by seal() with the same key, nonce and aad.
Result<Bytes> open(ByteView key, ByteView nonce, ByteView aad, ByteView sealed);

}  // namespace souk::ledger
