// The third rung: an authentic entry that is in the ledger, at a place, under a
// checkpoint its log signed.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/clock.h"
#include "ledger/entry/entry.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/merkle.h"
#include "ledger/proof/note.h"

namespace souk::ledger {

class RecordedEntry {
 public:
  const AuthenticEntry& entry() const { return entry_; }
  uint64_t seq() const { return seq_; }
  TimeMs time() const { return time_; }
  const Digest& leaf_hash() const { return leaf_hash_; }

 private:
  friend class ChainReader;
  friend Result<RecordedEntry> confirm_one(ByteView leaf_bytes, std::string_view tlog_proof,
                                           const NoteKey& vkey, const std::string& origin);
  RecordedEntry(AuthenticEntry entry, uint64_t seq, TimeMs time, const Digest& leaf_hash)
      : entry_(std::move(entry)), seq_(seq), time_(time), leaf_hash_(leaf_hash) {}

  AuthenticEntry entry_;
  uint64_t seq_;
  TimeMs time_;
  Digest leaf_hash_;
};

// A leaf that reads, with an entry whose author signed it: all that can be said of it
// alone, and all that takes time. Any thread may make one.
class PreparedLeaf {
 public:
  // kMalformed or kUnauthentic when the leaf or its envelope is.
  static Result<PreparedLeaf> of(ByteView leaf_bytes);
  const Digest& hash() const { return hash_; }

 private:
  friend class ChainReader;
  static Result<PreparedLeaf> of(ReadLeaf read, const Digest& hash);
  PreparedLeaf(uint64_t seq, const Digest& prev, TimeMs time, AuthenticEntry entry,
               const Digest& hash)
      : seq_(seq), prev_(prev), time_(time), entry_(std::move(entry)), hash_(hash) {}

  uint64_t seq_;
  Digest prev_;
  TimeMs time_;
  AuthenticEntry entry_;
  Digest hash_;
};

// The leaf hashes under a checkpoint that the log signed: against them a long ledger is
// confirmed piece by piece.
class ConfirmedHashes {
 public:
  // kUnauthentic when the checkpoint is not this log's, kConflict when it is not over
  // exactly these hashes.
  static Result<ConfirmedHashes> of(std::vector<Digest> hashes, std::string_view checkpoint_note,
                                    const NoteKey& vkey);
  const std::vector<Digest>& hashes() const { return hashes_; }

 private:
  explicit ConfirmedHashes(std::vector<Digest> hashes) : hashes_(std::move(hashes)) {}
  std::vector<Digest> hashes_;
};

// Follows a whole ledger, leaf by leaf in order. Leaves are pending until a
// checkpoint over exactly what was added confirms them. A failed call changes nothing.
class ChainReader {
 public:
  static ChainReader start(std::string origin, NoteKey vkey);
  // Goes on from what seal_state() returned. Size and root are checked against the
  // checkpoint in it; for the rest, and for its being the newest, the caller vouches.
  static Result<ChainReader> restore(std::string origin, NoteKey vkey, ByteView state);

  // kMalformed or kUnauthentic when the leaf or its envelope is; kConflict when
  // seq, prev, time or market is not what must follow here: seq 0 is a genesis with
  // an empty market, and every later entry names the market the genesis payload's
  // SHA-256 is.
  Status add(ByteView leaf_bytes);
  Status add(PreparedLeaf leaf);

  // The pending leaves, now recorded. kUnauthentic when the checkpoint is not this
  // log's, kConflict when its size is not size() or its root not root().
  Result<std::vector<RecordedEntry>> confirm(std::string_view checkpoint_note);

  // The pending leaves, recorded because they are those of `whole`; kConflict otherwise.
  // What confirm() and seal_state() answer stays what it was.
  Result<std::vector<RecordedEntry>> take_confirmed_by(const ConfirmedHashes& whole);

  // Back to the last confirmed state.
  void discard_pending();

  // Of all that was added, pending included.
  uint64_t size() const { return added_.tree.size(); }
  Digest root() const { return added_.tree.root(); }
  TimeMs last_time() const { return added_.time; }
  const Digest& last_leaf() const { return added_.last_leaf; }

  uint64_t confirmed_size() const { return confirmed_.tree.size(); }
  Digest confirmed_root() const { return confirmed_.tree.root(); }

  // The note that confirmed it; empty before the first.
  const std::string& checkpoint() const { return checkpoint_; }

  // What was confirmed, with its checkpoint, as canonical JSON; pending leaves are not in it.
  Bytes seal_state() const;

 private:
  struct State {
    CompactTree tree;
    Digest last_leaf{};
    TimeMs time = 0;
    std::string market;  // hex; empty before the genesis
  };
  ChainReader(std::string origin, NoteKey vkey)
      : origin_(std::move(origin)), vkey_(std::move(vkey)) {}

  std::string origin_;
  NoteKey vkey_;
  State confirmed_;
  std::string checkpoint_;
  State added_;
  std::vector<RecordedEntry> pending_;
};

// One entry by its own proof. The caller learns that it is in the log, not what
// else is.
Result<RecordedEntry> confirm_one(ByteView leaf_bytes, std::string_view tlog_proof,
                                  const NoteKey& vkey, const std::string& origin);

}  // namespace souk::ledger
