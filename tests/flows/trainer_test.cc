// What a trainer must refuse, whatever its host shows it.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "ledger/crypto/hash.h"
#include "ledger/proof/checkpoint.h"
#include "policy/privacy/budget.h"
#include "tests/support/market_fixture.h"
#include "trainer/data/safetensors.h"
#include "trainer/data/table.h"

namespace souk::flows {
namespace {

using contracts::Phase;
using trainer::Frame;
using trainer::Kind;

// A keeper that the market appraised and that signs whatever a test wants: what the
// trainer refuses here it refuses even from a keeper.
class SigningHand {
 public:
  explicit SigningHand(MarketFixture& market) : market_(market) {
    auto claims = market.trainer_claims(keys_, ContractId{}, std::string(64, '0'));
    claims.role = "keeper";
    claims.contract = "";
    contracts::KeeperBoot boot{keys_.kem.public_key(),
                               trainer::simulate_evidence(market.platform(), claims)};
    auto seq = market.append(contracts::sign_record(boot, keys_.signing, market.market()));
    CHECK(market.void_of(seq).empty());
  }

  ContractId escrowed(const contracts::ContractSubmit& submit, const Json& obligations) {
    ContractId id = market_.submit(submit);
    const auto& state = market_.state();
    contracts::ContractDecision decision;
    decision.contract = id;
    decision.allow = true;
    decision.status = "allowed";
    decision.obligations = obligations;
    decision.head_size = state.size();
    decision.head_root = state.root();
    for (const auto& dataset : submit.datasets) {
      contracts::Grant grant;
      grant.dataset = dataset;
      grant.waived = !submit.spec.privacy;
      decision.grants.push_back(grant);
    }
    auto seq = market_.append(contracts::sign_record(decision, keys_.signing, market_.market()));
    CHECK(market_.void_of(seq).empty());
    return id;
  }

  // The job.start that an honest keeper would sign, to be bent.
  contracts::JobStart start(const ContractId& id, const contracts::Evidence& evidence,
                            const std::vector<const Offered*>& datasets) {
    const auto& contract = *market_.state().contract(id);
    auto claims = trainer::claims_from_json(*parse_canonical(evidence.claims)).take();
    contracts::JobStart out;
    out.contract = id;
    out.decision = contract.decision_hash;
    out.trainer = evidence;
    out.receipt_key = claims.signing;
    out.trainer_kem = claims.kem;
    out.spec = contract.spec_hash;
    out.recipient = contract.submit.recipient;
    out.obligations = contract.decision->obligations;
    for (const auto* dataset : datasets) {
      const auto& manifest = dataset->offer.manifest;
      out.inputs.push_back({dataset->id, manifest.ciphertext, manifest.size, manifest.rows});
      out.wraps.push_back(wrap(id, evidence, dataset->id, dataset->file_key));
    }
    return out;
  }

  contracts::Wrap wrap(const ContractId& id, const contracts::Evidence& evidence,
                       const DatasetId& dataset, const trainer::FileKey& key) {
    auto claims = trainer::claims_from_json(*parse_canonical(evidence.claims)).take();
    std::string info = contracts::trainer_wrap_info(market_.market(), id, dataset,
                                                    contracts::evidence_digest(evidence));
    return {dataset,
            ledger::hpke_seal(claims.kem, as_bytes(info), {}, key.bytes(SecretAccess{})).take()};
  }

  // Answers why it is void; empty when it is not.
  std::string record(const contracts::JobStart& start) {
    return market_.void_of(
        market_.append(contracts::sign_record(start, keys_.signing, market_.market())));
  }

 private:
  MarketFixture& market_;
  StandIn keys_;
};

class TrainerFlow : public ::testing::Test {
 protected:
  TrainerFlow()
      : north(market.publish(market.providers[0])), east(market.publish(market.providers[1])) {}

  // A trainer of this contract with a job.start recorded for it by the real keeper.
  std::unique_ptr<TrainerThread> started(const ContractId& id) {
    auto trainer = std::make_unique<TrainerThread>(market.self());
    auto evidence = market.prepare(*trainer, id, market.challenge(id));
    CHECK(evidence);
    market.append(envelope_in(market.start_frame(id, *evidence)).take());
    CHECK(market.phase(id) == Phase::kRunning);
    return trainer;
  }
  std::unique_ptr<TrainerThread> prepared(const ContractId& id, contracts::Evidence& evidence) {
    auto trainer = std::make_unique<TrainerThread>(market.self());
    evidence = market.prepare(*trainer, id, std::string(64, '7')).take();
    return trainer;
  }

