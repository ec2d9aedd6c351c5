#include "trainer/engine/optimizer.h"

#include <cmath>

namespace souk::trainer {

using contracts::Optimizer;

OptimizerState::OptimizerState(const Optimizer& rule, uint64_t parameters) : rule_(rule) {
  bool adam = rule.kind == Optimizer::Kind::kAdam;
  if (adam || rule.momentum != 0) first_moment_.assign(parameters, 0.0F);
  if (adam) second_moment_.assign(parameters, 0.0F);
}

void OptimizerState::update(std::span<float> parameters, uint64_t first, std::span<const float> gradient, double rate,
                            uint64_t step) {
  const double decay = 1 - rate * rule_.weight_decay;
  const double t = static_cast<double>(step);
  const double scale1 = 1 / (1 - std::pow(rule_.beta1, t)), scale2 = 1 / (1 - std::pow(rule_.beta2, t));
  for (uint64_t i = 0; i < gradient.size(); ++i) {
    const double g = gradient[i];
    double change = g;
    if (rule_.kind == Optimizer::Kind::kAdam) {
      double m = rule_.beta1 * first_moment_[first + i] + (1 - rule_.beta1) * g;
      double v = rule_.beta2 * second_moment_[first + i] + (1 - rule_.beta2) * g * g;
      first_moment_[first + i] = static_cast<float>(m);
      second_moment_[first + i] = static_cast<float>(v);
      change = m * scale1 / (std::sqrt(v * scale2) + rule_.epsilon);
    } else if (rule_.momentum != 0) {
      double velocity = rule_.momentum * first_moment_[first + i] + g;
      first_moment_[first + i] = static_cast<float>(velocity);
      change = rule_.nesterov ? g + rule_.momentum * velocity : velocity;
    }
    float& p = parameters[first + i];
    p = static_cast<float>(p * decay - rate * change);
  }
}

double rate_at(const contracts::TrainingSpec& spec, uint64_t step) {
  uint64_t end = 0;
  for (const auto& run : spec.learning_rate) {
    end += run.steps;
    if (step < end) return run.value;
  }
  return spec.learning_rate.back().value;
}

}  // namespace souk::trainer
