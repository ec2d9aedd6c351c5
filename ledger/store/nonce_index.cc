#include "ledger/store/nonce_index.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "ledger/crypto/hash.h"
#include "ledger/entry/entry.h"
#include "ledger/entry/leaf.h"
#include "ledger/store/sqlite.h"

namespace souk::ledger {
namespace {

constexpr int kIndexApplicationId = 0x534f554e;  // "SOUN"
constexpr size_t kPageLeaves = 4096;
constexpr uint64_t kSmallFilter = 1'000'000;  // keys; 1.5 MB
constexpr uint64_t kRebuildKeys = 4'000'000;  // 100 MB of memory
// Entries that may have to be read again after a crash. Keys are scattered: a write of few of
// them rewrites a page for each.
constexpr size_t kWriteAfter = 16384;

constexpr char kCreateIndex[] = R"sql(
PRAGMA application_id = 1397708110;
CREATE TABLE mark(id INTEGER PRIMARY KEY CHECK(id = 1), size INTEGER NOT NULL, last_leaf BLOB NOT NULL) STRICT;
CREATE TABLE nonce(key BLOB PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO mark VALUES(1, 0, zeroblob(32));
)sql";

// A leaf that is no entry has no nonce: it cannot be asked for either.
std::optional<NonceKey> key_of_leaf(ByteView bytes) {
  auto leaf = read_leaf(bytes);
  if (!leaf) return std::nullopt;
  auto entry = SignedEntry::decode(std::move(*leaf));
  if (!entry) return std::nullopt;
  return nonce_key(entry->claimed_author(), entry->nonce());
}

}  // namespace

NonceKey nonce_key(const PublicKey& author, std::string_view nonce) {
  thread_local Sha256 hash;
  hash.update(author.value());
  hash.update(as_bytes(nonce));
  auto digest = hash.finish();
  NonceKey key{};
  std::copy_n(digest.begin(), key.size(), key.begin());
  return key;
}

size_t NonceIndex::KeyHash::operator()(const NonceKey& key) const {
  size_t hash = 0;
  std::memcpy(&hash, key.data(), sizeof hash);
  return hash;
}

struct NonceIndex::File {
  // Owned by the index's thread after open().
  Connection connection;
  Statement insert, mark;
  // Guarded by read_mutex.
  std::mutex read_mutex;
  Connection reader;
  Statement lookup;
  // Owned by the index's thread after open().
  uint64_t size = 0;
  Digest last_leaf{};

  File(Connection c, Statement i, Statement m, Connection r, Statement l)
      : connection(std::move(c)),
        insert(std::move(i)),
        mark(std::move(m)),
        reader(std::move(r)),
        lookup(std::move(l)) {}

