// What the keeper must never do, whatever its host tells it.
#include <gtest/gtest.h>

#include <cstring>

#include "ledger/crypto/hash.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "policy/decide/decide.h"
#include "tests/support/market_fixture.h"

namespace souk::flows {
namespace {

using contracts::Phase;
using trainer::Frame;
using trainer::Kind;

class KeeperFlow : public ::testing::Test {
 protected:
  // No key: neither a challenge nor, with the best evidence there is, a start.
  void expect_no_key(const ContractId& contract, Code code = Code::kRefused) {
    market.follow();
    expect_no_key(market.keeper(), contract, code);
  }
  void expect_no_key(KeeperHost& keeper, const ContractId& contract, Code code) {
    auto challenge = keeper.about(Kind::kChallenge, contract);
    EXPECT_EQ(refused(challenge), code) << kind_and_body(challenge);
    StandIn enclave = market.stand_in(contract, std::string(64, '0'));
    auto start = keeper.ask(
        Kind::kStart,
        Json::Object{{"contract", contract}, {"evidence", contracts::to_json(enclave.evidence)}});
    EXPECT_TRUE(refused(start)) << kind_and_body(start);
  }

  contracts::ContractDecision allowing(const ContractId& contract) {
    contracts::ContractDecision decision;
    const auto& state = market.state();
    decision.contract = contract;
    decision.allow = true;
    decision.status = "allowed";
    decision.head_size = state.size();
    decision.head_root = state.root();
    for (const auto& id : state.contract(contract)->submit.datasets) {
      contracts::Grant grant;
      grant.dataset = id;
      decision.grants.push_back(grant);
    }
    return decision;
  }

  std::string deny_of(const std::string& policy) {
    auto dataset = market.publish(market.providers[0], {.policy = policy});
    market.deposit(market.lab.account(), 1000);
    auto balance = market.state().balance(market.lab.account());
    ContractId id = market.submit(market.contract({dataset.id}));
    EXPECT_TRUE(market.record(Kind::kDecide, id));
    EXPECT_EQ(market.phase(id), Phase::kRefused);
    EXPECT_EQ(market.state().balance(market.lab.account()), balance);
    EXPECT_EQ(market.state().escrow_total(), 0);
    const auto& decision = *market.state().contract(id)->decision;
    EXPECT_FALSE(decision.allow);
    EXPECT_TRUE(decision.grants.empty());
    EXPECT_FALSE(decision.reasons.array()->empty());
    expect_no_key(id);
    return decision.status;
  }

  MarketFixture market;
};

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

// ---- other histories --------------------------------------------------------------

TEST_F(KeeperFlow, AnOlderLedgerIsRefusedAfterARestart) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 1000);
  ContractId id = market.submit(market.contract({dataset.id}));
  market.follow();
  History older = market.history();
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  market.started(id);

  for (uint64_t size = 1; size < market.history().size(); ++size) {
    auto keeper = market.new_keeper(market.keeper().sealed());
    auto answer = keeper->follow(market.prefix(size));
    EXPECT_EQ(refused(answer), Code::kUnauthentic) << size << " " << kind_and_body(answer);
    EXPECT_EQ(refused(keeper->about(Kind::kDecide, id)), Code::kConflict) << size;
    expect_no_key(*keeper, id, Code::kNotFound);
  }
  auto keeper = market.new_keeper(market.keeper().sealed());
  EXPECT_EQ(refused(keeper->follow(older)), Code::kUnauthentic);
  EXPECT_EQ(market.new_keeper(market.keeper().sealed())->follow(market.history()).kind,
            Kind::kConfirmed);
}

TEST_F(KeeperFlow, AForkSignedByTheLogKeyIsRefusedAfterARestart) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  market.started(id);
  auto envelopes = market.envelopes();
  // The same entries without the job.start, and longer ones than what was seen.
  envelopes.pop_back();
  for (int more = 0; more < 3; ++more) {
    contracts::Deposit deposit{market.lab.account(), 1};
    envelopes.push_back(
        envelope_bytes(contracts::sign_record(deposit, market.treasury.key, market.market())));
    History fork = market.rewrite(envelopes);
    EXPECT_EQ(market.fold(fork).contract(id)->phase,
              Phase::kEscrowed);  // a good ledger, to the eye
    auto keeper = market.new_keeper(market.keeper().sealed());
    EXPECT_EQ(refused(keeper->follow(fork)), Code::kUnauthentic) << more;
    expect_no_key(*keeper, id, Code::kNotFound);
  }
}

