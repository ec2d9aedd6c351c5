#include "policy/jail/nursery.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
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

// On the line: the length, then the text; both ways. On the control socket, one byte at a
// time: the caller commands, the helper answers with the same byte when it is done, or
// says by itself that the worker died.
enum Word : char { kReady = 'R', kRenew = 'N', kDied = 'D' };

constexpr int kGraceMs = 5000;  // for the nursery itself, past the worker's time
[[maybe_unused]] constexpr rlim_t kWorkerAddressSpace = rlim_t{1} << 30;

int64_t now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
}

// Who waits looks again and again before it sleeps: to be woken costs more than a policy. In vain
// where there is one processor, on which the other side could not go on meanwhile.
constexpr int64_t kAnswerSpinNs = 100'000, kQuestionSpinNs = 50'000;

int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

bool several_processors() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 1;
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

// The worker's end of the line, which does not block.
class WorkerLine {
 public:
  WorkerLine(int fd, bool spins) : fd_(fd), spins_(spins) {}

  // Exactly `size` bytes; false at the end. Looks for a while before it sleeps.
  bool read(void* into, size_t size) {
    auto* at = static_cast<char*>(into);
    int64_t until = spins_ ? now_ns() + kQuestionSpinNs : 0;
    while (size > 0) {
      ssize_t got = ::read(fd_, at, size);
      if (got > 0) {
        at += got;
        size -= static_cast<size_t>(got);
      } else if (got < 0 && errno == EAGAIN) {
        if (now_ns() >= until) {
          wait_for(POLLIN);
        } else {
          sched_yield();
        }
      } else if (got == 0 || errno != EINTR) {
        return false;
      }
    }
    return true;
  }
  bool write(const void* from, size_t size) {
    auto* at = static_cast<const char*>(from);
    while (size > 0) {
      ssize_t put = ::write(fd_, at, size);
      if (put > 0) {
        at += put;
        size -= static_cast<size_t>(put);
      } else if (put < 0 && errno == EAGAIN) {
        wait_for(POLLOUT);
      } else if (put == 0 || errno != EINTR) {
        return false;
      }
    }
    return true;
  }

 private:
  void wait_for(short what) {
    pollfd waiting{fd_, what, 0};
    poll(&waiting, 1, -1);
  }
  int fd_;
  bool spins_;
};

void limit(decltype(RLIMIT_CPU) resource, rlim_t most) {
  rlimit value{most, most};
  if (setrlimit(resource, &value) != 0) _exit(3);
}

// A worker's whole life: its caller's questions, until there are no more.
[[noreturn]] void work(const Nursery::Job& job, int line, int life, bool spins) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) _exit(3);
  limit(RLIMIT_FSIZE, 0);
  limit(RLIMIT_NPROC, 0);
#if !defined(SOUK_SANITIZED)
  limit(RLIMIT_AS, kWorkerAddressSpace);
#endif
  LockDown options;
  options.profile = JailProfile::kPolicyWorker;
  options.keep_fds = {line, life};
  options.namespaces = LockDown::Namespaces::kLeave;  // the nursery has done it
  if (!lock_down(options)) _exit(3);
  if (!write_all(life, "", 1)) _exit(5);
  WorkerLine caller(line, spins);
  std::string request, answer;
  while (true) {
    uint32_t length = 0;
    if (!caller.read(&length, sizeof length)) _exit(0);
    if (length > kMaxNurseryMessage) _exit(3);
    request.resize(length);
    if (!caller.read(request.data(), length)) _exit(0);
    try {
      answer.assign(sizeof length, '\0');
      answer += job(request);
    } catch (const std::exception&) {
      _exit(4);
    }
    length = static_cast<uint32_t>(std::min<size_t>(answer.size() - sizeof length, UINT32_MAX));
    std::memcpy(answer.data(), &length, sizeof length);
    if (!caller.write(answer.data(), answer.size())) _exit(5);
  }
}

// The helper's hold on the worker there is, if any.
struct Worker {
  pid_t process = -1;
  int life = -1;  // ends when the worker does

