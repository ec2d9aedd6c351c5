// Convolutions by tiles, judged by the reference; and that tiles of one image know nothing of
// another's. On a CPU where they are not used, the same is asked of what is.
#include "trainer/engine/winograd.h"

#include "tests/trainer/engine/network_support.h"

namespace souk::trainer {
namespace {

using contracts::TrainingSpec;
using Op = Node::Op;

TrainingSpec three_layers(uint32_t channels, uint32_t height, uint32_t width) {
  auto bent = testing::layer(Op::kLeakyRelu);
  bent.slope = 0.1;
  return testing::plain_spec(
      {channels, height, width}, 3,
      {testing::convolution(32, 3, 1, 1), testing::layer(Op::kRelu),
       testing::convolution(48, 3, 1, 1), bent, testing::convolution(16, 3, 1, 1),
       testing::layer(Op::kTanh), testing::layer(Op::kGlobalAvgPool), testing::linear(3)},
      1, 0.1);
}

TEST(Winograd, IsUsedWhereItHasFewerProductsAndAvx512) {
  configure_libraries();
  auto suits = [](const TrainingSpec& spec, size_t layer, bool bf16 = false) {
    return Winograd::suits(build_graph(spec).take().layers[layer], bf16);
  };
  const bool wide = isa_name().rfind("AVX512", 0) == 0;
  EXPECT_EQ(suits(three_layers(16, 8, 8), 1), wide);
  EXPECT_EQ(suits(three_layers(16, 14, 7), 3), wide);
  EXPECT_FALSE(suits(three_layers(3, 8, 8), 1));   // too few channels
  EXPECT_FALSE(suits(three_layers(16, 2, 2), 1));  // more tile than image
  auto strided = three_layers(16, 8, 8);
  strided.model[0].stride = 2;
  EXPECT_FALSE(suits(strided, 1));
  // In bf16 only where the products outweigh the transforms.
  auto broad = three_layers(64, 8, 8);
  EXPECT_FALSE(suits(broad, 1, true));
  broad.model[0].units = 64;
  EXPECT_EQ(suits(broad, 1, true), wide && isa_name().find("AMX") == std::string::npos);
}

TEST(Winograd, AgreesWithTheReferenceAtEverySizeOfImage) {
  uint32_t seed = 20;
  for (auto [height, width] : {std::pair{4u, 4u}, {8u, 8u}, {7u, 9u}, {14u, 5u}, {16u, 13u}}) {
    for (auto strategy : {Strategy::kStored, Strategy::kGhost})
      testing::compare(three_layers(16, height, width), ++seed, false, strategy);
  }
}

void expect_that_an_image_changes_no_bit_of_anothers_pass(const TrainingSpec& spec) {
  const Graph graph = build_graph(spec).take();
  const auto numbers = testing::lively_parameters(graph, 3);
  constexpr uint32_t kShard = 16, kRows = 11, kWatched = 5;
  const uint64_t width = graph.input().count();
  const auto data = testing::random_data(kRows, width, 3, 4);
  NetworkSettings settings;
  settings.gradients = NetworkSettings::Gradients::kPerExample;
  settings.shard = kShard;
  settings.dtype = spec.dtype;
  auto network = Network::compile(graph, settings).take();
  ASSERT_TRUE(network->set_parameters(numbers));
  std::vector<float> outputs[3], gradients[3];
  for (size_t others = 0; others < 3; ++others) {
    for (uint32_t row = 0; row < kRows; ++row) {
      for (uint64_t i = 0; i < width; ++i) {
        float v = data.features[row * width + i];
        if (row != kWatched && others == 1) v *= 1e18F;
        if (row != kWatched && others == 2) v = std::numeric_limits<float>::quiet_NaN();
        network->input(0)[row * width + i] = v;
      }
    }
    ASSERT_TRUE(network->forward(0, {kRows, true, nullptr, 0}));
    const float* own = network->outputs(0) + kWatched * 3;
    outputs[others].assign(own, own + 3);
    for (uint32_t row = 0; row < kRows; ++row) {
      loss_of(spec.loss, {network->outputs(0) + row * 3, 3}, data.labels[row], 1,
              network->outputs_gradient(0) + row * 3);
    }
    ASSERT_TRUE(network->backward(0));
    gradients[others].resize(graph.trained);
    ASSERT_TRUE(network->example_gradient(0, kWatched, gradients[others]));
  }
  for (size_t others : {1u, 2u}) {
    EXPECT_EQ(outputs[others], outputs[0]);
    EXPECT_EQ(gradients[others], gradients[0]);
  }
}

TEST(Winograd, AnImageChangesNoBitOfAnothersPass) {
  expect_that_an_image_changes_no_bit_of_anothers_pass(three_layers(16, 14, 14));
}

// Layers wide enough to go by tiles in bf16 too.
TrainingSpec broad_layers() {
  auto spec = three_layers(64, 14, 14);
  for (size_t layer : {0u, 2u, 4u}) spec.model[layer].units = 64;
  spec.dtype = TrainingSpec::Dtype::kBf16;
  return spec;
}

TEST(Winograd, AnImageChangesNoBitOfAnothersPassInBf16) {
  configure_libraries();
  if (!has_bf16()) GTEST_SKIP() << "this CPU does not multiply bf16";
  expect_that_an_image_changes_no_bit_of_anothers_pass(broad_layers());
}

// Three layers forward and back: 0.015 by direct sums of bf16 products, 0.051 by transforms that
// are rounded too.
TEST(Winograd, StaysNearSinglePrecisionInBf16) {
  configure_libraries();
  if (!has_bf16()) GTEST_SKIP() << "this CPU does not multiply bf16";
  auto spec = broad_layers();
  constexpr uint32_t kRows = 12;
  std::vector<float> results[2];
  for (bool bf16 : {false, true}) {
    spec.dtype = bf16 ? TrainingSpec::Dtype::kBf16 : TrainingSpec::Dtype::kF32;
    const Graph graph = build_graph(spec).take();
    const auto numbers = testing::lively_parameters(graph, 3);
    const uint64_t width = graph.input().count();
    const auto data = testing::random_data(kRows, width, 3, 4);
    NetworkSettings settings;
    settings.gradients = NetworkSettings::Gradients::kPerExample;
    settings.shard = kRows;
    settings.dtype = spec.dtype;
    auto network = Network::compile(graph, settings).take();
    ASSERT_TRUE(network->set_parameters(numbers));
    std::copy_n(data.features.begin(), kRows * width, network->input(0));
    ASSERT_TRUE(network->forward(0, {kRows, true, nullptr, 0}));
    for (uint32_t row = 0; row < kRows; ++row) {
      loss_of(spec.loss, {network->outputs(0) + row * 3, 3}, data.labels[row], 1,
              network->outputs_gradient(0) + row * 3);
    }
    ASSERT_TRUE(network->backward(0));
    auto& result = results[bf16 ? 1 : 0];
    result.resize(graph.trained);
    ASSERT_TRUE(network->example_gradient(0, 5, result));
  }
  double error = 0, size = 0;
  for (size_t i = 0; i < results[0].size(); ++i) {
    error += std::pow(double{results[1][i]} - double{results[0][i]}, 2);
    size += std::pow(double{results[0][i]}, 2);
  }
  EXPECT_GT(error, 0);
  EXPECT_LT(std::sqrt(error / size), 0.08);
  std::printf("relative error of an example's gradient %.4f\n", std::sqrt(error / size));
}

}  // namespace
}  // namespace souk::trainer
