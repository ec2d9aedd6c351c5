// The scattering transform of an image: averages of moduli of fixed wavelet responses, two deep.
// No parameter and no dependence on any data: what one example becomes says nothing of another.
// Definition: trainer/SPEC.md, Scattering. Judged by reference_scattering.cc. Same bits on every
// CPU.
#pragma once

#include <cstddef>
#include <vector>

#include "trainer/engine/fourier.h"
#include "trainer/engine/graph.h"
#include "trainer/engine/simd.h"
#include "trainer/engine/wavelets.h"

namespace souk::trainer {

class Scattering {
 public:
  explicit Scattering(const Layer& layer);

  // Numbers that forward() works in.
  size_t scratch_floats() const;
  // x: rows x pixels x channels; y: rows x places x channels out, which are, for each channel of
  // the image: its average; first order, by octave and direction; second order, by first octave,
  // second octave, first direction, second direction. `scratch` is aligned to 64 bytes.
  void forward(size_t rows, const float* x, float* y, float* scratch,
               Isa isa = isa_of_this_cpu()) const;

 private:
  // Of images whose pixels are 2^octave apart.
  struct Level {
    uint32_t height, width;
    FourierPlan rows, columns;  // along a column, along a row
    std::vector<std::vector<float>>
        wavelets;  // spectra, which are real; by octave from here, direction
    struct Average {
      uint32_t first;  // the first pixel that counts
      std::vector<float> weights;
    };
    std::vector<Average> down, right;  // of each output row and column
  };
  struct Plane {
    ImageLanes* re;
    ImageLanes* im;
  };
  struct Desk;  // the parts of scratch

  const std::vector<float>& wavelet(uint32_t level, uint32_t octave, uint32_t direction) const {
    return levels_[level].wavelets[octave * grid_.orientations + direction];
  }
  void transform_plane(const Level& level, const Plane& plane, const Desk& desk) const;
  void respond(const Level& from, const std::vector<float>& spectrum, const Plane& image,
               const Level& to, const Plane& out, const Desk& desk) const;
  void modulus(const Level& level, const Plane& plane, const Desk& desk) const;
  void average(const Level& level, const ImageLanes* image, const Desk& desk, uint32_t channel,
               size_t rows, float* y) const;
  void sixteen(size_t rows, const float* x, uint32_t channel, float* y, const Desk& desk) const;
  Desk desk_on(float* scratch) const;

  Layer layer_;
  ScatteringGrid grid_;
  std::vector<Level> levels_;  // by octave
};

}  // namespace souk::trainer