  static Result<std::unique_ptr<File>> open(const std::string& path, bool create);
  Status write(const std::vector<std::pair<NonceKey, uint64_t>>& keys, uint64_t to,
               const Digest& last);
};

Result<std::unique_ptr<NonceIndex::File>> NonceIndex::File::open(const std::string& path,
                                                                 bool create) {
  auto connection =
      TRY(Connection::open(path, SQLITE_OPEN_READWRITE | (create ? SQLITE_OPEN_CREATE : 0)));
  TRY(connection.execute("PRAGMA journal_mode = WAL"));
  // What a power cut takes away is read again from the ledger.
  TRY(connection.execute("PRAGMA synchronous = NORMAL"));
  TRY(connection.execute("PRAGMA cache_size = -65536"));
  TRY(connection.execute("PRAGMA wal_autocheckpoint = 16384"));
  if (create) TRY(connection.execute(kCreateIndex));
  {
    auto number = TRY(connection.prepare("PRAGMA application_id"));
    TRY(number.step());
    if (number.integer(0) != kIndexApplicationId) {
      return Error(Code::kBroken, "nonce index: expected the application number of one");
    }
  }
  auto insert = TRY(connection.prepare("INSERT OR IGNORE INTO nonce(key, seq) VALUES(?1, ?2)"));
  auto mark = TRY(connection.prepare("UPDATE mark SET size = ?1, last_leaf = ?2 WHERE id = 1"));
  auto reader = TRY(Connection::open(path, SQLITE_OPEN_READONLY));
  TRY(reader.execute("PRAGMA cache_size = -65536"));
  auto lookup = TRY(reader.prepare("SELECT seq FROM nonce WHERE key = ?1"));
  auto file = std::make_unique<File>(std::move(connection), std::move(insert), std::move(mark),
                                     std::move(reader), std::move(lookup));
  auto row = TRY(file->connection.prepare("SELECT size, last_leaf FROM mark WHERE id = 1"));
  auto step = TRY(row.step());
  if (step == Statement::Step::kDone) {
    return Error(Code::kBroken, "nonce index: expected its high-water mark");
  }
  file->size = static_cast<uint64_t>(row.integer(0));
  file->last_leaf = TRY(fixed<32>(row.blob(1)));
  return file;
}

// One transaction; keys in their order, so that neighbours share pages.
Status NonceIndex::File::write(const std::vector<std::pair<NonceKey, uint64_t>>& keys, uint64_t to,
                               const Digest& last) {
  TRY(connection.execute("BEGIN IMMEDIATE"));
  int code = SQLITE_DONE;
  for (const auto& [key, seq] : keys) {
    code = insert.restart().bind(1, ByteView(key)).bind(2, static_cast<int64_t>(seq)).run();
    insert.restart();
    if (code != SQLITE_DONE) break;
  }
  if (code == SQLITE_DONE) {
    code = mark.restart().bind(1, static_cast<int64_t>(to)).bind(2, ByteView(last)).run();
    mark.restart();
  }
  if (code == SQLITE_DONE) {
    code = connection.run("COMMIT");
    if (code == SQLITE_OK) code = SQLITE_DONE;
  }
  if (code == SQLITE_DONE) return Done{};
  if (connection.in_transaction()) connection.run("ROLLBACK");
  if (is_full(code)) return disk_full();
  return Error(Code::kBroken,
               std::string("nonce index: expected to write: ") + sqlite3_errstr(code));
}

namespace {

void remove_files(const std::string& path) {
  std::error_code ignored;
  for (const char* part : {"", "-wal", "-shm"}) std::filesystem::remove(path + part, ignored);
}

}  // namespace

NonceIndex::NonceIndex(std::unique_ptr<File> file) : file_(std::move(file)) {}

Result<std::unique_ptr<NonceIndex>> NonceIndex::open(std::string path,
                                                     const IndexedLedger& ledger) {
  // What is there is used if it is a beginning of this ledger's.
  auto fits = [&](const File& file) {
    if (file.size > ledger.size) return false;
    if (file.size == 0) return true;
    auto last = ledger.leaves(file.size - 1, 1);
    return last && last->size() == 1 && leaf_hash(last->front()) == file.last_leaf;
  };
  // In large pieces: each is sorted, so that one writes a page of the file once.
  auto catch_up = [&](File& file) -> Status {
    while (file.size < ledger.size) {
      std::vector<std::pair<NonceKey, uint64_t>> keys;
      uint64_t end = std::min(ledger.size, file.size + kRebuildKeys);
      uint64_t at = file.size;
      Digest last{};
      while (at < end) {
        auto leaves = TRY(ledger.leaves(at, std::min<uint64_t>(kPageLeaves, end - at)));
        if (leaves.empty())
          return Error(Code::kBroken, "nonce index: expected the ledger's leaves");
        for (size_t i = 0; i < leaves.size(); ++i) {
          if (auto key = key_of_leaf(leaves[i])) keys.emplace_back(*key, at + i);
        }
        last = leaf_hash(leaves.back());
        at += leaves.size();
      }
      std::sort(keys.begin(), keys.end());
      TRY(file.write(keys, at, last));
      file.size = at;
      file.last_leaf = last;
    }
    return Done{};
  };
  std::error_code failure;
  bool there = std::filesystem::exists(path, failure);
  auto file = File::open(path, !there);
  if (!file && file.error().code() == Code::kTryAgain) return std::move(file).take_error();
  bool usable = file && fits(**file);
  if (usable) {
    auto caught_up = catch_up(**file);
    // No room on the disk makes it no worse than it was.
    if (!caught_up && caught_up.error().code() == Code::kTryAgain) {
      return std::move(caught_up).take_error();
    }
    usable = static_cast<bool>(caught_up);
  }
  if (!usable) {
    if (file) *file = nullptr;
    remove_files(path);
    file = File::open(path, true);
    if (!file) return std::move(file).take_error();
    TRY(catch_up(**file));
  }
  std::unique_ptr<NonceIndex> index(new NonceIndex(std::move(*file)));
  index->size_ = index->file_->size;
  index->last_leaf_ = index->file_->last_leaf;
  index->thread_ = std::thread([raw = index.get()] { raw->run(); });
  return index;
}

NonceIndex::~NonceIndex() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Result<NonceIndex::Found> NonceIndex::find(const NonceKey& key) const {
  Found found;
  {
    std::lock_guard lock(mutex_);
    found.generation = generation_;
    found.added = added_;
    for (const Keys* keys : {&recent_, &writing_, &previous_}) {
      auto it = keys->find(key);
      if (it == keys->end()) continue;
      found.seq = it->second;
      return found;
    }
    if (filter_ && !filter_->may_have(key)) return found;
  }
  std::lock_guard lock(file_->read_mutex);
  auto& row = file_->lookup.restart();
  row.bind(1, ByteView(key));
  auto step = TRY(row.step());
  if (step == Statement::Step::kRow) found.seq = static_cast<uint64_t>(row.integer(0));
  row.restart();
  return found;
}

// A key added after `generation` was read is forgotten by memory two writes later at
// the earliest.
Result<std::optional<uint64_t>> NonceIndex::find_since(const NonceKey& key, uint64_t generation,
                                                       uint64_t added) const {
  if (added_ == added) return std::optional<uint64_t>();
  {
    std::lock_guard lock(mutex_);
    for (const Keys* keys : {&recent_, &writing_, &previous_}) {
      auto it = keys->find(key);
      if (it != keys->end()) return std::optional<uint64_t>(it->second);
    }
    if (generation_ - generation < 2) return std::optional<uint64_t>();
  }
  auto found = TRY(find(key));
  return found.seq;
}

void NonceIndex::add(uint64_t first, const std::vector<NonceKey>& keys, const Digest& last_leaf) {
  bool enough = false;
  {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < keys.size(); ++i) recent_.try_emplace(keys[i], first + i);
    added_ += keys.size();
    size_ = first + keys.size();
    last_leaf_ = last_leaf;
    enough = recent_.size() >= kWriteAfter;
  }
  if (enough) changed_.notify_one();
}

