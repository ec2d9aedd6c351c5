// One source, the widest vectors the CPU has. wide(f) runs f compiled for AVX-512, AVX2 or plain
// x86-64, chosen once at run time. Without fused multiply-adds (-ffp-contract=off) and with sums
// kept in lanes of a fixed number, all three give the same bits.
#pragma once

#include <cstdint>

namespace souk::trainer {

enum class Isa : uint8_t { kBaseline, kAvx2, kAvx512 };

// For benchmarks: the most that is used, if set before first use.
inline Isa& isa_limit() {
  static Isa limit = Isa::kAvx512;
  return limit;
}

inline Isa isa_of_this_cpu() {
  static const Isa isa = [] {
    if (isa_limit() == Isa::kAvx512 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl")) {
      return Isa::kAvx512;
    }
    return __builtin_cpu_supports("avx2") ? Isa::kAvx2 : Isa::kBaseline;
  }();
  return isa;
}

namespace simd {

#ifdef __clang__
#define SOUK_TARGET_AVX512 "avx512f,avx512dq,avx512bw,avx512vl"
#else
#define SOUK_TARGET_AVX512 "avx512f,avx512dq,avx512bw,avx512vl,prefer-vector-width=512"
#endif
template <class Function>
[[gnu::target(SOUK_TARGET_AVX512), gnu::flatten, gnu::noinline]] void on_avx512(const Function& f) {
  f();
}
#undef SOUK_TARGET_AVX512
template <class Function>
[[gnu::target("avx2"), gnu::flatten, gnu::noinline]] void on_avx2(const Function& f) {
  f();
}

}  // namespace simd

// `f` takes nothing and gives nothing; what it calls should be visible to the compiler.
template <class Function>
void wide_on(Isa isa, const Function& f) {
  switch (isa) {
    case Isa::kAvx512:
      return simd::on_avx512(f);
    case Isa::kAvx2:
      return simd::on_avx2(f);
    case Isa::kBaseline:
      return f();
  }
}

template <class Function>
void wide(const Function& f) {
  wide_on(isa_of_this_cpu(), f);
}

// The sum of values(i) for i < count, in 16 lanes that are added at the end.
template <class Real, class Values>
[[gnu::always_inline]] inline Real lane_sum(uint64_t count, const Values& values) {
  constexpr uint64_t kLanes = 16;
  Real lanes[kLanes] = {};
  uint64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (uint64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += values(i + lane);
  }
  for (uint64_t lane = 0; i < count; ++i, ++lane) lanes[lane] += values(i);
  for (uint64_t half = kLanes / 2; half > 0; half /= 2) {
    for (uint64_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

}  // namespace souk::trainer
