// Layers that are not matrix products, over `rows` examples at once. Activations are in row,
// column, channel order (channels last), one example after another. A backward kernel writes
// its input's gradient, or adds to it with Onto::kAdd. Judged by reference.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "trainer/engine/chacha.h"
#include "trainer/engine/graph.h"

namespace souk::trainer::kernels {

enum class Onto : uint8_t { kWrite, kAdd };

// relu, leaky relu, tanh, sigmoid, gelu (with erf), silu.
void activate(const Node& node, const float* x, float* y, size_t count);
void activate_backward(const Node& node, const float* x, const float* y, const float* dy, float* dx, size_t count,
                       Onto onto);

// `winners`: the input pixel (row * width + column) behind each output; the first of equals.
void max_pool(const Layer& layer, size_t rows, const float* x, float* y, uint32_t* winners);
void max_pool_backward(const Layer& layer, size_t rows, const uint32_t* winners, const float* dy, float* dx, Onto onto);
// The mean over the pixels of the window that exist; padding does not count.
void average_pool(const Layer& layer, size_t rows, const float* x, float* y);
void average_pool_backward(const Layer& layer, size_t rows, const float* dy, float* dx, Onto onto);
void global_average_pool(const Layer& layer, size_t rows, const float* x, float* y);
void global_average_pool_backward(const Layer& layer, size_t rows, const float* dy, float* dx, Onto onto);

// `moments`: mean and inverse deviation of each example's groups, for the way back.
void group_norm(const Layer& layer, size_t rows, const float* x, const float* weight, const float* bias, float* y,
                float* moments);
void group_norm_backward(const Layer& layer, size_t rows, const float* x, const float* weight, const float* moments,
                         const float* dy, float* dx, Onto onto);
// Adds the parameter gradients of one example.
void group_norm_parameters(const Layer& layer, const float* x, const float* moments, const float* dy, float* dweight,
                           float* dbias);

// `factors`: 0 or 1 / (1 - rate) for each element of one example, from the stream.
void dropout_factors(const Layer& layer, ChaCha20& random, float* factors);
void multiply(const float* x, const float* factors, float* y, size_t count, Onto onto);

// Into channel, row, column order, and back.
void flatten(const Layer& layer, size_t rows, const float* x, float* y);
void flatten_backward(const Layer& layer, size_t rows, const float* dy, float* dx, Onto onto);

void add(const float* a, const float* b, float* y, size_t count);
void copy(const float* x, float* y, size_t count, Onto onto);
// Channels [first, first + part.channels) of `whole`, for every pixel of every row.
void into_channels(const Shape3& part, const Shape3& whole, uint32_t first, size_t rows, const float* x, float* y);
void from_channels(const Shape3& part, const Shape3& whole, uint32_t first, size_t rows, const float* dy, float* dx,
                   Onto onto);

}  // namespace souk::trainer::kernels
