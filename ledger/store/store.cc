#include "ledger/store/store.h"

#include <algorithm>
#include <filesystem>
#include <mutex>

#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/store/nonce_index.h"
#include "ledger/store/rows.h"
#include "ledger/store/schema.h"
#include "ledger/store/tile_cache.h"
#include "ledger/store/wal_check.h"

namespace souk::ledger {
namespace {

constexpr size_t kCachedTiles = 4096;  // 64 MiB: the hashes of a million entries

// The tables of a ledger without entries.
Status make_empty(const std::string& path) {
  auto connection = TRY(Connection::open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE));
  TRY(connection.execute(kPageSize));
  TRY(connection.execute("PRAGMA journal_mode = WAL"));
  TRY(connection.execute("PRAGMA synchronous = FULL"));
  TRY(connection.execute("BEGIN EXCLUSIVE"));
  TRY(connection.execute(kCreateSchema));
  TRY(connection.execute(kCreateTiles));
  auto head = TRY(connection.prepare("INSERT INTO head VALUES(1, 0, ?1, zeroblob(32), 0, '')"));
  auto root = empty_root();
  head.bind(1, ByteView(root));
  TRY(head.step());
  head.restart();
  TRY(connection.execute("COMMIT"));
  // Into the file itself: a full disk is said here, not swallowed when the connection closes.
  return connection.execute("PRAGMA wal_checkpoint(TRUNCATE)");
}

Error doubtful() {
  return broken_file("to know whether the last write happened; reopen the ledger");
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
  enum class Doubt : uint8_t {
    kNone,
    kFull,     // a commit had no room: what was committed before is certain
    kUnknown,  // for good
  } doubt = Doubt::kNone;

  mutable TileCache cache{kCachedTiles};
  // Opened when it is first asked for.
  mutable std::mutex index_mutex;
  mutable std::unique_ptr<NonceIndex> nonces;  // Guarded by index_mutex.

  const FetchTile fetch = [this](uint8_t level, uint64_t index) { return tile(level, index); };

  Impl(std::string p, Writer w, Reader r, Head h, std::string k)
      : path(std::move(p)),
        writer(std::move(w)),
        reader(std::move(r)),
        head(std::move(h)),
        vkey(std::move(k)) {}

  Status certain() const {
    std::lock_guard lock(head_mutex);
    if (doubt == Doubt::kUnknown) return doubtful();
    return Done{};
  }
  Doubt doubts() const {
    std::lock_guard lock(head_mutex);
    return doubt;
  }
  void doubt_is(Doubt which) {
    std::lock_guard lock(head_mutex);
    doubt = which;
  }
  Error unknown_outcome() {
    doubt_is(Doubt::kUnknown);
    return doubtful();
  }
  // Ends the transaction; what SQLite cannot undo leaves us in doubt.
  Error undo(Error reason) {
    if (!writer.connection.in_transaction() || writer.connection.run("ROLLBACK") == SQLITE_OK) {
      return reason;
    }
    return unknown_outcome();
  }
  // Nothing was written for this reason of SQLite's.
  Error not_written(int code) {
    code = writer.connection.without_room(code);
    if (is_full(code)) return undo(disk_full());
    return undo(Error(Code::kTryAgain,
                      std::string("ledger file: expected to write: ") + sqlite3_errstr(code)));
  }
  Head current() const {
    std::lock_guard lock(head_mutex);
    return head;
  }
  Result<SharedTile> tile(uint8_t level, uint64_t index) const;
  Result<NonceIndex*> index() const;
  Result<Bytes> bundle(const TileTree& tree, const TilePath& at) const;
  Result<Head> next_head(const Batch& batch, const TileTree& tree, const Digest& root,
                         const Digest& last_leaf) const;
  Error commit_had_no_room();
  Status reopen();
  int write(const Batch& batch, const Head& next, const std::vector<FilledTile>& filled);
};

Result<SharedTile> LedgerStore::Impl::tile(uint8_t level, uint64_t index) const {
  if (auto kept = cache.find(level, index)) return kept;
  std::lock_guard lock(read_mutex);
  auto read = TRY(read_tile(reader, level, index));
  cache.put(level, index, read);
  return read;
}

Result<NonceIndex*> LedgerStore::Impl::index() const {
  std::lock_guard lock(index_mutex);
  if (nonces) return nonces.get();
  IndexedLedger ledger;
  ledger.size = current().tree->size();
  ledger.leaves = [&](uint64_t from, size_t max) {
    std::lock_guard reading(read_mutex);
    return read_leaves(reader, from, from + max);
  };
  nonces = TRY(NonceIndex::open(path + ".index", ledger));
  return nonces.get();
}

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
  std::string unfinished = unfinished_name(path);
  auto made = make_empty(unfinished);
  if (made) made = publish_file(unfinished, path);
  if (!made) {
    unfinished_name(path);  // and what was made so far is gone
    return std::move(made).take_error();
  }
  return open(path);
}

