// A market under two of three witnesses: what keeper and trainer do not do until a quorum
// stands behind the ledger, and what a host gains by old state, copies and paused processes.
#include <gtest/gtest.h>

#include "ledger/proof/cosignature.h"
#include "tests/support/market_fixture.h"

namespace souk::flows {
namespace {

using contracts::Phase;
using trainer::Kind;

// Three witnesses of this process, and what they say of a note.
class Quorum {
 public:
  explicit Quorum(Clock& clock) : clock_(clock) {}

  static std::string policy() {
    std::string text;
    for (uint8_t i = 0; i < 3; ++i)
      text += "witness W" + std::to_string(i) + " " + name(i).vkey() + "\n";
    return text + "group G 2 W0 W1 W2\nquorum G\n";
  }
  std::string operator()(const std::string& text) const {
    auto note = ledger::parse_note(text).take();
    auto seconds = static_cast<uint64_t>((clock_.now() - behind_ms) / 1000);
    for (uint8_t i = 0; i < awake; ++i) {
      note.signatures.push_back(ledger::cosign(note.text, name(i), key(i), seconds));
    }
    return ledger::encode_note(note);
  }

  uint8_t awake = 2;
  TimeMs behind_ms = 0;

 private:
  static ledger::SigningKey key(uint8_t number) {
    return ledger::SigningKey::from_seed(Bytes(32, static_cast<uint8_t>(number + 1))).take();
  }
  static ledger::CosignerKey name(uint8_t number) {
    return ledger::CosignerKey::of("w" + std::to_string(number), key(number).public_key()).take();
  }
  Clock& clock_;
};

class WitnessedFlow : public ::testing::Test {
 protected:
  ManualClock clock;
  Quorum quorum{clock};
  MarketFixture market{clock, Quorum::policy(),
                       [this](const std::string& note) { return quorum(note); }};

  Json start_body(const ContractId& id, const StandIn& enclave) {
    return Json::Object{{"contract", id}, {"evidence", contracts::to_json(enclave.evidence)}};
  }
  // The keeper hears of the newest checkpoint, cosigned now, and of nothing else.
  trainer::Frame refresh(KeeperHost& keeper) { return keeper.confirm(market.history().checkpoint); }
};

TEST_F(WitnessedFlow, TheWholeStoryGoesItsWay) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  StandIn trainer = market.started(id);
  Bytes header = to_bytes("header");
  auto result = market.result_of(id, header, to_bytes("payload"));
  market.append(contracts::sign_record(result, trainer.signing, market.market()));
  EXPECT_EQ(refused(market.keeper().about(Kind::kRelease, id)), Code::kConflict);  // recorded only
  market.follow();
  EXPECT_EQ(market.keeper().about(Kind::kRelease, id).body, header);
}

TEST_F(WitnessedFlow, WithoutAQuorumTheKeeperLearnsAndReleasesNothing) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  StandIn trainer = market.started(id);
  auto result = market.result_of(id, to_bytes("header"), to_bytes("payload"));
  market.append(contracts::sign_record(result, trainer.signing, market.market()));
  for (uint8_t awake : {uint8_t{0}, uint8_t{1}}) {
    quorum.awake = awake;
    EXPECT_EQ(refused(market.keeper().follow(market.history())), Code::kUnauthentic);
    EXPECT_EQ(refused(market.keeper().about(Kind::kRelease, id)), Code::kConflict);
  }
  quorum.awake = 2;
  market.follow();
  EXPECT_EQ(market.keeper().about(Kind::kRelease, id).kind, Kind::kBytes);
}

TEST_F(WitnessedFlow, AKeeperServesNobodyBeforeItsOwnFreshBootIsWitnessed) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  auto keeper = market.new_keeper(market.keeper().sealed());
  ASSERT_EQ(keeper->follow(market.history()).kind, Kind::kConfirmed);
  for (Kind kind : {Kind::kChallenge, Kind::kDecide, Kind::kRelease}) {
    EXPECT_EQ(refused(keeper->about(kind, id)), Code::kTryAgain);
  }
  EXPECT_EQ(refused(keeper->ask(Kind::kAttest, Json::Object{{"nonce", std::string(64, '0')}})),
            Code::kTryAgain);
  auto boot = envelope_in(keeper->ask(Kind::kBoot, Json::Object{}));
  ASSERT_TRUE(boot);
  market.append(*boot);
  EXPECT_EQ(refused(keeper->about(Kind::kChallenge, id)), Code::kTryAgain);  // recorded only
  ASSERT_EQ(keeper->follow(market.history()).kind, Kind::kConfirmed);
  EXPECT_EQ(keeper->about(Kind::kChallenge, id).kind, Kind::kNonce);
}

