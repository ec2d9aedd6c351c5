// contract.submit and contract.decision: admission, heads, the obstacle the keeper asks.
#include "policy/privacy/budget.h"
#include "tests/contracts/lifecycle/apply_fixture.h"

namespace souk::contracts {
namespace {

TEST_F(Apply, ASubmittedContractIsWhollyReadable) {
  auto submit = world.submit({first}, 1);
  submit.deadline_minutes = 0;
  EXPECT_EQ(world.record(submit, "lab"), "malformed");
  submit.deadline_minutes = kMaxDeadlineMinutes + 1;
  EXPECT_EQ(world.record(submit, "lab"), "malformed");
  submit.deadline_minutes = kMaxDeadlineMinutes;
  EXPECT_EQ(world.record(submit, "lab"), "");

  EXPECT_EQ(world.record(world.submit({}, 1), "lab"), "malformed");
  EXPECT_EQ(world.record(world.submit({first, first}, 1), "lab"), "malformed");
  EXPECT_EQ(world.record(world.submit({first, DatasetId(digest_named("x"))}, 1), "lab"),
            "unknown_dataset");
  EXPECT_EQ(world.record(world.submit({first}, -1), "lab"), "malformed");
  auto spec = world.submit({first}, 1);
  spec.spec.model[0].units = 3;  // three logits for two classes
  EXPECT_EQ(world.record(spec, "lab"), "malformed");
  auto recipient = world.submit({first}, 1);
  recipient.recipient[10] = 'b';  // not in bech32
  EXPECT_EQ(world.record(recipient, "lab"), "malformed");
}

TEST_F(Apply, SixteenDatasetsAreAContractAndSeventeenAreNot) {
  std::vector<DatasetId> many;
  for (int i = 0; i < 17; ++i)
    many.push_back(world.publish("hospital", "d" + std::to_string(i), 1));
  EXPECT_EQ(world.record(world.submit(many, 20), "lab"), "malformed");
  many.pop_back();
  contract = world.order("lab", many, 20);
  run();
  ASSERT_EQ(world.record(world.result(contract), "trainer"), "");
  EXPECT_EQ(world.balance("hospital"), 16);
}

TEST_F(Apply, ADeadlinePastTheEndOfTimeIsVoid) {
  world.pass(kMaxJsonInteger - world.now());
  EXPECT_EQ(world.record(world.submit({first}, 1), "lab"), "overflow");
}

TEST_F(Apply, OnlyTheKeeperDecides) {
  for (const char* author : {"lab", "hospital", "treasury", "log", "trainer", "mallory"}) {
    EXPECT_EQ(world.record(world.allow(contract), author), "not_the_keeper") << author;
    EXPECT_EQ(world.record(world.deny(contract), author), "not_the_keeper") << author;
  }
  EXPECT_EQ(phase(), Phase::kSubmitted);
  EXPECT_EQ(decide(world.allow(ContractId(digest_named("x")))), "unknown_contract");
}

TEST_F(Apply, GrantsAreOnePerDatasetInTheContractsOrder) {
  auto missing = world.allow(contract);
  missing.grants.pop_back();
  missing.price = 100;
  EXPECT_EQ(decide(missing), "wrong_grants");
  auto swapped = world.allow(contract);
  std::swap(swapped.grants[0], swapped.grants[1]);
  EXPECT_EQ(decide(swapped), "wrong_grants");
  auto twice = world.allow(contract);
  twice.grants[1] = twice.grants[0];
  EXPECT_EQ(decide(twice), "wrong_grants");
  auto more = world.allow(contract);
  more.grants.push_back(more.grants[0]);
  EXPECT_EQ(decide(more), "wrong_grants");
  EXPECT_EQ(phase(), Phase::kSubmitted);
}

TEST_F(Apply, ThePriceIsTheSumOfTheGrantsWithinTheOfferAndTheBalance) {
  auto more = world.allow(contract);
  more.price += 1;
  EXPECT_EQ(decide(more), "wrong_price");
  auto less = world.allow(contract);
  less.price -= 1;
  EXPECT_EQ(decide(less), "wrong_price");
  auto dear = world.allow(contract);
  dear.grants[0].price = 151;
  dear.price = 201;
  EXPECT_EQ(decide(dear), "over_offer");
  auto negative = world.allow(contract);
  negative.grants[0].price = 200;
  negative.grants[1].price = -50;
  EXPECT_EQ(decide(negative), "malformed");
  auto huge = world.allow(contract);
  huge.grants[0].price = kMaxJsonInteger;
  huge.grants[1].price = kMaxJsonInteger;
  huge.price = kMaxJsonInteger;
  EXPECT_EQ(decide(huge), "overflow");

  contract = world.order("pauper", {first}, 200);
  world.fund("pauper", 99);
  EXPECT_EQ(decide(world.allow(contract)), "unfunded");
  world.fund("pauper", 1);
  EXPECT_EQ(decide(world.allow(contract)), "");
  EXPECT_EQ(world.balance("pauper"), 0);
}

TEST_F(Apply, TheExactOfferIsEnough) {
  contract = world.order("lab", {first, second}, 150);
  EXPECT_EQ(decide(world.allow(contract)), "");
  contract = world.order("lab", {first, second}, 149);
  EXPECT_EQ(decide(world.allow(contract)), "over_offer");
}

TEST_F(Apply, TheBudgetAdmitsWhatOneOrderBears) {
  auto at_cap = world.allow(contract);
  at_cap.grants[0].charges = {0, 51, 101, 201, 301, 301, 301, 300};  // the last order fits
  auto over = at_cap;
  over.grants[0].charges[7] = 301;
  EXPECT_EQ(decide(over), "budget_exhausted");  // order 0 is dead though its charge is 0
  at_cap.head_size = world.state().size();
  at_cap.head_root = world.state().root();
  EXPECT_EQ(decide(at_cap), "");

  // Reserved counts as spent: nothing more fits at the last order.
  auto next = world.order("lab", {first}, 200);
  auto one_more = world.allow(next);
  one_more.grants[0].charges = {0, 51, 101, 201, 301, 301, 301, 1};
  EXPECT_EQ(decide(one_more), "budget_exhausted");
  // A run that costs nothing at the order that is full still fits there.
  auto nothing = world.allow(next);
  nothing.grants[0].charges = {0, 51, 101, 201, 301, 301, 301, 0};
  EXPECT_EQ(decide(nothing), "");
}

TEST_F(Apply, ASaturatedSumAdmitsNothingAndWhatWasOnlyReservedComesBackWhole) {
  auto wide = world.offer("wide", 0);
  wide.manifest.budget_caps.fill(-1);
  wide.manifest.budget_caps[0] = 10;
  wide.manifest.budget_caps[1] = kMaxJsonInteger;
  ASSERT_EQ(world.record(wide, "hospital"), "");
  auto id = dataset_id(wide.manifest);
  auto decision_for = [&](const ContractId& of, int64_t first_charge) {
    auto decision = world.allow(of);
    decision.grants[0].charges.fill(kMaxJsonInteger);
    decision.grants[0].charges[0] = first_charge;
    return decision;
  };
  auto one = world.order("lab", {id}, 0);
  auto two = world.order("lab", {id}, 0);
  auto three = world.order("lab", {id}, 0);
  ASSERT_EQ(decide(decision_for(one, 5)), "");
  ASSERT_EQ(decide(decision_for(two, 5)), "");
  EXPECT_EQ(budget(id).reserved[0], 10);
  EXPECT_EQ(budget(id).reserved[1], kMaxJsonInteger);

  // The second order is at its ceiling, which is its cap too: even nothing does not fit.
  auto free_ride = decision_for(three, 1);
  free_ride.grants[0].charges[1] = 0;
  EXPECT_EQ(decide(free_ride), "budget_exhausted");

  ASSERT_EQ(world.record(JobAbort{one, "trainer_died"}, "keeper"), "");
  EXPECT_EQ(budget(id).reserved[0], 5);
  EXPECT_EQ(budget(id).reserved[1], kMaxJsonInteger);  // the other contract still holds it
  ASSERT_EQ(world.record(JobAbort{two, "trainer_died"}, "keeper"), "");
  EXPECT_EQ(budget(id).reserved, Charges{});
  EXPECT_EQ(decide(world.allow(three)), "");
}

TEST_F(Apply, PrivacyIsChargedWhereTheSpecHasItAndNotWaived) {
  auto waived = world.allow(contract);
  waived.grants[1].waived = true;
  EXPECT_EQ(decide(waived), "needless_waiver");
  auto negative = world.allow(contract);
  negative.grants[1].charges[2] = -1;
  EXPECT_EQ(decide(negative), "malformed");
}

TEST_F(Apply, ADecisionOnAnotherLedgerOrTooEarlyOrAheadIsVoid) {
  auto fork = world.allow(contract);
  fork.head_root = digest_named("fork");
  EXPECT_EQ(decide(fork), "wrong_head");
  auto ahead = world.allow(contract);
  ahead.head_size += 1;
  EXPECT_EQ(decide(ahead), "wrong_head");
  auto early = world.allow(contract);
  early.head_size = world.contract(contract).submit_seq;
  EXPECT_EQ(decide(early), "stale");
  auto nothing = world.allow(contract);
  nothing.head_size = 0;
  EXPECT_EQ(decide(nothing), "stale");
  EXPECT_EQ(decide(world.allow(contract)), "");
}

TEST_F(Apply, ADecisionIsStaleOnceAnythingItReadHasChanged) {
  auto other = world.order("lab", {first}, 200);
  auto rival = world.order("rival", {second}, 200);
  world.fund("rival", 500);

  auto before = world.allow(contract);
  world.fund("lab", 1);
  EXPECT_EQ(decide(before), "stale");  // the balance

  before = world.allow(contract);
  ASSERT_EQ(decide(world.allow(rival)), "");
  EXPECT_EQ(decide(before), "stale");  // the budget of the second dataset

  before = world.deny(contract);
  ASSERT_EQ(world.record(world.boot("keeper"), "keeper"), "");
  EXPECT_EQ(decide(before), "stale");  // the keeper itself; a refusal too

  before = world.allow(contract);
  ASSERT_EQ(world.record(JobAbort{rival, "trainer_died"}, "keeper"), "");
  EXPECT_EQ(decide(before), "stale");  // a reservation freed

  before = world.allow(contract);
  ASSERT_EQ(world.record(DatasetRevoke{first}, "hospital"), "");
  EXPECT_EQ(decide(before), "stale");
  EXPECT_EQ(world.contract(other).phase, Phase::kSubmitted);
}

TEST_F(Apply, ADecisionStandsWhenOnlyOtherThingsHaveChanged) {
  auto before = world.allow(contract);
  world.fund("rival", 500);
  auto third = world.publish("hospital", "third", 10);
  auto unrelated = world.order("rival", {third}, 10);
  ASSERT_EQ(decide(world.allow(unrelated)), "");
  EXPECT_EQ(decide(before), "");
}

TEST_F(Apply, AReservationFreedByTheVeryEntryOfADecisionMakesItStale) {
  auto short_lived = world.submit({second}, 200);
  short_lived.deadline_minutes = 1;
  auto envelope = sign_record(short_lived, key_named("rival"), world.market());
  ASSERT_EQ(world.record(envelope), "");
  world.fund("rival", 500);
  ASSERT_EQ(decide(world.allow(contract_id(envelope.payload))), "");
  auto before = world.allow(contract);
  world.pass(kMinute);
  EXPECT_EQ(decide(before), "stale");
  EXPECT_EQ(decide(world.allow(contract)), "");
}

TEST_F(Apply, TheKeeperMayAskTheObstacleFirstAndIsAnsweredAsApplyWill) {
  EXPECT_FALSE(obstacle(world.state(), world.allow(contract)));
  auto decision = world.allow(contract);
  decision.contract = ContractId(digest_named("x"));
  EXPECT_EQ(obstacle(world.state(), decision)->code, "unknown_contract");
  ASSERT_EQ(decide(world.deny(world.order("rival", {first}, 1))), "");
  for (const auto& [id, other] : world.state().contracts()) {
    decision.contract = id;
    if (id != contract) {
      EXPECT_EQ(obstacle(world.state(), decision)->code, "not_submitted");
    }
  }
  decision = world.allow(contract);
  decision.grants[0].price = -1;  // never parsed, so asked here
  EXPECT_EQ(obstacle(world.state(), decision)->code, "overflow");
  decision = world.allow(contract);
  decision.grants[0].charges.fill(1000);
  auto found = obstacle(world.state(), decision);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->code, "budget_exhausted");
  EXPECT_EQ(found->dataset, to_hex(first));
  EXPECT_EQ(found->got, "300");
  EXPECT_EQ(found->need, "1000");
  contract = world.order("pauper", {first}, 200);
  found = obstacle(world.state(), world.allow(contract));
  EXPECT_EQ(found->code, "unfunded");
  EXPECT_EQ(found->got, "0");
  EXPECT_EQ(found->need, "100");
}

TEST_F(Apply, AnExpiredContractIsAnObstacleByName) {
  world.pass(60 * kMinute);
  ASSERT_EQ(world.record(Tick{}, "keeper"), "");
  EXPECT_EQ(obstacle(world.state(), world.allow(contract))->code, "expired");
}

TEST_F(Apply, AdmissionAgreesWithTheBudgetOfPolicyPrivacy) {
  // Both over a grid of caps, spendings and charges at two orders, others dead.
  const int64_t values[] = {0, 1, 99, 100, 101, kMaxJsonInteger - 1, kMaxJsonInteger};
  int admitted = 0;
  for (int64_t cap : {int64_t{-1}, int64_t{0}, int64_t{100}, kMaxJsonInteger}) {
    auto offer = world.offer("grid " + std::to_string(cap), 0);
    offer.manifest.budget_caps.fill(-1);
    offer.manifest.budget_caps[3] = cap;
    ASSERT_EQ(world.record(offer, "hospital"), "");
    auto id = dataset_id(offer.manifest);
    for (int64_t first_charge : values) {
      for (int64_t second_charge : values) {
        // On copies: neither contract is ever recorded for real.
        World trial;
        ASSERT_EQ(trial.record(offer, "hospital"), "");
        Charges spent{}, charge{};
        spent[3] = first_charge;
        charge[3] = second_charge;
        auto one = trial.order("lab", {id}, 0);
        auto decision = trial.allow(one);
        decision.grants[0].charges = spent;
        bool fits = policy::admits(offer.manifest.budget_caps, Charges{}, spent);
        ASSERT_EQ(trial.record(decision, "keeper"), fits ? "" : "budget_exhausted");
        if (!fits) continue;
        auto two = trial.order("lab", {id}, 0);
        decision = trial.allow(two);
        decision.grants[0].charges = charge;
        fits = policy::admits(offer.manifest.budget_caps, spent, charge);
        admitted += fits;
        EXPECT_EQ(trial.record(decision, "keeper"), fits ? "" : "budget_exhausted")
            << cap << " " << first_charge << " " << second_charge;
      }
    }
  }
  EXPECT_GT(admitted, 5);
}

}  // namespace
}  // namespace souk::contracts
