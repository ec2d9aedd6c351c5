// Whose contract is next, as the recorded state says.
#include "market_api/verbs/order.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/contracts/market_world.h"

namespace souk::market {
namespace {

using contracts::ContractSubmit;
using contracts::key_named;
using contracts::World;

class Order : public ::testing::Test {
 protected:
  Order() : priced(world.publish("north", "cells", 200)), free(world.publish("south", "sand", 0)) {}

  ContractId submit(const std::string& who, const DatasetId& dataset, contracts::Minor offered) {
    auto envelope =
        contracts::sign_record(world.submit({dataset}, offered), key_named(who), world.market());
    EXPECT_EQ(world.record(envelope), "");
    return contracts::contract_id(envelope.payload);
  }
  ContractId decided(const ContractId& id) {
    EXPECT_EQ(world.record(world.allow(id), "keeper"), "");
    return id;
  }
  void start(const ContractId& id) { EXPECT_EQ(world.record(world.start(id), "keeper"), ""); }
  static std::vector<ContractId> ids(const std::vector<const contracts::Contract*>& contracts) {
    std::vector<ContractId> out;
    for (const auto* contract : contracts) out.push_back(contract->id);
    return out;
  }
  std::vector<ContractId> decisions() const { return ids(to_decide(world.state(), rota)); }
  std::vector<ContractId> trainings() const { return ids(to_train(world.state(), rota)); }
  PublicKey account(const std::string& who) const { return key_named(who).public_key(); }
  Status room(const std::string& who, contracts::Minor offered) const {
    return room_to_wait(world.state(), account(who), world.submit({free}, offered));
  }
  using Ids = std::vector<ContractId>;

