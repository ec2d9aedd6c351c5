// Starts an enclave process and holds the other end of its channel. The child
// inherits exactly these descriptors: 3, the channel; 4, the platform key of the
// simulated enclave, read once before lock-down; and 5, where one is named, the file of a run's
// sealed state, mapped before it.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "trainer/pipe/channel.h"

namespace souk::trainer {

class EnclaveProcess {
 public:
  // `program`: path of souk-enclave. `role`: "keeper" or "trainer". `platform_key`:
  // path of the file with the platform seed. `state`: path of a file with room, or empty.
  static Result<std::unique_ptr<EnclaveProcess>> start(const std::string& program,
                                                       const std::string& role,
                                                       const std::string& platform_key,
                                                       const std::string& state = "");
  // Kills the process if it still runs.
  ~EnclaveProcess();
  EnclaveProcess(const EnclaveProcess&) = delete;
  EnclaveProcess& operator=(const EnclaveProcess&) = delete;

  // One request, one answer.
  Result<Frame> ask(const Frame& request, int timeout_ms);
  Channel& channel() { return channel_; }
  bool alive();
  // Kills the process; whoever waits for its answer learns that it is gone. Any thread.
  void stop();
  pid_t pid() const { return pid_; }

 private:
  EnclaveProcess(pid_t pid, int fd) : pid_(pid), channel_(fd) {}

  pid_t pid_;
  bool reaped_ = false;
  Channel channel_;
};

}  // namespace souk::trainer
