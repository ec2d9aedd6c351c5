// When the keeper gives out a model: once it is paid for.
#include "ledger/crypto/hash.h"
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
