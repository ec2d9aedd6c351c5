// After warm_up() a run must not need the file system, the network or a new thread.
#include <gtest/gtest.h>
#include <seccomp.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/trainer/engine/support.h"
#include "trainer/engine/engine.h"

namespace souk::trainer {
namespace {

bool deny(scmp_filter_ctx filter, const char* name) {
  int number = seccomp_syscall_resolve_name(name);
  return number == __NR_SCMP_ERROR ||
         seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, number, 0) == 0;
}

// Kills the process at the first attempt to open, connect, or start anything.
bool lock_down() {
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  if (!filter) return false;
  for (const char* name :
       {"open",   "openat",   "openat2",    "creat",      "stat",     "newfstatat",
        "statx",  "access",   "faccessat",  "faccessat2", "readlink", "readlinkat",
        "socket", "connect",  "clone",      "clone3",     "fork",     "vfork",
        "execve", "execveat", "getdents64", "ioctl",      "prctl"}) {
    if (!deny(filter, name)) return false;
  }
  return seccomp_load(filter) == 0;
}

bool train_everything(Workers& workers) {
  for (bool privately : {false, true}) {
    auto spec = testing::every_layer_spec();
    spec.model[14].units = 40;  // wide: oneDNN compiles its products only now
    if (privately) testing::make_private(spec, 0.3, 1, 1);
    auto data = testing::random_data(20, 3 * 9 * 8, 3, 1);
    auto run = TrainingRun::create(spec, data.examples(), testing::root_of(1), workers);
    if (!run || !run->run_to_end()) return false;
    auto model = run->finish();
    if (!model || !evaluate(spec, *model, data.examples(), workers)) return false;
  }
  return true;
}

TEST(Lockdown, ARunAfterWarmUpOpensNothing) {
#ifdef SOUK_SANITIZED
  GTEST_SKIP() << "sanitizers open files of their own";
#endif
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto workers = Workers::start(3);
    if (!workers || !warm_up(**workers)) _exit(10);
    if (!lock_down()) _exit(11);
    _exit(train_everything(**workers) ? 0 : 12);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << "killed by signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Lockdown, TheFilterOfThisTestKills) {
#ifdef SOUK_SANITIZED
  GTEST_SKIP() << "sanitizers open files of their own";
#endif
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (!lock_down()) _exit(11);
    (void)!access("/", F_OK);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status));
}

}  // namespace
}  // namespace souk::trainer
