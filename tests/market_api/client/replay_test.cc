#include "market_api/client/replay.h"

#include <gtest/gtest.h>

#include "ledger/crypto/hash.h"
#include "ledger/proof/merkle.h"

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

// A keeper whose policies another engine ran, or which says so.
class KeeperOfAnotherEngine {
 public:
  explicit KeeperOfAnotherEngine(MarketFixture& market) : market_(market) {
    trainer::Claims claims = market.trainer_claims(keys_, ContractId{}, std::string(64, '0'));
    claims.role = "keeper";
    claims.contract.clear();
    keys_.evidence = trainer::simulate_evidence(market.platform(), claims);
    const contracts::KeeperBoot boot{keys_.kem.public_key(), keys_.evidence};
    record(boot);
  }
  uint64_t record(const contracts::Record& record) {
    uint64_t seq = market_.append(contracts::sign_record(record, keys_.signing, market_.market()));
    EXPECT_EQ(market_.void_of(seq), "");
    return seq;
  }
  contracts::ContractDecision decision(const DatasetId& dataset, const std::string& purpose,
                                       const trainer::EvaluatePolicy& evaluate) {
    auto submit = market_.contract({dataset});
    submit.purpose = purpose;
    const ContractId id = market_.submit(submit);
    std::vector<Digest> hashes;
    for (const auto& leaf : market_.history().leaves) hashes.push_back(ledger::leaf_hash(leaf));
    const auto& state = market_.state();
    return trainer::decide_contract(state, hashes.size(), ledger::tree_root(hashes), id,
                                    state.contract(id)->consumer, submit, {state.time()}, evaluate,
                                    {}, engine);
  }

  const Digest engine = ledger::sha256(as_bytes(policy::kEarlierSemantics[0]));

 private:
  MarketFixture& market_;
  flows::StandIn keys_;
};

policy::PolicyDecision costlier(std::string_view source, const Json& request, const Json& dataset,
                                const Json& ctx) {
  auto decision = honest(source, request, dataset, ctx);
  ++decision.gas;
  return decision;
}

// As a ledger looks after its market has gone over to another engine.
TEST(PolicyReplayOfAnotherEngine, IsToldApartFromADifference) {
  MarketFixture market;
  market.deposit(market.lab.account(), 100000);
  const char* open = "return {allow = true, price = 10, obligations = {waive_privacy = true}}";
  KeeperOfAnotherEngine keeper(market);
  auto before = market.publish(market.providers[0],
                               {.policy = open, .policy_engine = to_hex(ByteView(keeper.engine))});
  auto first = keeper.decision(before.id, "one", costlier);
  ASSERT_TRUE(first.allow) << canonical(first.reasons);
  const uint64_t seq = keeper.record(first);
  auto replay = replay_ledger_file(market.ledger_file(), {market.market(), {}}, honest);
  EXPECT_FALSE(replay.ok);
  EXPECT_TRUE(replay.whole);
  EXPECT_FALSE(replay.first_differing) << replay.reason;
  EXPECT_EQ(replay.decisions, 1u);
  EXPECT_EQ(replay.same, 0u);
  ASSERT_EQ(replay.others.size(), 1u);
  EXPECT_EQ(replay.others[0].engine, keeper.engine);
  EXPECT_EQ(replay.others[0].first, seq);
  EXPECT_EQ(replay.others[0].same_outcome, 1u);
  // Its policies can be asked what they would say now.
  ASSERT_EQ(replay.questions.size(), 1u);
  EXPECT_TRUE(replay.questions[0].recorded.allow);

  // What came of it is another matter than what it cost: that is counted apart.
  auto second = keeper.decision(before.id, "two", [](auto&&... question) {
    auto decision = costlier(question...);
    decision.price_minor = 11;
    return decision;
  });
  ASSERT_TRUE(second.allow) << canonical(second.reasons);
  keeper.record(second);
  replay = replay_ledger_file(market.ledger_file(), {market.market(), {}}, honest);
  EXPECT_FALSE(replay.first_differing) << replay.reason;
  ASSERT_EQ(replay.others.size(), 1u);
  EXPECT_EQ(replay.others[0].decisions, 2u);
  EXPECT_EQ(replay.others[0].same_outcome, 1u);
}

// To this engine a version for another one has no answer, and the refusal says what to do.
TEST(PolicyReplayOfAnotherEngine, AVersionForAnotherEngineAnswersNobody) {
  MarketFixture market;
  market.deposit(market.lab.account(), 100000);
  auto offered = market.publish(
      market.providers[0],
      {.policy = "return {allow = true, price = 10}",
       .policy_engine = to_hex(ByteView(ledger::sha256(as_bytes(policy::kEarlierSemantics[0]))))});
  ContractId id = market.submit(market.contract({offered.id}));
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  const auto& decision = *market.state().contract(id)->decision;
  EXPECT_FALSE(decision.allow);
  const std::string reasons = canonical(decision.reasons);
  EXPECT_NE(reasons.find("policy_engine"), std::string::npos) << reasons;
  EXPECT_NE(reasons.find("published and activated it for this one"), std::string::npos) << reasons;
  EXPECT_TRUE(replay_ledger_file(market.ledger_file(), {market.market(), {}}, honest).ok);
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
