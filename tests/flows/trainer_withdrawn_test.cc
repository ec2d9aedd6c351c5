// A run whose policy is revoked, or whose rows are erased, while it is under way.
#include "policy/privacy/budget.h"
#include "tests/flows/trainer_flow.h"

namespace souk::flows {
namespace {

class RevokedFlow : public TrainerFlow {
 protected:
  // A run of 40 steps, loaded, whose policy is revoked before its first checkpoint.
  std::unique_ptr<TrainerThread> revoked(contracts::PolicyChange::Move move) {
    market.deposit(market.lab.account(), 1000);
    auto submit = market.contract({north.id});
    submit.spec = private_spec(2, 40, 2);
    id = market.submit(submit);
    CHECK(market.record(Kind::kDecide, id));
    CHECK(market.phase(id) == Phase::kEscrowed);
    auto trainer = started(id);
    before = market.history();
    CHECK(market.show(*trainer, before));
    CHECK(market.send_dataset(*trainer, north.id, north.file));
    reserved = market.state().dataset(north.id)->budget.reserved;
    Digest version = market.state().dataset(north.id)->policies.begin()->first;
    auto seq =
        market.append(contracts::sign_record(contracts::PolicyChange{north.id, version, move},
                                             market.providers[0].key, market.market()));
    CHECK(market.void_of(seq).empty());
    return trainer;
  }

