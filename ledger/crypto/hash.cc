#include "ledger/crypto/hash.h"

#include <openssl/evp.h>

#include "ledger/crypto/openssl_algorithms.h"

namespace souk::ledger {

void Sha256::Free::operator()(evp_md_ctx_st* context) const {
  EVP_MD_CTX_free(context);
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  CHECK(context_ != nullptr);
  CHECK(EVP_DigestInit_ex2(context_.get(), sha256_algorithm(), nullptr) == 1);
}

void Sha256::update(ByteView bytes) {
  CHECK(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
}

Digest Sha256::finish() {
  Digest out{};
  unsigned length = 0;
  CHECK(EVP_DigestFinal_ex(context_.get(), out.data(), &length) == 1);
  CHECK(length == out.size());
  CHECK(EVP_DigestInit_ex2(context_.get(), nullptr, nullptr) == 1);
  return out;
}

Digest sha256(ByteView bytes) {
  // One context a thread: making one costs more than hashing a leaf.
  thread_local Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

}  // namespace souk::ledger
