// Group, layer and batch norm on channels-last activations: sums are kept for each channel while
// the pixels pass by, then folded into groups, so that both passes run along the memory.
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

// Mean and inverse deviation of each group. Deviations are taken from the channel's first pixel,
// so that a large mean costs no precision.
[[gnu::always_inline]] inline void group_moments(size_t c, size_t area, size_t groups,
                                                 const float* x, Channels& s, float* moments) {
  channel_sums(
      c, area, s, [&](size_t i, size_t k) { return x[i] - x[k]; },
      [&](size_t i, size_t k) { return (x[i] - x[k]) * (x[i] - x[k]); });
  const size_t width = c / groups;
  const auto n = static_cast<double>(area), count = n * static_cast<double>(width);
  for (size_t g = 0; g < groups; ++g) {
    double mean = 0, square = 0;
    for (size_t k = g * width; k < (g + 1) * width; ++k) mean += x[k] + s.sum[k] / n;
    mean /= static_cast<double>(width);
    for (size_t k = g * width; k < (g + 1) * width; ++k) {
      // Sum of (x - mean)^2 from sums of d = x - x0 and d^2.
      const double shift = x[k] - mean;
      square += s.dot[k] + 2 * shift * s.sum[k] + n * shift * shift;
    }
    moments[2 * g] = static_cast<float>(mean);
    moments[2 * g + 1] =
        static_cast<float>(1 / std::sqrt((square > 0 ? square : 0) / count + kNormEpsilon));
  }
}

}  // namespace

void NormScratch::fit(size_t channels) {
  if (a.size() >= channels) return;
  for (auto* v : {&a, &b, &c, &d}) v->resize(channels);
  sum.resize(channels);
  dot.resize(channels);
}

void group_norm(const Layer& layer, size_t rows, const float* x, const float* weight,
                const float* bias, NormEnd end, float* y, float* moments, NormScratch& s) {
  const size_t c = layer.in.channels, area = pixels(layer.in), groups = norm_groups(layer.node),
               width = c / groups;
  const float slope = end.slope;
  // One loop over memory for each way to end.
  auto all_rows = [&](const auto& bend) {
    wide([&] {
      float* scale = s.a.data();
      float* shift = s.b.data();
      for (size_t row = 0; row < rows; ++row) {
        const float* in = x + row * c * area;
        float* out = y + row * c * area;
        float* m = moments + row * 2 * groups;
        group_moments(c, area, groups, in, s, m);
        for (size_t k = 0; k < c; ++k) {
          const float* own = m + 2 * (k / width);
          scale[k] = weight[k] * own[1];
          shift[k] = bias[k] - own[0] * scale[k];
        }
        if (end.residual) {
          const float* more = end.residual + row * c * area;
          for (size_t p = 0; p < area; ++p) {
            for (size_t k = 0; k < c; ++k)
              out[p * c + k] = bend(in[p * c + k] * scale[k] + shift[k] + more[p * c + k]);
          }
        } else {
          for (size_t p = 0; p < area; ++p) {
            for (size_t k = 0; k < c; ++k)
              out[p * c + k] = bend(in[p * c + k] * scale[k] + shift[k]);
          }
        }
      }
    });
  };
  if (!end.rectify) return all_rows([](float v) { return v; });
  if (slope == 0) return all_rows([](float v) { return v > 0 ? v : 0.0F; });
  all_rows([slope](float v) { return v > 0 ? v : slope * v; });
}

void group_norm_backward(const Layer& layer, size_t rows, const float* x, const float* weight,
                         const float* moments, Rectified rectified, float* dy, float* dx, Onto onto,
                         float* parameters, NormScratch& s) {
  const size_t c = layer.in.channels, area = pixels(layer.in), groups = norm_groups(layer.node),
               width = c / groups;
  const double count = static_cast<double>(width * area);
  const float slope = rectified.slope;
  wide([&] {
    float* mean = s.a.data();
    for (size_t row = 0; row < rows; ++row) {
      const float* in = x + row * c * area;
      float* d = dy + row * c * area;
      const float* m = moments + row * 2 * groups;
      float* dweight = parameters + row * 2 * c;
      // A row stays in the cache from here to its end.
      if (rectified.y) {
        const float* out = rectified.y + row * c * area;
        for (size_t i = 0; i < c * area; ++i) d[i] *= out[i] > 0 ? 1.0F : slope;
      }
      for (size_t k = 0; k < c; ++k) mean[k] = m[2 * (k / width)];
      channel_sums(
          c, area, s, [&](size_t i, size_t) { return d[i]; },
          [&](size_t i, size_t k) { return d[i] * (in[i] - mean[k]); });
      for (size_t k = 0; k < c; ++k) {
        dweight[k] = static_cast<float>(s.dot[k] * m[2 * (k / width) + 1]);
        dweight[c + k] = static_cast<float>(s.sum[k]);
      }
      if (!dx) continue;
      // dx = r * (w d - mean(w d) - normal * mean(w d normal)) = a d + b x + e for each channel.
      float* a = s.b.data();
      float* b = s.c.data();
      float* e = s.d.data();
      for (size_t g = 0; g < groups; ++g) {
        double sum = 0, dot = 0;
        const double r = m[2 * g + 1];
        for (size_t k = g * width; k < (g + 1) * width; ++k) {
          sum += s.sum[k] * weight[k];
          dot += s.dot[k] * r * weight[k];
        }
        const double of_x = -r * r * dot / count;
        for (size_t k = g * width; k < (g + 1) * width; ++k) {
          a[k] = static_cast<float>(r * weight[k]);
          b[k] = static_cast<float>(of_x);
          e[k] = static_cast<float>(-r * sum / count);
        }
      }
      float* out = dx + row * c * area;
      if (onto == Onto::kWrite) {
        for (size_t p = 0; p < area; ++p) {
          for (size_t k = 0; k < c; ++k) {
            const size_t i = p * c + k;
            out[i] = a[k] * d[i] + b[k] * (in[i] - mean[k]) + e[k];
          }
        }
      } else {
        for (size_t p = 0; p < area; ++p) {
          for (size_t k = 0; k < c; ++k) {
            const size_t i = p * c + k;
            out[i] += a[k] * d[i] + b[k] * (in[i] - mean[k]) + e[k];
          }
        }
      }
    }
  });
}

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