  // The trainer said a code and nothing else, and is gone.
  void expect_refused(TrainerThread& trainer, const Result<Frame>& answer,
                      std::optional<Code> code = std::nullopt) {
    ASSERT_TRUE(answer) << answer.error().expected();
    ASSERT_TRUE(refused(*answer)) << kind_and_body(*answer);
    if (code) {
      EXPECT_EQ(refused(*answer), code);
    }
    EXPECT_EQ(refusal_message(*answer), "");
    EXPECT_FALSE(trainer.finish());
    for (const auto& frame : trainer.heard()) {
      EXPECT_TRUE(frame.kind == Kind::kEvidence || frame.kind == Kind::kDone ||
                  frame.kind == Kind::kConfirmed || frame.kind == Kind::kRefused)
          << kind_and_body(frame);
    }
  }
  // The trainer signed that it has begun nothing; the money and the reservation are back.
  void expect_unbegun(TrainerThread& trainer, const ContractId& id, const Result<Frame>& answer,
                      std::optional<DatasetId> missing = std::nullopt) {
    ASSERT_TRUE(answer) << answer.error().expected();
    ASSERT_EQ(answer->kind, Kind::kStopped) << kind_and_body(*answer);
    EXPECT_TRUE(trainer.finish());
    auto balance = market.state().balance(market.lab.account());
    auto price = market.state().contract(id)->escrow;
    EXPECT_EQ(market.void_of(market.append(envelope_in(*answer).take())), "");
    const auto& contract = *market.state().contract(id);
    EXPECT_EQ(contract.phase, Phase::kRefunded);
    EXPECT_EQ(contract.ended_because, "ciphertext_missing");
    EXPECT_EQ(contract.ended_by_dataset, missing.value_or(north.id));
    EXPECT_EQ(market.state().balance(market.lab.account()), balance + price);
    for (const auto& dataset : contract.submit.datasets) {
      EXPECT_EQ(market.state().dataset(dataset)->budget.reserved, contracts::Charges{});
      EXPECT_EQ(market.state().dataset(dataset)->budget.committed, contracts::Charges{});
    }
    for (const auto& frame : trainer.heard()) EXPECT_NE(frame.kind, Kind::kResult);
  }
  // The whole ledger, then the first dataset: where a trainer without work says so.
  void expect_no_work(TrainerThread& trainer, std::optional<Code> code = Code::kRefused) {
    auto shown = market.show(trainer, market.history());
    ASSERT_TRUE(shown);
    ASSERT_EQ(shown->kind, Kind::kConfirmed) << kind_and_body(*shown);
    expect_refused(trainer, market.send_dataset(trainer, north.id, north.file), code);
  }

