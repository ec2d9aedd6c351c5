// What a run hands out predicts the same, however it is asked.
#include <gtest/gtest.h>

#include "tests/trainer/engine/support.h"
#include "trainer/engine/examples.h"
#include "trainer/engine/graph.h"
#include "trainer/engine/network.h"

namespace souk::trainer {
namespace {

using contracts::TrainingSpec;
using Gradients = NetworkSettings::Gradients;

constexpr uint64_t kRows = 24;

Model trained(const TrainingSpec& spec, const testing::Data& data) {
  auto workers = Workers::start(2).take();
  auto run = TrainingRun::create(spec, data.examples(), testing::root_of(1), *workers);
  EXPECT_TRUE(run) << run.error().expected();
  EXPECT_TRUE(run->run_to_end());
  return run->finish().take();
}

// The outputs of a network that was compiled for training, in a pass without dropout.
std::vector<float> outputs_of_training(const TrainingSpec& spec, const Model& model,
                                       const testing::Data& data, Gradients gradients) {
  const Graph graph = build_graph(spec).take();
  NetworkSettings settings;
  settings.gradients = gradients;
  settings.shard = spec.shard;
  settings.dtype = spec.dtype;
  auto network = Network::compile(graph, settings).take();
  const auto numbers = flatten(graph, model);
  EXPECT_TRUE(network->set_parameters(numbers));
  auto reader = ExampleReader::open(spec, graph, data.examples().features, kRows).take();
  std::vector<float> out;
  for (uint64_t first = 0; first < kRows; first += spec.shard) {
    for (uint64_t e = 0; e < spec.shard; ++e)
      reader.read(first + e, network->input(0) + e * graph.input().count());
    EXPECT_TRUE(network->forward(0, {spec.shard, true, nullptr, first}));
    out.insert(out.end(), network->outputs(0), network->outputs(0) + spec.shard * graph.outputs);
  }
  return out;
}

TEST(Inference, TheRunningMeanPredictsInTrainingAndInferenceAlike) {
  for (bool privately : {false, true}) {
    for (double ema : {0.0, 0.9}) {
      auto spec = testing::every_layer_spec();
      spec.steps = 6;
      spec.learning_rate = {{6, 0.05}};
      spec.ema = ema;
      if (privately) testing::make_private(spec, 0.4, 1, 0.5);
      const auto data = testing::random_data(kRows, 3 * 9 * 8, 3, 1);
      const Model model = trained(spec, data);
      auto workers = Workers::start(2).take();
      const auto predicted = predict(spec, model, data.examples().features, kRows, *workers).take();
      const auto passed = outputs_of_training(
          spec, model, data, privately ? Gradients::kPerExample : Gradients::kBatch);
      ASSERT_EQ(predicted.size(), passed.size());
      for (size_t i = 0; i < passed.size(); ++i)
        ASSERT_NEAR(predicted[i], passed[i], 2e-6 * (1 + std::abs(passed[i]))) << i;
      // The class is what is served.
      for (uint64_t row = 0; row < kRows; ++row) {
        EXPECT_EQ(predicted_class(spec, std::span(predicted).subspan(row * 3, 3)),
                  predicted_class(spec, std::span(passed).subspan(row * 3, 3)));
      }
    }
  }
}

TEST(Inference, TheRunningMeanIsNotTheLastWeights) {
  auto spec = testing::every_layer_spec();
  spec.steps = 6;
  spec.learning_rate = {{6, 0.05}};
  const auto data = testing::random_data(kRows, 3 * 9 * 8, 3, 1);
  auto mean = spec;
  mean.ema = 0.9;
  EXPECT_NE(testing::flat(trained(spec, data)), testing::flat(trained(mean, data)));
}

}  // namespace
}  // namespace souk::trainer
