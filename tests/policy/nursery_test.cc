#include "policy/jail/nursery.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "policy/jail/jail.h"
#include "policy/jail/worker.h"
#include "tests/policy/samples.h"

namespace souk::policy {
namespace {

#if defined(SOUK_SANITIZED)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

// What a captured interpreter might try. Each names itself.
std::string misbehave(std::string_view what) {
  if (what == "hang") {
    volatile bool forever = true;
    while (forever) {
    }
  }
  if (what == "crash") raise(SIGSEGV);
  if (what == "exit") _exit(0);
  if (what == "exit1") _exit(1);
  if (what == "throw") throw std::runtime_error("x");
  if (what == "big") return std::string(kMaxNurseryMessage + 1, 'x');
  if (what == "memory") return std::string(size_t{3} << 30, 'x').substr(0, 1);
  if (what == "socket") return "got " + std::to_string(socket(AF_INET, SOCK_STREAM, 0));
  if (what == "unix") return "got " + std::to_string(socket(AF_UNIX, SOCK_STREAM, 0));
  if (what == "open") return "got " + std::to_string(open("/etc/passwd", O_RDONLY));
  if (what == "exec") return "got " + std::to_string(execl("/bin/true", "true", nullptr));
  if (what == "fork") return "got " + std::to_string(fork());
  if (what == "kill") return "got " + std::to_string(kill(getppid(), 0));
  if (what == "ptrace") return "got " + std::to_string(ptrace(PTRACE_TRACEME, 0, nullptr, nullptr));
  if (what == "jit")
    return mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                0) == MAP_FAILED
               ? "no"
               : "got memory";
  if (what == "mkdir") return "got " + std::to_string(mkdirat(AT_FDCWD, "/tmp/x", 0700));
  return "echo " + std::string(what);
}

class NurseryTest : public testing::Test {
 protected:
  void SetUp() override {
    auto started = Nursery::start(misbehave);
    ASSERT_TRUE(started) << started.error().expected();
    nursery_ = std::move(*started);
  }
  void expect_next_unaffected() {
    auto next = nursery_->call("hello", 2000);
    ASSERT_TRUE(next) << next.error().expected();
    EXPECT_EQ(*next, "echo hello");
  }
  std::unique_ptr<Nursery> nursery_;
};

TEST_F(NurseryTest, AnswersAndGoesOnAnswering) {
  for (int i = 0; i < 20; ++i) expect_next_unaffected();
  std::string large(1 << 20, 'y');
  auto answer = nursery_->call(large, 5000);
  ASSERT_TRUE(answer);
  EXPECT_EQ(*answer, "echo " + large);
}

TEST_F(NurseryTest, ADeadWorkerIsTryAgainAndTheNextCallIsUnaffected) {
  for (const char* what : {"crash", "exit", "exit1", "throw"}) {
    auto answer = nursery_->call(what, 2000);
    ASSERT_FALSE(answer) << what;
    EXPECT_EQ(answer.error().code(), Code::kTryAgain) << what;
    expect_next_unaffected();
  }
}

TEST_F(NurseryTest, AHangingWorkerIsKilledAndTheNextCallIsUnaffected) {
  auto answer = nursery_->call("hang", 100);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code(), Code::kExhausted);
  expect_next_unaffected();
}

TEST_F(NurseryTest, AnAnswerWithoutEndIsRefused) {
  auto answer = nursery_->call("big", 5000);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code(), Code::kExhausted);
  expect_next_unaffected();
}

TEST_F(NurseryTest, ForbiddenCallsKillTheWorker) {
  if (kSanitized) GTEST_SKIP() << "no seccomp under sanitizers";
  for (const char* what :
       {"socket", "unix", "open", "exec", "fork", "kill", "ptrace", "jit", "mkdir", "memory"}) {
    auto answer = nursery_->call(what, 2000);
    ASSERT_FALSE(answer) << what << ": " << *answer;
    EXPECT_EQ(answer.error().code(), Code::kTryAgain) << what;
  }
  expect_next_unaffected();
}

TEST_F(NurseryTest, OneWorkerAnswersUntilItIsRetired) {
  auto counting = Nursery::start([seen = std::make_shared<int>(0)](std::string_view) {
                    return std::to_string(++*seen);
                  }).take();
  EXPECT_EQ(counting->call("", 1000).take(), "1");
  EXPECT_EQ(counting->call("", 1000).take(), "2");
  counting->retire();
  EXPECT_EQ(counting->call("", 1000).take(), "1");
}