TEST_F(WitnessedFlow, AnotherKeepersBootIsNotItsOwn) {
  auto keeper = market.new_keeper(market.keeper().sealed());
  market.restart_keeper();  // one that the witnesses have seen
  ASSERT_EQ(keeper->follow(market.history()).kind, Kind::kConfirmed);
  EXPECT_EQ(refused(keeper->ask(Kind::kAttest, Json::Object{{"nonce", std::string(64, '0')}})),
            Code::kTryAgain);
}

TEST_F(WitnessedFlow, OfTwoKeepersFromOneSealedStateTheOlderGivesUpForGood) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  StandIn trainer = market.stand_in(id, market.challenge(id));
  auto second = market.new_keeper(market.keeper().sealed());
  ASSERT_EQ(second->follow(market.history()).kind, Kind::kConfirmed);
  market.append(*envelope_in(second->ask(Kind::kBoot, Json::Object{})));
  ASSERT_EQ(second->follow(market.history()).kind, Kind::kConfirmed);
  market.follow();
  EXPECT_EQ(refused(market.keeper().ask(Kind::kStart, start_body(id, trainer))), Code::kConflict);
  EXPECT_EQ(refused(market.keeper().about(Kind::kChallenge, id)), Code::kConflict);
  EXPECT_EQ(second->about(Kind::kChallenge, id).kind, Kind::kNonce);
}

// SIGSTOP: the process does not run, its clock does.
TEST_F(WitnessedFlow, AKeeperPausedPastItsLeaseReleasesNothingOnWhatItKnew) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  StandIn trainer = market.stand_in(id, market.challenge(id));
  std::string old_note = market.history().checkpoint;
  clock.advance(trainer::kLeaseMs + 5000);
  EXPECT_EQ(refused(market.keeper().ask(Kind::kStart, start_body(id, trainer))), Code::kTryAgain);
  // The old note again does not make it young.
  EXPECT_EQ(market.keeper().confirm(old_note).kind, Kind::kConfirmed);
  EXPECT_EQ(refused(market.keeper().ask(Kind::kStart, start_body(id, trainer))), Code::kTryAgain);
  // The same tree, cosigned now, does: nothing has happened meanwhile.
  ASSERT_EQ(refresh(market.keeper()).kind, Kind::kConfirmed);
  EXPECT_EQ(market.keeper().ask(Kind::kStart, start_body(id, trainer)).kind, Kind::kEnvelope);
}

TEST_F(WitnessedFlow, APausedKeeperWakesUpToItsSuccessorAndEnds) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  StandIn trainer = market.stand_in(id, market.challenge(id));
  auto successor = market.new_keeper(market.keeper().sealed());
  ASSERT_EQ(successor->follow(market.history()).kind, Kind::kConfirmed);
  market.append(*envelope_in(successor->ask(Kind::kBoot, Json::Object{})));
  ASSERT_EQ(successor->follow(market.history()).kind, Kind::kConfirmed);
  clock.advance(trainer::kLeaseMs + 5000);
  // Asked for what it was asked before the pause, with nothing new: it cannot know.
  EXPECT_EQ(refused(market.keeper().ask(Kind::kStart, start_body(id, trainer))), Code::kTryAgain);
  // The witnesses cosign the newest tree only, and that one tells it.
  market.follow();
  EXPECT_EQ(refused(market.keeper().ask(Kind::kStart, start_body(id, trainer))), Code::kConflict);
}

TEST_F(WitnessedFlow, ALedgerThatIsLaterThanItsWitnessesIsNotConfirmed) {
  quorum.behind_ms = trainer::kMaxAheadMs + 5000;
  market.append(contracts::sign_record(contracts::Deposit{market.lab.account(), 1},
                                       market.treasury.key, market.market()));
  EXPECT_EQ(refused(market.keeper().follow(market.history())), Code::kTryAgain);
  quorum.behind_ms = 0;
  EXPECT_EQ(market.keeper().follow(market.history()).kind, Kind::kConfirmed);
}

// An embargo that is over by the host's clock and not by the witnesses'.
TEST_F(WitnessedFlow, AnEmbargoEndsByTheWitnessesClock) {
  TimeMs end = clock.now() + 60'000;
  std::string policy = "return {allow = ctx.now >= " + std::to_string(end) +
                       ", reasons = {{code = 'embargo', message = 'too early'}}, "
                       "obligations = {min_noise_micro = 1000000}}";
  auto dataset = market.publish(market.providers[0], {.policy = policy});
  market.deposit(market.lab.account(), 1000);
  clock.advance(65'000);
  quorum.behind_ms = 50'000;  // it is really earlier
  ContractId id = market.submit(market.contract({dataset.id}));
  EXPECT_GE(market.state().time(), end);
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.phase(id), Phase::kRefused);
  const Json* time = market.state().contract(id)->decision->inputs.find("time");
  ASSERT_TRUE(time);
  EXPECT_EQ(*time->find("source")->string(), "witnessed");
  EXPECT_LT(*time->find("ms")->integer(), end);
}

