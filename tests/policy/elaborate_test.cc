#include "policy/lua/elaborate.h"

#include <gtest/gtest.h>

#include "contracts/training/shard.h"
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

Result<double> fixed_noise(double, double, double, uint32_t, uint32_t) {
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

TEST(Elaborate, NoiseForPersonsIsFoundForAsManyRowsAsTheyHave) {
  uint32_t asked = 0;
  auto done = elaborate(contract("epsilon = 1.5", "user_cap = 4, epsilon = 1.5"), catalog(),
                        [&](double, double, double, uint32_t, uint32_t records) -> Result<double> {
                          asked = records;
                          return 2.5;
                        });
  ASSERT_TRUE(done) << done.error().expected();
  EXPECT_EQ(asked, 4U);
  EXPECT_EQ(done->spec.privacy->user_cap, 4U);
  EXPECT_EQ(done->spec.privacy->noise_multiplier, 2.5);
}

TEST(Elaborate, APoolGivesEachDatasetItsRateClipAndEpsilon) {
  // What each would need alone, in units of its own clipping norm.
  std::vector<std::array<double, 2>> asked;
  auto calibrate = [&](double epsilon, double, double q, uint32_t, uint32_t) -> Result<double> {
    asked.push_back({epsilon, q});
    return epsilon < 1 ? 5.0 : 1.5;
  };
  auto done = elaborate(contract("epsilon = 1.5",
                                 "clip = 2, pool = {{batch = 19}, {rate = 0.25, "
                                 "clip = 0.5, epsilon = 0.5}}, epsilon = 1.5"),
                        catalog(), calibrate);
  ASSERT_TRUE(done) << done.error().expected();
  const auto& privacy = *done->spec.privacy;
  ASSERT_EQ(privacy.pool.size(), 2U);
  EXPECT_EQ(privacy.pool[0],
            (contracts::PoolMember{2, 1500000, 1844674407370955161U}));  // 19 of 190 rows
  EXPECT_EQ(privacy.pool[1], (contracts::PoolMember{0.5, 500000, uint64_t{1} << 62}));
  EXPECT_EQ(done->spec.sampling_threshold, uint64_t{1} << 62);
  EXPECT_EQ(done->spec.batch, 10U);  // the denominator stays what the contract says
  ASSERT_EQ(asked.size(), 2U);
  EXPECT_EQ(asked[0], (std::array<double, 2>{1.5, 0.1}));
  EXPECT_EQ(asked[1], (std::array<double, 2>{0.5, 0.25}));
  // 5 over a norm of 0.5 is 1.25 over the contract's 2: the other's 1.5 is more.
  EXPECT_EQ(privacy.noise_multiplier, 1.5);

  auto alike = elaborate(contract("epsilon = 1.5", "pool = {{}, {}}, epsilon = 1.5"), catalog(),
                         fixed_noise);
  ASSERT_TRUE(alike) << alike.error().expected();
  EXPECT_EQ(canonical(contracts::to_json(alike->spec)),
            canonical(contracts::to_json(elaborate(contract(), catalog(), fixed_noise)->spec)));
  for (const char* pool : {"{}", "{{}}", "{{}, {}, {}}", "{{rate = 0}, {}}", "{{rate = 1.5}, {}}",
                           "{{rate = 0.1, batch = 3}, {}}", "{{batch = 191}, {}}",
                           "{{clip = 0.1}, {}}", "{{clip = 2}, {}}", "{{clip = 0.5}, {clip = 0.5}}",
                           "{{epsilon = 2}, {}}", "{{noise = 1}, {}}", "7", "{{}, 7}"}) {
    auto refused =
        elaborate(contract("epsilon = 1.5", std::string("pool = ") + pool + ", epsilon = 1.5"),
                  catalog(), fixed_noise);
    ASSERT_FALSE(refused) << pool;
    EXPECT_EQ(refused.error().code(), Code::kMalformed) << pool;
  }
}

std::string with_model(const std::string& before, const std::string& model) {
  return before + " return {purpose = 'p', datasets = {'mnist-museum'}, model = " + model +
         ", train = {steps = 4, batch = 10, learning_rate = 0.1}, payment = 7}";
}

TEST(Elaborate, BlocksInLoopsAreTheSameSpecificationAsTheirLayersWrittenOut) {
  const std::string plain =
      with_model("",
                 "{conv2d{units = 4, kernel = 3, padding = 1}, relu(), max_pool{kernel = 2}, "
                 "conv2d{units = 8, kernel = 3, padding = 1}, relu(), max_pool{kernel = 2}, "
                 "flatten(), linear{units = 10}}");
  auto written = elaborate(plain, catalog(), fixed_noise);
  ASSERT_TRUE(written) << written.error().expected();
  for (const std::string& program : {
           with_model("local m = {} for _, n in ipairs{4, 8} do "
                      "m[#m + 1] = conv2d{units = n, kernel = 3, padding = 1} m[#m + 1] = relu() "
                      "m[#m + 1] = max_pool{kernel = 2} end m[#m + 1] = flatten() "
                      "m[#m + 1] = linear{units = 10}",
                      "m"),
           with_model("local function block(n) return {conv2d{units = n, kernel = 3, padding = 1}, "
                      "relu(), max_pool{kernel = 2}} end",
                      "{block(4), {block(8)}, flatten(), linear{units = 10}}"),
           with_model("",
                      "{repeated(2, function(i) return {conv2d{units = 4 * i, kernel = 3, "
                      "padding = 1}, relu(), max_pool{kernel = 2}} end), flatten(), "
                      "linear{units = 10}}"),
           with_model("",
                      "{repeated(0, {relu()}), conv2d{units = 4, kernel = 3, padding = 1, from = "
                      "'input'}, relu(), {max_pool{kernel = 2, stride = 2}, "
                      "{conv2d{units = 8, kernel = 3, padding = 1, name = 'c'}, relu{from = "
                      "'c'}}}, max_pool{kernel = 2}, flatten(), linear{units = 10}}"),
       }) {
    auto built = elaborate(program, catalog(), fixed_noise);
    ASSERT_TRUE(built) << program << built.error().expected();
    EXPECT_EQ(canonical(contracts::to_json(built->spec)),
              canonical(contracts::to_json(written->spec)));
  }
}

TEST(Elaborate, ResidualsAndParallelBranchesReadWhatStandsBeforeThem) {
  auto done = elaborate(
      with_model("",
                 "{conv2d{units = 4, kernel = 3, padding = 1}, "
                 "residual{conv2d{units = 4, kernel = 3, padding = 1}, relu()}, "
                 "residual{conv2d{units = 8, kernel = 3, padding = 1}; shortcut = {conv2d{units = "
                 "8, kernel = 1}}, name = 'wide'}, "
                 "parallel{{conv2d{units = 2, kernel = 1}}, {max_pool{kernel = 3, stride = 1, "
                 "padding = 1}, tanh()}, {}}, "
                 "global_avg_pool(), linear{units = 10}}"),
      catalog(), fixed_noise);
  ASSERT_TRUE(done) << done.error().expected();
  const auto& model = done->spec.model;
  ASSERT_EQ(model.size(), 13u);
  using Inputs = std::vector<uint32_t>;
  EXPECT_EQ(model[3].op, Node::Op::kAdd);
  EXPECT_EQ(model[3].inputs, (Inputs{3, 1}));
  EXPECT_EQ(model[4].inputs, Inputs());     // the block's first layer: the node before
  EXPECT_EQ(model[5].inputs, (Inputs{4}));  // the shortcut's: what the block read
  EXPECT_EQ(model[6].inputs, (Inputs{5, 6}));
  EXPECT_EQ(model[7].inputs, Inputs());
  EXPECT_EQ(model[8].inputs, (Inputs{7}));
  EXPECT_EQ(model[9].inputs, Inputs());
  EXPECT_EQ(model[10].op, Node::Op::kConcat);
  EXPECT_EQ(model[10].inputs, (Inputs{8, 10, 7}));
}

TEST(Elaborate, BlocksThatAreNoneAreRefusedAtTheirPlace) {
  struct Case {
    const char* model;
    const char* named;
  };
  for (const Case& c : std::vector<Case>{
           {"{flatten(), {linear{units = 4}, {linear{unit = 10}}}}", "model[2][2][1].unit"},
           {"{flatten(), {linear{units = 4}, 7}}", "model[2][2]"},
           {"{residual{}, flatten(), linear{units = 10}}", "model[1].list"},
           {"{residual{{}}, flatten(), linear{units = 10}}", "model[1].list"},
           {"{residual{relu(), short = {tanh()}}, flatten(), linear{units = 10}}",
            "model[1].short"},
           {"{parallel{{relu()}}, flatten(), linear{units = 10}}", "model[1].list"},
           {"{parallel{relu, tanh}, flatten(), linear{units = 10}}", "function"},
           {"repeated(2.5, {relu()})", "repeated: expected a whole number"},
           {"repeated(1 << 40, {relu()})", "repeated: expected a whole number"},
           {"repeated(2, relu)", "relu: expected a table in braces"},
           {"repeated(2, 'relu')", "repeated: expected layers"},
           {"repeated(2, function() end)", "repeated: expected layers of number 1"},
           {"{repeated(200, {relu()}), repeated(200, {relu()}), flatten(), linear{units = 10}}",
            "at most 256 layers in all"},
           {"{residual{conv2d{units = 2, kernel = 3}}, flatten(), linear{units = 10}}",
            "spec.model[2]"},
       }) {
    auto refused = elaborate(with_model("", c.model), catalog(), fixed_noise);
    ASSERT_FALSE(refused) << c.model;
    EXPECT_NE(refused.error().expected().find(c.named), std::string::npos)
        << c.model << ": " << refused.error().expected();
  }
}

Result<std::vector<contracts::TrainingSpec::Rate>> rates_of(const std::string& train) {
  auto done = elaborate(contract("epochs = 2, batch = 10, learning_rate = 0.1", train), catalog(),
                        fixed_noise);
  if (!done) return std::move(done).take_error();
  return std::move(done->spec.learning_rate);
}

TEST(Elaborate, SchedulesAreFunctionsOfTheStepAndBecomeNumbers) {
  using Rates = std::vector<contracts::TrainingSpec::Rate>;
  auto rates = rates_of("steps = 5, batch = 10, learning_rate = schedule.linear{from = 1}");
  ASSERT_TRUE(rates) << rates.error().expected();
  EXPECT_EQ(*rates, (Rates{{1, 1}, {1, 0.75}, {1, 0.5}, {1, 0.25}, {1, 0}}));
  rates = rates_of(
      "steps = 6, batch = 10, learning_rate = schedule.linear{from = 1, to = 0.5, warmup = 3}");
  ASSERT_TRUE(rates) << rates.error().expected();
  EXPECT_EQ(*rates, (Rates{{1, 1.0 / 3}, {1, 2.0 / 3}, {2, 1}, {1, 0.75}, {1, 0.5}}));
  rates = rates_of("steps = 3, batch = 10, learning_rate = schedule.cosine{from = 1, to = 0.5}");
  ASSERT_TRUE(rates) << rates.error().expected();
  EXPECT_EQ(*rates, (Rates{{1, 1}, {1, 0.75}, {1, 0.5}}));
  rates = rates_of(
      "steps = 5, batch = 10, learning_rate = schedule.drops{from = 8, every = 2, by = 0.5}");
  ASSERT_TRUE(rates) << rates.error().expected();
  EXPECT_EQ(*rates, (Rates{{2, 8}, {2, 4}, {1, 2}}));
  // As the optimizer's own, and by what is left of the steps.
  rates = rates_of(
      "steps = 4, batch = 10, optimizer = sgd{lr = function(step, steps) return steps - step end}");
  ASSERT_TRUE(rates) << rates.error().expected();
  EXPECT_EQ(*rates, (Rates{{1, 3}, {1, 2}, {1, 1}, {1, 0}}));
}

TEST(Elaborate, SchedulesThatAreNoneAreRefused) {
  for (const char* train : {
           "steps = 5, batch = 10, learning_rate = schedule.cosine{form = 1}",
           "steps = 5, batch = 10, learning_rate = schedule.cosine{to = 1}",
           "steps = 5, batch = 10, learning_rate = schedule.cosine{from = '1'}",
           "steps = 5, batch = 10, learning_rate = schedule.cosine",
           "steps = 5, batch = 10, learning_rate = schedule.drops{from = 1, every = 0}",
           "steps = 5, batch = 10, learning_rate = schedule.linear{from = -1}",
           "steps = 5, batch = 10, learning_rate = 'function'",
           "steps = 5, batch = 10, learning_rate = 1, optimizer = sgd{lr = schedule.linear{from = "
           "1}}",
           "steps = 5, batch = 10, optimizer = sgd{lr = function() return 'fast' end}",
           "steps = 5, batch = 10, optimizer = sgd{momentum = function() return 1 end}",
           "steps = 1000000, batch = 10, learning_rate = schedule.linear{from = 1}",  // 65536 runs
       }) {
    EXPECT_FALSE(rates_of(train)) << train;
  }
}

TEST(Elaborate, AFileOfAModelMustBeForTheExamplesOfTheDatasets) {
  const std::string source = contract("{linear{units = 8}, relu(), linear{units = 2}}", "'m.cfg'");
  auto table = run_contract(source, catalog(), kContractLimits);
  ASSERT_TRUE(table) << table.error().expected();
  std::string asked;
  auto models = [&](const std::string& file, const std::string&) -> Result<NamedModel> {
    asked = file;
    NamedModel named;
    named.input_shape = {29};
    named.model.resize(1);
    named.model[0].units = 2;
    return named;
  };
  auto refused = assemble(*table, catalog(), fixed_noise, models);
  EXPECT_EQ(asked, "m.cfg");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().expected().find("30"), std::string::npos);
  EXPECT_NE(refused.error().expected().find("29"), std::string::npos);
}

