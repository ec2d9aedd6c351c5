// What a scattering layer is made of, in double: Morlet wavelets on a periodic grid, where the
// averages stand, and how an image is continued past its edge. Shared by the fast kernel and its
// reference. Source: Bruna and Mallat, "Invariant scattering convolution networks" (2013);
// constants as in Kymatio (Andreux et al. 2020). trainer/SPEC.md, Scattering.
#pragma once

#include <complex>
#include <cstdint>
#include <vector>

#include "trainer/engine/graph.h"

namespace souk::trainer {

// The image inside a periodic one that is large enough for the widest wavelet.
struct ScatteringGrid {
  explicit ScatteringGrid(const Layer& layer);
  uint32_t scales, orientations;
  uint32_t height, width;           // of the periodic image; multiples of 2^scales, 2-3-5-smooth
  uint32_t top, left;               // where the image begins in it
  uint32_t channels_each() const {  // that one channel of the image becomes
    return 1 + scales * orientations + orientations * orientations * scales * (scales - 1) / 2;
  }
};

// Pixel `at` of a side of `size` pixels, continued by reflection without repeating the edge.
uint32_t reflected(int64_t at, uint32_t size);

// The Morlet wavelet of this octave and direction (of `directions`), height x width, around the
// origin of a periodic grid; its numbers add up to zero.
std::vector<std::complex<double>> morlet(uint32_t height, uint32_t width, uint32_t octave,
                                         uint32_t direction, uint32_t directions);

// The Gaussian averages of one side: row k has the weights, which add up to one, of `size` pixels
// 2^octave apart for the k-th output. `before`: pixels in front of the image.
std::vector<std::vector<double>> averages(uint32_t outputs, uint32_t size, uint32_t octave,
                                          uint32_t before, uint32_t scales);

}  // namespace souk::trainer
