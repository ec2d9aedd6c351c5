// A run from given weights, through the market: the specification binds them, so a host can bring
// no others.
#include <gtest/gtest.h>

#include <limits>

#include "ledger/crypto/hash.h"
#include "tests/support/market_fixture.h"
#include "trainer/data/safetensors.h"
#include "trainer/weights/initial_weights.h"

namespace souk::flows {
namespace {

using contracts::Phase;
using trainer::Frame;
using trainer::Kind;

Bytes safetensors_of(const trainer::Model& model) {
  std::vector<trainer::Tensor> tensors;
  for (const auto& tensor : model.tensors) {
    trainer::TensorShape shape(tensor.shape.begin(), tensor.shape.end());
    tensors.push_back({tensor.name, trainer::Dtype::kF32, shape,
                       ByteView(reinterpret_cast<const uint8_t*>(tensor.values.data()),
                                tensor.values.size() * sizeof(float))});
  }
  return trainer::write_safetensors(tensors, {}).take();
}

class InitialWeightsFlow : public ::testing::Test {
 protected:
  InitialWeightsFlow() : north(market.publish(market.providers[0])) {
    spec = fine_tuning(market.spec());
    model = trainer::initial_model(spec).take();
    for (size_t i = 0; i < model.tensors.size(); ++i) {
      for (size_t k = 0; k < model.tensors[i].values.size(); ++k)
        model.tensors[i].values[k] = 0.25F * static_cast<float>(i + k) - 0.5F;
    }
    weights = safetensors_of(model);
    spec.initial = ledger::sha256(weights);
  }

  // A frozen layer under a head that is trained.
  static contracts::TrainingSpec fine_tuning(contracts::TrainingSpec head) {
    contracts::Node body;
    body.units = 3;
    body.frozen = true;
    contracts::Node bend;
    bend.op = contracts::Node::Op::kTanh;
    head.model.insert(head.model.begin(), {body, bend});
    return head;
  }

  // A trainer with a recorded start that has read the ledger.
  std::unique_ptr<TrainerThread> started(const Bytes& named, ContractId* contract = nullptr) {
    auto submit = market.contract({north.id});
    submit.spec = spec;
    submit.spec.initial = ledger::sha256(named);
    market.deposit(market.lab.account(), 1000);
    ContractId id = market.submit(submit);
    CHECK(market.record(Kind::kDecide, id));
    CHECK(market.phase(id) == Phase::kEscrowed);
    auto trainer = std::make_unique<TrainerThread>(market.self());
    auto evidence = market.prepare(*trainer, id, market.challenge(id));
    CHECK(evidence);
    market.append(envelope_in(market.start_frame(id, *evidence)).take());
    auto shown = market.show(*trainer, market.history());
    CHECK(shown && shown->kind == Kind::kConfirmed);
    if (contract) *contract = id;
    return trainer;
  }
  static void expect_refused(TrainerThread& trainer, const Result<Frame>& answer, Code code) {
    ASSERT_TRUE(answer);
    EXPECT_EQ(refused(*answer), code) << kind_and_body(*answer);
    EXPECT_EQ(refusal_message(*answer), "");
    EXPECT_FALSE(trainer.finish());
  }

