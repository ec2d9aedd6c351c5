// Versions of policies: who may move them, what they answer, what a revocation ends.
#include <gtest/gtest.h>

#include "tests/contracts/market_world.h"

namespace souk::contracts {
namespace {

using Move = PolicyChange::Move;
using Standing = PolicyVersion::Standing;

class PolicyVersions : public ::testing::Test {
 protected:
  PolicyVersions() {
    dataset = world.publish("hospital", "wdbc", 40);
    world.fund("lab", 500);
    first = world.state().dataset(dataset)->policies.begin()->first;
    second = policy_version(kStricter, Json::Object{}, "");
  }

  std::string publish_second() {
    return world.record(PolicyPublish{dataset, kStricter, Json::Object{}, ""}, "hospital");
  }
  std::string change(const Digest& version, Move move, const std::string& who = "hospital") {
    return world.record(PolicyChange{dataset, version, move}, who);
  }
  Standing standing(const Digest& version) const {
    return world.state().dataset(dataset)->policies.at(version).standing;
  }
  ContractId order(std::vector<Digest> pins) {
    auto submit = world.submit({dataset}, 100);
    submit.policies = std::move(pins);
    auto envelope = sign_record(submit, key_named("lab"), world.market());
    EXPECT_EQ(world.record(envelope), "");
    return contract_id(envelope.payload);
  }
  std::string allow(const ContractId& contract) {
    return world.record(world.allow(contract), "keeper");
  }

