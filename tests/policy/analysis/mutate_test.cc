#include "policy/analysis/mutate.h"

#include <gtest/gtest.h>

#include <set>

#include "policy/decide/decide.h"
#include "tests/policy/samples.h"

namespace souk::policy::analysis {
namespace {

using namespace samples;

const std::string kPolicy = R"(local r = rules()
r.require(request.epochs <= 20, "epochs")
r.require(contains({ "medical-research", "teaching" }, request.purpose), "purpose")
if request.dp.epsilon_micro > 1000000 and request.payment < 9000 then r.deny("price") end
return r.decision { price = 5 }
)";

bool allows(const std::string& source, int64_t epochs, const char* purpose, int64_t epsilon,
            int64_t payment) {
  Json request = sample_request();
  override_member(request, "epochs", Json(epochs));
  override_member(request, "purpose", Json(purpose));
  override_member(request, "dp.epsilon_micro", Json(epsilon));
  override_member(request, "payment", Json(payment));
  return evaluate(source, request, sample_dataset(), sample_context()).allowed();
}

TEST(Mutate, EveryMutantIsLuaAndOneChangeAway) {
  auto mutants = mutants_of(kPolicy);
  ASSERT_TRUE(mutants) << mutants.error().expected();
  std::set<std::string> sources, operations;
  for (const Mutant& mutant : *mutants) {
    EXPECT_TRUE(check_source(mutant.source)) << mutant.source;
    EXPECT_NE(mutant.source, kPolicy);
    EXPECT_TRUE(sources.insert(mutant.source).second);
    EXPECT_GE(mutant.line, 1u);
    operations.insert(mutant.operation);
  }
  EXPECT_GE(mutants->size(), 20u);
  for (const char* wanted : {"comparison", "constant", "logic", "drop_rule", "always_rule"})
    EXPECT_TRUE(operations.count(wanted)) << wanted;
}

TEST(Mutate, TestsThatMissABorderLetItsMutantLive) {
  auto good = [](const std::string& source) {
    auto decision = evaluate(source, sample_request(), sample_dataset(), sample_context());
    return allows(source, 20, "medical-research", 800'000, 6000) &&
           allows(source, 20, "teaching", 800'000, 6000) &&
           !allows(source, 21, "teaching", 800'000, 6000) &&
           !allows(source, 20, "research", 800'000, 6000) &&
           allows(source, 20, "teaching", 1'000'000, 6000) &&
           !allows(source, 20, "teaching", 1'000'001, 8999) &&
           allows(source, 20, "teaching", 1'000'001, 9000) && decision.price_minor == 5;
  };
  ASSERT_TRUE(good(kPolicy));
  auto all = mutation_report(kPolicy, good);
  ASSERT_TRUE(all);
  for (const Mutant& mutant : all->survivors)
    ADD_FAILURE() << "line " << mutant.line << ": " << mutant.before << " -> " << mutant.after;

  // Without the case at the border of epochs, exactly what is about that border lives.
  auto lax = [](const std::string& source) {
    return allows(source, 5, "medical-research", 800'000, 6000) &&
           !allows(source, 50, "teaching", 800'000, 6000);
  };
  auto some = mutation_report(kPolicy, lax);
  ASSERT_TRUE(some);
  EXPECT_LT(some->score(), 0.7);
  bool border = false, rule = false;
  for (const Mutant& mutant : some->survivors) {
    border = border || (mutant.line == 2 && mutant.before == "<=" && mutant.after == "<");
    rule = rule || (mutant.line == 3 && mutant.operation == "drop_rule");
  }
  EXPECT_TRUE(border);
  EXPECT_TRUE(rule);
  EXPECT_EQ(some->killed + some->survivors.size(), some->mutants);
}

TEST(Mutate, WhatIsNoLuaIsNamed) {
  EXPECT_FALSE(mutants_of("return {"));
}

}  // namespace
}  // namespace souk::policy::analysis