  MarketFixture market;
  Offered north;
  contracts::TrainingSpec spec;
  trainer::Model model;
  Bytes weights;
};

TEST_F(InitialWeightsFlow, TheRunStartsFromThemAndFrozenLayersStayAsTheyWere) {
  ContractId id;
  auto trainer = started(weights, &id);
  auto loaded = market.send_initial(*trainer, weights);
  ASSERT_TRUE(loaded);
  ASSERT_EQ(loaded->kind, Kind::kDone) << kind_and_body(*loaded);
  loaded = market.send_dataset(*trainer, north.id, north.file);
  ASSERT_TRUE(loaded);
  ASSERT_EQ(loaded->kind, Kind::kDone) << kind_and_body(*loaded);
  auto delivery = market.train(*trainer);
  ASSERT_TRUE(delivery) << delivery.error().expected();
  EXPECT_EQ(market.void_of(market.append(delivery->result)), "");
  EXPECT_EQ(market.phase(id), Phase::kSettled);

  market.follow();
  Bytes file = market.keeper().about(Kind::kRelease, id).body;
  append(file, delivery->payload);
  auto plain = trainer::decrypt_file(file, market.lab.age).take();
  auto tensors = trainer::SafeTensors::read(plain).take();
  auto trained = trainer::initial_weights(spec, tensors).take();
  ASSERT_EQ(trained.tensors.size(), 4U);
  EXPECT_EQ(trained.tensors[0], model.tensors[0]);
  EXPECT_EQ(trained.tensors[1], model.tensors[1]);
  EXPECT_NE(trained.tensors[2], model.tensors[2]);
}

TEST_F(InitialWeightsFlow, ARunStopsWhenAPolicyIsRevokedThatItsWeightsWereLearnedUnder) {
  auto learned_from = market.publish(market.providers[1]);
  ContractId parent = market.escrowed({learned_from.id});
  StandIn enclave = market.started(parent);
  auto result = market.result_of(parent, to_bytes("a header"), weights);
  market.append(contracts::sign_record(result, enclave.signing, market.market()));
  ASSERT_EQ(market.phase(parent), Phase::kSettled);

  spec = fine_tuning(private_spec(2, 40, 2));
  ContractId id;
  auto trainer = started(weights, &id);
  ASSERT_EQ(market.send_initial(*trainer, weights)->kind, Kind::kDone);
  ASSERT_EQ(market.send_dataset(*trainer, north.id, north.file)->kind, Kind::kDone);
  const auto balance = market.state().balance(market.lab.account());
  const auto reserved = market.state().dataset(north.id)->budget.reserved;
  contracts::PolicyChange change{learned_from.id,
                                 market.state().dataset(learned_from.id)->policies.begin()->first,
                                 contracts::PolicyChange::Move::kRevokeStop};
  auto seq =
      market.append(contracts::sign_record(change, market.providers[1].key, market.market()));
  ASSERT_EQ(market.void_of(seq), "");
  EXPECT_EQ(market.phase(id), Phase::kStopping);
  EXPECT_GT(market.state().balance(market.lab.account()), balance);

  auto stopped = market.train(*trainer);
  ASSERT_TRUE(stopped) << stopped.error().expected();
  EXPECT_TRUE(trainer->finish());
  EXPECT_TRUE(stopped->payload.empty());
  EXPECT_EQ(stopped->result.payload_type, contracts::JobStop::kType);
  EXPECT_EQ(market.void_of(market.append(stopped->result)), "");
  EXPECT_EQ(market.phase(id), Phase::kRefunded);
  const auto& contract = *market.state().contract(id);
  EXPECT_EQ(contract.ended_because, "policy_revoked");
  EXPECT_EQ(contract.stop->steps, 2U);  // a checkpoint at every twentieth of 40 steps
  const auto& budget = market.state().dataset(north.id)->budget;
  EXPECT_EQ(budget.reserved, contracts::Charges{});
  for (size_t order = 0; order < reserved.size(); ++order) {
    EXPECT_GT(budget.committed[order], 0);
    EXPECT_LT(budget.committed[order], reserved[order]);
  }
  market.follow();
  EXPECT_TRUE(refused(market.keeper().about(Kind::kRelease, id)));
}

TEST_F(InitialWeightsFlow, OtherBytesAreRefused) {
  Bytes other = weights;
  other.back() ^= 1;
  auto trainer = started(weights);
  expect_refused(*trainer, market.send_initial(*trainer, other), Code::kUnauthentic);
  trainer = started(weights);
  expect_refused(*trainer, market.send_initial(*trainer, {}), Code::kUnauthentic);
  trainer = started(weights);
  expect_refused(*trainer,
                 market.send_initial(*trainer, ByteView(weights).first(weights.size() / 2)),
                 Code::kUnauthentic);
}

TEST_F(InitialWeightsFlow, WeightsOfAnotherModelAreRefusedBeforeAnyRowIsOpened) {
  trainer::Model bent = model;
  bent.tensors[0].shape = {model.tensors[0].shape[1], model.tensors[0].shape[0]};
  Bytes file = safetensors_of(bent);
  auto trainer = started(file);
  expect_refused(*trainer, market.send_initial(*trainer, file), Code::kMalformed);

  bent = model;
  bent.tensors[2].values[0] = std::numeric_limits<float>::infinity();
  file = safetensors_of(bent);
  trainer = started(file);
  expect_refused(*trainer, market.send_initial(*trainer, file), Code::kMalformed);

  file = to_bytes("not safetensors at all");
  trainer = started(file);
  expect_refused(*trainer, market.send_initial(*trainer, file), Code::kMalformed);
}

TEST_F(InitialWeightsFlow, NoRunStartsWithoutThem) {
  auto trainer = started(weights);
  expect_refused(*trainer, market.send_dataset(*trainer, north.id, north.file), Code::kMalformed);
}

TEST_F(InitialWeightsFlow, ARunFromTheSeedTakesNone) {
  ContractId id = market.escrowed({north.id});
  TrainerThread trainer(market.self());
  auto evidence = market.prepare(trainer, id, market.challenge(id));
  ASSERT_TRUE(evidence);
  market.append(envelope_in(market.start_frame(id, *evidence)).take());
  ASSERT_EQ(market.show(trainer, market.history())->kind, Kind::kConfirmed);
  expect_refused(trainer, market.send_initial(trainer, weights), Code::kMalformed);
}

}  // namespace
}  // namespace souk::flows
