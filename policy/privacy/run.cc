#include "policy/privacy/run.h"

#include <algorithm>

namespace souk::policy {

Event event_of_run(const contracts::TrainingSpec& spec, size_t index, uint64_t steps,
                   uint32_t records) {
  return {rate_from_threshold(contracts::member_of(spec, index).sampling_threshold),
          contracts::noise_on(spec, index), steps, records};
}

size_t kinds_of_members(const contracts::TrainingSpec& spec) {
  return std::max<size_t>(1, spec.privacy->pool.size());
}

Result<double> epsilon_of_run(const contracts::TrainingSpec& spec, size_t index, uint64_t steps) {
  return epsilon_upper(event_of_run(spec, index, steps, spec.privacy->user_cap),
                       static_cast<double>(spec.privacy->delta_pico) / 1e12);
}

Result<double> epsilon_of_run(const contracts::TrainingSpec& spec, uint64_t steps) {
  double most = 0;
  for (size_t i = 0; i < kinds_of_members(spec); ++i)
    most = std::max(most, TRY(epsilon_of_run(spec, i, steps)));
  return most;
}

Result<size_t> most_exposed(const contracts::TrainingSpec& spec) {
  size_t out = 0;
  double most = 0;
  for (size_t i = 0; i < kinds_of_members(spec); ++i) {
    double epsilon = TRY(epsilon_of_run(spec, i, spec.steps));
    if (epsilon > most) most = epsilon, out = i;
  }
  return out;
}

contracts::TrainingSpec alone(const contracts::TrainingSpec& spec, size_t index) {
  const auto member = contracts::member_of(spec, index);
  contracts::TrainingSpec out = spec;
  out.sampling_threshold = member.sampling_threshold;
  out.privacy->noise_multiplier = contracts::noise_on(spec, index);
  out.privacy->clip = member.clip;
  out.privacy->epsilon_micro = member.epsilon_micro;
  out.privacy->pool.clear();
  return out;
}

}  // namespace souk::policy
