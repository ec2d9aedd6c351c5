#include "policy/lua/elaborate.h"

#include <gtest/gtest.h>

#include "policy/decide/decide.h"
#include "policy/jail/worker.h"
#include "tests/policy/samples.h"

namespace souk::policy {
namespace {

using contracts::Node;

std::vector<CatalogEntry> catalog() {
  auto entry = [](uint8_t id, const char* name, uint64_t rows, std::vector<uint32_t> shape,
                  uint32_t classes) {
    CatalogEntry out;
    Digest digest{};
    digest.fill(id);
    out.id = DatasetId(digest);
    out.name = name;
    out.rows = rows;
    out.feature_shape = std::move(shape);
    out.classes = classes;
    out.label = "label";
    return out;
  };
  return {entry(1, "wdbc-north", 190, {30}, 2),
          entry(2, "wdbc-harbour", 190, {30}, 2),
          entry(3, "wdbc-valley", 189, {30}, 2),
          entry(4, "mnist-archive", 20000, {1, 28, 28}, 10),
          entry(5, "mnist-library", 20000, {1, 28, 28}, 10),
          entry(6, "mnist-museum", 20000, {1, 28, 28}, 10)};
}

Result<double> fixed_noise(double, double, double, uint32_t) {
  return 1.23456789;
}

std::string contract(const std::string& replace = "", const std::string& by = "") {
  std::string text =
      "return {purpose = 'p', datasets = {'wdbc-north', '020202'}, model = {linear{units = 8}, "
      "relu(), linear{units = 2}}, "
      "train = {epochs = 2, batch = 10, learning_rate = 0.1}, privacy = {epsilon = 1.5, delta = "
      "'1e-5'}, payment = 7}";
  if (!replace.empty()) {
    size_t at = text.find(replace);
    EXPECT_NE(at, std::string::npos) << replace;
    text.replace(at, replace.size(), by);
  }
  return text;
}

TEST(Elaborate, AContractBecomesItsSpecification) {
  auto done = elaborate(contract(), catalog(), fixed_noise);
  ASSERT_TRUE(done) << done.error().expected();
  EXPECT_EQ(done->datasets.size(), 2u);
  EXPECT_EQ(done->rows_total, 380u);
  EXPECT_EQ(done->offered_minor, 7);
  EXPECT_EQ(done->deadline_minutes, 60);
  EXPECT_EQ(done->spec.steps, 76u);
  EXPECT_EQ(done->spec.sampling_threshold, 485440633518672410u);  // floor(10 * 2^64 / 380)
  ASSERT_TRUE(done->spec.privacy);
  EXPECT_EQ(done->spec.privacy->epsilon_micro, 1500000);
  EXPECT_EQ(done->spec.privacy->delta_pico, 10000000);
  EXPECT_EQ(done->spec.privacy->noise_multiplier, 1.234568);  // up to whole millionths
  EXPECT_TRUE(done->noise_calibrated);
  EXPECT_EQ(done->spec.learning_rate, (std::vector<contracts::TrainingSpec::Rate>{{76, 0.1}}));
}

TEST(Elaborate, ScheduleFunctionsBecomeRunLengths) {
  auto done = elaborate(contract("learning_rate = 0.1",
                                 "learning_rate = function(step) return step <= 70 and 0.5 or 0.5 "
                                 "* (1 + math.cos(0)) / 4 end"),
                        catalog(), fixed_noise);
  ASSERT_TRUE(done) << done.error().expected();
  EXPECT_EQ(done->spec.learning_rate,
            (std::vector<contracts::TrainingSpec::Rate>{{70, 0.5}, {6, 0.25}}));
  EXPECT_FALSE(
      elaborate(contract("learning_rate = 0.1", "learning_rate = function(step) return 0 / 0 end"),
                catalog(), fixed_noise));
  EXPECT_FALSE(elaborate(
      contract("learning_rate = 0.1", "learning_rate = function(step) while true do end end"),
      catalog(), fixed_noise, {.gas = 100000}));
}

TEST(Elaborate, TheWholeVocabularyIsSpoken) {
  auto offers = catalog();
  offers[0].feature_names = {"age", "sex"};
  auto done = elaborate(
      "return {purpose = 'p', datasets = {'wdbc-north'}, model = {"
      "embedding{categories = 3, units = 2, columns = {'sex', 4}, name = 'e', frozen = true}, "
      "columns{columns = {0, 2}}, concat{'e'}, "
      "linear{units = 8, standardize = true}, layer_norm(), silu(), linear{units = 1}}, "
      "train = {steps = 4, batch = 10, learning_rate = 0.1, loss = 'bce', optimizer = "
      "adamw{weight_decay = 0.1, decay = 'coupled'}, "
      "accumulate = 2, ema = 0.9, micro_batch = 16, dtype = 'bf16'}, "
      "privacy = {epsilon = 1, delta = '1e-5', clipping = 'automatic'}, payment = 7}",
      offers, fixed_noise);
  ASSERT_TRUE(done) << done.error().expected();
  const auto& spec = done->spec;
  EXPECT_EQ(spec.model[0].columns, (std::vector<uint32_t>{1, 4}));
  EXPECT_TRUE(spec.model[0].frozen && spec.model[3].standardize);
  EXPECT_EQ(spec.model[1].inputs, (std::vector<uint32_t>{0}));
  EXPECT_EQ(spec.model[2].inputs, (std::vector<uint32_t>{2, 1}));
  EXPECT_EQ(spec.loss, contracts::TrainingSpec::Loss::kBce);
  EXPECT_EQ(spec.dtype, contracts::TrainingSpec::Dtype::kBf16);
  EXPECT_EQ(spec.accumulate, 2u);
  EXPECT_EQ(spec.ema, 0.9);
  EXPECT_EQ(spec.shard, 16u);
  EXPECT_EQ(spec.optimizer.decay, contracts::Optimizer::Decay::kCoupled);
  EXPECT_EQ(spec.privacy->clipping, contracts::PrivacySpec::Clipping::kAutomatic);
  done = elaborate(
      "return {purpose = 'p', datasets = {'mnist-museum'}, model = {conv2d{units = 2, kernel = 3}, "
      "global_avg_pool(), "
      "linear{units = 10}}, train = {steps = 4, batch = 10, learning_rate = 0.1, loss = 'mse', "
      "augment = {flip = true, crop = 2, multiplicity = 4}}, payment = 7}",
      catalog(), fixed_noise);
  ASSERT_TRUE(done) << done.error().expected();
  EXPECT_EQ(done->spec.augmentation, (contracts::Augmentation{true, 2, 4}));
  EXPECT_FALSE(elaborate(contract("learning_rate = 0.1", "learning_rate = 0.1, loss = 'hinge'"),
                         catalog(), fixed_noise));
  EXPECT_FALSE(
      elaborate(contract("learning_rate = 0.1", "learning_rate = 0.1, shard = 4, micro_batch = 4"),
                catalog(), fixed_noise));
  EXPECT_FALSE(elaborate(
      contract("linear{units = 8}", "embedding{categories = 3, units = 2, columns = {'age'}}"),
      catalog(), fixed_noise));
}

TEST(Elaborate, NamesJoinEarlierNodes) {
  auto done = elaborate(contract("{linear{units = 8}, relu(), linear{units = 2}}",
                                 "{linear{units = 8, name = 'a'}, relu(), linear{units = 8}, "
                                 "add{'a'}, concat{'a', 'input'; name = 'c'}, linear{units = 2}}"),
                        catalog(), fixed_noise);
  ASSERT_FALSE(done);  // node 4 is read by nobody
  done = elaborate(contract("{linear{units = 8}, relu(), linear{units = 2}}",
                            "{linear{units = 8, name = 'a'}, relu(), linear{units = 8}, add{'a'}, "
                            "tanh{name = 't'}, concat{'t', 'input'}, linear{units = 2}}"),
                   catalog(), fixed_noise);
  ASSERT_TRUE(done) << done.error().expected();
  EXPECT_EQ(done->spec.model[3].inputs, (std::vector<uint32_t>{3, 1}));
  EXPECT_EQ(done->spec.model[5].inputs, (std::vector<uint32_t>{5, 0}));
}

TEST(Elaborate, PrivacyMayBeLeftOut) {
  auto done = elaborate(contract(", privacy = {epsilon = 1.5, delta = '1e-5'}", ""), catalog(),
                        fixed_noise);
  ASSERT_TRUE(done) << done.error().expected();
  EXPECT_FALSE(done->spec.privacy);
}

TEST(Elaborate, ErrorsNameTheField) {
  struct Case {
    const char* replace;
    const char* by;
    const char* named;
  };
  for (const Case& c : std::vector<Case>{
           {"purpose = 'p'", "purpose = 5", "purpose"},
           {"'020202'", "'nowhere'", "datasets[2]"},
           {"'020202'", "'wdbc-north'", "datasets[2]"},
           {"'020202'", "'mnist-archive'", "datasets[2]"},
           {"linear{units = 8}", "linear{unit = 8}", "model[1]"},
           {"linear{units = 8}", "linear{units = 8.5}", "model[1].units"},
           {"relu()", "relu", "model[2]"},
           {"relu()", "{}", "model[2]"},
           {"units = 2}", "units = 3}", "spec.model"},
           {"epochs = 2", "epochs = 2, steps = 5", "train"},
           {"epochs = 2", "epochs = 2, epoch = 5", "train.epoch"},
           {"batch = 10", "batch = 381", "train.batch"},
           {"batch = 10", "batch = 100 / 10", "train.batch"},
           {"learning_rate = 0.1", "learning_rate = 'fast'", "train.learning_rate"},
           {"epsilon = 1.5", "epsilon = 0", "privacy.epsilon"},
           {"epsilon = 1.5", "epsilon = 0 / 0", "privacy.epsilon"},
           {"epsilon = 1.5", "epsilon = 1.00000001", "privacy.epsilon"},
           {"delta = '1e-5'", "delta = '1e-13'", "privacy.delta"},
           {"payment = 7", "payment = -7", "payment"},
           {"payment = 7", "payment = 7, tip = 1", "tip"},
           {"epochs = 2", "shuffle = true, epochs = 2", "train.shuffle"},
       }) {
    auto refused = elaborate(contract(c.replace, c.by), catalog(), fixed_noise);
    ASSERT_FALSE(refused) << c.by;
    EXPECT_NE(refused.error().expected().find(c.named), std::string::npos)
        << c.by << ": " << refused.error().expected();
  }
}

TEST(Elaborate, TheJailGivesTheSameSpecification) {
  auto nursery = start_lua_nursery();
  ASSERT_TRUE(nursery);
  auto here = elaborate(contract(), catalog(), fixed_noise);
  auto there = elaborate_jailed(**nursery, contract(), catalog(), fixed_noise);
  ASSERT_TRUE(there) << there.error().expected();
  EXPECT_EQ(there->spec, here->spec);
  auto refused = elaborate_jailed(**nursery, "return {", catalog(), fixed_noise);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::kMalformed);
}

Json request_of(const Elaborated& elaborated, std::vector<CredentialFact> credentials) {
  RequestFacts facts;
  facts.purpose = elaborated.purpose;
  facts.region = elaborated.region;
  facts.payment_minor = elaborated.offered_minor;
  facts.currency = "EUR";
  facts.rows_total = elaborated.rows_total;
  facts.datasets = static_cast<uint32_t>(elaborated.datasets.size());
  facts.credentials = std::move(credentials);
  auto request = build_request(elaborated.spec, facts);
  EXPECT_TRUE(request) << request.error().expected();
  return request ? *request : Json();
}

TEST(Examples, TheGreedyLabIsRefusedByEveryHospitalAndTheModestOneIsNot) {
  const std::string source = samples::folder_from("SOUK_SOURCE");
  ASSERT_FALSE(source.empty());
  auto greedy = elaborate(samples::read_text(source + "/examples/contracts/lab_too_greedy.lua"),
                          catalog(), fixed_noise);
  ASSERT_TRUE(greedy) << greedy.error().expected();
  auto modest = elaborate(samples::read_text(source + "/examples/contracts/lab_breast_cancer.lua"),
                          catalog(), fixed_noise);
  ASSERT_TRUE(modest) << modest.error().expected();
  auto digits = elaborate(samples::read_text(source + "/examples/contracts/mnist_cnn.lua"),
                          catalog(), fixed_noise);
  ASSERT_TRUE(digits) << digits.error().expected();
  EXPECT_EQ(algorithm_name(digits->spec), "cnn");

  DatasetFacts facts;
  facts.name = "wdbc";
  facts.provider_name = "a hospital";
  facts.rows = 190;
  facts.price_minor = 5000;
  facts.budget_epsilon_micro = 8000000;
  facts.budget_delta_pico = 100000000;
  Json dataset = build_dataset(facts);
  Json ctx = build_context({1, 0, 0, 5, {}, {}});
  std::vector<CredentialFact> approved{{"irb-approved", PublicKey(), 9}};
  int64_t total = 0;
  for (const char* name : {"north_hospital", "harbour_clinic", "valley_institute"}) {
    const std::string policy = samples::read_text(source + "/examples/policies/" + name + ".lua");
    ASSERT_TRUE(check_source(policy)) << name;
    auto refused = evaluate(policy, request_of(*greedy, approved), dataset, ctx);
    EXPECT_EQ(refused.status, DecisionStatus::kDenied) << name << canonical(refused.to_json());
    EXPECT_EQ(refused.reasons.size(), 2u) << name;
    auto allowed = evaluate(policy, request_of(*modest, approved), dataset, ctx);
    EXPECT_TRUE(allowed.allowed()) << name << canonical(allowed.to_json());
    EXPECT_TRUE(check_obligations(modest->spec, allowed.obligations)) << name;
    total += allowed.price_minor;
  }
  EXPECT_LE(total, modest->offered_minor);
  const std::string harbour = samples::read_text(source + "/examples/policies/harbour_clinic.lua");
  auto unapproved = evaluate(harbour, request_of(*modest, {}), dataset, ctx);
  ASSERT_EQ(unapproved.status, DecisionStatus::kDenied);
  EXPECT_EQ(unapproved.reasons[0].code, "credential");
}

}  // namespace
}  // namespace souk::policy
