// When the keeper gives out a model: once it is paid for.
#include "ledger/crypto/hash.h"
#include "policy/privacy/budget.h"
#include "tests/flows/keeper_flow.h"

namespace souk::flows {
namespace {

// ---- release ------------------------------------------------------------------------

TEST_F(KeeperFlow, NoModelBeforeItIsSettled) {
  auto dataset = market.publish(market.providers[0]);
  market.follow();
  ContractId id(ledger::sha256(as_bytes("none")));
  EXPECT_EQ(refused(market.keeper().about(Kind::kRelease, id)), Code::kNotFound);
  market.deposit(market.lab.account(), 1000);
  id = market.submit(market.contract({dataset.id}));
  market.follow();
  EXPECT_EQ(refused(market.keeper().about(Kind::kRelease, id)), Code::kConflict);
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(refused(market.keeper().about(Kind::kRelease, id)), Code::kConflict);
  StandIn trainer = market.started(id);
  EXPECT_EQ(refused(market.keeper().about(Kind::kRelease, id)), Code::kConflict);

  // A result by anyone but the trainer settles nothing.
  Bytes header = to_bytes("header");
  auto result = market.result_of(id, header, to_bytes("payload"));
  ledger::SigningKey host = ledger::SigningKey::generate();
  const std::vector<const ledger::SigningKey*> others = {&host, &market.lab.key,
                                                         &market.platform()};
  for (const auto* key : others) {
    auto seq = market.append(contracts::sign_record(result, *key, market.market()));
    EXPECT_EQ(market.void_of(seq), "not_the_trainer");
  }
  market.follow();
  EXPECT_EQ(refused(market.keeper().about(Kind::kRelease, id)), Code::kConflict);
  market.append(contracts::sign_record(result, trainer.signing, market.market()));
  EXPECT_EQ(refused(market.keeper().about(Kind::kRelease, id)),
            Code::kConflict);  // not shown it yet
  market.follow();
  EXPECT_EQ(market.keeper().about(Kind::kRelease, id).body, header);
  market.restart_keeper();
  EXPECT_EQ(market.keeper().about(Kind::kRelease, id).body, header);
}

// ---- revoked policies --------------------------------------------------------------

std::string revoke(MarketFixture& market, const Offered& dataset,
                   contracts::PolicyChange::Move move) {
  Digest version = market.state().dataset(dataset.id)->policies.begin()->first;
  auto seq =
      market.append(contracts::sign_record(contracts::PolicyChange{dataset.id, version, move},
                                           market.providers[0].key, market.market()));
  return market.void_of(seq);
}

TEST_F(KeeperFlow, NoModelOfADestroyedRunEvenAfterItWasReleasedOnce) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  StandIn trainer = market.started(id);
  Bytes header = to_bytes("header");
  market.append(contracts::sign_record(market.result_of(id, header, to_bytes("payload")),
                                       trainer.signing, market.market()));
  market.follow();
  ASSERT_EQ(market.keeper().about(Kind::kRelease, id).body, header);
  ASSERT_EQ(revoke(market, dataset, contracts::PolicyChange::Move::kRevokeDestroy), "");
  // The host may keep the revocation back; it does so at no gain, since it had the header.
  EXPECT_EQ(market.keeper().about(Kind::kRelease, id).body, header);
  market.follow();
  EXPECT_EQ(refused(market.keeper().about(Kind::kRelease, id)), Code::kRefused);
  market.restart_keeper();
  EXPECT_EQ(refused(market.keeper().about(Kind::kRelease, id)), Code::kRefused);
}

TEST_F(KeeperFlow, StoppingLeavesModelsThatAreDoneAndRevokingForNewOnesLeavesRuns) {
  auto dataset = market.publish(market.providers[0]);
  ContractId done = market.escrowed({dataset.id}), running = market.escrowed({dataset.id});
  Bytes header = to_bytes("header");
  StandIn first = market.started(done);
  market.append(contracts::sign_record(market.result_of(done, header, to_bytes("payload")),
                                       first.signing, market.market()));
  StandIn second = market.started(running);
  ASSERT_EQ(revoke(market, dataset, contracts::PolicyChange::Move::kRevokeNoNew), "");
  EXPECT_EQ(market.phase(running), Phase::kRunning);
  auto seq = market.append(contracts::sign_record(
      market.result_of(running, header, to_bytes("other")), second.signing, market.market()));
  EXPECT_EQ(market.void_of(seq), "");
  market.follow();
  EXPECT_EQ(market.keeper().about(Kind::kRelease, done).body, header);
  EXPECT_EQ(market.keeper().about(Kind::kRelease, running).body, header);
}

TEST_F(KeeperFlow, NoKeyForAContractAllowedUnderARevokedVersion) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  ASSERT_EQ(revoke(market, dataset, contracts::PolicyChange::Move::kRevokeNoNew), "");
  EXPECT_EQ(market.phase(id), Phase::kRefunded);
  expect_no_key(id);
}