  ContractId id;
  History before;
  contracts::Charges reserved{};
};

TEST_F(RevokedFlow, TheTrainerStopsAtItsNextCheckpointAndOnlyTheStepsItTookAreCharged) {
  for (auto move : {contracts::PolicyChange::Move::kRevokeStop,
                    contracts::PolicyChange::Move::kRevokeDestroy}) {
    if (move == contracts::PolicyChange::Move::kRevokeDestroy) {
      north = market.publish(market.providers[0], {.rows = 41});
    }
    auto trainer = revoked(move);
    auto stopped = market.train(*trainer);
    ASSERT_TRUE(stopped) << stopped.error().expected();
    EXPECT_TRUE(trainer->finish());
    EXPECT_TRUE(stopped->payload.empty());
    EXPECT_EQ(stopped->result.payload_type, contracts::JobStop::kType);
    EXPECT_EQ(market.void_of(market.append(stopped->result)), "");
    EXPECT_EQ(market.phase(id), Phase::kRefunded);
    const auto& contract = *market.state().contract(id);
    ASSERT_TRUE(contract.stop);
    EXPECT_EQ(contract.stop->steps, 2U);  // a checkpoint at every twentieth of 40 steps
    const auto& spec = contract.submit.spec;
    policy::Event took{policy::rate_from_threshold(spec.sampling_threshold),
                       spec.privacy->noise_multiplier, 2};
    const auto& budget = market.state().dataset(north.id)->budget;
    EXPECT_EQ(budget.committed, policy::charges_for(took));
    EXPECT_EQ(budget.reserved, contracts::Charges{});
    for (size_t order = 0; order < reserved.size(); ++order) {
      EXPECT_LT(budget.committed[order], reserved[order]);
    }
    market.follow();
    EXPECT_TRUE(refused(market.keeper().about(Kind::kRelease, id)));
  }
}

TEST_F(RevokedFlow, AHostThatKeepsTheRevocationFromTheTrainerHasAResultThatIsVoid) {
  auto trainer = revoked(contracts::PolicyChange::Move::kRevokeStop);
  ASSERT_TRUE(trainer->send(trainer::frame(Kind::kTrain, Json::Object{})));
  Bytes payload;
  while (true) {
    auto message = trainer->receive();
    ASSERT_TRUE(message);
    if (message->kind == Kind::kBytes) append(payload, message->body);
    if (message->kind == Kind::kProgress) {
      auto shown = market.show_more(*trainer, before);
      ASSERT_TRUE(shown);
      ASSERT_EQ(shown->kind, Kind::kConfirmed);
    }
    if (message->kind != Kind::kResult) continue;
    auto envelope = envelope_in(*message);
    ASSERT_TRUE(envelope);
    EXPECT_EQ(market.void_of(market.append(*envelope)), "not_running");
    break;
  }
  EXPECT_FALSE(payload.empty());
  market.follow();
  EXPECT_TRUE(refused(market.keeper().about(Kind::kRelease, id)));
  market.clock().advance(3'600'001);
  market.deposit(market.lab.account(), 1);
  // It has no word of the trainer that less was spent: the maximum is.
  EXPECT_EQ(market.state().dataset(north.id)->budget.committed, reserved);
}

TEST_F(RevokedFlow, ATrainerIsShownNoOlderLedgerAtItsCheckpoint) {
  auto trainer = revoked(contracts::PolicyChange::Move::kRevokeStop);
  ASSERT_TRUE(trainer->send(trainer::frame(Kind::kTrain, Json::Object{})));
  auto message = trainer->receive();
  ASSERT_TRUE(message);
  ASSERT_EQ(message->kind, Kind::kProgress);
  auto older = market.prefix(before.size() - 1);
  auto answer =
      trainer->ask(trainer::frame(Kind::kConfirm, Json::Object{{"checkpoint", older.checkpoint}}));
  ASSERT_TRUE(answer);
  EXPECT_TRUE(refused(*answer)) << kind_and_body(*answer);
  EXPECT_FALSE(trainer->finish());
}

TEST_F(RevokedFlow, AnErasureStopsTheRunAtItsNextCheckpointAndNothingIsReleased) {
  market.deposit(market.lab.account(), 1000);
  auto submit = market.contract({north.id});
  submit.spec = private_spec(2, 40, 2);
  id = market.submit(submit);
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  auto trainer = started(id);
  ASSERT_TRUE(market.show(*trainer, market.history()));
  ASSERT_TRUE(market.send_dataset(*trainer, north.id, north.file));
  reserved = market.state().dataset(north.id)->budget.reserved;
  market.append(contracts::sign_record(contracts::DatasetErase{north.id}, market.providers[0].key,
                                       market.market()));
  EXPECT_EQ(market.phase(id), Phase::kStopping);
  auto stopped = market.train(*trainer);
  ASSERT_TRUE(stopped) << stopped.error().expected();
  EXPECT_TRUE(stopped->payload.empty());
  EXPECT_EQ(stopped->result.payload_type, contracts::JobStop::kType);
  EXPECT_EQ(market.void_of(market.append(stopped->result)), "");
  EXPECT_EQ(market.phase(id), Phase::kRefunded);
  EXPECT_EQ(market.state().contract(id)->ended_because, "dataset_erased");
  const auto& budget = market.state().dataset(north.id)->budget;
  EXPECT_EQ(budget.reserved, contracts::Charges{});
  for (size_t order = 0; order < reserved.size(); ++order) {
    EXPECT_LT(budget.committed[order], reserved[order]);
  }
  market.follow();
  EXPECT_TRUE(refused(market.keeper().about(Kind::kRelease, id)));
}

TEST_F(RevokedFlow, AnErasureBeforeTheTrainerHasReadTheLedgerCostsNothing) {
  id = market.escrowed({north.id});
  auto trainer = started(id);
  market.append(contracts::sign_record(contracts::DatasetErase{north.id}, market.providers[0].key,
                                       market.market()));
  auto shown = market.show(*trainer, market.history());
  ASSERT_TRUE(shown);
  ASSERT_EQ(shown->kind, Kind::kStopped) << kind_and_body(*shown);
  EXPECT_EQ(market.void_of(market.append(envelope_in(*shown).take())), "");
  EXPECT_EQ(market.phase(id), Phase::kRefunded);
  EXPECT_EQ(market.state().dataset(north.id)->budget.committed, contracts::Charges{});
}

}  // namespace
}  // namespace souk::flows
