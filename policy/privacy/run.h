// A training contract as the accountant counts it: for the people of each of its datasets.
#pragma once

#include "contracts/training/spec.h"
#include "policy/privacy/accountant.h"

namespace souk::policy {

// `steps` of a private run, for whoever has at most `records` rows of the contract's dataset
// `index`: rows drawn at its own rate, under the noise over its own clipping norm.
Event event_of_run(const contracts::TrainingSpec& spec, size_t index, uint64_t steps,
                   uint32_t records);

// Datasets that differ in what they are charged for: 1 where there is no pool.
size_t kinds_of_members(const contracts::TrainingSpec& spec);

// epsilon_upper at the contract's delta for its unit (user_cap), by dataset; and the largest.
Result<double> epsilon_of_run(const contracts::TrainingSpec& spec, size_t index, uint64_t steps);
Result<double> epsilon_of_run(const contracts::TrainingSpec& spec, uint64_t steps);

// The dataset whose people the whole run costs most, and the run as they meet it: the same
// mechanism on their rows alone, without a pool.
Result<size_t> most_exposed(const contracts::TrainingSpec& spec);
contracts::TrainingSpec alone(const contracts::TrainingSpec& spec, size_t index);

}  // namespace souk::policy
