#include "trainer/engine/narrow_product.h"

#include <immintrin.h>

#include <algorithm>

#include "trainer/engine/simd.h"

namespace souk::trainer {
namespace {

constexpr uint64_t kLanes = 16;
constexpr uint64_t kTall = 8;  // rows of C that are kept in registers, by one vector or two
// How oneDNN 2.6 adds up where it does not copy its operands first (sgemm_nocopy_driver): along k
// one fused multiply-add after another, from zero in each block.
constexpr uint64_t kBlock = 384;
// What it takes for that to be its way (nocopy_checker_avx512, jump_to_gemm_smalln_tn), in each of
// three forms: N N, T N, N T.
constexpr uint64_t kFewest = 2, kMostRows = 510, kFarApart = 1024, kFewestRows = 16,
                   kMostColumns = 100;
// And what is narrow: numbers that are added up, or rows of C; numbers of B, turned round.
constexpr uint64_t kNarrow = 16, kTurned = kBlock * kLanes;

// One block of k. Element (row, i) of A is at a[row * row_step + i * k_step].
struct Block {
  uint64_t k;
  const float* a;
  uint64_t row_step, k_step;
  const float* b;
  uint64_t ldb;
  bool add;
  float* c;
  uint64_t ldc;
};

template <uint64_t kRows, uint64_t kVectors>
[[gnu::target("avx512f")]] void tile(const Block& of, uint64_t row, uint64_t column,
                                     const __mmask16* masks) {
  __m512 sums[kRows][kVectors];
#pragma GCC unroll 16
  for (uint64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (uint64_t part = 0; part < kVectors; ++part) sums[r][part] = _mm512_setzero_ps();
  }
  const float* a = of.a + row * of.row_step;
  const float* b = of.b + column;
  for (uint64_t i = 0; i < of.k; ++i, a += of.k_step, b += of.ldb) {
    __m512 v[kVectors];
#pragma GCC unroll 16
    for (uint64_t part = 0; part < kVectors; ++part)
      v[part] = _mm512_maskz_loadu_ps(masks[part], b + part * kLanes);
#pragma GCC unroll 16
    for (uint64_t r = 0; r < kRows; ++r) {
      const __m512 factor = _mm512_set1_ps(a[r * of.row_step]);
#pragma GCC unroll 16
      for (uint64_t part = 0; part < kVectors; ++part)
        sums[r][part] = _mm512_fmadd_ps(factor, v[part], sums[r][part]);
    }
  }
#pragma GCC unroll 16
  for (uint64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (uint64_t part = 0; part < kVectors; ++part) {
      float* to = of.c + (row + r) * of.ldc + column + part * kLanes;
      __m512 sum = sums[r][part];
      if (of.add) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(masks[part], to));
      _mm512_mask_storeu_ps(to, masks[part], sum);
    }
  }
}

// m x n of C.
template <uint64_t kVectors>
[[gnu::target("avx512f")]] void add_block(const Block& of, uint64_t m, uint64_t n) {
  for (uint64_t column = 0; column < n; column += kVectors * kLanes) {
    __mmask16 masks[kVectors];
    for (uint64_t part = 0; part < kVectors; ++part) {
      const uint64_t from = std::min(n, column + part * kLanes), here = std::min(kLanes, n - from);
      masks[part] = static_cast<__mmask16>((uint32_t{1} << here) - 1);
    }
    uint64_t row = 0;
    for (; row + kTall <= m; row += kTall) tile<kTall, kVectors>(of, row, column, masks);
    for (; row + 2 <= m; row += 2) tile<2, kVectors>(of, row, column, masks);
    if (row < m) tile<1, kVectors>(of, row, column, masks);
  }
}

// Whether dnnl_sgemm would add up in the way above, and the operands are small.
bool suits(char op_a, char op_b, uint64_t m, uint64_t n, uint64_t k, uint64_t ldb) {
  if (isa_of_this_cpu() != Isa::kAvx512 || std::min({m, n, k}) < kFewest) return false;
  if (op_a == 'N' && op_b == 'N') return k <= kNarrow && m <= kMostRows;
  if (op_a == 'T' && op_b == 'N') return m <= kNarrow && ldb % kFarApart != 0;
  return op_a == 'N' && m >= kFewestRows && n <= kMostColumns && std::min(k, kBlock) * n <= kTurned;
}

}  // namespace

bool narrow_product(char op_a, char op_b, uint64_t m, uint64_t n, uint64_t k, const float* a,
                    uint64_t lda, const float* b, uint64_t ldb, kernels::Onto onto, float* c,
                    uint64_t ldc) {
  if (!suits(op_a, op_b, m, n, k, ldb)) return false;
  alignas(64) float turned[kTurned];
  bool add = onto == kernels::Onto::kAdd;
  for (uint64_t first = 0, here = 0; first < k; first += here, add = true) {
    here = k - first;
    if (here >= 2 * kBlock) {
      here = kBlock;
    } else if (here > kBlock) {
      here = (here + 1) / 2;
    }
    const float* own = turned;
    uint64_t step = n;
    if (op_b == 'T') {
      for (uint64_t unit = 0; unit < n; ++unit) {
        for (uint64_t i = 0; i < here; ++i) turned[i * n + unit] = b[unit * ldb + first + i];
      }
    } else {
      own = b + first * ldb;
      step = ldb;
    }
    const bool along = op_a == 'N';
    const Block block{.k = here,
                      .a = a + first * (along ? 1 : lda),
                      .row_step = along ? lda : 1,
                      .k_step = along ? 1 : lda,
                      .b = own,
                      .ldb = step,
                      .add = add,
                      .c = c,
                      .ldc = ldc};
    n <= kLanes ? add_block<1>(block, m, n) : add_block<2>(block, m, n);
  }
  return true;
}

}  // namespace souk::trainer
