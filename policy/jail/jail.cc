#include "policy/jail/jail.h"

#include <fcntl.h>
#include <linux/prctl.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <initializer_list>
#include <memory>

// Landlock (Linux 5.13) is younger than the headers we build with.
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#endif
#ifndef SYS_landlock_restrict_self
#define SYS_landlock_restrict_self 446
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

namespace souk::policy {
namespace {

#if defined(SOUK_SANITIZED)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

Error broken(const std::string& what) {
  return Error(Code::kBroken, "lock-down: expected to " + what + ": " + std::strerror(errno));
}

const char* profile_name(JailProfile profile) {
  switch (profile) {
    case JailProfile::kPolicyWorker:
      return "policy-worker";
    case JailProfile::kNursery:
      return "nursery";
    case JailProfile::kEnclave:
      return "enclave";
    case JailProfile::kTrainer:
      return "trainer";
  }
  return "none";
}

Status close_others(std::vector<int> keep) {
  std::sort(keep.begin(), keep.end());
  unsigned first = 0;
  auto close_between = [](unsigned from, unsigned to) {
    return from > to || syscall(SYS_close_range, from, to, 0) == 0;
  };
  bool fine = true;
  for (int fd : keep) {
    if (fd < 0 || static_cast<unsigned>(fd) < first) continue;
    if (fd > 0) fine = fine && close_between(first, static_cast<unsigned>(fd) - 1);
    first = static_cast<unsigned>(fd) + 1;
  }
  fine = fine && close_between(first, ~0u);
  if (fine) return Done{};
  return broken("close descriptors (close_range, Linux 5.9)");
}

// A process without privileges may do this only from a user namespace of its own,
// which in turn only a process of one thread may enter.
void unshare_what_is_permitted(SandboxReport& report) {
  if (unshare(CLONE_NEWUSER) == 0) report.user_namespace = true;
  report.network_namespace = unshare(CLONE_NEWNET) == 0;
  report.ipc_namespace = unshare(CLONE_NEWIPC) == 0;
  report.mount_namespace = unshare(CLONE_NEWNS) == 0;
}

// No rule allows anything: every path, and every TCP port, is out of reach.
int forbid_with_landlock() {
  struct Attributes {
    uint64_t handled_access_fs;
    uint64_t handled_access_net;
    uint64_t scoped;
  };
  constexpr unsigned kVersionFlag = 1;
  long abi = syscall(SYS_landlock_create_ruleset, nullptr, 0, kVersionFlag);
  if (abi < 1) return 0;
  Attributes all{};
  uint64_t rights = abi == 1 ? 13 : abi == 2 ? 14 : abi < 5 ? 15 : 16;  // bits known to each ABI
  all.handled_access_fs = (uint64_t{1} << rights) - 1;
  if (abi >= 4) all.handled_access_net = 3;
  if (abi >= 6) all.scoped = 3;
  size_t size = abi >= 6   ? sizeof all
                : abi >= 4 ? offsetof(Attributes, scoped)
                           : offsetof(Attributes, handled_access_net);
  long ruleset = syscall(SYS_landlock_create_ruleset, &all, size, 0);
  if (ruleset < 0) return 0;
  bool done = syscall(SYS_landlock_restrict_self, static_cast<int>(ruleset), 0) == 0;
  close(static_cast<int>(ruleset));
  return done ? static_cast<int>(abi) : 0;
}

// --- seccomp ----------------------------------------------------------------

struct Release {
  void operator()(void* context) const { seccomp_release(context); }
};
using Filter = std::unique_ptr<void, Release>;

bool allow(const Filter& filter, std::initializer_list<int> calls) {
  for (int call : calls) {
    if (seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, call, 0) != 0) return false;
  }
  return true;
}

// Allows `call` when (argument `index` & mask) == value.
bool allow_masked(const Filter& filter, int call, unsigned index, uint64_t mask, uint64_t value) {
  scmp_arg_cmp comparison{};
  comparison.arg = index;
  comparison.op = SCMP_CMP_MASKED_EQ;
  comparison.datum_a = mask;
  comparison.datum_b = value;
  return seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, call, 1, &comparison) == 0;
}

