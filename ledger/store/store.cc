#include "ledger/store/store.h"

#include <algorithm>
#include <filesystem>
#include <mutex>

#include "ledger/entry/leaf.h"
#include "ledger/store/schema.h"
#include "ledger/store/store_impl.h"
#include "ledger/store/wal_check.h"

namespace souk::ledger {
namespace {

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

}  // namespace

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

}  // namespace souk::ledger
