#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>

#include "policy/privacy/accountant.h"
#include "tests/trainer/engine/support.h"
#include "trainer/data/import.h"
#include "trainer/engine/engine.h"
#include "trainer/engine/lines.h"

namespace souk::trainer {
namespace {

using contracts::Node;
using contracts::Optimizer;
using contracts::TrainingSpec;
using testing::Data;
using testing::flat;

std::unique_ptr<Workers> pool(unsigned threads) {
  return Workers::start(threads).take();
}

Model train(const TrainingSpec& spec, const Data& data, uint8_t root, unsigned threads) {
  auto workers = pool(threads);
  auto run = TrainingRun::create(spec, data.examples(), testing::root_of(root), *workers);
  EXPECT_TRUE(run) << run.error().expected();
  EXPECT_TRUE(run->run_to_end());
  return run->finish().take();
}

TrainingSpec mlp(uint32_t inputs, uint32_t steps, double rate) {
  return testing::plain_spec(
      {inputs}, 2, {testing::linear(16), testing::layer(Node::Op::kTanh), testing::linear(2)},
      steps, rate);
}

double norm(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return std::sqrt(sum);
}

TEST(InitialModel, IsAFunctionOfTheSeedWithStableNames) {
  auto spec = testing::every_layer_spec();
  auto model = initial_model(spec).take();
  EXPECT_EQ(model, initial_model(spec).take());
  std::vector<std::string> names;
  for (const auto& tensor : model.tensors) names.push_back(tensor.name);
  EXPECT_EQ(names, (std::vector<std::string>{"1.weight", "1.bias", "2.weight", "2.bias", "4.weight",
                                             "10.weight", "10.bias", "15.weight", "15.bias",
                                             "18.weight", "21.weight", "21.bias"}));
  EXPECT_EQ(model.tensors[4].shape, (std::vector<int64_t>{8, 4, 3, 3}));
  EXPECT_EQ(model.tensors[7].shape, (std::vector<int64_t>{10, 70}));
  spec.seed = 2;
  EXPECT_NE(model, initial_model(spec).take());
}

TEST(InitialModel, IsTheSameOnEveryMachine) {
  auto spec = testing::plain_spec({2}, 2, {testing::linear(2)}, 1, 0.1);
  auto model = initial_model(spec).take();
  // From `openssl enc -chacha20` and the formula of trainer/SPEC.md, Engine, Randomness.
  EXPECT_EQ(model.tensors[0].values,
            (std::vector<float>{-0x1.b4da4e0000000p-2F, -0x1.d68df20000000p-2F,
                                0x1.06fc560000000p+0F, -0x1.c72a820000000p-1F}));
  EXPECT_EQ(model.tensors[1].values, (std::vector<float>{0, 0}));
}

TEST(CheckModel, RefusesAnyOtherSetOfTensors) {
  auto spec = mlp(4, 1, 0.1);
  auto model = initial_model(spec).take();
  EXPECT_TRUE(check_model(spec, model));
  auto renamed = model;
  renamed.tensors[0].name = "1.weights";
  EXPECT_FALSE(check_model(spec, renamed));
  auto reshaped = model;
  std::swap(reshaped.tensors[0].shape[0], reshaped.tensors[0].shape[1]);
  EXPECT_FALSE(check_model(spec, reshaped));
  auto shorter = model;
  shorter.tensors[0].values.pop_back();
  EXPECT_FALSE(check_model(spec, shorter));
  auto fewer = model;
  fewer.tensors.pop_back();
  EXPECT_FALSE(check_model(spec, fewer));
}

TEST(Training, LearnsASeparableProblemWithoutPrivacy) {
  auto data = testing::separable_data(400, 6, 5, 1);
  auto spec = mlp(6, 150, 0.5);
  auto model = train(spec, data, 1, 1);
  auto workers = pool(1);
  EXPECT_GE(evaluate(spec, model, data.examples(), *workers)->accuracy, 0.97);
}

TEST(Training, LearnsASeparableProblemWithPrivacy) {
  auto data = testing::separable_data(2000, 6, 5, 2);
  auto spec = mlp(6, 200, 0.5);
  spec.batch = 100;
  spec.shard = 32;
  testing::make_private(spec, 0.05, 1.0, 1.5);
  auto model = train(spec, data, 1, 2);
  auto workers = pool(1);
  EXPECT_GE(evaluate(spec, model, data.examples(), *workers)->accuracy, 0.96);
}

TEST(Training, AdamAndMomentumLearnToo) {
  auto data = testing::separable_data(400, 6, 5, 3);
  for (int kind = 0; kind < 3; ++kind) {
    auto spec = mlp(6, 150, kind == 0 ? 0.02 : 0.1);
    if (kind == 0) spec.optimizer.kind = Optimizer::Kind::kAdam;
    if (kind > 0) spec.optimizer.momentum = 0.9;
    if (kind == 2) spec.optimizer.nesterov = true;
    spec.optimizer.weight_decay = 1e-3;
    auto model = train(spec, data, 1, 1);
    auto workers = pool(1);
    EXPECT_GE(evaluate(spec, model, data.examples(), *workers)->accuracy, 0.97) << kind;
  }
}

TEST(Training, IsBitIdenticalForAnyNumberOfThreads) {
  for (bool privately : {false, true}) {
    auto spec = testing::every_layer_spec();
    spec.steps = 6;
    spec.learning_rate = {{6, 0.1}};
    spec.batch = 22;
    spec.shard = 4;
    spec.optimizer.momentum = 0.9;
    if (privately) testing::make_private(spec, 0.3, 0.5, 1.0);
    auto data = testing::random_data(64, 3 * 9 * 8, 3, 5);
    auto one = train(spec, data, 7, 1);
    for (unsigned threads : {2u, 3u, 5u}) EXPECT_EQ(one, train(spec, data, 7, threads)) << threads;
    EXPECT_NE(one, train(spec, data, 8, 1));
  }
}

// Sums of a model this large are not kept until all shards are done.
TEST(Training, IsBitIdenticalWhereABatchTakesSeveralWavesOfShards) {
  for (bool privately : {false, true}) {
    const Node tanh = testing::layer(Node::Op::kTanh);
    auto spec = testing::plain_spec(
        {600}, 2, {testing::linear(1000), tanh, testing::linear(600), tanh, testing::linear(2)}, 3,
        0.1);
    spec.batch = 22;
    spec.shard = 4;
    if (privately) testing::make_private(spec, 0.3, 0.5, 1.0);
    auto data = testing::random_data(64, 600, 2, 5);
    auto one = train(spec, data, 7, 1);
    for (unsigned threads : {2u, 3u}) EXPECT_EQ(one, train(spec, data, 7, threads)) << threads;
  }
}

TEST(Training, TheRootDecidesSamplingAndNoise) {
  auto data = testing::separable_data(100, 3, 3, 6);
  auto spec = mlp(3, 3, 0.1);
  testing::make_private(spec, 0.2, 1, 1);
  EXPECT_EQ(train(spec, data, 1, 1), train(spec, data, 1, 1));
  EXPECT_NE(train(spec, data, 1, 1), train(spec, data, 2, 1));
}

// One step of plain SGD with rate 1: the update is the noisy mean gradient.
TrainingSpec one_private_step(double clip, double sigma, double q) {
  auto spec = mlp(6, 1, 1.0);
  testing::make_private(spec, q, clip, sigma);
  return spec;
}

TEST(PrivateStep, OneHugeExampleMovesTheUpdateByAtMostTheClip) {
  auto data = testing::separable_data(64, 6, 3, 7);
  auto spec = one_private_step(0.25, 0.05, 0.9999999);
  auto without = train(spec, data, 3, 1);
  for (float size : {1.0F, 100.0F, 1e4F}) {
    auto huge = data;
    for (int i = 0; i < 6; ++i) huge.features[5 * 6 + static_cast<size_t>(i)] = size;
    huge.labels[5] = 1 - huge.labels[5];
    auto with = train(spec, huge, 3, 1);
    // Replacing one record is removing one and adding one; the update is divided by the batch.
    EXPECT_LE(norm(flat(without), flat(with)), 2 * 0.25 / spec.batch * (1 + 1e-5)) << size;
    EXPECT_GT(norm(flat(without), flat(with)), 0);
  }
}

TEST(PrivateStep, ARecordThatIsNotANumberCountsAsNone) {
  auto data = testing::separable_data(64, 6, 3, 8);
  auto spec = one_private_step(0.25, 0.05, 0.9999999);
  auto broken = data;
  broken.features[5 * 6] = std::numeric_limits<float>::quiet_NaN();
  auto shorter = data;  // the same sampling for the rows before it; the last row goes instead
  auto model = train(spec, broken, 3, 1);
  for (float w : flat(model)) EXPECT_TRUE(std::isfinite(w));
  EXPECT_LE(norm(flat(train(spec, data, 3, 1)), flat(model)), 0.25 / spec.batch * (1 + 1e-5));
}

TEST(PrivateStep, AnEmptyBatchStillAddsNoise) {
  auto data = testing::separable_data(4, 6, 3, 9);
  auto spec = one_private_step(0.5, 2.0, 1e-12);
  auto before = flat(initial_model(spec).take()), after = flat(train(spec, data, 3, 1));
  double sum = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_NE(before[i], after[i]);
    double change = (double{after[i]} - before[i]) * spec.batch / (0.5 * 2.0);
    sum += change * change;
  }
  auto n = static_cast<double>(before.size());
  EXPECT_LT(std::abs(sum / n - 1), 5 * std::sqrt(2 / n));
}

TEST(PrivateStep, TheNoiseHasTheDeclaredDeviation) {
  // A wide layer, so that one step has many draws; and nobody in the batch.
  auto spec = testing::plain_spec(
      {300}, 2, {testing::linear(300), testing::layer(Node::Op::kRelu), testing::linear(2)}, 1,
      1.0);
  testing::make_private(spec, 1e-12, 0.7, 1.3);
  Data data = testing::random_data(4, 300, 2, 1);
  auto before = flat(initial_model(spec).take()), after = flat(train(spec, data, 4, 2));
  double sum = 0;
  for (size_t i = 0; i < before.size(); ++i)
    sum += std::pow((double{after[i]} - before[i]) * spec.batch / (0.7 * 1.3), 2);
  auto n = static_cast<double>(before.size());
  EXPECT_LT(std::abs(sum / n - 1),
            5 * std::sqrt(2 / n) + 1e-5);  // 1e-5: updates are kept in single precision
}

TEST(PrivateStep, StepsNeverShareTheirNoise) {
  auto spec = testing::plain_spec({50}, 2, {testing::linear(50), testing::linear(2)}, 2, 1.0);
  testing::make_private(spec, 1e-12, 1, 1);
  Data data = testing::random_data(4, 50, 2, 1);
  auto workers = pool(1);
  auto two = train(spec, data, 4, 1);
  auto one_step = spec;
  one_step.steps = 1;
  one_step.learning_rate = {{1, 1.0}};
  auto start = flat(initial_model(spec).take()), first = flat(train(one_step, data, 4, 1)),
       second = flat(two);
  double dot = 0, size = 0;
  for (size_t i = 0; i < start.size(); ++i) {
    double a = double{first[i]} - start[i], b = double{second[i]} - first[i];
    dot += a * b;
    size += a * a;
  }
  EXPECT_LT(std::abs(dot), 5 * size / std::sqrt(static_cast<double>(start.size())));
}

TEST(TrainingRun, RefusesAClaimedEpsilonBelowTheAccountants) {
  auto data = testing::separable_data(100, 6, 3, 1);
  auto spec = mlp(6, 100, 0.1);
  testing::make_private(spec, 0.01, 1, 1.1, 1);
  double epsilon = *policy::epsilon_upper(
      {policy::rate_from_threshold(spec.sampling_threshold), 1.1, 100}, 1e-5);
  auto workers = pool(1);
  spec.privacy->epsilon_micro = policy::epsilon_micro_up(epsilon) - 1;
  auto refused = TrainingRun::create(spec, data.examples(), testing::root_of(1), *workers);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::kRefused);
  spec.privacy->epsilon_micro += 1;
  auto run = TrainingRun::create(spec, data.examples(), testing::root_of(1), *workers);
  ASSERT_TRUE(run);
  EXPECT_EQ(run->epsilon_spent(), 0);
  ASSERT_TRUE(run->step());
  double first = run->epsilon_spent();
  EXPECT_GT(first, 0);
  ASSERT_TRUE(run->run_to_end());
  EXPECT_EQ(run->epsilon_spent(), epsilon);
  EXPECT_LT(first, epsilon);
}

