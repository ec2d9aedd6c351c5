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

// Where on disk, or under a tiles directory or URL.
struct AuditPlace {
  std::string file;
  uint64_t from = 0;  // byte offsets: [from, to)
  uint64_t to = 0;
};

struct AuditReport {
  bool ok = false;
  uint64_t entries = 0;               // that were found good, in order
  Digest root{};                      // recomputed over them
  std::optional<uint64_t> first_bad;  // the first entry that is not what it must be
  std::string reason;                 // empty when ok
  std::optional<AuditPlace> place;    // where that is known without looking for it
  LogKeySource log_key_source = LogKeySource::kPinned;
  std::string log_key;     // the vkey used
  std::string checkpoint;  // as stored

  // What was done, whether or not it was good.
  uint64_t bytes = 0;         // of leaves, hashed
  uint64_t signatures = 0;    // of authors
  uint64_t hashes = 0;        // of tiles, compared
  uint64_t checkpoints = 0;   // signatures of the log
  uint64_t cosignatures = 0;  // of witnesses of the policy
  unsigned threads = 0;
};

using Replay = std::function<Status(const RecordedEntry&)>;

// Rehashes every stored leaf; checks canonical form, sequence, chain, time, market and
// author signature of each, every stored tile and node against them, and the root
// against the signed checkpoint. Then hands every entry to `replay`, if there is one,
// in order; its first error is the reason. Signatures are checked by as many threads as
// there are cores. A good ledger takes 32 bytes of memory an entry; a bad one is held
// whole while the fault is named.
AuditReport audit_file(const std::string& path, std::optional<NoteKey> vkey = std::nullopt,
                       const Replay& replay = nullptr);

// Where the first bad entry of a report lies in the file or its write-ahead log; all of
// the file when that cannot be said.
AuditPlace place_of(const std::string& path, const AuditReport& report);

}  // namespace souk::ledger
