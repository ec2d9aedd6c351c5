// Group and layer norm on channels-last activations, two passes over each example. A pass takes
// 64 numbers at a time, whichever channels they are of: a place of such a block is always of the
// same channel once as many blocks have passed as the least common multiple of both needs. So
// sums stay in registers, and what belongs to channels is spread over the places first.
#include <cmath>
#include <cstring>
#include <numeric>

#include "trainer/engine/kernels.h"
#include "trainer/engine/simd.h"

// Vectors are passed between inlined functions only.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace souk::trainer::kernels {
namespace {

using Vector = float __attribute__((vector_size(64)));

#define SOUK_INLINE [[gnu::always_inline]] inline

constexpr size_t kBlock = 64, kVectors = 4;
// Sums go through single precision for this many blocks, then into double.
constexpr size_t kRun = 64;

SOUK_INLINE Vector load(const float* from) {
  Vector v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}
SOUK_INLINE void store(const Vector& v, float* to) {
  std::memcpy(to, &v, sizeof(v));
}

size_t pixels(const Shape3& shape) {
  return size_t{shape.height} * shape.width;
}

// Places after which blocks begin with the same channel again, or all places of a row.
size_t period_of(size_t channels, size_t area) {
  const size_t row = (channels * area + kBlock - 1) / kBlock * kBlock;
  return std::min(std::lcm(channels, kBlock), row);
}

// to[place] = of_channel(channel of the place).
template <class OfChannel>
SOUK_INLINE void spread(size_t channels, size_t period, float* to, const OfChannel& of_channel) {
  const size_t once = channels < period ? channels : period;
  for (size_t k = 0; k < once; ++k) to[k] = of_channel(k);
  for (size_t i = once; i < period; ++i) to[i] = to[i - once];
}

// Calls block(place, offset) for the vectors of all whole blocks, those of one place in a row, and
// number(place, offset) for the numbers after them.
template <class Block, class Number>
SOUK_INLINE void everywhere(size_t count, size_t period, const Block& block, const Number& number) {
  const size_t whole = count / kBlock * kBlock;
  for (size_t first = 0; first < period; first += kBlock) {
    for (size_t at = first; at < whole; at += period) {
      for (size_t i = 0; i < kVectors; ++i) block(first + 16 * i, at + 16 * i);
    }
  }
  for (size_t at = whole; at < count; ++at) number(at % period, at);
}

// sum[k] and dot[k]: sums over pixels of what block and number give for each number of channel k:
// two vectors, or two numbers.
template <class Block, class Number>
SOUK_INLINE void channel_sums(size_t channels, size_t count, size_t period, const Block& block,
                              const Number& number, double* sum, double* dot) {
  const size_t whole = count / kBlock * kBlock;
  for (size_t first = 0; first < period; first += kBlock) {
    double* u = sum + first;
    double* v = dot + first;
    for (size_t l = 0; l < kBlock; ++l) u[l] = v[l] = 0;
    for (size_t at = first; at < whole;) {
      Vector a[kVectors] = {}, b[kVectors] = {};
      for (size_t run = 0; run < kRun && at < whole; ++run, at += period) {
        for (size_t i = 0; i < kVectors; ++i) block(first + 16 * i, at + 16 * i, a[i], b[i]);
      }
      for (size_t l = 0; l < kBlock; ++l) {
        u[l] += a[l / 16][l % 16];
        v[l] += b[l / 16][l % 16];
      }
    }
  }
  for (size_t at = whole; at < count; ++at) {
    float a = 0, b = 0;
    number(at % period, at, a, b);
    sum[at % period] += a;
    dot[at % period] += b;
  }
  for (size_t first = channels; first < period; first += channels) {
    const size_t here = period - first < channels ? period - first : channels;
    for (size_t k = 0; k < here; ++k) {
      sum[k] += sum[first + k];
      dot[k] += dot[first + k];
    }
  }
}

// max(v, slope * v) as it is on the way: kinds of rectifiers that compilers see apart.
struct Straight {
  template <class V>
  SOUK_INLINE V operator()(const V& v) const {
    return v;
  }
};
struct Bent {
  float slope;
  SOUK_INLINE Vector operator()(const Vector& v) const { return v > 0 ? v : v * slope; }
  SOUK_INLINE float operator()(float v) const { return v > 0 ? v : v * slope; }
};
struct Cut {
  SOUK_INLINE Vector operator()(const Vector& v) const { return v > 0 ? v : Vector{}; }
  SOUK_INLINE float operator()(float v) const { return v > 0 ? v : 0.0F; }
};

}  // namespace

