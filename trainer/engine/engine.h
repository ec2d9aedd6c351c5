// The training engine: runs one TrainingSpec on one dataset. trainer/SPEC.md, Engine.
//
// Results are a function of (spec, dataset, noise root, instruction set of the CPU); the
// number of threads and the environment do not matter. All work happens inside the calls,
// on the caller's thread and the given Workers; nothing opens a file after warm_up().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "contracts/training/spec.h"
#include "ledger/base/result.h"
#include "ledger/base/secret.h"
#include "trainer/engine/model.h"
#include "trainer/engine/workers.h"

namespace souk::trainer {

// All randomness of a run: sampling, shuffling, dropout and noise. Made in the enclave,
// for one run only: two runs under one root reveal the difference of their gradients.
using NoiseRoot = Secret<32>;

// Does once, on every worker, whatever the libraries underneath do lazily. Call before
// lock-down. Afterwards they need memory (also executable: kernels are compiled for the
// shapes of the model), futexes, and nothing else of the system.
Status warm_up(Workers& workers);

class TrainingRun {
 public:
  // Borrows `data` and `workers` until destroyed. kMalformed: the spec or the dataset's
  // shape or labels are impossible. kRefused: the accountant's epsilon for the whole run
  // exceeds the claimed one, or privacy is asked with shuffled batches.
  static Result<TrainingRun> create(const contracts::TrainingSpec& spec, Examples data,
                                    NoiseRoot root, Workers& workers);
  TrainingRun(TrainingRun&&) noexcept;
  TrainingRun& operator=(TrainingRun&&) noexcept;
  ~TrainingRun();

  // One step of the optimiser. kConflict after the last one. After kBroken or kExhausted
  // the run is over: every later call fails.
  Status step();
  // All remaining steps; `after_step`, if any, is called with steps_done() after each.
  Status run_to_end(const std::function<void(uint32_t steps_done)>& after_step = {});

  uint32_t steps_done() const;
  uint32_t steps_total() const;
  // Upper bound at the spec's delta for the steps done so far; infinity without privacy.
  double epsilon_spent() const;
  // The parameters after the last step; kConflict before it.
  Result<Model> finish();

 private:
  struct State;
  explicit TrainingRun(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Logits, rows x classes. kMalformed: model, features and spec do not fit together.
Result<std::vector<float>> predict(const contracts::TrainingSpec& spec, const Model& model,
                                   const Features& features, uint64_t rows, Workers& workers);

// About the data: must not leave an enclave unless the provider waived privacy.
struct Evaluation {
  uint64_t rows = 0;
  double accuracy = 0;  // the largest logit is the label's; the first of equals counts
  double loss = 0;      // mean cross entropy in nats
};
Result<Evaluation> evaluate(const contracts::TrainingSpec& spec, const Model& model,
                            Examples data, Workers& workers);

}  // namespace souk::trainer
