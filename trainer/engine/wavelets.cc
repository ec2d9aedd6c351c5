#include "trainer/engine/wavelets.h"

#include <cmath>
#include <numbers>

#include "trainer/engine/fourier.h"

namespace souk::trainer {
namespace {

constexpr double kWidth = 0.8;  // deviation of the finest wavelet, and half that of the average
constexpr double kFrequency = 3 * std::numbers::pi / 4;  // of the finest wavelet
constexpr double kReach = 4;                             // deviations at which a Gaussian ends
constexpr int kWraps = 2;  // how often round the periodic grid a wavelet is followed

// exp(-x' C x / 2 + i frequency . x), `slant` times as long as wide across its direction, all round
// the periodic grid.
std::vector<std::complex<double>> gabor(uint32_t height, uint32_t width, double deviation,
                                        double angle, double frequency, double slant) {
  const double c = std::cos(angle), s = std::sin(angle);
  std::vector<std::complex<double>> values(size_t{height} * width);
  for (uint32_t y = 0; y < height; ++y) {
    for (uint32_t x = 0; x < width; ++x) {
      std::complex<double> sum = 0;
      for (int wy = -kWraps; wy <= kWraps; ++wy) {
        for (int wx = -kWraps; wx <= kWraps; ++wx) {
          const double dy = static_cast<double>(y) + static_cast<double>(wy) * height,
                       dx = static_cast<double>(x) + static_cast<double>(wx) * width;
          const double along = dy * c + dx * s, across = slant * (dx * c - dy * s);
          const double size =
              std::exp(-(along * along + across * across) / (2 * deviation * deviation));
          sum += std::polar(size, frequency * along);
        }
      }
      values[size_t{y} * width + x] = sum * slant / (2 * std::numbers::pi * deviation * deviation);
    }
  }
  return values;
}

}  // namespace

ScatteringGrid::ScatteringGrid(const Layer& layer)
    : scales(layer.node.scales), orientations(layer.node.orientations) {
  const uint32_t step = 1U << scales, margin = 3 * step / 2;
  height = smooth_size(layer.in.height + 2 * margin, step);
  width = smooth_size(layer.in.width + 2 * margin, step);
  top = (height - layer.in.height) / 2;
  left = (width - layer.in.width) / 2;
}

uint32_t reflected(int64_t at, uint32_t size) {
  if (size == 1) return 0;
  const int64_t period = 2 * (int64_t{size} - 1);
  const int64_t within = ((at % period) + period) % period;
  return static_cast<uint32_t>(within < size ? within : period - within);
}

std::vector<std::complex<double>> morlet(uint32_t height, uint32_t width, uint32_t octave,
                                         uint32_t direction, uint32_t directions) {
  const double scale = std::ldexp(1.0, static_cast<int>(octave));
  const double angle = std::numbers::pi * direction / directions, slant = 4.0 / directions;
  auto wave = gabor(height, width, kWidth * scale, angle, kFrequency / scale, slant);
  auto bump = gabor(height, width, kWidth * scale, angle, 0, slant);
  std::complex<double> of_wave = 0, of_bump = 0;
  for (size_t i = 0; i < wave.size(); ++i) {
    of_wave += wave[i];
    of_bump += bump[i];
  }
  for (size_t i = 0; i < wave.size(); ++i) wave[i] -= of_wave / of_bump * bump[i];
  return wave;
}

std::vector<std::vector<double>> averages(uint32_t outputs, uint32_t size, uint32_t octave,
                                          uint32_t before, uint32_t scales) {
  const double deviation = kWidth * std::ldexp(1.0, static_cast<int>(scales) - 1),
               step = std::ldexp(1.0, static_cast<int>(scales));
  std::vector<std::vector<double>> rows;
  for (uint32_t k = 0; k < outputs; ++k) {
    const double centre = before + step * k + (step - 1) / 2;
    std::vector<double> row(size);
    double sum = 0;
    for (uint32_t i = 0; i < size; ++i) {
      const double away =
          (std::ldexp(static_cast<double>(i), static_cast<int>(octave)) - centre) / deviation;
      if (std::abs(away) > kReach) continue;
      row[i] = std::exp(-away * away / 2);
      sum += row[i];
    }
    for (double& weight : row) weight /= sum;
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace souk::trainer
