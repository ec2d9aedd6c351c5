#include "ledger/store/store.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <mutex>

#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/store/schema.h"
#include "ledger/store/sqlite.h"

namespace souk::ledger {
namespace {

constexpr uint64_t kTile = kTileHashes;

struct Head {
  CompactTree tree;
  std::vector<Digest> edge;  // leaf hashes of the tile that is not full yet
  Digest root{};
  Digest last_leaf{};
  TimeMs time = 0;
  std::string checkpoint;
};

Error broken(const std::string& expected) {
  return Error(Code::kBroken, "ledger file: expected " + expected);
}

// The name of a file that is complete already: after this it is durable.
Status publish(const std::string& from, const std::string& to) {
  std::error_code failure;
  std::filesystem::create_hard_link(from, to, failure);
  if (failure == std::errc::file_exists) {
    return Error(Code::kConflict, "ledger file: expected none at this path");
  }
  if (failure) return broken("to give the new file its name");
  std::filesystem::remove(from, failure);
  std::string folder = std::filesystem::path(to).parent_path().string();
  int fd = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  bool synced = fd >= 0 && fsync(fd) == 0;
  if (fd >= 0) close(fd);
  if (!synced) return broken("to sync its folder");
  return Done{};
}

Error doubtful() {
  return broken("to know whether the last write happened; reopen the ledger");
}

// INSERT OR IGNORE would hide a second genesis row; everything here is a plain INSERT.
struct Writer {
  Connection connection;
  Statement entry, tile, nonce, head, log;
};

struct Reader {
  Connection connection;
  Statement leaf, leaves, nonce, tiles;
};

Result<Writer> open_writer(const std::string& path) {
  auto connection = TRY(Connection::open(path, SQLITE_OPEN_READWRITE));
  TRY(connection.execute("PRAGMA journal_mode = WAL"));
  TRY(connection.execute("PRAGMA synchronous = FULL"));
  TRY(connection.execute("PRAGMA foreign_keys = ON"));
  TRY(connection.execute("PRAGMA trusted_schema = OFF"));
  TRY(connection.execute("PRAGMA cell_size_check = ON"));
  auto entry = TRY(connection.prepare("INSERT INTO entry(seq, leaf) VALUES(?1, ?2)"));
  auto tile = TRY(connection.prepare("INSERT INTO tile(id, hashes) VALUES(?1, ?2)"));
  auto nonce = TRY(connection.prepare("INSERT INTO nonce(author, nonce, seq) VALUES(?1, ?2, ?3)"));
  auto head = TRY(connection.prepare(
      "UPDATE head SET size = ?1, root = ?2, last_leaf = ?3, time = ?4, checkpoint = ?5 "
      "WHERE id = 1 AND size = ?6 AND root = ?7"));
  auto log = TRY(connection.prepare("INSERT INTO log(id, vkey) VALUES(1, ?1)"));
  return Writer{std::move(connection), std::move(entry), std::move(tile),
                std::move(nonce),      std::move(head),  std::move(log)};
}

Result<Reader> open_reader(const std::string& path) {
  auto connection = TRY(Connection::open(path, SQLITE_OPEN_READONLY));
  auto leaf = TRY(connection.prepare("SELECT leaf FROM entry WHERE seq = ?1"));
  auto leaves = TRY(
      connection.prepare("SELECT seq, leaf FROM entry WHERE seq >= ?1 AND seq < ?2 ORDER BY seq"));
  auto nonce = TRY(connection.prepare("SELECT seq FROM nonce WHERE author = ?1 AND nonce = ?2"));
  auto tiles =
      TRY(connection.prepare("SELECT id, hashes FROM tile WHERE id >= ?1 AND id < ?2 ORDER BY id"));
  return Reader{std::move(connection), std::move(leaf), std::move(leaves), std::move(nonce),
                std::move(tiles)};
}

// Leaf bytes of [from, to); broken when one is missing.
Result<std::vector<Bytes>> read_leaves(Reader& reader, uint64_t from, uint64_t to) {
  std::vector<Bytes> out;
  auto& rows = reader.leaves.restart();
  rows.bind(1, static_cast<int64_t>(from)).bind(2, static_cast<int64_t>(to));
  for (uint64_t seq = from; seq < to; ++seq) {
    auto step = TRY(rows.step());
    if (step == Statement::Step::kDone || rows.integer(0) != static_cast<int64_t>(seq)) {
      return broken("entry " + std::to_string(seq));
    }
    out.push_back(rows.blob(1));
  }
  rows.restart();
  return out;
}

// Leaf hashes of [from, to), both multiples of a tile.
Result<std::vector<Digest>> read_tiles(Reader& reader, uint64_t from, uint64_t to) {
  std::vector<Digest> out;
  out.reserve(to - from);
  auto& rows = reader.tiles.restart();
  rows.bind(1, static_cast<int64_t>(from / kTile)).bind(2, static_cast<int64_t>(to / kTile));
  for (uint64_t id = from / kTile; id < to / kTile; ++id) {
    auto step = TRY(rows.step());
    if (step == Statement::Step::kDone || rows.integer(0) != static_cast<int64_t>(id)) {
      return broken("tile " + std::to_string(id));
    }
    auto hashes = rows.blob(1);
    if (hashes.size() != kTile * 32) return broken("tile " + std::to_string(id) + " of 256 hashes");
    for (size_t at = 0; at < hashes.size(); at += 32) {
      auto hash = TRY(fixed<32>(ByteView(hashes).subspan(at, 32)));
      out.push_back(hash);
    }
  }
  rows.restart();
  return out;
}

// The recovery of SPEC.md, "Store": everything is recomputed from tiles and the
// entries after them, and the head and its checkpoint must say the same.
Result<Head> read_head(Reader& reader) {
  TRY(reader.connection.execute("BEGIN"));  // one snapshot, whoever else writes
  auto row = TRY(reader.connection.prepare(
      "SELECT size, root, last_leaf, time, checkpoint FROM head WHERE id = 1"));
  auto step = TRY(row.step());
  if (step == Statement::Step::kDone) return broken("a head");
  auto size = static_cast<uint64_t>(row.integer(0));
  auto root = TRY(fixed<32>(row.blob(1)));
  auto last_leaf = TRY(fixed<32>(row.blob(2)));
  Head head{.tree = {},
            .edge = {},
            .root = root,
            .last_leaf = last_leaf,
            .time = row.integer(3),
            .checkpoint = row.text(4)};
  row.restart();

  auto ends = TRY(reader.connection.prepare(
      "SELECT (SELECT count(*) FROM entry), (SELECT coalesce(max(seq), -1) FROM entry), "
      "(SELECT count(*) FROM tile)"));
  TRY(ends.step());
  if (ends.integer(0) != static_cast<int64_t>(size) ||
      ends.integer(1) != static_cast<int64_t>(size) - 1) {
    return broken("as many entries as the head counts");
  }
  if (ends.integer(2) != static_cast<int64_t>(size / kTile)) {
    return broken("as many tiles as the head's entries fill");
  }
  ends.restart();

  uint64_t full = size / kTile * kTile;
  auto hashes = TRY(read_tiles(reader, 0, full));
  for (const auto& hash : hashes) head.tree.append(hash);
  auto rest = TRY(read_leaves(reader, full, size));
  for (const auto& bytes : rest) {
    head.edge.push_back(leaf_hash(bytes));
    head.tree.append(head.edge.back());
  }
  if (head.tree.root() != root) return broken("the entries to add up to the root of the head");

  Digest expected_last{};
  if (size > 0) {
    auto last = TRY(read_leaves(reader, size - 1, size));
    expected_last = leaf_hash(last.front());
    auto leaf = decode_leaf(last.front());
    if (!leaf || leaf->time != head.time || leaf->seq != size - 1) {
      return broken("the last entry to have the time and number of the head");
    }
    const Digest& stored = head.edge.empty() ? hashes.back() : head.edge.back();
    if (stored != expected_last) return broken("the last tile to hold the hash of the last entry");
  }
  if (last_leaf != expected_last) return broken("the hash of the last entry in the head");

  TRY(reader.connection.execute("COMMIT"));
  if (head.checkpoint.empty()) {
    if (size != 0) return broken("a signed checkpoint");
    return head;
  }
  auto note = parse_note(head.checkpoint);
  if (!note) return broken("a checkpoint that is a signed note");
  auto checkpoint = parse_checkpoint(note->text);
  if (!checkpoint) return broken("a checkpoint that is one");
  if (checkpoint->size != size || checkpoint->root != root) {
    return broken("the signed checkpoint to say what the head says");
  }
  return head;
}

}  // namespace

struct LedgerStore::Impl {
  // Set once in open().
  std::string path;
  // Owned by the append thread.
  Writer writer;
  // Guarded by read_mutex.
  mutable std::mutex read_mutex;
  mutable Reader reader;
  // Guarded by head_mutex; the append thread alone changes them.
  mutable std::mutex head_mutex;
  Head head;
  std::string vkey;
  bool in_doubt = false;

