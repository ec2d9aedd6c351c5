#include "ledger/crypto/kdf.h"

#include <openssl/crypto.h>
#include <sodium.h>

#include "ledger/crypto/hash.h"

namespace souk::ledger {
namespace {

constexpr size_t kBlockBytes = 64;
constexpr size_t kHashBytes = 32;

// RFC 2104 over the pre-fetched SHA-256: OpenSSL's HMAC reads an empty key as "the
// key of before" and looks its digest up by name each time.
class Hmac {
 public:
  explicit Hmac(ByteView key) {
    std::array<uint8_t, kBlockBytes> block{};
    if (key.size() > kBlockBytes) {
      auto hashed = sha256(key);
      std::copy(hashed.begin(), hashed.end(), block.begin());
    } else {
      std::copy(key.begin(), key.end(), block.begin());
    }
    for (size_t i = 0; i < kBlockBytes; ++i) {
      outer_key_[i] = static_cast<uint8_t>(block[i] ^ 0x5c);
      block[i] = static_cast<uint8_t>(block[i] ^ 0x36);
    }
    inner_.update(block);
    OPENSSL_cleanse(block.data(), block.size());
  }
  ~Hmac() { OPENSSL_cleanse(outer_key_.data(), outer_key_.size()); }
  Hmac(const Hmac&) = delete;
  Hmac& operator=(const Hmac&) = delete;

  void update(ByteView bytes) { inner_.update(bytes); }
  // Once.
  Digest finish() {
    auto inner = inner_.finish();
    Sha256 outer;
    outer.update(outer_key_);
    outer.update(inner);
    return outer.finish();
  }

 private:
  Sha256 inner_;
  std::array<uint8_t, kBlockBytes> outer_key_{};
};

}  // namespace

Digest hmac_sha256(ByteView key, ByteView message) {
  Hmac hmac(key);
  hmac.update(message);
  return hmac.finish();
}

Bytes hkdf_extract(ByteView salt, ByteView ikm) {
  auto prk = hmac_sha256(salt, ikm);  // HMAC pads an empty salt to zeros itself
  return {prk.begin(), prk.end()};
}

Bytes hkdf_expand(ByteView prk, ByteView info, size_t length) {
  CHECK(length <= 255 * kHashBytes);
  Bytes out;
  out.reserve(length + kHashBytes);
  Digest block{};
  for (uint8_t counter = 1; out.size() < length; ++counter) {
    Hmac hmac(prk);
    if (counter > 1) hmac.update(block);
    hmac.update(info);
    hmac.update(ByteView(&counter, 1));
    block = hmac.finish();
    append(out, block);
  }
  out.resize(length);
  OPENSSL_cleanse(block.data(), block.size());
  return out;
}

void hkdf_expand_into(ByteView prk, ByteView info, std::span<uint8_t, 32> out) {
  const uint8_t counter = 1;
  crypto_auth_hmacsha256_state state;
  crypto_auth_hmacsha256_init(&state, prk.data(), prk.size());
  crypto_auth_hmacsha256_update(&state, info.data(), info.size());
  crypto_auth_hmacsha256_update(&state, &counter, 1);
  crypto_auth_hmacsha256_final(&state, out.data());
  OPENSSL_cleanse(&state, sizeof(state));
}

Bytes hkdf(ByteView ikm, ByteView salt, ByteView info, size_t length) {
  auto prk = hkdf_extract(salt, ikm);
  auto out = hkdf_expand(prk, info, length);
  OPENSSL_cleanse(prk.data(), prk.size());
  return out;
}

}  // namespace souk::ledger
