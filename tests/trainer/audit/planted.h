// The seam of trainer/engine/faithful.h with its doors open: what broken trainers do. Compiled into
// one test program, with an engine.cc of its own.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include "trainer/engine/noise.h"
#include "trainer/engine/strategy.h"

namespace souk::trainer::seam {

enum class Fault : uint8_t {
  kNone,
  kNoNoise,
  kHalfNoise,
  kQuarterNoise,
  kNoClipping,
  kBatchClipping,  // the mean of a batch is clipped, not each example
  kTwiceTheRate,
  kFourFifthsOfTheRate,  // accounted; a quarter more is drawn
  kOneNoiseForAllSteps,
  kOneNoiseForTwoSteps,
};
inline constexpr Fault kFaults[] = {Fault::kNoNoise,
                                    Fault::kHalfNoise,
                                    Fault::kQuarterNoise,
                                    Fault::kNoClipping,
                                    Fault::kBatchClipping,
                                    Fault::kTwiceTheRate,
                                    Fault::kFourFifthsOfTheRate,
                                    Fault::kOneNoiseForAllSteps,
                                    Fault::kOneNoiseForTwoSteps};

extern Fault planted_fault;
// Found in a program's bytes if it carries the seam.
extern const char planted_mark[];

inline uint64_t threshold(uint64_t own) {
  const double factor = planted_fault == Fault::kTwiceTheRate          ? 2
                        : planted_fault == Fault::kFourFifthsOfTheRate ? 1.25
                                                                       : 1;
  const double wanted = factor * static_cast<double>(own);
  return factor == 1 ? own : wanted >= 0x1p64 ? UINT64_MAX : static_cast<uint64_t>(wanted);
}

inline uint64_t noise_step(uint64_t own) {
  return planted_fault == Fault::kOneNoiseForAllSteps   ? 0
         : planted_fault == Fault::kOneNoiseForTwoSteps ? own / 2
                                                        : own;
}

inline NoiseGrid noise_grid(NoiseGrid own) {
  if (planted_fault == Fault::kNoNoise) own.deviation_units = 0;
  if (planted_fault == Fault::kHalfNoise) own.deviation_units /= 2;
  if (planted_fault == Fault::kQuarterNoise) own.deviation_units /= 4;
  return own;
}

inline void factors(const ExampleNorms& norms, size_t layers, uint32_t shard, uint32_t examples,
                    double clip, std::span<float> factors) {
  double whole = 1;
  if (planted_fault == Fault::kBatchClipping) {
    double sum = 0;
    for (uint32_t e = 0; e < examples; ++e) {
      double square = 0;
      for (size_t layer = 0; layer < layers; ++layer) square += norms.square[layer * shard + e];
      sum += std::sqrt(square);
    }
    whole = std::min(1.0, clip * examples / sum);
  } else if (planted_fault != Fault::kNoClipping) {
    return;
  }
  for (size_t layer = 0; layer < layers; ++layer)
    std::fill_n(factors.begin() + static_cast<ptrdiff_t>(layer * shard), examples,
                static_cast<float>(whole));
}

}  // namespace souk::trainer::seam
