// The one place where the ledger grows. Entries wait in a queue; one thread
// takes all that wait, gives them their places, signs a checkpoint and commits
// them in one transaction. Nobody hears of a place before it is on disk.
#pragma once

#include <future>
#include <memory>
#include <string>
#include <vector>

#include "ledger/base/clock.h"
#include "ledger/crypto/sign.h"
#include "ledger/entry/entry.h"
#include "ledger/proof/note.h"
#include "ledger/store/store.h"

namespace souk::ledger {

struct Receipt {
  uint64_t seq = 0;
  Digest leaf_hash{};
  std::string checkpoint;  // signed; covers seq
  std::string tlog_proof;  // of seq under that checkpoint
};

// All functions may be called from any thread.
class Sequencer {
 public:
  // Takes the store, and the log's key; `origin` is the log's name. The clock must
  // outlive the sequencer. kConflict when the file belongs to another log;
  // kUnauthentic when its checkpoint is not signed by this key.
  static Result<std::unique_ptr<Sequencer>> start(LedgerStore store, SigningKey log_key,
                                                  std::string origin, Clock& clock);
  ~Sequencer();  // finishes what is queued
  Sequencer(const Sequencer&) = delete;
  Sequencer& operator=(const Sequencer&) = delete;

  // Blocks until the entry is durable. The same envelope again has the same place (and a
  // proof under the newest checkpoint); another envelope with the same author and nonce is
  // kConflict. kRefused: not for this market; kTryAgain: the queue or the disk is full, nothing
  // was written; kBroken: the outcome of a write is unknown, and the ledger must be reopened.
  Result<Receipt> append(AuthenticEntry entry);
  // The same without waiting: the future has the entry's place once that is durable.
  std::future<Result<uint64_t>> submit(AuthenticEntry entry);

  // The receipt of a committed entry under the newest checkpoint. kNotFound past the end.
  Result<Receipt> prove(uint64_t seq) const;
  // The path of an entry in the tree of the first `size`. kMalformed unless seq < size <= size().
  Result<std::vector<Digest>> inclusion(uint64_t seq, uint64_t size) const;
  // kMalformed unless 0 < old_size <= new_size <= size().
  Result<std::vector<Digest>> consistency(uint64_t old_size, uint64_t new_size) const;

  // What tlog-tiles serves at this path; kNotFound when there is no such tile.
  Result<Bytes> tile(const TilePath& path) const;

  // How the last write went: kTryAgain while the disk is full, and the ledger takes entries again
  // by itself when it is not; kBroken: no more until it is reopened. Reading goes on.
  Status health() const;

  // Committed since the start: with append's rate, how many entries share an fsync.
  uint64_t batches() const;

  uint64_t size() const;
  Digest root() const;
  std::string checkpoint() const;
  const NoteKey& log_key() const;
  Result<Bytes> leaf(uint64_t seq) const;
  Result<std::vector<Bytes>> leaves(uint64_t from, size_t max) const;

 private:
  struct Impl;
  explicit Sequencer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace souk::ledger
