#include "policy/jail/nursery.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <exception>

#include "policy/jail/jail.h"

namespace souk::policy {
namespace {

// Question: {length, wall_ms}, then the request. Answer: {length, fate}, then the text.
using Header = std::array<uint32_t, 2>;
enum class Fate : uint32_t { kAnswered, kDied, kHung, kTooLong };

constexpr int kGraceMs = 5000;  // for the nursery itself, past the worker's time
constexpr rlim_t kWorkerAddressSpace = rlim_t{1} << 30;

int64_t now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
}

enum class Read { kDone, kEnd, kLate };

// Exactly `size` bytes, or until the other side ends or `deadline_ms` passes (-1: never).
Read read_exactly(int fd, void* into, size_t size, int64_t deadline_ms) {
  auto* at = static_cast<char*>(into);
  while (size > 0) {
    if (deadline_ms >= 0) {
      int64_t left = deadline_ms - now_ms();
      pollfd waiting{fd, POLLIN, 0};
      int ready = left > 0 ? poll(&waiting, 1, static_cast<int>(left)) : 0;
      if (ready < 0 && errno == EINTR) continue;
      if (ready <= 0) return Read::kLate;
    }
    ssize_t got = read(fd, at, size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return Read::kEnd;
    at += got;
    size -= static_cast<size_t>(got);
  }
  return Read::kDone;
}

bool write_all(int fd, const void* from, size_t size) {
  auto* at = static_cast<const char*>(from);
  while (size > 0) {
    ssize_t put = write(fd, at, size);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    at += put;
    size -= static_cast<size_t>(put);
  }
  return true;
}

void limit(decltype(RLIMIT_CPU) resource, rlim_t most) {
  rlimit value{most, most};
  if (setrlimit(resource, &value) != 0) _exit(3);
}

// The child of one call. Never returns.
[[noreturn]] void work(const Nursery::Job& job, const std::string& request, int answer_fd, int wall_ms) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) _exit(3);
  limit(RLIMIT_CPU, static_cast<rlim_t>(wall_ms) / 1000 + 2);
  limit(RLIMIT_FSIZE, 0);
  limit(RLIMIT_NPROC, 0);
#if !defined(SOUK_SANITIZED)
  limit(RLIMIT_AS, kWorkerAddressSpace);
#endif
  LockDown options;
  options.profile = JailProfile::kPolicyWorker;
  options.keep_fds = {answer_fd};
  options.namespaces = LockDown::Namespaces::kLeave;  // the nursery has done it
  if (!lock_down(options)) _exit(3);
  std::string answer;
  try {
    answer = job(request);
  } catch (const std::exception&) {
    _exit(4);
  }
  auto length = static_cast<uint32_t>(std::min<size_t>(answer.size(), UINT32_MAX));
  bool sent = write_all(answer_fd, &length, sizeof length) && write_all(answer_fd, answer.data(), answer.size());
  _exit(sent ? 0 : 5);
}

struct Outcome {
  Fate fate = Fate::kDied;
  std::string answer;
};

// A worker has answered only when its whole text came and it then left with 0.
Outcome collect(int fd, int64_t deadline) {
  Outcome outcome;
  uint32_t length = 0;
  Read state = read_exactly(fd, &length, sizeof length, deadline);
  if (state == Read::kDone && length > kMaxNurseryMessage) {
    outcome.fate = Fate::kTooLong;
    return outcome;
  }
  if (state == Read::kDone) {
    outcome.answer.resize(length);
    state = read_exactly(fd, outcome.answer.data(), length, deadline);
  }
  char more = 0;
  if (state == Read::kDone) {
    state = read_exactly(fd, &more, 1, deadline);  // until it closes its end
    outcome.fate = state == Read::kEnd ? Fate::kAnswered : state == Read::kLate ? Fate::kHung : Fate::kDied;
    return outcome;
  }
  outcome.fate = state == Read::kLate ? Fate::kHung : Fate::kDied;
  return outcome;
}

Outcome run_worker(const Nursery::Job& job, const std::string& request, int wall_ms) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return {};
  pid_t child = fork();
  if (child < 0) {
    close(ends[0]);
    close(ends[1]);
    return {};
  }
  if (child == 0) work(job, request, ends[1], wall_ms);
  close(ends[1]);
  Outcome outcome = collect(ends[0], now_ms() + wall_ms);
  close(ends[0]);
  if (outcome.fate != Fate::kAnswered) kill(child, SIGKILL);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (outcome.fate == Fate::kAnswered && !clean) outcome.fate = Fate::kDied;
  bool out_of_time = WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU;
  if (outcome.fate == Fate::kDied && out_of_time) outcome.fate = Fate::kHung;
  if (outcome.fate != Fate::kAnswered) outcome.answer.clear();
  return outcome;
}

