#include "trainer/engine/normal_lanes.h"

#include <cstring>

#include "ledger/base/result.h"
#include "trainer/engine/simd.h"
#include "trainer/engine/wipe.h"

// Vectors are passed between inlined functions only.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace souk::trainer {
namespace {

using Words = uint32_t __attribute__((vector_size(64)));
// Twice as wide as the widest registers: of what has long to wait for itself, two go on in turn.
constexpr size_t kWidth = 16;
using Longs = uint64_t __attribute__((vector_size(8 * kWidth)));
using Reals = double __attribute__((vector_size(8 * kWidth)));

#define SOUK_INLINE [[gnu::always_inline]] inline
#define SOUK_INLINE_LAMBDA __attribute__((always_inline))

constexpr size_t kPairs = kPairsPerPiece;

// Sixteen blocks of ChaCha20 at once, in steps that other work can stand between. Where a register
// holds a word of all of them, so many have room for the state, and it is spread out anew for each
// sixteen; else it lies spread out in memory.
template <Lanes lanes>
class SixteenBlocks {
 public:
  SOUK_INLINE explicit SixteenBlocks(const uint32_t* state) : state_(state) {
    if constexpr (!kWide) {
      for (size_t i = 0; i < 16; ++i) {
        for (size_t block = 0; block < 16; ++block) start_[i][block] = state[i];
      }
    }
  }
  SOUK_INLINE void begin(uint32_t counter) {
    if constexpr (kWide) {
      counter_ = counter;
      for (size_t i = 0; i < 16; ++i) x_[i] = start(i);
    } else {
      for (uint32_t block = 0; block < 16; ++block) start_[12][block] = counter + block;
      for (size_t i = 0; i < 16; ++i) std::memcpy(&x_[i], start_[i], 64);
    }
  }
  // Two of the twenty rounds.
  SOUK_INLINE void rounds() {
#define SOUK_STEP(a, b, d, n) \
  x_[a] += x_[b];             \
  x_[d] ^= x_[a];             \
  x_[d] = (x_[d] << n) | (x_[d] >> (32 - n));
#define SOUK_QUARTER(a, b, c, d) \
  SOUK_STEP(a, b, d, 16) SOUK_STEP(c, d, b, 12) SOUK_STEP(a, b, d, 8) SOUK_STEP(c, d, b, 7)
    SOUK_QUARTER(0, 4, 8, 12)
    SOUK_QUARTER(1, 5, 9, 13)
    SOUK_QUARTER(2, 6, 10, 14)
    SOUK_QUARTER(3, 7, 11, 15)
    SOUK_QUARTER(0, 5, 10, 15)
    SOUK_QUARTER(1, 6, 11, 12)
    SOUK_QUARTER(2, 7, 8, 13)
    SOUK_QUARTER(3, 4, 9, 14)
#undef SOUK_QUARTER
#undef SOUK_STEP
  }
  // The key stream in the order word 0 of all blocks, word 1 of all, ...
  SOUK_INLINE void end(void* out) {
    for (size_t i = 0; i < 16; ++i) {
      x_[i] += start(i);
      std::memcpy(static_cast<uint32_t*>(out) + 16 * i, &x_[i], 64);
    }
  }
  void forget() {
    if constexpr (!kWide) wipe(start_, sizeof(start_));
    wipe(x_, sizeof(x_));
  }

 private:
  static constexpr bool kWide = lanes == Lanes::kAvx512;
  SOUK_INLINE Words start(size_t i) const {
    if constexpr (kWide) {
      constexpr Words kBlock = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
      return i == 12 ? kBlock + counter_ : Words{} + state_[i];
    } else {
      Words first;
      std::memcpy(&first, start_[i], 64);
      return first;
    }
  }

