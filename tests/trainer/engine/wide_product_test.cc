// Wide products, judged by the library whose place they take: bit for bit, over all that decides
// how it adds up.
#include "trainer/engine/wide_product.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "trainer/engine/gemm.h"
#include "trainer/engine/network_state.h"
#include "trainer/engine/simd.h"

namespace souk::trainer {
namespace {

using kernels::Onto;

Floats normals(uint64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Floats out(count);
  for (uint64_t i = 0; i < count; ++i) out.data()[i] = normal(random);
  return out;
}

TEST(WideProduct, IsTheLibrarysToTheBit) {
  if (isa_of_this_cpu() != Isa::kAvx512) {
    EXPECT_FALSE(suits_wide_product(128, 784, 256));
    GTEST_SKIP() << "expected a CPU with AVX-512";
  }
  configure_libraries();
  stay_on_this_thread();
  constexpr uint64_t kMostRows = 600, kMostIn = 1792, kMostOut = 1300;
  const Floats x = normals(kMostRows * kMostIn, 1), weights = normals(kMostOut * kMostIn, 2),
               bias = normals(kMostOut, 3);
  Floats y(kMostRows * kMostOut), wanted(kMostRows * kMostOut), room(room_of_wide_product());
#ifdef SOUK_SANITIZED  // Every height of a tile, fewer sizes.
  const std::vector<uint64_t> all_rows{32, 33, 129, 200}, all_in{64, 65, 385, 784, 1200},
      all_out{64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 256, 300};
#else
  const std::vector<uint64_t> all_rows{32, 33, 47, 64, 128, 129, 199, 200, 257, 511, 600},
      all_in{64, 65, 100, 384, 385, 500, 767, 768, 784, 900, 1199, 1200, 1280, 1792},
      all_out{64, 67, 100, 101, 128, 256, 300, 512, 1199, 1300};
#endif
  for (const uint64_t rows : all_rows) {
    for (const uint64_t in : all_in) {
      for (const uint64_t out : all_out) {
        ASSERT_TRUE(suits_wide_product(rows, in, out));
        for (bool biased : {false, true}) {
          if (biased && in != 784) continue;
          const float* added = biased ? bias.data() : nullptr;
          wide_product(rows, in, out, x.data(), weights.data(), added, y.data(), room.data());
          library_gemm('N', 'T', rows, out, in, x.data(), in, weights.data(), in, Onto::kWrite,
                       wanted.data(), out);
          if (biased) kernels::add_bias(added, out, rows, wanted.data());
          ASSERT_EQ(std::memcmp(y.data(), wanted.data(), rows * out * sizeof(float)), 0)
              << rows << " x " << out << " of " << in;
        }
      }
    }
  }
  EXPECT_FALSE(suits_wide_product(31, 784, 256));
  EXPECT_FALSE(suits_wide_product(128, 63, 256));
  EXPECT_FALSE(suits_wide_product(128, 784, 63));
  EXPECT_FALSE(suits_wide_product(128, 1024, 256));
}

// What a second shard of one worker counts on.
TEST(Gemm, AddsASumAsAWholeWhereItSaysSo) {
  configure_libraries();
  stay_on_this_thread();
  uint64_t whole = 0;
  for (const uint64_t k :
       std::initializer_list<uint64_t>{1, 2, 16, 17, 100, 128, 300, 384, 385, 800}) {
    for (const uint64_t m : std::initializer_list<uint64_t>{1, 2, 10, 16, 17, 128, 256, 600}) {
      for (const uint64_t n : std::initializer_list<uint64_t>{1, 2, 3, 16, 48, 100, 256, 784}) {
        if (!adds_as_a_whole(m, n, k)) continue;
        ++whole;
        const Floats a = normals(m * k, 1), b = normals(n * k, 2), before = normals(m * n, 3);
        Floats sum(m * n), added(m * n);
        std::memcpy(added.data(), before.data(), m * n * sizeof(float));
        gemm('T', 'N', m, n, k, a.data(), m, b.data(), n, Onto::kWrite, sum.data(), n);
        gemm('T', 'N', m, n, k, a.data(), m, b.data(), n, Onto::kAdd, added.data(), n);
        kernels::add(before.data(), sum.data(), sum.data(), m * n);
        ASSERT_EQ(std::memcmp(sum.data(), added.data(), m * n * sizeof(float)), 0)
            << m << " x " << n << " of " << k;
      }
    }
  }
  EXPECT_EQ(whole, isa_of_this_cpu() == Isa::kAvx512 ? 8u * 7 * 7 : 0u);
}

}  // namespace
}  // namespace souk::trainer
