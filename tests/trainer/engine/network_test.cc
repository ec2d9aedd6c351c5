#include "trainer/engine/network.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/trainer/engine/network_support.h"

namespace souk::trainer {
namespace {

using contracts::TrainingSpec;
using testing::compare;
using testing::distance;
using testing::doubles;
using testing::lively_parameters;
using testing::Passes;
using testing::run_fast;
using testing::square;

TEST(Network, MatchesTheReferenceOnEveryLayer) {
  for (uint32_t seed : {1u, 2u, 3u}) compare(testing::every_layer_spec(), seed, false);
}

TEST(Network, MatchesTheReferenceWithDropout) {
  compare(testing::every_layer_spec(), 4, true);
}

TEST(Network, EveryLossMatchesTheReference) {
  using Loss = TrainingSpec::Loss;
  for (auto loss : {Loss::kBce, Loss::kMse}) {
    auto spec = testing::every_layer_spec();
    spec.loss = loss;
    compare(spec, 5, false);
    auto one = testing::plain_spec(
        {6}, 2, {testing::linear(5), testing::layer(Node::Op::kTanh), testing::linear(1)}, 1, 0.1);
    one.loss = loss;
    compare(one, 6, false);
  }
}

TEST(Network, EmbeddingsReadTheirColumnsAndShareATable) {
  auto spec = testing::mixed_columns_spec();
  testing::Data data = testing::mixed_columns_data(5, 3);
  compare(spec, 8, false, std::nullopt, &data);
}

TEST(Network, StandardisedWeightsMatchTheReference) {
  auto spec = testing::plain_spec(
      {3, 7, 7}, 3,
      {testing::convolution(6, 3, 1, 1, 3), testing::group_norm(3), testing::layer(Node::Op::kRelu),
       testing::convolution(4, 3, 2), testing::layer(Node::Op::kFlatten), testing::linear(3)},
      1, 0.1);
  for (size_t i : {0u, 3u, 5u}) spec.model[i].standardize = true;
  compare(spec, 9, false);
}

TEST(Network, FrozenLayersHaveNoGradientAndPassItOn) {
  auto spec = testing::every_layer_spec();
  for (size_t i : {0u, 3u, 14u}) spec.model[i].frozen = true;
  compare(spec, 10, false);
  spec = testing::plain_spec(
      {3, 6, 6}, 3,
      {testing::convolution(4, 3, 1, 1), testing::layer(Node::Op::kBatchNorm),
       testing::layer(Node::Op::kRelu), testing::layer(Node::Op::kFlatten), testing::linear(3)},
      1, 0.1);
  spec.model[1].frozen = true;
  compare(spec, 11, false);
  spec.model[0].frozen = true;
  compare(spec, 12, false);
}

TEST(Network, BatchNormUsesTheShardsExamplesOnly) {
  auto spec = testing::plain_spec(
      {2, 5, 4}, 3,
      {testing::convolution(6, 3, 1, 1, 1, false), testing::layer(Node::Op::kBatchNorm),
       testing::layer(Node::Op::kRelu), testing::layer(Node::Op::kFlatten), testing::linear(7),
       testing::layer(Node::Op::kBatchNorm), testing::layer(Node::Op::kTanh), testing::linear(3)},
      1, 0.1);
  Graph graph = build_graph(spec).take();
  auto numbers = lively_parameters(graph, 3);
  auto data = testing::random_data(5, 40, 3, 3);
  NetworkSettings settings;
  settings.gradients = NetworkSettings::Gradients::kBatch;
  settings.shard = 16;
  auto network = Network::compile(graph, settings).take();
  ASSERT_TRUE(network->set_parameters(numbers));
  auto reader = ExampleReader::open(spec, graph, data.examples().features, 5).take();
  std::vector<std::vector<double>> examples;
  for (uint64_t r = 0; r < 5; ++r) {
    reader.read(r, network->input(0) + r * 40);
    examples.push_back(doubles(std::span<const float>(data.features).subspan(r * 40, 40)));
  }
  ASSERT_TRUE(network->forward(0, {5, true, nullptr, 0}));
  auto slow = reference_batch(graph, spec.loss, doubles(numbers), examples, data.labels);
  std::vector<double> sum(graph.trained, 0.0);
  for (uint64_t r = 0; r < 5; ++r) {
    std::span<const float> own(network->outputs(0) + r * 3, 3);
    EXPECT_LT(distance(own, slow[r].outputs), 2e-5);
    loss_of(spec.loss, own, data.labels[r], 1, network->outputs_gradient(0) + r * 3);
    for (uint64_t i = 0; i < sum.size(); ++i) sum[i] += slow[r].gradient[i];
  }
  std::vector<float> gradient(graph.trained);
  ASSERT_TRUE(network->backward(0, gradient));
  EXPECT_LT(distance(gradient, sum), 5e-5);
  // And in inference the running ones.
  ASSERT_TRUE(network->forward(0, {.examples = 5}));
  for (uint64_t r = 0; r < 5; ++r) {
    auto own = reference_pass(graph, spec.loss, doubles(numbers), examples[r], data.labels[r]);
    EXPECT_LT(distance(std::span<const float>(network->outputs(0) + r * 3, 3), own.outputs), 2e-5);
  }
}

TEST(Network, GhostAndStoredGradientsHaveTheSameNormsAndSums) {
  for (auto [channels, units, size] :
       {std::tuple{16u, 24u, 8u}, {3u, 5u, 5u}, {8u, 8u, 1u}, {4u, 6u, 2u}}) {
    for (uint32_t kernel : {1u, 3u, 5u}) {
      auto spec = testing::plain_spec(
          {channels, size, size}, 3,
          {testing::convolution(channels, 1), testing::layer(Node::Op::kTanh),
           testing::convolution(units, kernel, 1, kernel / 2), testing::layer(Node::Op::kTanh),
           testing::convolution(units, kernel, 1, kernel / 2, 1, false),
           testing::layer(Node::Op::kTanh), testing::layer(Node::Op::kFlatten), testing::linear(3)},
          1, 0.1);
      SCOPED_TRACE(std::to_string(channels) + " " + std::to_string(size) + " " +
                   std::to_string(kernel));
      for (auto strategy : {Strategy::kGhost, Strategy::kStored})
        compare(spec, size, false, strategy);
    }
  }
}

TEST(Network, MatchesTheReferenceOnManyConvolutionShapes) {
  std::mt19937 random(11);
  for (int round = 0; round < 24; ++round) {
    auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
    uint32_t groups = 1 + below(3), in = groups * (1 + below(5)), out = groups * (1 + below(9));
    uint32_t kernel = 1 + below(5), padding = below(kernel), stride = 1 + below(3);
    uint32_t height = kernel + below(9), width = kernel + below(9);
    auto spec = testing::plain_spec(
        {in, height, width}, 4,
        {testing::convolution(in, 1),
         testing::convolution(out, kernel, stride, padding, groups, below(2) == 0),
         testing::layer(Node::Op::kRelu), testing::layer(Node::Op::kFlatten), testing::linear(4)},
        1, 0.1);
    SCOPED_TRACE(std::to_string(in) + "x" + std::to_string(height) + "x" + std::to_string(width) +
                 " out " + std::to_string(out) + " kernel " + std::to_string(kernel) + " stride " +
                 std::to_string(stride) + " padding " + std::to_string(padding) + " groups " +
                 std::to_string(groups));
    compare(spec, static_cast<uint32_t>(round), false);
  }
}

TEST(Network, MatchesTheReferenceOnWideConvolutions) {
  compare(testing::plain_spec({16, 14, 14}, 10,
                              {testing::convolution(32, 3, 1, 1), testing::layer(Node::Op::kTanh),
                               testing::convolution(64, 3, 2, 1), testing::group_norm(8),
                               testing::layer(Node::Op::kRelu),
                               testing::layer(Node::Op::kGlobalAvgPool), testing::linear(10)},
                              1, 0.1),
          5, false);
}

TEST(Network, RawInputMayBypassTheParameters) {
  using Op = Node::Op;
  compare(testing::plain_spec(
              {3, 5, 5}, 3,
              {testing::layer(Op::kTanh), testing::from(testing::convolution(3, 3, 1, 1), {0}),
               testing::layer(Op::kConcat, {1, 2, 0}), testing::layer(Op::kFlatten),
               testing::linear(3)},
              1, 0.1),
          7, false);
}

// Every layer's parameters, some of them; a maximum or a rectifier may sit on its corner once.
void judge_by_differences(const TrainingSpec& spec, const testing::Data& data,
                          const KeepsElement& keeps, int least) {
  Graph graph = build_graph(spec).take();
  auto numbers = doubles(lively_parameters(graph, 9));
  auto example = doubles(std::span<const float>(data.features).first(graph.input().count()));
  auto pass = reference_pass(graph, spec.loss, numbers, example, data.labels[0], keeps);
  std::mt19937 random(9);
  int off = 0, judged = 0;
  for (uint32_t i : graph.trained_layers) {
    const Layer& l = graph.layers[i];
    for (int k = 0; k < 12; ++k) {
      uint64_t at = l.weight_at + random() % (l.weight_count + l.bias_count);
      const double h = 1e-6;
      auto moved = numbers;
      moved[at] += h;
      double up = reference_pass(graph, spec.loss, moved, example, data.labels[0], keeps).loss;
      moved[at] -= 2 * h;
      double down = reference_pass(graph, spec.loss, moved, example, data.labels[0], keeps).loss;
      ++judged;
      if (std::abs((up - down) / (2 * h) - pass.gradient[at]) >
          1e-7 + 1e-5 * std::abs(pass.gradient[at]))
        ++off;
    }
  }
  EXPECT_GE(judged, least);
  EXPECT_LE(off, 1);
}

TEST(Reference, AgreesWithFiniteDifferences) {
  using Loss = TrainingSpec::Loss;
  KeepsElement keeps = [](uint32_t, uint64_t element) { return element % 4 != 1; };
  for (auto loss : {Loss::kSoftmaxCrossEntropy, Loss::kBce, Loss::kMse}) {
    auto spec = testing::every_layer_spec();
    spec.loss = loss;
    spec.model[3].standardize = spec.model[14].standardize = true;
    judge_by_differences(spec, testing::random_data(1, 3 * 9 * 8, spec.classes, 9), keeps, 70);
    auto mixed = testing::mixed_columns_spec();
    mixed.loss = loss;
    judge_by_differences(mixed, testing::mixed_columns_data(1, 9), {}, 60);
  }
}

TEST(Reference, BatchNormAgreesWithFiniteDifferences) {
  auto spec = testing::plain_spec(
      {2, 3, 3}, 3,
      {testing::convolution(4, 2), testing::layer(Node::Op::kBatchNorm),
       testing::layer(Node::Op::kTanh), testing::layer(Node::Op::kFlatten), testing::linear(3)},
      1, 0.1);
  Graph graph = build_graph(spec).take();
  auto numbers = doubles(lively_parameters(graph, 9));
  auto data = testing::random_data(4, 18, 3, 9);
  std::vector<std::vector<double>> examples;
  for (size_t r = 0; r < 4; ++r)
    examples.push_back(doubles(std::span<const float>(data.features).subspan(r * 18, 18)));
  auto total = [&](const std::vector<double>& at) {
    double sum = 0;
    for (const auto& pass : reference_batch(graph, spec.loss, at, examples, data.labels))
      sum += pass.loss;
    return sum;
  };
  std::vector<double> gradient(graph.trained, 0.0);
  for (const auto& pass : reference_batch(graph, spec.loss, numbers, examples, data.labels)) {
    for (size_t i = 0; i < gradient.size(); ++i) gradient[i] += pass.gradient[i];
  }
  for (size_t i = 0; i < gradient.size(); ++i) {
    auto up = numbers, down = numbers;
    up[i] += 1e-6;
    down[i] -= 1e-6;
    EXPECT_NEAR((total(up) - total(down)) / 2e-6, gradient[i], 1e-6 + 1e-5 * std::abs(gradient[i]))
        << i;
  }
}

TEST(Network, UnclippedExampleGradientsAddUpToTheBatchGradient) {
  auto spec = testing::every_layer_spec();
  Graph graph = build_graph(spec).take();
  auto parameters = lively_parameters(graph, 12);
  auto data = testing::random_data(6, graph.input().count(), spec.classes, 12);
  Passes fast = run_fast(spec, graph, parameters, data, 6, nullptr);
  std::vector<double> sum(graph.trained, 0.0);
  for (const auto& row : fast.examples) {
    for (uint64_t i = 0; i < sum.size(); ++i) sum[i] += row[i];
  }
  EXPECT_LT(distance(fast.batch, sum), 1e-5);
}

TEST(Network, ViewsOfOneExampleAreOneGradient) {
  for (const auto& spec : {testing::every_layer_spec(), testing::mixed_columns_spec()}) {
    Graph graph = build_graph(spec).take();
    auto numbers = lively_parameters(graph, 2);
    const bool mixed = spec.input_shape.size() == 1;
    const uint64_t width = graph.input().count();
    auto data =
        mixed ? testing::mixed_columns_data(6, 2) : testing::random_data(6, width, spec.classes, 2);
    NetworkSettings settings;
    settings.gradients = NetworkSettings::Gradients::kPerExample;
    settings.shard = 4;
    settings.views = 3;
    auto network = Network::compile(graph, settings).take();
    ASSERT_TRUE(network->set_parameters(numbers));
    auto reader = ExampleReader::open(spec, graph, data.examples().features, 6).take();
    for (uint64_t r = 0; r < 6; ++r) reader.read(r, network->input(0) + r * width);
    ASSERT_TRUE(network->forward(0, {2, true, nullptr, 0}));
    std::vector<std::vector<double>> slow(2, std::vector<double>(graph.trained, 0.0));
    for (uint64_t r = 0; r < 6; ++r) {
      loss_of(spec.loss, {network->outputs(0) + r * graph.outputs, graph.outputs},
              data.labels[r / 3], 1.0 / 3, network->outputs_gradient(0) + r * graph.outputs);
      auto example = doubles(std::span<const float>(data.features).subspan(r * width, width));
      auto pass = reference_pass(graph, spec.loss, doubles(numbers), example, data.labels[r / 3]);
      for (uint64_t i = 0; i < graph.trained; ++i) slow[r / 3][i] += pass.gradient[i] / 3;
    }
    ASSERT_TRUE(network->backward(0));
    std::vector<double> sum(graph.trained, 0.0);
    for (uint32_t e = 0; e < 2; ++e) {
      std::vector<float> own(graph.trained);
      ASSERT_TRUE(network->example_gradient(0, e, own));
      EXPECT_LT(distance(own, slow[e]), 5e-5);
      double measured = 0;
      for (size_t group = 0; group < graph.trained_layers.size(); ++group)
        measured += network->norms(0).square[group * 4 + e];
      EXPECT_GE(measured, square(doubles(own)) * (1 - 1e-6));
      EXPECT_LT(measured, square(slow[e]) * 1.002);
      for (uint64_t i = 0; i < graph.trained; ++i) sum[i] += 0.5 * slow[e][i];
    }
    std::vector<float> factors(graph.trained_layers.size() * 4, 0.5F), clipped(graph.trained);
    const std::vector<uint8_t> present(2, 1);
    ASSERT_TRUE(network->clipped_sum(0, factors, present, clipped));
    EXPECT_LT(distance(clipped, sum), 5e-5);
  }
}

TEST(Network, AnExampleThatIsNotThereCountsAsNothing) {
  auto spec = testing::every_layer_spec();
  spec.model.insert(spec.model.begin(), testing::convolution(3, 3, 1, 1));
  for (auto& node : spec.model) {
    for (auto& input : node.inputs) input += input > 0 ? 1 : 0;
  }
  Graph graph = build_graph(spec).take();
  auto data = testing::random_data(3, graph.input().count(), 3, 2);
  NetworkSettings settings;
  settings.gradients = NetworkSettings::Gradients::kPerExample;
  settings.shard = 8;
  for (auto strategy : {Strategy::kGhost, Strategy::kStored}) {
    settings.convolutions = strategy;
    auto network = Network::compile(graph, settings).take();
    const auto numbers = lively_parameters(graph, 1);
    ASSERT_TRUE(network->set_parameters(numbers));
    std::vector<float> sums[2];
    for (bool broken : {false, true}) {
      auto features = data.features;
      if (broken) features[graph.input().count() + 5] = std::numeric_limits<float>::quiet_NaN();
      std::copy(features.begin(), features.end(), network->input(0));
      ASSERT_TRUE(network->forward(0, {3, true, nullptr, 0}));
      for (uint64_t r = 0; r < 3; ++r) {
        loss_of(spec.loss, {network->outputs(0) + r * 3, 3}, data.labels[r], 1,
                network->outputs_gradient(0) + r * 3);
      }
      ASSERT_TRUE(network->backward(0));
      if (broken) {
        EXPECT_FALSE(std::isfinite(network->norms(0).square[1]));
      }
      std::vector<float> factors(graph.trained_layers.size() * 8, 1.0F);
      const std::vector<uint8_t> present{1, 0, 1};
      sums[broken].resize(graph.trained);
      ASSERT_TRUE(network->clipped_sum(0, factors, present, sums[broken]));
    }
    EXPECT_EQ(sums[0], sums[1]);
  }
}

TEST(Network, RefusesShardsThatNoMemoryHolds) {
  auto spec = testing::plain_spec(
      {64, 512, 512}, 2, {testing::layer(Node::Op::kGlobalAvgPool), testing::linear(2)}, 1, 0.1);
  Graph graph = build_graph(spec).take();
  NetworkSettings settings;
  settings.shard = 4096;
  auto network = Network::compile(graph, settings);
  ASSERT_FALSE(network);
  EXPECT_EQ(network.error().code(), Code::kExhausted);
}

}  // namespace
}  // namespace souk::trainer
