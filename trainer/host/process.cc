#include "trainer/host/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace souk::trainer {

Result<std::unique_ptr<EnclaveProcess>> EnclaveProcess::start(const std::string& program,
                                                              const std::string& role,
                                                              const std::string& platform_key) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return Error(Code::kTryAgain, "expected room for another socket");
  }
  int platform = open(platform_key.c_str(), O_RDONLY | O_CLOEXEC);
  if (platform < 0) {
    close(ends[0]);
    close(ends[1]);
    return Error(Code::kBroken, "expected the platform key at " + platform_key);
  }
  const char* argv[] = {program.c_str(), role.c_str(), nullptr};
  const char* environment[] = {nullptr};
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid == 0) {
    // Only async-signal-safe calls from here to exec.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(126);
    int channel = fcntl(ends[1], F_DUPFD, 10);
    int key = fcntl(platform, F_DUPFD, 10);
    if (channel < 0 || key < 0 || dup2(channel, 3) < 0 || dup2(key, 4) < 0) _exit(126);
    close_range(5, ~0U, 0);
    execve(argv[0], const_cast<char**>(argv), const_cast<char**>(environment));
    _exit(127);
  }
  close(platform);
  close(ends[1]);
  if (pid < 0) {
    close(ends[0]);
    return Error(Code::kTryAgain, "expected room for another process");
  }
  return std::unique_ptr<EnclaveProcess>(new EnclaveProcess(pid, ends[0]));
}

EnclaveProcess::~EnclaveProcess() {
  if (!reaped_) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
}

Result<Frame> EnclaveProcess::ask(const Frame& request, int timeout_ms) {
  TRY(channel_.send(request));
  return channel_.receive(timeout_ms);
}

void EnclaveProcess::stop() {
  kill(pid_, SIGKILL);
}

bool EnclaveProcess::alive() {
  if (reaped_) return false;
  if (waitpid(pid_, nullptr, WNOHANG) == pid_) reaped_ = true;
  return !reaped_;
}

}  // namespace souk::trainer
