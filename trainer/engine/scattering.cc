#include "trainer/engine/scattering.h"

#include <algorithm>
#include <cmath>

#include "trainer/engine/simd.h"

namespace souk::trainer {

// Six planes of the whole grid, what a line's transform needs, and rows on their way to averages.
struct Scattering::Desk {
  Plane image, first, work;
  ComplexLine spare, other;
  ImageLanes* averaged;
  Isa isa;
};

namespace {

using Spectrum = std::vector<std::complex<double>>;

// The two-dimensional transform of a wavelet, times `factor`. Its imaginary part is zero: the
// wavelet at -x is its conjugate.
std::vector<float> spectrum_of(const Spectrum& wavelet, uint32_t height, uint32_t width,
                               double factor) {
  auto roots = [](uint32_t size) {
    Spectrum out;
    for (uint32_t i = 0; i < size; ++i)
      out.push_back(std::polar(1.0, -2 * std::numbers::pi * i / size));
    return out;
  };
  const Spectrum by_row = roots(width), by_column = roots(height);
  Spectrum half(wavelet.size());
  std::vector<float> out(wavelet.size());
  for (uint32_t y = 0; y < height; ++y) {
    for (uint32_t k = 0; k < width; ++k) {
      std::complex<double> sum = 0;
      for (uint32_t x = 0; x < width; ++x)
        sum += wavelet[size_t{y} * width + x] * by_row[size_t{k} * x % width];
      half[size_t{y} * width + k] = sum;
    }
  }
  for (uint32_t k = 0; k < height; ++k) {
    for (uint32_t x = 0; x < width; ++x) {
      std::complex<double> sum = 0;
      for (uint32_t y = 0; y < height; ++y)
        sum += half[size_t{y} * width + x] * by_column[size_t{k} * y % height];
      out[size_t{k} * width + x] = static_cast<float>(sum.real() * factor);
    }
  }
  return out;
}

}  // namespace

Scattering::Scattering(const Layer& layer) : layer_(layer), grid_(layer) {
  for (uint32_t octave = 0; octave < grid_.scales; ++octave) {
    Level level{grid_.height >> octave,
                grid_.width >> octave,
                FourierPlan(grid_.height >> octave),
                FourierPlan(grid_.width >> octave),
                {},
                {},
                {}};
    const double inverse = 1.0 / (static_cast<double>(level.height) * level.width);
    for (uint32_t further = 0; further + octave < grid_.scales; ++further) {
      for (uint32_t direction = 0; direction < grid_.orientations; ++direction) {
        level.wavelets.push_back(
            spectrum_of(morlet(level.height, level.width, further, direction, grid_.orientations),
                        level.height, level.width, inverse));
      }
    }
    auto keep = [&](const std::vector<std::vector<double>>& rows) {
      std::vector<Level::Average> out;
      for (const auto& row : rows) {
        auto begin = std::find_if(row.begin(), row.end(), [](double w) { return w > 0; });
        auto end = std::find_if(begin, row.end(), [](double w) { return w == 0; });
        out.push_back({static_cast<uint32_t>(begin - row.begin()), {begin, end}});
      }
      return out;
    };
    level.down = keep(averages(layer.out.height, level.height, octave, grid_.top, grid_.scales));
    level.right = keep(averages(layer.out.width, level.width, octave, grid_.left, grid_.scales));
    levels_.push_back(std::move(level));
  }
}

size_t Scattering::scratch_floats() const {
  const size_t plane = size_t{grid_.height} * grid_.width,
               line = std::max(grid_.height, grid_.width);
  return (6 * plane + 4 * line + size_t{layer_.out.height} * grid_.width) * kImageLanes;
}

Scattering::Desk Scattering::desk_on(float* scratch) const {
  const size_t plane = size_t{grid_.height} * grid_.width,
               line = std::max(grid_.height, grid_.width);
  auto* next = reinterpret_cast<ImageLanes*>(scratch);
  auto take = [&next](size_t count) {
    ImageLanes* here = next;
    next += count;
    return here;
  };
  Desk desk{};
  for (Plane* p : {&desk.image, &desk.first, &desk.work}) *p = {take(plane), take(plane)};
  for (ComplexLine* l : {&desk.spare, &desk.other}) *l = {take(line), take(line), 1};
  desk.averaged = take(size_t{layer_.out.height} * grid_.width);
  return desk;
}

// Every row, then every column. With re and im exchanged: the inverse, not normalised.
void Scattering::transform_plane(const Level& level, const Plane& plane, const Desk& desk) const {
  wide_on(desk.isa, [&] {
    for (size_t y = 0; y < level.height; ++y) {
      const size_t at = y * level.width;
      transform(level.columns, {plane.re + at, plane.im + at, 1}, desk.spare, desk.other);
    }
    for (size_t x = 0; x < level.width; ++x)
      transform(level.rows, {plane.re + x, plane.im + x, level.width}, desk.spare, desk.other);
  });
}

// The spectrum of an image times that of a wavelet, at every pixel that `to` keeps: dropping pixels
// folds the spectrum.
void Scattering::respond(const Level& from, const std::vector<float>& spectrum, const Plane& image,
                         const Level& to, const Plane& out, const Desk& desk) const {
  const size_t folds = from.height / to.height;
  wide_on(desk.isa, [&] {
    for (size_t y = 0; y < to.height; ++y) {
      for (size_t x = 0; x < to.width; ++x) {
        ImageLanes re{}, im{};
        for (size_t fy = 0; fy < folds; ++fy) {
          for (size_t fx = 0; fx < folds; ++fx) {
            const size_t i = (y + fy * to.height) * from.width + x + fx * to.width;
            re += image.re[i] * spectrum[i];
            im += image.im[i] * spectrum[i];
          }
        }
        out.re[y * to.width + x] = re;
        out.im[y * to.width + x] = im;
      }
    }
  });
}

// |plane| into its real part, zero into the other.
void Scattering::modulus(const Level& level, const Plane& plane, const Desk& desk) const {
  const size_t count = size_t{level.height} * level.width * kImageLanes;
  auto* re = reinterpret_cast<float*>(plane.re);
  auto* im = reinterpret_cast<float*>(plane.im);
  wide_on(desk.isa, [&] {
    for (size_t i = 0; i < count; ++i) {
      re[i] = std::sqrt(re[i] * re[i] + im[i] * im[i]);
      im[i] = 0;
    }
  });
}

void Scattering::average(const Level& level, const ImageLanes* image, const Desk& desk,
                         uint32_t channel, size_t rows, float* y) const {
  const size_t width = level.width, places = size_t{layer_.out.height} * layer_.out.width,
               channels = layer_.out.channels;
  wide_on(desk.isa, [&] {
    for (size_t k = 0; k < level.down.size(); ++k) {
      const auto& own = level.down[k];
      for (size_t x = 0; x < width; ++x) {
        ImageLanes sum{};
        for (size_t i = 0; i < own.weights.size(); ++i)
          sum += image[(own.first + i) * width + x] * own.weights[i];
        desk.averaged[k * width + x] = sum;
      }
    }
    for (size_t k = 0; k < level.down.size(); ++k) {
      for (size_t o = 0; o < level.right.size(); ++o) {
        const auto& own = level.right[o];
        ImageLanes sum{};
        for (size_t i = 0; i < own.weights.size(); ++i)
          sum += desk.averaged[k * width + own.first + i] * own.weights[i];
        float* to = y + (k * level.right.size() + o) * channels + channel;
        for (size_t lane = 0; lane < rows; ++lane) to[lane * places * channels] = sum[lane];
      }
    }
  });
}

void Scattering::sixteen(size_t rows, const float* x, uint32_t channel, float* y,
                         const Desk& desk) const {
  const uint32_t height = layer_.in.height, width = layer_.in.width, channels = layer_.in.channels;
  const uint32_t scales = grid_.scales, directions = grid_.orientations;
  const size_t pixels = size_t{grid_.height} * grid_.width;
  for (uint32_t gy = 0; gy < grid_.height; ++gy) {
    for (uint32_t gx = 0; gx < grid_.width; ++gx) {
      const size_t from = (size_t{reflected(int64_t{gy} - grid_.top, height)} * width +
                           reflected(int64_t{gx} - grid_.left, width)) *
                              channels +
                          channel;
      ImageLanes& to = desk.work.re[size_t{gy} * grid_.width + gx];
      to = ImageLanes{};
      for (size_t lane = 0; lane < rows; ++lane)
        to[lane] = x[lane * height * width * channels + from];
    }
  }
  uint32_t out = channel * grid_.channels_each();
  average(levels_[0], desk.work.re, desk, out, rows, y);
  std::copy_n(desk.work.re, pixels, desk.image.re);
  std::fill_n(desk.image.im, pixels, ImageLanes{});
  transform_plane(levels_[0], desk.image, desk);

  // Second orders of one first response follow each other in time, not in the output.
  const uint32_t first_order = out + 1, second_order = first_order + scales * directions;
  uint32_t pair = 0;  // of octaves
  for (uint32_t j = 0; j < scales; ++j) {
    const Level& level = levels_[j];
    for (uint32_t d = 0; d < directions; ++d) {
      respond(levels_[0], wavelet(0, j, d), desk.image, level, desk.first, desk);
      transform_plane(level, {desk.first.im, desk.first.re}, desk);
      modulus(level, desk.first, desk);
      average(level, desk.first.re, desk, first_order + j * directions + d, rows, y);
      if (j + 1 == scales) continue;
      transform_plane(level, desk.first, desk);
      for (uint32_t further = 1; j + further < scales; ++further) {
        const Level& next = levels_[j + further];
        for (uint32_t e = 0; e < directions; ++e) {
          respond(level, wavelet(j, further, e), desk.first, next, desk.work, desk);
          transform_plane(next, {desk.work.im, desk.work.re}, desk);
          modulus(next, desk.work, desk);
          average(next, desk.work.re, desk,
                  second_order + ((pair + further - 1) * directions + d) * directions + e, rows, y);
        }
      }
    }
    pair += scales - 1 - j;
  }
}

void Scattering::forward(size_t rows, const float* x, float* y, float* scratch, Isa isa) const {
  Desk desk = desk_on(scratch);
  desk.isa = isa;
  for (size_t row = 0; row < rows; row += kImageLanes) {
    const size_t here = std::min(kImageLanes, rows - row);
    for (uint32_t channel = 0; channel < layer_.in.channels; ++channel)
      sixteen(here, x + row * layer_.in.count(), channel, y + row * layer_.out.count(), desk);
  }
}

}  // namespace souk::trainer
