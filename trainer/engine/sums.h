// Sums over numbers of gradients: of squares and products in doubles, of rows, and of examples. The
// same bits on every CPU (simd.h).
#pragma once

#include <cstdint>
#include <span>

namespace souk::trainer {

// Exact but for the roundings of doubles.
double dot_of(const float* a, const float* b, uint64_t count);
double square_of(const float* values, uint64_t count);

// square_of, and copies the numbers. A gradient is made where the cache holds it and put away in
// passing: primitives come back to what they write, and `to` is in memory.
double keep(const float* values, uint64_t count, float* to);

// out = sum over rows of values[row], each of `width` numbers; exact but for one rounding.
void sum_rows(const float* values, uint64_t rows, uint64_t width, float* out);

void add_to(const float* values, uint64_t count, double* sums);

// out = sum over present examples of factors[e] * values[e * stride ...], in blocks that stay in
// the cache and in chunks of examples whose sums are then added.
void weighted_sum(const float* values, uint64_t stride, uint64_t count, const float* factors,
                  std::span<const uint8_t> present, uint32_t chunk, float* out);

}  // namespace souk::trainer
