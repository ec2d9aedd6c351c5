// What a trainer does and, whatever ledger its host shows it, refuses.
#include "ledger/crypto/hash.h"
#include "ledger/proof/checkpoint.h"
#include "tests/flows/trainer_flow.h"
#include "trainer/data/safetensors.h"

namespace souk::flows {
namespace {

// What the recipient of a settled contract gets; empty where the keeper gives no header.
Bytes encrypted_model(auto& market, const ContractId& id, const Bytes& payload) {
  market.follow();
  auto header = market.keeper().about(Kind::kRelease, id);
  EXPECT_EQ(header.kind, Kind::kBytes) << kind_and_body(header);
  if (header.kind != Kind::kBytes) return {};
  Bytes file = header.body;
  append(file, payload);
  return file;
}

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

  const Bytes file = encrypted_model(market, id, delivery->payload);
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

// ---- whose noise it is --------------------------------------------------------------

TEST_F(TrainerFlow, NobodyOutsideAPrivateRunChoosesOrRepeatsItsNoise) {
  // One specification, seed and all, on the same rows, twice: the weights begin alike and the noise
  // does not, so the models differ.
  auto ready = [&](const ContractId& id) {
    auto trainer = started(id);
    EXPECT_EQ(market.show(*trainer, market.history())->kind, Kind::kConfirmed);
    EXPECT_EQ(market.send_dataset(*trainer, north.id, north.file)->kind, Kind::kDone);
    return trainer;
  };
  std::vector<std::vector<Bytes>> models;
  std::vector<Digest> specs;
  for (int run = 0; run < 2; ++run) {
    ContractId id = market.escrowed({north.id});
    auto delivery = market.train(*ready(id));
    ASSERT_TRUE(delivery) << delivery.error().expected();
    EXPECT_EQ(market.void_of(market.append(delivery->result)), "");
    auto model =
        trainer::decrypt_file(encrypted_model(market, id, delivery->payload), market.lab.age);
    ASSERT_TRUE(model);
    auto tensors = trainer::SafeTensors::read(*model);
    ASSERT_TRUE(tensors);
    models.emplace_back();
    for (const auto& tensor : tensors->tensors())
      models.back().emplace_back(tensor.bytes.begin(), tensor.bytes.end());
    specs.push_back(market.state().contract(id)->spec_hash);
  }
  EXPECT_EQ(specs[0], specs[1]);
  ASSERT_EQ(models[0].size(), 2U);
  EXPECT_NE(models[0], models[1]);
  // No frame has room for a root, and no contract: training_test.cc has the specification's.
  for (const char* name : {"noise_root", "root", "seed"}) {
    const std::string zeros(64, '0');
    auto trainer = ready(market.escrowed({north.id}));
    ASSERT_TRUE(trainer->send(trainer::frame(Kind::kTrain, Json::Object{{name, zeros}})));
    auto answer = trainer->receive();
    EXPECT_TRUE(!answer || refused(*answer)) << name;
    EXPECT_FALSE(trainer->finish());
    for (const auto& heard : trainer->heard()) EXPECT_NE(heard.kind, Kind::kProgress);

    // The same question is answered without it.
    const ContractId id = market.escrowed({north.id});
    for (bool asked : {true, false}) {
      TrainerThread early(market.self());
      Json::Object prepare{
          {"genesis", to_base64(market.history().leaves[0])}, {"contract", id}, {"nonce", zeros}};
      if (asked) prepare[name] = zeros;
      auto evidence = early.ask(trainer::frame(Kind::kPrepare, prepare));
      EXPECT_EQ(evidence && !refused(*evidence), !asked) << name;
    }
  }
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
