// How a ledger file comes to be: under another name until it is whole, and from the
// leaves of one that was.
#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/store/rows.h"
#include "ledger/store/schema.h"
#include "ledger/store/store.h"

namespace souk::ledger {
namespace {

constexpr uint64_t kChunk = 65536;  // entries of one transaction

// The rows of a file that nobody reads yet.
class Restorer {
 public:
  static Result<Restorer> open(const std::string& path) {
    auto connection = TRY(Connection::open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE));
    TRY(connection.execute(kPageSize));
    TRY(connection.execute("PRAGMA journal_mode = WAL"));
    // Durable at the end; a crash before it leaves no ledger.
    TRY(connection.execute("PRAGMA synchronous = OFF"));
    TRY(connection.execute("BEGIN EXCLUSIVE"));
    TRY(connection.execute(kCreateSchema));
    TRY(connection.execute(kCreateTiles));
    auto entry = TRY(connection.prepare("INSERT INTO entry(seq, leaf) VALUES(?1, ?2)"));
    auto tile = TRY(connection.prepare("INSERT INTO tile(id, hashes) VALUES(?1, ?2)"));
    auto node = TRY(connection.prepare("INSERT INTO node(id, hash, last) VALUES(?1, ?2, ?3)"));
    return Restorer(std::move(connection), std::move(entry), std::move(tile), std::move(node));
  }

  Status add(ByteView bytes) {
    auto leaf = decode_leaf(bytes);
    if (!leaf || leaf->seq != tree_.size() || leaf->time < time_ || leaf->prev != last_leaf_) {
      return Error(Code::kUnauthentic, "entry " + std::to_string(tree_.size()) +
                                           ": expected the next leaf of a ledger of ours");
    }
    time_ = leaf->time;
    last_leaf_ = leaf_hash(bytes);
    TRY(entry_.restart().bind(1, static_cast<int64_t>(tree_.size())).bind(2, bytes).step());
    entry_.restart();
    std::vector<FilledTile> filled;
    tree_.append(last_leaf_, filled);
    for (const auto& one : filled) {
      int code = insert_tile(tile_, node_, one);
      if (code != SQLITE_DONE)
        return sqlite_error(connection_.without_room(code), "to write a tile");
    }
    if (tree_.size() % kChunk != 0) return Done{};
    TRY(connection_.execute("COMMIT"));
    return connection_.execute("BEGIN EXCLUSIVE");
  }

  Status finish(const NoteKey& key, const std::string& note) {
    auto checkpoint = TRY(open_checkpoint(note, key));
    auto root = tree_.root();
    if (checkpoint.size != tree_.size() || checkpoint.root != root) {
      return Error(Code::kUnauthentic, "expected the entries to add up to the signed root");
    }
    auto head = TRY(connection_.prepare("INSERT INTO head VALUES(1, ?1, ?2, ?3, ?4, ?5)"));
    head.bind(1, static_cast<int64_t>(tree_.size())).bind(2, ByteView(root));
    TRY(head.bind(3, ByteView(last_leaf_)).bind(4, time_).bind(5, note).step());
    head.restart();
    auto log = TRY(connection_.prepare("INSERT INTO log(id, vkey) VALUES(1, ?1)"));
    auto vkey = key.vkey();
    TRY(log.bind(1, vkey).step());
    log.restart();
    TRY(connection_.execute("COMMIT"));
    TRY(connection_.execute("PRAGMA synchronous = FULL"));
    // Folds the write-ahead log into the file, with its fsyncs.
    return connection_.execute("PRAGMA wal_checkpoint(TRUNCATE)");
  }

 private:
  Restorer(Connection connection, Statement entry, Statement tile, Statement node)
      : connection_(std::move(connection)),
        entry_(std::move(entry)),
        tile_(std::move(tile)),
        node_(std::move(node)) {}

  Connection connection_;
  Statement entry_, tile_, node_;
  TileTree tree_;
  Digest last_leaf_{};
  TimeMs time_ = 0;
};

Status restore_to(const std::string& path, const NoteKey& key, const std::string& checkpoint,
                  const LedgerStore::EachLeaf& each_leaf) {
  auto restorer = TRY(Restorer::open(path));
  TRY(each_leaf([&](uint64_t, ByteView leaf) { return restorer.add(leaf); }));
  return restorer.finish(key, checkpoint);
}

}  // namespace

std::string unfinished_name(const std::string& path) {
  std::string unfinished = path + ".new";
  std::error_code ignored;
  for (const char* part : {"", "-wal", "-shm", "-journal"}) {
    std::filesystem::remove(unfinished + part, ignored);
  }
  return unfinished;
}

// The name of a file that is complete already: after this it is durable.
Status publish_file(const std::string& from, const std::string& to) {
  std::error_code failure;
  std::filesystem::create_hard_link(from, to, failure);
  if (failure == std::errc::file_exists) {
    return Error(Code::kConflict, "ledger file: expected none at this path");
  }
  if (failure == std::errc::no_space_on_device)
    return Error(Code::kTryAgain, "ledger file: expected room on the disk");
  if (failure) return broken_file("to give the new file its name");
  std::filesystem::remove(from, failure);
  std::string folder = std::filesystem::path(to).parent_path().string();
  int fd = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  bool synced = fd >= 0 && fsync(fd) == 0;
  if (fd >= 0) close(fd);
  if (!synced) {
    std::filesystem::remove(to, failure);  // nobody was told of it
    return broken_file("to sync its folder");
  }
  return Done{};
}

Status LedgerStore::restore(const std::string& path, const NoteKey& key,
                            const std::string& checkpoint, const EachLeaf& each_leaf) {
  std::error_code failure;
  if (std::filesystem::exists(path, failure) || failure) {
    return Error(Code::kConflict, "ledger file: expected none at this path");
  }
  std::string unfinished = unfinished_name(path);
  auto made = restore_to(unfinished, key, checkpoint, each_leaf);
  if (made) made = publish_file(unfinished, path);
  if (!made) unfinished_name(path);  // and what was made so far is gone
  return made;
}

}  // namespace souk::ledger