Result<LedgerStore> LedgerStore::open(const std::string& path) {
  std::error_code failure;
  if (!std::filesystem::exists(path, failure)) {
    return Error(Code::kNotFound, "ledger file: expected one at this path");
  }
  // Before SQLite, which would take an altered log for a shorter one and fold that in.
  auto damage = TRY(find_wal_damage(path + "-wal"));
  if (damage && damage->was_durable) {
    return broken_file("its write-ahead log as it was written, bytes " +
                       std::to_string(damage->from) + " to " + std::to_string(damage->to) +
                       "; what was acknowledged after them would be lost");
  }
  TRY(check_length(path));
  SideFiles beside(path);
  bool older = false;
  {
    auto connection = TRY(Connection::open(path, SQLITE_OPEN_READONLY));
    auto number = TRY(connection.prepare("PRAGMA application_id"));
    TRY(number.step());
    if (number.integer(0) != kApplicationId) {
      return broken_file("the application number of a ledger");
    }
    auto version = TRY(connection.prepare("PRAGMA user_version"));
    TRY(version.step());
    older = version.integer(0) != kSchemaVersion;
  }
  if (older) TRY(migrate(path));
  auto reader = TRY(Reader::open(path));
  auto head = TRY(read_head(reader));
  auto row = TRY(reader.connection.prepare("SELECT vkey FROM log WHERE id = 1"));
  auto step = TRY(row.step());
  std::string vkey = step == Statement::Step::kRow ? row.text(0) : "";
  row.restart();
  // Last, as it folds the write-ahead log into the file: what is no ledger stays as it was.
  auto writer = TRY(Writer::open(path));
  beside.keep();
  return LedgerStore(std::make_unique<Impl>(path, std::move(writer), std::move(reader),
                                            std::move(head), std::move(vkey)));
}

const std::string& LedgerStore::path() const {
  return impl_->path;
}

uint64_t LedgerStore::size() const {
  std::lock_guard lock(impl_->head_mutex);
  return impl_->head.tree->size();
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
  return impl_->current().tree->compact();
}
Snapshot LedgerStore::snapshot() const {
  auto head = impl_->current();
  return {std::move(head.tree), std::move(head.checkpoint)};
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
  auto asked = TRY(ask_nonce(nonce_key(author, nonce)));
  return asked.seq;
}

Result<NonceAnswer> LedgerStore::ask_nonce(const NonceKey& key) const {
  TRY(impl_->certain());
  auto* index = TRY(impl_->index());
  auto found = TRY(index->find(key));
  return NonceAnswer{.seq = found.seq, .generation = found.generation, .added = found.added};
}

Result<std::optional<uint64_t>> LedgerStore::ask_nonce_again(const NonceKey& key,
                                                             const NonceAnswer& before) const {
  if (before.seq) return before.seq;
  auto* index = TRY(impl_->index());
  return index->find_since(key, before.generation, before.added);
}

Result<std::vector<Digest>> LedgerStore::leaf_hashes(uint64_t from, uint64_t count) const {
  TRY(impl_->certain());
  auto tree = impl_->current().tree;
  if (from > tree->size() || count > tree->size() - from)
    return Error(Code::kNotFound, "expected entries of this ledger");
  std::vector<Digest> out;
  out.reserve(count);
  for (uint64_t seq = from; seq < from + count;) {
    uint64_t index = seq / kTileWidth;
    bool full = index < full_tiles(tree->size(), 0);
    auto stored = full ? TRY(impl_->tile(0, index)) : nullptr;
    const Tile& tile = full ? *stored : *tree->edge(0);
    uint64_t end = std::min(from + count, (index + 1) * kTileWidth);
    for (; seq < end; ++seq) out.push_back(tile.node(0, seq % kTileWidth));
  }
  return out;
}

Result<SharedTile> LedgerStore::full_tile(uint8_t level, uint64_t index) const {
  return impl_->tile(level, index);
}

