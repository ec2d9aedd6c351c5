#include "trainer/engine/kernels.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace souk::trainer::kernels {
namespace {

template <class Function>
void each(const float* in, float* out, size_t count, Onto onto, const Function& f) {
  if (onto == Onto::kWrite) {
    for (size_t i = 0; i < count; ++i) out[i] = f(i, in[i]);
  } else {
    for (size_t i = 0; i < count; ++i) out[i] += f(i, in[i]);
  }
}

size_t pixels(const Shape3& shape) { return size_t{shape.height} * shape.width; }

// The input rows or columns [first, last) under output `o`.
struct Range {
  size_t first, last;
};
Range reach(const Node& node, size_t o, uint32_t size) {
  size_t start = o * node.stride, end = std::min<size_t>(start + node.kernel, size_t{size} + node.padding);
  return {start > node.padding ? start - node.padding : 0, end - node.padding};
}

// Calls visit(output pixel, y range, x range) for every window of a pooling layer.
template <class Visit>
void windows(const Layer& layer, const Visit& visit) {
  for (size_t oy = 0; oy < layer.out.height; ++oy) {
    Range y = reach(layer.node, oy, layer.in.height);
    for (size_t ox = 0; ox < layer.out.width; ++ox) {
      visit(oy * layer.out.width + ox, y, reach(layer.node, ox, layer.in.width));
    }
  }
}

float sigmoid(float x) { return 1.0F / (1.0F + std::exp(-x)); }

constexpr float kInverseSqrt2 = 0.70710678118654752440F;

}  // namespace

void activate(const Node& node, const float* x, float* y, size_t count) {
  const auto slope = static_cast<float>(node.slope);
  auto map = [&](const auto& f) { each(x, y, count, Onto::kWrite, [&](size_t, float v) { return f(v); }); };
  switch (node.op) {
    case Node::Op::kRelu: return map([](float v) { return v > 0 ? v : 0.0F; });
    case Node::Op::kLeakyRelu: return map([slope](float v) { return v > 0 ? v : slope * v; });
    case Node::Op::kTanh: return map([](float v) { return std::tanh(v); });
    case Node::Op::kSigmoid: return map(sigmoid);
    case Node::Op::kGelu: return map([](float v) { return 0.5F * v * (1 + std::erf(v * kInverseSqrt2)); });
    case Node::Op::kSilu: return map([](float v) { return v * sigmoid(v); });
    default: CHECK(false);
  }
}

void activate_backward(const Node& node, const float* x, const float* y, const float* dy, float* dx, size_t count,
                       Onto onto) {
  const auto slope = static_cast<float>(node.slope);
  auto map = [&](const auto& f) { each(dy, dx, count, onto, f); };
  switch (node.op) {
    case Node::Op::kRelu: return map([x](size_t i, float d) { return x[i] > 0 ? d : 0.0F; });
    case Node::Op::kLeakyRelu: return map([x, slope](size_t i, float d) { return x[i] > 0 ? d : slope * d; });
    case Node::Op::kTanh: return map([y](size_t i, float d) { return d * (1 - y[i] * y[i]); });
    case Node::Op::kSigmoid: return map([y](size_t i, float d) { return d * (y[i] * (1 - y[i])); });
    case Node::Op::kGelu:
      return map([x](size_t i, float d) {
        constexpr float kInverseSqrt2Pi = 0.39894228040143267794F;
        float v = x[i];
        return d * (0.5F * (1 + std::erf(v * kInverseSqrt2)) + v * kInverseSqrt2Pi * std::exp(-0.5F * v * v));
      });
    case Node::Op::kSilu:
      return map([x](size_t i, float d) {
        float s = sigmoid(x[i]);
        return d * (s + x[i] * s * (1 - s));
      });
    default: CHECK(false);
  }
}

void max_pool(const Layer& layer, size_t rows, const float* x, float* y, uint32_t* winners) {
  const size_t c = layer.in.channels;
  for (size_t row = 0; row < rows; ++row, x += layer.in.count(), y += layer.out.count(), winners += layer.out.count()) {
    windows(layer, [&](size_t o, Range ys, Range xs) {
      float* best = y + o * c;
      uint32_t* who = winners + o * c;
      bool first = true;
      for (size_t iy = ys.first; iy < ys.last; ++iy) {
        for (size_t ix = xs.first; ix < xs.last; ++ix) {
          size_t pixel = iy * layer.in.width + ix;
          const float* in = x + pixel * c;
          for (size_t k = 0; k < c; ++k) {
            bool wins = first || in[k] > best[k];
            best[k] = wins ? in[k] : best[k];
            who[k] = wins ? static_cast<uint32_t>(pixel) : who[k];
          }
          first = false;
        }
      }
    });
  }
}

