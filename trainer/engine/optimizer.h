// SGD (momentum, Nesterov) and Adam (Kingma and Ba 2015), with decoupled weight decay (Loshchilov
// and Hutter 2019) or coupled; and the running mean of weights.
#pragma once

#include <cstdint>
#include <span>

#include "contracts/training/spec.h"
#include "trainer/engine/lines.h"

namespace souk::trainer {

class OptimizerState {
 public:
  OptimizerState(const contracts::Optimizer& rule, uint64_t parameters);

  // Updates parameters[first, first + gradient.size()) by `factor` times these numbers, a product
  // in single precision. `step` counts from 1. Disjoint ranges may be updated by different threads.
  void update(std::span<float> parameters, uint64_t first, std::span<const float> gradient,
              float factor, double rate, uint64_t step);

  // All that update() moves beside the parameters; empty where the rule keeps nothing.
  std::span<float> first_moment() { return first_moment_; }
  std::span<float> second_moment() { return second_moment_; }

 private:
  contracts::Optimizer rule_;
  Lines<float> first_moment_;   // SGD: velocity, where there is momentum
  Lines<float> second_moment_;  // Adam only
};

// e <- d e + (1 - d) w with d = min(decay, (1 + u) / (10 + u)) after update u, from 1. Decay 0:
// none.
class RunningMean {
 public:
  RunningMean(double decay, std::span<const float> start);
  // Numbers [first, first + count). Disjoint ranges may be updated by different threads.
  void update(std::span<const float> numbers, uint64_t first, uint64_t count, uint64_t update);
  bool kept() const { return !mean_.empty(); }
  const Lines<float>& mean() const { return mean_; }
  std::span<float> mean() { return mean_; }

 private:
  double decay_;
  Lines<float> mean_;
};

// The learning rate of step `step` (from 0).
double rate_at(const contracts::TrainingSpec& spec, uint64_t step);

}  // namespace souk::trainer