  Impl(std::string p, Writer w, Reader r, Head h, std::string k)
      : path(std::move(p)),
        writer(std::move(w)),
        reader(std::move(r)),
        head(std::move(h)),
        vkey(std::move(k)) {}

  Status certain() const {
    std::lock_guard lock(head_mutex);
    if (in_doubt) return doubtful();
    return Done{};
  }
  // Ends the transaction; what SQLite cannot undo leaves us in doubt.
  Error undo(Error reason) {
    if (!writer.connection.in_transaction() || writer.connection.run("ROLLBACK") == SQLITE_OK) {
      return reason;
    }
    std::lock_guard lock(head_mutex);
    in_doubt = true;
    return doubtful();
  }
  Result<Head> next_head(const Batch& batch) const;
  int write(const Batch& batch, const Head& next);
};

LedgerStore::LedgerStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LedgerStore::LedgerStore(LedgerStore&&) noexcept = default;
LedgerStore& LedgerStore::operator=(LedgerStore&&) noexcept = default;
LedgerStore::~LedgerStore() = default;

Result<LedgerStore> LedgerStore::create(const std::string& path) {
  std::error_code failure;
  if (std::filesystem::exists(path, failure) || failure) {
    return Error(Code::kConflict, "ledger file: expected none at this path");
  }
  // Under another name until it is whole: a crash leaves nothing at `path`.
  std::string unfinished = path + ".new";
  for (const char* part : {"", "-wal", "-shm", "-journal"}) {
    std::filesystem::remove(unfinished + part, failure);
  }
  {
    auto connection = TRY(Connection::open(unfinished, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE));
    TRY(connection.execute("PRAGMA page_size = 16384"));
    TRY(connection.execute("PRAGMA journal_mode = WAL"));
    TRY(connection.execute("PRAGMA synchronous = FULL"));
    TRY(connection.execute("BEGIN EXCLUSIVE"));
    TRY(connection.execute(kCreateSchema));
    auto head = TRY(connection.prepare("INSERT INTO head VALUES(1, 0, ?1, zeroblob(32), 0, '')"));
    auto root = empty_root();
    head.bind(1, ByteView(root));
    TRY(head.step());
    head.restart();
    TRY(connection.execute("COMMIT"));
  }  // the last connection folds the write-ahead log into the file
  TRY(publish(unfinished, path));
  return open(path);
}

Result<LedgerStore> LedgerStore::open(const std::string& path) {
  std::error_code failure;
  if (!std::filesystem::exists(path, failure)) {
    return Error(Code::kNotFound, "ledger file: expected one at this path");
  }
  {
    auto connection = TRY(Connection::open(path, SQLITE_OPEN_READWRITE));
    auto number = TRY(connection.prepare("PRAGMA application_id"));
    TRY(number.step());
    if (number.integer(0) != kApplicationId) return broken("the application number of a ledger");
    auto version = TRY(connection.prepare("PRAGMA user_version"));
    TRY(version.step());
    if (version.integer(0) != kSchemaVersion) return broken("schema version 1");
  }
  auto writer = TRY(open_writer(path));
  auto reader = TRY(open_reader(path));
  auto head = TRY(read_head(reader));
  auto row = TRY(reader.connection.prepare("SELECT vkey FROM log WHERE id = 1"));
  auto step = TRY(row.step());
  std::string vkey = step == Statement::Step::kRow ? row.text(0) : "";
  row.restart();
  return LedgerStore(std::make_unique<Impl>(path, std::move(writer), std::move(reader),
                                            std::move(head), std::move(vkey)));
}

const std::string& LedgerStore::path() const {
  return impl_->path;
}

uint64_t LedgerStore::size() const {
  std::lock_guard lock(impl_->head_mutex);
  return impl_->head.tree.size();
}
Digest LedgerStore::root() const {
  std::lock_guard lock(impl_->head_mutex);
  return impl_->head.root;
}
Digest LedgerStore::last_leaf() const {
  std::lock_guard lock(impl_->head_mutex);
  return impl_->head.last_leaf;
}
TimeMs LedgerStore::last_time() const {
  std::lock_guard lock(impl_->head_mutex);
  return impl_->head.time;
}
std::string LedgerStore::checkpoint() const {
  std::lock_guard lock(impl_->head_mutex);
  return impl_->head.checkpoint;
}
CompactTree LedgerStore::tree() const {
  std::lock_guard lock(impl_->head_mutex);
  return impl_->head.tree;
}
std::string LedgerStore::log_key() const {
  std::lock_guard lock(impl_->head_mutex);
  return impl_->vkey;
}

Result<Bytes> LedgerStore::leaf(uint64_t seq) const {
  auto found = TRY(leaves(seq, 1));
  if (found.empty()) return Error(Code::kNotFound, "expected an entry of this ledger");
  return std::move(found.front());
}

Result<std::vector<Bytes>> LedgerStore::leaves(uint64_t from, size_t max) const {
  TRY(impl_->certain());
  uint64_t end = size();
  if (from >= end) return std::vector<Bytes>();
  std::lock_guard lock(impl_->read_mutex);
  return read_leaves(impl_->reader, from, from + std::min<uint64_t>(max, end - from));
}

Result<std::optional<uint64_t>> LedgerStore::find_nonce(const PublicKey& author,
                                                        const std::string& nonce) const {
  TRY(impl_->certain());
  std::lock_guard lock(impl_->read_mutex);
  auto& row = impl_->reader.nonce.restart();
  row.bind(1, ByteView(author.value())).bind(2, nonce);
  auto step = TRY(row.step());
  std::optional<uint64_t> seq;
  if (step == Statement::Step::kRow) seq = static_cast<uint64_t>(row.integer(0));
  row.restart();
  return seq;
}

Result<std::vector<Digest>> LedgerStore::leaf_hashes(uint64_t from, uint64_t count) const {
  TRY(impl_->certain());
  uint64_t end = size();
  if (from > end || count > end - from)
    return Error(Code::kNotFound, "expected entries of this ledger");
  uint64_t to = from + count;
  uint64_t full = end / kTile * kTile;
  std::lock_guard lock(impl_->read_mutex);
  std::vector<Digest> out;
  if (from < full) {
    uint64_t first = from / kTile * kTile;
    uint64_t last = std::min(full, (to + kTile - 1) / kTile * kTile);
    auto hashes = TRY(read_tiles(impl_->reader, first, last));
    auto begin = hashes.begin() + static_cast<std::ptrdiff_t>(from - first);
    out.assign(begin, begin + static_cast<std::ptrdiff_t>(std::min(to, full) - from));
  }
  if (to > full) {
    auto rest = TRY(read_leaves(impl_->reader, std::max(from, full), to));
    for (const auto& bytes : rest) out.push_back(leaf_hash(bytes));
  }
  return out;
}

Status LedgerStore::bind_log_key(const std::string& vkey) {
  TRY(impl_->certain());
  auto bound = log_key();
  if (bound == vkey) return Done{};
  if (!bound.empty()) return Error(Code::kConflict, "ledger file: expected the key of this log");
  int code = impl_->writer.log.restart().bind(1, vkey).run();
  impl_->writer.log.restart();
  if (code != SQLITE_DONE) {
    // Nothing depends on this row yet: a second attempt finds out.
    return Error(Code::kTryAgain,
                 std::string("ledger file: expected to write: ") + sqlite3_errstr(code));
  }
  std::lock_guard lock(impl_->head_mutex);
  impl_->vkey = vkey;
  return Done{};
}

// What the head must be after the batch, from the batch's own bytes.
Result<Head> LedgerStore::Impl::next_head(const Batch& batch) const {
  Head next = head;  // the append thread is the only writer
  if (batch.old_size != next.tree.size() || batch.old_root != next.root) {
    return Error(Code::kConflict, "expected a batch for the head as it is");
  }
  for (const auto& entry : batch.entries) {
    if (entry.leaf.size() > 65535)
      return Error(Code::kMalformed, "batch: expected leaves of at most 65535 bytes");
    next.last_leaf = leaf_hash(entry.leaf);
    next.tree.append(next.last_leaf);
  }
  next.root = next.tree.root();
  next.time = batch.entries.empty() ? next.time : batch.time;
  next.checkpoint = batch.checkpoint;
  auto note = TRY(parse_note(batch.checkpoint));
  auto checkpoint = TRY(parse_checkpoint(note.text));
  if (batch.new_size != next.tree.size() || batch.new_root != next.root ||
      checkpoint.size != batch.new_size || checkpoint.root != batch.new_root ||
      next.time < head.time) {
    return Error(Code::kMalformed, "batch: expected its leaves to add up to its checkpoint");
  }
  return next;
}

// Every row of the batch, inside the open transaction; SQLITE_DONE when all are in.
int LedgerStore::Impl::write(const Batch& batch, const Head& next) {
  uint64_t seq = batch.old_size;
  std::vector<Digest> edge = head.edge;
  for (const auto& added : batch.entries) {
    int code = writer.entry.restart()
                   .bind(1, static_cast<int64_t>(seq))
                   .bind(2, ByteView(added.leaf))
                   .run();
    writer.entry.restart();
    if (code != SQLITE_DONE) return code;
    writer.nonce.restart().bind(1, ByteView(added.author.value())).bind(2, added.nonce);
    code = writer.nonce.bind(3, static_cast<int64_t>(seq)).run();
    writer.nonce.restart();
    if (code != SQLITE_DONE) return code;
    edge.push_back(leaf_hash(added.leaf));
    ++seq;
    if (edge.size() < kTile) continue;
    Bytes hashes;
    for (const auto& hash : edge) append(hashes, hash);
    code = writer.tile.restart()
               .bind(1, static_cast<int64_t>(seq / kTile - 1))
               .bind(2, ByteView(hashes))
               .run();
    writer.tile.restart();
    if (code != SQLITE_DONE) return code;
    edge.clear();
  }
  auto& row = writer.head.restart();
  row.bind(1, static_cast<int64_t>(batch.new_size))
      .bind(2, ByteView(next.root))
      .bind(3, ByteView(next.last_leaf));
  row.bind(4, next.time).bind(5, next.checkpoint);
  row.bind(6, static_cast<int64_t>(batch.old_size)).bind(7, ByteView(batch.old_root));
  int code = row.run();
  row.restart();
  return code;
}

Status LedgerStore::append_batch(const Batch& batch) {
  TRY(impl_->certain());
  auto& connection = impl_->writer.connection;
  auto next = TRY(impl_->next_head(batch));
  uint64_t full = next.tree.size() / kTile * kTile;
  uint64_t unfilled = impl_->head.tree.size() / kTile * kTile;
  std::vector<Digest> edge = full > unfilled ? std::vector<Digest>() : impl_->head.edge;
  for (uint64_t i = 0; i < batch.entries.size(); ++i) {
    if (batch.old_size + i >= full) edge.push_back(leaf_hash(batch.entries[i].leaf));
  }
  next.edge = std::move(edge);

  // A crash anywhere before COMMIT returns: SQLite's log has no commit frame, or has
  // one that nobody was told of. Both are whole ledgers.
  int code = connection.run("BEGIN IMMEDIATE");
  if (code != SQLITE_OK) {
    return impl_->undo(Error(
        Code::kTryAgain, std::string("ledger file: expected to write: ") + sqlite3_errstr(code)));
  }
  code = impl_->write(batch, next);
  if ((code & 0xff) == SQLITE_CONSTRAINT) {
    return impl_->undo(Error(Code::kConflict, "expected new sequence numbers and new nonces"));
  }
  if (code != SQLITE_DONE) {
    return impl_->undo(Error(
        Code::kTryAgain, std::string("ledger file: expected to write: ") + sqlite3_errstr(code)));
  }
  // Compare-and-swap: another writer has moved the head.
  if (connection.changes() != 1) {
    return impl_->undo(
        Error(Code::kConflict, "expected the head on disk to be ours; another process writes"));
  }
  code = connection.run("COMMIT");
  if (code != SQLITE_OK) {
    // Whether the commit frame reached the disk is unknown: stop, never guess.
    std::lock_guard lock(impl_->head_mutex);
    impl_->in_doubt = true;
    return doubtful();
  }
  std::lock_guard lock(impl_->head_mutex);
  impl_->head = std::move(next);
  return Done{};
}

}  // namespace souk::ledger
