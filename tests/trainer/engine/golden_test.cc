// The same weights, the same examples, fifty steps: our losses beside those of Debian's
// python3-torch, built from the same specification by tests/bench/peers/torch_train.py.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "market_api/client/bench_train.h"
#include "tests/trainer/engine/support.h"

namespace souk::trainer {
namespace {

using contracts::TrainingSpec;

constexpr const char* kPython = "/usr/bin/python3";

bool has_torch() {
  static const bool there =
      std::system((std::string(kPython) + " -c 'import torch' 2>/dev/null").c_str()) == 0;
  return there;
}

template <class Number>
void write(const std::string& path, const std::vector<Number>& numbers) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(numbers.data()),
             static_cast<std::streamsize>(numbers.size() * sizeof(Number)));
}

std::vector<double> losses_of_torch(const TrainingSpec& spec, const testing::Data& data,
                                    const std::vector<float>& weights) {
  std::array<char, 32> folder{"/tmp/souk-golden-XXXXXX"};
  if (!mkdtemp(folder.data())) return {};
  const std::string at = folder.data();
  write(at + "/features.f32", data.features);
  write(at + "/labels.i64", data.labels);
  write(at + "/weights.f32", weights);
  std::ofstream(at + "/spec.json") << canonical(contracts::to_json(spec));
  const char* source = std::getenv("SOUK_SOURCE");
  const std::string command = std::string(kPython) + " " + (source ? source : ".") +
                              "/tests/bench/peers/torch_train.py " + at + "/spec.json --golden " +
                              at;
  std::vector<double> losses;
  if (FILE* output = popen(command.c_str(), "r")) {
    std::array<char, 128> line{};
    while (std::fgets(line.data(), line.size(), output)) losses.push_back(std::atof(line.data()));
    pclose(output);
  }
  for (const char* name : {"/features.f32", "/labels.i64", "/weights.f32", "/spec.json"})
    std::remove((at + name).c_str());
  rmdir(at.c_str());
  return losses;
}

// Every step sees every row. Tolerance: single precision drifts apart as weights do; where ReLU and
// maxima switch at different steps it shows first, so deep nets get more.
void compare(TrainingSpec spec, const testing::Data& data, double tolerance, double rate = 0.01) {
  if (!has_torch()) GTEST_SKIP() << "python3-torch is not installed";
  spec.steps = 50;
  spec.batch = static_cast<uint32_t>(data.labels.size());
  spec.shard = std::min(spec.batch, 4U);
  spec.learning_rate = {{50, rate}};
  auto workers = Workers::start(2).take();
  auto theirs = losses_of_torch(spec, data, testing::flat(initial_model(spec).take()));
  ASSERT_EQ(theirs.size(), 50u);
  auto run = TrainingRun::create(spec, data.examples(), testing::root_of(1), *workers).take();
  for (size_t step = 0; step < 50; ++step) {
    ASSERT_TRUE(run.step());
    EXPECT_NEAR(run.private_loss_of_last_step(), theirs[step],
                tolerance * std::max(1.0, theirs[step]))
        << "step " << step;
  }
  EXPECT_LT(theirs.back(), theirs.front());  // and it was training
}

TrainingSpec bench_spec(const std::string& model) {
  market::TrainBench bench;
  bench.model = model;
  bench.batch = 8;
  bench.steps = 50;
  return market::bench_spec(bench).take();
}

testing::Data data_for(const TrainingSpec& spec, uint64_t rows) {
  uint64_t numbers = 1;
  for (uint32_t size : spec.input_shape) numbers *= size;
  return testing::random_data(rows, numbers, spec.classes, 7);
}

TEST(Golden, Mlp) {
  auto spec = bench_spec("mlp");
  compare(spec, data_for(spec, 64), 1e-4);
}

TEST(Golden, Vgg9) {
  // Without norms its loss starts at 9: at a rate of 0.01 the smallest difference grows tenfold in
  // a few steps.
  auto spec = bench_spec("vgg9");
  compare(spec, data_for(spec, 8), 2e-3, 0.001);
}

TEST(Golden, ResNet32WithGroupNorm) {
  auto spec = bench_spec("resnet32gn");
  compare(spec, data_for(spec, 8), 5e-3);
}

TEST(Golden, EmbeddingsOfMixedColumns) {
  auto spec = testing::mixed_columns_spec();
  spec.shuffle = true;
  spec.optimizer.momentum = 0.9;
  compare(spec, testing::mixed_columns_data(64, 7), 1e-4);
}

TEST(Golden, EveryLayerAndBothOtherLosses) {
  for (auto loss : {TrainingSpec::Loss::kBce, TrainingSpec::Loss::kMse}) {
    auto spec = testing::every_layer_spec();
    for (auto& node : spec.model) node.rate = 0;  // dropout draws elsewhere
    spec.model[0].standardize = true;
    spec.loss = loss;
    compare(spec, data_for(spec, 16), 1e-4);
  }
}

}  // namespace
}  // namespace souk::trainer