Result<std::vector<Digest>> LedgerStore::inclusion_proof(const Snapshot& of, uint64_t index,
                                                         uint64_t size) const {
  TRY(impl_->certain());
  if (index >= size || size > of.tree->size()) {
    return Error(Code::kMalformed, "expected index < size <= size of the ledger");
  }
  return TileProver(*of.tree, impl_->fetch).inclusion(index, size);
}

Result<std::vector<Digest>> LedgerStore::consistency_proof(const Snapshot& of, uint64_t old_size,
                                                           uint64_t new_size) const {
  TRY(impl_->certain());
  if (old_size == 0 || old_size > new_size || new_size > of.tree->size()) {
    return Error(Code::kMalformed, "expected 0 < old size <= new size <= size of the ledger");
  }
  return TileProver(*of.tree, impl_->fetch).consistency(old_size, new_size);
}

Result<Bytes> LedgerStore::tile(const TilePath& path) const {
  TRY(impl_->certain());
  auto tree = impl_->current().tree;
  if (tile_width(path, tree->size()) < path.width) {
    return Error(Code::kNotFound, "expected a tile of this ledger as it is");
  }
  if (!path.level) return impl_->bundle(*tree, path);
  uint8_t level = *path.level;
  if (path.index < full_tiles(tree->size(), level)) {
    auto full = TRY(impl_->tile(level, path.index));
    return full->bytes(path.width);
  }
  return tree->edge(level)->bytes(path.width);
}

