#include "ledger/store/rows.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

#include "ledger/entry/leaf.h"
#include "ledger/store/schema.h"

namespace souk::ledger {

Error broken_file(const std::string& expected) {
  return Error(Code::kBroken, "ledger file: expected " + expected);
}

SideFiles::SideFiles(const std::string& path) {
  std::error_code failure;
  for (const char* end : {"-shm", "-wal"}) {
    if (!std::filesystem::exists(path + end, failure)) made_.push_back(path + end);
  }
}

SideFiles::~SideFiles() {
  std::error_code failure;
  for (const auto& path : made_) {
    bool log = path.ends_with("-wal");
    if (log && std::filesystem::file_size(path, failure) > 0) continue;
    std::filesystem::remove(path, failure);
  }
}

// sqlite.org/fileformat2.html, 1.3: page size at byte 16, pages at 28, the two counters that say
// whether that number holds at 24 and 92.
Status check_length(const std::string& path) {
  std::error_code failure;
  if (std::filesystem::file_size(path + "-wal", failure) > 0 && !failure) return Done{};
  std::array<unsigned char, 100> header{};
  std::ifstream in(path, std::ios::binary);
  constexpr std::string_view kMagic("SQLite format 3\0", 16);
  if (!in.read(reinterpret_cast<char*>(header.data()), header.size()) ||
      !std::equal(kMagic.begin(), kMagic.end(), header.begin()))
    return Done{};
  auto number = [&](size_t at, size_t bytes) {
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; ++i) value = value << 8 | header[at + i];
    return value;
  };
  uint64_t page = number(16, 2) == 1 ? 65536 : number(16, 2);
  uint64_t pages = number(24, 4) == number(92, 4) ? number(28, 4) : 0;
  uint64_t length = std::filesystem::file_size(path, failure);
  if (!failure && page > 0 && length % page == 0 && length >= pages * page) return Done{};
  return broken_file("the " + std::to_string(pages) + " whole pages of its header, found " +
                     std::to_string(length) + " bytes");
}

Result<Writer> Writer::open(const std::string& path) {
  auto connection = TRY(Connection::open(path, SQLITE_OPEN_READWRITE));
  TRY(connection.execute("PRAGMA journal_mode = WAL"));
  TRY(connection.execute("PRAGMA synchronous = FULL"));
  // Folding the log into the file costs two more fsyncs: seldom (128 MiB), not never.
  TRY(connection.execute("PRAGMA wal_autocheckpoint = 4096"));
  TRY(connection.execute("PRAGMA foreign_keys = ON"));
  TRY(connection.execute("PRAGMA trusted_schema = OFF"));
  TRY(connection.execute("PRAGMA cell_size_check = ON"));
  // What an interrupted write left behind the end of the log is gone after this: only an
  // altered log still breaks off (store/wal_check.h). A reader in the way: next time.
  TRY(connection.execute("PRAGMA busy_timeout = 0"));
  connection.run("PRAGMA wal_checkpoint(TRUNCATE)");
  TRY(connection.execute("PRAGMA busy_timeout = 5000"));
  auto entry = TRY(connection.prepare("INSERT INTO entry(seq, leaf) VALUES(?1, ?2)"));
  auto tile = TRY(connection.prepare("INSERT INTO tile(id, hashes) VALUES(?1, ?2)"));
  auto node = TRY(connection.prepare("INSERT INTO node(id, hash, last) VALUES(?1, ?2, ?3)"));
  auto head = TRY(connection.prepare(
      "UPDATE head SET size = ?1, root = ?2, last_leaf = ?3, time = ?4, checkpoint = ?5 "
      "WHERE id = 1 AND size = ?6 AND root = ?7"));
  auto log = TRY(connection.prepare("INSERT INTO log(id, vkey) VALUES(1, ?1)"));
  return Writer{std::move(connection), std::move(entry), std::move(tile),
                std::move(node),       std::move(head),  std::move(log)};
}

bool Writer::fold() {
  auto run = connection.prepare("PRAGMA wal_checkpoint(TRUNCATE)");
  if (!run) return false;
  auto row = run->step();  // busy, frames in the log, frames folded in
  return row && *row == Statement::Step::kRow && run->integer(0) == 0;
}

Result<Reader> Reader::open(const std::string& path) {
  auto connection = TRY(Connection::open(path, SQLITE_OPEN_READONLY));
  auto leaves = TRY(
      connection.prepare("SELECT seq, leaf FROM entry WHERE seq >= ?1 AND seq < ?2 ORDER BY seq"));
  auto tile = TRY(connection.prepare(
      "SELECT tile.hashes, node.hash, node.last FROM tile JOIN node USING(id) WHERE id = ?1"));
  auto nodes =
      TRY(connection.prepare("SELECT id, hash FROM node WHERE id >= ?1 AND id < ?2 ORDER BY id"));
  return Reader{std::move(connection), std::move(leaves), std::move(tile), std::move(nodes)};
}

Result<std::vector<Bytes>> read_leaves(Reader& reader, uint64_t from, uint64_t to) {
  std::vector<Bytes> out;
  auto& rows = reader.leaves.restart();
  rows.bind(1, static_cast<int64_t>(from)).bind(2, static_cast<int64_t>(to));
  for (uint64_t seq = from; seq < to; ++seq) {
    auto step = TRY(rows.step());
    if (step == Statement::Step::kDone || rows.integer(0) != static_cast<int64_t>(seq)) {
      return broken_file("entry " + std::to_string(seq));
    }
    out.push_back(rows.blob(1));
  }
  rows.restart();
  return out;
}

Result<SharedTile> read_tile(Reader& reader, uint8_t level, uint64_t index) {
  auto name = "tile " + std::to_string(level) + "/" + std::to_string(index);
  auto& row = reader.tile.restart();
  auto step = TRY(row.bind(1, tile_id(level, index)).step());
  if (step == Statement::Step::kDone) return broken_file(name);
  auto hashes = row.blob(0);
  auto root = row.blob(1);
  append(hashes, row.blob(2));
  auto tile = Tile::of(hashes);
  row.restart();
  if (!tile || !tile->full() ||
      !std::equal(root.begin(), root.end(), tile->root().begin(), tile->root().end())) {
    return broken_file(name + " of 256 hashes that lead to its node");
  }
  return std::make_shared<const Tile>(std::move(*tile));
}

Result<std::vector<Digest>> read_nodes(Reader& reader, uint8_t level, uint64_t from, uint64_t to) {
  std::vector<Digest> out;
  auto& rows = reader.nodes.restart();
  rows.bind(1, tile_id(level, from)).bind(2, tile_id(level, to));
  for (uint64_t index = from; index < to; ++index) {
    auto step = TRY(rows.step());
    if (step == Statement::Step::kDone || rows.integer(0) != tile_id(level, index)) {
      return broken_file("node " + std::to_string(level) + "/" + std::to_string(index));
    }
    auto hash = TRY(fixed<32>(rows.blob(1)));
    out.push_back(hash);
  }
  rows.restart();
  return out;
}

int insert_tile(Statement& tile, Statement& node, const FilledTile& filled) {
  auto hashes = filled.tile->bytes();
  int64_t id = tile_id(filled.level, filled.index);
  ByteView all(hashes);
  int code = tile.restart().bind(1, id).bind(2, all.first(kStoredTileBytes)).run();
  tile.restart();
  if (code != SQLITE_DONE) return code;
  auto& row = node.restart().bind(1, id).bind(2, ByteView(filled.tile->root()));
  code = row.bind(3, all.subspan(kStoredTileBytes)).run();
  node.restart();
  return code;
}

}  // namespace souk::ledger
