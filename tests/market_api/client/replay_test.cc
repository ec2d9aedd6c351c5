#include "market_api/client/replay.h"

#include <gtest/gtest.h>

#include "tests/ledger/raw_file.h"
#include "tests/support/market_fixture.h"

namespace souk::market {
namespace {

using flows::MarketFixture;
using trainer::Kind;

policy::PolicyDecision honest(std::string_view source, const Json& request, const Json& dataset,
                              const Json& ctx) {
  return policy::evaluate(source, request, dataset, ctx);
}

class PolicyReplayTest : public ::testing::Test {
 protected:
  PolicyReplayTest() {
    auto open = market_.publish(market_.providers[0],
                                {.policy = "return {allow = true, price = 10, obligations = "
                                           "{max_steps = 1000000, waive_privacy = true}}"});
    auto closed = market_.publish(
        market_.providers[1], {.policy = "return {allow = request.epochs < 0, reason = 'never'}"});
    market_.deposit(market_.lab.account(), 100000);
    for (const auto& names : {std::vector<DatasetId>{open.id}, std::vector<DatasetId>{closed.id},
                              std::vector<DatasetId>{open.id, closed.id}}) {
      auto submit = market_.contract(names);
      submit.purpose = "purpose " + std::to_string(decisions_.size());
      ContractId id = market_.submit(submit);
      auto seq = market_.record(Kind::kDecide, id);
      EXPECT_TRUE(seq);
      decisions_.push_back(*seq);
    }
  }
  MarketFixture market_;
  std::vector<uint64_t> decisions_;
};

TEST_F(PolicyReplayTest, ARecordedMarketComesOutAsRecorded) {
  auto replay = replay_ledger_file(market_.ledger_file(), {market_.market(), {}}, honest);
  EXPECT_TRUE(replay.ok) << replay.reason;
  EXPECT_EQ(replay.decisions, 3u);
  EXPECT_EQ(replay.same, 3u);
  ASSERT_EQ(replay.questions.size(), 4u);
  EXPECT_EQ(replay.questions[0].seq, decisions_[0]);
  EXPECT_TRUE(replay.questions[0].answer.allowed());
  EXPECT_FALSE(replay.questions[1].answer.allowed());
}

TEST_F(PolicyReplayTest, AnEngineThatDecidesOtherwiseIsNamedWithItsFirstDecision) {
  int asked = 0;
  auto other = [&](std::string_view source, const Json& request, const Json& dataset,
                   const Json& ctx) {
    auto decision = honest(source, request, dataset, ctx);
    if (++asked > 1) ++decision.gas;
    return decision;
  };
  auto replay = replay_ledger_file(market_.ledger_file(), {market_.market(), {}}, other);
  EXPECT_FALSE(replay.ok);
  EXPECT_EQ(replay.same, 1u);
  EXPECT_EQ(replay.first_differing, decisions_[1]);
  EXPECT_NE(replay.reason.find("inputs: recorded"), std::string::npos) << replay.reason;
}

// The market's own machine was too slow for one policy, and another's worker died.
TEST(PolicyReplayOfInterruptions, WhatWasStoppedFromOutsideIsTakenFromTheRecordAndNothingElse) {
  MarketFixture market;
  int asked = 0;
  market.set_policy_runner(
      [&](std::string_view source, const Json& request, const Json& dataset, const Json& ctx) {
        auto stopped = [&](policy::DecisionStatus status) {
          return policy::interrupted(status, policy::hashes_of(source, request, dataset, ctx),
                                     policy::names_of(dataset));
        };
        ++asked;
        if (asked == 1) return stopped(policy::DecisionStatus::kLimit);
        if (asked == 4) return stopped(policy::DecisionStatus::kError);
        return honest(source, request, dataset, ctx);
      });
  market.restart_keeper();
  const char* open = "return {allow = true, price = 10, obligations = {waive_privacy = true}}";
  auto first = market.publish(market.providers[0], {.policy = open});
  auto second = market.publish(market.providers[1], {.policy = open});
  market.deposit(market.lab.account(), 100000);
  std::vector<uint64_t> decisions;
  for (int i = 0; i < 3; ++i) {
    auto submit = market.contract({first.id, second.id});
    submit.purpose = "purpose " + std::to_string(i);
    auto seq = market.record(Kind::kDecide, market.submit(submit));
    ASSERT_TRUE(seq);
    decisions.push_back(*seq);
  }
  ASSERT_EQ(asked, 6);
  auto replay = replay_ledger_file(market.ledger_file(), {market.market(), {}}, honest);
  EXPECT_TRUE(replay.ok) << replay.reason;
  EXPECT_EQ(replay.decisions, 3u);
  EXPECT_EQ(replay.same, 3u);
  EXPECT_EQ(replay.interrupted, 2u);
  ASSERT_EQ(replay.questions.size(), 6u);
  EXPECT_FALSE(replay.questions[0].answer.allowed());
  // The other policy of the same decision is asked again.
  int again = 0;
  auto other = [&](std::string_view source, const Json& request, const Json& dataset,
                   const Json& ctx) {
    auto decision = honest(source, request, dataset, ctx);
    if (++again == 1) ++decision.gas;
    return decision;
  };
  replay = replay_ledger_file(market.ledger_file(), {market.market(), {}}, other);
  EXPECT_EQ(replay.first_differing, decisions[0]) << replay.reason;
  EXPECT_EQ(again, 4);
}

TEST_F(PolicyReplayTest, AChangedEntryIsNamed) {
  const std::string file = market_.ledger_file();
  ASSERT_TRUE(replay_ledger_file(file, {market_.market(), {}}, honest).ok);
  ASSERT_TRUE(ledger::test::raw_sql(file, ledger::test::kDropGuards));
  {
    ledger::test::RawLeaves leaves(file);
    Bytes leaf = leaves.read(decisions_[1]);
    leaf[leaf.size() / 2] ^= 1;
    leaves.write(decisions_[1], leaf);
  }
  auto replay = replay_ledger_file(file, {market_.market(), {}}, honest);
  EXPECT_FALSE(replay.ok);
  EXPECT_EQ(replay.first_differing, decisions_[1]) << replay.reason;
  EXPECT_NE(replay.reason.find("not whole"), std::string::npos) << replay.reason;
}

}  // namespace
}  // namespace souk::market