// From the file, by the index's own thread, which alone writes it. Until it is there, and when
// the file does not read, every question goes to the file.
void NonceIndex::read_filter() {
  {
    std::lock_guard lock(mutex_);
    filter_.reset();
  }
  KeyFilter filter(std::max<uint64_t>(kSmallFilter, file_->size + file_->size / 2));
  auto rows = file_->connection.prepare("SELECT key FROM nonce");
  if (!rows) return;
  uint64_t read = 0;
  while (true) {
    auto step = rows->step();
    if (!step) return;
    if (*step == Statement::Step::kDone) break;
    auto key = fixed<16>(rows->blob(0));
    if (!key) return;
    filter.add(*key);
    if (++read % 65'536 == 0) {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
  }
  std::lock_guard lock(mutex_);
  filter_.emplace(std::move(filter));
}

// Writes whenever enough has come together, and at the end. A failure leaves the keys in
// memory and the file behind: the next opening reads the ledger again.
void NonceIndex::run() {
  bool failed = false;
  read_filter();
  while (true) {
    std::vector<std::pair<NonceKey, uint64_t>> keys;
    uint64_t to = 0;
    Digest last{};
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || (!failed && recent_.size() >= kWriteAfter); });
      if (failed || (stopping_ && recent_.empty())) return;
      writing_ = std::exchange(recent_, {});
      keys.assign(writing_.begin(), writing_.end());
      to = size_;
      last = last_leaf_;
    }
    std::sort(keys.begin(), keys.end());
    failed = !file_->write(keys, to, last);
    bool outgrown = false;
    {
      std::lock_guard lock(mutex_);
      if (failed) {
        recent_.merge(writing_);
        continue;
      }
      for (const auto& [key, seq] : keys) {
        if (filter_) filter_->add(key);
      }
      previous_ = std::exchange(writing_, {});
      ++generation_;
      file_->size = to;
      outgrown = filter_ && filter_->full();
    }
    if (outgrown) read_filter();
  }
}

}  // namespace souk::ledger
