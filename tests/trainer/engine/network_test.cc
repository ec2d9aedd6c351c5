#include "trainer/engine/network.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/trainer/engine/support.h"
#include "trainer/engine/examples.h"
#include "trainer/engine/kernels.h"
#include "trainer/engine/reference.h"

namespace souk::trainer {
namespace {

using contracts::TrainingSpec;

std::vector<double> doubles(std::span<const float> values) { return {values.begin(), values.end()}; }

// Parameters that leave nothing at its resting value.
std::vector<float> lively_parameters(const Graph& graph, uint32_t seed) {
  auto parameters = initial_parameters(graph, seed);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.1F);
  for (float& p : parameters) p += normal(random);
  return parameters;
}

struct Passes {
  std::vector<float> logits;
  std::vector<std::vector<float>> examples;  // per-example gradients
  std::vector<float> batch;                  // gradient of the sum
};

Passes run_fast(const TrainingSpec& spec, const Graph& graph, std::span<const float> parameters, const testing::Data& data,
                uint32_t shard, const Secret<32>* dropout) {
  Passes out;
  const uint64_t numbers = graph.input().count(), rows = data.labels.size();
  CHECK(rows <= shard);
  auto reader = ExampleReader::open(spec, graph, data.examples().features, rows).take();
  for (auto kind : {Network::Gradients::kPerExample, Network::Gradients::kBatch}) {
    auto network = Network::compile(graph, shard, 1, kind).take();
    EXPECT_TRUE(network->set_parameters(parameters));
    for (uint64_t r = 0; r < rows; ++r) reader.read(r, network->input(0) + r * numbers);
    EXPECT_TRUE(network->forward(0, dropout, 0));
    out.logits.assign(network->logits(0), network->logits(0) + rows * graph.classes);
    for (uint64_t r = 0; r < rows; ++r) {
      cross_entropy(std::span<const float>(out.logits).subspan(r * graph.classes, graph.classes), data.labels[r],
                    network->logits_gradient(0) + r * graph.classes);
    }
    EXPECT_TRUE(network->backward(0));
    if (kind == Network::Gradients::kBatch) {
      out.batch.resize(graph.parameters);
      EXPECT_TRUE(network->batch_gradient(0, out.batch));
    } else {
      for (uint32_t r = 0; r < rows; ++r) {
        out.examples.emplace_back(graph.parameters);
        EXPECT_TRUE(network->example_gradient(0, r, out.examples.back()));
      }
    }
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

void compare(const TrainingSpec& spec, uint32_t seed, bool with_dropout) {
  Graph graph = build_graph(spec).take();
  auto parameters = lively_parameters(graph, seed);
  const uint64_t numbers = graph.input().count();
  auto data = testing::random_data(5, numbers, spec.classes, seed);
  auto root = testing::root_of(static_cast<uint8_t>(seed));
  Passes fast = run_fast(spec, graph, parameters, data, 6, with_dropout ? &root : nullptr);
  std::vector<double> sum(graph.parameters, 0.0);
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
    auto example = doubles(std::span<const float>(data.features).subspan(r * numbers, numbers));
    auto slow = reference_pass(graph, doubles(parameters), example, data.labels[r], keeps);
    // Single precision through a few dozen layers.
    EXPECT_LT(distance(std::span<const float>(fast.logits).subspan(r * graph.classes, graph.classes), slow.logits), 2e-5);
    EXPECT_LT(distance(fast.examples[r], slow.gradient), 5e-5);
    for (uint64_t i = 0; i < sum.size(); ++i) sum[i] += slow.gradient[i];
  }
  EXPECT_LT(distance(fast.batch, sum), 5e-5);
}

TEST(Network, MatchesTheReferenceOnEveryLayer) {
  for (uint32_t seed : {1u, 2u, 3u}) compare(testing::every_layer_spec(), seed, false);
}

TEST(Network, MatchesTheReferenceWithDropout) { compare(testing::every_layer_spec(), 4, true); }

TEST(Network, MatchesTheReferenceOnManyConvolutionShapes) {
  std::mt19937 random(11);
  for (int round = 0; round < 24; ++round) {
    auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
    uint32_t groups = 1 + below(3), in = groups * (1 + below(5)), out = groups * (1 + below(9));
    uint32_t kernel = 1 + below(5), padding = below(kernel), stride = 1 + below(3);
    uint32_t height = kernel + below(9), width = kernel + below(9);
    auto spec = testing::plain_spec(
        {in, height, width}, 4,
        {testing::convolution(in, 1), testing::convolution(out, kernel, stride, padding, groups, below(2) == 0),
         testing::layer(Node::Op::kRelu), testing::layer(Node::Op::kFlatten), testing::linear(4)},
        1, 0.1);
    SCOPED_TRACE(std::to_string(in) + "x" + std::to_string(height) + "x" + std::to_string(width) + " out " + std::to_string(out) +
                 " kernel " + std::to_string(kernel) + " stride " + std::to_string(stride) + " padding " + std::to_string(padding) +
                 " groups " + std::to_string(groups));
    compare(spec, static_cast<uint32_t>(round), false);
  }
}

TEST(Network, MatchesTheReferenceOnWideConvolutions) {
  compare(testing::plain_spec({16, 14, 14}, 10,
                              {testing::convolution(32, 3, 1, 1), testing::layer(Node::Op::kTanh), testing::convolution(64, 3, 2, 1),
                               testing::group_norm(8), testing::layer(Node::Op::kRelu), testing::layer(Node::Op::kGlobalAvgPool),
                               testing::linear(10)},
                              1, 0.1),
          5, false);
}

TEST(Network, ALayerReadTwiceGetsBothGradients) {
  using Op = Node::Op;
  compare(testing::plain_spec({2, 6, 6}, 3,
                              {testing::convolution(4, 3, 1, 1), testing::convolution(4, 3, 1, 1),
                               testing::from(testing::convolution(4, 1), {1}), testing::layer(Op::kAdd, {2, 3}),
                               testing::layer(Op::kAdd, {4, 4}), testing::layer(Op::kAdd, {5, 1}), testing::layer(Op::kFlatten),
                               testing::linear(3)},
                              1, 0.1),
          6, false);
}

TEST(Network, RawInputMayBypassTheParameters) {
  using Op = Node::Op;
  compare(testing::plain_spec({3, 5, 5}, 3,
                              {testing::layer(Op::kTanh), testing::from(testing::convolution(3, 3, 1, 1), {0}),
                               testing::layer(Op::kConcat, {1, 2, 0}), testing::layer(Op::kFlatten), testing::linear(3)},
                              1, 0.1),
          7, false);
}

TEST(Reference, AgreesWithFiniteDifferences) {
  auto spec = testing::every_layer_spec();
  Graph graph = build_graph(spec).take();
  auto parameters = doubles(lively_parameters(graph, 9));
  auto data = testing::random_data(1, graph.input().count(), spec.classes, 9);
  auto example = doubles(data.features);
  KeepsElement keeps = [](uint32_t, uint64_t element) { return element % 4 != 1; };
  auto pass = reference_pass(graph, parameters, example, data.labels[0], keeps);
  std::mt19937 random(9);
  // Some of every layer's parameters; a maximum or a rectifier may sit on its corner once.
  int off = 0, judged = 0;
  for (size_t i = 1; i < graph.layers.size(); ++i) {
    const Layer& l = graph.layers[i];
    for (int k = 0; k < 12 && l.weight_count > 0; ++k) {
      uint64_t at = l.weight_at + random() % (l.weight_count + l.bias_count);
      const double h = 1e-6;
      auto moved = parameters;
      moved[at] += h;
      double up = reference_pass(graph, moved, example, data.labels[0], keeps).loss;
      moved[at] -= 2 * h;
      double down = reference_pass(graph, moved, example, data.labels[0], keeps).loss;
      ++judged;
      if (std::abs((up - down) / (2 * h) - pass.gradient[at]) > 1e-7 + 1e-5 * std::abs(pass.gradient[at])) ++off;
    }
  }
  EXPECT_GE(judged, 70);
  EXPECT_LE(off, 1);
}

TEST(Network, UnclippedExampleGradientsAddUpToTheBatchGradient) {
  auto spec = testing::every_layer_spec();
  Graph graph = build_graph(spec).take();
  auto parameters = lively_parameters(graph, 12);
  auto data = testing::random_data(6, graph.input().count(), spec.classes, 12);
  Passes fast = run_fast(spec, graph, parameters, data, 6, nullptr);
  std::vector<double> sum(graph.parameters, 0.0);
  for (const auto& row : fast.examples) {
    for (uint64_t i = 0; i < sum.size(); ++i) sum[i] += row[i];
  }
  EXPECT_LT(distance(fast.batch, sum), 1e-5);
}

TEST(Network, MaximaAndWindowsIgnorePadding) {
  // All inputs negative: a padded zero must not win a maximum, nor dilute a mean.
  auto spec = testing::plain_spec({1, 3, 3}, 2,
                                  {testing::pool(Node::Op::kMaxPool, 2, 2, 1),
                                   testing::from(testing::pool(Node::Op::kAvgPool, 2, 2, 1), {0}),
                                   testing::layer(Node::Op::kConcat, {1, 2}), testing::layer(Node::Op::kFlatten),
                                   testing::linear(2)},
                                  1, 0.1);
  Graph graph = build_graph(spec).take();
  auto network = Network::compile(graph, 1, 1, Network::Gradients::kNone).take();
  std::vector<float> parameters(graph.parameters, 0.0F);
  parameters[0] = 1;                        // logit 0: the first maximum
  parameters[8 + 4] = 1;                    // logit 1: the first mean
  ASSERT_TRUE(network->set_parameters(parameters));
  for (int i = 0; i < 9; ++i) network->input(0)[i] = -1.0F - static_cast<float>(i);
  ASSERT_TRUE(network->forward(0, nullptr, 0));
  EXPECT_EQ(network->logits(0)[0], -1);
  EXPECT_EQ(network->logits(0)[1], -1);
}

TEST(Network, RefusesShardsThatNoMemoryHolds) {
  auto spec = testing::plain_spec({64, 512, 512}, 2, {testing::layer(Node::Op::kGlobalAvgPool), testing::linear(2)}, 1, 0.1);
  Graph graph = build_graph(spec).take();
  auto network = Network::compile(graph, 4096, 1, Network::Gradients::kNone);
  ASSERT_FALSE(network);
  EXPECT_EQ(network.error().code(), Code::kExhausted);
}

}  // namespace
}  // namespace souk::trainer
