#include "trainer/engine/wide_product.h"

#include <immintrin.h>

#include <algorithm>

#include "trainer/engine/simd.h"

#ifndef __clang__
// gcc 12 takes the undefined vectors of its own headers for a mistake (its bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace souk::trainer {
namespace {

constexpr uint64_t kLanes = 16;
constexpr uint64_t kPanel = 2 * kLanes;  // examples that lie side by side, number after number
constexpr uint64_t kTall = 14;           // most units whose sums are kept in registers, for a panel
// Along k oneDNN 2.6 adds up one fused multiply-add after another, from zero in each block.
constexpr uint64_t kBlock = 384;
// What is packed and summed at once: it stays in the second cache.
constexpr uint64_t kExamples = 128, kUnits = 256;
// Below these oneDNN has other ways, and packing weighs more. Rows of weights that are such a step
// apart drive each other out of the first cache.
constexpr uint64_t kFewestRows = 32, kFewest = 64, kBadStep = 512;

// Whether dnnl_sgemm copies its operands first (nocopy_checker_avx512, for one thread and this
// form): its blocks are then all of the same length. Without copies what is left is halved.
bool has_equal_blocks(uint64_t rows, uint64_t in, uint64_t out) {
  constexpr uint64_t kCopied = 256, kFew = 378, kFewestColumns = 28;
  constexpr double kCopyingWeighs = 0.00196;
  const bool bad_inputs = in % kCopied == 0;
  if (out > 100 && ((out < 1200 && rows < 200 && in < 1200) || bad_inputs)) return true;
  if (1.0 / static_cast<double>(out) + 1.0 / static_cast<double>(rows) >= kCopyingWeighs)
    return false;
  if (bad_inputs || out % kCopied == 0 || in >= kFew) return true;
  return std::min(rows, out) > kFewestColumns;
}

uint64_t block_length(uint64_t left, uint64_t all, bool equal) {
  if (all >= 2 * kBlock && equal) return std::min(left, kBlock);
  if (left >= 2 * kBlock) return kBlock;
  return left > kBlock ? (left + 1) / 2 : left;
}

// to[c * to_step + r] = from[r * from_step + c] for 16 rows and 16 columns.
[[gnu::target("avx512f"), gnu::always_inline]] inline void turn(const float* from,
                                                                uint64_t from_step, float* to,
                                                                uint64_t to_step) {
#pragma GCC unroll 4
  for (uint64_t part = 0; part < 4; ++part) {
    __m512 v[4];
    // Quarter q of v[r]: four columns of row r + 4 q.
#pragma GCC unroll 4
    for (uint64_t r = 0; r < 4; ++r) {
      const float* at = from + r * from_step + 4 * part;
      v[r] = _mm512_castps128_ps512(_mm_loadu_ps(at));
      v[r] = _mm512_insertf32x4(v[r], _mm_loadu_ps(at + 4 * from_step), 1);
      v[r] = _mm512_insertf32x4(v[r], _mm_loadu_ps(at + 8 * from_step), 2);
      v[r] = _mm512_insertf32x4(v[r], _mm_loadu_ps(at + 12 * from_step), 3);
    }
    const __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(v[0], v[1])),
                  high01 = _mm512_castps_pd(_mm512_unpackhi_ps(v[0], v[1])),
                  low23 = _mm512_castps_pd(_mm512_unpacklo_ps(v[2], v[3])),
                  high23 = _mm512_castps_pd(_mm512_unpackhi_ps(v[2], v[3]));
    float* out = to + 4 * part * to_step;
    _mm512_storeu_ps(out, _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23)));
    _mm512_storeu_ps(out + to_step, _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23)));
    _mm512_storeu_ps(out + 2 * to_step, _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23)));
    _mm512_storeu_ps(out + 3 * to_step, _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23)));
  }
}

// The same for any number of rows and columns.
[[gnu::target("avx512f")]] void turn_all(const float* from, uint64_t from_step, uint64_t rows,
                                         uint64_t columns, float* to, uint64_t to_step) {
  const uint64_t whole_rows = rows / kLanes * kLanes, whole_columns = columns / kLanes * kLanes;
  for (uint64_t c = 0; c < whole_columns; c += kLanes) {
    for (uint64_t r = 0; r < whole_rows; r += kLanes)
      turn(from + r * from_step + c, from_step, to + c * to_step + r, to_step);
  }
  for (uint64_t r = 0; r < rows; ++r) {
    for (uint64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c)
      to[c * to_step + r] = from[r * from_step + c];
  }
}