void NormScratch::fit(const Layer& layer) {
  const size_t size =
      std::max<size_t>(layer.in.channels, period_of(layer.in.channels, pixels(layer.in)));
  if (a.size() >= size) return;
  for (auto* v : {&a, &b, &c, &d}) v->resize(size);
  sum.resize(size);
  dot.resize(size);
}

void group_norm(const Layer& layer, size_t rows, const float* x, const float* weight,
                const float* bias, NormEnd end, float* y, float* moments, NormScratch& s) {
  const size_t c = layer.in.channels, area = pixels(layer.in), groups = norm_groups(layer.node),
               width = c / groups, count = c * area, period = period_of(c, area);
  float *const mean = s.a.data(), *const scale = s.b.data(), *const shift = s.c.data();
  double *const sum = s.sum.data(), *const dot = s.dot.data();
  auto all_rows = [&](const auto& bend, bool residual) {
    for (size_t row = 0; row < rows; ++row) {
      const float* const in = x + row * count;
      const float* const more = residual ? end.residual + row * count : nullptr;
      float* const out = y + row * count;
      float* const m = moments + row * 2 * groups;
      // Deviations are taken from the channel's first pixel, so that a large mean costs no
      // precision.
      spread(c, period, mean, [=](size_t k) { return in[k]; });
      channel_sums(
          c, count, period,
          [=](size_t place, size_t at, Vector& a, Vector& b) {
            const Vector d = load(in + at) - load(mean + place);
            a += d;
            b += d * d;
          },
          [=](size_t place, size_t at, float& a, float& b) {
            a = in[at] - mean[place];
            b = a * a;
          },
          sum, dot);
      const auto n = static_cast<double>(area), all = n * static_cast<double>(width);
      for (size_t g = 0; g < groups; ++g) {
        double middle = 0, square = 0;
        for (size_t k = g * width; k < (g + 1) * width; ++k) middle += in[k] + sum[k] / n;
        middle /= static_cast<double>(width);
        for (size_t k = g * width; k < (g + 1) * width; ++k) {
          // Sum of (x - mean)^2 from sums of d = x - x0 and d^2.
          const double off = in[k] - middle;
          square += dot[k] + 2 * off * sum[k] + n * off * off;
        }
        m[2 * g] = static_cast<float>(middle);
        m[2 * g + 1] =
            static_cast<float>(1 / std::sqrt((square > 0 ? square : 0) / all + kNormEpsilon));
      }
      spread(c, period, scale, [=](size_t k) { return weight[k] * m[2 * (k / width) + 1]; });
      spread(c, period, shift, [=](size_t k) { return bias[k] - m[2 * (k / width)] * scale[k]; });
      auto finish = [&](const auto& added) {
        everywhere(
            count, period,
            [=, &bend](size_t place, size_t at) {
              store(bend(added(load(in + at) * load(scale + place) + load(shift + place), at)),
                    out + at);
            },
            [=, &bend](size_t place, size_t at) {
              const float v = in[at] * scale[place] + shift[place];
              out[at] = bend(more ? v + more[at] : v);
            });
      };
      if (more) {
        finish([=](const Vector& v, size_t at) { return v + load(more + at); });
      } else {
        finish([](const Vector& v, size_t) { return v; });
      }
    }
  };
  const bool residual = end.residual != nullptr;
  const float slope = end.slope;
  wide([&] {
    if (!end.rectify) return all_rows(Straight{}, residual);
    if (slope == 0) return all_rows(Cut{}, residual);
    all_rows(Bent{slope}, residual);
  });
}

