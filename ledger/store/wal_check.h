// A write-ahead log that was altered. SQLite takes the first frame whose checksum fails for
// the end of its log, as a power cut leaves one, and says nothing: what was acknowledged
// after it would be gone. This says it. Format: sqlite.org/fileformat2.html#walformat.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ledger/base/result.h"

namespace souk::ledger {

struct WalDamage {
  uint64_t from = 0;  // bytes of the file: [from, to)
  uint64_t to = 0;
  // A later commit follows that cannot have begun before this one was synced. Otherwise it
  // may also be a transaction that a power cut tore, which nobody was told of.
  bool was_durable = false;
};

// The first frame that belongs to a transaction which was written to its end, and does not
// verify. None for a missing or empty log, and for what an unfinished write leaves.
// kBroken when the file cannot be read.
Result<std::optional<WalDamage>> find_wal_damage(const std::string& path);

}  // namespace souk::ledger