TEST_F(KeeperFlow, AnotherVersionDecidesOnlyOnceItIsActiveAndAPinnedOneStays) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 10'000);
  Digest first = market.state().dataset(dataset.id)->policies.begin()->first;
  contracts::PolicyPublish stricter{dataset.id, "return {allow = false, reason = 'closed'}",
                                    Json::Object{}, to_hex(ByteView(policy::engine_hash()))};
  Digest second = contracts::policy_version(stricter.source, stricter.parameters, stricter.engine);
  auto by_provider = [&](const contracts::Record& record) {
    return market.void_of(
        market.append(contracts::sign_record(record, market.providers[0].key, market.market())));
  };
  auto phase_of = [&](std::vector<Digest> pins) {
    auto submit = market.contract({dataset.id});
    submit.policies = std::move(pins);
    ContractId id = market.submit(submit);
    EXPECT_TRUE(market.record(Kind::kDecide, id));
    EXPECT_FALSE(market.record(Kind::kDecide, id));  // one decision, and no second
    return market.phase(id);
  };
  ASSERT_EQ(by_provider(stricter), "");
  EXPECT_EQ(phase_of({}), Phase::kEscrowed);
  EXPECT_EQ(phase_of({second}), Phase::kRefused);  // published is not active
  using Move = contracts::PolicyChange::Move;
  ASSERT_EQ(by_provider(contracts::PolicyChange{dataset.id, second, Move::kActivate}), "");
  EXPECT_EQ(phase_of({}), Phase::kRefused);
  EXPECT_EQ(phase_of({first}), Phase::kEscrowed);  // as it was quoted
  // A version for another engine answers nobody here.
  contracts::PolicyPublish other{dataset.id, kFriendlyPolicy, Json::Object{}, std::string(64, 'e')};
  Digest third = contracts::policy_version(other.source, other.parameters, other.engine);
  ASSERT_EQ(by_provider(other), "");
  ASSERT_EQ(by_provider(contracts::PolicyChange{dataset.id, third, Move::kActivate}), "");
  EXPECT_EQ(phase_of({}), Phase::kRefused);
}

TEST_F(KeeperFlow, ABudgetThatThePolicyNamesForAConsumerIsGrantedAndThenExhausted) {
  auto dataset = market.publish(
      market.providers[0],
      {.policy = "return {allow = true, obligations = {consumer_epsilon_micro = 3000000}}"});
  market.deposit(market.lab.account(), 1'000'000);
  int allowed = 0;
  ContractId last;
  for (int i = 0; i < 64; ++i) {
    last = market.submit(market.contract({dataset.id}));
    ASSERT_TRUE(market.record(Kind::kDecide, last));
    if (market.phase(last) != Phase::kEscrowed) break;
    ++allowed;
    const auto& grant = market.state().contract(last)->decision->grants[0];
    EXPECT_EQ(grant.consumer_caps, policy::caps_for(3'000'000, 10'000'000));
  }
  EXPECT_GT(allowed, 0);
  EXPECT_LT(allowed, 64);
  EXPECT_EQ(market.state().contract(last)->decision->status, "budget_exhausted");
  // The dataset itself has room: somebody else is let in.
  const auto& budget = market.state().dataset(dataset.id)->budget;
  auto sum = policy::add(budget.committed, budget.reserved);
  EXPECT_TRUE(policy::admits(budget.caps, sum, policy::Charges{}));
}

