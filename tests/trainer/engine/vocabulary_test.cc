// What the specification's newer words do to a whole run.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/trainer/engine/support.h"
#include "trainer/engine/engine.h"
#include "trainer/engine/network.h"
#include "trainer/engine/optimizer.h"

namespace souk::trainer {
namespace {

using contracts::PrivacySpec;
using contracts::TrainingSpec;
using testing::Data;

Model train(const TrainingSpec& spec, const Data& data, unsigned threads = 1,
            const Model* initial = nullptr) {
  auto workers = Workers::start(threads).take();
  auto run = TrainingRun::create(spec, data.examples(), testing::root_of(3), *workers, initial);
  EXPECT_TRUE(run) << (run ? "" : run.error().expected());
  EXPECT_TRUE(run->run_to_end());
  return run->finish().take();
}

double apart(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return std::sqrt(sum);
}

// Images with everything at once.
TrainingSpec busy_spec(uint32_t steps) {
  using Op = Node::Op;
  auto spec = testing::plain_spec(
      {3, 8, 8}, 3,
      {testing::convolution(8, 3, 1, 1), testing::group_norm(4), testing::layer(Op::kRelu),
       testing::convolution(8, 3, 1, 1), testing::layer(Op::kAdd, {4, 3}),
       testing::layer(Op::kSilu), testing::pool(Op::kMaxPool, 2, 2), testing::layer(Op::kFlatten),
       testing::dropout(0.2), testing::linear(12), testing::layer(Op::kLayerNorm),
       testing::layer(Op::kGelu), testing::linear(3)},
      steps, 0.1);
  spec.model[0].standardize = spec.model[9].standardize = true;
  spec.optimizer.kind = contracts::Optimizer::Kind::kAdam;
  spec.optimizer.weight_decay = 0.01;
  spec.optimizer.decay = contracts::Optimizer::Decay::kCoupled;
  spec.accumulate = 2;
  spec.ema = 0.9;
  spec.batch = 22;
  spec.augmentation = {true, 2, 2};
  return spec;
}

TEST(Vocabulary, EverythingAtOnceHasTheSameBitsForAnyNumberOfThreads) {
  auto data = testing::random_data(64, 3 * 8 * 8, 3, 5);
  for (bool privately : {false, true}) {
    for (auto clipping : {PrivacySpec::Clipping::kFlat, PrivacySpec::Clipping::kPerLayer,
                          PrivacySpec::Clipping::kAutomatic}) {
      auto spec = busy_spec(6);
      if (privately) {
        testing::make_private(spec, 0.3, 0.5, 1.0);
        spec.privacy->clipping = clipping;
      }
      auto one = train(spec, data, 1);
      for (unsigned threads : {2u, 5u}) EXPECT_EQ(one, train(spec, data, threads)) << threads;
      if (!privately) break;
    }
  }
}

TEST(Vocabulary, FrozenLayersStayAndTheRestLearns) {
  auto data = testing::random_data(64, 3 * 8 * 8, 3, 5);
  auto spec = busy_spec(4);
  spec.ema = 0;
  for (size_t i : {0u, 1u, 3u}) spec.model[i].frozen = true;
  for (bool privately : {false, true}) {
    if (privately) testing::make_private(spec, 0.3, 0.5, 1.0);
    auto before = initial_model(spec).take(), after = train(spec, data);
    for (size_t i = 0; i < before.tensors.size(); ++i) {
      const auto& name = before.tensors[i].name;
      const bool frozen = name[1] == '.' && (name[0] == '1' || name[0] == '2' || name[0] == '4');
      EXPECT_EQ(before.tensors[i] == after.tensors[i], frozen) << name;
    }
  }
}

TEST(Vocabulary, ARunStartsFromTheWeightsItIsGiven) {
  auto data = testing::random_data(64, 3 * 8 * 8, 3, 5);
  auto spec = busy_spec(2);
  spec.learning_rate = {{2, 0.0}};
  spec.optimizer.weight_decay = 0;
  auto other = spec;
  other.seed = 99;
  auto start = initial_model(other).take();
  EXPECT_EQ(train(spec, data, 1, &start), start);
  start.tensors.pop_back();
  auto workers = Workers::start(1).take();
  EXPECT_EQ(TrainingRun::create(spec, data.examples(), testing::root_of(1), *workers, &start)
                .error()
                .code(),
            Code::kMalformed);
}

TEST(Vocabulary, AccumulatedStepsAreOneStepOfTheirMean) {
  // Two draws of the whole dataset are one draw of it, twice.
  auto data = testing::random_data(8, 6, 2, 3);
  auto spec = testing::plain_spec(
      {6}, 2, {testing::linear(4), testing::layer(Node::Op::kTanh), testing::linear(2)}, 3, 0.1);
  auto twice = spec;
  twice.steps = 6;
  twice.learning_rate = {{6, 0.1}};
  twice.accumulate = 2;
  EXPECT_LT(apart(testing::flat(train(spec, data)), testing::flat(train(twice, data))), 1e-6);
}

TEST(Vocabulary, TheRunningMeanIsTheMeanItSaysItIs) {
  auto data = testing::random_data(8, 6, 2, 3);
  auto spec = testing::plain_spec({6}, 2, {testing::linear(2)}, 1, 0.5);
  std::vector<double> mean;
  for (float w : testing::flat(initial_model(spec).take())) mean.push_back(w);
  for (uint32_t steps = 1; steps <= 4; ++steps) {
    auto until = spec;
    until.steps = steps;
    until.learning_rate = {{steps, 0.5}};
    auto weights = testing::flat(train(until, data));
    const double d = std::min(0.4, (1.0 + steps) / (10.0 + steps));
    for (size_t i = 0; i < mean.size(); ++i) mean[i] = d * mean[i] + (1 - d) * weights[i];
    until.ema = 0.4;
    auto kept = testing::flat(train(until, data));
    for (size_t i = 0; i < mean.size(); ++i) EXPECT_NEAR(kept[i], mean[i], 1e-6);
  }
}

TEST(Vocabulary, EveryLossLearnsTwoClouds) {
  using Loss = TrainingSpec::Loss;
  auto data = testing::separable_data(400, 6, 5, 3);
  for (auto loss : {Loss::kBce, Loss::kMse}) {
    for (uint32_t outputs : {1u, 2u}) {
      auto spec = testing::plain_spec(
          {6}, 2, {testing::linear(8), testing::layer(Node::Op::kTanh), testing::linear(outputs)},
          150, 0.1);
      spec.loss = loss;
      auto model = train(spec, data);
      auto workers = Workers::start(1).take();
      EXPECT_GE(evaluate(spec, model, data.examples(), *workers)->accuracy, 0.97) << outputs;
      EXPECT_EQ(predict(spec, model, data.examples().features, 400, *workers)->size(),
                400 * outputs);
    }
  }
}

TEST(Vocabulary, CategoriesAloneTellTheLabel) {
  auto data = testing::mixed_columns_data(300, 4);
  for (size_t row = 0; row < 300; ++row) {
    data.labels[row] =
        data.features[row * 5 + 1] == data.features[row * 5 + 3] || data.features[row * 5 + 4] == 1
            ? 1
            : 0;
  }
  auto spec = testing::mixed_columns_spec();
  spec.steps = 1500;
  spec.batch = 32;
  spec.learning_rate = {{1500, 0.02}};
  spec.optimizer.kind = contracts::Optimizer::Kind::kAdam;
  auto model = train(spec, data);
  auto workers = Workers::start(1).take();
  EXPECT_GE(evaluate(spec, model, data.examples(), *workers)->accuracy, 0.95);
  data.features[7 * 5 + 1] = 4;  // there are four
  auto refused = TrainingRun::create(spec, data.examples(), testing::root_of(1), *workers);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::kMalformed);
}

TEST(Vocabulary, BatchNormPredictsFromItsRunningStatistics) {
  auto data = testing::separable_data(256, 8, 5, 3);
  auto spec = testing::plain_spec({8}, 2,
                                  {testing::linear(8), testing::layer(Node::Op::kBatchNorm),
                                   testing::layer(Node::Op::kRelu), testing::linear(2)},
                                  200, 0.05);
  spec.batch = spec.shard = 32;
  auto model = train(spec, data);
  EXPECT_EQ(model.tensors[4].name, "2.running_mean");
  auto workers = Workers::start(1).take();
  auto all = predict(spec, model, data.examples().features, 256, *workers).take();
  std::span<const float> one(data.features.data() + 8, 8);
  auto alone = predict(spec, model, one, 1, *workers).take();
  EXPECT_NEAR(alone[0], all[2], 1e-5);
  EXPECT_GE(evaluate(spec, model, data.examples(), *workers)->accuracy, 0.97);
}

// One huge example moves the sum by at most C, whatever clips it.
TEST(Vocabulary, EveryWayOfClippingBoundsEveryExample) {
  auto data = testing::random_data(40, 3 * 8 * 8, 3, 6);
  for (auto clipping : {PrivacySpec::Clipping::kFlat, PrivacySpec::Clipping::kPerLayer,
                        PrivacySpec::Clipping::kAutomatic}) {
    auto spec = busy_spec(1);
    spec.accumulate = 1;
    spec.ema = 0;
    spec.optimizer = {};
    spec.learning_rate = {{1, 1.0}};
    testing::make_private(spec, 0.9999999, 0.25, 0.05);
    spec.privacy->clipping = clipping;
    auto nobody = data;
    for (size_t i = 0; i < 192; ++i)
      nobody.features[5 * 192 + i] = std::numeric_limits<float>::quiet_NaN();
    auto without = testing::flat(train(spec, nobody));
    for (float size : {0.01F, 1.0F, 1e4F, 1e15F}) {
      auto huge = data;
      for (size_t i = 0; i < 192; ++i) huge.features[5 * 192 + i] *= size;
      const double moved = apart(without, testing::flat(train(spec, huge)));
      EXPECT_LE(moved, 0.25 / spec.batch * (1 + 1e-5)) << size;
      EXPECT_GT(moved, size < 1e10F ? 1e-4 / spec.batch : -1.0) << size;
    }
  }
}

TEST(Vocabulary, Bf16TrainsAsF32DoesOrIsRefused) {
  auto data = testing::random_data(64, 3 * 8 * 8, 3, 5);
  for (uint64_t row = 0; row < 64; ++row) {  // something to see: a bright channel
    for (uint64_t i = 0; i < 64; ++i)
      data.features[row * 192 + static_cast<uint64_t>(data.labels[row]) * 64 + i] += 1;
  }
  auto spec = busy_spec(60);
  spec.augmentation = {};
  spec.learning_rate = {{60, 0.01}};
  auto workers = Workers::start(1).take();
  auto half = spec;
  half.dtype = TrainingSpec::Dtype::kBf16;
  if (!has_bf16()) {
    EXPECT_EQ(
        TrainingRun::create(half, data.examples(), testing::root_of(1), *workers).error().code(),
        Code::kRefused);
    GTEST_SKIP() << "this CPU does not multiply bf16";
  }
  for (bool privately : {false, true}) {
    if (privately) {
      testing::make_private(spec, 0.5, 1.0, 0.1);
      testing::make_private(half, 0.5, 1.0, 0.1);
    }
    const double whole = evaluate(spec, train(spec, data), data.examples(), *workers)->accuracy;
    const double rounded = evaluate(half, train(half, data), data.examples(), *workers)->accuracy;
    EXPECT_GE(whole, 0.9);
    EXPECT_GE(rounded, 0.9);
  }
}

}  // namespace
}  // namespace souk::trainer
