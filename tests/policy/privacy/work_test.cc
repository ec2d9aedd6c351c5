// The work of accounting is counted: the same for the same question, and given up where it ends.
#include "policy/privacy/work.h"

#include <gtest/gtest.h>

#include "policy/privacy/accountant.h"
#include "policy/privacy/budget.h"

namespace souk::policy {
namespace {

constexpr uint64_t kPlenty = 1'000'000'000'000;
const Event kUsual{0.01, 1, 1000, 1}, kPersons{0.01, 2, 1000, 16};

uint64_t units_of(const Event& event) {
  WorkBudget budget(kPlenty);
  EXPECT_TRUE(budget.run([&] {
    EXPECT_TRUE(epsilon_upper(event, 1e-6));
    charges_for(event);
  }));
  return kPlenty - budget.left();
}

TEST(Work, TheSameQuestionCostsTheSameEachTimeAndLessThanADearerOne) {
  EXPECT_EQ(units_of(kUsual), units_of(kUsual));
  EXPECT_EQ(units_of(kPersons), units_of(kPersons));
  EXPECT_GT(units_of(kUsual), 100'000U);
  EXPECT_GT(units_of({0.01, 2, 1000, 1000}), units_of(kPersons));
}

TEST(Work, WhatAMarketUsuallyAsksIsFarWithinADecision) {
  constexpr uint64_t kDecision = 250'000'000;  // trainer/decision/judge.h
  for (const Event& event : {kUsual, kPersons, Event{0.05, 1.5, 5000, 1}, {0.01, 4, 2000, 32}})
    EXPECT_LT(16 * units_of(event), kDecision) << event.records;  // each of sixteen datasets
  // Rows of a person cost little more: of many rows too each of sixteen is asked.
  for (const Event& event :
       {Event{0.01, 8, 2000, 128}, {0.01, 2, 1000, 1000}, {0.01, 40, 1000, 4096}})
    EXPECT_LT(16 * units_of(event), kDecision) << event.records;
}

TEST(Work, ItIsGivenUpWhereTheUnitsEndAndNotBefore) {
  const uint64_t needed = units_of(kPersons);
  auto ask = [] {
    EXPECT_TRUE(epsilon_upper(kPersons, 1e-6));
    charges_for(kPersons);
  };
  WorkBudget enough(needed), less(needed - 1);
  EXPECT_TRUE(enough.run(ask));
  EXPECT_TRUE(enough.used_up());
  EXPECT_FALSE(less.run(ask));
  EXPECT_TRUE(less.used_up());
  EXPECT_FALSE(less.run(ask)) << "and stays used up";
}

TEST(Work, ItIsFreeOutsideAndAnInnerBudgetPaysForItself) {
  EXPECT_TRUE(epsilon_upper(kPersons, 1e-6));
  WorkBudget outer(1000), inner(kPlenty);
  EXPECT_TRUE(outer.run([&] {
    EXPECT_TRUE(inner.run([] { EXPECT_TRUE(epsilon_upper(kPersons, 1e-6)); }));
    WorkBudget::pay(1000);
  }));
  EXPECT_TRUE(outer.used_up());
  EXPECT_LT(inner.left(), kPlenty);
}

}  // namespace
}  // namespace souk::policy