bool allow_equal(const Filter& filter, int call, unsigned index, uint64_t value) {
  return allow_masked(filter, call, index, ~uint64_t{0}, value);
}

bool fail_with(const Filter& filter, int error, std::initializer_list<int> calls) {
  for (int call : calls) {
    if (seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(static_cast<uint32_t>(error)), call, 0) != 0)
      return false;
  }
  return true;
}

// What every profile needs: memory without execution, time, the end.
bool allow_common(const Filter& filter) {
  return allow(filter, {SCMP_SYS(read),         SCMP_SYS(write),     SCMP_SYS(readv),
                        SCMP_SYS(writev),       SCMP_SYS(exit),      SCMP_SYS(exit_group),
                        SCMP_SYS(brk),          SCMP_SYS(munmap),    SCMP_SYS(mremap),
                        SCMP_SYS(madvise),      SCMP_SYS(futex),     SCMP_SYS(clock_gettime),
                        SCMP_SYS(gettimeofday), SCMP_SYS(time),      SCMP_SYS(restart_syscall),
                        SCMP_SYS(rt_sigreturn), SCMP_SYS(getrandom), SCMP_SYS(sched_yield),
                        SCMP_SYS(getpid),       SCMP_SYS(gettid)}) &&
         fail_with(filter, EPERM,
                   {SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(ioctl), SCMP_SYS(lseek)});
}

bool allow_memory(const Filter& filter, JailProfile profile) {
  bool fine = allow_masked(filter, SCMP_SYS(mmap), 2, PROT_EXEC, 0) &&
              allow_masked(filter, SCMP_SYS(mprotect), 2, PROT_EXEC, 0);
  if (profile == JailProfile::kTrainer) {
    fine = fine && allow_masked(filter, SCMP_SYS(mmap), 3, MAP_ANONYMOUS, MAP_ANONYMOUS) &&
           allow_masked(filter, SCMP_SYS(mprotect), 2, PROT_EXEC, PROT_EXEC);
  }
  return fine;
}

// fork, and what a child calls to lock itself down further.
bool allow_nursery(const Filter& filter) {
  return allow(filter,
               {SCMP_SYS(wait4), SCMP_SYS(kill), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(pipe2),
                SCMP_SYS(pipe), SCMP_SYS(close), SCMP_SYS(close_range), SCMP_SYS(rt_sigprocmask),
                SCMP_SYS(rt_sigaction), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(prctl),
                SCMP_SYS(seccomp), SCMP_SYS(prlimit64), SCMP_SYS(setrlimit), SCMP_SYS(getppid),
                SCMP_SYS(fork), SCMP_SYS(clock_nanosleep)}) &&
         allow_masked(filter, SCMP_SYS(clone), 0,
                      CLONE_THREAD | CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID,
                      0) &&
         fail_with(filter, ENOSYS, {SCMP_SYS(clone3)}) &&
         fail_with(filter, EPERM,
                   {SCMP_SYS(unshare), SCMP_SYS(landlock_create_ruleset), SCMP_SYS(fcntl)});
}

