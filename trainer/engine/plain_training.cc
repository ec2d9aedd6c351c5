#include "trainer/engine/plain_training.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "trainer/engine/clipping.h"
#include "trainer/engine/examples.h"
#include "trainer/engine/kernels.h"
#include "trainer/engine/noise.h"
#include "trainer/engine/optimizer.h"
#include "trainer/engine/reference.h"
#include "trainer/engine/sampling.h"

namespace souk::trainer {

using contracts::TrainingSpec;

namespace {

bool is_plain(const TrainingSpec& spec) {
  const contracts::Optimizer& rule = spec.optimizer;
  return rule.kind == contracts::Optimizer::Kind::kSgd && !rule.nesterov &&
         rule.weight_decay == 0 && spec.augmentation == contracts::Augmentation{} &&
         spec.input_mean.empty() && spec.input_scale.empty() && spec.accumulate == 1 &&
         spec.ema == 0 &&
         (!spec.privacy || (spec.privacy->pool.empty() &&
                            spec.privacy->clipping == contracts::PrivacySpec::Clipping::kFlat));
}

}  // namespace

struct PlainTraining::State {
  State(const TrainingSpec& own, Graph own_graph, const Secret<32>& root, uint64_t rows)
      : spec(own), graph(std::move(own_graph)), keys(root), shuffled(root, rows) {}

  // Set once in create().
  TrainingSpec spec;
  Graph graph;
  std::vector<std::vector<double>> examples;
  std::span<const int64_t> labels;

  // Moved on by step().
  KeySchedule keys;
  ShuffledRows shuffled;
  std::vector<double> numbers, velocity;
  std::vector<uint64_t> batch;
  uint32_t steps_done = 0;
  double loss = 0;

  void draw() {
    if (spec.shuffle) return shuffled.batch(steps_done, spec.batch, batch);
    poisson_batch(keys.derive("sample", steps_done), examples.size(), spec.sampling_threshold,
                  batch);
  }

  // Which elements the dropouts of the batch's example at `position` keep.
  KeepsElement dropout(uint64_t position) {
    std::vector<std::vector<float>> factors(graph.layers.size());
    for (size_t i = 0; i < graph.layers.size(); ++i) {
      const Layer& layer = graph.layers[i];
      if (i == 0 || layer.node.op != contracts::Node::Op::kDropout) continue;
      factors[i].resize(layer.out.count());
      ChaCha20 random(keys.derive("dropout", steps_done).bytes(SecretAccess()),
                      (uint64_t{i} << 32) | position);
      kernels::dropout_factors(layer, random, factors[i].data());
    }
    return [factors = std::move(factors)](uint32_t layer, uint64_t element) {
      return factors[layer][element] != 0;
    };
  }

  // The gradient of one example, clipped where there is privacy.
  void add_example(uint64_t position, std::vector<double>& sum) {
    const uint64_t row = batch[position];
    auto pass =
        reference_pass(graph, spec.loss, numbers, examples[row], labels[row], dropout(position));
    loss += pass.loss / static_cast<double>(batch.size());
    double square = 0;
    for (double g : pass.gradient) square += g * g;
    const double bound = spec.privacy ? spec.privacy->clip * (1 - kClipMargin) : 0;
    const double factor = spec.privacy ? std::min(1.0, bound / std::sqrt(square)) : 1;
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += factor * pass.gradient[i];
  }

  void add_noise_to(std::vector<double>& sum) {
    const Secret<32>& key = keys.derive("noise", steps_done);
    const double deviation = spec.privacy->noise_multiplier * spec.privacy->clip;
    std::vector<double> normals(kNoiseStream);
    for (uint64_t first = 0; first < sum.size(); first += kNoiseStream) {
      const uint64_t count = std::min<uint64_t>(kNoiseStream, sum.size() - first);
      ChaCha20 random(key.bytes(SecretAccess()), first / kNoiseStream);
      standard_normals(random, {normals.data(), count});
      for (uint64_t i = 0; i < count; ++i) sum[first + i] += deviation * normals[i];
    }
  }

  void step() {
    std::vector<double> sum(graph.trained, 0.0);
    loss = 0;
    draw();
    for (uint64_t position = 0; position < batch.size(); ++position) add_example(position, sum);
    if (spec.privacy) add_noise_to(sum);
    const double rate = rate_at(spec, steps_done);
    for (size_t i = 0; i < sum.size(); ++i) {
      velocity[i] = spec.optimizer.momentum * velocity[i] + sum[i] / spec.batch;
      numbers[i] -= rate * velocity[i];
    }
    ++steps_done;
  }
};

PlainTraining::PlainTraining(std::unique_ptr<State> state) : state_(std::move(state)) {}
PlainTraining::PlainTraining(PlainTraining&&) noexcept = default;
PlainTraining& PlainTraining::operator=(PlainTraining&&) noexcept = default;
PlainTraining::~PlainTraining() = default;

Result<PlainTraining> PlainTraining::create(const TrainingSpec& spec, Examples data,
                                            const Secret<32>& root) {
  auto graph = TRY(build_graph(spec));
  if (!is_plain(spec)) {
    return Error(Code::kRefused,
                 "plain training: expected SGD with momentum, one view, flat clipping");
  }
  const uint64_t width = graph.input().count(), rows = data.labels.size();
  TRY(check_labels(data.labels, rows, spec.classes));
  auto state = std::make_unique<State>(spec, std::move(graph), root, rows);
  std::visit(
      [&](const auto& values) {
        if (values.size() != rows * width) return;
        for (uint64_t row = 0; row < rows; ++row) {
          state->examples.emplace_back(values.begin() + static_cast<ptrdiff_t>(row * width),
                                       values.begin() + static_cast<ptrdiff_t>((row + 1) * width));
        }
      },
      data.features);
  if (state->examples.size() != rows || rows == 0)
    return Error(Code::kMalformed, "dataset: expected rows of the model's input");
  state->labels = data.labels;
  auto start = initial_parameters(state->graph, spec.seed);
  state->numbers.assign(start.begin(), start.end());
  state->velocity.assign(state->graph.trained, 0.0);
  return PlainTraining(std::move(state));
}

Status PlainTraining::step() {
  state_->step();
  return Done{};
}

double PlainTraining::private_loss_of_last_step() const {
  return state_->loss;
}

}  // namespace souk::trainer
