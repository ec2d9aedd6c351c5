// Whose job a trainer does: the job.start of the ledger that names it, and no other or bent one.
#include "ledger/crypto/hash.h"
#include "tests/flows/trainer_flow.h"

namespace souk::flows {
namespace {

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

TEST_F(TrainerFlow, RefusesAKeeperBootedOverTheOneThatSigned) {
  ContractId id = market.escrowed({north.id});
  auto trainer = started(id);
  SigningHand another(market);  // the header would be sealed to it
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

}  // namespace
}  // namespace souk::flows