  const uint32_t* state_;
  uint32_t counter_ = 0;
  alignas(64) uint32_t start_[kWide ? 1 : 16][16];
  Words x_[16];
};

// An integer below 2^52 as a double, exactly: its bits under the exponent of 2^52.
SOUK_INLINE Reals exactly(const Longs& below_2_52) {
  return reinterpret_cast<Reals>(below_2_52 | 0x4330000000000000ULL) - 0x1p52;
}

// Uniform in (0, 1] from 128 bits: dense enough near zero for tails of 13 deviations.
SOUK_INLINE Reals uniform(const Longs& high, const Longs& low) {
  Reals top = exactly(high >> 12) * 0x1p-52;
  Reals middle = exactly(((high & 0xfff) << 40) | (low >> 24)) * 0x1p-104;
  Reals bottom = exactly(low & 0xffffff) * 0x1p-128 + 0x1p-129;
  return top + (middle + bottom);
}

// Natural logarithm of a positive normal number: exponent and an atanh series on
// [sqrt(1/2), sqrt(2)). Relative error below 4e-16 where it is not near zero. while_dividing() and
// between() stand where the series would wait.
template <class WhileDividing, class Between>
SOUK_INLINE Reals log_of(const Reals& x, const WhileDividing& while_dividing,
                         const Between& between) {
  auto bits = reinterpret_cast<Longs>(x);
  Longs fraction = bits & 0x000fffffffffffffULL;
  // 1 where the mantissa reaches sqrt(2): it is then halved.
  Longs upper = (fraction + (0x0010000000000000ULL - 0x0006a09e667f3bcdULL)) >> 52;
  Reals exponent = exactly((bits >> 52) + upper) - 1023.0;
  auto m = reinterpret_cast<Reals>(fraction | (0x3ff0000000000000ULL - (upper << 52)));
  Reals f = (m - 1.0) / (m + 1.0), s = f * f;
  while_dividing();
  Reals p = s * (1.0 / 21) + 1.0 / 19;
  p = p * s + 1.0 / 17;
  p = p * s + 1.0 / 15;
  p = p * s + 1.0 / 13;
  p = p * s + 1.0 / 11;
  between();
  p = p * s + 1.0 / 9;
  p = p * s + 1.0 / 7;
  p = p * s + 1.0 / 5;
  p = p * s + 1.0 / 3;
  return exponent * 0.69314718055994530942 + (2.0 * f + 2.0 * f * s * p);
}

// sine and cosine of 2 pi turn / 2^64, absolute error below 3e-16.
template <class Between>
SOUK_INLINE void sine_cosine(const Longs& turn, Reals& sine, Reals& cosine,
                             const Between& between) {
  Longs eighth = turn + (uint64_t{1} << 61);
  Longs quadrant = eighth >> 62, rest = eighth & 0x3fffffffffffffffULL;  // rest - 2^61 of it
  // Exact high and low halves, one rounding: within an eighth of a turn either way.
  Reals t = ((exactly(rest >> 32) - 0x1p29) * 0x1p32 + exactly(rest & 0xffffffff)) *
            (6.283185307179586476925 * 0x1p-64);
  Reals z = t * t;
  Reals s = z * (-1.0 / 1307674368000.0) + 1.0 / 6227020800.0;
  s = s * z - 1.0 / 39916800.0;
  s = s * z + 1.0 / 362880.0;
  s = s * z - 1.0 / 5040.0;
  between();
  s = s * z + 1.0 / 120.0;
  s = s * z - 1.0 / 6.0;
  s = t + t * z * s;
  Reals c = z * (1.0 / 20922789888000.0) - 1.0 / 87178291200.0;
  c = c * z + 1.0 / 479001600.0;
  c = c * z - 1.0 / 3628800.0;
  c = c * z + 1.0 / 40320.0;
  c = c * z - 1.0 / 720.0;
  c = c * z + 1.0 / 24.0;
  c = c * z - 0.5;
  c = z * c + 1.0;
  // Quadrant q turns (c, s) by q right angles: swap on odd q, then set the signs.
  auto bits_s = reinterpret_cast<Longs>(s), bits_c = reinterpret_cast<Longs>(c);
  Longs swap = (bits_s ^ bits_c) & (0 - (quadrant & 1));
  bits_s ^= swap ^ ((quadrant >> 1) << 63);
  bits_c ^= swap ^ (((quadrant + 1) >> 1) << 63);
  sine = reinterpret_cast<Reals>(bits_s);
  cosine = reinterpret_cast<Reals>(bits_c);
}

// IEEE square roots, lane by lane: compilers make the vector instruction of it.
SOUK_INLINE void square_roots(Reals& x) {
  for (size_t i = 0; i < kWidth; ++i) x[i] = __builtin_sqrt(x[i]);
}

// Pairs [i, i + kWidth) of a piece, from its words; between() is called four times, where its own
// work fills what these would wait.
template <class Between>
SOUK_INLINE void some_pairs(const uint64_t* words, size_t i, double* out, const Between& between) {
  Longs high, low, turn;
  std::memcpy(&high, words + i, sizeof(high));
  std::memcpy(&low, words + kPairs + i, sizeof(low));
  std::memcpy(&turn, words + 2 * kPairs + i, sizeof(turn));
  Reals sine, cosine;
  auto angles = [&]() SOUK_INLINE_LAMBDA {
    between();
    sine_cosine(turn, sine, cosine, between);
  };
  Reals square = -2.0 * log_of(uniform(high, low), angles, between);
  square_roots(square);
  between();
  sine *= square;
  cosine *= square;
  std::memcpy(out + i, &cosine, sizeof(cosine));
  std::memcpy(out + kPairs + i, &sine, sizeof(sine));
}

// While a piece is made of its words, the words of the next one are: integers here, fractions
// there, so that neither waits for the other.
template <Lanes lanes>
SOUK_INLINE void all_pieces(const uint32_t* state, uint64_t counter, double* out, size_t pieces,
                            size_t pairs) {
  constexpr size_t kBatches = kBlocksPerPiece / 16, kGroups = kPairs / kWidth, kBeside = 2;
  static_assert(kBatches * kBeside <= kGroups);
  alignas(64) uint64_t words[2][3 * kPairs];
  SixteenBlocks<lanes> blocks(state);
  for (size_t b = 0; b < kBatches; ++b) {
    const auto at = static_cast<uint32_t>(counter + 16 * b);
    blocks.begin(at);
    for (size_t i = 0; i < 10; ++i) blocks.rounds();
    blocks.end(words[0] + 128 * b);
  }
  auto alone = []() SOUK_INLINE_LAMBDA {};
  for (size_t piece = 0; piece + 1 < pieces; ++piece, out += kNormalsPerPiece) {
    const uint64_t* own = words[piece % 2];
    size_t group = 0;
    for (size_t b = 0; b < kBatches; ++b) {
      const auto at = static_cast<uint32_t>(counter + kBlocksPerPiece * (piece + 1) + 16 * b);
      blocks.begin(at);
      // Ten times two rounds: four and one beside each group.
      for (size_t i = 0; i < kBeside; ++i) {
        some_pairs(own, kWidth * group++, out, [&]() SOUK_INLINE_LAMBDA { blocks.rounds(); });
        blocks.rounds();
      }
      blocks.end(words[1 - piece % 2] + 128 * b);
    }
    for (; group < kGroups; ++group) some_pairs(own, kWidth * group, out, alone);
  }
  const size_t groups = (pairs + kWidth - 1) / kWidth;
  for (size_t group = 0; pieces > 0 && group < groups; ++group)
    some_pairs(words[(pieces - 1) % 2], kWidth * group, out, alone);
  wipe(words, pieces > 1 ? sizeof(words) : sizeof(words[0]));
  blocks.forget();
}

[[gnu::target("avx512f,avx512dq,avx512bw,avx512vl"), gnu::noinline]] void on_avx512(
    const uint32_t* state, uint64_t counter, double* out, size_t pieces, size_t pairs) {
  all_pieces<Lanes::kAvx512>(state, counter, out, pieces, pairs);
}
[[gnu::target("avx2"), gnu::noinline]] void on_avx2(const uint32_t* state, uint64_t counter,
                                                    double* out, size_t pieces, size_t pairs) {
  all_pieces<Lanes::kAvx2>(state, counter, out, pieces, pairs);
}

}  // namespace

Lanes lanes_of_this_cpu() {
  switch (isa_of_this_cpu()) {
    case Isa::kAvx512:
      return Lanes::kAvx512;
    case Isa::kAvx2:
      return Lanes::kAvx2;
    case Isa::kBaseline:
      break;
  }
  return Lanes::kPlain;
}

void normal_pieces(std::span<const uint32_t, 16> key_and_nonce, uint64_t counter,
                   std::span<double> out, Lanes lanes, size_t pairs) {
  CHECK(pairs <= kPairs && out.size() % kNormalsPerPiece == 0);
  const size_t pieces = out.size() / kNormalsPerPiece;
  CHECK(counter + kBlocksPerPiece * pieces <= (uint64_t{1} << 32));
  switch (lanes) {
    case Lanes::kAvx512:
      return on_avx512(key_and_nonce.data(), counter, out.data(), pieces, pairs);
    case Lanes::kAvx2:
      return on_avx2(key_and_nonce.data(), counter, out.data(), pieces, pairs);
    case Lanes::kPlain:
      return all_pieces<Lanes::kPlain>(key_and_nonce.data(), counter, out.data(), pieces, pairs);
  }
}

}  // namespace souk::trainer
