#include "trainer/engine/run_checks.h"

#include "policy/privacy/budget.h"
#include "policy/privacy/run.h"

namespace souk::trainer {

using contracts::TrainingSpec;

Status check_privacy(const TrainingSpec& spec) {
  if (spec.shuffle)
    return Error(Code::kRefused, "privacy: expected Poisson sampling, not shuffled batches");
  for (size_t i = 0; i < policy::kinds_of_members(spec); ++i) {
    double epsilon = TRY(policy::epsilon_of_run(spec, i, spec.steps));
    int64_t micro = policy::epsilon_micro_up(epsilon);
    if (micro > contracts::member_of(spec, i).epsilon_micro) {
      return Error(Code::kRefused, "privacy: expected a claimed epsilon of at least " +
                                       std::to_string(micro) + " millionths");
    }
  }
  return Done{};
}

Result<std::vector<Part>> parts_of(const TrainingSpec& spec, const Examples& data) {
  std::vector<Part> parts;
  if (!spec.privacy || spec.privacy->pool.empty()) {
    parts.push_back({data.labels.size(), spec.sampling_threshold});
    return parts;
  }
  uint64_t rows = 0;
  for (size_t i = 0; i < data.parts.size(); ++i) {
    rows += data.parts[i];
    if (i < spec.privacy->pool.size())
      parts.push_back({data.parts[i], spec.privacy->pool[i].sampling_threshold});
  }
  if (data.parts.size() != spec.privacy->pool.size() || rows != data.labels.size()) {
    return Error(Code::kMalformed, "dataset: expected the rows of each of the pool's " +
                                       std::to_string(spec.privacy->pool.size()) + " datasets");
  }
  return parts;
}

}  // namespace souk::trainer
