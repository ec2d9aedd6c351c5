// Leaves checked by several threads and looked at in order by one.
#pragma once

#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <vector>

#include "ledger/proof/recorded.h"

namespace souk::ledger {

struct CheckedLeaf {
  Bytes bytes;
  Digest hash{};
  Result<PreparedLeaf> prepared;
};

// For one caller. `visit` runs in the caller's thread, inside push() and finish(), in
// the order of the leaves; its first error ends everything and is what those return.
class LeafPipeline {
 public:
  using Visit = std::function<Status(uint64_t seq, CheckedLeaf leaf)>;

  LeafPipeline(unsigned threads, Visit visit);
  ~LeafPipeline();
  LeafPipeline(const LeafPipeline&) = delete;
  LeafPipeline& operator=(const LeafPipeline&) = delete;

  Status push(Bytes leaf);
  Status finish();

 private:
  struct Workers;
  Status submit();
  Status take_oldest();

  const Visit visit_;
  const size_t in_flight_;
  std::vector<Bytes> chunk_;
  std::deque<std::future<std::vector<CheckedLeaf>>> pending_;
  uint64_t visited_ = 0;
  std::unique_ptr<Workers> workers_;
};

}  // namespace souk::ledger