TEST(Elaborate, AScatteringIsSpoken) {
  auto done = elaborate(
      "return {purpose = 'p', datasets = {'mnist-museum'}, model = {"
      "scattering{scales = 2, orientations = 8}, group_norm{groups = 27, frozen = true}, "
      "flatten(), "
      "linear{units = 10}}, train = {steps = 4, batch = 10, learning_rate = 0.1}, payment = 7}",
      catalog(), fixed_noise);
  ASSERT_TRUE(done) << done.error().expected();
  EXPECT_EQ(done->spec.model[0].scales, 2u);
  EXPECT_EQ(done->spec.model[0].orientations, 8u);
  EXPECT_TRUE(done->spec.model[1].frozen);
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
  EXPECT_EQ(done->spec.shard,
            contracts::usual_shard(done->spec, contracts::check_spec(done->spec).take()));
  EXPECT_FALSE(elaborate(contract("learning_rate = 0.1", "learning_rate = 0.1, loss = 'hinge'"),
                         catalog(), fixed_noise));
  EXPECT_FALSE(
      elaborate(contract("learning_rate = 0.1", "learning_rate = 0.1, shard = 4, micro_batch = 4"),
                catalog(), fixed_noise));
  EXPECT_FALSE(elaborate(
      contract("linear{units = 8}", "embedding{categories = 3, units = 2, columns = {'age'}}"),
      catalog(), fixed_noise));
}

