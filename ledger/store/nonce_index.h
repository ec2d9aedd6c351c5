// Which (author, nonce) is at which place. A second file beside the ledger's, written
// behind it and rebuilt from it whenever it is missing or does not fit.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "ledger/store/key_filter.h"
#include "ledger/store/store.h"

namespace souk::ledger {

// The ledger that it indexes: at most `max` leaves from `from` on.
struct IndexedLedger {
  uint64_t size = 0;
  std::function<Result<std::vector<Bytes>>(uint64_t from, size_t max)> leaves;
};

class NonceIndex {
 public:
  // Brings the file up to the ledger: reads what was added since, or all of it when the
  // file is missing, damaged or another ledger's.
  static Result<std::unique_ptr<NonceIndex>> open(std::string path, const IndexedLedger& ledger);
  ~NonceIndex();  // writes what is left
  NonceIndex(const NonceIndex&) = delete;
  NonceIndex& operator=(const NonceIndex&) = delete;

  // All may be called from any thread.

  struct Found {
    std::optional<uint64_t> seq;
    uint64_t generation = 0;  // for find_since
    uint64_t added = 0;       // likewise
  };
  Result<Found> find(const NonceKey& key) const;
  // What was added since `find` answered none; from memory unless that is long ago.
  Result<std::optional<uint64_t>> find_since(const NonceKey& key, uint64_t generation,
                                             uint64_t added) const;
  // Entries [first, first + keys.size()), which are durable. `last_leaf` is the leaf hash
  // of the last.
  void add(uint64_t first, const std::vector<NonceKey>& keys, const Digest& last_leaf);

 private:
  struct File;
  struct KeyHash {
    size_t operator()(const NonceKey& key) const;
  };
  using Keys = std::unordered_map<NonceKey, uint64_t, KeyHash>;

  explicit NonceIndex(std::unique_ptr<File> file);
  void run();
  void read_filter();

  std::unique_ptr<File> file_;
  std::thread thread_;

  std::atomic<uint64_t> added_ = 0;  // keys, since the start
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  Keys recent_;                      // not in the file yet
  Keys writing_;                     // on their way
  Keys previous_;                    // in the file, kept for find_since
  std::optional<KeyFilter> filter_;  // over previous_ and all that is in the file, once it is read
  uint64_t generation_ = 0;
  uint64_t size_ = 0;
  Digest last_leaf_{};
  bool stopping_ = false;
};

}  // namespace souk::ledger
