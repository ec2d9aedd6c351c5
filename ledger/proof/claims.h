// Questions asked from outside about other people's trees and keys: the JSON of
// `souk proof inclusion`, `souk proof consistency` and `souk ledger verify-signature`.
// Format: ledger/SPEC.md, "Claims".
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "ledger/base/bytes.h"

namespace souk::ledger {

// parse() is kMalformed when the text is not such a claim; check() is kUnauthentic
// when it is one and does not hold. Hashes are lower- or upper-case hex of 32 bytes
// or else base64; of another length they are well formed and false. Integers are
// 0 to 2^64 - 1.
struct InclusionClaim {
  Bytes leaf_hash;
  uint64_t index = 0;
  uint64_t size = 0;
  Bytes root;
  std::vector<Bytes> proof;

  static Result<InclusionClaim> parse(std::string_view json);
  Status check() const;
};

// The rules of transparency-dev/merkle: from size 0 nothing follows; of one size the
// proof is empty and the roots are one and the same text of bytes.
struct ConsistencyClaim {
  uint64_t size1 = 0;
  Bytes root1;
  uint64_t size2 = 0;
  Bytes root2;
  std::vector<Bytes> proof;

  static Result<ConsistencyClaim> parse(std::string_view json);
  Status check() const;
};

// Ed25519 by libsodium's rule, all three in hex.
struct SignatureClaim {
  Bytes public_key;
  Bytes message;
  Bytes signature;

  static Result<SignatureClaim> parse(std::string_view json);
  Status check() const;
};

}  // namespace souk::ledger
