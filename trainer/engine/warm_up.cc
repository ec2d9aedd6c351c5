// One small network of every kind of layer, trained and asked, on every worker at once.
#include <atomic>
#include <thread>

#include "trainer/engine/engine.h"
#include "trainer/engine/network.h"

namespace souk::trainer {
namespace {

using contracts::Node;
using contracts::TrainingSpec;

Node layer(Node::Op op) {
  Node node;
  node.op = op;
  return node;
}

Node convolution(uint32_t units, uint32_t kernel, uint32_t groups) {
  Node node = layer(Node::Op::kConv2d);
  node.units = units;
  node.kernel = kernel;
  node.padding = kernel / 2;
  node.groups = groups;
  return node;
}

Node pool(Node::Op op) {
  Node node = layer(op);
  node.kernel = node.stride = 2;
  return node;
}

Node linear(uint32_t units) {
  Node node = layer(Node::Op::kLinear);
  node.units = units;
  return node;
}

TrainingSpec every_layer() {
  TrainingSpec spec;
  spec.input_shape = {3, 12, 12};
  spec.classes = 2;
  Node norm = layer(Node::Op::kGroupNorm);
  norm.groups = 4;
  Node dropout = layer(Node::Op::kDropout);
  dropout.rate = 0.5;
  Node sum = layer(Node::Op::kAdd);
  sum.inputs = {3, 4};
  Node both = layer(Node::Op::kConcat);
  both.inputs = {8, 9};
  Node average = pool(Node::Op::kAvgPool);
  average.inputs = {7};
  Node wide = convolution(16, 1, 1);
  spec.model = {convolution(16, 5, 1),
                norm,
                layer(Node::Op::kRelu),
                convolution(16, 3, 4),
                sum,
                layer(Node::Op::kLeakyRelu),
                layer(Node::Op::kGelu),
                pool(Node::Op::kMaxPool),
                average,
                both,
                wide,
                layer(Node::Op::kSilu),
                layer(Node::Op::kTanh),
                layer(Node::Op::kFlatten),
                linear(12),
                layer(Node::Op::kSigmoid),
                dropout,
                linear(2)};
  spec.steps = 2;
  spec.batch = 4;
  spec.shard = 2;
  spec.learning_rate = {{2, 0.1}};
  return spec;
}

}  // namespace

Status warm_up(Workers& workers) {
  configure_libraries();
  // Every worker once, whatever its thread does first: all wait until all are here.
  std::atomic<unsigned> here{0};
  workers.run(workers.threads(), [&](size_t, unsigned) {
    ++here;
    while (here < workers.threads()) std::this_thread::yield();
  });
  TrainingSpec spec = every_layer();
  constexpr size_t kRows = 16;
  std::vector<float> features(kRows * 3 * 12 * 12);
  for (size_t i = 0; i < features.size(); ++i) features[i] = static_cast<float>(i % 17) / 17.0F;
  std::vector<int64_t> labels(kRows);
  for (size_t i = 0; i < kRows; ++i) labels[i] = static_cast<int64_t>(i % 2);
  Examples data{std::span<const float>(features), labels};
  for (bool privately : {false, true}) {
    spec.shuffle = !privately;
    // Every row in every step: no draw is empty, and nothing takes less time to account for.
    spec.sampling_threshold = privately ? UINT64_MAX : 0;
    if (privately) spec.privacy = contracts::PrivacySpec{1, 4, 20'000'000, 10'000'000};
    auto run = TRY(TrainingRun::create(spec, data, NoiseRoot::random(), workers));
    TRY(run.run_to_end());
    Model model = TRY(run.finish());
    TRY(evaluate(spec, model, data, workers));
  }
  return Done{};
}

}  // namespace souk::trainer
