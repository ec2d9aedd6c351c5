// Runs a function in a jailed process of its own, for a caller that can no longer fork.
// policy/SPEC.md, Nursery.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "ledger/base/result.h"

namespace souk::policy {

inline constexpr size_t kMaxNurseryMessage = 16 << 20;

class Nursery {
 public:
  using Job = std::function<std::string(std::string_view request)>;

  // Forks the helper, and it the first worker. Call it before lock_down and before
  // starting threads. The helper locks itself down (kNursery), and dies with this
  // process. Keep fds() open through lock_down.
  static Result<std::unique_ptr<Nursery>> start(Job job);

  // The job's answer, from a worker under kPolicyWorker with nothing open but its line
  // to this process. A worker answers one call after the other until it dies or is
  // retired. Thread safe, one call at a time.
  //   kTryAgain   the worker died (crash, forbidden system call, thrown exception)
  //   kExhausted  it was killed after wall_ms, or answered more than 16 MiB
  //   kBroken     the nursery itself is gone
  // The next call is unaffected by the first two: it has a new worker.
  Result<std::string> call(std::string_view request, int wall_ms);

  // The next call is answered by a worker that has seen nothing yet.
  void retire();

  // A call has found the nursery gone: every one from then on is kBroken.
  bool gone() const;

  std::array<int, 2> fds() const { return {control_, line_}; }
  pid_t process() const { return process_; }

  Nursery(const Nursery&) = delete;
  Nursery& operator=(const Nursery&) = delete;
  ~Nursery();

 private:
  Nursery(int control, int line, pid_t process, bool spins)
      : control_(control), line_(line), process_(process), spins_(spins) {}
  Result<std::string> converse(std::string_view request, int64_t deadline);
  Status replace_worker();
  Status command(char what);
  bool died_meanwhile();

  // Set once in start().
  int control_, line_;
  pid_t process_;
  bool spins_;
  mutable std::mutex mutex_;
  bool broken_ = false;       // Guarded by mutex_.
  bool worker_waits_ = true;  // Guarded by mutex_. A worker is there, and between calls.
};

}  // namespace souk::policy