// tlog-tiles, "Log entries". Entries that are not what their tile says are not served.
Result<Bytes> LedgerStore::Impl::bundle(const TileTree& tree, const TilePath& at) const {
  uint64_t first = at.index * kTileWidth;
  bool full = at.index < full_tiles(tree.size(), 0);
  auto stored = full ? TRY(tile(0, at.index)) : nullptr;
  const Tile& hashes = full ? *stored : *tree.edge(0);
  std::vector<Bytes> leaves;
  {
    std::lock_guard lock(read_mutex);
    leaves = TRY(read_leaves(reader, first, first + at.width));
  }
  Bytes out;
  for (size_t i = 0; i < leaves.size(); ++i) {
    if (leaf_hash(leaves[i]) != hashes.node(0, i)) {
      return broken_file("entry " + std::to_string(first + i) + " to have the hash of its tile");
    }
    out.push_back(static_cast<uint8_t>(leaves[i].size() >> 8));
    out.push_back(static_cast<uint8_t>(leaves[i].size()));
    append(out, leaves[i]);
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

Result<Extension> LedgerStore::extend(const Batch& batch) const {
  Head head = impl_->current();
  if (batch.old_size != head.tree->size() || batch.old_root != head.root) {
    return Error(Code::kConflict, "expected a batch for the head as it is");
  }
  Extension out;
  TileTree tree = *head.tree;
  out.last_leaf_ = head.last_leaf;
  for (const auto& entry : batch.entries) {
    if (entry.leaf.size() > 65535)
      return Error(Code::kMalformed, "batch: expected leaves of at most 65535 bytes");
    out.last_leaf_ = leaf_hash(entry.leaf);
    out.leaf_hashes_.push_back(out.last_leaf_);
    tree.append(out.last_leaf_, out.filled_);
  }
  out.root_ = tree.root();
  out.old_size_ = batch.old_size;
  out.tree_ = std::make_shared<const TileTree>(std::move(tree));
  return out;
}

// What the head must be after the batch.
Result<Head> LedgerStore::Impl::next_head(const Batch& batch, const TileTree& tree,
                                          const Digest& root, const Digest& last_leaf) const {
  Head next = head;  // the append thread is the only writer
  next.root = root;
  next.last_leaf = last_leaf;
  next.time = batch.entries.empty() ? next.time : batch.time;
  next.checkpoint = batch.checkpoint;
  auto note = TRY(parse_note(batch.checkpoint));
  auto checkpoint = TRY(parse_checkpoint(note.text));
  if (batch.new_size != tree.size() || batch.new_root != root ||
      checkpoint.size != batch.new_size || checkpoint.root != batch.new_root ||
      next.time < head.time) {
    return Error(Code::kMalformed, "batch: expected its leaves to add up to its checkpoint");
  }
  return next;
}

// Every row of the batch, inside the open transaction; SQLITE_DONE when all are in.
int LedgerStore::Impl::write(const Batch& batch, const Head& next,
                             const std::vector<FilledTile>& filled) {
  auto seq = static_cast<int64_t>(batch.old_size);
  for (const auto& added : batch.entries) {
    int code = writer.entry.restart().bind(1, seq++).bind(2, ByteView(added.leaf)).run();
    writer.entry.restart();
    if (code != SQLITE_DONE) return code;
  }
  for (const auto& one : filled) {
    int code = insert_tile(writer.tile, writer.node, one);
    if (code != SQLITE_DONE) return code;
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

// SQLite writes the frame that commits last, and syncs after it: without room for one of the
// writes there is no commit, unless the file system makes it pad that frame.
Error LedgerStore::Impl::commit_had_no_room() {
  doubt_is(Doubt::kFull);
  auto found_out = reopen();
  if (found_out) return disk_full();
  if (found_out.error().code() != Code::kTryAgain) return std::move(found_out).take_error();
  return Error(Code::kTryAgain,
               "disk full: whether this was recorded is known when there is room; send it again");
}

// The everyday opening, whole: the log's bytes are looked at and the head is added up from what
// the file holds. Where the failed commit may lie behind the log's end, the log is emptied too, so
// that it cannot come back. Readers keep the connection they have until the new one stands.
Status LedgerStore::Impl::reopen() {
  auto opened = LedgerStore::open(path);
  if (!opened) {
    if (opened.error().code() == Code::kTryAgain) return std::move(opened).take_error();
    doubt_is(Doubt::kUnknown);
    return std::move(opened).take_error();
  }
  auto fresh = std::move(opened->impl_);
  if (fresh->head.root != head.root || fresh->head.tree->size() != head.tree->size() ||
      fresh->head.checkpoint != head.checkpoint) {
    return unknown_outcome();  // the next start takes it from the disk
  }
  if (!fresh->writer.connection.commits_with_its_last_write() && !fresh->writer.fold()) {
    return disk_full();
  }
  writer = std::move(fresh->writer);
  {
    std::lock_guard lock(read_mutex);
    reader = std::move(fresh->reader);
  }
  doubt_is(Doubt::kNone);
  return Done{};
}

Status LedgerStore::recover() {
  TRY(impl_->certain());
  if (impl_->doubts() == Impl::Doubt::kNone) return Done{};
  return impl_->reopen();
}

Status LedgerStore::append_batch(const Batch& batch) {
  TRY(impl_->certain());
  auto extension = TRY(extend(batch));
  return append_batch(batch, std::move(extension));
}

Status LedgerStore::append_batch(const Batch& batch, Extension extension) {
  TRY(impl_->certain());
  TRY(recover());
  auto& connection = impl_->writer.connection;
  if (extension.old_size_ != size() || extension.old_size_ != batch.old_size ||
      extension.leaf_hashes_.size() != batch.entries.size()) {
    return Error(Code::kConflict, "expected a batch for the head as it is");
  }
  auto next = TRY(impl_->next_head(batch, *extension.tree_, extension.root_, extension.last_leaf_));
  next.tree = extension.tree_;
  auto& filled = extension.filled_;

  // A crash anywhere before COMMIT returns: SQLite's log has no commit frame, or has
  // one that nobody was told of. Both are whole ledgers.
  int code = connection.run("BEGIN IMMEDIATE");
  if (code != SQLITE_OK) return impl_->not_written(code);
  code = impl_->write(batch, next, filled);
  if ((code & 0xff) == SQLITE_CONSTRAINT) {
    return impl_->undo(Error(Code::kConflict, "expected new sequence numbers"));
  }
  if (code != SQLITE_DONE) return impl_->not_written(code);
  // Compare-and-swap: another writer has moved the head.
  if (connection.changes() != 1) {
    return impl_->undo(
        Error(Code::kConflict, "expected the head on disk to be ours; another process writes"));
  }
  // The index is opened, and so brought up to here, before what it must be told of.
  auto index = impl_->index();
  if (!index) return impl_->undo(Error(Code::kTryAgain, index.error().expected()));
  code = connection.run("COMMIT");
  if (is_full(code)) return impl_->commit_had_no_room();
  if (code != SQLITE_OK) {
    // Whether the commit frame reached the disk is unknown: stop, never guess.
    return impl_->unknown_outcome();
  }
  if (!batch.entries.empty()) {
    std::vector<NonceKey> keys;
    keys.reserve(batch.entries.size());
    for (const auto& entry : batch.entries) keys.push_back(entry.key);
    (*index)->add(batch.old_size, keys, next.last_leaf);
  }
  for (auto& one : filled) impl_->cache.put(one.level, one.index, std::move(one.tile));
  std::lock_guard lock(impl_->head_mutex);
  impl_->head = std::move(next);
  return Done{};
}

}  // namespace souk::ledger
