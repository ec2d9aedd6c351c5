// Opening a ledger file: everything is recomputed from nodes and the entries after them,
// and the head and its checkpoint must say the same. The work does not grow with the
// ledger. And how files of earlier schema versions become one of this.
#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/store/rows.h"
#include "ledger/store/schema.h"

namespace souk::ledger {
namespace {

// One number of one row; `otherwise` when there is none.
Result<int64_t> number(Connection& connection, const std::string& sql, int64_t otherwise) {
  auto row = TRY(connection.prepare(sql.c_str()));
  auto step = TRY(row.step());
  return step == Statement::Step::kDone ? otherwise : row.integer(0);
}

// The rows end where the head says that they do.
Status check_ends(Reader& reader, uint64_t size) {
  auto& db = reader.connection;
  auto first = TRY(number(db, "SELECT seq FROM entry ORDER BY seq LIMIT 1", -1));
  auto last = TRY(number(db, "SELECT seq FROM entry ORDER BY seq DESC LIMIT 1", -1));
  if (last != static_cast<int64_t>(size) - 1 || first != (size == 0 ? -1 : 0)) {
    return broken_file("as many entries as the head counts");
  }
  for (uint8_t level = 0; level < 8; ++level) {
    auto full = static_cast<int64_t>(full_tiles(size, level));
    for (const char* table : {"tile", "node"}) {
      std::string newest = std::string("SELECT id FROM ") + table + " WHERE id < " +
                           std::to_string(tile_id(static_cast<uint8_t>(level + 1), 0)) +
                           " ORDER BY id DESC LIMIT 1";
      auto id = TRY(number(db, newest, -1));
      int64_t count = id < tile_id(level, 0) ? 0 : id - tile_id(level, 0) + 1;
      if (count != full) return broken_file("as many tiles as the head's entries fill");
    }
    if (full > 0) TRY(read_tile(reader, level, static_cast<uint64_t>(full) - 1));
  }
  return Done{};
}

// The right edge, from the entries of the tile that is not full and the nodes above.
Result<TileTree> read_edge(Reader& reader, uint64_t size) {
  std::vector<std::vector<Digest>> levels(1);
  auto rest = TRY(read_leaves(reader, full_tiles(size, 0) * kTileWidth, size));
  for (const auto& bytes : rest) levels[0].push_back(leaf_hash(bytes));
  for (uint8_t level = 0; full_tiles(size, level) > 0; ++level) {
    uint64_t from = full_tiles(size, static_cast<uint8_t>(level + 1)) * kTileWidth;
    auto hashes = TRY(read_nodes(reader, level, from, full_tiles(size, level)));
    levels.push_back(std::move(hashes));
  }
  return TileTree::of(size, levels);
}

Status check_last_leaf(Reader& reader, const Head& head) {
  uint64_t size = head.tree->size();
  Digest expected{};
  if (size > 0) {
    auto last = TRY(read_leaves(reader, size - 1, size));
    expected = leaf_hash(last.front());
    auto leaf = decode_leaf(last.front());
    if (!leaf || leaf->time != head.time || leaf->seq != size - 1) {
      return broken_file("the last entry to have the time and number of the head");
    }
    const Tile* edge = head.tree->edge(0);
    auto tile = edge ? nullptr : TRY(read_tile(reader, 0, full_tiles(size, 0) - 1));
    const Tile& stored = edge ? *edge : *tile;
    if (stored.node(0, stored.width() - 1) != expected) {
      return broken_file("the last tile to hold the hash of the last entry");
    }
  }
  if (head.last_leaf != expected) return broken_file("the hash of the last entry in the head");
  return Done{};
}

Status check_checkpoint(const Head& head) {
  if (head.checkpoint.empty()) {
    if (head.tree->size() != 0) return broken_file("a signed checkpoint");
    return Done{};
  }
  auto note = parse_note(head.checkpoint);
  if (!note) return broken_file("a checkpoint that is a signed note");
  auto checkpoint = parse_checkpoint(note->text);
  if (!checkpoint) return broken_file("a checkpoint that is one");
  if (checkpoint->size != head.tree->size() || checkpoint->root != head.root) {
    return broken_file("the signed checkpoint to say what the head says");
  }
  return Done{};
}

}  // namespace

Result<Head> read_head(Reader& reader) {
  TRY(reader.connection.execute("BEGIN"));  // one snapshot, whoever else writes
  Head head;
  int64_t size = 0;
  {
    auto row = TRY(reader.connection.prepare(
        "SELECT size, root, last_leaf, time, checkpoint FROM head WHERE id = 1"));
    auto step = TRY(row.step());
    if (step == Statement::Step::kDone) return broken_file("a head");
    size = row.integer(0);
    head.root = TRY(fixed<32>(row.blob(1)));
    head.last_leaf = TRY(fixed<32>(row.blob(2)));
    head.time = row.integer(3);
    head.checkpoint = row.text(4);
  }
  if (size < 0 || size > int64_t{1} << 48) return broken_file("a size that a ledger can have");
  TRY(check_ends(reader, static_cast<uint64_t>(size)));
  auto tree = TRY(read_edge(reader, static_cast<uint64_t>(size)));
  head.tree = std::make_shared<const TileTree>(std::move(tree));
  if (head.tree->root() != head.root)
    return broken_file("the entries to add up to the root of the head");
  TRY(check_last_leaf(reader, head));
  TRY(reader.connection.execute("COMMIT"));
  TRY(check_checkpoint(head));
  return head;
}

// Version 1 had the tiles of level 0 alone, no nodes, and the nonces in this file; version 2
// had all tiles whole. Either way they are made anew from level 0, and opening then checks
// them against the head as it always does.
Status migrate(const std::string& path) {
  auto connection = TRY(Connection::open(path, SQLITE_OPEN_READWRITE));
  TRY(connection.execute("BEGIN IMMEDIATE"));
  auto version = TRY(number(connection, "PRAGMA user_version", 0));
  if (version == kSchemaVersion) return connection.execute("COMMIT");
  if (version != 1 && version != 2) {
    return broken_file("schema version 1, 2 or 3, not " + std::to_string(version) +
                       "; a ledger of another version is brought here by export and import");
  }
  TRY(connection.execute(version == 1 ? "DROP TABLE nonce" : "DROP TABLE node"));
  TRY(connection.execute("DROP TRIGGER tile_no_update"));
  TRY(connection.execute("DROP TRIGGER tile_no_delete"));
  TRY(connection.execute("ALTER TABLE tile RENAME TO whole_tile"));
  TRY(connection.execute(kCreateTiles));
  {
    auto insert = TRY(connection.prepare("INSERT INTO tile(id, hashes) VALUES(?1, ?2)"));
    auto insert_node =
        TRY(connection.prepare("INSERT INTO node(id, hash, last) VALUES(?1, ?2, ?3)"));
    auto tiles = TRY(connection.prepare("SELECT hashes FROM whole_tile WHERE id = ?1"));
    std::string level_0 =
        "SELECT count(*) FROM whole_tile WHERE id < " + std::to_string(tile_id(1, 0));
    auto count = TRY(number(connection, level_0, 0));
    TileTree tree;
    for (int64_t index = 0; index < count; ++index) {
      auto step = TRY(tiles.restart().bind(1, index).step());
      if (step == Statement::Step::kDone) return broken_file("tile " + std::to_string(index));
      auto hashes = tiles.blob(0);
      if (hashes.size() != kTileBytes) return broken_file("tiles of 256 hashes");
      std::vector<FilledTile> filled;
      for (size_t at = 0; at < hashes.size(); at += 32) {
        auto hash = TRY(fixed<32>(ByteView(hashes).subspan(at, 32)));
        tree.append(hash, filled);
      }
      for (const auto& one : filled) {
        if (insert_tile(insert, insert_node, one) != SQLITE_DONE) {
          return broken_file("to write a tile");
        }
      }
    }
  }
  TRY(connection.execute("DROP TABLE whole_tile"));
  TRY(connection.execute("PRAGMA user_version = 3"));
  return connection.execute("COMMIT");
}

}  // namespace souk::ledger