TEST(TrainingRun, RefusesShuffledBatchesUnderPrivacy) {
  auto data = testing::separable_data(100, 6, 3, 1);
  auto spec = mlp(6, 10, 0.1);
  testing::make_private(spec, 0.01, 1, 1.1);
  spec.shuffle = true;
  auto workers = pool(1);
  EXPECT_FALSE(TrainingRun::create(spec, data.examples(), testing::root_of(1), *workers));
}

TEST(TrainingRun, RefusesDataThatDoesNotFit) {
  auto workers = pool(1);
  auto spec = mlp(6, 1, 0.1);
  auto refused = [&](const Data& data) {
    auto run = TrainingRun::create(spec, data.examples(), testing::root_of(1), *workers);
    return !run && run.error().code() == Code::kMalformed;
  };
  auto good = testing::separable_data(10, 6, 3, 1);
  EXPECT_FALSE(refused(good));
  EXPECT_TRUE(refused(Data{}));
  auto label = good;
  label.labels[3] = 2;
  EXPECT_TRUE(refused(label));
  label.labels[3] = -1;
  EXPECT_TRUE(refused(label));
  auto shorter = good;
  shorter.features.pop_back();
  EXPECT_TRUE(refused(shorter));
  auto longer = good;
  longer.features.push_back(0);
  EXPECT_TRUE(refused(longer));
}