// A credential that the host's clock, standing still or set back, would keep alive.
TEST_F(WitnessedFlow, ACredentialExpiresByTheWitnessesClock) {
  auto dataset = market.publish(
      market.providers[0], {.policy = "return {allow = #request.credential_details > 0, "
                                      "reasons = {{code = 'nobody', message = 'who is asking'}}, "
                                      "obligations = {min_noise_micro = 1000000}}"});
  auto issuer = ledger::SigningKey::generate();
  contracts::Credential credential{.subject = market.lab.account(), .type = "ethics"};
  credential.expires_ms = clock.now() + 30'000;
  auto submit = market.contract({dataset.id});
  submit.credentials.push_back(
      canonical(ledger::to_json(contracts::sign_credential(credential, issuer, market.market()))));
  auto decided = [&] {
    market.deposit(market.lab.account(), 1000);
    ContractId id = market.submit(submit);
    EXPECT_TRUE(market.record(Kind::kDecide, id));
    EXPECT_LT(market.state().time(), credential.expires_ms);
    return market.phase(id);
  };
  EXPECT_EQ(decided(), Phase::kEscrowed);
  quorum.behind_ms = -31'000;  // it is really later
  ASSERT_EQ(refresh(market.keeper()).kind, Kind::kConfirmed);
  EXPECT_EQ(decided(), Phase::kRefused);
}

TEST_F(WitnessedFlow, AndItIsGoodAsLongAsTheWitnessesSaySo) {
  auto dataset = market.publish(
      market.providers[0], {.policy = "return {allow = #request.credential_details > 0, "
                                      "reasons = {{code = 'nobody', message = 'who is asking'}}, "
                                      "obligations = {min_noise_micro = 1000000}}"});
  auto issuer = ledger::SigningKey::generate();
  contracts::Credential credential{.subject = market.lab.account(), .type = "ethics"};
  credential.expires_ms = clock.now() + 30'000;
  auto submit = market.contract({dataset.id});
  submit.credentials.push_back(
      canonical(ledger::to_json(contracts::sign_credential(credential, issuer, market.market()))));
  clock.advance(45'000);
  quorum.behind_ms = 40'000;  // the host's clock runs ahead
  market.deposit(market.lab.account(), 1000);
  ContractId id = market.submit(submit);
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_GT(market.state().time(), credential.expires_ms);
  EXPECT_EQ(market.phase(id), Phase::kEscrowed);
}

// No key leaves for a contract that is over, though the ledger, whose time is the host's,
// still has it open.
TEST_F(WitnessedFlow, ADeadlineComesByTheWitnessesClock) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  StandIn trainer = market.stand_in(id, market.challenge(id));
  TimeMs left = market.state().contract(id)->deadline - clock.now();
  quorum.behind_ms = -(left - 2000);
  ASSERT_EQ(refresh(market.keeper()).kind, Kind::kConfirmed);
  EXPECT_EQ(market.keeper().about(Kind::kChallenge, id).kind, Kind::kNonce);
  quorum.behind_ms = -(left + 2000);
  ASSERT_EQ(refresh(market.keeper()).kind, Kind::kConfirmed);
  EXPECT_EQ(market.phase(id), Phase::kEscrowed);
  EXPECT_EQ(refused(market.keeper().about(Kind::kChallenge, id)), Code::kRefused);
  EXPECT_EQ(refused(market.keeper().ask(Kind::kStart, start_body(id, trainer))), Code::kRefused);
}

TEST(Unwitnessed, ADecisionSaysThatItsTimeIsTheHosts) {
  MarketFixture market;
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  const Json* time = market.state().contract(id)->decision->inputs.find("time");
  ASSERT_TRUE(time);
  EXPECT_EQ(*time->find("source")->string(), "host time");
}

TEST_F(WitnessedFlow, ATrainerTakesNoStartThatIsNotWitnessed) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  for (uint8_t awake : {uint8_t{1}, uint8_t{2}}) {
    TrainerThread trainer(market.self());
    auto evidence = market.prepare(trainer, id, market.challenge(id));
    ASSERT_TRUE(evidence);
    if (awake == 1) {
      quorum.awake = awake;
      auto shown = market.show(trainer, market.history());
      ASSERT_TRUE(shown);
      EXPECT_EQ(refused(*shown), Code::kUnauthentic);
      quorum.awake = 2;
    } else {
      market.append(*envelope_in(market.start_frame(id, *evidence)));
      auto shown = market.show(trainer, market.history());
      ASSERT_TRUE(shown);
      EXPECT_EQ(shown->kind, Kind::kConfirmed);
    }
  }
}

}  // namespace
}  // namespace souk::flows
