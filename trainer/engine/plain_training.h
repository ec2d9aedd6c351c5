// A run on the plain kernels of reference.h: every example in every step, SGD with momentum. It
// shows what the fast engine is measured against; nobody's data should pass through it.
#pragma once

#include <memory>

#include "contracts/training/spec.h"
#include "ledger/base/result.h"
#include "trainer/engine/model.h"

namespace souk::trainer {

class PlainTraining {
 public:
  // Borrows `data`. Dropout is left out, as in inference. kRefused: an optimiser other than SGD
  // with momentum, or augmentation.
  static Result<PlainTraining> create(const contracts::TrainingSpec& spec, Examples data);
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
