// Layers that are not matrix products, over `rows` views at once. Activations are in row,
// column, channel order (channels last), one view after another. A backward kernel writes its
// input's gradient, or adds to it with Onto::kAdd. Judged by reference.h. Same bits on every CPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "trainer/engine/chacha.h"
#include "trainer/engine/graph.h"

namespace souk::trainer::kernels {

enum class Onto : uint8_t { kWrite, kAdd };

// --- activations.cc -------------------------------------------------------------------------

// relu, leaky relu, tanh, sigmoid, gelu (with erf), silu. y may be x.
void activate(const Node& node, const float* x, float* y, size_t count);
// dx may be dy. Gelu and silu look at x, the others at y.
void activate_backward(const Node& node, const float* x, const float* y, const float* dy, float* dx,
                       size_t count, Onto onto);
inline bool looks_at_input(Node::Op op) {
  return op == Node::Op::kGelu || op == Node::Op::kSilu;
}

// `factors`: 0 or 1 / (1 - rate) for each element of one view, from the stream.
void dropout_factors(const Layer& layer, ChaCha20& random, float* factors);
// y may be x.
void multiply(const float* x, const float* factors, float* y, size_t count, Onto onto);

// --- pooling.cc -----------------------------------------------------------------------------

// A maximum's gradient goes to its first pixel. `before`: slope of a rectifier.
void max_pool(const Layer& layer, size_t rows, const float* x, float* y);
// With `before`, dx is the gradient before the rectifier that made x.
void max_pool_backward(const Layer& layer, size_t rows, const float* x, const float* y,
                       const float* dy, float* dx, Onto onto, std::optional<float> before);
// The mean over the pixels of the window that exist; padding does not count.
void average_pool(const Layer& layer, size_t rows, const float* x, float* y);
void average_pool_backward(const Layer& layer, size_t rows, const float* dy, float* dx, Onto onto);
void global_average_pool(const Layer& layer, size_t rows, const float* x, float* y);
void global_average_pool_backward(const Layer& layer, size_t rows, const float* dy, float* dx,
                                  Onto onto);

// --- group_norm.cc, batch_norm.cc ------------------------------------------------------------

// What a norm needs for each channel and place of a block; one thread's.
struct NormScratch {
  std::vector<float> a, b, c, d;
  std::vector<double> sum, dot;
  void fit(const Layer& layer);
};

// y = norm(x) * weight + bias, then + residual and max(v, slope * v), if asked for. `moments`: mean
// and inverse deviation of each view's groups, for the way back.
struct NormEnd {
  const float* residual = nullptr;
  bool rectify = false;
  float slope = 0;  // 0 ... 1
};
void group_norm(const Layer& layer, size_t rows, const float* x, const float* weight,
                const float* bias, NormEnd end, float* y, float* moments, NormScratch& scratch);
// The rectifier behind a norm, on the way back: dy becomes the gradient before it, in place.
struct Rectified {
  const float* y = nullptr;  // what the rectifier gave; null: there is none
  float slope = 0;
};
// `parameters`: for each view its gradients of weight, then bias. dx may be null.
void group_norm_backward(const Layer& layer, size_t rows, const float* x, const float* weight,
                         const float* moments, Rectified rectified, float* dy, float* dx, Onto onto,
                         float* parameters, NormScratch& scratch);

// Statistics of this shard: `moments` gets means, then biased variances; doubles of count
// channels each are not kept.
void batch_moments(const Layer& layer, size_t rows, const float* x, float* moments,
                   NormScratch& scratch);
// With these means and variances, of a shard or running ones.
void batch_norm(const Layer& layer, size_t rows, const float* x, const float* moments,
                const float* weight, const float* bias, float* y, NormScratch& scratch);
// `of_shard`: the moments depend on x. `parameters`: gradients of weight, then bias, of the
// shard. dx may be null.
void batch_norm_backward(const Layer& layer, size_t rows, const float* x, const float* moments,
                         bool of_shard, const float* weight, const float* dy, float* dx, Onto onto,
                         float* parameters, NormScratch& scratch);

// --- moves.cc -------------------------------------------------------------------------------

// Into channel, row, column order, and back.
void flatten(const Layer& layer, size_t rows, const float* x, float* y);
void flatten_backward(const Layer& layer, size_t rows, const float* dy, float* dx, Onto onto);

void add(const float* a, const float* b, float* y, size_t count);
void copy(const float* x, float* y, size_t count, Onto onto);
void scale(float* values, size_t count, float factor);
// y[row] += bias for rows of `width`.
void add_bias(const float* bias, size_t width, size_t rows, float* y);
// Channels [first, first + part.channels) of `whole`, for every pixel of every row.
void into_channels(const Shape3& part, const Shape3& whole, uint32_t first, size_t rows,
                   const float* x, float* y);
void from_channels(const Shape3& part, const Shape3& whole, uint32_t first, size_t rows,
                   const float* dy, float* dx, Onto onto);

// Which row of the table a column of the example names: 0 where it names none. Without privacy
// such examples were refused before; under privacy no example may fail a run.
inline uint32_t category(float value, uint32_t categories) {
  return value >= 0 && value < static_cast<float>(categories) ? static_cast<uint32_t>(value) : 0;
}
void embed(const Layer& layer, size_t rows, const float* example, const float* table, float* y);
void choose_columns(const Layer& layer, size_t rows, const float* example, float* y);

}  // namespace souk::trainer::kernels
