// A run on the plain kernels of reference.h: SGD with momentum, one example after the other. It
// shows what the fast engine is measured against; nobody's data should pass through it. Weights,
// batches, dropout and noise are those of a TrainingRun under the same root, so that the losses of
// both agree to rounding, and to what bounding errors takes off small norms (trainer/SPEC.md).
#pragma once

#include <memory>

#include "contracts/training/spec.h"
#include "ledger/base/result.h"
#include "ledger/base/secret.h"
#include "trainer/engine/model.h"

namespace souk::trainer {

class PlainTraining {
 public:
  // Borrows `data`. kRefused: an optimiser other than SGD with momentum, augmentation, constants of
  // the input, accumulated or averaged steps, clipping other than flat, or a pool. kMalformed:
  // rows or labels that do not fit the model.
  static Result<PlainTraining> create(const contracts::TrainingSpec& spec, Examples data,
                                      const Secret<32>& root);
  PlainTraining(PlainTraining&&) noexcept;
  PlainTraining& operator=(PlainTraining&&) noexcept;
  ~PlainTraining();

  Status step();
  double private_loss_of_last_step() const;

 private:
  struct State;
  explicit PlainTraining(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace souk::trainer