  bool start(const Nursery::Job& job, int line, bool spins) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return false;
    process = fork();
    if (process == 0) work(job, line, ends[1], spins);
    close(ends[1]);
    life = ends[0];
    char locked = 0;  // it has given up everything, our own descriptors too
    bool fine = process > 0 && read_exactly(life, &locked, 1, now_ms() + kGraceMs) == Read::kDone;
    if (!fine) end();
    return fine;
  }
  void end() {
    if (process > 0) {
      kill(process, SIGKILL);
      while (waitpid(process, nullptr, 0) < 0 && errno == EINTR) {
      }
    }
    if (life >= 0) close(life);
    process = -1;
    life = -1;
  }
};

// What nobody will read any more.
void drain(int fd) {
  char waste[4096];
  pollfd waiting{fd, POLLIN, 0};
  while (poll(&waiting, 1, 0) > 0 && (waiting.revents & POLLIN) != 0) {
    if (read(fd, waste, sizeof waste) <= 0) return;
  }
}

// The nursery's whole life.
[[noreturn]] void serve(const Nursery::Job& job, int control, int line, pid_t parent, bool spins) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) _exit(3);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGINT, SIG_IGN);  // the parent decides when to end
  LockDown options;
  options.profile = JailProfile::kNursery;
  options.keep_fds = {control, line};
  if (!lock_down(options)) _exit(3);
  auto say = [&](char word) {
    if (!write_all(control, &word, 1)) _exit(0);
  };
  Worker worker;
  if (!worker.start(job, line, spins)) _exit(3);
  say(kReady);
  while (true) {
    pollfd waiting[2] = {{control, POLLIN, 0}, {worker.life, POLLIN, 0}};
    if (poll(waiting, worker.life >= 0 ? 2 : 1, -1) < 0) continue;
    if (worker.life >= 0 && waiting[1].revents != 0) {
      worker.end();
      say(kDied);
    }
    if (waiting[0].revents == 0) continue;
    char word = 0;
    if (read_exactly(control, &word, 1, -1) != Read::kDone || word != kRenew) _exit(0);
    worker.end();
    drain(line);  // the caller writes nothing now
    if (!worker.start(job, line, spins)) _exit(3);
    say(kRenew);
  }
}

Error no_nursery() {
  return Error(Code::kBroken, "expected a living nursery");
}

}  // namespace

Result<std::unique_ptr<Nursery>> Nursery::start(Job job) {
  int control[2], line[2];
  auto no = [](const char* what) {
    return Error(Code::kBroken, std::string("expected ") + what + ": " + std::strerror(errno));
  };
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) != 0) return no("a socket pair");
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, line) != 0) {
    close(control[0]);
    close(control[1]);
    return no("a socket pair");
  }
  if (fcntl(line[1], F_SETFL, O_RDWR | O_NONBLOCK) != 0) return no("a line that does not block");
  const bool spins = several_processors();
  pid_t parent = getpid();
  pid_t child = fork();
  if (child == 0) {
    close(control[0]);
    close(line[0]);
    serve(job, control[1], line[1], parent, spins);
  }
  close(control[1]);
  close(line[1]);
  if (child < 0) {
    close(control[0]);
    close(line[0]);
    return no("to fork");
  }
  std::unique_ptr<Nursery> nursery(new Nursery(control[0], line[0], child, spins));
  char word = 0;
  if (read_exactly(control[0], &word, 1, now_ms() + kGraceMs) != Read::kDone || word != kReady) {
    return Error(Code::kBroken, "expected the nursery to lock itself down");
  }
  return nursery;
}

// Sends one byte to the helper and waits for the same one.
Status Nursery::command(char what) {
  if (send(control_, &what, 1, MSG_NOSIGNAL) != 1) return no_nursery();
  int64_t deadline = now_ms() + kGraceMs;
  char word = kDied;
  while (word == kDied) {  // it may have died before it was killed
    if (read_exactly(control_, &word, 1, deadline) != Read::kDone) return no_nursery();
  }
  if (word != what) return no_nursery();
  return Done{};
}

bool Nursery::died_meanwhile() {
  pollfd waiting{control_, POLLIN, 0};
  return poll(&waiting, 1, 0) != 0;  // a word nobody asked for, or the end
}

Status Nursery::replace_worker() {
  drain(line_);  // of an answer that came too late
  TRY(command(kRenew));
  drain(line_);  // what it wrote until it was killed
  worker_waits_ = true;
  return Done{};
}