TEST_F(KeeperFlow, ARefusedForkStaysRefusedWhateverIsSaidNext) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  market.started(id);
  auto envelopes = market.envelopes();
  envelopes.pop_back();
  for (int more = 0; more < 3; ++more) {
    contracts::Deposit deposit{market.lab.account(), 1};
    envelopes.push_back(
        envelope_bytes(contracts::sign_record(deposit, market.treasury.key, market.market())));
  }
  History fork = market.rewrite(envelopes);
  const uint64_t seen = market.history().size();

  // In one frame, leaf by leaf, and with the refusal overheard.
  for (size_t step : {fork.leaves.size(), size_t{1}}) {
    auto keeper = market.new_keeper(market.keeper().sealed());
    for (size_t at = 0; at < fork.leaves.size(); at += step) {
      keeper->leaves(std::span(fork.leaves).subspan(at, std::min(step, fork.leaves.size() - at)));
    }
    EXPECT_TRUE(refused(keeper->confirm(fork.checkpoint)));
    keeper->leaves(std::span(fork.leaves).subspan(seen));
    EXPECT_TRUE(refused(keeper->confirm(fork.checkpoint)));
    expect_no_key(*keeper, id, Code::kNotFound);
    // It still takes the truth.
    EXPECT_EQ(keeper->follow(market.history()).kind, Kind::kConfirmed);
    EXPECT_EQ(refused(keeper->about(Kind::kChallenge, id)), Code::kRefused);
  }
}

TEST_F(KeeperFlow, ARunningKeeperFollowsNoFork) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  auto envelopes = market.envelopes();
  envelopes[1] = envelope_bytes(contracts::sign_record(contracts::Deposit{market.lab.account(), 9},
                                                       market.treasury.key, market.market()));
  contracts::Deposit deposit{market.lab.account(), 1};
  envelopes.push_back(
      envelope_bytes(contracts::sign_record(deposit, market.treasury.key, market.market())));
  History fork = market.rewrite(envelopes);
  auto answer = market.keeper().follow(fork);  // feeds what is new in it
  EXPECT_TRUE(refused(answer)) << kind_and_body(answer);
  EXPECT_TRUE(refused(market.keeper().confirm(fork.checkpoint)));
  market.deposit(market.lab.account(), 5);
  market.follow();
  market.started(id);
}

TEST_F(KeeperFlow, LeavesDroppedReorderedOrChangedAreRefused) {
  auto dataset = market.publish(market.providers[0]);
  market.escrowed({dataset.id});
  const History good = market.history();
  auto lie = [&](const char* name, auto change) {
    History history = good;
    change(history);
    auto keeper = market.new_keeper({});
    EXPECT_TRUE(refused(keeper->follow(history))) << name;
    EXPECT_TRUE(refused(keeper->confirm(good.checkpoint))) << name;
  };
  lie("dropped", [](History& h) { h.leaves.erase(h.leaves.begin() + 2); });
  lie("reordered", [](History& h) { std::swap(h.leaves[2], h.leaves[3]); });
  lie("repeated", [](History& h) { h.leaves.insert(h.leaves.begin() + 2, h.leaves[2]); });
  lie("cut short", [](History& h) { h.leaves.pop_back(); });
  lie("without genesis", [](History& h) { h.leaves.erase(h.leaves.begin()); });
  lie("one bit", [](History& h) { h.leaves[3][h.leaves[3].size() / 2] ^= 1; });
  lie("an older checkpoint",
      [&](History& h) { h.checkpoint = market.prefix(h.size() - 1).checkpoint; });
  lie("a checkpoint of nobody", [](History& h) {
    auto key = ledger::SigningKey::generate();
    auto note = ledger::NoteKey::of("market.example/test", key.public_key()).take();
    h.checkpoint = ledger::sign_checkpoint({"market.example/test", h.size(), Digest{}}, note, key);
  });
}

// ---- sealed state -----------------------------------------------------------------

