// What a run asks of its specification and rows before it begins.
#pragma once

#include <vector>

#include "contracts/training/spec.h"
#include "ledger/base/result.h"
#include "trainer/engine/model.h"
#include "trainer/engine/sampling.h"

namespace souk::trainer {

// kRefused: shuffled batches, or an accountant's epsilon for the whole run above the claimed one.
Status check_privacy(const contracts::TrainingSpec& spec);

// Rows and rates of the datasets, one after another. kMalformed where a pool's rows do not add up.
Result<std::vector<Part>> parts_of(const contracts::TrainingSpec& spec, const Examples& data);

}  // namespace souk::trainer
