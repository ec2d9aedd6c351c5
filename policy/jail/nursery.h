// Runs a function in a fresh jailed process per call, for a caller that can no
// longer fork. policy/SPEC.md, Nursery.
#pragma once

#include <sys/types.h>

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

  // Forks the helper. Call it before lock_down and before starting threads. The
  // helper locks itself down (kNursery), and dies with this process. Keep fd()
  // open through lock_down.
  static Result<std::unique_ptr<Nursery>> start(Job job);

  // The job's answer, from a child that ran under kPolicyWorker with nothing open
  // but its answering pipe. Thread safe, one call at a time.
  //   kTryAgain   the child died (crash, forbidden system call, thrown exception)
  //   kExhausted  it was killed after wall_ms, or answered more than 16 MiB
  //   kBroken     the nursery itself is gone
  // The next call is unaffected by the first two.
  Result<std::string> call(std::string_view request, int wall_ms);

  int fd() const { return socket_; }
  pid_t process() const { return process_; }

  Nursery(const Nursery&) = delete;
  Nursery& operator=(const Nursery&) = delete;
  ~Nursery();

 private:
  Nursery(int socket, pid_t process) : socket_(socket), process_(process) {}

  // Set once in start().
  int socket_;
  pid_t process_;
  std::mutex mutex_;
  bool broken_ = false;  // Guarded by mutex_.
};

}  // namespace souk::policy