// Sums of kTiled units, rows of `weights`, for the first kVectors * 16 examples of a panel, over a
// block of k.
template <uint64_t kTiled, uint64_t kVectors>
[[gnu::target("avx512f")]] void tile(uint64_t k, const float* weights, uint64_t step,
                                     const float* panel, bool add, float* sums) {
  constexpr uint64_t kAhead = 8;  // the panel comes from the second cache
  // Four rows share a pointer: there are not enough registers for fourteen.
  constexpr uint64_t kShared = 4, kPointers = (kTiled + kShared - 1) / kShared;
  const float* at[kPointers];
  for (uint64_t p = 0; p < kPointers; ++p) at[p] = weights + p * kShared * step;
  __m512 own[kTiled][kVectors];
#pragma GCC unroll 16
  for (uint64_t u = 0; u < kTiled; ++u) {
#pragma GCC unroll 2
    for (uint64_t part = 0; part < kVectors; ++part) own[u][part] = _mm512_setzero_ps();
  }
#pragma GCC unroll 2
  for (uint64_t i = 0; i < k; ++i, panel += kPanel) {
    __m512 x[kVectors];
#pragma GCC unroll 2
    for (uint64_t part = 0; part < kVectors; ++part) {
      x[part] = _mm512_load_ps(panel + part * kLanes);
      __builtin_prefetch(panel + kAhead * kPanel + part * kLanes);
    }
#pragma GCC unroll 16
    for (uint64_t u = 0; u < kTiled; ++u) {
      const __m512 weight = _mm512_set1_ps(at[u / kShared][u % kShared * step]);
#pragma GCC unroll 2
      for (uint64_t part = 0; part < kVectors; ++part)
        own[u][part] = _mm512_fmadd_ps(weight, x[part], own[u][part]);
    }
#pragma GCC unroll 4
    for (uint64_t p = 0; p < kPointers; ++p) ++at[p];
  }
#pragma GCC unroll 16
  for (uint64_t u = 0; u < kTiled; ++u) {
#pragma GCC unroll 2
    for (uint64_t part = 0; part < kVectors; ++part) {
      float* to = sums + u * kPanel + part * kLanes;
      __m512 sum = own[u][part];
      if (add) sum = _mm512_add_ps(sum, _mm512_load_ps(to));
      _mm512_store_ps(to, sum);
    }
  }
}

using Tile = void (*)(uint64_t, const float*, uint64_t, const float*, bool, float*);
template <uint64_t kVectors>
Tile tile_of(uint64_t units) {
  constexpr Tile kTiles[] = {tile<11, kVectors>, tile<12, kVectors>, tile<13, kVectors>,
                             tile<14, kVectors>};
  return kTiles[units - 11];
}

// `all` in parts of the same size, or one more: part i begins here.
uint64_t begin_of(uint64_t i, uint64_t parts, uint64_t all) {
  return i * (all / parts) + std::min(i, all % parts);
}

[[gnu::target("avx512f")]] void add_to_units(const float* bias, uint64_t units, float* sums) {
  for (uint64_t u = 0; u < units; ++u, sums += kPanel) {
    const __m512 own = _mm512_set1_ps(bias[u]);
    _mm512_store_ps(sums, _mm512_add_ps(_mm512_load_ps(sums), own));
    _mm512_store_ps(sums + kLanes, _mm512_add_ps(_mm512_load_ps(sums + kLanes), own));
  }
}

}  // namespace

bool suits_wide_product(uint64_t rows, uint64_t in, uint64_t out) {
  return isa_of_this_cpu() == Isa::kAvx512 && rows >= kFewestRows && std::min(in, out) >= kFewest &&
         in % kBadStep != 0;
}

uint64_t room_of_wide_product() {
  return kExamples * (kBlock + kUnits);
}

void wide_product(uint64_t rows, uint64_t in, uint64_t out, const float* x, const float* weights,
                  const float* bias, float* y, float* room) {
  const bool equal = has_equal_blocks(rows, in, out);
  float* panels = room;
  float* sums = room + kExamples * kBlock;
  const uint64_t parts = (out + kUnits - 1) / kUnits;
  for (uint64_t row = 0; row < rows; row += kExamples) {
    const uint64_t examples = std::min(kExamples, rows - row),
                   count = (examples + kPanel - 1) / kPanel;
    auto width = [&](uint64_t panel) { return std::min(kPanel, examples - panel * kPanel); };
    for (uint64_t part = 0; part < parts; ++part) {
      const uint64_t unit = begin_of(part, parts, out),
                     units = begin_of(part + 1, parts, out) - unit,
                     tiles = (units + kTall - 1) / kTall;
      for (uint64_t first = 0, k = 0; first < in; first += k) {
        k = block_length(in - first, in, equal);
        for (uint64_t panel = 0; panel < count; ++panel) {
          turn_all(x + (row + panel * kPanel) * in + first, in, width(panel), k,
                   panels + panel * k * kPanel, kPanel);
        }
        for (uint64_t i = 0; i < tiles; ++i) {
          const uint64_t at = begin_of(i, tiles, units), tall = begin_of(i + 1, tiles, units) - at;
          for (uint64_t panel = 0; panel < count; ++panel) {
            const Tile own = width(panel) > kLanes ? tile_of<2>(tall) : tile_of<1>(tall);
            own(k, weights + (unit + at) * in + first, in, panels + panel * k * kPanel, first > 0,
                sums + (panel * units + at) * kPanel);
          }
        }
      }
      for (uint64_t panel = 0; panel < count; ++panel) {
        float* of_panel = sums + panel * units * kPanel;
        if (bias) add_to_units(bias + unit, units, of_panel);
        turn_all(of_panel, kPanel, units, width(panel), y + (row + panel * kPanel) * out + unit,
                 out);
      }
    }
  }
}

}  // namespace souk::trainer
