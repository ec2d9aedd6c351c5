#include "trainer/engine/noise.h"

#include <algorithm>
#include <cmath>

#include "ledger/base/result.h"
#include "trainer/engine/normal_runs.h"

namespace souk::trainer {

std::optional<NoiseGrid> NoiseGrid::make(double sigma, double clip, double draws) {
  CHECK(sigma > 0 && clip > 0);
  int bits = 16;
  if (draws > 1.2e8) bits = 12;
  if (!(draws <= 3e10)) return std::nullopt;
  NoiseGrid grid;
  grid.step = std::ldexp(1.0, std::ilogb(sigma * clip) - bits);
  grid.clip = clip;
  CHECK(clip / grid.step < 0x1p30);
  grid.deviation_units = std::nextafter(sigma * clip, HUGE_VAL) / grid.step;
  return grid;
}

void standard_normals(ChaCha20& random, std::span<double> out) {
  for_each_normal_run(random, out.size(), [&](size_t first, std::span<const double> normals) {
    std::copy(normals.begin(), normals.end(), out.begin() + static_cast<ptrdiff_t>(first));
  });
}

}  // namespace souk::trainer