TEST_F(KeeperFlow, SealedStateOpensOnlyHere) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  const Bytes sealed = market.keeper().sealed();
  auto genesis = market.history().leaves.front();
  auto evaluate = [](auto&&...) { return policy::PolicyDecision{}; };
  auto other_platform =
      market.another_self(ledger::SigningKey::generate(), market.self().measurement);
  auto other_program = market.another_self(market.platform(), ledger::sha256(as_bytes("patched")));
  for (const auto* self : {&other_platform, &other_program}) {
    KeeperHost keeper(*self, evaluate);
    EXPECT_EQ(refused(keeper.begin(genesis, sealed)), Code::kUnauthentic);
    EXPECT_EQ(refused(keeper.about(Kind::kRelease, id)), Code::kConflict);  // it has not begun
  }

  MarketFixture other;
  KeeperHost keeper(market.self(), evaluate);
  EXPECT_EQ(refused(keeper.begin(other.history().leaves.front(), sealed)), Code::kUnauthentic);

  for (size_t at = 0; at < sealed.size(); at += 7) {
    Bytes changed = sealed;
    changed[at] ^= 1;
    KeeperHost reader(market.self(), evaluate);
    EXPECT_EQ(refused(reader.begin(genesis, changed)), Code::kUnauthentic) << at;
  }
  for (size_t length : {size_t{1}, size_t{27}, size_t{28}, sealed.size() - 1}) {
    KeeperHost reader(market.self(), evaluate);
    EXPECT_TRUE(refused(reader.begin(genesis, ByteView(sealed).first(length)))) << length;
    EXPECT_EQ(reader.begin(genesis, sealed).kind, Kind::kReady)
        << length;  // a refusal changed nothing
  }
}

TEST_F(KeeperFlow, SealedStateSaysNothingToTheHost) {
  market.publish(market.providers[0]);
  std::string sealed = to_text(market.keeper().sealed());
  EXPECT_EQ(sealed.find("root"), std::string::npos);
  EXPECT_EQ(sealed.find("kem"), std::string::npos);
}

TEST_F(KeeperFlow, AKeeperThatLostItsStateOpensNoWrap) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  auto keeper = market.new_keeper({});
  ASSERT_EQ(keeper->follow(market.history()).kind, Kind::kConfirmed);
  auto body = trainer::expect(keeper->about(Kind::kChallenge, id), Kind::kNonce);
  ASSERT_TRUE(body);
  StandIn enclave = market.stand_in(id, *body->find("nonce")->string());
  auto answer = keeper->ask(
      Kind::kStart,
      Json::Object{{"contract", id}, {"evidence", contracts::to_json(enclave.evidence)}});
  EXPECT_EQ(refused(answer), Code::kUnauthentic) << kind_and_body(answer);
}

TEST_F(KeeperFlow, NothingIsAnsweredBeforeBeginAndBeginIsOnce) {
  auto evaluate = [](auto&&...) { return policy::PolicyDecision{}; };
  KeeperHost keeper(market.self(), evaluate);
  EXPECT_EQ(refused(keeper.ask(Kind::kBoot, Json::Object{})), Code::kConflict);
  EXPECT_EQ(refused(keeper.ask(Kind::kAttest, Json::Object{{"nonce", std::string(64, '0')}})),
            Code::kConflict);
  auto genesis = market.history().leaves.front();
  ASSERT_EQ(keeper.begin(genesis).kind, Kind::kReady);
  EXPECT_EQ(refused(keeper.begin(genesis)), Code::kConflict);
}

// ---- money ------------------------------------------------------------------------

TEST_F(KeeperFlow, TheHostCannotInventABalance) {
  auto dataset = market.publish(market.providers[0]);
  ledger::SigningKey host = ledger::SigningKey::generate();
  contracts::Deposit deposit{market.lab.account(), 1000};
  const std::vector<const ledger::SigningKey*> others = {
      &host, &market.lab.key, &market.providers[0].key, &market.platform()};
  for (const auto* key : others) {
    auto seq = market.append(contracts::sign_record(deposit, *key, market.market()));
    EXPECT_EQ(market.void_of(seq), "not_the_treasury");
  }
  ContractId id = market.submit(market.contract({dataset.id}));
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.state().contract(id)->ended_because, "unfunded");
  EXPECT_EQ(market.state().minted(), 0);
  expect_no_key(id);
}

