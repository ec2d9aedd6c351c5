// Errors of jobs that run at once, and of memory that runs out. For the engine alone.
#pragma once

#include <atomic>
#include <mutex>
#include <new>
#include <optional>

#include "ledger/base/result.h"

namespace souk::trainer {

// The first error of a set of jobs that run at once.
class FirstError {
 public:
  void note(Status status) {
    if (status) return;
    std::lock_guard lock(mutex_);
    if (!error_) error_ = std::move(status).take_error();
    failed_ = true;
  }
  bool failed() const { return failed_; }
  Status status() {
    std::lock_guard lock(mutex_);
    if (error_) return *error_;
    return Done{};
  }

 private:
  std::mutex mutex_;
  std::optional<Error> error_;  // guarded by mutex_
  std::atomic<bool> failed_{false};
};

template <class Function>
auto guarded(const Function& function) -> decltype(function()) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    return Error(Code::kExhausted, "engine: expected enough memory for parameters and activations");
  }
}

}  // namespace souk::trainer