TEST_F(KeeperFlow, ADatasetOfPersonsIsChargedForPersonsAndByNoContractAboutRows) {
  auto persons = market.publish(market.providers[0], {.user_cap = 4});
  auto rows = market.publish(market.providers[1], {.rows = 41});
  market.deposit(market.lab.account(), 10'000);
  auto ask = [&](const std::vector<DatasetId>& datasets, uint32_t cap) {
    auto submit = market.contract(datasets);
    submit.spec.privacy->user_cap = cap;
    policy::Event event{policy::rate_from_threshold(submit.spec.sampling_threshold),
                        submit.spec.privacy->noise_multiplier, submit.spec.steps, cap};
    submit.spec.privacy->epsilon_micro =
        policy::epsilon_micro_up(policy::epsilon_upper(event, 1e-5).take());
    ContractId id = market.submit(submit);
    EXPECT_TRUE(market.record(Kind::kDecide, id));
    const auto& decision = *market.state().contract(id)->decision;
    if (decision.allow) {
      EXPECT_EQ(decision.grants[0].charges,
                policy::charges_for({event.q, event.sigma, event.steps, 4}));
    }
    return decision.allow ? std::string("allowed")
                          : *(*decision.reasons.array())[0].find("code")->string();
  };
  EXPECT_EQ(ask({persons.id}, 1), "wrong_unit");
  EXPECT_EQ(ask({persons.id}, 3), "wrong_unit");
  EXPECT_EQ(ask({persons.id}, 4), "allowed");
  EXPECT_EQ(ask({persons.id}, 6), "allowed");  // at its own cap, whatever is claimed
  EXPECT_EQ(ask({rows.id}, 4), "wrong_unit");
  EXPECT_EQ(ask({persons.id, rows.id}, 4), "wrong_unit");
}

TEST_F(KeeperFlow, APolicyReadsTheParametersOfItsVersion) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 10'000);
  auto publish = [&](int64_t most) {
    contracts::PolicyPublish version{
        dataset.id,
        "return {allow = request.steps <= parameters.most and parameters.name == 'a\"b'}",
        Json::Object{{"most", most}, {"name", "a\"b"}}, ""};
    Digest name = contracts::policy_version(version.source, version.parameters, version.engine);
    for (const contracts::Record& record :
         {contracts::Record(version),
          contracts::Record(contracts::PolicyChange{dataset.id, name,
                                                    contracts::PolicyChange::Move::kActivate})}) {
      EXPECT_EQ(market.void_of(market.append(
                    contracts::sign_record(record, market.providers[0].key, market.market()))),
                "");
    }
    ContractId id = market.submit(market.contract({dataset.id}));
    EXPECT_TRUE(market.record(Kind::kDecide, id));
    return market.phase(id);
  };
  EXPECT_EQ(publish(4), Phase::kEscrowed);
  EXPECT_EQ(publish(3), Phase::kRefused);
}

TEST_F(KeeperFlow, AnAttemptThatExpiredUndecidedIsRefusedOnce) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 1000);
  ContractId id = market.submit(market.contract({dataset.id}));
  market.clock().advance(3'600'001);
  market.deposit(market.lab.account(), 1);  // time passes with any entry
  ASSERT_EQ(market.phase(id), Phase::kExpired);
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.phase(id), Phase::kExpired);
  EXPECT_EQ(market.state().contract(id)->decision->status, "expired");
  EXPECT_FALSE(market.record(Kind::kDecide, id));
  expect_no_key(id);
}

TEST_F(KeeperFlow, NoModelAfterARefund) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  StandIn trainer = market.started(id);
  auto result = market.result_of(id, to_bytes("header"), to_bytes("payload"));
  ASSERT_TRUE(
      market.record(Kind::kAbort, Json::Object{{"contract", id}, {"reason", "trainer_died"}}));
  auto seq = market.append(contracts::sign_record(result, trainer.signing, market.market()));
  EXPECT_EQ(market.void_of(seq), "not_running");
  market.follow();
  EXPECT_EQ(refused(market.keeper().about(Kind::kRelease, id)), Code::kConflict);
  EXPECT_EQ(market.state().balance(market.lab.account()), 1000);
}

