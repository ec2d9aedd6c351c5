// SHA-256 (FIPS 180-4), from OpenSSL.
#pragma once

#include <memory>

#include "ledger/base/bytes.h"
#include "ledger/base/named.h"

struct evp_md_ctx_st;

namespace souk::ledger {

Digest sha256(ByteView bytes);

// The same, piece by piece. After finish() the object starts a new message.
// Not for two threads at once.
class Sha256 {
 public:
  Sha256();
  void update(ByteView bytes);
  Digest finish();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

}  // namespace souk::ledger
