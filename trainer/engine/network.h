// A graph compiled for shards of a fixed number of examples, on oneDNN: every buffer, layout and
// primitive is chosen in compile(), a pass allocates nothing of ours. Every matrix product runs on
// the calling thread alone, so a shard's result depends on nothing but its examples, the
// parameters and the CPU's instruction set.
//
// An example may have several views (augmentation multiplicity); its rows lie one after another.
// Activations are channels last. A shard with fewer examples is filled up with zeros whose
// gradient is zero.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "ledger/base/secret.h"
#include "trainer/engine/graph.h"
#include "trainer/engine/kernels.h"
#include "trainer/engine/strategy.h"
#include "trainer/engine/workers.h"

namespace souk::trainer {

// Settings of oneDNN and OpenMP that the environment could otherwise change.
void configure_libraries();
// Whether this CPU multiplies bf16 itself; it is never emulated.
bool has_bf16();

struct NetworkSettings {
  enum class Gradients : uint8_t { kNone, kBatch, kPerExample } gradients = Gradients::kNone;
  uint32_t shard = 32;  // examples
  uint32_t views = 1;   // of each
  unsigned workers = 1;
  contracts::TrainingSpec::Dtype dtype = contracts::TrainingSpec::Dtype::kF32;
  // The pass begins with the value of layer `first` as its input, and ends with that of `last`
  // (0: of the last layer). Outside kNone the layers up to `first` must be a path without training.
  uint32_t first = 0, last = 0;
  std::optional<Strategy>
      convolutions;  // for tests: kStored or kGhost instead of the cost model's choice
};

class Network {
 public:
  using Gradients = NetworkSettings::Gradients;

  // kExhausted: the shard's activations do not fit memory. kRefused: bf16 on a CPU without it.
  // kBroken: oneDNN cannot compile it.
  static Result<std::unique_ptr<Network>> compile(const Graph& graph,
                                                  const NetworkSettings& settings);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  uint32_t shard() const;

  // Between passes only: all numbers of the graph. The span must stay valid and unchanged until
  // the next call. `helpers`, as many as the settings' workers at most, share the work if given.
  Status set_parameters(std::span<const float> numbers, Workers* helpers = nullptr);

  // The calls below belong to one worker's pass: forward, backward, and for single examples
  // clipped_sum. Different workers may be in them at once.

  // The input buffer, shard x views x numbers of the first value, to be filled before forward.
  float* input(unsigned worker);
  struct Pass {
    uint32_t examples = 0;  // in this shard
    bool training = false;  // batch norms use the shard's statistics, not the running ones
    const Secret<32>* dropout = nullptr;  // key of this step's dropout; null: nothing is dropped
    uint64_t first = 0;  // row v of example e draws from stream (layer, (first + e) * views + v)
  };
  Status forward(unsigned worker, const Pass& pass);
  const float* outputs(unsigned worker) const;
  // To be filled before backward, shard x views x outputs; rows past the pass's examples are
  // zeroed by backward itself.
  float* outputs_gradient(unsigned worker);

  // kBatch: the gradient of the sum over the shard's views, as long as graph.trained. kAdd, of a
  // network for one worker only, gives to the bit what adding it afterwards would.
  Status backward(unsigned worker, std::span<float> gradient,
                  kernels::Onto onto = kernels::Onto::kWrite);
  // The statistics this pass saw, in the order of the running ones, variances unbiased.
  void copy_statistics(unsigned worker, std::span<float> statistics) const;

  // kPerExample: for every trained layer and example of the shard, the square of the gradient's
  // norm and the layer's roughness; see strategy.h.
  Status backward(unsigned worker);
  const ExampleNorms& norms(unsigned worker) const;
  // The sum over examples of factors[group * shard + example] * gradient; an example with
  // `present` 0 counts as nothing, even where its numbers are not finite.
  Status clipped_sum(unsigned worker, std::span<const float> factors,
                     std::span<const uint8_t> present, std::span<float> sum);
  // The gradient of one example alone, by the plainest way; for tests.
  Status example_gradient(unsigned worker, uint32_t example, std::span<float> gradient);

  // How each trained layer's gradients are bounded; in the order of graph.trained_layers.
  const std::vector<LayerStrategy>& strategies() const;

 private:
  struct State;
  explicit Network(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace souk::trainer
