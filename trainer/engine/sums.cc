#include "trainer/engine/sums.h"

#include <cstring>

#include "trainer/engine/simd.h"

// Vectors are passed between inlined functions only.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace souk::trainer {
namespace {

using Quarter = float __attribute__((vector_size(32)));
using Reals = double __attribute__((vector_size(64)));

[[gnu::always_inline]] inline void load(const float* from, Reals& to) {
  Quarter numbers;
  std::memcpy(&numbers, from, sizeof(numbers));
  to = __builtin_convertvector(numbers, Reals);
}

// The sum of what eight(i, sum) adds for i = 0, 8, 16 ... and one(i) gives for what is left below
// 32: in 32 lanes, each exact but for the roundings of doubles.
template <class Eight, class One>
[[gnu::always_inline]] inline double sum_in_lanes(uint64_t count, const Eight& eight,
                                                  const One& one) {
  constexpr uint64_t kLanes = 32, kWide = 8;
  Reals lanes[kLanes / kWide] = {};
  uint64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (uint64_t part = 0; part < kLanes / kWide; ++part) eight(i + kWide * part, lanes[part]);
  }
  double rest = 0;
  for (; i < count; ++i) rest += one(i);
  const Reals all = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
  for (uint64_t lane = 0; lane < kWide; ++lane) rest += all[lane];
  return rest;
}

}  // namespace

double dot_of(const float* a, const float* b, uint64_t count) {
  double sum = 0;
  wide([&] {
    sum = sum_in_lanes(
        count,
        [=](uint64_t i, Reals& lane) {
          Reals x, y;
          load(a + i, x);
          load(b + i, y);
          lane += x * y;
        },
        [=](uint64_t i) { return double{a[i]} * b[i]; });
  });
  return sum;
}

double square_of(const float* values, uint64_t count) {
  double sum = 0;
  wide([&] {
    sum = sum_in_lanes(
        count,
        [=](uint64_t i, Reals& lane) {
          Reals x;
          load(values + i, x);
          lane += x * x;
        },
        [=](uint64_t i) { return double{values[i]} * values[i]; });
  });
  return sum;
}

double keep(const float* values, uint64_t count, float* to) {
  double sum = 0;
  wide([&] {
    sum = sum_in_lanes(
        count,
        [=](uint64_t i, Reals& lane) {
          std::memcpy(to + i, values + i, sizeof(Quarter));
          Reals x;
          load(values + i, x);
          lane += x * x;
        },
        [=](uint64_t i) {
          to[i] = values[i];
          return double{values[i]} * values[i];
        });
  });
  return sum;
}

void sum_rows(const float* values, uint64_t rows, uint64_t width, float* out) {
  constexpr uint64_t kBlock = 64;
  wide([=] {
    for (uint64_t first = 0; first < width; first += kBlock) {
      const uint64_t here = width - first < kBlock ? width - first : kBlock;
      double sums[kBlock] = {};
      for (uint64_t row = 0; row < rows; ++row) {
        const float* from = values + row * width + first;
        for (uint64_t i = 0; i < here; ++i) sums[i] += from[i];
      }
      for (uint64_t i = 0; i < here; ++i) out[first + i] = static_cast<float>(sums[i]);
    }
  });
}

void add_to(const float* values, uint64_t count, double* sums) {
  for (uint64_t i = 0; i < count; ++i) sums[i] += values[i];
}

void weighted_sum(const float* values, uint64_t stride, uint64_t count, const float* factors,
                  std::span<const uint8_t> present, uint32_t chunk, float* out) {
  constexpr uint64_t kBlock = 1024;
  wide([&] {
    float part[kBlock];
    for (uint64_t start = 0; start < count; start += kBlock) {
      const uint64_t here = count - start < kBlock ? count - start : kBlock;
      float* to = out + start;
      for (uint64_t i = 0; i < here; ++i) to[i] = 0;
      for (size_t first = 0; first < present.size(); first += chunk) {
        const size_t last = first + chunk < present.size() ? first + chunk : present.size();
        for (uint64_t i = 0; i < here; ++i) part[i] = 0;
        for (size_t e = first; e < last; ++e) {
          if (!present[e]) continue;
          const float factor = factors[e];
          const float* from = values + e * stride + start;
          // The next example's block is in another page: nothing else would fetch it in time.
          for (uint64_t i = 0; e + 1 < last && i < here; i += 16)
            __builtin_prefetch(from + stride + i);
          for (uint64_t i = 0; i < here; ++i) part[i] += factor * from[i];
        }
        for (uint64_t i = 0; i < here; ++i) to[i] += part[i];
      }
    }
  });
}

}  // namespace souk::trainer