TEST_F(KeeperFlow, ADepositInTheTreasurysNameIsNoEntry) {
  // Signed by the host, with the treasury written where the author belongs.
  ledger::SigningKey host = ledger::SigningKey::generate();
  contracts::Deposit deposit{market.lab.account(), 1000};
  auto real = contracts::sign_record(deposit, market.treasury.key, market.market());
  auto forged = ledger::sign_envelope(host, real.payload_type, real.payload);
  auto renamed = forged;
  renamed.signatures.front().key = market.treasury.account();
  auto enlarged = real;
  std::string text = to_text(enlarged.payload);
  auto at = text.find("\"minor\":1000");
  ASSERT_NE(at, std::string::npos);
  text.replace(at, 12, "\"minor\":9000");
  enlarged.payload = to_bytes(text);
  for (const auto& lie : {forged, renamed, enlarged}) {
    auto envelopes = market.envelopes();
    envelopes.push_back(envelope_bytes(lie));
    History history = market.rewrite(envelopes);
    auto keeper = market.new_keeper({});
    auto answer = keeper->follow(history);
    EXPECT_TRUE(refused(answer)) << kind_and_body(answer);
  }
}

TEST_F(KeeperFlow, ADepositReplayedByTheHostCountsOnce) {
  market.deposit(market.lab.account(), 70);
  auto envelopes = market.envelopes();
  envelopes.push_back(envelopes.back());
  History history = market.rewrite(envelopes);
  EXPECT_EQ(market.fold(history).balance(market.lab.account()), 70);
  // Under a new nonce it would need the treasury's signature: nobody else has it.
  MarketFixture other;
  contracts::Deposit deposit{market.lab.account(), 70};
  auto foreign = contracts::sign_record(deposit, market.treasury.key, other.market());
  EXPECT_FALSE(market.try_append(foreign));
}

// ---- quotes and policies ------------------------------------------------------------

TEST_F(KeeperFlow, AQuoteIsTheDecision) {
  auto friendly = market.publish(market.providers[0]);
  auto dear = market.publish(market.providers[1], {.policy = "return {allow = true, price = 700}"});
  auto strict = market.publish(
      market.providers[2],
      {.policy = "return {allow = request.purpose == 'teaching', reasons = {{code = 'purpose', "
                 "message = 'teaching only', "
                 "path = 'request.purpose', got = request.purpose, need = 'teaching'}}}"});
  market.deposit(market.lab.account(), 900);
  const std::vector<std::vector<DatasetId>> choices = {
      {friendly.id}, {friendly.id, dear.id}, {strict.id}, {friendly.id, strict.id, dear.id}};
  for (const auto& choice : choices) {
    auto submit = market.contract(choice);
    market.follow();
    auto quoted = market.keeper().ask(Kind::kQuote,
                                      Json::Object{{"consumer", market.lab.account()},
                                                   {"submit", contracts::members_json(submit)}});
    auto body = trainer::expect(quoted, Kind::kDecision);
    ASSERT_TRUE(body) << kind_and_body(quoted);
    ContractId id = market.submit(submit);
    ASSERT_TRUE(market.record(Kind::kDecide, id));
    Json decided = contracts::members_json(*market.state().contract(id)->decision);
    Json quote = *body->find("decision");
    for (const char* member : {"allow", "status", "reasons", "obligations", "price", "grants"}) {
      EXPECT_EQ(canonical(*quote.find(member)), canonical(*decided.find(member))) << member;
    }
  }
}

TEST_F(KeeperFlow, AQuoteChangesNothing) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 1000);
  market.follow();
  Json submit = contracts::members_json(market.contract({dataset.id}));
  Json ask = Json::Object{{"consumer", market.lab.account()}, {"submit", submit}};
  auto first = market.keeper().ask(Kind::kQuote, ask);
  auto second = market.keeper().ask(Kind::kQuote, ask);
  ASSERT_EQ(first.kind, Kind::kDecision);
  EXPECT_EQ(first.body, second.body);
  EXPECT_EQ(market.state().balance(market.lab.account()), 1000);
}