void max_pool_backward(const Layer& layer, size_t rows, const uint32_t* winners, const float* dy, float* dx, Onto onto) {
  const size_t c = layer.in.channels;
  if (onto == Onto::kWrite) std::fill_n(dx, rows * layer.in.count(), 0.0F);
  for (size_t row = 0; row < rows; ++row, dx += layer.in.count()) {
    for (size_t o = 0; o < pixels(layer.out); ++o, dy += c, winners += c) {
      for (size_t k = 0; k < c; ++k) dx[winners[k] * c + k] += dy[k];
    }
  }
}

void average_pool(const Layer& layer, size_t rows, const float* x, float* y) {
  const size_t c = layer.in.channels;
  for (size_t row = 0; row < rows; ++row, x += layer.in.count(), y += layer.out.count()) {
    windows(layer, [&](size_t o, Range ys, Range xs) {
      float* out = y + o * c;
      std::fill_n(out, c, 0.0F);
      for (size_t iy = ys.first; iy < ys.last; ++iy) {
        for (size_t ix = xs.first; ix < xs.last; ++ix) {
          const float* in = x + (iy * layer.in.width + ix) * c;
          for (size_t k = 0; k < c; ++k) out[k] += in[k];
        }
      }
      auto share = 1.0F / static_cast<float>((ys.last - ys.first) * (xs.last - xs.first));
      for (size_t k = 0; k < c; ++k) out[k] *= share;
    });
  }
}

void average_pool_backward(const Layer& layer, size_t rows, const float* dy, float* dx, Onto onto) {
  const size_t c = layer.in.channels;
  if (onto == Onto::kWrite) std::fill_n(dx, rows * layer.in.count(), 0.0F);
  for (size_t row = 0; row < rows; ++row, dx += layer.in.count(), dy += layer.out.count()) {
    windows(layer, [&](size_t o, Range ys, Range xs) {
      auto share = 1.0F / static_cast<float>((ys.last - ys.first) * (xs.last - xs.first));
      for (size_t iy = ys.first; iy < ys.last; ++iy) {
        for (size_t ix = xs.first; ix < xs.last; ++ix) {
          float* in = dx + (iy * layer.in.width + ix) * c;
          for (size_t k = 0; k < c; ++k) in[k] += dy[o * c + k] * share;
        }
      }
    });
  }
}

void global_average_pool(const Layer& layer, size_t rows, const float* x, float* y) {
  const size_t c = layer.in.channels, area = pixels(layer.in);
  for (size_t row = 0; row < rows; ++row, y += c) {
    std::fill_n(y, c, 0.0F);
    for (size_t p = 0; p < area; ++p, x += c) {
      for (size_t k = 0; k < c; ++k) y[k] += x[k];
    }
    for (size_t k = 0; k < c; ++k) y[k] /= static_cast<float>(area);
  }
}

void global_average_pool_backward(const Layer& layer, size_t rows, const float* dy, float* dx, Onto onto) {
  const size_t c = layer.in.channels, area = pixels(layer.in);
  auto share = 1.0F / static_cast<float>(area);
  for (size_t row = 0; row < rows; ++row, dy += c) {
    for (size_t p = 0; p < area; ++p, dx += c) {
      each(dy, dx, c, onto, [share](size_t, float d) { return d * share; });
    }
  }
}

void group_norm(const Layer& layer, size_t rows, const float* x, const float* weight, const float* bias, float* y,
                float* moments) {
  const size_t c = layer.in.channels, area = pixels(layer.in), groups = layer.node.groups, width = c / groups;
  const double count = static_cast<double>(width * area);
  for (size_t row = 0; row < rows; ++row, x += c * area, y += c * area) {
    for (size_t g = 0; g < groups; ++g, moments += 2) {
      double sum = 0, squares = 0;
      for (size_t p = 0; p < area; ++p) {
        for (size_t k = g * width; k < (g + 1) * width; ++k) sum += x[p * c + k];
      }
      const double mean = sum / count;
      for (size_t p = 0; p < area; ++p) {
        for (size_t k = g * width; k < (g + 1) * width; ++k) {
          double d = x[p * c + k] - mean;
          squares += d * d;
        }
      }
      moments[0] = static_cast<float>(mean);
      moments[1] = static_cast<float>(1 / std::sqrt(squares / count + kGroupNormEpsilon));
      for (size_t p = 0; p < area; ++p) {
        for (size_t k = g * width; k < (g + 1) * width; ++k) {
          y[p * c + k] = (x[p * c + k] - moments[0]) * moments[1] * weight[k] + bias[k];
        }
      }
    }
  }
}