TEST(TrainingRun, GivesNoModelBeforeTheLastStepAndTakesNoneAfter) {
  auto data = testing::separable_data(20, 6, 3, 1);
  auto spec = mlp(6, 2, 0.1);
  auto workers = pool(1);
  auto run = TrainingRun::create(spec, data.examples(), testing::root_of(1), *workers).take();
  EXPECT_EQ(run.finish().error().code(), Code::kConflict);
  std::vector<uint32_t> seen;
  ASSERT_TRUE(run.run_to_end([&](uint32_t done) { seen.push_back(done); }));
  EXPECT_EQ(seen, (std::vector<uint32_t>{1, 2}));
  EXPECT_EQ(run.step().error().code(), Code::kConflict);
  EXPECT_TRUE(run.finish());
  EXPECT_EQ(run.epsilon_spent(), std::numeric_limits<double>::infinity());
}

TEST(TrainingRun, BytesAreFeaturesTooAndConstantsNormaliseThem) {
  auto spec = mlp(6, 5, 0.1);
  std::vector<uint8_t> bytes(20 * 6);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 37);
  Data scaled;
  for (uint8_t b : bytes) scaled.features.push_back((static_cast<float>(b) - 128.0F) * 0.0078125F);
  for (int i = 0; i < 20; ++i) scaled.labels.push_back(i % 2);
  auto expected = train(spec, scaled, 1, 1);
  spec.input_mean = {128};
  spec.input_scale = {0.0078125};
  auto workers = pool(1);
  Examples raw{std::span<const uint8_t>(bytes), scaled.labels};
  auto run = TrainingRun::create(spec, raw, testing::root_of(1), *workers).take();
  ASSERT_TRUE(run.run_to_end());
  EXPECT_EQ(run.finish().take(), expected);
}

