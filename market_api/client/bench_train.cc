#include "market_api/client/bench_train.h"

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <random>
#include <vector>

#include "contracts/training/shard.h"
#include "trainer/engine/engine.h"
#include "trainer/engine/plain_training.h"

namespace souk::market {
namespace {

using contracts::Node;
using contracts::TrainingSpec;
using Op = Node::Op;

// A model under construction; layers read the one before unless told otherwise.
class Model {
 public:
  uint32_t add(Node node) {
    nodes.push_back(std::move(node));
    return static_cast<uint32_t>(nodes.size());
  }
  uint32_t op(Op op, std::vector<uint32_t> inputs = {}) {
    Node node;
    node.op = op;
    node.inputs = std::move(inputs);
    return add(node);
  }
  uint32_t linear(uint32_t units) {
    Node node;
    node.units = units;
    return add(node);
  }
  uint32_t conv(uint32_t units, uint32_t kernel, uint32_t stride, uint32_t padding, bool bias,
                std::vector<uint32_t> inputs = {}) {
    Node node;
    node.op = Op::kConv2d;
    node.units = units;
    node.kernel = kernel;
    node.stride = stride;
    node.padding = padding;
    node.bias = bias;
    node.inputs = std::move(inputs);
    return add(node);
  }
  uint32_t pool(uint32_t kernel, uint32_t stride) {
    Node node;
    node.op = Op::kMaxPool;
    node.kernel = kernel;
    node.stride = stride;
    return add(node);
  }
  uint32_t norm(uint32_t groups) {
    Node node;
    node.op = Op::kGroupNorm;
    node.groups = groups;
    return add(node);
  }
  uint32_t leaky(double slope) {
    Node node;
    node.op = Op::kLeakyRelu;
    node.slope = slope;
    return add(node);
  }

