#include "trainer/host/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace souk::trainer {

namespace {

// Closed with its owner.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

}  // namespace

Result<std::unique_ptr<EnclaveProcess>> EnclaveProcess::start(const std::string& program,
                                                              const std::string& role,
                                                              const std::string& platform_key,
                                                              const std::string& state) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return Error(Code::kTryAgain, "expected room for another socket");
  }
  Descriptor ours(ends[0]), theirs(ends[1]);
  Descriptor platform(open(platform_key.c_str(), O_RDONLY | O_CLOEXEC));
  if (platform.get() < 0)
    return Error(Code::kBroken, "expected the platform key at " + platform_key);
  Descriptor kept(state.empty() ? -1 : open(state.c_str(), O_RDWR | O_CLOEXEC));
  if (!state.empty() && kept.get() < 0)
    return Error(Code::kBroken, "expected a run's sealed state at " + state);
  const char* argv[] = {program.c_str(), role.c_str(), nullptr};
  const char* environment[] = {nullptr};
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid == 0) {
    // Only async-signal-safe calls from here to exec.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(126);
    const int given[] = {theirs.get(), platform.get(), kept.get()};
    const int count = kept.get() < 0 ? 2 : 3;
    int high[3];
    for (int i = 0; i < count; ++i) {
      high[i] = fcntl(given[i], F_DUPFD, 10);
      if (high[i] < 0) _exit(126);
    }
    for (int i = 0; i < count; ++i) {
      if (dup2(high[i], 3 + i) < 0) _exit(126);
    }
    close_range(static_cast<unsigned>(3 + count), ~0U, 0);
    execve(argv[0], const_cast<char**>(argv), const_cast<char**>(environment));
    _exit(127);
  }
  if (pid < 0) return Error(Code::kTryAgain, "expected room for another process");
  return std::unique_ptr<EnclaveProcess>(new EnclaveProcess(pid, ours.release()));
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