TEST_F(NurseryTest, AnAnswerThatComesTooLateIsNotTheNextOnes) {
  auto slow = Nursery::start([](std::string_view what) {
                if (what == "slow") {
                  auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
                  while (std::chrono::steady_clock::now() < until) {
                  }
                }
                return std::string(what);
              }).take();
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(slow->call("slow", 20));
    EXPECT_EQ(slow->call("quick", 2000).take(), "quick");
  }
}

TEST_F(NurseryTest, AWorkerThatDiesOverALargeQuestionLeavesNothingOfIt) {
  auto dying = Nursery::start([](std::string_view what) -> std::string {
                 if (what.size() > 100) _exit(1);
                 return std::string(what);
               }).take();
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(dying->call(std::string(4 << 20, 'x'), 2000));
    EXPECT_EQ(dying->call("small", 2000).take(), "small");
  }
}

TEST_F(NurseryTest, ADeadNurseryIsBrokenAndNotAnAnswer) {
  EXPECT_FALSE(nursery_->call("exit1", 2000));  // its worker alone
  EXPECT_FALSE(nursery_->gone());
  kill(nursery_->process(), SIGKILL);
  waitpid(nursery_->process(), nullptr, 0);
  for (int i = 0; i < 2; ++i) {
    auto answer = nursery_->call("hello", 200);
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code(), Code::kBroken);
    EXPECT_TRUE(nursery_->gone());
  }
}

TEST(JailedEvaluation, ABatchSaysWhatTheQuestionsSayOneByOne) {
  auto nursery = start_lua_nursery().take();
  const Json request = samples::sample_request(), ctx = samples::sample_context();
  Json broken = request;
  samples::override_member(broken, "dp", Json());
  std::vector<Json> datasets;
  for (int i = 0; i < 50; ++i) {
    datasets.push_back(samples::sample_dataset());
    samples::override_member(datasets.back(), "rows", Json(i));
  }
  const char* source =
      "if dataset.rows == 13 then while true do end end return {allow = dataset.rows % 2 == 0, "
      "price = dataset.rows}";
  Batch batch;
  batch.requests = {&request, &broken};
  batch.contexts = {&ctx};
  for (size_t i = 0; i < datasets.size(); ++i) {
    batch.datasets.push_back(&datasets[i]);
    batch.asks.push_back({i % 7 == 3 ? 1u : 0u, i, 0});
  }
  Limits limits;
  limits.gas = 20'000;
  auto together = evaluate_jailed(*nursery, source, batch, limits, 5000);
  ASSERT_EQ(together.size(), datasets.size());
  for (size_t i = 0; i < datasets.size(); ++i) {
    const Json& asked = *batch.requests[batch.asks[i][0]];
    EXPECT_EQ(together[i], evaluate_jailed(*nursery, source, asked, datasets[i], ctx, limits)) << i;
    EXPECT_EQ(together[i], evaluate(source, asked, datasets[i], ctx, limits)) << i;
  }
  EXPECT_EQ(together[13].status, DecisionStatus::kLimit);
}

TEST(JailedEvaluation, WhatWasMadeReadySaysTheSame) {
  auto nursery = start_lua_nursery().take();
  const Json request = samples::sample_request(), dataset = samples::sample_dataset(),
             ctx = samples::sample_context();
  auto r = Checked::of("request", request).take(), d = Checked::of("dataset", dataset).take(),
       c = Checked::of("ctx", ctx).take();
  for (const char* source :
       {"return {allow = request.epochs <= 20, price = dataset.rows}", "while true do end",
        "return {allow = request.nothing}", "return {allow = ", "return {allow = true} -- \u202e",
        "return function(request) return {allow = true, obligations = {max_steps = 5}} end"}) {
    EXPECT_EQ(evaluate_jailed(*nursery, ReadyPolicy(source), *r, *d, *c),
              evaluate_jailed(*nursery, source, request, dataset, ctx))
        << source;
  }
  auto dies = Nursery::start([](std::string_view) -> std::string { _exit(0); }).take();
  EXPECT_EQ(evaluate_jailed(*dies, ReadyPolicy("return {allow = true}"), *r, *d, *c).status,
            DecisionStatus::kError);
}

