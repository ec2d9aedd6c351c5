// What must hold against anyone's program: policy/THREATS.md names these tests.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <lua.hpp>
#include <set>

#include "policy/decide/evaluator.h"
#include "policy/decide/source.h"
#include "tests/policy/hardening/programs.h"

namespace souk::policy {
namespace {

using namespace samples;

const char* kProbe =
    "local r = rules() r.require(request.dp.epsilon_micro <= 1000000, 'max_epsilon', "
    "'request.dp.epsilon_micro', request.dp.epsilon_micro, 1000000) "
    "local t = {} for i = 1, 20 do t['k' .. i] = #tostring(i) end local n = 0 for k, v in pairs(t) "
    "do n = n + v end "
    "return r.decision{price = n + #request.purpose, reason = string.lower('OK'), obligations = "
    "{max_epsilon_micro = 1000000}}";

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

long peak_kib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

struct Attack {
  std::string name, source;
  Json request;
};

std::vector<Attack> corpus() {
  std::vector<Attack> out;
  const std::string folder = folder_from("SOUK_SHARED") + "/data/policy-attacks";
  if (!std::filesystem::exists(folder)) return out;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".lua") continue;
    Attack attack{entry.path().filename(), read_text(entry.path()), sample_request()};
    if (attack.name.starts_with("d26"))
      override_member(attack.request, "dp.epsilon_micro", Json(Json::Object{{"$float", "nan"}}));
    if (attack.name.starts_with("d27")) override_member(attack.request, "dp", Json());
    out.push_back(std::move(attack));
  }
  std::sort(out.begin(), out.end(),
            [](const Attack& a, const Attack& b) { return a.name < b.name; });
  return out;
}

std::string what_a_fresh_evaluator_says(const Attack& attack) {
  return Evaluator::make()
      .take()
      ->decide(attack.source, attack.request, sample_dataset(), sample_context())
      .text();
}

TEST(Hardening, TheCorpusInAnyOrderInOneProcessChangesNothing) {
  auto attacks = corpus();
  if (attacks.empty()) GTEST_SKIP() << "no corpus";
  auto evaluator = Evaluator::make().take();
  auto ask = [&](std::string_view source, const Json& request) {
    return evaluator->decide(source, request, sample_dataset(), sample_context());
  };
  const std::string probe = ask(kProbe, sample_request()).text();
  ASSERT_NE(probe.find("\"status\":\"allowed\""), std::string::npos) << probe;
  std::vector<std::string> alone;
  for (const Attack& attack : attacks) alone.push_back(what_a_fresh_evaluator_says(attack));
  std::vector<size_t> order(attacks.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::mt19937_64 random(5);
  const long before = peak_kib();
  for (int round = 0; round < 3; ++round) {
    if (round == 1) std::reverse(order.begin(), order.end());
    if (round == 2) std::shuffle(order.begin(), order.end(), random);
    for (size_t i : order) {
      double begin = cpu_seconds();
      auto decision = ask(attacks[i].source, attacks[i].request);
      EXPECT_LT(cpu_seconds() - begin, 1.0) << attacks[i].name;
      EXPECT_EQ(decision.text(), alone[i]) << attacks[i].name;
      EXPECT_LE(decision.gas, Limits{}.gas + Limits{}.gas / 100) << attacks[i].name;
      EXPECT_EQ(ask(kProbe, sample_request()).text(), probe) << "after " << attacks[i].name;
    }
  }
  EXPECT_LE(peak_kib() - before, static_cast<long>(Limits{}.memory_bytes / 1024) + 8 * 1024);
}

TEST(Hardening, CompiledFormsAreRefused) {
  auto attacks = corpus();
  attacks.push_back({"plain", "return {allow = true}", sample_request()});
  auto evaluator = Evaluator::make().take();
  for (const Attack& attack : attacks) {
    lua_State* state = luaL_newstate();
    ASSERT_EQ(luaL_loadbuffer(state, attack.source.data(), attack.source.size(), "x"), LUA_OK)
        << attack.name;
    std::string compiled;
    lua_dump(
        state,
        [](lua_State*, const void* bytes, size_t size, void* out) {
          static_cast<std::string*>(out)->append(static_cast<const char*>(bytes), size);
          return 0;
        },
        &compiled, 1);
    lua_close(state);
    EXPECT_FALSE(check_source(compiled)) << attack.name;
    auto decision =
        evaluator->decide(compiled, sample_request(), sample_dataset(), sample_context());
    EXPECT_TRUE(decision.status == DecisionStatus::kPublishRejected ||
                decision.status == DecisionStatus::kInvalidPolicy)
        << attack.name;
    EXPECT_EQ(decision.gas, 0u);
    // And past the look at its characters, the interpreter itself takes text only.
    Program program;
    program.source = compiled;
    EXPECT_EQ(run_confined(program, {}).outcome, Evaluation::Outcome::kSyntax) << attack.name;
  }
}

TEST(Hardening, RandomProgramsEndInTimeAndSayTheSameTwice) {
  hardening::ProgramMaker maker(11);
  auto evaluator = Evaluator::make().take(), other = Evaluator::make().take();
  std::set<std::string> statuses;
  for (int i = 0; i < 1500; ++i) {
    const std::string source = maker.next();
    const Json request = maker.request();
    double begin = cpu_seconds();
    auto decision = evaluator->decide(source, request, sample_dataset(), sample_context());
    ASSERT_LT(cpu_seconds() - begin, 1.0) << source;
    if (i % 5 == 0) {
      ASSERT_EQ(other->decide(source, request, sample_dataset(), sample_context()).text(),
                decision.text())
          << source;
    }
    statuses.insert(status_name(decision.status));
  }
  EXPECT_GE(statuses.size(),
            4u);  // allowed, denied, error, limit: the programs are not all the same
}

// In processes of their own, with other addresses.
TEST(Hardening, DecisionsAreTheSameInEveryProcess) {
  std::string first;
  for (int i = 0; i < 4; ++i) {
    const std::string command = folder_from("SOUK_BIN") + "/policy_fuzz --seed 23 --programs 250";
    FILE* pipe = popen(command.c_str(), "r");
    ASSERT_TRUE(pipe);
    char line[512] = {};
    ASSERT_TRUE(std::fgets(line, sizeof line, pipe)) << command;
    EXPECT_EQ(pclose(pipe), 0) << line;
    std::string digest(line, 64);
    if (first.empty()) first = digest;
    EXPECT_EQ(digest, first);
  }
}

}  // namespace
}  // namespace souk::policy
