// Many contracts want the last of one budget at once. Whatever the order of their entries, no
// unit more than the cap is ever reserved and committed together.
#include "policy/privacy/budget.h"
#include "tests/contracts/lifecycle/apply_fixture.h"

namespace souk::contracts {
namespace {

// Only the last order, cap 300, decides: the others are asked for more than they bear.
constexpr Charges kEach = {0, 51, 101, 201, 301, 301, 301, 37};
constexpr int64_t kFit = 300 / 37;

struct Contention : Apply {
  std::vector<ContractId> contracts;

  void SetUp() override {
    world.fund("lab", 1'000'000);
    for (int i = 0; i < 64; ++i) contracts.push_back(world.order("lab", {first}, 200));
  }

  // One decision for every waiting contract, all made on the same head and recorded together,
  // as 64 keeper threads that raced would.
  int64_t decide_all_at_once() {
    int64_t waiting = 0;
    for (const auto& id : contracts) {
      if (world.contract(id).phase != Phase::kSubmitted) continue;
      auto decision = world.allow(id);
      decision.grants[0].charges = kEach;
      world.append(sign_record(decision, key_named("keeper"), world.market()));
      ++waiting;
    }
    for (const auto& entry : world.confirm()) {
      world.fold(entry);
      within_budget();
    }
    return waiting;
  }

  void within_budget() const {
    const Budget& spent = budget(first);
    EXPECT_LE(spent.committed[7] + spent.reserved[7], spent.caps[7]);
    EXPECT_EQ(spent.reserved[7], 37 * static_cast<int64_t>(spent.holders.size()));
  }

  int64_t escrowed() const {
    int64_t count = 0;
    for (const auto& id : contracts) count += world.contract(id).phase == Phase::kEscrowed;
    return count;
  }
};

TEST_F(Contention, SixtyFourAtOnceNeverTakeOneUnitTooMuch) {
  // Decisions on a head that another one has moved are void; their keepers ask again.
  int64_t rounds = 0;
  for (int64_t before = -1; before != escrowed(); ++rounds) {
    before = escrowed();
    ASSERT_GT(decide_all_at_once(), 0);
  }
  EXPECT_EQ(escrowed(), kFit);
  EXPECT_LE(rounds, kFit + 1);
  EXPECT_EQ(budget(first).reserved[7], kFit * 37);

  // One ends before its start and frees its share; one runs and keeps it.
  std::vector<ContractId> holders(budget(first).holders.begin(), budget(first).holders.end());
  JobAbort abort{holders[0], "trainer_died"};
  ASSERT_EQ(world.record(abort, "keeper"), "");
  ASSERT_EQ(world.record(world.start(holders[1]), "keeper"), "");
  ASSERT_EQ(world.record(JobAbort{holders[1], "trainer_died"}, "keeper"), "");
  within_budget();
  EXPECT_EQ(budget(first).committed[7], 37);
  EXPECT_EQ(budget(first).reserved[7], (kFit - 2) * 37);
  decide_all_at_once();
  EXPECT_EQ(escrowed(), kFit - 1);
  EXPECT_EQ(budget(first).committed[7] + budget(first).reserved[7], kFit * 37);

  // A reader who folds the same ledger later, in batches of any size, agrees.
  EXPECT_EQ(world.replay(1), world.state());
  EXPECT_EQ(world.replay(17), world.state());
}

TEST_F(Contention, PooledContractsReserveOnAllTheirDatasetsOrOnNone) {
  auto pooled = world.order("lab", {first, second}, 400);
  auto decision = world.allow(pooled);
  decision.grants[0].charges = kEach;
  decision.grants[1].charges = {0, 51, 101, 201, 301, 301, 301, 301};  // more than the second bears
  EXPECT_EQ(decide(decision), "budget_exhausted");
  EXPECT_EQ(budget(first).reserved, Charges{});
  EXPECT_EQ(budget(second).reserved, Charges{});
  decision = world.allow(pooled);
  decision.grants[0].charges = kEach;
  decision.grants[1].charges = {0, 51, 101, 201, 301, 301, 301, 300};
  EXPECT_EQ(decide(decision), "");
  EXPECT_EQ(budget(first).reserved, kEach);
  EXPECT_EQ(budget(second).reserved[7], 300);
}

}  // namespace
}  // namespace souk::contracts
