// The request of C2SP tlog-witness v1.0.0 (c2sp.org/tlog-witness), add-checkpoint:
// what a log sends to a witness, and the strict reader of the witness.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/named.h"
#include "ledger/proof/checkpoint.h"

namespace souk::ledger {

inline constexpr size_t kMaxConsistencyLines = 63;
// The answer to a wrong old size: this content type, and the size in decimal and a newline.
inline constexpr char kTlogSizeType[] = "text/x.tlog.size";

struct AddCheckpoint {
  uint64_t old_size = 0;
  std::vector<Digest> proof;  // from old_size to the checkpoint's size
  std::string checkpoint;     // the signed note, verbatim

  std::string text() const;

  friend bool operator==(const AddCheckpoint&, const AddCheckpoint&) = default;
};

// Well formed: at most 63 proof lines, a note, and a checkpoint in it. Nothing is verified.
Result<AddCheckpoint> parse_add_checkpoint(std::string_view body);

// The body of a 409 answer.
std::string tlog_size_text(uint64_t size);
Result<uint64_t> parse_tlog_size(std::string_view body);

}  // namespace souk::ledger
