// Reads a ledger file from its first byte to its last and believes none of them.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "ledger/base/named.h"
#include "ledger/proof/recorded.h"

namespace souk::ledger {

// Whose word the checkpoint's signature was checked against.
enum class LogKeySource {
  kPinned,    // the caller's
  kFromFile,  // the file's own: shows that it is consistent, not whose it is
};

struct AuditReport {
  bool ok = false;
  uint64_t entries = 0;               // that were found good, in order
  Digest root{};                      // recomputed over them
  std::optional<uint64_t> first_bad;  // the first entry that is not what it must be
  std::string reason;                 // empty when ok
  LogKeySource log_key_source = LogKeySource::kPinned;
  std::string log_key;     // the vkey used
  std::string checkpoint;  // as stored
};

using Replay = std::function<Status(const RecordedEntry&)>;

// Rehashes every stored leaf; checks canonical form, sequence, chain, time, market and
// author signature of each, the stored hashes and nonces against them, and the root
// against the signed checkpoint. Then hands every entry to `replay`, if there is one,
// in order; its first error is the reason. Holds all entries in memory.
AuditReport audit_file(const std::string& path, std::optional<NoteKey> vkey = std::nullopt,
                       const Replay& replay = nullptr);

}  // namespace souk::ledger
