#include "trainer/engine/release.h"

#include <bit>
#include <cmath>

#include "ledger/base/result.h"
#include "trainer/engine/normal_runs.h"
#include "trainer/engine/simd.h"

namespace souk::trainer {
namespace {

// Adding it to |x| < 2^51 rounds x to an integer, to even, in the low bits of the result.
constexpr double kRounder = 0x1.8p52;
constexpr int kUnitBits = 30;

}  // namespace

FixedPoint::FixedPoint(const NoiseGrid& grid) : grid_(grid) {
  const int unit = std::ilogb(grid.clip) - kUnitBits;
  to_units_ = std::ldexp(1.0, -unit);
  shift_ = std::ilogb(grid.step) - unit;
  CHECK(shift_ >= 1 && shift_ <= 60);
}

void FixedPoint::add(std::span<const float> values, std::span<int64_t> sums) const {
  const float* from = values.data();
  int64_t* to = sums.data();
  const uint64_t count = values.size();
  const double to_units = to_units_;
  wide([=] {
    // Copies that no store below could change.
    const double own_units = to_units;
    int64_t* const out = to;
    for (uint64_t i = 0, n = count; i < n; ++i) {
      out[i] += std::bit_cast<int64_t>(static_cast<double>(from[i]) * own_units + kRounder) -
                std::bit_cast<int64_t>(kRounder);
    }
  });
}

void FixedPoint::release(ChaCha20& random, std::span<int64_t> sums, double share,
                         std::span<float> out, const Behind& behind) const {
  const double unit = std::ldexp(1.0, -shift_), deviation = grid_.deviation_units;
  const int shift = shift_;
  const int64_t mask = (int64_t{1} << shift) - 1;
  auto add_noise = [&](int64_t* sum, std::span<const double> normals, double scale, float* to) {
    const double* normal = normals.data();
    const size_t n = normals.size();
    wide([=] {
      // Copies that no store below could change.
      const double own_unit = unit, own_deviation = deviation, own_scale = scale;
      const int64_t below = mask, by = shift;
      for (size_t i = 0, end = n; i < end; ++i) {
        // whole + fraction, 0 <= fraction < 1; the whole steps stay out of the rounding.
        const int64_t whole = sum[i] >> by;
        const double fraction = static_cast<double>(sum[i] & below) * own_unit;
        const double noisy = (normal[i] * own_deviation + fraction + kRounder) - kRounder;
        to[i] = static_cast<float>((static_cast<double>(whole) + noisy) * own_scale);
        sum[i] = 0;
      }
    });
  };
  for_each_normal_run(
      random, sums.size(),
      [&](size_t first, std::span<const double> normals) {
        add_noise(sums.data() + first, normals, grid_.step * share, out.data() + first);
      },
      behind.sums.size(),
      [&](size_t first, std::span<const double> normals) {
        add_noise(behind.sums.data() + first, normals, grid_.step, behind.out.data() + first);
      });
}

}  // namespace souk::trainer
