// Who gets a key of the keeper: whoever may, once, and nobody else.
#include "ledger/crypto/hash.h"
#include "tests/flows/keeper_flow.h"

namespace souk::flows {
namespace {

TEST_F(KeeperFlow, TheHonestStoryReleasesOneKeyAndOneModel) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  StandIn trainer = market.started(id);

  // The key the trainer got is the provider's.
  const auto& start = *market.state().contract(id)->start;
  std::string info = contracts::trainer_wrap_info(market.market(), id, dataset.id,
                                                  contracts::evidence_digest(trainer.evidence));
  auto key = ledger::hpke_open(trainer.kem, as_bytes(info), {}, start.wraps.front().sealed);
  ASSERT_TRUE(key);
  EXPECT_TRUE(std::equal(key->begin(), key->end(), dataset.file_key.bytes(SecretAccess{}).begin()));

  Bytes header = to_bytes("a header");
  market.append(contracts::sign_record(market.result_of(id, header, to_bytes("payload")),
                                       trainer.signing, market.market()));
  market.follow();
  EXPECT_EQ(market.phase(id), Phase::kSettled);
  auto first = market.keeper().about(Kind::kRelease, id);
  ASSERT_EQ(first.kind, Kind::kBytes) << kind_and_body(first);
  EXPECT_EQ(first.body, header);
  EXPECT_EQ(market.keeper().about(Kind::kRelease, id).body, header);
  EXPECT_EQ(market.state().balance(market.providers[0].account()), 100);
  EXPECT_EQ(market.state().balance(market.lab.account()), 900);
  EXPECT_EQ(market.state().escrow_total(), 0);
}

// ---- decision and escrow --------------------------------------------------------

TEST_F(KeeperFlow, NoKeyWithoutADecision) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 1000);
  expect_no_key(market.submit(market.contract({dataset.id})));
}

TEST_F(KeeperFlow, NoKeyForAContractThatIsNotOnTheLedger) {
  expect_no_key(ContractId(ledger::sha256(as_bytes("no such contract"))), Code::kNotFound);
}

TEST_F(KeeperFlow, NoKeyBeforeTheDecisionIsRecorded) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 1000);
  ContractId id = market.submit(market.contract({dataset.id}));
  market.follow();
  ASSERT_EQ(market.keeper().about(Kind::kDecide, id).kind, Kind::kEnvelope);
  expect_no_key(id);
}

TEST_F(KeeperFlow, NoKeyWhenThePolicyDenies) {
  EXPECT_EQ(deny_of("return {allow = false, reason = 'not for you'}"), "denied");
}

TEST_F(KeeperFlow, NoKeyWithoutEscrow) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 99);
  ContractId id = market.submit(market.contract({dataset.id}));
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.state().contract(id)->ended_because, "unfunded");
  expect_no_key(id);
}

TEST_F(KeeperFlow, NoKeyWhenTheOfferIsBelowThePrice) {
  auto dataset = market.publish(market.providers[0], {.price = 1001});
  market.deposit(market.lab.account(), 5000);
  ContractId id = market.submit(market.contract({dataset.id}));
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.phase(id), Phase::kRefused);
  expect_no_key(id);
}

TEST_F(KeeperFlow, OneProviderWhoDeniesDeniesForAll) {
  auto first = market.publish(market.providers[0]);
  auto second = market.publish(market.providers[1], {.policy = "return {allow = false}"});
  auto third = market.publish(market.providers[2]);
  market.deposit(market.lab.account(), 1000);
  ContractId id = market.submit(market.contract({first.id, second.id, third.id}));
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.phase(id), Phase::kRefused);
  EXPECT_EQ(market.state().dataset(first.id)->budget.reserved, contracts::Charges{});
  expect_no_key(id);
}

TEST_F(KeeperFlow, NobodyButTheKeeperAuthorsADecision) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 1000);
  ContractId id = market.submit(market.contract({dataset.id}));
  ledger::SigningKey host = ledger::SigningKey::generate();
  const std::vector<const ledger::SigningKey*> others = {
      &host, &market.lab.key, &market.treasury.key, &market.providers[0].key, &market.platform()};
  for (const auto* key : others) {
    auto seq = market.append(contracts::sign_record(allowing(id), *key, market.market()));
    EXPECT_EQ(market.void_of(seq), "not_the_keeper");
  }
  EXPECT_EQ(market.phase(id), Phase::kSubmitted);
  expect_no_key(id);
}

