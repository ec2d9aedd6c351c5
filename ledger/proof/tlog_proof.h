// C2SP tlog-proof (c2sp.org/tlog-proof@v1): an inclusion proof and its
// checkpoint in one text, to be checked offline.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/bytes.h"
#include "ledger/base/named.h"

namespace souk::ledger {

struct TlogProof {
  std::optional<Bytes> extra = {};  // nobody vouches for it; we write none
  uint64_t index = 0;
  std::vector<Digest> path;  // from the leaf's sibling up
  std::string checkpoint;    // the signed note, verbatim

  std::string text() const;

  friend bool operator==(const TlogProof&, const TlogProof&) = default;
};

// Well formed only; nothing is verified: see confirm_one in recorded.h.
Result<TlogProof> parse_tlog_proof(std::string_view text);

}  // namespace souk::ledger
