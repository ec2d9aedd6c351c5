// The fast network against the reference, pass by pass.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <random>
#include <vector>

#include "tests/trainer/engine/support.h"
#include "trainer/engine/examples.h"
#include "trainer/engine/kernels.h"
#include "trainer/engine/loss.h"
#include "trainer/engine/network.h"
#include "trainer/engine/reference.h"

namespace souk::trainer::testing {

inline std::vector<double> doubles(std::span<const float> values) {
  return {values.begin(), values.end()};
}

// Parameters that leave nothing at its resting value.
inline std::vector<float> lively_parameters(const Graph& graph, uint32_t seed) {
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

inline float factor_of(uint64_t example) {
  return 0.3F + 0.2F * static_cast<float>(example);
}

inline Passes run_fast(const TrainingSpec& spec, const Graph& graph, std::span<const float> numbers,
                       const Data& data, uint32_t shard, const Secret<32>* dropout,
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
      const std::vector<float> slopes(network->outputs_gradient(0),
                                      network->outputs_gradient(0) + rows * graph.outputs);
      EXPECT_TRUE(network->backward(0, out.batch));
      // Another shard's gradient is added to, as if this one had been made elsewhere.
      EXPECT_TRUE(network->forward(0, {static_cast<uint32_t>(rows), true, dropout, 0}));
      std::copy(slopes.begin(), slopes.end(), network->outputs_gradient(0));
      std::vector<float> added(numbers.begin(),
                               numbers.begin() + static_cast<ptrdiff_t>(graph.trained));
      EXPECT_TRUE(network->backward(0, added, kernels::Onto::kAdd));
      for (uint64_t i = 0; i < graph.trained; ++i)
        EXPECT_EQ(added[i], numbers[i] + out.batch[i]) << i;
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
inline double distance(std::span<const float> a, std::span<const double> b) {
  double difference = 0, size = 1e-12;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(difference / size);
}

inline double square(std::span<const double> v) {
  double sum = 0;
  for (double x : v) sum += x * x;
  return sum;
}

inline void compare(const TrainingSpec& spec, uint32_t seed, bool with_dropout,
                    std::optional<Strategy> strategy = std::nullopt, const Data* given = nullptr) {
  Graph graph = build_graph(spec).take();
  auto numbers = lively_parameters(graph, seed);
  const uint64_t width = graph.input().count();
  auto data = given ? *given : random_data(5, width, spec.classes, seed);
  auto root = root_of(static_cast<uint8_t>(seed));
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

}  // namespace souk::trainer::testing
