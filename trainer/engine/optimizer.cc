#include "trainer/engine/optimizer.h"

#include <algorithm>
#include <cmath>

#include "trainer/engine/simd.h"

namespace souk::trainer {

using contracts::Optimizer;

OptimizerState::OptimizerState(const Optimizer& rule, uint64_t parameters) : rule_(rule) {
  bool adam = rule.kind == Optimizer::Kind::kAdam;
  if (adam || rule.momentum != 0) first_moment_.assign(parameters, 0.0F);
  if (adam) second_moment_.assign(parameters, 0.0F);
}

void OptimizerState::update(std::span<float> parameters, uint64_t first,
                            std::span<const float> gradient, float factor, double rate,
                            uint64_t step) {
  const bool coupled = rule_.decay == Optimizer::Decay::kCoupled;
  const double shrink = coupled ? 1 : 1 - rate * rule_.weight_decay,
               pull = coupled ? rule_.weight_decay : 0;
  const double beta1 = rule_.beta1, beta2 = rule_.beta2, epsilon = rule_.epsilon,
               momentum = rule_.momentum;
  const bool nesterov = rule_.nesterov;
  const uint64_t count = gradient.size();
  const float* sums = gradient.data();
  // A zero counts as positive, as where it was added to one.
  auto g = [=](uint64_t i) { return (sums[i] + 0.0F) * factor; };
  float* p = parameters.data() + first;
  float* m = first_moment_.empty() ? nullptr : first_moment_.data() + first;
  float* v = second_moment_.empty() ? nullptr : second_moment_.data() + first;
  if (rule_.kind == Optimizer::Kind::kAdam) {
    const double t = static_cast<double>(step), scale1 = 1 / (1 - std::pow(beta1, t)),
                 scale2 = 1 / (1 - std::pow(beta2, t));
    wide([&] {
      for (uint64_t i = 0; i < count; ++i) {
        const double own = g(i) + pull * p[i];
        const double mean = beta1 * m[i] + (1 - beta1) * own,
                     square = beta2 * v[i] + (1 - beta2) * own * own;
        m[i] = static_cast<float>(mean);
        v[i] = static_cast<float>(square);
        p[i] = static_cast<float>(p[i] * shrink -
                                  rate * (mean * scale1 / (std::sqrt(square * scale2) + epsilon)));
      }
    });
  } else if (m) {
    wide([&] {
      for (uint64_t i = 0; i < count; ++i) {
        const double own = g(i) + pull * p[i], velocity = momentum * m[i] + own;
        m[i] = static_cast<float>(velocity);
        p[i] = static_cast<float>(p[i] * shrink -
                                  rate * (nesterov ? own + momentum * velocity : velocity));
      }
    });
  } else {
    wide([&] {
      for (uint64_t i = 0; i < count; ++i)
        p[i] = static_cast<float>(p[i] * shrink - rate * (g(i) + pull * p[i]));
    });
  }
}

RunningMean::RunningMean(double decay, std::span<const float> start) : decay_(decay) {
  if (decay > 0) mean_.assign(start.begin(), start.end());
}

void RunningMean::update(std::span<const float> numbers, uint64_t first, uint64_t count,
                         uint64_t update) {
  if (mean_.empty()) return;
  const double u = static_cast<double>(update), d = std::min(decay_, (1 + u) / (10 + u));
  const float* from = numbers.data() + first;
  float* to = mean_.data() + first;
  wide([&] {
    for (uint64_t i = 0; i < count; ++i) to[i] = static_cast<float>(d * to[i] + (1 - d) * from[i]);
  });
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
