// One interpreter used again and again: nothing stays, everything is paid.
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <random>

#include "policy/decide/evaluator.h"
#include "policy/lua/arena.h"
#include "policy/lua/sandbox.h"
#include "tests/policy/samples.h"

namespace souk::policy {
namespace {

using namespace samples;
using Outcome = Evaluation::Outcome;

class MachineTest : public ::testing::Test {
 protected:
  Evaluation run(std::string_view source, const Limits& limits = {}) {
    const Facts* inputs[] = {&request_};
    return machine_->run(*machine_->load(source, {"request"}), inputs, limits);
  }
  std::string value(std::string_view source) {
    auto evaluation = run(source);
    return evaluation.outcome == Outcome::kValue ? canonical(evaluation.value)
                                                 : "! " + evaluation.error;
  }
  uint64_t gas(std::string_view source) {
    auto evaluation = run(source);
    EXPECT_EQ(evaluation.outcome, Outcome::kValue) << source << ": " << evaluation.error;
    return evaluation.gas;
  }

  std::unique_ptr<Machine> machine_ = Machine::boot(Vocabulary::kPolicy).take();
  Facts request_{"request", sample_request()};
};

TEST_F(MachineTest, ARunLeavesNothingForTheNext) {
  const char* probe =
      "seen = (seen or 0) + 1 string_of = tostring return {seen, tostring(pairs), #'abc', "
      "contains({1}, 1)}";
  const std::string clean = value(probe);
  const uint64_t cost = gas(probe);
  for (const char* dirt :
       {"seen = 5 pairs = nil contains = nil return 1", "string = nil tostring = nil error('x')",
        "while true do end", "local t = {} for i = 1, 3000 do t['key' .. i] = i end return #t",
        "local s = 'x' while true do s = s .. s end", "local function f() return f() + 1 end f()",
        "return ("}) {
    run(dirt);
    EXPECT_EQ(value(probe), clean) << dirt;
    EXPECT_EQ(gas(probe), cost) << dirt;
  }
}

TEST_F(MachineTest, AProgramMadeReadyBeforeAnotherStillRuns) {
  auto first = machine_->load("return request.epochs + 1", {"request"});
  auto second = machine_->load("return request.epochs + 2", {"request"});
  const Facts* inputs[] = {&request_};
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(machine_->run(*first, inputs, {}).value, Json(21));
    EXPECT_EQ(machine_->run(*second, inputs, {}).value, Json(22));
  }
}

// What the interpreter does by chance elsewhere: the same on machines of other addresses.
TEST_F(MachineTest, GasDoesNotDependOnAddressesOrTheOrderOfMachines) {
  const char* source =
      "local t, f = {}, {} for i = 1, 200 do t['k' .. i] = i t[f] = i f = {} t['k' .. (i - 3)] = "
      "nil end "
      "for i = 1, 100 do t[i * 7] = i t[i] = nil end local n = 0 for k in pairs({t = 1}) do n = n "
      "+ 1 end return {#t, n}";
  auto here = run(source);
  ASSERT_EQ(here.outcome, Outcome::kValue) << here.error;
  std::vector<std::unique_ptr<Machine>> machines;
  for (int i = 0; i < 5; ++i) {
    machines.push_back(Machine::boot(Vocabulary::kPolicy).take());
    const Facts* inputs[] = {&request_};
    auto there = machines.back()->run(*machines.back()->load(source, {"request"}), inputs, {});
    EXPECT_EQ(there.gas, here.gas);
    EXPECT_EQ(there.value, here.value);
  }
}

TEST_F(MachineTest, TheRemainderOfWildRealsIsPaidByTheirDistance) {
  const uint64_t near =
      gas("local a, b, s = 7.5, 2.0, 0 for i = 1, 1000 do s = a % b end return 1");
  const uint64_t far =
      gas("local a, b, s = 1e308, 3e-300, 0 for i = 1, 1000 do s = a % b end return 1");
  EXPECT_GT(far, near + 1000 * 200);
}

TEST_F(MachineTest, ComparingLongTextsIsPaid) {
  const uint64_t brief =
      gas("local a, b, n = ('x'):rep(16), ('x'):rep(15) .. 'y', 0 for i = 1, 1000 do if a < b then "
          "n = n + 1 end end return n");
  const uint64_t lengthy =
      gas("local a, b, n = ('x'):rep(16000), ('x'):rep(15999) .. 'y', 0 for i = 1, 1000 do if a < "
          "b then n = n + 1 end end return n");
  EXPECT_GT(lengthy, brief + 1000 * 400);
}

// Keys that are multiples of the odd number below a power of two share one chain.
TEST_F(MachineTest, CollidingKeysCannotBeWalkedForFree) {
  const char* collide =
      "local t = {} for i = 1, 1024 do t[i * 1023 * 2047 * 4095 * 8191 + 0] = i end local last = "
      "1024 * 1023 * 2047 * 4095 * 8191 "
      "while true do local x = t[last] + t[last] + t[last] + t[last] end";
  auto begin = std::chrono::steady_clock::now();
  auto evaluation = run(collide);
  auto spent = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(evaluation.outcome, Outcome::kLimit);
  // Not a matter of speed: unpaid, this loop takes minutes.
  EXPECT_LT(std::chrono::duration<double>(spent).count(), 10.0);
}

TEST_F(MachineTest, ManyArgumentsMakeEachInstructionDearer) {
  const uint64_t few = gas(
      "local function f(...) return ... end local n = 0 for i = 1, 100 do f(1, 2, 3) end return n");
  const uint64_t many =
      gas("local t = {} for i = 1, 200 do t[i] = i end local function f(...) return select('#', "
          "...) end "
          "local function g(...) return f(..., ...) end local n = 0 for i = 1, 100 do n = "
          "f(table.unpack(t)) end return n");
  EXPECT_GT(many, few + 100 * 200);
}

TEST_F(MachineTest, GasStopsAtItsLimitToTheUnit) {
  const char* loop = "local n = 0 for i = 1, 1000 do n = n + i end return n";
  const uint64_t cost = gas(loop);
  Limits limits;
  limits.gas = cost;
  EXPECT_EQ(run(loop, limits).outcome, Outcome::kValue);
  limits.gas = cost - 1;
  auto stopped = run(loop, limits);
  EXPECT_EQ(stopped.outcome, Outcome::kLimit);
  EXPECT_EQ(stopped.gas, cost);
  limits.gas = 1;
  EXPECT_EQ(run(loop, limits).outcome, Outcome::kLimit);
}

TEST_F(MachineTest, MemoryStopsAtItsLimit) {
  Limits limits;
  limits.gas = 1'000'000'000;
  for (uint64_t memory : {uint64_t{1000}, uint64_t{200'000}, uint64_t{4} << 20}) {
    limits.memory_bytes = memory;
    auto evaluation = run("local t = {} for i = 1, 1e9 do t[i] = {i} end return 1", limits);
    EXPECT_EQ(evaluation.outcome, Outcome::kLimit);
    EXPECT_EQ(evaluation.error, "limit reached: memory");
  }
}

TEST_F(MachineTest, AnAnswerInsideOfACaughtLimitIsNoAnswer) {
  EXPECT_EQ(run("pcall(function() while true do end end) return 1").outcome, Outcome::kLimit);
  EXPECT_EQ(
      run("pcall(pcall, function() local s = ('x'):rep(9000) return s .. s end) return 1").outcome,
      Outcome::kLimit);
}

TEST(Arena, WhatWasKeptComesBack) {
  auto arena = Arena::reserve();
  ASSERT_TRUE(arena);
  auto* a = static_cast<char*>(arena->take(100));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a) & 0xffffffffu, 0u);
  std::memcpy(a, "before", 7);
  auto picture = arena->keep();
  std::memcpy(a, "after!", 7);
  auto* b = arena->take(3000);
  arena->give_back(b, 3000);
  EXPECT_EQ(arena->take(2500), b);
  arena->restore(*picture);
  EXPECT_STREQ(a, "before");
  EXPECT_EQ(arena->used(), 112u);
  EXPECT_FALSE(arena->take(Arena::kBytes + 1));
}

TEST(Evaluator, SaysWhatASingleEvaluationSays) {
  auto evaluator = Evaluator::make().take();
  std::mt19937_64 random(3);
  for (int i = 0; i < 300; ++i) {
    Json request = sample_request();
    override_member(request, "dp.epsilon_micro", Json(static_cast<int64_t>(random() % 2'000'000)));
    const std::string source =
        "return {allow = request.dp.epsilon_micro <= " + std::to_string(random() % 40 * 50'000) +
        ", reason = request.purpose}";
    auto many = evaluator->decide(source, request, sample_dataset(), sample_context());
    auto one = evaluate(source, request, sample_dataset(), sample_context());
    ASSERT_EQ(many, one);
    ASSERT_EQ(many.text(), canonical(many.to_json()));
  }
}

}  // namespace
}  // namespace souk::policy
