// The statements of a ledger file, and reading its rows back. Private to this room.
#pragma once

#include <string>
#include <vector>

#include "ledger/base/clock.h"
#include "ledger/proof/tile_tree.h"
#include "ledger/store/sqlite.h"

namespace souk::ledger {

Error broken_file(const std::string& expected);

// INSERT OR IGNORE would hide a second genesis row; everything here is a plain INSERT.
struct Writer {
  Connection connection;
  Statement entry, tile, node, head, log;

  static Result<Writer> open(const std::string& path);
  // The write-ahead log folded into the file and emptied; false when there is no room for
  // that, or a reader is in the way.
  bool fold();
};

struct Reader {
  Connection connection;
  Statement leaves, tile, nodes;

  static Result<Reader> open(const std::string& path);
};

// The row of a tile, and of its root among the nodes.
inline int64_t tile_id(uint8_t level, uint64_t index) {
  return static_cast<int64_t>(uint64_t{level} << 48 | index);
}

// How many full tiles a level of a tree has.
inline uint64_t full_tiles(uint64_t size, uint8_t level) {
  return size >> (kTileHeight * level) >> kTileHeight;
}

// Leaf bytes of [from, to); broken when one is missing.
Result<std::vector<Bytes>> read_leaves(Reader& reader, uint64_t from, uint64_t to);
// A full tile; broken when it is missing or does not hash to its node.
Result<SharedTile> read_tile(Reader& reader, uint8_t level, uint64_t index);
// The roots of full tiles [from, to) of a level.
Result<std::vector<Digest>> read_nodes(Reader& reader, uint8_t level, uint64_t from, uint64_t to);

// What the file says of itself, recomputed: SPEC.md, "Store", opening.
struct Head {
  std::shared_ptr<const TileTree> tree = std::make_shared<TileTree>();
  Digest root{};
  Digest last_leaf{};
  TimeMs time = 0;
  std::string checkpoint;
};
Result<Head> read_head(Reader& reader);

// A file is made under another name until it is whole. Removes what is left of an earlier attempt.
std::string unfinished_name(const std::string& path);
// Gives it its name: after this it is durable. kConflict when there is one.
Status publish_file(const std::string& from, const std::string& to);

// What SQLite puts beside a file it opens, gone again unless keep() is called: a file that is
// refused, and its folder, stay as they were.
class SideFiles {
 public:
  explicit SideFiles(const std::string& path);
  ~SideFiles();
  SideFiles(const SideFiles&) = delete;
  SideFiles& operator=(const SideFiles&) = delete;
  void keep() { made_.clear(); }

 private:
  std::vector<std::string> made_;
};

// Whether the file ends where its header says: SQLite reads zeros past the end of one that was cut
// short. Done where a write-ahead log may hold what the file lacks, and for what is no database.
Status check_length(const std::string& path);

// The rows of a full tile; SQLITE_DONE when both are in.
int insert_tile(Statement& tile, Statement& node, const FilledTile& filled);

// Brings a file of an earlier schema version to this one, in one transaction.
Status migrate(const std::string& path);

}  // namespace souk::ledger