TEST_F(KeeperFlow, AKeeperOfAnotherPlatformOrProgramIsNoKeeper) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.submit(market.contract({dataset.id}));
  PublicKey honest = market.state().keeper()->key;
  auto other_platform = ledger::SigningKey::generate();
  auto lies = {market.another_self(other_platform, market.self().measurement),
               market.another_self(market.platform(), ledger::sha256(as_bytes("patched program")))};
  for (const auto& self : lies) {
    StandIn fake;
    auto claims = market.trainer_claims(fake, id, std::string(64, '0'));
    claims.role = "keeper";
    claims.contract = "";
    claims.measurement = self.measurement;
    contracts::KeeperBoot boot{fake.kem.public_key(),
                               trainer::simulate_evidence(self.platform, claims)};
    auto seq = market.append(contracts::sign_record(boot, fake.signing, market.market()));
    EXPECT_EQ(market.void_of(seq), "unappraised");
    seq = market.append(contracts::sign_record(allowing(id), fake.signing, market.market()));
    EXPECT_EQ(market.void_of(seq), "not_the_keeper");
  }
  EXPECT_EQ(market.state().keeper()->key, honest);
  expect_no_key(id);
}

TEST_F(KeeperFlow, TheSecondOfTwoDecisionsHasNoEffect) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 1000);
  ContractId id = market.submit(market.contract({dataset.id}));
  market.follow();
  auto first = envelope_in(market.keeper().about(Kind::kDecide, id));
  auto second = envelope_in(market.keeper().about(Kind::kDecide, id));
  ASSERT_TRUE(first && second);
  EXPECT_EQ(market.void_of(market.append(*first)), "");
  EXPECT_EQ(market.void_of(market.append(*second)), "not_submitted");
  EXPECT_EQ(market.state().escrow_total(), 100);
  EXPECT_EQ(market.state().balance(market.lab.account()), 900);
  market.follow();
  EXPECT_EQ(refused(market.keeper().about(Kind::kDecide, id)), Code::kConflict);
}

TEST_F(KeeperFlow, MoneySpentBetweenDecisionAndRecordIsSpentOnce) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 150);
  ContractId one = market.submit(market.contract({dataset.id}));
  ContractId two = market.submit(market.contract({dataset.id}));
  market.follow();
  auto first = envelope_in(market.keeper().about(Kind::kDecide, one));
  auto second = envelope_in(market.keeper().about(Kind::kDecide, two));
  ASSERT_TRUE(first && second);
  EXPECT_EQ(market.void_of(market.append(*first)), "");
  EXPECT_EQ(market.void_of(market.append(*second)), "stale");
  EXPECT_EQ(market.state().balance(market.lab.account()), 50);
  expect_no_key(two);
  // Asked again on the new head, it says no.
  ASSERT_TRUE(market.record(Kind::kDecide, two));
  EXPECT_EQ(market.state().contract(two)->ended_because, "unfunded");
}

// ---- appraisal ------------------------------------------------------------------

TEST_F(KeeperFlow, NoKeyForAnUnappraisedEnclave) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  ContractId other = market.escrowed({dataset.id});
  const std::string stale = market.challenge(id);
  const std::string others_nonce = market.challenge(other);
  const std::string nonce = market.challenge(id);
  StandIn enclave;
  auto good = market.trainer_claims(enclave, id, nonce);

  struct Lie {
    const char* name;
    contracts::Evidence evidence;
  };
  std::vector<Lie> lies;
  auto claim = [&](const char* name, auto change) {
    auto claims = good;
    change(claims);
    lies.push_back({name, trainer::simulate_evidence(market.platform(), claims)});
  };
  lies.push_back(
      {"another platform", trainer::simulate_evidence(ledger::SigningKey::generate(), good)});
  claim("another program", [](auto& c) { c.measurement[0] ^= 1; });
  claim("the keeper's role", [](auto& c) { c.role = "keeper"; });
  claim("the nonce before", [&](auto& c) { c.nonce = stale; });
  claim("the nonce of another contract", [&](auto& c) { c.nonce = others_nonce; });
  claim("no nonce", [](auto& c) { c.nonce = std::string(64, '0'); });
  claim("another contract", [&](auto& c) { c.contract = to_hex(other); });
  claim("no contract", [](auto& c) { c.contract = ""; });
  claim("another market", [](auto& c) { c.market = std::string(64, '0'); });
  claim("no sandbox", [](auto& c) { c.sandbox = ""; });
#ifndef SOUK_SANITIZED
  claim("an unconfined process", [](auto& c) { c.sandbox = "none"; });
#endif
  auto real = trainer::simulate_evidence(market.platform(), good);
  lies.push_back({"another kind", {"tdx", real.claims, real.proof}});
  auto swapped = good;
  swapped.kem = ledger::KemKey::generate().public_key();
  lies.push_back({"claims exchanged after signing",
                  {real.kind, canonical(trainer::to_json(swapped)), real.proof}});
  lies.push_back({"the keeper's own boot evidence", market.state().keeper()->evidence_record});

  for (const auto& lie : lies) {
    auto answer = market.start_frame(id, lie.evidence);
    EXPECT_EQ(refused(answer), Code::kUnauthentic) << lie.name << ": " << kind_and_body(answer);
  }
  // None of them used the challenge up.
  EXPECT_EQ(market.start_frame(id, real).kind, Kind::kEnvelope);
}

