// How one example's gradient of one layer is measured and summed without ever giving every example
// a backward pass of its own. trainer/SPEC.md, Engine, Gradients of single examples.
#pragma once

#include <cstdint>
#include <vector>

#include "trainer/engine/graph.h"

namespace souk::trainer {

enum class Strategy : uint8_t {
  kStored,    // each example's gradient is kept for the shard, in the primitive's layout
  kExplicit,  // the same in the model's layout: standardised weights
  kGhost,  // convolution: its norm from Gram matrices of pixels, shifted (Bu et al. 2022); the sum
           // by one more weight gradient of the scaled shard
  kGoodfellow,  // linear: |x| |dy| (Goodfellow 2015), or from Gram matrices of views; the sum by
                // one product
  kTable,       // embedding: only the rows that the example names
  kNorm,        // group norm: falls out of the backward pass
};

struct LayerStrategy {
  Strategy strategy = Strategy::kStored;
  uint32_t chunk = 1;  // examples that one single-precision sum adds up
  // The sum over a chunk that one example is in differs from the exact one by at most
  // error * (largest factor * roughness in the chunk).
  double error = 0;
};

// `forced`, if any, overrides the cost model for convolutions that can do both.
LayerStrategy choose_strategy(const Layer& layer, uint32_t shard, uint32_t views,
                              const Strategy* forced);

// Of one shard; [group * shard + example].
struct ExampleNorms {
  std::vector<double> square;  // at least the squared norm
  std::vector<double>
      roughness;  // square of the sum of the norms of what is added up to the gradient
};

}  // namespace souk::trainer
