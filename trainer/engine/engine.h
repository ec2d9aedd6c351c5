// The training engine: runs one TrainingSpec on one dataset. trainer/SPEC.md, Engine.
//
// Results are a function of (spec, dataset, noise root, instruction set of the CPU); the
// number of threads and the environment do not matter. All work happens inside the calls,
// on the caller's thread and the given Workers; nothing opens a file after warm_up().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
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

// The instruction set that matrix products use here: "AVX512-BF16", "AVX512", "AVX2", ...
// Results in f32 are the same bits on CPUs where this is the same.
std::string isa_name();

// All of the machine that can decide about the bits of a step: longer than isa_name(), for who must
// not repeat a step elsewhere (run_state.h).
std::string machine_class();

// For benchmarks: this process will do what a CPU without AVX-512 would. Before anything else here.
void limit_to_avx2();

// Sees the private mean gradient, numbers [first, first + released.size()), after its noise; from
// several threads at once, each with other numbers.
using ReleaseWatch = std::function<void(uint64_t first, std::span<const float> released)>;

class Canaries;

class TrainingRun {
 public:
  // Borrows `data` and `workers` until destroyed. kMalformed: the spec or the dataset's
  // shape or labels are impossible. kRefused: the accountant's epsilon for the whole run
  // exceeds the claimed one, privacy is asked with shuffled batches, or bf16 on a CPU without
  // it. `initial`: weights to start from (fine-tuning), else those of spec.seed.
  static Result<TrainingRun> create(const contracts::TrainingSpec& spec, Examples data,
                                    NoiseRoot root, Workers& workers,
                                    const Model* initial = nullptr);
  TrainingRun(TrainingRun&&) noexcept;
  TrainingRun& operator=(TrainingRun&&) noexcept;
  ~TrainingRun();

  // One step of the optimiser. kConflict after the last one. After kBroken or kExhausted
  // the run is over: every later call fails.
  Status step();
  // All remaining steps; `after_step`, if any, is called with steps_done() after each.
  Status run_to_end(const std::function<void(uint32_t steps_done)>& after_step = {});

  // Before the first step of a private run: `count` canaries are trained with (canaries.h). The
  // model stays the same to the bit. kConflict later, or without privacy.
  Status plant_canaries(uint32_t count);
  const Canaries* canaries() const;  // null where there are none
  // For audits: what a private run releases, step by step.
  void watch_releases(ReleaseWatch watch);

  // The run between two steps (run_state.h): under the same specification, rows and root it goes on
  // from there to the same bits. Goes behind what `out` holds. About the data: leaves an enclave
  // under its seal only. kBroken when the run is over.
  Status append_state(Bytes& out) const;
  uint64_t state_bytes() const;  // its length
  // Before the first step, and after plant_canaries() where the run had any. kConflict later;
  // kMalformed, and the run is over, when this is no state of such a run.
  Status restore(ByteView state);

  uint32_t steps_done() const;
  uint32_t steps_total() const;
  // Upper bound at the spec's delta for the steps done so far; infinity without privacy.
  double epsilon_spent() const;
  // Mean loss over the examples of the last step. About the data: must not leave an enclave
  // unless the provider waived privacy.
  double private_loss_of_last_step() const;
  // The parameters after the last step, or their running mean; kConflict before it.
  Result<Model> finish();

 private:
  struct State;
  explicit TrainingRun(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// The last layer's numbers, rows x (classes, or 1). kMalformed: model, features and spec do not fit
// together.
Result<std::vector<float>> predict(const contracts::TrainingSpec& spec, const Model& model,
                                   const Features& features, uint64_t rows, Workers& workers);

// The class that the outputs of one example name.
int64_t predicted_class(const contracts::TrainingSpec& spec, std::span<const float> outputs);

// About the data: must not leave an enclave unless the provider waived privacy.
struct Evaluation {
  uint64_t rows = 0;
  double accuracy = 0;  // share of examples whose predicted_class is the label
  double loss = 0;      // mean of the spec's loss
};
Result<Evaluation> evaluate(const contracts::TrainingSpec& spec, const Model& model, Examples data,
                            Workers& workers);

}  // namespace souk::trainer
