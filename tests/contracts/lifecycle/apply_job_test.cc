// Whole contracts; job.start, job.result, job.abort and deadlines against their nearest lies.
#include "tests/contracts/lifecycle/apply_fixture.h"

namespace souk::contracts {
namespace {

TEST_F(Apply, AWholeContractPaysEachProviderItsPriceAndCommitsTheCharges) {
  EXPECT_EQ(phase(), Phase::kSubmitted);
  escrow();
  EXPECT_EQ(phase(), Phase::kEscrowed);
  EXPECT_EQ(world.balance("lab"), 850);
  EXPECT_EQ(world.state().escrow_total(), 150);
  EXPECT_EQ(budget(first).reserved, (Charges{1, 10, 20, 30, 40, 50, 60, 70}));
  EXPECT_EQ(budget(first).epsilon_micro_reserved, 900'000);

  ASSERT_EQ(world.record(world.start(contract), "keeper"), "");
  EXPECT_EQ(phase(), Phase::kRunning);
  EXPECT_EQ(world.state().escrow_total(), 150);

  ASSERT_EQ(world.record(world.result(contract), "trainer"), "");
  EXPECT_EQ(phase(), Phase::kSettled);
  EXPECT_EQ(world.balance("hospital"), 100);
  EXPECT_EQ(world.balance("clinic"), 50);
  EXPECT_EQ(world.balance("lab"), 850);
  EXPECT_EQ(world.state().escrow_total(), 0);
  EXPECT_EQ(budget(first).reserved, Charges{});
  EXPECT_EQ(budget(first).committed, (Charges{1, 10, 20, 30, 40, 50, 60, 70}));
  EXPECT_EQ(budget(first).epsilon_micro_committed, 900'000);
  EXPECT_EQ(budget(first).epsilon_micro_reserved, 0);
  EXPECT_EQ(budget(first).runs, 1);
  EXPECT_TRUE(world.state().voids().empty());
}

TEST_F(Apply, OneProviderOfTwoDatasetsIsPaidBoth) {
  auto third = world.publish("hospital", "third", 7);
  contract = world.order("lab", {first, third}, 200);
  run();
  auto sums = payouts(world.state(), world.contract(contract));
  EXPECT_EQ(sums, (std::map<PublicKey, Minor>{{key_named("hospital").public_key(), 107}}));
  ASSERT_EQ(world.record(world.result(contract), "trainer"), "");
  EXPECT_EQ(world.balance("hospital"), 107);
}

TEST_F(Apply, FewerStepsThanTheSpecStillCommitTheWholeReservation) {
  run();
  auto result = world.result(contract);
  result.steps = 3;
  ASSERT_EQ(world.record(result, "trainer"), "");
  EXPECT_EQ(budget(first).committed, (Charges{1, 10, 20, 30, 40, 50, 60, 70}));
}

TEST_F(Apply, AContractWithoutPrivacyRunsWhereItIsWaivedAndChargesNothing) {
  auto open = world.submit({first}, 200);
  open.spec = sample_open_spec();
  auto envelope = sign_record(open, key_named("lab"), world.market());
  ASSERT_EQ(world.record(envelope), "");
  contract = contract_id(envelope.payload);

  auto unwaived = world.allow(contract);
  unwaived.grants[0].waived = false;
  EXPECT_EQ(decide(unwaived), "privacy_required");
  auto charged = world.allow(contract);
  charged.grants[0].charges[3] = 1;
  EXPECT_EQ(decide(charged), "charged_waiver");
  auto epsilon = world.allow(contract);
  epsilon.grants[0].epsilon_micro = 1;
  EXPECT_EQ(decide(epsilon), "charged_waiver");
  run();
  ASSERT_EQ(world.record(world.result(contract), "trainer"), "");
  EXPECT_EQ(budget(first).committed, Charges{});
  EXPECT_EQ(budget(first).runs, 1);
}

TEST_F(Apply, AStartRepeatsExactlyWhatWasAgreed) {
  escrow();
  auto lie = [&](auto&& change) {
    auto start = world.start(contract);
    change(start);
    return world.record(start, "keeper");
  };
  EXPECT_EQ(lie([](JobStart& s) { s.recipient = recipient_named('p'); }), "wrong_recipient");
  EXPECT_EQ(lie([](JobStart& s) { s.decision[0] ^= 1; }), "wrong_decision");
  EXPECT_EQ(lie([](JobStart& s) { s.spec[31] ^= 1; }), "wrong_spec");
  EXPECT_EQ(lie([](JobStart& s) { s.obligations = Json::Object{}; }), "wrong_obligations");
  EXPECT_EQ(lie([](JobStart& s) {
              s.obligations = Json::Object{{"max_steps", 11}};
            }),
            "wrong_obligations");
  EXPECT_EQ(lie([](JobStart& s) { s.inputs.pop_back(); }), "wrong_inputs");
  EXPECT_EQ(lie([](JobStart& s) { std::swap(s.inputs[0], s.inputs[1]); }), "wrong_inputs");
  EXPECT_EQ(lie([](JobStart& s) { s.inputs[0].ciphertext[5] ^= 1; }), "wrong_inputs");
  EXPECT_EQ(lie([](JobStart& s) { s.inputs[1].size += 1; }), "wrong_inputs");
  EXPECT_EQ(lie([](JobStart& s) { s.inputs[1].rows -= 1; }), "wrong_inputs");
  EXPECT_EQ(lie([](JobStart& s) { s.wraps.pop_back(); }), "wrong_wraps");
  EXPECT_EQ(lie([](JobStart& s) { s.wraps.push_back(s.wraps[0]); }), "wrong_wraps");
  EXPECT_EQ(lie([](JobStart& s) { std::swap(s.wraps[0], s.wraps[1]); }), "wrong_wraps");
  EXPECT_EQ(lie([](JobStart& s) { s.wraps[0].dataset = DatasetId(digest_named("x")); }),
            "wrong_wraps");
  EXPECT_EQ(lie([](JobStart& s) { s.wraps[0].sealed.resize(48); }), "malformed");
  EXPECT_EQ(lie([](JobStart& s) { s.trainer.proof[0] ^= 1; }), "unappraised");
  EXPECT_EQ(lie([](JobStart& s) { s.trainer = evidence_for("keeper", "trainer"); }), "unappraised");
  EXPECT_EQ(lie([](JobStart& s) { s.trainer = evidence_for("trainer", "mallory"); }), "wrong_keys");
  EXPECT_EQ(lie([](JobStart& s) { s.receipt_key = key_named("mallory").public_key(); }),
            "wrong_keys");
  EXPECT_EQ(lie([](JobStart& s) { s.trainer_kem = kem_named("mallory"); }), "wrong_keys");
  EXPECT_EQ(lie([](JobStart& s) { s.contract = ContractId(digest_named("x")); }),
            "unknown_contract");
  EXPECT_EQ(world.record(world.start(contract), "trainer"), "not_the_keeper");
  EXPECT_EQ(phase(), Phase::kEscrowed);
  EXPECT_EQ(lie([](JobStart&) {}), "");
}

TEST_F(Apply, AJobIsStartedOnce) {
  run();
  auto first_start = world.contract(contract).start_hash;
  EXPECT_EQ(world.record(world.start(contract, "another"), "keeper"), "not_escrowed");
  EXPECT_EQ(world.contract(contract).start_hash, first_start);
}

TEST_F(Apply, AResultIsThatTrainersForThatStart) {
  run();
  auto lie = [&](auto&& change) {
    auto result = world.result(contract);
    change(result);
    return world.record(result, "trainer");
  };
  for (const char* author : {"keeper", "lab", "hospital", "mallory", "log"}) {
    EXPECT_EQ(world.record(world.result(contract), author), "not_the_trainer") << author;
  }
  EXPECT_EQ(lie([](JobResult& r) { r.job_start[0] ^= 1; }), "wrong_start");
  EXPECT_EQ(lie([](JobResult& r) { r.spec[0] ^= 1; }), "wrong_spec");
  EXPECT_EQ(lie([](JobResult& r) { r.trainer_evidence[0] ^= 1; }), "wrong_evidence");
  EXPECT_EQ(lie([](JobResult& r) { r.steps = 11; }), "too_many_steps");
  EXPECT_EQ(lie([](JobResult& r) { r.contract = ContractId(digest_named("x")); }),
            "unknown_contract");
  EXPECT_EQ(world.state().escrow_total(), 150);
  EXPECT_EQ(lie([](JobResult&) {}), "");
  EXPECT_EQ(lie([](JobResult&) {}), "not_running");
  EXPECT_EQ(world.balance("hospital"), 100);
}

TEST_F(Apply, AnAbortBeforeTheStartFreesMoneyAndBudget) {
  escrow();
  EXPECT_EQ(world.record(JobAbort{contract, "mine"}, "lab"), "not_the_keeper");
  ASSERT_EQ(world.record(JobAbort{contract, "no_trainer"}, "keeper"), "");
  EXPECT_EQ(phase(), Phase::kRefunded);
  EXPECT_EQ(world.contract(contract).ended_because, "no_trainer");
  EXPECT_EQ(world.balance("lab"), 1000);
  EXPECT_EQ(budget(first).reserved, Charges{});
  EXPECT_EQ(budget(first).committed, Charges{});
  EXPECT_EQ(budget(first).runs, 0);
}

TEST_F(Apply, AnAbortOfARunReturnsMoneyAndCommitsTheBudget) {
  run();
  ASSERT_EQ(world.record(JobAbort{contract, "trainer_died"}, "keeper"), "");
  EXPECT_EQ(phase(), Phase::kRefunded);
  EXPECT_EQ(world.balance("lab"), 1000);
  EXPECT_EQ(world.balance("hospital"), 0);
  EXPECT_EQ(budget(first).reserved, Charges{});
  EXPECT_EQ(budget(first).committed, (Charges{1, 10, 20, 30, 40, 50, 60, 70}));
  EXPECT_EQ(world.record(world.result(contract), "trainer"), "not_running");
}

TEST_F(Apply, ADeadlineActsAtItsMillisecondAndThroughAnyEntryEvenAVoidOne) {
  world.pass(60 * kMinute - 1);
  EXPECT_EQ(world.record(Tick{}, "keeper"), "");
  EXPECT_EQ(phase(), Phase::kSubmitted);
  world.pass(1);
  EXPECT_EQ(world.record(Tick{}, "mallory"), "not_the_keeper");
  EXPECT_EQ(phase(), Phase::kExpired);
  EXPECT_EQ(world.contract(contract).ended_because, "deadline");
  EXPECT_EQ(decide(world.allow(contract)), "expired");
}

TEST_F(Apply, ADecisionOrResultAtTheDeadlineComesTooLate) {
  world.pass(60 * kMinute);
  EXPECT_EQ(decide(world.allow(contract)), "expired");
  EXPECT_EQ(phase(), Phase::kExpired);

  contract = world.order("lab", {first}, 200);
  run();
  world.pass(60 * kMinute);
  EXPECT_EQ(world.record(world.result(contract), "trainer"), "not_running");
  EXPECT_EQ(phase(), Phase::kRefunded);
  EXPECT_EQ(world.balance("lab"), 1000);
  EXPECT_EQ(budget(first).committed, (Charges{1, 10, 20, 30, 40, 50, 60, 70}));
}

TEST_F(Apply, ADeadlineBeforeTheStartFreesMoneyAndBudget) {
  escrow();
  world.pass(60 * kMinute);
  EXPECT_EQ(world.record(world.start(contract), "keeper"), "not_escrowed");
  EXPECT_EQ(phase(), Phase::kRefunded);
  EXPECT_EQ(world.balance("lab"), 1000);
  EXPECT_EQ(budget(first).reserved, Charges{});
  EXPECT_EQ(budget(first).committed, Charges{});
}

}  // namespace
}  // namespace souk::contracts
