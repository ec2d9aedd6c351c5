// A policy in its jail may end in every way a process can end: the answer is no.
#include <gtest/gtest.h>

#include "policy/jail/worker.h"
#include "tests/support/market_fixture.h"

namespace souk::flows {
namespace {

using trainer::Kind;

// Helpers are forked before any thread of the fixture starts.
class Helpers : public ::testing::Environment {
 public:
  void SetUp() override {
    honest = policy::start_lua_nursery().take();
    crashing =
        policy::Nursery::start([](std::string_view) -> std::string { __builtin_trap(); }).take();
    hanging = policy::Nursery::start([](std::string_view) -> std::string {
                volatile int spin = 0;
                while (true) spin = spin + 1;
              }).take();
    lying =
        policy::Nursery::start([](std::string_view) -> std::string { return "allowed"; }).take();
    silent = policy::Nursery::start([](std::string_view) -> std::string { return ""; }).take();
  }
  void TearDown() override {
    honest.reset();
    crashing.reset();
    hanging.reset();
    lying.reset();
    silent.reset();
  }
  std::unique_ptr<policy::Nursery> honest, crashing, hanging, lying, silent;
};
Helpers* helpers = dynamic_cast<Helpers*>(::testing::AddGlobalTestEnvironment(new Helpers));

trainer::EvaluatePolicy jailed(policy::Nursery& nursery, int wall_ms = policy::kPolicyWallMs) {
  return [&nursery, wall_ms](std::string_view source, const Json& request, const Json& dataset,
                             const Json& ctx) {
    return policy::evaluate_jailed(nursery, source, request, dataset, ctx, {}, wall_ms);
  };
}

// The decision of a keeper that runs policies there.
contracts::ContractDecision decision_of(trainer::EvaluatePolicy evaluate,
                                        const std::string& policy = kFriendlyPolicy) {
  MarketFixture market;
  market.set_policy_runner(std::move(evaluate));
  market.restart_keeper();
  auto dataset = market.publish(market.providers[0], {.policy = policy});
  market.deposit(market.lab.account(), 1000);
  ContractId id = market.submit(market.contract({dataset.id}));
  EXPECT_TRUE(market.record(Kind::kDecide, id));
  auto decision = *market.state().contract(id)->decision;
  if (!decision.allow) {
    EXPECT_EQ(refused(market.keeper().about(Kind::kChallenge, id)), Code::kRefused);
    EXPECT_EQ(market.state().balance(market.lab.account()), 1000);
  }
  return decision;
}

TEST(PolicyInJail, AnHonestWorkerAllows) {
  EXPECT_TRUE(decision_of(jailed(*helpers->honest)).allow);
}

TEST(PolicyInJail, TheJailAnswersWhatTheOpenEvaluationAnswers) {
  for (const char* policy : {kFriendlyPolicy, "return {allow = true, price = 3}", "error('x')",
                             "return {allow = false, reason = 'no'}", "while true do end"}) {
    auto inside = decision_of(jailed(*helpers->honest), policy);
    auto outside = decision_of([](auto&&... all) { return policy::evaluate(all...); }, policy);
    EXPECT_EQ(inside.status, outside.status) << policy;
    EXPECT_EQ(inside.price, outside.price) << policy;
    EXPECT_EQ(canonical(inside.reasons), canonical(outside.reasons)) << policy;
  }
}

TEST(PolicyInJail, ACrashIsADeny) {
  auto decision = decision_of(jailed(*helpers->crashing));
  EXPECT_FALSE(decision.allow);
  EXPECT_EQ(decision.status, "error");
}

TEST(PolicyInJail, AHangIsADeny) {
  auto decision = decision_of(jailed(*helpers->hanging, 300));
  EXPECT_FALSE(decision.allow);
  EXPECT_EQ(decision.status, "limit");
}

TEST(PolicyInJail, AnAnswerThatIsNoDecisionIsADeny) {
  EXPECT_FALSE(decision_of(jailed(*helpers->lying)).allow);
  EXPECT_FALSE(decision_of(jailed(*helpers->silent)).allow);
}

TEST(PolicyInJail, MemoryAndTimeRunOutAsADeny) {
  EXPECT_EQ(decision_of(jailed(*helpers->honest), "while true do end").status, "limit");
  EXPECT_EQ(decision_of(jailed(*helpers->honest),
                        "local t = {} while true do t[#t + 1] = ('x'):rep(9999) .. #t end")
                .status,
            "limit");
  EXPECT_EQ(
      decision_of(jailed(*helpers->honest), "local function f() return f() + 1 end return f()")
          .allow,
      false);
}

TEST(PolicyInJail, TheNextPolicyIsUnaffected) {
  EXPECT_FALSE(decision_of(jailed(*helpers->crashing)).allow);
  EXPECT_FALSE(decision_of(jailed(*helpers->crashing)).allow);
  EXPECT_TRUE(decision_of(jailed(*helpers->honest)).allow);
}

}  // namespace
}  // namespace souk::flows
