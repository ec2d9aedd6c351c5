// Batch norm on channels-last activations: sums are kept for each channel while the pixels pass by.
#include <cmath>

#include "trainer/engine/kernels.h"
#include "trainer/engine/simd.h"

namespace souk::trainer::kernels {
namespace {

size_t pixels(const Shape3& shape) {
  return size_t{shape.height} * shape.width;
}

// Sums over pixels go through single precision in runs of this many, then into double.
constexpr size_t kRun = 64;

using Channels = NormScratch;

// sum[k] += sum of f, dot[k] += sum of g, over pixels; f and g are given (offset, channel).
template <class F, class G>
[[gnu::always_inline]] inline void channel_sums(size_t c, size_t area, Channels& s, const F& f,
                                                const G& g) {
  float* u = s.c.data();
  float* v = s.d.data();
  for (size_t k = 0; k < c; ++k) s.sum[k] = s.dot[k] = 0;
  for (size_t start = 0; start < area; start += kRun) {
    const size_t end = start + kRun < area ? start + kRun : area;
    for (size_t k = 0; k < c; ++k) u[k] = v[k] = 0;
    for (size_t p = start; p < end; ++p) {
      for (size_t k = 0; k < c; ++k) {
        u[k] += f(p * c + k, k);
        v[k] += g(p * c + k, k);
      }
    }
    for (size_t k = 0; k < c; ++k) {
      s.sum[k] += u[k];
      s.dot[k] += v[k];
    }
  }
}

}  // namespace

void batch_moments(const Layer& layer, size_t rows, const float* x, float* moments,
                   NormScratch& s) {
  const size_t c = layer.in.channels, area = rows * pixels(layer.in);
  wide([&] {
    channel_sums(
        c, area, s, [&](size_t i, size_t k) { return x[i] - x[k]; },
        [&](size_t i, size_t k) { return (x[i] - x[k]) * (x[i] - x[k]); });
    const auto n = static_cast<double>(area);
    for (size_t k = 0; k < c; ++k) {
      const double shift = s.sum[k] / n, variance = s.dot[k] / n - shift * shift;
      moments[k] = static_cast<float>(x[k] + shift);
      moments[c + k] = static_cast<float>(variance > 0 ? variance : 0);
    }
  });
}

void batch_norm(const Layer& layer, size_t rows, const float* x, const float* moments,
                const float* weight, const float* bias, float* y, NormScratch& s) {
  const size_t c = layer.in.channels, area = rows * pixels(layer.in);
  float* scale = s.a.data();
  float* shift = s.b.data();
  for (size_t k = 0; k < c; ++k) {
    scale[k] = weight[k] * static_cast<float>(1 / std::sqrt(moments[c + k] + kNormEpsilon));
    shift[k] = bias[k] - moments[k] * scale[k];
  }
  wide([&] {
    for (size_t p = 0; p < area; ++p) {
      for (size_t k = 0; k < c; ++k) y[p * c + k] = x[p * c + k] * scale[k] + shift[k];
    }
  });
}

void batch_norm_backward(const Layer& layer, size_t rows, const float* x, const float* moments,
                         bool of_shard, const float* weight, const float* dy, float* dx, Onto onto,
                         float* parameters, NormScratch& s) {
  const size_t c = layer.in.channels, area = rows * pixels(layer.in);
  wide([&] {
    channel_sums(
        c, area, s, [&](size_t i, size_t) { return dy[i]; },
        [&](size_t i, size_t k) { return dy[i] * (x[i] - moments[k]); });
    const auto n = static_cast<double>(area);
    float* a = s.a.data();
    float* b = s.b.data();
    float* e = s.c.data();
    for (size_t k = 0; k < c; ++k) {
      const double r = 1 / std::sqrt(moments[c + k] + kNormEpsilon);
      parameters[k] = static_cast<float>(s.dot[k] * r);
      parameters[c + k] = static_cast<float>(s.sum[k]);
      a[k] = static_cast<float>(r * weight[k]);
      b[k] = of_shard ? static_cast<float>(-r * r * r * weight[k] * s.dot[k] / n) : 0.0F;
      e[k] = of_shard ? static_cast<float>(-r * weight[k] * s.sum[k] / n) : 0.0F;
    }
    if (!dx) return;
    for (size_t p = 0; p < area; ++p) {
      for (size_t k = 0; k < c; ++k) {
        const size_t i = p * c + k;
        const float d = a[k] * dy[i] + b[k] * (x[i] - moments[k]) + e[k];
        dx[i] = onto == Onto::kWrite ? d : dx[i] + d;
      }
    }
  });
}

}  // namespace souk::trainer::kernels
