#include "ledger/crypto/aead.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <limits>
#include <memory>

#include "ledger/crypto/openssl_algorithms.h"

namespace souk::ledger {
namespace {

struct FreeCipher {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};

EVP_CIPHER_CTX* cipher_context() {
  // Rekeyed for every message; wiped when its thread ends.
  thread_local std::unique_ptr<EVP_CIPHER_CTX, FreeCipher> context(EVP_CIPHER_CTX_new());
  CHECK(context != nullptr);
  CHECK(EVP_CIPHER_CTX_reset(context.get()) == 1);
  return context.get();
}

int length_of(ByteView bytes) {
  CHECK(bytes.size() <= static_cast<size_t>(std::numeric_limits<int>::max()) - 64);
  return static_cast<int>(bytes.size());
}

}  // namespace

Bytes seal(ByteView key, ByteView nonce, ByteView aad, ByteView plain) {
  CHECK(key.size() == kAeadKeyBytes && nonce.size() == kAeadNonceBytes);
  auto* context = cipher_context();
  int n = 0;
  CHECK(EVP_EncryptInit_ex2(context, chacha20_poly1305_algorithm(), key.data(), nonce.data(),
                            nullptr) == 1);
  CHECK(aad.empty() || EVP_EncryptUpdate(context, nullptr, &n, aad.data(), length_of(aad)) == 1);
  Bytes out(plain.size() + kAeadTagBytes);
  CHECK(plain.empty() ||
        EVP_EncryptUpdate(context, out.data(), &n, plain.data(), length_of(plain)) == 1);
  CHECK(EVP_EncryptFinal_ex(context, out.data() + plain.size(), &n) == 1 && n == 0);
  CHECK(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, static_cast<int>(kAeadTagBytes),
                            out.data() + plain.size()) == 1);
  CHECK(EVP_CIPHER_CTX_reset(context) == 1);
  return out;
}

Result<Bytes> open(ByteView key, ByteView nonce, ByteView aad, ByteView sealed) {
  CHECK(key.size() == kAeadKeyBytes && nonce.size() == kAeadNonceBytes);
  if (sealed.size() < kAeadTagBytes) {
    return Error(Code::kUnauthentic, "expected a ciphertext with its tag");
  }
  auto body = sealed.first(sealed.size() - kAeadTagBytes);
  Bytes tag(sealed.end() - kAeadTagBytes, sealed.end());
  auto* context = cipher_context();
  int n = 0;
  CHECK(EVP_DecryptInit_ex2(context, chacha20_poly1305_algorithm(), key.data(), nonce.data(),
                            nullptr) == 1);
  CHECK(aad.empty() || EVP_DecryptUpdate(context, nullptr, &n, aad.data(), length_of(aad)) == 1);
  Bytes out(body.size());
  CHECK(body.empty() ||
        EVP_DecryptUpdate(context, out.data(), &n, body.data(), length_of(body)) == 1);
  CHECK(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, static_cast<int>(kAeadTagBytes),
                            tag.data()) == 1);
  uint8_t nothing = 0;
  bool authentic = EVP_DecryptFinal_ex(context, &nothing, &n) == 1;
  CHECK(EVP_CIPHER_CTX_reset(context) == 1);
  if (!authentic) {
    OPENSSL_cleanse(out.data(), out.size());
    return Error(Code::kUnauthentic, "expected a ciphertext made with this key, nonce and context");
  }
  return out;
}

}  // namespace souk::ledger
