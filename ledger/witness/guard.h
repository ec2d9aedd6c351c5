// A number beside the witness's key that only grows: how many cosignatures the witness
// has given out. A witness file with fewer is an old copy.
#pragma once

#include <cstdint>
#include <string>

#include "ledger/base/result.h"

namespace souk::ledger {

// For one thread at a time.
class CountGuard {
 public:
  // A new file holding 0. kConflict when there is one, kTryAgain on a full disk.
  static Status create(const std::string& path);
  // kNotFound when there is no file, kBroken when it is not one of ours.
  static Result<CountGuard> open(const std::string& path);

  CountGuard(CountGuard&& other) noexcept;
  CountGuard& operator=(CountGuard&&) = delete;
  ~CountGuard();

  uint64_t count() const { return count_; }
  // On disk when it returns. kBroken when that is unknown.
  Status raise(uint64_t count);

 private:
  CountGuard(int fd, uint64_t count) : fd_(fd), count_(count) {}

  int fd_;
  uint64_t count_;
};

}  // namespace souk::ledger
