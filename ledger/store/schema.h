// The tables of a ledger file; ledger/SPEC.md, "Store". Private to this room.
#pragma once

#include <cstddef>

namespace souk::ledger {

inline constexpr int kApplicationId = 0x534f554b;  // "SOUK"
inline constexpr int kSchemaVersion = 3;

inline constexpr char kCreateSchema[] = R"sql(
PRAGMA application_id = 1397708107;
PRAGMA user_version = 3;
CREATE TABLE log(
  id INTEGER PRIMARY KEY CHECK(id = 1),
  vkey TEXT NOT NULL) STRICT;
CREATE TABLE head(
  id INTEGER PRIMARY KEY CHECK(id = 1),
  size INTEGER NOT NULL CHECK(size >= 0),
  root BLOB NOT NULL CHECK(length(root) = 32),
  last_leaf BLOB NOT NULL CHECK(length(last_leaf) = 32),
  time INTEGER NOT NULL,
  checkpoint TEXT NOT NULL) STRICT;
CREATE TABLE entry(
  seq INTEGER PRIMARY KEY,
  leaf BLOB NOT NULL CHECK(length(leaf) <= 65535)) STRICT;
CREATE TRIGGER log_no_update BEFORE UPDATE ON log BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER log_no_delete BEFORE DELETE ON log BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER head_grows BEFORE UPDATE ON head WHEN NEW.size < OLD.size OR NEW.time < OLD.time
  BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER head_no_delete BEFORE DELETE ON head BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER entry_no_update BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER entry_no_delete BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'append-only'); END;
)sql";

// Full tiles. A tile's first 255 hashes lie in one table and its last, with its root, in the
// other: so an even number of rows fills a page, where rows of 8192 bytes would leave half of
// each empty.
inline constexpr size_t kStoredTileBytes = 255 * 32;
inline constexpr char kCreateTiles[] = R"sql(
CREATE TABLE tile(
  id INTEGER PRIMARY KEY,
  hashes BLOB NOT NULL CHECK(length(hashes) = 8160)) STRICT;
CREATE TABLE node(
  id INTEGER PRIMARY KEY,
  hash BLOB NOT NULL CHECK(length(hash) = 32),
  last BLOB NOT NULL CHECK(length(last) = 32)) STRICT;
CREATE TRIGGER tile_no_update BEFORE UPDATE ON tile BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER tile_no_delete BEFORE DELETE ON tile BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER node_no_update BEFORE UPDATE ON node BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER node_no_delete BEFORE DELETE ON node BEGIN SELECT RAISE(ABORT, 'append-only'); END;
)sql";

// Smaller pages waste more of what a row leaves free, larger ones are more to write for one
// entry.
inline constexpr char kPageSize[] = "PRAGMA page_size = 32768";

}  // namespace souk::ledger