  MarketFixture market;
  Offered north, east;
};

TEST_F(TrainerFlow, TheHonestJobTrainsSettlesAndOpensForItsRecipient) {
  ContractId id = market.escrowed({north.id, east.id});
  auto trainer = started(id);
  auto shown = market.show(*trainer, market.history());
  ASSERT_TRUE(shown);
  ASSERT_EQ(shown->kind, Kind::kConfirmed);
  for (const Offered* dataset : {&north, &east}) {
    auto loaded = market.send_dataset(*trainer, dataset->id, dataset->file);
    ASSERT_TRUE(loaded);
    ASSERT_EQ(loaded->kind, Kind::kDone) << kind_and_body(*loaded);
  }
  auto delivery = market.train(*trainer);
  ASSERT_TRUE(delivery) << delivery.error().expected();
  EXPECT_TRUE(trainer->finish());
  EXPECT_EQ(market.void_of(market.append(delivery->result)), "");
  EXPECT_EQ(market.phase(id), Phase::kSettled);
  const auto& result = *market.state().contract(id)->result;
  EXPECT_EQ(result.payload, ledger::sha256(delivery->payload));
  EXPECT_EQ(result.steps, 4U);
  EXPECT_LE(result.epsilon_micro, market.spec().privacy->epsilon_micro);
  EXPECT_GT(result.epsilon_micro, 0);

  market.follow();
  auto header = market.keeper().about(Kind::kRelease, id);
  ASSERT_EQ(header.kind, Kind::kBytes) << kind_and_body(header);
  Bytes file = header.body;
  append(file, delivery->payload);
  auto model = trainer::decrypt_file(file, market.lab.age);
  ASSERT_TRUE(model);
  EXPECT_EQ(ledger::sha256(*model), result.model);
  auto tensors = trainer::SafeTensors::read(*model);
  ASSERT_TRUE(tensors);
  EXPECT_EQ(tensors->tensors().size(), 2U);
  EXPECT_FALSE(trainer::decrypt_file(file, market.providers[0].age));

  // Of the run itself the host heard steps and epsilon, and nothing else.
  for (const auto& frame : trainer->heard()) {
    if (frame.kind != Kind::kProgress) continue;
    auto body = parse_canonical(as_text(frame.body));
    ASSERT_TRUE(body);
    EXPECT_EQ(body->object()->size(), 2U);
    EXPECT_TRUE(body->find("step") && body->find("epsilon_micro"));
  }
}

// ---- a policy that is revoked while it runs ------------------------------------------

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

// ---- no step twice ------------------------------------------------------------------

TEST_F(TrainerFlow, AStepThatWasTakenIsNeverTakenAgainAndItsJobCommitsItsReservedMaximum) {
  market.deposit(market.lab.account(), 1000);
  auto submit = market.contract({north.id});
  submit.spec = private_spec(2, 40, 2);
  ContractId id = market.submit(submit);
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  auto first = started(id);
  const auto reserved = market.state().dataset(north.id)->budget.reserved;
  ASSERT_NE(reserved, contracts::Charges{});
  ASSERT_TRUE(market.show(*first, market.history()));
  ASSERT_TRUE(market.send_dataset(*first, north.id, north.file));
  // Two of its steps are taken; then its host is gone, and the process with it.
  ASSERT_TRUE(first->send(trainer::frame(Kind::kTrain, Json::Object{})));
  auto progress = first->receive();
  ASSERT_TRUE(progress);
  ASSERT_EQ(progress->kind, Kind::kProgress);
  EXPECT_FALSE(first->finish());
  for (const auto& frame : first->heard()) {
    EXPECT_NE(frame.kind, Kind::kBytes);  // nothing left it that a run could go on from
    EXPECT_NE(frame.kind, Kind::kResult);
  }

  // Another process of the same build on the same machine takes up the same contract: the start
  // names the first one's keys, and a keeper signs no second start, also not after its own restart.
  auto second = std::make_unique<TrainerThread>(market.self());
  auto evidence = market.prepare(*second, id, std::string(64, '7'));
  ASSERT_TRUE(evidence);
  for (bool restarted : {false, true}) {
    if (restarted) market.restart_keeper();
    EXPECT_TRUE(refused(market.start_frame(id, *evidence))) << restarted;
  }
  expect_no_work(*second);

  // Whatever its host says about how far it came, all that was reserved is spent.
  EXPECT_EQ(market.state().dataset(north.id)->budget.reserved, reserved);
  ASSERT_TRUE(
      market.record(Kind::kAbort, Json::Object{{"contract", id}, {"reason", "trainer_died"}}));
  EXPECT_EQ(market.phase(id), Phase::kRefunded);
  EXPECT_EQ(market.state().dataset(north.id)->budget.committed, reserved);
  EXPECT_EQ(market.state().dataset(north.id)->budget.reserved, contracts::Charges{});
}

// ---- a pool ---------------------------------------------------------------------------

TEST_F(TrainerFlow, APoolTrainsEachDatasetInItsOwnWayAndCommitsWhatEachSpent) {
  market.deposit(market.lab.account(), 1000);
  auto submit = market.contract({north.id, east.id});
  submit.spec = pooled_spec();
  ContractId id = market.submit(submit);
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  ASSERT_EQ(market.phase(id), Phase::kEscrowed)
      << canonical(contracts::members_json(*market.state().contract(id)->decision));
  auto trainer = started(id);
  ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
  ASSERT_EQ(market.send_dataset(*trainer, north.id, north.file)->kind, Kind::kDone);
  ASSERT_EQ(market.send_dataset(*trainer, east.id, east.file)->kind, Kind::kDone);
  auto delivery = market.train(*trainer);
  ASSERT_TRUE(delivery) << delivery.error().expected();
  ASSERT_EQ(market.void_of(market.append(delivery->result)), "");
  const auto& contract = *market.state().contract(id);
  // The receipt claims the most that any of them spent.
  EXPECT_EQ(contract.result->epsilon_micro, std::max(contract.decision->grants[0].epsilon_micro,
                                                     contract.decision->grants[1].epsilon_micro));
  const contracts::Grant* grants = contract.decision->grants.data();
  EXPECT_EQ(market.state().dataset(north.id)->budget.committed, grants[0].charges);
  EXPECT_EQ(market.state().dataset(east.id)->budget.committed, grants[1].charges);
}

// ---- whose job ------------------------------------------------------------------

TEST_F(TrainerFlow, RefusesWithoutAJobStart) {
  ContractId id = market.escrowed({north.id});
  TrainerThread trainer(market.self());
  ASSERT_TRUE(market.prepare(trainer, id, market.challenge(id)));
  expect_no_work(trainer);
}

TEST_F(TrainerFlow, RefusesAJobStartThatIsSignedButNotRecorded) {
  ContractId id = market.escrowed({north.id});
  TrainerThread trainer(market.self());
  auto evidence = market.prepare(trainer, id, market.challenge(id));
  ASSERT_TRUE(evidence);
  ASSERT_EQ(market.start_frame(id, *evidence).kind, Kind::kEnvelope);
  expect_no_work(trainer);
}

TEST_F(TrainerFlow, RefusesTheJobOfAnotherTrainer) {
  ContractId id = market.escrowed({north.id});
  contracts::Evidence unused;
  auto second = prepared(id, unused);
  auto first = started(id);
  expect_no_work(*second);
}

TEST_F(TrainerFlow, RefusesItsJobOnceItIsOver) {
  ContractId id = market.escrowed({north.id});
  auto trainer = started(id);
  ASSERT_TRUE(
      market.record(Kind::kAbort, Json::Object{{"contract", id}, {"reason", "trainer_died"}}));
  expect_no_work(*trainer);
}

TEST_F(TrainerFlow, RefusesAContractThatIsNotOnTheLedger) {
  contracts::Evidence unused;
  auto trainer = prepared(ContractId(ledger::sha256(as_bytes("none"))), unused);
  expect_no_work(*trainer);
}

TEST_F(TrainerFlow, RefusesAJobOfAnotherContractWithItsOwnKeys) {
  // Prepared for one contract, named in the job.start of another.
  SigningHand hand(market);
  ContractId one = hand.escrowed(market.contract({north.id}), Json::Object{});
  ContractId two = hand.escrowed(market.contract({north.id}), Json::Object{});
  contracts::Evidence evidence;
  auto trainer = prepared(one, evidence);
  EXPECT_EQ(hand.record(hand.start(two, evidence, {&north})), "");
  expect_no_work(*trainer);
}

// ---- a job.start that is bent -----------------------------------------------------

TEST_F(TrainerFlow, AnHonestHandIsServed) {
  SigningHand hand(market);
  ContractId id = hand.escrowed(market.contract({north.id}), Json::Object{});
  contracts::Evidence evidence;
  auto trainer = prepared(id, evidence);
  ASSERT_EQ(hand.record(hand.start(id, evidence, {&north})), "");
  ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
  auto loaded = market.send_dataset(*trainer, north.id, north.file);
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->kind, Kind::kDone) << kind_and_body(*loaded);
}

TEST_F(TrainerFlow, RefusesWhateverTheRecordBends) {
  struct Lie {
    const char* name;
    const char* code;  // of the void
    std::function<void(contracts::JobStart&, const contracts::Evidence&)> bend;
  };
  Party host{"host"};
  StandIn other;
  SigningHand hand(market);
  const std::vector<Lie> lies = {
      {"recipient", "wrong_recipient", [&](auto& s, auto&) { s.recipient = host.recipient(); }},
      {"spec", "wrong_spec", [](auto& s, auto&) { s.spec[0] ^= 1; }},
      {"decision", "wrong_decision", [](auto& s, auto&) { s.decision[0] ^= 1; }},
      {"obligations", "wrong_obligations",
       [](auto& s, auto&) {
         s.obligations = Json::Object{{"max_steps", 100}};
       }},
      {"receipt key", "wrong_keys", [&](auto& s, auto&) { s.receipt_key = host.account(); }},
      {"KEM key", "wrong_keys", [&](auto& s, auto&) { s.trainer_kem = other.kem.public_key(); }},
      {"ciphertext", "wrong_inputs", [](auto& s, auto&) { s.inputs[0].ciphertext[0] ^= 1; }},
      {"rows", "wrong_inputs", [](auto& s, auto&) { s.inputs[0].rows += 1; }},
      {"one dataset less", "wrong_inputs", [](auto& s, auto&) { s.inputs.pop_back(); }},
      {"datasets in another order", "wrong_inputs",
       [](auto& s, auto&) { std::swap(s.inputs[0], s.inputs[1]); }},
      {"wraps in another order", "wrong_wraps",
       [](auto& s, auto&) { std::swap(s.wraps[0], s.wraps[1]); }},
  };
  for (const auto& lie : lies) {
    ContractId id = hand.escrowed(market.contract({north.id, east.id}), Json::Object{});
    contracts::Evidence evidence;
    auto trainer = prepared(id, evidence);
    auto start = hand.start(id, evidence, {&north, &east});
    lie.bend(start, evidence);
    EXPECT_EQ(hand.record(start), lie.code) << lie.name;
    expect_no_work(*trainer);
  }
}

TEST_F(TrainerFlow, RefusesASubstitutedWrap) {
  SigningHand hand(market);
  auto try_wrap = [&](auto make) {
    ContractId id = hand.escrowed(market.contract({north.id}), Json::Object{});
    contracts::Evidence evidence;
    auto trainer = prepared(id, evidence);
    auto start = hand.start(id, evidence, {&north});
    start.wraps[0] = make(id, evidence);
    ASSERT_EQ(hand.record(start), "");
    ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
    expect_refused(*trainer, market.send_dataset(*trainer, north.id, north.file),
                   Code::kUnauthentic);
  };
  auto wrap_for = [&](const ContractId& id, const contracts::Evidence& evidence,
                      const DatasetId& info_dataset, const trainer::FileKey& key) {
    auto wrap = hand.wrap(id, evidence, info_dataset, key);
    wrap.dataset = north.id;
    return wrap;
  };
  // The key of another dataset; a key of the host's; a wrap made for another place.
  try_wrap([&](auto& id, auto& e) { return wrap_for(id, e, north.id, east.file_key); });
  auto hosts = trainer::FileKey::random();
  try_wrap([&](auto& id, auto& e) { return wrap_for(id, e, north.id, hosts); });
  try_wrap([&](auto& id, auto& e) { return wrap_for(id, e, east.id, north.file_key); });
  try_wrap([&](auto&, auto& e) {
    return wrap_for(ContractId(ledger::sha256(as_bytes("another"))), e, north.id, north.file_key);
  });
  try_wrap([&](auto& id, auto& e) {
    auto wrap = wrap_for(id, e, north.id, north.file_key);
    wrap.sealed[40] ^= 1;
    return wrap;
  });
}

TEST_F(TrainerFlow, RefusesARunWeakerThanItsObligations) {
  SigningHand hand(market);
  auto attempt = [&](const Json& obligations, bool fine, bool private_run = true) {
    auto submit = market.contract({north.id});
    if (!private_run) submit.spec.privacy.reset();
    ContractId id = hand.escrowed(submit, obligations);
    contracts::Evidence evidence;
    auto trainer = prepared(id, evidence);
    ASSERT_EQ(hand.record(hand.start(id, evidence, {&north})), "");
    ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
    auto answer = market.send_dataset(*trainer, north.id, north.file);
    ASSERT_TRUE(answer);
    if (fine) {
      EXPECT_EQ(answer->kind, Kind::kDone) << canonical(obligations) << kind_and_body(*answer);
    } else {
      SCOPED_TRACE(canonical(obligations));
      expect_refused(*trainer, answer);
    }
  };
  int64_t epsilon = market.spec().privacy->epsilon_micro;
  attempt(Json::Object{{"min_noise_micro", 2'000'000}}, true);
  attempt(Json::Object{{"min_noise_micro", 1'999'999}}, true);  // larger noise is fine
  attempt(Json::Object{{"min_noise_micro", 2'000'001}}, false);
  attempt(Json::Object{{"max_steps", 4}}, true);
  attempt(Json::Object{{"max_steps", 5}}, true);
  attempt(Json::Object{{"max_steps", 3}}, false);
  attempt(Json::Object{{"max_parameters", 6}}, true);
  attempt(Json::Object{{"max_parameters", 5}}, false);
  attempt(Json::Object{{"max_epsilon_micro", epsilon}}, true);
  attempt(Json::Object{{"max_epsilon_micro", epsilon - 1}}, false);
  attempt(Json::Object{{"max_delta_pico", 10'000'000}}, true);
  attempt(Json::Object{{"max_delta_pico", 9'999'999}}, false);
  attempt(Json::Object{{"allowed_algorithms", Json::Array{"logreg"}}}, true);
  attempt(Json::Object{{"allowed_algorithms", Json::Array{"mlp"}}}, false);
  attempt(Json::Object{{"waive_privacy", true}}, true);
  attempt(Json::Object{{"no_such_duty", 1}}, false);
  attempt(Json::Object{{"max_steps", "many"}}, false);
  attempt(Json::Object{{"waive_privacy", true}}, true, false);
  attempt(Json::Object{}, false, false);  // no privacy, and nobody waived it
}

// ---- data -----------------------------------------------------------------------

TEST_F(TrainerFlow, RefusesEveryOtherCiphertext) {
  struct Lie {
    const char* name;
    std::function<Bytes()> file;
  };
  const Bytes& good = north.file;
  size_t header = trainer::find_header_length(good).take();
  auto flipped = [&](size_t at) {
    Bytes file = good;
    file[at] ^= 1;
    return file;
  };
  auto cut = [&](size_t length) {
    return Bytes(good.begin(), good.begin() + static_cast<ptrdiff_t>(length));
  };
  const std::vector<Lie> lies = {
      {"another dataset", [&] { return east.file; }},
      {"nothing", [] { return Bytes{}; }},
      {"half a header", [&] { return cut(header / 2); }},
      {"a header alone", [&] { return cut(header); }},
      {"header and nonce", [&] { return cut(header + 16); }},
      {"one byte less", [&] { return cut(good.size() - 1); }},
      {"one byte more",
       [&] {
         Bytes file = good;
         file.push_back(0);
         return file;
       }},
      {"itself twice",
       [&] {
         Bytes file = good;
         append(file, good);
         return file;
       }},
      {"a bit of the version", [&] { return flipped(3); }},
      {"a bit of the stanza", [&] { return flipped(header / 2); }},
      {"a bit of the MAC", [&] { return flipped(header - 10); }},
      {"a bit of the nonce", [&] { return flipped(header + 1); }},
      {"a bit of a row", [&] { return flipped(header + 100); }},
      {"the last bit", [&] { return flipped(good.size() - 1); }},
      {"another header for the same key",
       [&] {
         SealingKey lab = market.lab.age.recipient();
         Bytes file = trainer::make_header(north.file_key, std::span(&lab, 1)).take();
         append(file, ByteView(good).subspan(header));
         return file;
       }},
      {"other rows under the same key",
       [&] {
         Bytes file = cut(header);
         Bytes plain =
             trainer::decrypt_payload(north.file_key, ByteView(good).subspan(header)).take();
         append(file, trainer::encrypt_payload(north.file_key, plain));
         return file;
       }},
      {"not age at all", [&] { return Bytes(good.size(), 0x41); }},
  };
  for (const auto& lie : lies) {
    SCOPED_TRACE(lie.name);
    ContractId id = market.escrowed({north.id});
    auto trainer = started(id);
    ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
    expect_unbegun(*trainer, id, market.send_dataset(*trainer, north.id, lie.file()));
  }
}

TEST_F(TrainerFlow, ADatasetThatTheHostHasLostEndsTheJobAndCostsNothing) {
  Json lost = Json::Object{{"dataset", east.id}};
  for (bool halfway : {false, true}) {
    SCOPED_TRACE(halfway);
    ContractId id = market.escrowed({north.id, east.id});
    auto trainer = started(id);
    ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
    ASSERT_EQ(market.send_dataset(*trainer, north.id, north.file)->kind, Kind::kDone);
    if (halfway) {
      ASSERT_TRUE(trainer->send(trainer::frame(Kind::kDataset, lost)));
      ASSERT_TRUE(trainer->send(trainer::frame_of_bytes(ByteView(east.file).first(100))));
    }
    expect_unbegun(*trainer, id, trainer->ask(trainer::frame(Kind::kMissing, lost)), east.id);
  }
  ContractId id = market.escrowed({north.id});
  auto trainer = started(id);
  ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
  expect_refused(*trainer, trainer->ask(trainer::frame(Kind::kMissing, lost)), Code::kRefused);
}

// What a policy is told of earlier runs: one that began no step, for want of its ciphertext, is
// none.
TEST_F(TrainerFlow, AJobThatEndedForALostCiphertextCountsAsNoRun) {
  auto once = market.publish(
      market.providers[2],
      {.policy = "if ctx.consumer.runs + ctx.purpose.runs + ctx.runs > 0 then "
                 "return {allow = false, reason = 'once'} end "
                 "return {allow = true, obligations = {min_noise_micro = 1000000}}"});
  Json lost = Json::Object{{"dataset", once.id}};
  auto decided = [&] {
    market.deposit(market.lab.account(), 1000);
    ContractId id = market.submit(market.contract({once.id}));
    EXPECT_TRUE(market.record(Kind::kDecide, id));
    return id;
  };
  for (int loss = 0; loss < 2; ++loss) {
    ContractId id = decided();
    ASSERT_EQ(market.phase(id), Phase::kEscrowed) << loss;
    auto trainer = started(id);
    ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
    expect_unbegun(*trainer, id, trainer->ask(trainer::frame(Kind::kMissing, lost)), once.id);
  }
  EXPECT_EQ(market.phase(decided()), Phase::kEscrowed);
  EXPECT_EQ(market.phase(decided()), Phase::kRefused) << "one that may still run is one";
}

// Whether a private run settles says nothing of how many classes the rows have where the offer
// does not say it: the same contract on two and on three classes ends the same way.
TEST_F(TrainerFlow, RowsOfUnnamedClassesDoNotDecideWhetherAPrivateRunSettles) {
  std::vector<std::vector<Kind>> heard;
  for (int64_t classes : {2, 3}) {
    trainer::Dataset rows;
    std::vector<float> features;
    for (int64_t row = 0; row < 40; ++row) {
      features.push_back(row % 2 ? 1.0F : -1.0F);
      features.push_back(0.5F);
      rows.labels.push_back(row % classes);
    }
    rows.features = std::move(features);
    rows.schema.feature_shape = {2};
    rows.schema.feature_names = {"feature 0", "feature 1"};
    rows.schema.label_name = "kind";
    for (int64_t i = 0; i < classes; ++i)
      rows.schema.classes.push_back("kind " + std::to_string(i));
    auto plain = trainer::dataset_to_safetensors(rows).take();
    const Party& provider = market.providers[2];
    auto offered = offer_of(provider, {.name_classes = false}, market.market(),
                            *market.state().keeper(), plain, 2);
    ASSERT_TRUE(offered.offer.manifest.class_names.empty());
    ASSERT_EQ(market.void_of(market.append(
                  contracts::sign_record(offered.offer, provider.key, market.market()))),
              "");
    ContractId id = market.escrowed({offered.id});
    auto trainer = started(id);
    ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
    auto loaded = market.send_dataset(*trainer, offered.id, offered.file);
    ASSERT_TRUE(loaded);
    ASSERT_EQ(loaded->kind, Kind::kDone) << kind_and_body(*loaded);
    auto delivery = market.train(*trainer);
    ASSERT_TRUE(delivery) << delivery.error().expected();
    EXPECT_EQ(market.void_of(market.append(delivery->result)), "");
    EXPECT_EQ(market.phase(id), Phase::kSettled);
    std::vector<Kind> kinds;
    for (const auto& frame : trainer->heard()) kinds.push_back(frame.kind);
    heard.push_back(kinds);
  }
  EXPECT_EQ(heard[0], heard[1]);
}

// Files that no importer of ours writes: a number that is not finite, labels past the classes. Of
// two datasets that differ in such a row neither run fails, and the host hears the same.
TEST_F(TrainerFlow, ARowThatNoImporterWritesDoesNotDecideWhetherAPrivateRunSettles) {
  trainer::Dataset rows;
  std::vector<float> features;
  for (int64_t row = 0; row < 40; ++row) {
    features.push_back(row % 2 ? 1.0F : -1.0F);
    features.push_back(0.5F);
    rows.labels.push_back(row % 2);
  }
  rows.features = std::move(features);
  rows.schema.feature_shape = {2};
  rows.schema.feature_names = {"feature 0", "feature 1"};
  rows.schema.label_name = "kind";
  rows.schema.classes = {"benign", "malignant"};
  const Bytes whole = trainer::dataset_to_safetensors(rows).take();
  // Labels stand first, then features.
  const size_t labels = whole.size() - 40 * 8 - 80 * 4, numbers = labels + 40 * 8;
  auto with = [&](size_t at, auto value) {
    Bytes plain = whole;
    std::memcpy(plain.data() + at, &value, sizeof value);
    return plain;
  };
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(),
                  kInfinite = std::numeric_limits<float>::infinity();
  std::vector<std::vector<Kind>> heard;
  for (const Bytes& plain :
       {whole, with(numbers + 12, kNan), with(numbers, -kInfinite), with(labels + 24, int64_t{2}),
        with(labels, std::numeric_limits<int64_t>::min())}) {
    EXPECT_EQ(plain == whole, static_cast<bool>(trainer::dataset_from_safetensors(plain)));
    const Party& provider = market.providers[2];
    auto offered = offer_of(provider, {}, market.market(), *market.state().keeper(), plain, 2);
    ASSERT_EQ(market.void_of(market.append(
                  contracts::sign_record(offered.offer, provider.key, market.market()))),
              "");
    ContractId id = market.escrowed({offered.id});
    auto trainer = started(id);
    ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
    auto loaded = market.send_dataset(*trainer, offered.id, offered.file);
    ASSERT_TRUE(loaded);
    ASSERT_EQ(loaded->kind, Kind::kDone) << kind_and_body(*loaded);
    auto delivery = market.train(*trainer);
    ASSERT_TRUE(delivery) << delivery.error().expected();
    EXPECT_EQ(market.void_of(market.append(delivery->result)), "");
    EXPECT_EQ(market.phase(id), Phase::kSettled);
    std::vector<Kind> kinds;
    for (const auto& frame : trainer->heard()) kinds.push_back(frame.kind);
    heard.push_back(kinds);
  }
  for (const auto& kinds : heard) EXPECT_EQ(kinds, heard.front());
}

// ---- a dataset that is erased while it is trained on ------------------------------------

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

TEST_F(TrainerFlow, RefusesDatasetsInAnotherOrderOrTwice) {
  ContractId id = market.escrowed({north.id, east.id});
  auto trainer = started(id);
  ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
  expect_refused(*trainer, market.send_dataset(*trainer, east.id, east.file), Code::kRefused);

  ContractId again = market.escrowed({north.id, east.id});
  auto second = started(again);
  ASSERT_EQ(market.show(*second, market.history())->kind, Kind::kConfirmed);
  ASSERT_EQ(market.send_dataset(*second, north.id, north.file)->kind, Kind::kDone);
  expect_refused(*second, market.send_dataset(*second, north.id, north.file), Code::kRefused);
}

TEST_F(TrainerFlow, RefusesADatasetOtherThanItsOfferSays) {
  // The provider's own lie: more rows promised than encrypted.
  auto offered = market.make_offer(market.providers[2]);
  offered.offer.manifest.rows += 1;
  offered.id = contracts::dataset_id(offered.offer.manifest);
  std::string info = contracts::dataset_wrap_info(
      market.market(), offered.id, market.providers[2].account(),
      contracts::policy_hash(offered.offer.manifest.policy), offered.offer.keeper_evidence);
  offered.offer.wrap = ledger::hpke_seal(market.state().keeper()->kem, as_bytes(info), {},
                                         offered.file_key.bytes(SecretAccess{}))
                           .take();
  market.append(contracts::sign_record(offered.offer, market.providers[2].key, market.market()));
  ContractId id = market.escrowed({offered.id});
  auto trainer = started(id);
  ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
  expect_refused(*trainer, market.send_dataset(*trainer, offered.id, offered.file),
                 Code::kMalformed);
}

TEST_F(TrainerFlow, RefusesASpecificationOfAnotherShape) {
  SigningHand hand(market);  // the keeper itself denies it
  auto submit = market.contract({north.id});
  submit.spec.input_shape = {3};
  ContractId wide = hand.escrowed(submit, Json::Object{});
  contracts::Evidence evidence;
  auto trainer = prepared(wide, evidence);
  ASSERT_EQ(hand.record(hand.start(wide, evidence, {&north})), "");
  ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
  expect_refused(*trainer, market.send_dataset(*trainer, north.id, north.file), Code::kMalformed);
}

TEST_F(TrainerFlow, AuditsItselfWhereItIsObligedTo) {
  SigningHand hand(market);
  for (bool asked : {true, false}) {
    ContractId id = hand.escrowed(market.contract({north.id}),
                                  asked ? Json::Object{{"audit", "one-run"}} : Json::Object{});
    contracts::Evidence evidence;
    auto trainer = prepared(id, evidence);
    ASSERT_EQ(hand.record(hand.start(id, evidence, {&north})), "");
    ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
    ASSERT_EQ(market.send_dataset(*trainer, north.id, north.file)->kind, Kind::kDone);
    auto delivery = market.train(*trainer);
    ASSERT_TRUE(delivery) << delivery.error().expected();
    auto seq = market.append(delivery->result);
    EXPECT_EQ(market.void_of(seq), "");
    const auto& result = *market.state().contract(id)->result;
    ASSERT_EQ(result.audit.has_value(), asked);
    if (!asked) continue;
    EXPECT_GE(result.audit->canaries, 32);
    EXPECT_LE(result.audit->epsilon_lower_micro, result.epsilon_micro);
    EXPECT_GE(result.audit->epsilon_gdp_micro, 0);  // of few canaries: may be nothing
  }
}

TEST_F(TrainerFlow, RefusesAKeeperBootedOverTheOneThatSigned) {
  ContractId id = market.escrowed({north.id});
  auto trainer = started(id);
  SigningHand another(market);  // the header would be sealed to it
  expect_no_work(*trainer);
}

TEST_F(TrainerFlow, TrainsNothingBeforeAllIsLoaded) {
  ContractId id = market.escrowed({north.id, east.id});
  auto trainer = started(id);
  ASSERT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
  ASSERT_EQ(market.send_dataset(*trainer, north.id, north.file)->kind, Kind::kDone);
  expect_refused(*trainer, trainer->ask(trainer::frame(Kind::kTrain, Json::Object{})),
                 Code::kMalformed);
}

// ---- the ledger it is shown -------------------------------------------------------

TEST_F(TrainerFlow, RefusesALedgerThatDoesNotAddUp) {
  ContractId id = market.escrowed({north.id});
  struct Lie {
    const char* name;
    std::function<void(History&)> bend;
  };
  const std::vector<Lie> lies = {
      {"dropped", [](History& h) { h.leaves.erase(h.leaves.begin() + 3); }},
      {"reordered", [](History& h) { std::swap(h.leaves[2], h.leaves[3]); }},
      {"repeated", [](History& h) { h.leaves.insert(h.leaves.begin() + 3, h.leaves[3]); }},
      {"cut short", [](History& h) { h.leaves.pop_back(); }},
      {"one bit", [](History& h) { h.leaves[3][h.leaves[3].size() / 2] ^= 1; }},
      {"nothing", [](History& h) { h.leaves.clear(); }},
      {"the checkpoint before",
       [&](History& h) { h.checkpoint = market.prefix(h.size() - 1).checkpoint; }},
      {"a checkpoint of another tree",
       [&](History& h) {
         auto envelopes = market.envelopes();
         std::swap(envelopes[2], envelopes[3]);
         h.checkpoint = market.rewrite(envelopes).checkpoint;
       }},
      {"a checkpoint of another key",
       [](History& h) {
         auto key = ledger::SigningKey::generate();
         auto note = ledger::NoteKey::of("market.example/test", key.public_key()).take();
         h.checkpoint =
             ledger::sign_checkpoint({"market.example/test", h.size(), Digest{}}, note, key);
       }},
      {"no checkpoint", [](History& h) { h.checkpoint = ""; }},
  };
  for (const auto& lie : lies) {
    SCOPED_TRACE(lie.name);
    TrainerThread trainer(market.self());
    ASSERT_TRUE(market.prepare(trainer, id, std::string(64, '7')));
    History history = market.history();
    lie.bend(history);
    expect_refused(trainer, market.show(trainer, history));
  }
}

TEST_F(TrainerFlow, RefusesTheLedgerOfAnotherMarket) {
  MarketFixture other;
  ContractId id = market.escrowed({north.id});
  TrainerThread trainer(market.self());
  ASSERT_TRUE(market.prepare(trainer, id, std::string(64, '7')));
  expect_refused(trainer, market.show(trainer, other.history()));
}

TEST_F(TrainerFlow, SaysNothingToAHostThatSpeaksOutOfTurn) {
  ContractId id = market.escrowed({north.id});
  for (Kind kind : {Kind::kTrain, Kind::kDataset, Kind::kDecide, Kind::kPrepare, Kind::kBytes,
                    Kind::kRelease}) {
    TrainerThread trainer(market.self());
    ASSERT_TRUE(market.prepare(trainer, id, std::string(64, '7')));
    ASSERT_TRUE(trainer.send(trainer::frame(kind, Json::Object{})));
    auto answer = trainer.receive();
    if (answer) {
      EXPECT_TRUE(refused(*answer)) << kind_and_body(*answer);
      EXPECT_EQ(refusal_message(*answer), "");
    }
    EXPECT_FALSE(trainer.finish());
  }
}

}  // namespace
}  // namespace souk::flows
