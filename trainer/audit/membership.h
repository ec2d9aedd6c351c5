// Membership inference against one's own data: the likelihood ratio attack (Carlini et al. 2022,
// 2112.03570) with few shadow models. Every model is trained on half of the rows, chosen by fair
// coins; the others' losses on a row, with it and without it, say what the attacked model's loss
// on it means. trainer/SPEC.md, Audit.
#pragma once

#include <functional>

#include "trainer/audit/one_run.h"
#include "trainer/engine/engine.h"

namespace souk::trainer {

// Trains `shadows` + 1 models of `spec` on halves of `data`, and attacks the last. The coins and
// all noise come from `seed`. At least 2 shadows and 16 rows, else kMalformed.
Result<OneRunFigures> membership_inference(const contracts::TrainingSpec& spec, Examples data,
                                           uint32_t shadows, const NoiseRoot& seed,
                                           Workers& workers, const Model* initial,
                                           const std::function<void(uint32_t models)>& trained);

}  // namespace souk::trainer