void group_norm_backward(const Layer& layer, size_t rows, const float* x, const float* weight, const float* moments,
                         const float* dy, float* dx, Onto onto) {
  const size_t c = layer.in.channels, area = pixels(layer.in), groups = layer.node.groups, width = c / groups;
  const double count = static_cast<double>(width * area);
  for (size_t row = 0; row < rows; ++row, x += c * area, dy += c * area, dx += c * area) {
    for (size_t g = 0; g < groups; ++g, moments += 2) {
      double sum = 0, dot = 0;
      for (size_t p = 0; p < area; ++p) {
        for (size_t k = g * width; k < (g + 1) * width; ++k) {
          float d = dy[p * c + k] * weight[k];
          sum += d;
          dot += d * ((x[p * c + k] - moments[0]) * moments[1]);
        }
      }
      const auto mean = static_cast<float>(sum / count), slope = static_cast<float>(dot / count);
      for (size_t p = 0; p < area; ++p) {
        for (size_t k = g * width; k < (g + 1) * width; ++k) {
          float normal = (x[p * c + k] - moments[0]) * moments[1];
          float d = moments[1] * (dy[p * c + k] * weight[k] - mean - normal * slope);
          dx[p * c + k] = onto == Onto::kWrite ? d : dx[p * c + k] + d;
        }
      }
    }
  }
}

void group_norm_parameters(const Layer& layer, const float* x, const float* moments, const float* dy, float* dweight,
                           float* dbias) {
  const size_t c = layer.in.channels, area = pixels(layer.in), width = c / layer.node.groups;
  for (size_t p = 0; p < area; ++p, x += c, dy += c) {
    for (size_t k = 0; k < c; ++k) {
      const float* m = moments + 2 * (k / width);
      dweight[k] += dy[k] * ((x[k] - m[0]) * m[1]);
      dbias[k] += dy[k];
    }
  }
}

void dropout_factors(const Layer& layer, ChaCha20& random, float* factors) {
  const auto limit = static_cast<uint64_t>(std::ldexp(layer.node.rate, 32));
  const auto kept = static_cast<float>(1 / (1 - layer.node.rate));
  std::array<uint64_t, 64> words;
  const size_t count = layer.out.count();
  for (size_t i = 0; i < count; i += 2 * words.size()) {
    random.fill(std::span<uint64_t>(words));
    for (size_t k = 0; k < std::min(2 * words.size(), count - i); ++k) {
      uint64_t word = (words[k / 2] >> (32 * (k % 2))) & 0xffffffff;
      factors[i + k] = word < limit ? 0.0F : kept;
    }
  }
}

void multiply(const float* x, const float* factors, float* y, size_t count, Onto onto) {
  each(x, y, count, onto, [factors](size_t i, float v) { return v * factors[i]; });
}

void flatten(const Layer& layer, size_t rows, const float* x, float* y) {
  const size_t c = layer.in.channels, area = pixels(layer.in);
  for (size_t row = 0; row < rows; ++row, x += c * area, y += c * area) {
    for (size_t p = 0; p < area; ++p) {
      for (size_t k = 0; k < c; ++k) y[k * area + p] = x[p * c + k];
    }
  }
}

void flatten_backward(const Layer& layer, size_t rows, const float* dy, float* dx, Onto onto) {
  const size_t c = layer.in.channels, area = pixels(layer.in);
  for (size_t row = 0; row < rows; ++row, dx += c * area, dy += c * area) {
    for (size_t p = 0; p < area; ++p) {
      for (size_t k = 0; k < c; ++k) {
        float d = dy[k * area + p];
        dx[p * c + k] = onto == Onto::kWrite ? d : dx[p * c + k] + d;
      }
    }
  }
}

void add(const float* a, const float* b, float* y, size_t count) {
  for (size_t i = 0; i < count; ++i) y[i] = a[i] + b[i];
}

void copy(const float* x, float* y, size_t count, Onto onto) {
  each(x, y, count, onto, [](size_t, float v) { return v; });
}

void into_channels(const Shape3& part, const Shape3& whole, uint32_t first, size_t rows, const float* x, float* y) {
  for (size_t p = 0; p < rows * pixels(whole); ++p) {
    std::copy_n(x + p * part.channels, part.channels, y + p * whole.channels + first);
  }
}

void from_channels(const Shape3& part, const Shape3& whole, uint32_t first, size_t rows, const float* dy, float* dx,
                   Onto onto) {
  for (size_t p = 0; p < rows * pixels(whole); ++p) {
    copy(dy + p * whole.channels + first, dx + p * part.channels, part.channels, onto);
  }
}

}  // namespace souk::trainer::kernels