// Threads, timers, and descriptors that are already open.
bool allow_enclave(const Filter& filter) {
  return allow(filter, {SCMP_SYS(close),
                        SCMP_SYS(dup),
                        SCMP_SYS(pread64),
                        SCMP_SYS(pwrite64),
                        SCMP_SYS(preadv),
                        SCMP_SYS(pwritev),
                        SCMP_SYS(fsync),
                        SCMP_SYS(fdatasync),
                        SCMP_SYS(msync),
                        SCMP_SYS(ftruncate),
                        SCMP_SYS(fallocate),
                        SCMP_SYS(recvmsg),
                        SCMP_SYS(sendmsg),
                        SCMP_SYS(recvfrom),
                        SCMP_SYS(sendto),
                        SCMP_SYS(shutdown),
                        SCMP_SYS(poll),
                        SCMP_SYS(ppoll),
                        SCMP_SYS(rt_sigprocmask),
                        SCMP_SYS(rt_sigaction),
                        SCMP_SYS(sigaltstack),
                        SCMP_SYS(set_robust_list),
                        SCMP_SYS(get_robust_list),
                        SCMP_SYS(rseq),
                        SCMP_SYS(clock_nanosleep),
                        SCMP_SYS(nanosleep),
                        SCMP_SYS(clock_getres),
                        SCMP_SYS(sched_getaffinity),
                        SCMP_SYS(sched_setaffinity),
                        SCMP_SYS(getcpu),
                        SCMP_SYS(mlock),
                        SCMP_SYS(mlock2),
                        SCMP_SYS(munlock),
                        SCMP_SYS(memfd_secret),
                        SCMP_SYS(getrusage),
                        SCMP_SYS(set_tid_address),
                        SCMP_SYS(tgkill),
                        SCMP_SYS(sysinfo),
                        SCMP_SYS(uname)}) &&
         allow_masked(filter, SCMP_SYS(clone), 0, CLONE_THREAD | CLONE_VM,
                      CLONE_THREAD | CLONE_VM) &&
         allow_equal(filter, SCMP_SYS(fcntl), 1, F_GETFL) &&
         allow_equal(filter, SCMP_SYS(fcntl), 1, F_SETFL) &&
         allow_equal(filter, SCMP_SYS(fcntl), 1, F_GETFD) &&
         allow_equal(filter, SCMP_SYS(prctl), 0, PR_SET_NAME) &&
         fail_with(filter, ENOSYS, {SCMP_SYS(clone3)});
}

Status load_filter(JailProfile profile) {
  Filter filter(seccomp_init(SCMP_ACT_KILL_PROCESS));
  if (!filter) return broken("make a seccomp filter");
  bool fine = true;
  switch (profile) {
    case JailProfile::kPolicyWorker:
      fine = allow(filter, {SCMP_SYS(poll), SCMP_SYS(ppoll)});
      break;
    case JailProfile::kNursery:
      fine = allow_nursery(filter);
      break;
    case JailProfile::kEnclave:
    case JailProfile::kTrainer:
      fine = allow_enclave(filter);
      break;
  }
  fine = fine && allow_common(filter) && allow_memory(filter, profile);
  if (!fine) return broken("write the seccomp filter");
  bool threads = profile == JailProfile::kEnclave || profile == JailProfile::kTrainer;
  if (threads && seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1) != 0)
    return broken("filter every thread");
  if (int failed = seccomp_load(filter.get()); failed != 0) {
    errno = -failed;
    return broken("load the seccomp filter");
  }
  return Done{};
}

}  // namespace

std::string SandboxReport::claim() const {
  if (!seccomp) return "none";
  std::string out = "seccomp";
  if (landlock_abi > 0) out += ",landlock";
  if (user_namespace) out += ",user";
  if (network_namespace) out += ",network";
  if (ipc_namespace) out += ",ipc";
  if (mount_namespace) out += ",mount";
  return out;
}

Json SandboxReport::to_json() const {
  return Json::Object{{"profile", profile},
                      {"claim", claim()},
                      {"no_new_privileges", no_new_privileges},
                      {"not_dumpable", not_dumpable},
                      {"no_core", no_core},
                      {"descriptors_closed", descriptors_closed},
                      {"user_namespace", user_namespace},
                      {"network_namespace", network_namespace},
                      {"ipc_namespace", ipc_namespace},
                      {"mount_namespace", mount_namespace},
                      {"landlock_abi", landlock_abi},
                      {"seccomp", seccomp}};
}

Result<SandboxReport> lock_down(const LockDown& options) {
  SandboxReport report;
  report.profile = profile_name(options.profile);
  if (options.namespaces == LockDown::Namespaces::kUnshare) unshare_what_is_permitted(report);
  TRY(close_others(options.keep_fds));
  report.descriptors_closed = true;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return broken("give up new privileges");
  report.no_new_privileges = true;
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return broken("become undumpable");
  report.not_dumpable = true;
  rlimit none{0, 0};
  if (setrlimit(RLIMIT_CORE, &none) != 0) return broken("give up core files");
  report.no_core = true;
  report.landlock_abi = forbid_with_landlock();
  if (kSanitized) return report;
  TRY(load_filter(options.profile));
  report.seccomp = true;
  return report;
}

}  // namespace souk::policy