TEST_F(KeeperFlow, AQuoteForAnEmptyPurseNamesThePriceAndTheContractIsUnfunded) {
  auto dataset = market.publish(market.providers[0]);
  market.follow();
  auto quoted = market.keeper().ask(
      Kind::kQuote,
      Json::Object{{"consumer", market.lab.account()},
                   {"submit", contracts::members_json(market.contract({dataset.id}))}});
  auto body = trainer::expect(quoted, Kind::kDecision);
  ASSERT_TRUE(body);
  EXPECT_EQ(*body->find("decision")->find("allow")->boolean(), true);
  EXPECT_GT(*body->find("decision")->find("price")->integer(), 0);
  ContractId id = market.submit(market.contract({dataset.id}));
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.state().contract(id)->decision->status, "unfunded");
}

TEST_F(KeeperFlow, ADeltaAboveTheBudgetsIsDenied) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 1000);
  auto submit = market.contract({dataset.id});
  submit.spec.privacy->delta_pico =
      market.state().dataset(dataset.id)->manifest.budget_delta_pico + 1;
  ContractId id = market.submit(submit);
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.state().contract(id)->decision->status, "denied");
}

TEST_F(KeeperFlow, APolicyThatFailsInAnyWayDenies) {
  EXPECT_EQ(deny_of("error('no')"), "error");
  EXPECT_EQ(deny_of("return true"), "error");
  EXPECT_EQ(deny_of("return {allow = 'true'}"), "error");
  EXPECT_EQ(deny_of("return {allow = 1}"), "error");
  EXPECT_EQ(deny_of("return {}"), "error");
  EXPECT_EQ(deny_of(""), "error");
  EXPECT_EQ(deny_of("return {allow = true, obligations = {no_such_duty = 1}}"), "error");
  EXPECT_EQ(deny_of("return {allow = true, price = -1}"), "error");
  EXPECT_EQ(deny_of("return {allow = request.no_such_member}"), "error");
  EXPECT_EQ(deny_of("while true do end"), "limit");
  EXPECT_EQ(deny_of("local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end"), "limit");
  EXPECT_EQ(deny_of("this is not lua"), "invalid_policy");
}

TEST_F(KeeperFlow, AFloodOfReasonsStillFitsIntoOneEntry) {
  std::vector<DatasetId> datasets;
  for (int flood = 0; flood < 8; ++flood) {
    datasets.push_back(market
                           .publish(market.providers[0],
                                    {.policy = "local all = {} for i = 1, 14 do all[i] = {code = "
                                               "'why', message = ('\"'):rep(1000)} end "
                                               "return {allow = false, reasons = all}"})
                           .id);
  }
  auto last =
      market.publish(market.providers[1], {.policy = "return {allow = false, reason = 'short'}"});
  datasets.push_back(last.id);
  ContractId id = market.submit(market.contract(datasets));
  market.follow();
  auto envelope = envelope_in(market.keeper().about(Kind::kDecide, id));
  ASSERT_TRUE(envelope);
  EXPECT_TRUE(ledger::SignedEntry::decode(envelope_bytes(*envelope)));
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.state().contract(id)->ended_because, "denied");
  // One provider's flood leaves room for what the next one has to say.
  std::string reasons = canonical(market.state().contract(id)->decision->reasons);
  EXPECT_NE(reasons.find("\"why\""), std::string::npos);
  EXPECT_NE(reasons.find("short"), std::string::npos);
}

TEST_F(KeeperFlow, AFreePriceIsFree) {
  auto dataset =
      market.publish(market.providers[0], {.policy = "return {allow = true, price = 0}"});
  ContractId id = market.submit(market.contract({dataset.id}));
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.phase(id), Phase::kEscrowed);
  EXPECT_EQ(market.state().contract(id)->escrow, 0);
}

TEST_F(KeeperFlow, ARunWeakerThanThePolicyObligesIsDenied) {
  EXPECT_EQ(deny_of("return {allow = true, obligations = {min_noise_micro = 2000001}}"), "denied");
  EXPECT_EQ(deny_of("return {allow = true, obligations = {max_steps = 3}}"), "denied");
  EXPECT_EQ(deny_of("return {allow = true, obligations = {max_parameters = 5}}"), "denied");
  EXPECT_EQ(deny_of("return {allow = true, obligations = {allowed_algorithms = {'cnn'}}}"),
            "denied");
  EXPECT_EQ(deny_of("return {allow = true, obligations = {max_epsilon_micro = 1}}"), "denied");
  EXPECT_EQ(deny_of("return {allow = true, obligations = {max_delta_pico = 1}}"), "denied");
}