TEST(Predict, GivesTheSameLogitsOneByOne) {
  auto spec = testing::every_layer_spec();
  auto model = initial_model(spec).take();
  auto data = testing::random_data(9, 3 * 9 * 8, 3, 3);
  auto workers = pool(2);
  auto all = predict(spec, model, data.examples().features, 9, *workers).take();
  for (uint64_t row = 0; row < 9; ++row) {
    std::span<const float> own(data.features.data() + row * 216, 216);
    auto one = predict(spec, model, own, 1, *workers).take();
    for (size_t c = 0; c < 3; ++c) EXPECT_NEAR(one[c], all[row * 3 + c], 1e-5);
  }
  EXPECT_FALSE(predict(spec, model, data.examples().features, 10, *workers));
  EXPECT_FALSE(predict(mlp(6, 1, 0.1), model, data.examples().features, 9, *workers));
}

TEST(Training, TellsMalignantFromBenign) {
  const char* source = std::getenv("SOUK_SOURCE");
  std::ifstream file(std::string(source ? source : ".") + "/examples/data/wdbc.csv",
                     std::ios::binary);
  if (!file) GTEST_SKIP() << "no examples/data/wdbc.csv";
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  CsvOptions options;
  options.label = "diagnosis";
  auto dataset = import_csv(as_bytes(text), options).take();
  const auto& features = std::get<std::vector<float>>(dataset.features);
  const uint64_t numbers = 30;
  ASSERT_EQ(dataset.feature_count(), numbers);
  // Every third row is kept back. The constants come from public knowledge in a real market.
  Data train_rows, test_rows;
  for (uint64_t row = 0; row < dataset.rows(); ++row) {
    auto& part = row % 3 == 0 ? test_rows : train_rows;
    for (uint64_t i = 0; i < numbers; ++i) part.features.push_back(features[row * numbers + i]);
    part.labels.push_back(dataset.labels[row]);
  }
  std::vector<double> mean(numbers, 0), square(numbers, 0);
  auto rows = static_cast<double>(train_rows.labels.size());
  for (size_t i = 0; i < train_rows.features.size(); ++i) {
    mean[i % numbers] += train_rows.features[i] / rows;
    square[i % numbers] += double{train_rows.features[i]} * train_rows.features[i] / rows;
  }
  for (bool deep : {false, true}) {
    for (bool privately : {false, true}) {
      auto spec =
          deep ? mlp(30, 400, 0.2) : testing::plain_spec({30}, 2, {testing::linear(2)}, 400, 0.2);
      spec.batch = 32;
      spec.shard = 32;
      spec.input_mean = mean;
      for (uint64_t i = 0; i < numbers; ++i)
        spec.input_scale.push_back(1 / std::sqrt(square[i] - mean[i] * mean[i]));
      if (privately) testing::make_private(spec, 32.0 / 380, 1.0, 2.0);
      auto model = train(spec, train_rows, 1, 2);
      auto workers = pool(1);
      EXPECT_GE(evaluate(spec, model, test_rows.examples(), *workers)->accuracy, 0.93)
          << deep << privately;
    }
  }
}

TEST(Lines, BeginWithACacheLine) {
  for (size_t count : {1u, 3u, 100u, 4096u, 235146u}) {
    Lines<float> numbers(count), others = numbers;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(numbers.data()) % 64, 0u) << count;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(others.data()) % 64, 0u) << count;
  }
}

TEST(Workers, RunEveryJobOnce) {
  for (unsigned threads : {1u, 2u, 7u}) {
    auto workers = pool(threads);
    EXPECT_EQ(workers->threads(), threads);
    for (size_t count : {size_t{0}, size_t{1}, size_t{3}, size_t{1000}}) {
      std::vector<int> done(count, 0);
      workers->run(count, [&](size_t i, unsigned worker) {
        EXPECT_LT(worker, threads);
        ++done[i];
      });
      EXPECT_EQ(done, std::vector<int>(count, 1));
    }
  }
  EXPECT_FALSE(Workers::start(0));
}

}  // namespace
}  // namespace souk::trainer
