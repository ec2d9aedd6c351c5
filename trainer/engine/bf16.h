// Rounding to bfloat16, to the nearest, ties to even: a relative error of at most 2^-9 (2^-8
// would already allow truncation) where the result is normal.
#pragma once

#include <bit>
#include <cstdint>

#include "trainer/engine/simd.h"

namespace souk::trainer {

inline void to_bf16(const float* from, uint16_t* to, uint64_t count) {
  wide([&] {
    for (uint64_t i = 0; i < count; ++i) {
      const auto bits = std::bit_cast<uint32_t>(from[i]);
      const uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
      // A NaN stays one: rounding could carry its payload into an infinity.
      const bool nan = (bits & 0x7fffffff) > 0x7f800000;
      to[i] = static_cast<uint16_t>((nan ? bits | 0x00400000 : rounded) >> 16);
    }
  });
}

inline float from_bf16(uint16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

}  // namespace souk::trainer