TEST_F(KeeperFlow, ARunWithoutPrivacyNeedsEveryProvidersWaiver) {
  const char* waiver = "return {allow = true, obligations = {waive_privacy = true}}";
  auto open = market.publish(market.providers[0], {.policy = waiver});
  auto closed = market.publish(market.providers[1], {.policy = "return {allow = true}"});
  market.deposit(market.lab.account(), 1000);
  auto submit = market.contract({open.id, closed.id});
  submit.spec.privacy.reset();
  ContractId both = market.submit(submit);
  ASSERT_TRUE(market.record(Kind::kDecide, both));
  EXPECT_EQ(market.phase(both), Phase::kRefused);
  submit.datasets = {open.id};
  ContractId one = market.submit(submit);
  ASSERT_TRUE(market.record(Kind::kDecide, one));
  EXPECT_EQ(market.phase(one), Phase::kEscrowed);
  EXPECT_TRUE(market.state().contract(one)->decision->grants.front().waived);
}

// Started, it would fail, the budget be spent and the money go back.
TEST_F(KeeperFlow, ARunThatNoTrainerCouldDoIsDenied) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 1000);
  auto why = [&](const contracts::ContractSubmit& submit) {
    ContractId id = market.submit(submit);
    EXPECT_TRUE(market.record(Kind::kDecide, id));
    EXPECT_EQ(market.phase(id), Phase::kRefused);
    return *market.state().contract(id)->decision->reasons.array()->front().find("code")->string();
  };
  auto submit = market.contract({dataset.id});
  submit.spec.input_shape = {3};
  EXPECT_EQ(why(submit), "wrong_shape");
  submit = market.contract({dataset.id});
  submit.spec.classes = 3;
  submit.spec.model.back().units = 3;
  EXPECT_EQ(why(submit), "wrong_classes");
  submit = market.contract({dataset.id});
  submit.recipient = trainer::recipient_text(SealingKey{});  // of low order
  EXPECT_EQ(why(submit), "wrong_recipient");
  submit = market.contract({dataset.id});
  char& last = submit.recipient.back();
  last = last == 'q' ? 'p' : 'q';  // the checksum does not hold
  EXPECT_EQ(why(submit), "wrong_recipient");
  EXPECT_EQ(market.state().dataset(dataset.id)->budget.committed, contracts::Charges{});
  EXPECT_EQ(market.state().dataset(dataset.id)->budget.reserved, contracts::Charges{});
}

TEST_F(KeeperFlow, AnUnderstatedEpsilonIsDenied) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 1000);
  auto submit = market.contract({dataset.id});
  submit.spec.privacy->epsilon_micro -= 1001;  // one millionth below what the accountant finds
  ContractId id = market.submit(submit);
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.phase(id), Phase::kRefused);
  expect_no_key(id);
}

TEST_F(KeeperFlow, ABudgetIsSpentByReservationsAlready) {
  // Room for one run, not for two at once.
  auto submit = market.contract({});
  int64_t one_run = submit.spec.privacy->epsilon_micro;
  auto dataset = market.publish(market.providers[0], {.budget_epsilon_micro = one_run * 3 / 2});
  market.deposit(market.lab.account(), 100'000);
  submit.datasets = {dataset.id};
  // All stay escrowed: nothing has run when the budget is gone.
  size_t allowed = 0;
  ContractId last;
  while (true) {
    last = market.submit(submit);
    ASSERT_TRUE(market.record(Kind::kDecide, last));
    if (market.phase(last) != Phase::kEscrowed) break;
    ++allowed;
    ASSERT_LT(allowed, 100U);
  }
  EXPECT_GE(allowed, 1U);
  EXPECT_EQ(market.state().contract(last)->ended_because, "budget_exhausted");
  expect_no_key(last);
}

TEST_F(KeeperFlow, NoKeyOfARevokedDataset) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  market.append(contracts::sign_record(contracts::DatasetRevoke{dataset.id},
                                       market.providers[0].key, market.market()));
  StandIn enclave = market.stand_in(id, market.challenge(id));
  auto answer = market.start_frame(id, enclave.evidence);
  EXPECT_EQ(refused(answer), Code::kRefused) << kind_and_body(answer);
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
