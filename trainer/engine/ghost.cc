#include "trainer/engine/ghost.h"

#include <algorithm>
#include <cmath>

#include "trainer/engine/gemm.h"
#include "trainer/engine/simd.h"

namespace souk::trainer {

void GhostScratch::fit(uint64_t pixels) {
  if (x_size.size() >= pixels) return;
  for (auto* matrix : {&x, &d, &masked}) matrix->resize(pixels * pixels);
  x_size.resize(pixels);
  d_size.resize(pixels);
}

namespace {

// <D, X shifted by (down, right)>, where `d` has zeros in the columns that would leave their row.
double shifted_dot(int64_t height, int64_t width, int64_t down, int64_t right, const float* d,
                   const float* x) {
  const int64_t pixels = height * width, offset = down * width + right;
  const int64_t low = std::max<int64_t>(0, -offset), high = pixels - std::max<int64_t>(0, offset);
  double sum = 0;
  wide([&] {
    for (int64_t row = std::max<int64_t>(0, -down); row < height - std::max<int64_t>(0, down);
         ++row) {
      for (int64_t column = std::max<int64_t>(0, -right);
           column < width - std::max<int64_t>(0, right); ++column) {
        const int64_t p = row * width + column;
        const float* from_d = d + p * pixels + low;
        const float* from_x = x + (p + offset) * pixels + offset + low;
        sum += lane_sum<float>(static_cast<uint64_t>(high - low),
                               [&](uint64_t q) { return from_d[q] * from_x[q]; });
      }
    }
  });
  return sum;
}

void mask_columns(int64_t pixels, int64_t width, int64_t right, const float* d, float* masked) {
  for (int64_t p = 0; p < pixels; ++p) {
    const float* from = d + p * pixels;
    float* to = masked + p * pixels;
    std::copy_n(from, pixels, to);
    for (int64_t row = 0; row < pixels; row += width) {
      if (right < 0) std::fill_n(to + row, -right, 0.0F);
      if (right > 0) std::fill_n(to + row + width - right, right, 0.0F);
    }
  }
}

}  // namespace

Measured ghost_norm(const Layer& layer, const float* x, const float* dy, GhostScratch& s) {
  const uint64_t in = layer.in.channels, out = layer.out.channels;
  const int64_t height = layer.in.height, width = layer.in.width, pixels = height * width;
  const auto count = static_cast<uint64_t>(pixels);
  s.fit(count);
  gemm('N', 'T', count, count, in, x, in, x, in, kernels::Onto::kWrite, s.x.data(), count);
  gemm('N', 'T', count, count, out, dy, out, dy, out, kernels::Onto::kWrite, s.d.data(), count);
  for (uint64_t p = 0; p < count; ++p) {
    s.x_size[p] = std::sqrt(static_cast<double>(s.x[p * count + p]));
    s.d_size[p] = std::sqrt(static_cast<double>(s.d[p * count + p]));
  }
  const int64_t reach = layer.node.padding;
  Measured measured;
  for (int64_t right = -reach; right <= reach; ++right) {
    if (std::abs(right) >= width) continue;  // no column would stay
    const float* d = s.d.data();
    if (right != 0) {
      mask_columns(pixels, width, right, s.d.data(), s.masked.data());
      d = s.masked.data();
    }
    for (int64_t down = -reach; down <= reach; ++down) {
      if (std::abs(down) >= height) continue;
      measured.square += shifted_dot(height, width, down, right, d, s.x.data());
      double rough = 0;
      for (int64_t row = std::max<int64_t>(0, -down); row < height - std::max<int64_t>(0, down);
           ++row) {
        for (int64_t column = std::max<int64_t>(0, -right);
             column < width - std::max<int64_t>(0, right); ++column) {
          rough += s.d_size[static_cast<uint64_t>(row * width + column)] *
                   s.x_size[static_cast<uint64_t>((row + down) * width + column + right)];
        }
      }
      measured.roughness += rough * rough;
    }
  }
  // Rounding of the products, of the dot products and of the diagonals the roughness came from.
  const double n = static_cast<double>(in + out + count + 8) * 0x1p-24;
  measured.roughness *= 1 + 4 * n;
  measured.square = std::max(measured.square, 0.0) + 1.01 * n * measured.roughness;
  return measured;
}

}  // namespace souk::trainer
