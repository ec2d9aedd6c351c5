// The norm of one example's convolution gradient without the gradient. With D = dy dy^T and
// X = x x^T over pixels, |sum_t dy_t x_(t+k)^T|^2 summed over window places k is
// sum_k <D, X shifted by k>: two small products, then shifted dot products.
#pragma once

#include <vector>

#include "trainer/engine/graph.h"

namespace souk::trainer {

struct GhostScratch {
  std::vector<float> x, d, masked;  // pixels x pixels each
  std::vector<double> x_size, d_size;
  void fit(uint64_t pixels);
};

struct Measured {
  double square = 0;     // at least the squared norm
  double roughness = 0;  // sum over k of (sum_t |dy_t| |x_(t+k)|)^2, rounded up
};

// For "same" convolutions of stride 1 with an odd kernel, one group. x and dy of one view,
// channels last. Throws dnnl::error.
Measured ghost_norm(const Layer& layer, const float* x, const float* dy, GhostScratch& scratch);

}  // namespace souk::trainer