void group_norm_backward(const Layer& layer, size_t rows, const float* x, const float* weight,
                         const float* moments, Rectified rectified, float* dy, float* dx, Onto onto,
                         float* parameters, NormScratch& s) {
  const size_t c = layer.in.channels, area = pixels(layer.in), groups = norm_groups(layer.node),
               width = c / groups, count = c * area, period = period_of(c, area);
  const double all = static_cast<double>(width * area);
  const float slope = rectified.slope;
  float *const mean = s.a.data(), *const of_dy = s.b.data(), *const of_x = s.c.data(),
               *const constant = s.d.data();
  double *const sum = s.sum.data(), *const dot = s.dot.data();
  wide([&] {
    for (size_t row = 0; row < rows; ++row) {
      const float* const in = x + row * count;
      float* const d = dy + row * count;
      const float* const m = moments + row * 2 * groups;
      spread(c, period, mean, [=](size_t k) { return m[2 * (k / width)]; });
      // A row stays in the cache from here to its end.
      if (rectified.y) {
        const float* const after = rectified.y + row * count;
        channel_sums(
            c, count, period,
            [=](size_t place, size_t at, Vector& a, Vector& b) {
              const Vector own = load(d + at);
              const Vector v = load(after + at) > 0 ? own : own * slope;
              store(v, d + at);
              a += v;
              b += v * (load(in + at) - load(mean + place));
            },
            [=](size_t place, size_t at, float& a, float& b) {
              d[at] = after[at] > 0 ? d[at] : d[at] * slope;
              a = d[at];
              b = a * (in[at] - mean[place]);
            },
            sum, dot);
      } else {
        channel_sums(
            c, count, period,
            [=](size_t place, size_t at, Vector& a, Vector& b) {
              const Vector v = load(d + at);
              a += v;
              b += v * (load(in + at) - load(mean + place));
            },
            [=](size_t place, size_t at, float& a, float& b) {
              a = d[at];
              b = a * (in[at] - mean[place]);
            },
            sum, dot);
      }
      float* const dweight = parameters + row * 2 * c;
      for (size_t k = 0; k < c; ++k) {
        dweight[k] = static_cast<float>(dot[k] * m[2 * (k / width) + 1]);
        dweight[c + k] = static_cast<float>(sum[k]);
      }
      if (!dx) continue;
      // dx = r * (w d - mean(w d) - normal * mean(w d normal)) for each channel.
      for (size_t g = 0; g < groups; ++g) {
        double plain = 0, normal = 0;
        const double r = m[2 * g + 1];
        for (size_t k = g * width; k < (g + 1) * width; ++k) {
          plain += sum[k] * weight[k];
          normal += dot[k] * r * weight[k];
        }
        for (size_t k = g * width; k < (g + 1) * width; ++k) {
          of_dy[k] = static_cast<float>(r * weight[k]);
          of_x[k] = static_cast<float>(-r * r * normal / all);
          constant[k] = static_cast<float>(-r * plain / all);
        }
      }
      for (float* own : {of_dy, of_x, constant})
        spread(c, period, own, [=](size_t k) { return own[k]; });
      float* const out = dx + row * count;
      auto finish = [&](const auto& onto_vector, bool add) {
        everywhere(
            count, period,
            [=](size_t place, size_t at) {
              const Vector v = load(of_dy + place) * load(d + at) +
                               load(of_x + place) * (load(in + at) - load(mean + place)) +
                               load(constant + place);
              store(onto_vector(v, at), out + at);
            },
            [=](size_t place, size_t at) {
              const float v =
                  of_dy[place] * d[at] + of_x[place] * (in[at] - mean[place]) + constant[place];
              out[at] = add ? out[at] + v : v;
            });
      };
      if (onto == Onto::kWrite) {
        finish([](const Vector& v, size_t) { return v; }, false);
      } else {
        finish([=](const Vector& v, size_t at) { return load(out + at) + v; }, true);
      }
    }
  });
}

}  // namespace souk::trainer::kernels
