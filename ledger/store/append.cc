// What the append thread does to a ledger file: one transaction for a batch, and what may be said
// of it when that fails.
#include <mutex>

#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/store/store_impl.h"

namespace souk::ledger {

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