  static constexpr const char* kStricter = "return function() return false end";
  World world;
  DatasetId dataset;
  Digest first{}, second{};
};

TEST_F(PolicyVersions, AnOfferActivatesItsOwnPolicy) {
  const auto& policies = world.state().dataset(dataset)->policies;
  ASSERT_EQ(policies.size(), 1u);
  EXPECT_EQ(standing(first), Standing::kActive);
  EXPECT_EQ(policies.at(first).source, world.state().dataset(dataset)->manifest.policy);
  auto id = order({});
  EXPECT_EQ(allow(id), "");
  EXPECT_EQ(world.contract(id).policies, std::vector<Digest>{first});
}

TEST_F(PolicyVersions, AVersionIsNamedBySourceParametersAndEngine) {
  Digest base = policy_version("return 1", Json::Object{{"least", 2}}, "e1");
  EXPECT_NE(policy_version("return 2", Json::Object{{"least", 2}}, "e1"), base);
  EXPECT_NE(policy_version("return 1", Json::Object{{"least", 3}}, "e1"), base);
  EXPECT_NE(policy_version("return 1", Json::Object{{"least", 2}}, "e2"), base);
  EXPECT_EQ(policy_version("return 1", Json::Object{{"least", 2}}, "e1"), base);
}

TEST_F(PolicyVersions, OnlyTheProviderMovesThemAndEachMoveHasItsPlace) {
  EXPECT_EQ(world.record(PolicyPublish{dataset, kStricter, Json::Object{}, ""}, "lab"),
            "not_the_provider");
  EXPECT_EQ(world.record(PolicyPublish{DatasetId(digest_named("x")), kStricter, Json::Object{}, ""},
                         "hospital"),
            "unknown_dataset");
  EXPECT_EQ(change(second, Move::kActivate), "policy_unknown");
  EXPECT_EQ(publish_second(), "");
  EXPECT_EQ(publish_second(), "already_published");
  EXPECT_EQ(standing(second), Standing::kPublished);
  EXPECT_EQ(change(second, Move::kDeprecate), "policy_not_active");
  EXPECT_EQ(change(second, Move::kActivate, "keeper"), "not_the_provider");
  EXPECT_EQ(change(second, Move::kActivate), "");
  EXPECT_EQ(change(second, Move::kActivate), "policy_active");
  EXPECT_EQ(standing(first), Standing::kDeprecated);
  EXPECT_EQ(standing(second), Standing::kActive);
  EXPECT_EQ(change(first, Move::kRevokeNoNew), "");
  EXPECT_EQ(change(first, Move::kActivate), "policy_revoked");
  EXPECT_EQ(change(first, Move::kRevokeNoNew), "policy_revoked");
  EXPECT_EQ(change(first, Move::kRevokeDestroy), "");  // a revocation may become stronger
  EXPECT_EQ(change(first, Move::kRevokeStop), "policy_revoked");
}

TEST_F(PolicyVersions, AContractIsDecidedUnderTheVersionItWasQuotedOrNotAtAll) {
  auto pinned = order({first});
  auto loose = order({});
  auto unborn = order({second});
  EXPECT_EQ(allow(unborn), "policy_unknown");
  ASSERT_EQ(publish_second(), "");
  EXPECT_EQ(allow(unborn), "policy_not_active");
  ASSERT_EQ(change(second, Move::kActivate), "");
  EXPECT_EQ(allow(pinned), "");  // deprecated meanwhile, and still what was quoted
  EXPECT_EQ(world.contract(pinned).policies, std::vector<Digest>{first});
  EXPECT_EQ(allow(loose), "");
  EXPECT_EQ(world.contract(loose).policies, std::vector<Digest>{second});
  EXPECT_EQ(allow(loose), "not_submitted");  // one decision, and no second one
  EXPECT_EQ(world.record(world.deny(loose), "keeper"), "not_submitted");

  auto late = order({first});
  ASSERT_EQ(change(first, Move::kRevokeNoNew), "");
  EXPECT_EQ(allow(late), "policy_revoked");
  EXPECT_EQ(world.record(world.deny(late), "keeper"),
            "");  // refused, and that is on the ledger as well
  ASSERT_EQ(change(second, Move::kDeprecate), "");
  auto nobody = order({});
  EXPECT_EQ(allow(nobody), "policy_not_active");
}

TEST_F(PolicyVersions, ADecisionMadeBeforeAVersionMovedIsStale) {
  auto id = order({});
  auto before = world.allow(id);
  ASSERT_EQ(publish_second(), "");
  EXPECT_EQ(world.record(before, "keeper"), "stale");
  before = world.allow(id);
  ASSERT_EQ(change(second, Move::kActivate), "");
  EXPECT_EQ(world.record(before, "keeper"), "stale");
}

TEST_F(PolicyVersions, RevokingForNewOnesLetsARunEndAndFreesWhatHasNotBegun) {
  auto waiting = order({}), running = order({});
  ASSERT_EQ(allow(waiting), "");
  ASSERT_EQ(allow(running), "");
  ASSERT_EQ(world.record(world.start(running), "keeper"), "");
  Minor paid = world.balance("lab");
  ASSERT_EQ(change(first, Move::kRevokeNoNew), "");
  EXPECT_EQ(world.contract(waiting).phase, Phase::kRefunded);
  EXPECT_EQ(world.contract(waiting).ended_because, "policy_revoked");
  EXPECT_EQ(world.balance("lab"), paid + 40);
  EXPECT_EQ(world.state().dataset(dataset)->budget.holders.size(), 1u);
  EXPECT_EQ(world.record(world.result(running), "trainer"), "");
  EXPECT_EQ(world.contract(running).phase, Phase::kSettled);
  EXPECT_FALSE(world.contract(running).destroyed);
}

TEST_F(PolicyVersions, StoppingReturnsTheMoneyAtOnceAndHoldsTheBudgetUntilTheTrainerHasStopped) {
  auto running = order({});
  ASSERT_EQ(allow(running), "");
  ASSERT_EQ(world.record(world.start(running), "keeper"), "");
  auto result = world.result(running);
  auto reserved = world.state().dataset(dataset)->budget.reserved;
  ASSERT_EQ(change(first, Move::kRevokeStop), "");
  EXPECT_EQ(world.contract(running).phase, Phase::kStopping);
  EXPECT_EQ(world.balance("lab"), 500);
  EXPECT_EQ(world.state().dataset(dataset)->budget.reserved, reserved);
  // A host that kept the revocation from the trainer has its result in vain.
  EXPECT_EQ(world.record(result, "trainer"), "not_running");
  world.pass(3'600'000);
  ASSERT_EQ(world.record(Tick{}, "keeper"), "");
  EXPECT_EQ(world.contract(running).phase, Phase::kRefunded);
  EXPECT_EQ(world.state().dataset(dataset)->budget.committed, reserved);  // the maximum
  EXPECT_EQ(world.record(world.stop(running, 2), "trainer"), "not_stopping");
}

TEST_F(PolicyVersions, OnlyItsTrainerProvesThatAStoppedRunSpentLessAndNeverThatItSpentMore) {
  auto running = order({});
  ASSERT_EQ(allow(running), "");
  ASSERT_EQ(world.record(world.start(running), "keeper"), "");
  auto reserved = world.state().dataset(dataset)->budget.reserved;
  EXPECT_EQ(world.record(world.stop(running, 4), "trainer"), "not_stopping");
  ASSERT_EQ(change(first, Move::kRevokeStop), "");
  auto stop = world.stop(running, 4);
  EXPECT_EQ(world.record(stop, "keeper"), "not_the_trainer");
  EXPECT_EQ(world.record(stop, "lab"), "not_the_trainer");
  auto wrong = stop;
  wrong.job_start = digest_named("another");
  EXPECT_EQ(world.record(wrong, "trainer"), "wrong_start");
  wrong = stop;
  wrong.steps = world.contract(running).submit.spec.steps + 1;
  EXPECT_EQ(world.record(wrong, "trainer"), "too_many_steps");
  wrong = stop;
  wrong.spent[0].dataset = DatasetId(digest_named("another"));
  EXPECT_EQ(world.record(wrong, "trainer"), "wrong_grants");
  wrong = stop;
  wrong.spent.push_back(wrong.spent[0]);
  EXPECT_EQ(world.record(wrong, "trainer"), "wrong_grants");
  wrong = stop;
  wrong.spent[0].charges[7] = reserved[7] + 1;
  EXPECT_EQ(world.record(wrong, "trainer"), "over_reserved");
  EXPECT_EQ(world.state().dataset(dataset)->budget.reserved, reserved);

  ASSERT_EQ(world.record(stop, "trainer"), "");
  const auto& budget = world.state().dataset(dataset)->budget;
  EXPECT_EQ(budget.reserved, Charges{});
  EXPECT_EQ(budget.committed, stop.spent[0].charges);
  EXPECT_EQ(budget.committed[7], 28);  // of 70, at four steps of ten
  EXPECT_EQ(budget.epsilon_micro_committed, 360'000);
  EXPECT_EQ(world.contract(running).phase, Phase::kRefunded);
  EXPECT_EQ(world.record(stop, "trainer"), "not_stopping");
  EXPECT_EQ(world.replay(2), world.state());
}

TEST_F(PolicyVersions, DestroyingAlsoMarksModelsThatAreDone) {
  auto done = order({});
  ASSERT_EQ(allow(done), "");
  ASSERT_EQ(world.record(world.start(done), "keeper"), "");
  ASSERT_EQ(world.record(world.result(done), "trainer"), "");
  ASSERT_EQ(publish_second(), "");
  ASSERT_EQ(change(second, Move::kActivate), "");
  auto other = order({});
  ASSERT_EQ(allow(other), "");
  ASSERT_EQ(change(first, Move::kRevokeDestroy), "");
  EXPECT_EQ(world.contract(done).phase, Phase::kSettled);
  EXPECT_TRUE(world.contract(done).destroyed);
  EXPECT_EQ(world.contract(other).phase, Phase::kEscrowed);  // under another version
  EXPECT_FALSE(world.contract(other).destroyed);
  EXPECT_EQ(world.replay(3), world.state());
}

TEST_F(PolicyVersions, AnAttemptThatNobodyDecidedInTimeIsRefusedAfterwardsOnceAndNeverAllowed) {
  auto id = order({});
  world.pass(3'600'000);
  ASSERT_EQ(world.record(Tick{}, "keeper"), "");
  ASSERT_EQ(world.contract(id).phase, Phase::kExpired);
  EXPECT_EQ(allow(id), "expired");
  EXPECT_EQ(world.record(world.deny(id), "lab"), "not_the_keeper");
  EXPECT_EQ(world.record(world.deny(id), "keeper"), "");
  EXPECT_EQ(world.contract(id).phase, Phase::kExpired);
  EXPECT_FALSE(world.contract(id).decision->allow);
  EXPECT_EQ(world.record(world.deny(id), "keeper"), "not_submitted");
  EXPECT_EQ(world.replay(1), world.state());
}

TEST_F(PolicyVersions, AnOfferThatNamesItsEngineHasAVersionOfItsOwn) {
  auto offer = world.offer("bound", 1);
  offer.manifest.policy_engine = std::string(64, 'e');
  ASSERT_EQ(world.record(offer, "hospital"), "");
  const auto& versions = world.state().dataset(dataset_id(offer.manifest))->policies;
  auto named = policy_version(offer.manifest.policy, Json::Object{}, std::string(64, 'e'));
  EXPECT_EQ(versions.count(named), 1u);
  EXPECT_NE(named, policy_version(offer.manifest.policy, Json::Object{}, ""));
}

}  // namespace
}  // namespace souk::contracts
