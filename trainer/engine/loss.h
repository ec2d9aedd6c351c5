// What training makes small. trainer/SPEC.md, Engine, Losses.
#pragma once

#include <cstdint>
#include <span>

#include "contracts/training/spec.h"

namespace souk::trainer {

// The loss of one example whose network gave `outputs`, in nats or squares; and
// gradient[i] = share * dloss/doutputs[i], if `gradient` is not null.
double loss_of(contracts::TrainingSpec::Loss loss, std::span<const float> outputs, int64_t label,
               double share, float* gradient);

// The class that these outputs name: the largest of several, the first of equals; of one
// number, its sign (bce) or the nearest class number (mse).
int64_t class_of(contracts::TrainingSpec::Loss loss, std::span<const float> outputs,
                 uint32_t classes);

}  // namespace souk::trainer
