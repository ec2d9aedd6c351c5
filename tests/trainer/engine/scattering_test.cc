#include "trainer/engine/scattering.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/trainer/engine/support.h"
#include "trainer/engine/engine.h"
#include "trainer/engine/fixed_features.h"
#include "trainer/engine/network_state.h"
#include "trainer/engine/reference.h"
#include "trainer/engine/reference_scattering.h"

namespace souk::trainer {
namespace {

using contracts::TrainingSpec;

Node scattering(uint32_t scales, uint32_t orientations) {
  Node node = testing::layer(Node::Op::kScattering);
  node.scales = scales;
  node.orientations = orientations;
  return node;
}

// A scattering, a norm of each example by itself, a linear layer: what the recipes use.
TrainingSpec scattered_spec(std::vector<uint32_t> input, uint32_t scales, uint32_t orientations) {
  Node norm = testing::group_norm(input[0]);
  norm.frozen = true;
  return testing::plain_spec(std::move(input), 3,
                             {scattering(scales, orientations), norm,
                              testing::layer(Node::Op::kFlatten), testing::linear(3)},
                             3, 0.1);
}

struct Scattered {
  Layer layer;
  std::vector<float> x, y;  // channels last
};
Scattered scatter(std::vector<uint32_t> input, uint32_t scales, uint32_t orientations,
                  uint64_t rows, Isa isa = isa_of_this_cpu(), uint64_t first = 0) {
  Scattered s;
  s.layer = build_graph(scattered_spec(std::move(input), scales, orientations)).take().layers[1];
  auto data = testing::random_data(40, s.layer.in.count(), 2, 5);
  const auto begin = data.features.begin() + static_cast<ptrdiff_t>(first * s.layer.in.count());
  s.x.assign(begin, begin + static_cast<ptrdiff_t>(rows * s.layer.in.count()));
  s.y.resize(rows * s.layer.out.count());
  const Scattering kernel(s.layer);
  const Floats scratch(kernel.scratch_floats());
  kernel.forward(rows, s.x.data(), s.y.data(), scratch.data(), isa);
  return s;
}

TEST(Scattering, IsWhatItsDefinitionSays) {
  struct Case {
    std::vector<uint32_t> input;
    uint32_t scales, orientations;
  };
  for (const Case& c : std::vector<Case>{{{1, 12, 12}, 2, 3},
                                         {{2, 9, 14}, 1, 2},
                                         {{1, 10, 8}, 3, 2},
                                         {{1, 17, 5}, 2, 1},
                                         {{3, 4, 4}, 2, 4}}) {
    constexpr uint64_t kRows = 19;  // more than one vector of images, and not two
    auto s = scatter(c.input, c.scales, c.orientations, kRows);
    const Shape3 &in = s.layer.in, &out = s.layer.out;
    const size_t pixels = size_t{in.height} * in.width, places = size_t{out.height} * out.width;
    for (uint64_t row : {uint64_t{0}, kRows - 1}) {
      std::vector<double> example(in.count());
      for (size_t p = 0; p < pixels; ++p) {
        for (size_t k = 0; k < in.channels; ++k)
          example[k * pixels + p] = s.x[row * in.count() + p * in.channels + k];
      }
      auto expected = reference_scattering(s.layer, example);
      ASSERT_EQ(expected.size(), out.count());
      double largest = 0, apart = 0;
      for (size_t p = 0; p < places; ++p) {
        for (size_t k = 0; k < out.channels; ++k) {
          const double want = expected[k * places + p];
          largest = std::max(largest, std::abs(want));
          apart = std::max(apart, std::abs(want - s.y[row * out.count() + p * out.channels + k]));
        }
      }
      // Transforms of a few thousand numbers in single precision: some tens of roundings.
      EXPECT_LT(apart, 4e-6 * largest) << c.scales << " scales, row " << row;
    }
  }
}

TEST(Scattering, HasTheSameBitsOnEveryCpu) {
  auto plain = scatter({1, 20, 14}, 2, 4, 20, Isa::kBaseline);
  for (Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
    if (isa > isa_of_this_cpu()) continue;
    auto other = scatter({1, 20, 14}, 2, 4, 20, isa);
    EXPECT_EQ(std::memcmp(plain.y.data(), other.y.data(), plain.y.size() * sizeof(float)), 0)
        << static_cast<int>(isa);
  }
}

TEST(Scattering, OfOneExampleSaysNothingOfItsNeighbours) {
  auto together = scatter({2, 8, 8}, 2, 2, 20);
  for (uint64_t row : {uint64_t{0}, uint64_t{15}, uint64_t{16}, uint64_t{19}}) {
    auto alone = scatter({2, 8, 8}, 2, 2, 1, isa_of_this_cpu(), row);
    EXPECT_EQ(std::memcmp(alone.y.data(), together.y.data() + row * alone.layer.out.count(),
                          alone.y.size() * sizeof(float)),
              0)
        << row;
  }
}

TEST(Scattering, OfAnEvenImageIsItsBrightnessAndNothingElse) {
  auto spec = scattered_spec({1, 12, 12}, 2, 4);
  const Layer layer = build_graph(spec).take().layers[1];
  const Scattering kernel(layer);
  const Floats scratch(kernel.scratch_floats());
  std::vector<float> x(144, 0.75F), y(layer.out.count());
  kernel.forward(1, x.data(), y.data(), scratch.data());
  for (size_t i = 0; i < y.size(); ++i)
    EXPECT_NEAR(y[i], i % layer.out.channels == 0 ? 0.75 : 0, 1e-6) << i;
}

TEST(Scattering, InANetworkAgreesWithTheReference) {
  auto spec = scattered_spec({2, 12, 8}, 2, 2);
  Graph graph = build_graph(spec).take();
  auto data = testing::random_data(5, graph.input().count(), 3, 9);
  auto reader = ExampleReader::open(spec, graph, std::span<const float>(data.features), 5).take();
  auto numbers = initial_parameters(graph, 3);
  NetworkSettings settings;
  settings.gradients = NetworkSettings::Gradients::kBatch;
  settings.shard = 8;
  auto network = Network::compile(graph, settings).take();
  ASSERT_TRUE(network->set_parameters(numbers));
  for (uint64_t r = 0; r < 5; ++r) reader.read(r, network->input(0) + r * graph.input().count());
  ASSERT_TRUE(network->forward(0, {.examples = 5, .training = true}));
  const std::vector<double> wide_numbers(numbers.begin(), numbers.end());
  for (uint64_t r = 0; r < 5; ++r) {
    const auto begin = data.features.begin() + static_cast<ptrdiff_t>(r * graph.input().count());
    std::vector<double> example(begin, begin + static_cast<ptrdiff_t>(graph.input().count()));
    auto pass = reference_pass(graph, spec.loss, wide_numbers, example, data.labels[r]);
    for (size_t k = 0; k < 3; ++k)
      EXPECT_NEAR(network->outputs(0)[r * 3 + k], pass.outputs[k], 2e-4) << r;
  }
}

TEST(FixedFeatures, EndWhereTrainingBegins) {
  auto spec = scattered_spec({1, 8, 8}, 1, 2);
  EXPECT_EQ(end_of_fixed_path(build_graph(spec).take()), 3u);
  spec.model[1].frozen = false;
  EXPECT_EQ(end_of_fixed_path(build_graph(spec).take()), 1u);
  spec.model[1].frozen = true;
  spec.model.insert(spec.model.begin() + 3, testing::dropout(0.5));
  EXPECT_EQ(end_of_fixed_path(build_graph(spec).take()), 3u);
  spec.model = {testing::layer(Node::Op::kFlatten), testing::linear(3)};
  EXPECT_EQ(end_of_fixed_path(build_graph(spec).take()), 0u);  // nothing worth keeping
}

TEST(FixedFeatures, AreTheBitsThatEveryStepWouldCompute) {
  auto spec = scattered_spec({1, 12, 12}, 2, 3);
  constexpr uint64_t kRows = 22;
  Graph graph = build_graph(spec).take();
  auto data = testing::random_data(kRows, graph.input().count(), 3, 11);
  auto reader =
      ExampleReader::open(spec, graph, std::span<const float>(data.features), kRows).take();
  auto numbers = initial_parameters(graph, 3);
  auto workers = Workers::start(2).take();
  auto features = FixedFeatures::compute(spec, graph, reader, kRows, numbers, *workers).take();
  ASSERT_TRUE(features);
  NetworkSettings settings;
  settings.gradients = NetworkSettings::Gradients::kPerExample;
  settings.shard = 4;
  auto whole = Network::compile(graph, settings).take();
  settings.first = features->layer();
  auto rest = Network::compile(graph, settings).take();
  const uint64_t width = graph.layers[features->layer()].out.count();
  for (const auto& network : {whole.get(), rest.get()}) {
    ASSERT_TRUE(network->set_parameters(numbers));
  }
  for (uint64_t r = 0; r < 3; ++r) {
    reader.read(17 + r, whole->input(0) + r * graph.input().count());
    features->read(17 + r, rest->input(0) + r * width);
  }
  std::vector<std::vector<float>> sums;
  for (const auto& network : {whole.get(), rest.get()}) {
    ASSERT_TRUE(network->forward(0, {.examples = 3, .training = true}));
    std::fill_n(network->outputs_gradient(0), 9, 0.25F);
    ASSERT_TRUE(network->backward(0));
    const std::vector<float> factors(4, 0.5F);
    const std::vector<uint8_t> present(3, 1);
    sums.emplace_back(graph.trained);
    ASSERT_TRUE(network->clipped_sum(0, factors, present, sums.back()));
  }
  EXPECT_EQ(std::memcmp(whole->outputs(0), rest->outputs(0), 9 * sizeof(float)), 0);
  EXPECT_EQ(sums[0], sums[1]);
  EXPECT_EQ(whole->norms(0).square, rest->norms(0).square);
}

TEST(FixedFeatures, AreNoneWhereViewsAreRandom) {
  auto spec = scattered_spec({1, 8, 8}, 1, 2);
  spec.augmentation.flip = true;
  Graph graph = build_graph(spec).take();
  auto data = testing::random_data(6, 64, 3, 11);
  auto reader = ExampleReader::open(spec, graph, std::span<const float>(data.features), 6).take();
  auto workers = Workers::start(1).take();
  EXPECT_FALSE(
      FixedFeatures::compute(spec, graph, reader, 6, initial_parameters(graph, 1), *workers)
          .take());
}

TEST(FixedFeatures, TrainTheSameModelOnAnyNumberOfThreads) {
  auto data = testing::random_data(50, 64, 3, 13);
  for (bool privately : {false, true}) {
    for (bool augmented : {false, true}) {
      auto spec = scattered_spec({1, 8, 8}, 2, 2);
      spec.augmentation.flip = augmented;
      if (privately) testing::make_private(spec, 0.3, 1, 1);
      std::vector<std::vector<float>> models;
      for (unsigned threads : {1U, 3U}) {
        auto workers = Workers::start(threads).take();
        auto run = TrainingRun::create(spec, data.examples(), testing::root_of(3), *workers);
        ASSERT_TRUE(run) << run.error().expected();
        ASSERT_TRUE(run->run_to_end());
        models.push_back(testing::flat(run->finish().take()));
        auto asked = evaluate(spec, run->finish().take(), data.examples(), *workers);
        ASSERT_TRUE(asked);
      }
      EXPECT_EQ(models[0], models[1]);
    }
  }
}

}  // namespace
}  // namespace souk::trainer
