// Narrow products, judged by the library whose place they take: bit for bit, over all that decides
// how it adds up.
#include "trainer/engine/narrow_product.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "trainer/engine/engine.h"
#include "trainer/engine/gemm.h"
#include "trainer/engine/network_state.h"
#include "trainer/engine/simd.h"

namespace souk::trainer {
namespace {

struct Shape {
  char op_a, op_b;
  uint64_t m, n, k;
};

// The three products of a linear layer, and that of a ghost norm.
std::vector<Shape> products_of(uint64_t rows, uint64_t in, uint64_t out) {
  return {{'N', 'T', rows, out, in},
          {'N', 'N', rows, in, out},
          {'T', 'N', out, in, rows},
          {'N', 'T', rows, rows, out}};
}

enum class Outcome : uint8_t { kLeft, kSame, kOther };

// Normals to take pieces of: making them anew for every product would be most of the test's time.
const std::vector<float>& normals() {
  static const std::vector<float> all = [] {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::vector<float> out(1 << 21);
    for (float& x : out) x = normal(random);
    return out;
  }();
  return all;
}

Outcome compare(const Shape& s, kernels::Onto onto, std::mt19937& random) {
  // A piece ends where its memory ends, so that a read past it is seen.
  auto numbers = [&](uint64_t count) {
    const auto begin =
        normals().begin() + static_cast<int64_t>(random() % (normals().size() - count));
    return std::vector<float>(begin, begin + static_cast<int64_t>(count));
  };
  const auto a = numbers(s.m * s.k), b = numbers(s.k * s.n);
  // A row of C is followed by numbers that are not its own.
  const uint64_t ldc = s.n + 3, lda = s.op_a == 'N' ? s.k : s.m, ldb = s.op_b == 'N' ? s.n : s.k;
  auto c = numbers(s.m * ldc), wanted = c;
  if (!narrow_product(s.op_a, s.op_b, s.m, s.n, s.k, a.data(), lda, b.data(), ldb, onto, c.data(),
                      ldc)) {
    return c == wanted ? Outcome::kLeft : Outcome::kOther;
  }
  library_gemm(s.op_a, s.op_b, s.m, s.n, s.k, a.data(), lda, b.data(), ldb, onto, wanted.data(),
               ldc);
  const bool same = std::memcmp(c.data(), wanted.data(), c.size() * sizeof(float)) == 0;
  return same ? Outcome::kSame : Outcome::kOther;
}

TEST(NarrowProduct, IsTheLibrarysToTheBit) {
  configure_libraries();
  stay_on_this_thread();
  std::mt19937 random(7);
  uint64_t taken = 0;
  for (const uint64_t rows :
       std::initializer_list<uint64_t>{1, 2, 7, 15, 16, 17, 64, 100, 101, 385, 510, 511, 769}) {
    for (const uint64_t in :
         std::initializer_list<uint64_t>{1, 2, 16, 33, 84, 384, 385, 767, 768, 769, 1024, 1152}) {
      for (const uint64_t out : std::initializer_list<uint64_t>{1, 2, 5, 10, 16, 17, 61, 62}) {
        for (const Shape& s : products_of(rows, in, out)) {
          for (auto onto : {kernels::Onto::kWrite, kernels::Onto::kAdd}) {
            const Outcome outcome = compare(s, onto, random);
            EXPECT_NE(outcome, Outcome::kOther)
                << s.op_a << s.op_b << " " << s.m << " x " << s.n << " of " << s.k;
            if (outcome == Outcome::kSame) ++taken;
          }
        }
      }
    }
  }
  if (isa_of_this_cpu() == Isa::kAvx512) {
    EXPECT_GT(taken, 2000u);
  } else {
    EXPECT_EQ(taken, 0u);
  }
}

}  // namespace
}  // namespace souk::trainer