TEST_F(KeeperFlow, NoModelAfterItsDeadline) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  StandIn trainer = market.started(id);
  auto result = market.result_of(id, to_bytes("header"), to_bytes("payload"));
  market.clock().advance(TimeMs{61} * 60'000);
  auto seq = market.append(contracts::sign_record(result, trainer.signing, market.market()));
  EXPECT_EQ(market.void_of(seq), "not_running");
  market.follow();
  EXPECT_EQ(refused(market.keeper().about(Kind::kRelease, id)), Code::kConflict);
  EXPECT_EQ(market.state().balance(market.lab.account()), 1000);
  EXPECT_EQ(market.state().escrow_total(), 0);
}

TEST_F(KeeperFlow, AHeaderOtherThanTheRecordedOneIsNotGivenOut) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  StandIn trainer = market.started(id);
  auto result = market.result_of(id, to_bytes("the header"), to_bytes("payload"));
  result.header = trainer::header_digest(to_bytes("another header"));
  market.append(contracts::sign_record(result, trainer.signing, market.market()));
  market.follow();
  EXPECT_EQ(refused(market.keeper().about(Kind::kRelease, id)), Code::kUnauthentic);
}

TEST_F(KeeperFlow, AHeaderSealedForOneContractOpensForNoOther) {
  auto dataset = market.publish(market.providers[0]);
  ContractId one = market.escrowed({dataset.id});
  ContractId two = market.escrowed({dataset.id});
  StandIn first = market.started(one);
  StandIn second = market.started(two);
  auto unpaid = market.result_of(one, to_bytes("header of one"), to_bytes("payload"));
  auto paid = market.result_of(two, to_bytes("header of one"), to_bytes("payload"));
  paid.sealed_header = unpaid.sealed_header;
  market.append(contracts::sign_record(paid, second.signing, market.market()));
  market.follow();
  EXPECT_EQ(refused(market.keeper().about(Kind::kRelease, two)), Code::kUnauthentic);
}

TEST_F(KeeperFlow, OnlyAJobUnderWayIsAborted) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 1000);
  ContractId id = market.submit(market.contract({dataset.id}));
  Json abort = Json::Object{{"contract", id}, {"reason", "trainer_died"}};
  market.follow();
  EXPECT_EQ(refused(market.keeper().ask(Kind::kAbort, abort)), Code::kConflict);
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  StandIn trainer = market.started(id);
  market.append(contracts::sign_record(market.result_of(id, to_bytes("h"), to_bytes("p")),
                                       trainer.signing, market.market()));
  market.follow();
  EXPECT_EQ(refused(market.keeper().ask(Kind::kAbort, abort)), Code::kConflict);
  EXPECT_EQ(market.state().balance(market.providers[0].account()), 100);
}

TEST_F(KeeperFlow, NonsenseIsRefusedAndChangesNothing) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  market.follow();
  const std::vector<Json> bodies = {
      Json::Object{}, Json::Array{}, Json("text"), Json::Object{{"contract", "zz"}},
      Json::Object{{"contract", id}, {"leaves", Json::Array{}}, {"more", 1}}};
  for (Kind kind : {Kind::kLeaves, Kind::kConfirm, Kind::kAttest, Kind::kDecide, Kind::kQuote,
                    Kind::kStart, Kind::kAbort, Kind::kRelease, Kind::kChallenge, Kind::kPrepare,
                    Kind::kDataset, Kind::kTrain, Kind::kDone, Kind::kRefused}) {
    for (const auto& body : bodies) {
      auto answer = market.keeper().ask(kind, body);
      EXPECT_TRUE(refused(answer)) << kind_and_body(answer);
    }
  }
  for (Kind kind : {Kind::kBoot, Kind::kTick}) {
    EXPECT_EQ(refused(market.keeper().ask(kind, Json::Object{{"more", 1}})), Code::kMalformed);
  }
  market.started(id);
}

}  // namespace
}  // namespace souk::flows
