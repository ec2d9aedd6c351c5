// A ledger file behind its guards' back, through the sqlite3 library: what an
// operator with the file in hand could do.
#pragma once

#include <string>

#include "ledger/base/bytes.h"

namespace souk::ledger::test {

// Without the append-only triggers.
inline constexpr char kDropGuards[] =
    "DROP TRIGGER log_no_update; DROP TRIGGER log_no_delete; DROP TRIGGER head_grows; DROP TRIGGER "
    "head_no_delete;"
    "DROP TRIGGER entry_no_update; DROP TRIGGER entry_no_delete; DROP TRIGGER tile_no_update; DROP "
    "TRIGGER tile_no_delete;"
    "DROP TRIGGER node_no_update; DROP TRIGGER node_no_delete;";

// Whether all of it ran.
bool raw_sql(const std::string& path, const std::string& sql);

// One open file, for many changes to its leaves.
class RawLeaves {
 public:
  explicit RawLeaves(const std::string& path);
  ~RawLeaves();
  RawLeaves(const RawLeaves&) = delete;
  RawLeaves& operator=(const RawLeaves&) = delete;
  Bytes read(uint64_t seq);
  void write(uint64_t seq, ByteView leaf);

 private:
  void* db_;
};

}  // namespace souk::ledger::test
