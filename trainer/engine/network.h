// A graph compiled for shards of a fixed number of examples, on oneDNN. The one door to
// dnnl.hpp. Every matrix product runs on the calling thread alone, so a shard's result
// depends on nothing but its examples, the parameters and the CPU's instruction set.
//
// Activations are channels-last, one example after another; a shard with fewer examples is
// filled up with zeros whose gradient is zero.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ledger/base/secret.h"
#include "trainer/engine/graph.h"
#include "trainer/engine/workers.h"

namespace souk::trainer {

// Settings of oneDNN and OpenMP that the environment could otherwise change.
void configure_libraries();

class Network {
 public:
  enum class Gradients : uint8_t { kNone, kBatch, kPerExample };

  // kExhausted: the shard's activations do not fit memory. kBroken: oneDNN cannot compile it.
  static Result<std::unique_ptr<Network>> compile(const Graph& graph, uint32_t shard, unsigned workers,
                                                  Gradients gradients);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  uint32_t shard() const;

  // Between passes only. The span must stay valid and unchanged until the next call.
  Status set_parameters(std::span<const float> parameters);

  // The calls below belong to one worker's pass: forward, then backward, then gradients.
  // Different workers may be in them at once.

  // The input buffer, shard x input count, to be filled before forward.
  float* input(unsigned worker);
  // `dropout`: key of this step's dropout; null for inference. Example r of the shard draws
  // from the stream (layer, first + r).
  Status forward(unsigned worker, const Secret<32>* dropout, uint32_t first);
  const float* logits(unsigned worker) const;
  // To be filled before backward; shard x classes.
  float* logits_gradient(unsigned worker);
  Status backward(unsigned worker);
  // The gradient of the sum over the shard's examples (kBatch).
  Status batch_gradient(unsigned worker, std::span<float> out);
  // The gradient of example `row` of the shard alone (kPerExample).
  Status example_gradient(unsigned worker, uint32_t row, std::span<float> out);

 private:
  struct State;
  explicit Network(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace souk::trainer
