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
      std::system(
          (std::string(kPython) +
           " -c 'import importlib.util, sys; sys.exit(not importlib.util.find_spec(\"torch\"))'")
              .c_str()) == 0;
  return there;
}

template <class Number>
void write(const std::string& path, const std::vector<Number>& numbers) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(numbers.data()),
             static_cast<std::streamsize>(numbers.size() * sizeof(Number)));
}

// torch at the same task, in a process of its own that runs beside this one.
class Peer {
 public:
  Peer(const TrainingSpec& spec, const testing::Data& data, const std::vector<float>& weights) {
    std::array<char, 32> folder{"/tmp/souk-golden-XXXXXX"};
    if (!mkdtemp(folder.data())) return;
    folder_ = folder.data();
    write(folder_ + "/features.f32", data.features);
    write(folder_ + "/labels.i64", data.labels);
    write(folder_ + "/weights.f32", weights);
    std::ofstream(folder_ + "/spec.json") << canonical(contracts::to_json(spec));
    const char* source = std::getenv("SOUK_SOURCE");
    const std::string command = std::string(kPython) + " " + (source ? source : ".") +
                                "/tests/bench/peers/torch_train.py " + folder_ +
                                "/spec.json --golden " + folder_;
    output_ = popen(command.c_str(), "r");
  }
  ~Peer() {
    if (output_) pclose(output_);
    for (const char* name : {"/features.f32", "/labels.i64", "/weights.f32", "/spec.json"})
      std::remove((folder_ + name).c_str());
    rmdir(folder_.c_str());
  }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  // Of all steps; waits for them.
  std::vector<double> losses() {
    std::vector<double> losses;
    std::array<char, 128> line{};
    while (output_ && std::fgets(line.data(), line.size(), output_))
      losses.push_back(std::atof(line.data()));
    return losses;
  }

 private:
  std::string folder_;
  FILE* output_ = nullptr;
};

// Every step sees every row. Tolerance: single precision drifts apart as weights do; where ReLU and
// maxima switch at different steps it shows first, so deep nets get more.
void compare(TrainingSpec spec, const testing::Data& data, double tolerance, double rate = 0.01) {
  if (!has_torch()) GTEST_SKIP() << "python3-torch is not installed";
  spec.steps = 50;
  spec.batch = static_cast<uint32_t>(data.labels.size());
  spec.shard = std::min(spec.batch / 2, 4U);  // more than one
  spec.learning_rate = {{50, rate}};
  Peer peer(spec, data, testing::flat(initial_model(spec).take()));
  auto workers = Workers::start(2).take();
  auto run = TrainingRun::create(spec, data.examples(), testing::root_of(1), *workers).take();
  std::vector<double> ours;
  for (size_t step = 0; step < 50; ++step) {
    ASSERT_TRUE(run.step());
    ours.push_back(run.private_loss_of_last_step());
  }
  const auto theirs = peer.losses();
  ASSERT_EQ(theirs.size(), 50u);
  double worst = 0;
  for (size_t step = 0; step < 50; ++step) {
    const double allowed = tolerance * std::max(1.0, theirs[step]);
    EXPECT_NEAR(ours[step], theirs[step], allowed) << "step " << step;
    worst = std::max(worst, std::abs(ours[step] - theirs[step]) / allowed);
  }
  std::printf("largest difference: %.2f of what is allowed\n", worst);
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
  compare(spec, data_for(spec, 8), 2e-3, 0.0005);
}

TEST(Golden, ResNet32WithGroupNorm) {
  auto spec = bench_spec("resnet32gn");
  compare(spec, data_for(spec, 4), 5e-3, 0.002);
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
