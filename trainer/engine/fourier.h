// The discrete Fourier transform of sixteen images at once, one in each lane of a vector; lengths
// are products of 2, 3 and 5. Plain mixed radix (Stockham's order, Cooley and Tukey 1965) without
// fused multiply-adds: the same bits on every x86-64. For scattering.cc.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <vector>

namespace souk::trainer {

inline constexpr size_t kImageLanes = 16;
// One number of each of sixteen images. Passed by reference only: how a vector is passed by value
// depends on the instruction set.
typedef float ImageLanes [[gnu::vector_size(64)]];

// The smallest product of 2, 3 and 5 that is a multiple of `step` and at least `least`.
inline uint32_t smooth_size(uint32_t least, uint32_t step) {
  for (uint32_t size = (least + step - 1) / step * step;; size += step) {
    uint32_t rest = size;
    for (uint32_t prime : {2U, 3U, 5U}) {
      while (rest % prime == 0) rest /= prime;
    }
    if (rest == 1) return size;
  }
}

// Of one length: its radices and its roots of unity, rounded once from double.
struct FourierPlan {
  explicit FourierPlan(uint32_t length) : size(length) {
    uint32_t rest = length;
    for (uint32_t radix : {5U, 3U, 4U, 2U}) {
      for (; rest % radix == 0; rest /= radix) radices.push_back(radix);
    }
    for (uint32_t i = 0; i < length; ++i) {
      const double angle = -2 * std::numbers::pi * i / length;
      cosines.push_back(static_cast<float>(std::cos(angle)));
      sines.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  uint32_t size;
  std::vector<uint32_t> radices;
  std::vector<float> cosines, sines;  // of exp(-2 pi i k / size)
};

// Where a line of complex numbers lies: element i at re[i * stride], im[i * stride].
struct ComplexLine {
  ImageLanes* re;
  ImageLanes* im;
  size_t stride;
};

namespace fourier {

struct Pair {
  ImageLanes re, im;
};

// The transform of `a[0 .. radix)`, in place.
template <uint32_t radix>
[[gnu::always_inline]] inline void butterfly(Pair* a) {
  if constexpr (radix == 2) {
    const Pair b = a[1];
    a[1] = {a[0].re - b.re, a[0].im - b.im};
    a[0] = {a[0].re + b.re, a[0].im + b.im};
  } else if constexpr (radix == 3) {
    constexpr float kHalfRoot3 = 0.86602540378443864676F;
    const Pair sum{a[1].re + a[2].re, a[1].im + a[2].im};
    const Pair side{kHalfRoot3 * (a[1].re - a[2].re), kHalfRoot3 * (a[1].im - a[2].im)};
    const Pair middle{a[0].re - 0.5F * sum.re, a[0].im - 0.5F * sum.im};
    a[0] = {a[0].re + sum.re, a[0].im + sum.im};
    a[1] = {middle.re + side.im, middle.im - side.re};
    a[2] = {middle.re - side.im, middle.im + side.re};
  } else if constexpr (radix == 4) {
    const Pair even{a[0].re + a[2].re, a[0].im + a[2].im},
        even_apart{a[0].re - a[2].re, a[0].im - a[2].im};
    const Pair odd{a[1].re + a[3].re, a[1].im + a[3].im},
        odd_apart{a[1].re - a[3].re, a[1].im - a[3].im};
    a[0] = {even.re + odd.re, even.im + odd.im};
    a[1] = {even_apart.re + odd_apart.im, even_apart.im - odd_apart.re};
    a[2] = {even.re - odd.re, even.im - odd.im};
    a[3] = {even_apart.re - odd_apart.im, even_apart.im + odd_apart.re};
  } else {
    static_assert(radix == 5);
    constexpr float kC1 = 0.30901699437494742410F, kC2 = -0.80901699437494742410F;  // cos 72, 144
    constexpr float kS1 = 0.95105651629515357212F, kS2 = 0.58778525229247312917F;
    const Pair near{a[1].re + a[4].re, a[1].im + a[4].im},
        far{a[2].re + a[3].re, a[2].im + a[3].im};
    const Pair near_apart{a[1].re - a[4].re, a[1].im - a[4].im},
        far_apart{a[2].re - a[3].re, a[2].im - a[3].im};
    const Pair m1{a[0].re + kC1 * near.re + kC2 * far.re, a[0].im + kC1 * near.im + kC2 * far.im};
    const Pair m2{a[0].re + kC2 * near.re + kC1 * far.re, a[0].im + kC2 * near.im + kC1 * far.im};
    const Pair n1{kS1 * near_apart.re + kS2 * far_apart.re,
                  kS1 * near_apart.im + kS2 * far_apart.im};
    const Pair n2{kS2 * near_apart.re - kS1 * far_apart.re,
                  kS2 * near_apart.im - kS1 * far_apart.im};
    a[0] = {a[0].re + near.re + far.re, a[0].im + near.im + far.im};
    a[1] = {m1.re + n1.im, m1.im - n1.re};
    a[4] = {m1.re - n1.im, m1.im + n1.re};
    a[2] = {m2.re + n2.im, m2.im - n2.re};
    a[3] = {m2.re - n2.im, m2.im + n2.re};
  }
}

// One pass of Stockham's: `left` points are still to be split, `done` lines are interleaved.
template <uint32_t radix>
[[gnu::always_inline]] inline void pass(const FourierPlan& plan, uint32_t left, uint32_t done,
                                        const ComplexLine& from, const ComplexLine& to) {
  const uint32_t next = left / radix, turn = plan.size / left;
  for (uint32_t p = 0; p < next; ++p) {
    for (uint32_t q = 0; q < done; ++q) {
      Pair a[radix];
      for (uint32_t k = 0; k < radix; ++k) {
        const size_t i = (q + done * (p + next * k)) * from.stride;
        a[k] = {from.re[i], from.im[i]};
      }
      butterfly<radix>(a);
      for (uint32_t k = 0; k < radix; ++k) {
        const size_t i = (q + done * (radix * p + k)) * to.stride;
        if (k == 0 || p == 0) {
          to.re[i] = a[k].re;
          to.im[i] = a[k].im;
          continue;
        }
        const float c = plan.cosines[turn * p * k], s = plan.sines[turn * p * k];
        to.re[i] = a[k].re * c - a[k].im * s;
        to.im[i] = a[k].re * s + a[k].im * c;
      }
    }
  }
}

}  // namespace fourier

// Transforms `line` in place; `spare` and `other` hold plan.size numbers each. Not normalised. With
// re and im exchanged in `line` it is the inverse.
[[gnu::always_inline]] inline void transform(const FourierPlan& plan, const ComplexLine& line,
                                             const ComplexLine& spare, const ComplexLine& other) {
  uint32_t left = plan.size, done = 1;
  const ComplexLine* from = &line;
  for (size_t i = 0; i < plan.radices.size(); ++i) {
    const ComplexLine* to = i + 1 == plan.radices.size() ? &line : from == &spare ? &other : &spare;
    switch (plan.radices[i]) {
      case 2:
        fourier::pass<2>(plan, left, done, *from, *to);
        break;
      case 3:
        fourier::pass<3>(plan, left, done, *from, *to);
        break;
      case 4:
        fourier::pass<4>(plan, left, done, *from, *to);
        break;
      default:
        fourier::pass<5>(plan, left, done, *from, *to);
    }
    done *= plan.radices[i];
    left /= plan.radices[i];
    from = to;
  }
}

}  // namespace souk::trainer
