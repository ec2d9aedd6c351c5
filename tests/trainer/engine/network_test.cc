#include "trainer/engine/network.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>
#include <random>
#include <vector>

#include "tests/trainer/engine/support.h"
#include "trainer/engine/examples.h"
#include "trainer/engine/kernels.h"
#include "trainer/engine/loss.h"
#include "trainer/engine/reference.h"

namespace souk::trainer {
namespace {

using contracts::TrainingSpec;

std::vector<double> doubles(std::span<const float> values) {
  return {values.begin(), values.end()};
}

// Parameters that leave nothing at its resting value.
std::vector<float> lively_parameters(const Graph& graph, uint32_t seed) {
  auto numbers = initial_parameters(graph, seed);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.1F);
  for (float& p : numbers) p += normal(random);
  for (const Layer& layer : graph.layers) {  // variances
    for (uint64_t i = layer.running_count / 2; i < layer.running_count; ++i) {
      numbers[layer.running_at + i] = 0.5F + std::abs(normal(random));
    }
  }
  return numbers;
}

struct Passes {
  std::vector<float> outputs;
  std::vector<std::vector<float>> examples;  // gradients of single examples
  std::vector<double> squares;               // their squared norms, as the strategies measure them
  std::vector<float> batch;                  // gradient of the sum
  std::vector<float> clipped;                // sum of gradients times factors
};

float factor_of(uint64_t example) {
  return 0.3F + 0.2F * static_cast<float>(example);
}

Passes run_fast(const TrainingSpec& spec, const Graph& graph, std::span<const float> numbers,
                const testing::Data& data, uint32_t shard, const Secret<32>* dropout,
                std::optional<Strategy> strategy = std::nullopt) {
  Passes out;
  const uint64_t width = graph.input().count(), rows = data.labels.size();
  CHECK(rows <= shard);
  auto reader = ExampleReader::open(spec, graph, data.examples().features, rows).take();
  for (auto kind : {NetworkSettings::Gradients::kPerExample, NetworkSettings::Gradients::kBatch}) {
    NetworkSettings settings;
    settings.gradients = kind;
    settings.shard = shard;
    settings.convolutions = strategy;
    auto network = Network::compile(graph, settings).take();
    EXPECT_TRUE(network->set_parameters(numbers));
    for (uint64_t r = 0; r < rows; ++r) reader.read(r, network->input(0) + r * width);
    EXPECT_TRUE(network->forward(0, {static_cast<uint32_t>(rows), true, dropout, 0}));
    out.outputs.assign(network->outputs(0), network->outputs(0) + rows * graph.outputs);
    for (uint64_t r = 0; r < rows; ++r) {
      loss_of(spec.loss,
              std::span<const float>(out.outputs).subspan(r * graph.outputs, graph.outputs),
              data.labels[r], 1, network->outputs_gradient(0) + r * graph.outputs);
    }
    if (kind == NetworkSettings::Gradients::kBatch) {
      out.batch.resize(graph.trained);
      EXPECT_TRUE(network->backward(0, out.batch));
      continue;
    }
    EXPECT_TRUE(network->backward(0));
    std::vector<float> factors(graph.trained_layers.size() * shard, 1.0F);
    const std::vector<uint8_t> present(rows, 1);
    for (uint32_t r = 0; r < rows; ++r) {
      out.examples.emplace_back(graph.trained);
      EXPECT_TRUE(network->example_gradient(0, r, out.examples.back()));
      out.squares.push_back(0);
      for (size_t group = 0; group < graph.trained_layers.size(); ++group) {
        out.squares.back() += network->norms(0).square[group * shard + r];
        factors[group * shard + r] = factor_of(r);
      }
    }
    out.clipped.resize(graph.trained);
    EXPECT_TRUE(network->clipped_sum(0, factors, present, out.clipped));
  }
  return out;
}

// Relative to the larger of the vectors: a norm, so that zeros compare well.
double distance(std::span<const float> a, std::span<const double> b) {
  double difference = 0, size = 1e-12;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(difference / size);
}

double square(std::span<const double> v) {
  double sum = 0;
  for (double x : v) sum += x * x;
  return sum;
}

void compare(const TrainingSpec& spec, uint32_t seed, bool with_dropout,
             std::optional<Strategy> strategy = std::nullopt,
             const testing::Data* given = nullptr) {
  Graph graph = build_graph(spec).take();
  auto numbers = lively_parameters(graph, seed);
  const uint64_t width = graph.input().count();
  auto data = given ? *given : testing::random_data(5, width, spec.classes, seed);
  auto root = testing::root_of(static_cast<uint8_t>(seed));
  Passes fast = run_fast(spec, graph, numbers, data, 6, with_dropout ? &root : nullptr, strategy);
  std::vector<double> sum(graph.trained, 0.0), clipped(graph.trained, 0.0);
  for (uint64_t r = 0; r < data.labels.size(); ++r) {
    std::vector<std::vector<float>> factors(graph.layers.size());
    KeepsElement keeps;
    if (with_dropout) {
      for (uint32_t i = 1; i < graph.layers.size(); ++i) {
        if (graph.layers[i].node.op != Node::Op::kDropout) continue;
        ChaCha20 random(root.bytes(SecretAccess()), (uint64_t{i} << 32) | r);
        factors[i].resize(graph.layers[i].out.count());
        kernels::dropout_factors(graph.layers[i], random, factors[i].data());
      }
      keeps = [&](uint32_t i, uint64_t element) { return factors[i][element] != 0; };
    }
    auto example = doubles(std::span<const float>(data.features).subspan(r * width, width));
    auto slow = reference_pass(graph, spec.loss, doubles(numbers), example, data.labels[r], keeps);
    // Single precision through a few dozen layers.
    EXPECT_LT(
        distance(std::span<const float>(fast.outputs).subspan(r * graph.outputs, graph.outputs),
                 slow.outputs),
        2e-5);
    EXPECT_LT(distance(fast.examples[r], slow.gradient), 5e-5);
    // Upper bounds of the norm: never below what was summed, hardly above.
    EXPECT_GE(fast.squares[r], square(doubles(fast.examples[r])) * (1 - 1e-6));
    EXPECT_LT(fast.squares[r], square(slow.gradient) * 1.002 + 1e-12);
    for (uint64_t i = 0; i < sum.size(); ++i) {
      sum[i] += slow.gradient[i];
      clipped[i] += double{factor_of(r)} * slow.gradient[i];
    }
  }
  EXPECT_LT(distance(fast.batch, sum), 5e-5);
  EXPECT_LT(distance(fast.clipped, clipped), 5e-5);
}

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

TEST(Network, NothingWorksInPlaceOverWhatAMaximumStillNeeds) {
  using Op = Node::Op;
  for (Op after : {Op::kRelu, Op::kTanh, Op::kSigmoid, Op::kDropout}) {
    Node next = testing::layer(after);
    if (after == Op::kDropout) next.rate = 0.5;
    compare(testing::plain_spec(
                {3, 9, 9}, 3,
                {testing::convolution(20, 3), testing::layer(Op::kTanh),
                 testing::pool(Op::kMaxPool, 2, 1), next, testing::pool(Op::kMaxPool, 3, 3),
                 testing::layer(Op::kFlatten), testing::linear(3)},
                1, 0.1),
            15, after == Op::kDropout);
  }
}

TEST(Network, ALayerReadTwiceGetsBothGradients) {
  using Op = Node::Op;
  compare(testing::plain_spec(
              {2, 6, 6}, 3,
              {testing::convolution(4, 3, 1, 1), testing::convolution(4, 3, 1, 1),
               testing::from(testing::convolution(4, 1), {1}), testing::layer(Op::kAdd, {2, 3}),
               testing::layer(Op::kAdd, {4, 4}), testing::layer(Op::kAdd, {5, 1}),
               testing::layer(Op::kFlatten), testing::linear(3)},
              1, 0.1),
          6, false);
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

TEST(Network, ResidualBranchesMeetWhateverTheirOrder) {
  using Op = Node::Op;
  // Two residual blocks, one with an identity and one with a projection, and norms that feed the
  // sums.
  compare(testing::plain_spec({3, 6, 6}, 3,
                              {testing::convolution(8, 3, 1, 1),
                               testing::group_norm(4),
                               testing::layer(Op::kRelu),  // 1-3
                               testing::convolution(8, 3, 1, 1),
                               testing::group_norm(4),
                               testing::layer(Op::kRelu),  // 4-6
                               testing::convolution(8, 3, 1, 1),
                               testing::group_norm(4),
                               testing::layer(Op::kAdd, {8, 3}),  // 7-9
                               testing::layer(Op::kRelu),
                               testing::convolution(12, 3, 2, 1),
                               testing::group_norm(4),  // 10-12
                               testing::layer(Op::kRelu),
                               testing::convolution(12, 3, 1, 1),
                               testing::group_norm(4),  // 13-15
                               testing::from(testing::convolution(12, 1, 2), {10}),
                               testing::layer(Op::kAdd, {15, 16}),  // 16-17
                               testing::layer(Op::kRelu),
                               testing::layer(Op::kGlobalAvgPool),
                               testing::linear(3)},
                              1, 0.1),
          13, false);
  // The identity on the left, a norm with two readers, a sum of sums.
  compare(testing::plain_spec({3, 6, 6}, 3,
                              {testing::convolution(8, 3, 1, 1), testing::group_norm(4),
                               testing::convolution(8, 1),  // 1-3
                               testing::layer(Op::kAdd, {2, 3}), testing::group_norm(2),
                               testing::layer(Op::kAdd, {4, 5}),  // 4-6
                               testing::layer(Op::kAdd, {6, 1}), testing::layer(Op::kTanh),
                               testing::layer(Op::kGlobalAvgPool), testing::linear(3)},
                              1, 0.1),
          14, false);
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

TEST(Network, MaximaAndWindowsIgnorePadding) {
  // All inputs negative: a padded zero must not win a maximum, nor dilute a mean.
  auto spec = testing::plain_spec({1, 3, 3}, 2,
                                  {testing::pool(Node::Op::kMaxPool, 2, 2, 1),
                                   testing::from(testing::pool(Node::Op::kAvgPool, 2, 2, 1), {0}),
                                   testing::layer(Node::Op::kConcat, {1, 2}),
                                   testing::layer(Node::Op::kFlatten), testing::linear(2)},
                                  1, 0.1);
  Graph graph = build_graph(spec).take();
  NetworkSettings settings;
  settings.shard = 1;
  auto network = Network::compile(graph, settings).take();
  std::vector<float> parameters(graph.parameters, 0.0F);
  parameters[0] = 1;      // logit 0: the first maximum
  parameters[8 + 4] = 1;  // logit 1: the first mean
  ASSERT_TRUE(network->set_parameters(parameters));
  for (int i = 0; i < 9; ++i) network->input(0)[i] = -1.0F - static_cast<float>(i);
  ASSERT_TRUE(network->forward(0, {.examples = 1}));
  EXPECT_EQ(network->outputs(0)[0], -1);
  EXPECT_EQ(network->outputs(0)[1], -1);
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
