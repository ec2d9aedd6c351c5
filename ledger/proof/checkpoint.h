// C2SP tlog-checkpoint v1.0.0 (c2sp.org/tlog-checkpoint): a signed tree head.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/named.h"
#include "ledger/proof/note.h"

namespace souk::ledger {

struct Checkpoint {
  std::string origin;
  uint64_t size = 0;
  Digest root{};
  std::vector<std::string> extensions = {};  // we write none

  // The note text: origin, size, base64 root, extensions, one a line.
  std::string text() const;

  friend bool operator==(const Checkpoint&, const Checkpoint&) = default;
};

// Reads a note text; nothing is verified.
Result<Checkpoint> parse_checkpoint(std::string_view text);

std::string sign_checkpoint(const Checkpoint& checkpoint, const NoteKey& as, const SigningKey& key);

// The checkpoint, only if the log `key` signed it and the origin line is its name.
Result<Checkpoint> open_checkpoint(std::string_view note, const NoteKey& key);

}  // namespace souk::ledger
