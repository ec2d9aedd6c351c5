#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "trainer/engine/kernels.h"
#include "trainer/engine/simd.h"

namespace souk::trainer::kernels {
namespace {

// Elementary functions without branches or calls, so that they run in vectors. Relative error of
// exp and absolute error of the others: below 3e-7.

[[gnu::always_inline]] inline float exp_of(float x) {
  x = x > 88.0F ? 88.0F : x;
  x = x < -87.0F ? -87.0F : x;
  constexpr float kRounder = 12582912.0F;  // 1.5 * 2^23
  const float shifted = x * 1.44269504088896341F + kRounder, n = shifted - kRounder;
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  const auto exponent = std::bit_cast<uint32_t>(shifted) << 23;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(p) + exponent);
}

[[gnu::always_inline]] inline float sigmoid_of(float x) {
  return 1.0F / (1.0F + exp_of(-x));
}

[[gnu::always_inline]] inline float tanh_of(float x) {
  const float size = x < 0 ? -x : x, z = x * x;
  float p = -5.70498872745e-3F;
  p = p * z + 2.06390887954e-2F;
  p = p * z - 5.37397155531e-2F;
  p = p * z + 1.33314422036e-1F;
  p = p * z - 3.33332819422e-1F;
  const float near = x + x * z * p;
  const float e = exp_of(-2.0F * size), far = (1.0F - e) / (1.0F + e);
  return size < 0.625F ? near : (x < 0 ? -far : far);
}

// Abramowitz and Stegun 7.1.26; `e` is exp(-x * x).
[[gnu::always_inline]] inline float erf_of(float x, float e) {
  const float size = x < 0 ? -x : x, t = 1.0F / (1.0F + 0.3275911F * size);
  float p = 1.061405429F;
  p = p * t - 1.453152027F;
  p = p * t + 1.421413741F;
  p = p * t - 0.284496736F;
  p = p * t + 0.254829592F;
  const float y = 1.0F - p * t * e;
  return x < 0 ? -y : y;
}

constexpr float kInverseSqrt2 = 0.70710678118654752440F;
constexpr float kInverseSqrt2Pi = 0.39894228040143267794F;

template <class Function>
void map(const float* x, float* y, size_t count, const Function& f) {
  wide([&] {
    for (size_t i = 0; i < count; ++i) y[i] = f(x[i]);
  });
}

// dx = dy * f(z), where z is the input or the output.
template <class Function>
void map_backward(const float* z, const float* dy, float* dx, size_t count, Onto onto,
                  const Function& f) {
  wide([&] {
    if (onto == Onto::kWrite) {
      for (size_t i = 0; i < count; ++i) dx[i] = dy[i] * f(z[i]);
    } else {
      for (size_t i = 0; i < count; ++i) dx[i] += dy[i] * f(z[i]);
    }
  });
}

}  // namespace

void activate(const Node& node, const float* x, float* y, size_t count) {
  const auto slope = static_cast<float>(node.slope);
  switch (node.op) {
    case Node::Op::kRelu:
      return map(x, y, count, [](float v) { return v > 0 ? v : 0.0F; });
    case Node::Op::kLeakyRelu:
      return map(x, y, count, [slope](float v) { return v > 0 ? v : slope * v; });
    case Node::Op::kTanh:
      return map(x, y, count, [](float v) { return tanh_of(v); });
    case Node::Op::kSigmoid:
      return map(x, y, count, [](float v) { return sigmoid_of(v); });
    case Node::Op::kGelu:
      return map(x, y, count, [](float v) {
        return 0.5F * v * (1.0F + erf_of(v * kInverseSqrt2, exp_of(-0.5F * v * v)));
      });
    case Node::Op::kSilu:
      return map(x, y, count, [](float v) { return v * sigmoid_of(v); });
    default:
      CHECK(false);
  }
}

void activate_backward(const Node& node, const float* x, const float* y, const float* dy, float* dx,
                       size_t count, Onto onto) {
  const auto slope = static_cast<float>(node.slope);
  switch (node.op) {
    case Node::Op::kRelu:
      return map_backward(y, dy, dx, count, onto, [](float v) { return v > 0 ? 1.0F : 0.0F; });
    case Node::Op::kLeakyRelu:
      return map_backward(y, dy, dx, count, onto,
                          [slope](float v) { return v > 0 ? 1.0F : slope; });
    case Node::Op::kTanh:
      return map_backward(y, dy, dx, count, onto, [](float v) { return 1.0F - v * v; });
    case Node::Op::kSigmoid:
      return map_backward(y, dy, dx, count, onto, [](float v) { return v * (1.0F - v); });
    case Node::Op::kGelu:
      return map_backward(x, dy, dx, count, onto, [](float v) {
        const float e = exp_of(-0.5F * v * v);
        return 0.5F * (1.0F + erf_of(v * kInverseSqrt2, e)) + v * kInverseSqrt2Pi * e;
      });
    case Node::Op::kSilu:
      return map_backward(x, dy, dx, count, onto, [](float v) {
        const float s = sigmoid_of(v);
        return s + v * s * (1.0F - s);
      });
    default:
      CHECK(false);
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
  wide([&] {
    if (onto == Onto::kWrite) {
      for (size_t i = 0; i < count; ++i) y[i] = x[i] * factors[i];
    } else {
      for (size_t i = 0; i < count; ++i) y[i] += x[i] * factors[i];
    }
  });
}

}  // namespace souk::trainer::kernels
