// The shard of who names none.
#pragma once

#include "contracts/training/spec.h"

namespace souk::contracts {

// From the batch and the model alone, so that what a specification gives never depends on how many
// threads ran it. `shape` is check_spec's. In contracts and in benchmarks alike.
uint32_t usual_shard(const TrainingSpec& spec, const ModelShape& shape);

}  // namespace souk::contracts