  World world;
  Rota rota;
  DatasetId priced, free;
};

TEST_F(Order, OneConsumersContractsAreDecidedAsTheyWereRecordedWhateverTheirIds) {
  Ids recorded;
  for (int i = 0; i < 12; ++i) recorded.push_back(submit("lab", free, 0));
  EXPECT_FALSE(std::is_sorted(recorded.begin(), recorded.end())) << "the test shows nothing";
  EXPECT_EQ(decisions(), recorded);
}

TEST_F(Order, ThoseWhoseBalanceCoversWhatTheyOfferComeBeforeThoseWhoPayNothing) {
  world.fund("lab", 200);
  world.fund("rich", 1000);
  auto nothing = submit("rich", free, 0);
  auto empty_promise = submit("poor", priced, 200);
  auto too_much = submit("lab", priced, 201);
  auto covered = submit("lab", priced, 200);
  EXPECT_EQ(decisions(), (Ids{covered, nothing, empty_promise, too_much}));
}

TEST_F(Order, WhoeverWasServedLeastRecentlyIsDecidedNext) {
  auto a1 = submit("a", free, 0), a2 = submit("a", free, 0), a3 = submit("a", free, 0);
  auto b1 = submit("b", free, 0), b2 = submit("b", free, 0), c1 = submit("c", free, 0);
  Ids served;
  while (!decisions().empty()) served.push_back(decided(decisions().front()));
  EXPECT_EQ(served, (Ids{a1, b1, c1, a2, b2, a3}));
}

TEST_F(Order, ATurnThatNothingCameOfIsATurn) {
  auto a1 = submit("a", free, 0), a2 = submit("a", free, 0), b1 = submit("b", free, 0),
       c1 = submit("c", free, 0);
  rota.took(account("a"), world.state().size());
  EXPECT_EQ(decisions(), (Ids{b1, c1, a1, a2}));
  rota.took(account("b"), world.state().size());  // at the same size, and yet later
  EXPECT_EQ(decisions(), (Ids{c1, a1, a2, b1}));
  rota.took(account("c"), world.state().size());
  EXPECT_EQ(decisions(), (Ids{a1, a2, b1, c1}));
}

TEST_F(Order, WhatExpiredUndecidedIsDecidedLast) {
  auto late = submit("a", free, 0);
  world.pass(TimeMs{1000} * 3'600'000);
  auto now = submit("b", free, 0);
  ASSERT_EQ(world.contract(late).phase, contracts::Phase::kExpired);
  EXPECT_EQ(decisions(), (Ids{now, late}));
}

TEST_F(Order, ConsumersWhoHavePaidTakeTurnsAtTheTrainerBeforeThoseWhoHaveNot) {
  world.fund("lab", 1000);
  world.fund("clinic", 1000);
  auto hog1 = decided(submit("hog", free, 0)), hog2 = decided(submit("hog", free, 0));
  auto lab1 = decided(submit("lab", priced, 200)), lab2 = decided(submit("lab", priced, 200));
  auto clinic1 = decided(submit("clinic", priced, 200));
  EXPECT_EQ(trainings(), (Ids{lab1, lab2, clinic1, hog1, hog2}));
  Ids started;
  while (!trainings().empty()) {
    started.push_back(trainings().front());
    start(started.back());
  }
  EXPECT_EQ(started, (Ids{lab1, clinic1, lab2, hog1, hog2}));
}

TEST_F(Order, ARunGivesWayToAnotherConsumerThatHasPaidMoreAndToNobodyElse) {
  world.fund("lab", 1000);
  world.fund("clinic", 1000);
  auto hog = decided(submit("hog", free, 0));
  auto lab = decided(submit("lab", priced, 200));
  start(hog);
  start(lab);
  auto gives_way = [&](const ContractId& id) {
    return pays_less_than_another(world.state(), world.contract(id));
  };
  EXPECT_FALSE(gives_way(hog)) << "nobody waits";
  decided(submit("another", free, 0));
  EXPECT_FALSE(gives_way(hog)) << "who waits pays as little";
  decided(submit("lab", priced, 200));
  EXPECT_TRUE(gives_way(hog));
  EXPECT_FALSE(gives_way(lab)) << "its own";
  decided(submit("clinic", priced, 200));
  EXPECT_FALSE(gives_way(lab)) << "as much is not more";
  submit("clinic", priced, 500);
  EXPECT_FALSE(gives_way(lab)) << "not in escrow";
}

TEST_F(Order, AKeyWithoutMoneyHasFewContractsWaitingAndAllSuchKeysTogetherAreBounded) {
  for (size_t i = 0; i < kUnpaidOfOne; ++i) {
    ASSERT_TRUE(room("stranger 0", 0));
    submit("stranger 0", free, 0);
  }
  auto refused = room("stranger 0", 0);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::kTryAgain);
  EXPECT_FALSE(room("stranger 0", 1000)) << "an offer that nothing covers is no money";
  for (size_t i = kUnpaidOfOne; i < kUnpaidOfAll; ++i) {
    std::string who = "stranger " + std::to_string(i / (kUnpaidOfOne - 1) + 1);
    ASSERT_TRUE(room(who, 0));
    submit(who, free, 0);
  }
  EXPECT_FALSE(room("one more stranger", 0));
  // Who has money is not in that number.
  world.fund("lab", 100);
  EXPECT_TRUE(room("lab", 100));
  EXPECT_TRUE(room("lab", 0));
  // Decided ones wait no more.
  decided(decisions().front());
  EXPECT_TRUE(room("one more stranger", 0));
}

TEST_F(Order, SixtyFourContractsOfOneThatHasMoneyMayWaitThoughItIsNotEnoughForAll) {
  world.fund("lab", 500);
  for (int i = 0; i < 64; ++i) {
    ASSERT_TRUE(room("lab", 200));
    submit("lab", priced, 200);
  }
  decided(decisions().front());
  decided(decisions().front());
  ASSERT_EQ(world.balance("lab"), 100);
  EXPECT_TRUE(room("lab", 200)) << "the rest is in escrow";
  for (size_t i = 62; i < kUnpaidOfFunded; ++i) submit("lab", priced, 200);
  EXPECT_FALSE(room("lab", 200));
  EXPECT_TRUE(room("lab", 100)) << "this one is covered";
}

}  // namespace
}  // namespace souk::market