// The nursery's whole life.
[[noreturn]] void serve(const Nursery::Job& job, int socket, pid_t parent) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) _exit(3);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGINT, SIG_IGN);  // the parent decides when to end
  LockDown options;
  options.profile = JailProfile::kNursery;
  options.keep_fds = {socket};
  if (!lock_down(options)) _exit(3);
  Header ready{0, 0};
  if (!write_all(socket, ready.data(), sizeof ready)) _exit(0);
  while (true) {
    Header question{};
    if (read_exactly(socket, question.data(), sizeof question, -1) != Read::kDone) _exit(0);
    if (question[0] > kMaxNurseryMessage) _exit(3);
    std::string request(question[0], '\0');
    if (read_exactly(socket, request.data(), request.size(), -1) != Read::kDone) _exit(0);
    Outcome outcome = run_worker(job, request, static_cast<int>(question[1]));
    Header answer{static_cast<uint32_t>(outcome.answer.size()), static_cast<uint32_t>(outcome.fate)};
    if (!write_all(socket, answer.data(), sizeof answer)) _exit(0);
    if (!write_all(socket, outcome.answer.data(), outcome.answer.size())) _exit(0);
  }
}

Error gone() { return Error(Code::kBroken, "expected a living nursery"); }

// send, so that a dead nursery is an error here and not a signal.
bool send_all(int socket, const void* from, size_t size) {
  auto* at = static_cast<const char*>(from);
  while (size > 0) {
    ssize_t put = send(socket, at, size, MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    at += put;
    size -= static_cast<size_t>(put);
  }
  return true;
}

}  // namespace

Result<std::unique_ptr<Nursery>> Nursery::start(Job job) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return Error(Code::kBroken, std::string("expected a socket pair: ") + std::strerror(errno));
  }
  pid_t parent = getpid();
  pid_t child = fork();
  if (child < 0) {
    close(ends[0]);
    close(ends[1]);
    return Error(Code::kBroken, std::string("expected to fork: ") + std::strerror(errno));
  }
  if (child == 0) {
    close(ends[0]);
    serve(job, ends[1], parent);
  }
  close(ends[1]);
  std::unique_ptr<Nursery> nursery(new Nursery(ends[0], child));
  Header ready{};
  if (read_exactly(ends[0], ready.data(), sizeof ready, now_ms() + kGraceMs) != Read::kDone) {
    return Error(Code::kBroken, "expected the nursery to lock itself down");
  }
  return nursery;
}

Result<std::string> Nursery::call(std::string_view request, int wall_ms) {
  if (request.size() > kMaxNurseryMessage) return Error(Code::kExhausted, "expected a request of at most 16 MiB");
  if (wall_ms < 1) return Error(Code::kMalformed, "expected a wall limit of at least 1 ms");
  std::lock_guard lock(mutex_);
  if (broken_) return gone();
  broken_ = true;  // until the whole answer is here: half a conversation cannot be resumed
  Header question{static_cast<uint32_t>(request.size()), static_cast<uint32_t>(wall_ms)};
  if (!send_all(socket_, question.data(), sizeof question)) return gone();
  if (!send_all(socket_, request.data(), request.size())) return gone();
  int64_t deadline = now_ms() + wall_ms + kGraceMs;
  Header answer{};
  if (read_exactly(socket_, answer.data(), sizeof answer, deadline) != Read::kDone) return gone();
  if (answer[0] > kMaxNurseryMessage || answer[1] > static_cast<uint32_t>(Fate::kTooLong)) return gone();
  std::string text(answer[0], '\0');
  if (read_exactly(socket_, text.data(), text.size(), deadline) != Read::kDone) return gone();
  broken_ = false;
  switch (static_cast<Fate>(answer[1])) {
    case Fate::kAnswered: return text;
    case Fate::kDied: return Error(Code::kTryAgain, "policy worker died");
    case Fate::kHung: return Error(Code::kExhausted, "policy worker ran out of time");
    case Fate::kTooLong: return Error(Code::kExhausted, "policy worker answered more than 16 MiB");
  }
  return gone();
}

// The nursery sees the end of its socket and leaves. It may not be ours to kill or
// to wait for any more: then it is the reaper's.
Nursery::~Nursery() { close(socket_); }

}  // namespace souk::policy