TEST_F(KeeperFlow, EvidenceForOneContractStartsNoOther) {
  auto dataset = market.publish(market.providers[0]);
  ContractId one = market.escrowed({dataset.id});
  ContractId two = market.escrowed({dataset.id});
  StandIn enclave = market.stand_in(one, market.challenge(one));
  market.challenge(two);
  EXPECT_EQ(refused(market.start_frame(two, enclave.evidence)), Code::kUnauthentic);
}

TEST_F(KeeperFlow, AnotherHostsWrapIsNotTheTrainersOnTheLedger) {
  // A job.start for one enclave names it: with another's keys in the record it is void.
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  StandIn enclave = market.started(id);
  StandIn thief;
  const auto& start = *market.state().contract(id)->start;
  std::string info = contracts::trainer_wrap_info(market.market(), id, dataset.id,
                                                  contracts::evidence_digest(start.trainer));
  EXPECT_FALSE(ledger::hpke_open(thief.kem, as_bytes(info), {}, start.wraps.front().sealed));
}

// ---- once -----------------------------------------------------------------------

TEST_F(KeeperFlow, OneStartForAContractEvenIfTheFirstIsNotRecorded) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  StandIn first = market.stand_in(id, market.challenge(id));
  ASSERT_EQ(market.start_frame(id, first.evidence).kind, Kind::kEnvelope);
  EXPECT_EQ(refused(market.start_frame(id, first.evidence)), Code::kConflict);
  StandIn second = market.stand_in(id, market.challenge(id));
  EXPECT_EQ(refused(market.start_frame(id, second.evidence)), Code::kConflict);
}

TEST_F(KeeperFlow, OneStartForAContractAlsoAfterARestart) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  StandIn first = market.stand_in(id, market.challenge(id));
  ASSERT_EQ(market.start_frame(id, first.evidence).kind, Kind::kEnvelope);
  for (int restart = 0; restart < 2; ++restart) {
    market.restart_keeper();
    StandIn second = market.stand_in(id, market.challenge(id));
    EXPECT_EQ(refused(market.start_frame(id, second.evidence)), Code::kConflict);
  }
  // The money still returns.
  ASSERT_TRUE(
      market.record(Kind::kAbort, Json::Object{{"contract", id}, {"reason", "trainer_died"}}));
  EXPECT_EQ(market.phase(id), Phase::kRefunded);
  EXPECT_EQ(market.state().balance(market.lab.account()), 1000);
}

TEST_F(KeeperFlow, NoSecondKeyOnceTheStartIsRecorded) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  market.started(id);
  expect_no_key(id);
  market.restart_keeper();
  expect_no_key(id);
  // Nor after the job was given up.
  ASSERT_TRUE(
      market.record(Kind::kAbort, Json::Object{{"contract", id}, {"reason", "trainer_died"}}));
  expect_no_key(id);
}

TEST_F(KeeperFlow, AChallengeDiesWithItsKeeper) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  StandIn enclave = market.stand_in(id, market.challenge(id));
  market.restart_keeper();
  EXPECT_EQ(refused(market.start_frame(id, enclave.evidence)), Code::kConflict);
}

// ---- wraps --------------------------------------------------------------------------

TEST_F(KeeperFlow, AWrapCopiedUnderAnotherPolicyOpensNothing) {
  auto dataset = market.publish(market.providers[0], {.policy = "return {allow = false}"});
  // The host offers the same ciphertext and the same wrap, with a policy of its own.
  Party host{"host"};
  auto offer = dataset.offer;
  offer.manifest.policy = kFriendlyPolicy;
  DatasetId id = contracts::dataset_id(offer.manifest);
  EXPECT_EQ(market.void_of(market.append(contracts::sign_record(offer, host.key, market.market()))),
            "");
  ContractId contract = market.escrowed({id});
  StandIn enclave = market.stand_in(contract, market.challenge(contract));
  EXPECT_EQ(refused(market.start_frame(contract, enclave.evidence)), Code::kUnauthentic);
}

TEST_F(KeeperFlow, AnOfferRecordedInAnotherNameSellsNothing) {
  // The host holds an offer back and records its content as its own, to be paid for it.
  auto offered = market.make_offer(market.providers[0]);
  Party host{"host"};
  EXPECT_EQ(market.void_of(
                market.append(contracts::sign_record(offered.offer, host.key, market.market()))),
            "");
  ContractId contract = market.escrowed({offered.id});
  StandIn enclave = market.stand_in(contract, market.challenge(contract));
  auto answer = market.start_frame(contract, enclave.evidence);
  EXPECT_EQ(refused(answer), Code::kUnauthentic) << kind_and_body(answer);
}

}  // namespace
}  // namespace souk::flows