// One question and its answer, or why there is none. Watches the control socket too,
// where the worker's death is told.
Result<std::string> Nursery::converse(std::string_view request, int64_t deadline) {
  auto length = static_cast<uint32_t>(request.size());
  std::string out(reinterpret_cast<const char*>(&length), sizeof length);
  out += request;
  size_t sent = 0, got = 0;
  std::string in(4096, '\0');
  size_t expected = sizeof length;
  // Straight away, and mostly it fits. What goes wrong here shows again below.
  if (ssize_t put = send(line_, out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT); put > 0)
    sent = static_cast<size_t>(put);
  pollfd answered{line_, POLLIN, 0};
  const int64_t until = spins_ ? now_ns() + kAnswerSpinNs : 0;
  while (sent == out.size() && now_ns() < until && poll(&answered, 1, 0) == 0) {
    sched_yield();
  }
  while (got < expected) {
    int64_t left = deadline - now_ms();
    if (left <= 0) return Error(Code::kExhausted, "policy worker ran out of time");
    pollfd waiting[2] = {
        {line_, static_cast<short>(sent < out.size() ? POLLIN | POLLOUT : POLLIN), 0},
        {control_, POLLIN, 0}};
    int ready = poll(waiting, 2, static_cast<int>(left));
    if (ready < 0 && errno != EINTR) return no_nursery();
    if (ready <= 0) continue;
    if ((waiting[0].revents & POLLOUT) != 0) {
      ssize_t put = send(line_, out.data() + sent, out.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (put < 0 && errno != EAGAIN && errno != EINTR) return no_nursery();
      if (put > 0) sent += static_cast<size_t>(put);
    }
    if ((waiting[0].revents & POLLIN) != 0) {
      ssize_t more = recv(line_, in.data() + got, in.size() - got, MSG_DONTWAIT);
      if (more == 0) return no_nursery();
      if (more < 0 && errno != EAGAIN && errno != EINTR) return no_nursery();
      if (more > 0) got += static_cast<size_t>(more);
      if (got >= sizeof length && expected == sizeof length) {
        std::memcpy(&length, in.data(), sizeof length);
        if (length > kMaxNurseryMessage)
          return Error(Code::kExhausted, "policy worker answered more than 16 MiB");
        expected = sizeof length + length;
        if (in.size() < expected) in.resize(expected);
      }
      continue;  // an answer that is whole counts, however its worker ended
    }
    if ((waiting[0].revents & (POLLHUP | POLLERR)) != 0) return no_nursery();
    if (waiting[1].revents != 0) {
      char word = 0;
      if (recv(control_, &word, 1, MSG_DONTWAIT) != 1 || word != kDied) return no_nursery();
      return Error(Code::kTryAgain, "policy worker died");
    }
  }
  // It answers once, to the whole question.
  if (got != expected || sent != out.size())
    return Error(Code::kTryAgain, "policy worker answered out of turn");
  return in.substr(sizeof length, expected - sizeof length);
}

Result<std::string> Nursery::call(std::string_view request, int wall_ms) {
  if (request.size() > kMaxNurseryMessage)
    return Error(Code::kExhausted, "expected a request of at most 16 MiB");
  if (wall_ms < 1) return Error(Code::kMalformed, "expected a wall limit of at least 1 ms");
  std::lock_guard lock(mutex_);
  if (broken_) return no_nursery();
  broken_ = true;  // until the conversation has ended well
  if (!worker_waits_ || died_meanwhile()) TRY(replace_worker());
  auto answer = converse(request, now_ms() + wall_ms);
  if (!answer) {
    if (answer.error().code() == Code::kBroken) return answer;
    TRY(replace_worker());
  }
  broken_ = false;
  return answer;
}

void Nursery::retire() {
  std::lock_guard lock(mutex_);
  worker_waits_ = false;
}

bool Nursery::gone() const {
  std::lock_guard lock(mutex_);
  return broken_;
}

// The nursery sees the end of its socket and leaves. It may not be ours to kill or
// to wait for any more: then it is the reaper's.
Nursery::~Nursery() {
  close(control_);
  close(line_);
}

}  // namespace souk::policy
