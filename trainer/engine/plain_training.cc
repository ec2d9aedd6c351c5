#include "trainer/engine/plain_training.h"

#include <array>
#include <cmath>
#include <random>

#include "trainer/engine/optimizer.h"
#include "trainer/engine/reference.h"

namespace souk::trainer {

using contracts::TrainingSpec;

struct PlainTraining::State {
  TrainingSpec spec;
  Graph graph;
  std::vector<std::vector<double>> examples;
  std::span<const int64_t> labels;
  std::vector<double> numbers, velocity;
  std::mt19937_64 random{1};
  uint32_t steps_done = 0;
  double loss = 0;

  // The gradient of one example, clipped where there is privacy.
  void add_example(size_t row, std::vector<double>& sum) {
    auto pass = reference_pass(graph, spec.loss, numbers, examples[row], labels[row]);
    loss += pass.loss / static_cast<double>(examples.size());
    double square = 0;
    for (double g : pass.gradient) square += g * g;
    const double factor = spec.privacy ? std::min(1.0, spec.privacy->clip / std::sqrt(square)) : 1;
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += factor * pass.gradient[i];
  }

  void step() {
    std::vector<double> sum(graph.trained, 0.0);
    loss = 0;
    for (size_t row = 0; row < examples.size(); ++row) add_example(row, sum);
    std::normal_distribution<double> normal;
    const double deviation = spec.privacy ? spec.privacy->noise_multiplier * spec.privacy->clip : 0;
    const double rate = rate_at(spec, steps_done);
    for (size_t i = 0; i < sum.size(); ++i) {
      const double g = (sum[i] + (deviation > 0 ? deviation * normal(random) : 0)) / spec.batch;
      velocity[i] = spec.optimizer.momentum * velocity[i] + g;
      numbers[i] -= rate * velocity[i];
    }
    ++steps_done;
  }
};

PlainTraining::PlainTraining(std::unique_ptr<State> state) : state_(std::move(state)) {}
PlainTraining::PlainTraining(PlainTraining&&) noexcept = default;
PlainTraining& PlainTraining::operator=(PlainTraining&&) noexcept = default;
PlainTraining::~PlainTraining() = default;

Result<PlainTraining> PlainTraining::create(const TrainingSpec& spec, Examples data) {
  auto state = std::make_unique<State>();
  state->spec = spec;
  state->graph = TRY(build_graph(spec));
  if (spec.optimizer.kind != contracts::Optimizer::Kind::kSgd || spec.optimizer.nesterov ||
      spec.optimizer.weight_decay != 0 || spec.augmentation != contracts::Augmentation{}) {
    return Error(Code::kRefused, "plain training: expected SGD with momentum and one view");
  }
  const uint64_t width = state->graph.input().count(), rows = data.labels.size();
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