  std::vector<Node> nodes;
};

std::vector<Node> perceptron(const std::vector<uint32_t>& units) {
  Model m;
  for (size_t i = 0; i < units.size(); ++i) {
    m.linear(units[i]);
    if (i + 1 < units.size()) m.op(Op::kRelu);
  }
  return m.nodes;
}

// The twelve convolutions of Plinius' mnist.cfg, with group norms of 16 for batch norms.
std::vector<Node> plinius() {
  Model m;
  auto block = [&m](uint32_t units) {
    m.conv(units, 3, 1, 1, false);
    m.norm(16);
    m.leaky(0.1);
  };
  block(32);
  m.pool(2, 2);
  for (int i = 0; i < 9; ++i) block(64);
  m.pool(2, 2);
  block(128);
  Node dropout;
  dropout.op = Op::kDropout;
  dropout.rate = 0.5;
  m.add(dropout);
  m.conv(10, 1, 1, 0, true);
  m.leaky(0.1);
  m.op(Op::kGlobalAvgPool);
  return m.nodes;
}

std::vector<Node> vgg9() {
  Model m;
  for (uint32_t units : {64u, 64u, 0u, 128u, 128u, 0u, 256u, 256u, 256u, 0u}) {
    if (units == 0) {
      m.pool(2, 2);
    } else {
      m.conv(units, 3, 1, 1, true);
      m.op(Op::kRelu);
    }
  }
  m.op(Op::kFlatten);
  m.linear(256);
  m.op(Op::kRelu);
  m.linear(10);
  return m.nodes;
}

// Three stages of five blocks; a 1 x 1 convolution where the shape changes.
std::vector<Node> resnet32() {
  Model m;
  m.conv(16, 3, 1, 1, false);
  m.norm(16);
  uint32_t last = m.op(Op::kRelu), channels = 16;
  for (uint32_t units : {16u, 32u, 64u}) {
    for (int block = 0; block < 5; ++block) {
      const uint32_t stride = units != channels ? 2 : 1, from = last;
      m.conv(units, 3, stride, 1, false);
      m.norm(16);
      m.op(Op::kRelu);
      m.conv(units, 3, 1, 1, false);
      const uint32_t inner = m.norm(16);
      const uint32_t shortcut = stride == 1 ? from : m.conv(units, 1, stride, 0, false, {from});
      m.op(Op::kAdd, {inner, shortcut});
      last = m.op(Op::kRelu);
      channels = units;
    }
  }
  m.op(Op::kGlobalAvgPool);
  m.linear(10);
  return m.nodes;
}

// The small network of DP-SGD on MNIST (26,010 weights; Papernot et al. 2021).
std::vector<Node> lenet() {
  Model m;
  m.conv(16, 8, 2, 2, true);
  m.op(Op::kTanh);
  m.pool(2, 1);
  m.conv(32, 4, 2, 0, true);
  m.op(Op::kTanh);
  m.pool(2, 1);
  m.op(Op::kFlatten);
  m.linear(32);
  m.op(Op::kTanh);
  m.linear(10);
  return m.nodes;
}

Status choose_model(const TrainBench& bench, TrainingSpec& spec) {
  const std::string& name = bench.model;
  if (name == "mlp") {
    spec.input_shape = {784};
    spec.model = perceptron({256, 128, 10});
  } else if (name == "tabular") {
    spec.input_shape = {100};
    spec.model = perceptron({64, 2});
    spec.classes = 2;
  } else if (name == "logreg") {
    spec.input_shape = {100};
    spec.model = perceptron({2});
    spec.classes = 2;
  } else if (name == "plinius" || name == "lenet") {
    spec.input_shape = {1, 28, 28};
    spec.model = name == "lenet" ? lenet() : plinius();
  } else if (name == "vgg9" || name == "resnet32gn") {
    spec.input_shape = {3, 32, 32};
    spec.model = name == "vgg9" ? vgg9() : resnet32();
  } else {
    return Error(Code::kMalformed,
                 "--model: expected mlp, logreg, tabular, plinius, vgg9, resnet32gn or lenet");
  }
  return Done{};
}

struct Data {
  std::vector<float> features;
  std::vector<int64_t> labels;
};

Data synthetic(const TrainingSpec& spec, uint32_t rows) {
  uint64_t numbers = 1;
  for (uint32_t size : spec.input_shape) numbers *= size;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  Data data;
  data.features.resize(rows * numbers);
  for (float& f : data.features) f = normal(random);
  for (uint32_t row = 0; row < rows; ++row) data.labels.push_back(row % spec.classes);
  return data;
}

double milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

double peak_rss_mb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

// Steps `run` to its end; run.step() and run.private_loss_of_last_step().
template <class Run>
Status time_steps(Run& run, const TrainBench& bench, TrainCost& cost) {
  std::vector<double> times;
  for (uint32_t step = 0; step < bench.steps; ++step) {
    const auto start = std::chrono::steady_clock::now();
    TRY(run.step());
    times.push_back(milliseconds_since(start));
    if (step == 0) cost.loss_first = run.private_loss_of_last_step();
    cost.loss_last = run.private_loss_of_last_step();
  }
  // The first steps touch memory for the first time.
  if (times.size() > 4) times.erase(times.begin(), times.begin() + 2);
  std::sort(times.begin(), times.end());
  cost.ms_best = times.front();
  cost.ms_median = times[times.size() / 2];
  cost.examples_per_s = 1000.0 * bench.batch / cost.ms_median;
  cost.rss_mb = peak_rss_mb();
  return Done{};
}

}  // namespace

Result<TrainingSpec> bench_spec(const TrainBench& bench) {
  TrainingSpec spec;
  spec.classes = 10;
  TRY(choose_model(bench, spec));
  spec.steps = bench.steps;
  spec.batch = bench.batch;
  spec.learning_rate = {{bench.steps, 0.01}};
  spec.optimizer.momentum = 0.9;
  if (bench.bf16) spec.dtype = TrainingSpec::Dtype::kBf16;
  if (bench.privately) {
    spec.sampling_threshold = UINT64_MAX;
    spec.privacy = contracts::PrivacySpec{};
    spec.privacy->epsilon_micro = 1'000'000'000'000;
    spec.privacy->delta_pico = 10'000'000;
  } else {
    spec.shuffle = true;
  }
  // The engine lays out its memory for whole shards, and no step here has more than the batch.
  if (bench.micro_batch > 0) spec.shard = std::min(bench.micro_batch, bench.batch);
  const auto shape = TRY(contracts::check_spec(spec));
  if (bench.micro_batch == 0) spec.shard = contracts::usual_shard(spec, shape);
  return spec;
}

Result<TrainCost> run_train_bench(const TrainBench& bench) {
  auto spec = TRY(bench_spec(bench));
  if (bench.reference && (bench.bf16 || bench.threads > 1)) {
    return Error(Code::kMalformed,
                 "--reference: expected one thread and f32, the plain kernels know no other");
  }
  if (bench.avx2) trainer::limit_to_avx2();
  // Four batches for plain training, so that epochs are longer than steps; one under privacy,
  // where every step draws nearly every row.
  const Data data = synthetic(spec, bench.privately ? bench.batch : 4 * bench.batch);
  const trainer::Examples examples{std::span<const float>(data.features), data.labels};
  // Nobody's rows: the same draws and noise each time, so that losses can be compared to the bit,
  // and those of the plain kernels with the others' to rounding.
  constexpr std::array<uint8_t, 32> kRoot{};
  auto root = trainer::NoiseRoot::copy_of(kRoot);
  TrainCost cost;
  if (bench.reference) {
    cost.isa = "plain";
    auto run = TRY(trainer::PlainTraining::create(spec, examples, root));
    TRY(time_steps(run, bench, cost));
    return cost;
  }
  cost.isa = trainer::isa_name();
  auto workers = TRY(trainer::Workers::start(bench.threads));
  auto run = TRY(trainer::TrainingRun::create(spec, examples, std::move(root), *workers));
  TRY(time_steps(run, bench, cost));
  return cost;
}

}  // namespace souk::market
