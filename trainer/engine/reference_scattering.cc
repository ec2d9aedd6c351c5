// The scattering transform as its definition reads: sums over pixels, no Fourier transform.
#include <cmath>
#include <complex>

#include "trainer/engine/reference_scattering.h"
#include "trainer/engine/wavelets.h"

namespace souk::trainer {
namespace {

using Values = std::vector<double>;

struct Image {
  uint32_t height, width, octave;
  Values values;
};

// |image * wavelet| at every 2^further-th pixel, round the periodic grid.
Image response(const Image& image, uint32_t further, uint32_t direction, uint32_t directions) {
  const auto wavelet = morlet(image.height, image.width, further, direction, directions);
  Image out{image.height >> further, image.width >> further, image.octave + further, {}};
  const uint32_t step = 1U << further;
  for (uint32_t y = 0; y < image.height; y += step) {
    for (uint32_t x = 0; x < image.width; x += step) {
      std::complex<double> sum = 0;
      for (uint32_t py = 0; py < image.height; ++py) {
        for (uint32_t px = 0; px < image.width; ++px) {
          const uint32_t wy = (y + image.height - py) % image.height,
                         wx = (x + image.width - px) % image.width;
          sum += image.values[py * image.width + px] * wavelet[wy * image.width + wx];
        }
      }
      out.values.push_back(std::abs(sum));
    }
  }
  return out;
}

}  // namespace

std::vector<double> reference_scattering(const Layer& layer, const std::vector<double>& example) {
  const ScatteringGrid grid(layer);
  Values y;
  auto keep = [&](const Image& image) {
    const auto down = averages(layer.out.height, image.height, image.octave, grid.top, grid.scales);
    const auto right = averages(layer.out.width, image.width, image.octave, grid.left, grid.scales);
    for (const auto& by_row : down) {
      for (const auto& by_column : right) {
        double sum = 0;
        for (uint32_t py = 0; py < image.height; ++py) {
          for (uint32_t px = 0; px < image.width; ++px)
            sum += by_row[py] * by_column[px] * image.values[py * image.width + px];
        }
        y.push_back(sum);
      }
    }
  };
  for (uint32_t c = 0; c < layer.in.channels; ++c) {
    Image image{grid.height, grid.width, 0, {}};
    for (uint32_t gy = 0; gy < grid.height; ++gy) {
      for (uint32_t gx = 0; gx < grid.width; ++gx) {
        const uint32_t row = reflected(int64_t{gy} - grid.top, layer.in.height),
                       column = reflected(int64_t{gx} - grid.left, layer.in.width);
        image.values.push_back(example[(c * layer.in.height + row) * layer.in.width + column]);
      }
    }
    keep(image);
    std::vector<Image> first;  // by octave, direction
    for (uint32_t j = 0; j < grid.scales; ++j) {
      for (uint32_t d = 0; d < grid.orientations; ++d)
        first.push_back(response(image, j, d, grid.orientations));
    }
    for (const Image& u : first) keep(u);
    for (uint32_t j = 0; j < grid.scales; ++j) {
      for (uint32_t k = j + 1; k < grid.scales; ++k) {
        for (uint32_t d = 0; d < grid.orientations; ++d) {
          for (uint32_t e = 0; e < grid.orientations; ++e)
            keep(response(first[j * grid.orientations + d], k - j, e, grid.orientations));
        }
      }
    }
  }
  return y;
}

}  // namespace souk::trainer
