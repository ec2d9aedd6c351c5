// The budget as double entry: what a dataset spends stands as well with who asked and with
// what for, and each of the three may have a limit.
#include "tests/contracts/lifecycle/apply_fixture.h"

namespace souk::contracts {
namespace {

// Only the last order, cap 300, decides: the others are asked for more than they bear.
Charges charging(int64_t last) {
  return {1000, 1000, 1000, 1000, 1000, 1000, 1000, last};
}
Charges limited_to(int64_t last) {
  return {-1, -1, -1, -1, -1, -1, -1, last};
}

struct BudgetAccounts : Apply {
  void SetUp() override {
    for (const char* name : {"lab", "rival"}) world.fund(name, 100'000);
  }

  ContractId ask(const std::string& who, const std::string& purpose,
                 std::vector<DatasetId> datasets = {}) {
    auto submit = world.submit(datasets.empty() ? std::vector{first} : datasets, 400);
    submit.purpose = purpose;
    auto envelope = sign_record(submit, key_named(who), world.market());
    EXPECT_EQ(world.record(envelope), "");
    return contract_id(envelope.payload);
  }
  std::string allow(const ContractId& id, int64_t charge, std::optional<int64_t> consumer,
                    std::optional<int64_t> purpose = std::nullopt) {
    auto decision = world.allow(id);
    for (auto& grant : decision.grants) {
      grant.charges = charging(charge);
      if (consumer) grant.consumer_caps = limited_to(*consumer);
      if (purpose) grant.purpose_caps = limited_to(*purpose);
    }
    return world.record(decision, "keeper");
  }
  int64_t spent_by(const std::string& who) const {
    const auto& all = world.state().dataset(first)->consumers;
    auto it = all.find(key_named(who).public_key());
    return it == all.end() ? 0 : it->second.committed[7] + it->second.reserved[7];
  }
  template <class Accounts>
  static Charges sum(const Accounts& accounts) {
    Charges out{};
    for (const auto& [name, spent] : accounts) {
      for (size_t order = 0; order < out.size(); ++order) {
        out[order] += spent.committed[order] + spent.reserved[order];
      }
    }
    return out;
  }
  // Every posting stands three times.
  void balanced() const {
    for (const auto& [id, dataset] : world.state().datasets()) {
      Charges whole{};
      for (size_t order = 0; order < whole.size(); ++order) {
        whole[order] = dataset.budget.committed[order] + dataset.budget.reserved[order];
      }
      EXPECT_EQ(sum(dataset.consumers), whole);
      EXPECT_EQ(sum(dataset.purposes), whole);
    }
  }
};

TEST_F(BudgetAccounts, AConsumersLimitIsReachedToTheUnitAndConcernsNobodyElse) {
  EXPECT_EQ(allow(ask("lab", "a"), 60, 100), "");
  EXPECT_EQ(allow(ask("lab", "b"), 41, 100), "consumer_budget_exhausted");
  EXPECT_EQ(allow(ask("lab", "b"), 40, 100), "");
  EXPECT_EQ(allow(ask("lab", "b"), 1, 100), "consumer_budget_exhausted");
  EXPECT_EQ(allow(ask("rival", "b"), 100, 100), "");
  EXPECT_EQ(spent_by("lab"), 100);
  EXPECT_EQ(spent_by("rival"), 100);
  balanced();
  EXPECT_EQ(world.replay(7), world.state());
}

TEST_F(BudgetAccounts, APurposesLimitCountsAllConsumersTogether) {
  EXPECT_EQ(allow(ask("lab", "triage"), 60, std::nullopt, 100), "");
  EXPECT_EQ(allow(ask("rival", "triage"), 41, std::nullopt, 100), "purpose_budget_exhausted");
  EXPECT_EQ(allow(ask("rival", "research"), 41, std::nullopt, 100), "");
  EXPECT_EQ(allow(ask("rival", "triage"), 40, std::nullopt, 100), "");
  balanced();
}

TEST_F(BudgetAccounts, WhatWasSpentBeforeAPolicyNamedALimitCountsToo) {
  EXPECT_EQ(allow(ask("lab", "a"), 60, std::nullopt), "");
  EXPECT_EQ(allow(ask("lab", "a"), 41, 100), "consumer_budget_exhausted");
  EXPECT_EQ(allow(ask("lab", "a"), 40, 100), "");
  balanced();
}

TEST_F(BudgetAccounts, TheLimitsOfAConsumerNeverWidenThoseOfTheDataset) {
  EXPECT_EQ(allow(ask("lab", "a"), 301, 1000, 1000), "budget_exhausted");
  EXPECT_EQ(allow(ask("lab", "a"), 300, 1000, 1000), "");
  EXPECT_EQ(allow(ask("rival", "b"), 1, 1000, 1000), "budget_exhausted");
}

TEST_F(BudgetAccounts, EveryEndOfAContractMovesAllThreeAlike) {
  auto freed = ask("lab", "a"), ran = ask("lab", "b"), settled = ask("rival", "a"),
       stopped = ask("rival", "b");
  for (const auto& id : {freed, ran, settled, stopped}) {
    ASSERT_EQ(allow(id, 50, std::nullopt), "");
    balanced();
  }
  ASSERT_EQ(world.record(JobAbort{freed, "trainer_died"}, "keeper"), "");
  balanced();
  for (const auto& id : {ran, settled, stopped}) {
    ASSERT_EQ(world.record(world.start(id), "keeper"), "");
  }
  ASSERT_EQ(world.record(JobAbort{ran, "trainer_died"}, "keeper"), "");
  balanced();
  ASSERT_EQ(world.record(world.result(settled), "trainer"), "");
  balanced();
  Digest version = world.state().dataset(first)->policies.begin()->first;
  PolicyChange revoked{first, version, PolicyChange::Move::kRevokeStop};
  ASSERT_EQ(world.record(revoked, "hospital"), "");
  ASSERT_EQ(world.record(world.stop(stopped, 5), "trainer"), "");
  balanced();
  EXPECT_EQ(spent_by("lab"), 50);
  EXPECT_EQ(spent_by("rival"), 75);  // all of one, five steps of ten of the other
  EXPECT_EQ(budget(first).reserved, Charges{});
}

TEST_F(BudgetAccounts, PooledContractsChargeEachDatasetItsOwnOrNone) {
  auto pooled = ask("lab", "a", {first, second});
  auto decision = world.allow(pooled);
  decision.grants[0].charges = charging(10);
  decision.grants[1].charges = charging(20);
  decision.grants[1].consumer_caps = limited_to(19);
  EXPECT_EQ(decide(decision), "consumer_budget_exhausted");
  EXPECT_EQ(spent_by("lab"), 0);
  balanced();
  decision = world.allow(pooled);
  decision.grants[0].charges = charging(10);
  decision.grants[1].charges = charging(20);
  decision.grants[1].consumer_caps = limited_to(20);
  EXPECT_EQ(decide(decision), "");
  EXPECT_EQ(budget(first).reserved[7], 10);
  EXPECT_EQ(budget(second).reserved[7], 20);
  balanced();
}

}  // namespace
}  // namespace souk::contracts
