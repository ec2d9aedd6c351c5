// Weights that a run starts from instead of those of its seed: fine-tuning, and training a new
// head on frozen layers. A public safetensors file, bound to a specification by its SHA-256.
// contracts/SPEC.md, section 6, `initial`.
#pragma once

#include <cstddef>

#include "contracts/training/spec.h"
#include "ledger/base/bytes.h"
#include "trainer/data/safetensors.h"
#include "trainer/engine/model.h"

namespace souk::trainer {

// The most parameters a specification may have, in single precision, and their header.
inline constexpr size_t kMaxInitialBytes = size_t{256} << 20;

// Those of the seed, with every tensor of `file` in the place of its name. kMalformed: a tensor of
// another shape or type, except in the last layer with weights (a head for other classes starts
// from the seed); a tensor that the model has not; none that it has; a number that is not finite.
Result<Model> initial_weights(const contracts::TrainingSpec& spec, const SafeTensors& file);

// The same of a whole file. kUnauthentic: its SHA-256 is not spec.initial.
Result<Model> initial_weights_from(const contracts::TrainingSpec& spec, ByteView file);

}  // namespace souk::trainer