TEST(Elaborate, TheProgramInTheSpecificationIsOne) {
  const std::string page =
      samples::read_text(samples::folder_from("SOUK_SOURCE") + "/contracts/SPEC.md");
  size_t begin = page.find("local function block"), end = page.find("```", begin);
  ASSERT_NE(begin, std::string::npos);
  auto done = elaborate(page.substr(begin, end - begin), catalog(), fixed_noise);
  ASSERT_TRUE(done) << done.error().expected();
  EXPECT_EQ(done->spec.model.size(), 21u);
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

TEST(Elaborate, DatasetsOfOneContractNameTheSameColumnsInTheSameOrder) {
  auto refusal = [](std::vector<std::string> first, std::vector<std::string> second) {
    auto offers = catalog();
    offers[0].feature_names = std::move(first);
    offers[1].feature_names = std::move(second);
    auto done = elaborate(contract(), offers, fixed_noise);
    if (done) return std::string();
    EXPECT_EQ(done.error().code(), Code::kMalformed);
    return done.error().expected();
  };
  const std::string place = "datasets[2]: expected the columns of datasets[1] in their order; ";
  EXPECT_EQ(refusal({"marker", "weight"}, {"marker", "weight"}), "");
  EXPECT_EQ(refusal({"marker", "weight"}, {"weight", "marker"}),
            place + "column 1 is \"marker\" in wdbc-north and is \"weight\" in wdbc-harbour");
  EXPECT_EQ(refusal({"marker", "weight"}, {"marker", "shoe size"}),
            place + "column 2 is \"weight\" in wdbc-north and is \"shoe size\" in wdbc-harbour");
  // Who says nothing of the columns cannot be told from who means others.
  EXPECT_EQ(refusal({"marker", "weight"}, {}),
            place + "column 1 is \"marker\" in wdbc-north and has no name in wdbc-harbour");
  EXPECT_EQ(refusal({}, {"marker", "weight"}),
            place + "column 1 has no name in wdbc-north and is \"marker\" in wdbc-harbour");
  EXPECT_EQ(refusal({}, {}), "");
  const std::string longest = std::string(63, 'x') + "\u00e4";
  const std::string told = refusal({longest}, {"y"});
  EXPECT_NE(told.find("\"" + std::string(63, 'x') + "\""), std::string::npos) << told;
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
           {"relu()", "{units = 8}", "model[2]"},
           {"units = 2}", "units = 3}", "spec.model"},
           {"epochs = 2", "epochs = 2, steps = 5", "train"},
           {"epochs = 2", "epochs = 2, epoch = 5", "train.epoch"},
           {"batch = 10", "batch = 381", "train.batch"},
           {"batch = 10", "batch = 100 / 10", "train.batch"},
           {"learning_rate = 0.1", "learning_rate = 'fast'", "train.learning_rate"},
           {"epsilon = 1.5", "epsilon = 0", "privacy.epsilon"},
           {"epsilon = 1.5", "epsilon = 0 / 0", "privacy.epsilon"},
           {"epsilon = 1.5", "epsilon = 1e300", "privacy.epsilon: expected at most 1e+06"},
           {"epsilon = 1.5", "epsilon = 1000001", "privacy.epsilon: expected at most 1e+06"},
           {"delta = '1e-5'", "delta = 1", "privacy.delta: expected at most 0.999999999999"},
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