TEST(JailedEvaluation, DeathAndHangNeverAllow) {
  auto dies = Nursery::start([](std::string_view) -> std::string { _exit(0); });
  ASSERT_TRUE(dies);
  auto ask = [](Nursery& nursery, int wall_ms) {
    return evaluate_jailed(nursery, "return {allow = true}", samples::sample_request(),
                           samples::sample_dataset(), samples::sample_context(), {}, wall_ms);
  };
  EXPECT_EQ(ask(**dies, 1000).status, DecisionStatus::kError);
  auto hangs = Nursery::start([](std::string_view) -> std::string {
    volatile bool forever = true;
    while (forever) {
    }
    return "";
  });
  ASSERT_TRUE(hangs);
  EXPECT_EQ(ask(**hangs, 50).status, DecisionStatus::kLimit);
  for (const char* lie : {"", "{}", R"({"allow":true})", R"({"outcome":"value"})"}) {
    auto lies = Nursery::start([lie](std::string_view) { return std::string(lie); });
    ASSERT_TRUE(lies);
    EXPECT_EQ(ask(**lies, 1000).status, DecisionStatus::kError) << lie;
  }
}

// Runs `body` in a child under `profile`; how it ended.
template <class Body>
int end_of_child(JailProfile profile, Body body) {
  pid_t child = fork();
  if (child == 0) {
    LockDown options;
    options.profile = profile;
    auto report = lock_down(options);
    if (!report || !report->seccomp) _exit(90);
    _exit(body());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

bool died_of_a_forbidden_call(int status) {
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}
bool left_with_zero(int status) {
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(Jail, AnEnclaveHasThreadsAndNoWayOut) {
  if (kSanitized) GTEST_SKIP() << "no seccomp under sanitizers";
  EXPECT_TRUE(left_with_zero(end_of_child(JailProfile::kEnclave, [] {
    int sum = 0;
    std::jthread([&] { sum = 7; }).join();
    return sum == 7 ? 0 : 1;
  })));
  EXPECT_TRUE(died_of_a_forbidden_call(
      end_of_child(JailProfile::kEnclave, [] { return socket(AF_INET, SOCK_STREAM, 0); })));
  EXPECT_TRUE(died_of_a_forbidden_call(
      end_of_child(JailProfile::kEnclave, [] { return open("/etc/passwd", O_RDONLY); })));
  EXPECT_TRUE(died_of_a_forbidden_call(
      end_of_child(JailProfile::kEnclave, [] { return execl("/bin/true", "true", nullptr); })));
  EXPECT_TRUE(died_of_a_forbidden_call(
      end_of_child(JailProfile::kEnclave, [] { return static_cast<int>(fork()); })));
}

TEST(Jail, OnlyTheTrainerMayMakeCode) {
  if (kSanitized) GTEST_SKIP() << "no seccomp under sanitizers";
  auto make_code = [] {
    void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page != MAP_FAILED && mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0 ? 0 : 1;
  };
  EXPECT_TRUE(left_with_zero(end_of_child(JailProfile::kTrainer, make_code)));
  EXPECT_TRUE(died_of_a_forbidden_call(end_of_child(JailProfile::kEnclave, make_code)));
  EXPECT_TRUE(died_of_a_forbidden_call(
      end_of_child(JailProfile::kTrainer, [] { return socket(AF_INET, SOCK_STREAM, 0); })));
}

TEST(Jail, TheReportSaysWhatWasDone) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  pid_t child = fork();
  if (child == 0) {
    LockDown options;
    options.keep_fds = {ends[1]};
    auto report = lock_down(options);
    std::string text = report ? canonical(report->to_json()) : report.error().expected();
    bool sent = write(ends[1], text.data(), text.size()) > 0;
    _exit(sent ? 0 : 1);
  }
  close(ends[1]);
  char text[4096] = {};
  EXPECT_GT(read(ends[0], text, sizeof text - 1), 0);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(left_with_zero(status));
  std::string report(text);
  EXPECT_NE(report.find(kSanitized ? R"("claim":"none")" : R"("claim":"seccomp)"),
            std::string::npos)
      << report;
  EXPECT_NE(report.find(R"("not_dumpable":true)"), std::string::npos) << report;
}

}  // namespace
}  // namespace souk::policy
