#include <algorithm>

#include "trainer/engine/kernels.h"
#include "trainer/engine/simd.h"

namespace souk::trainer::kernels {
namespace {

size_t pixels(const Shape3& shape) {
  return size_t{shape.height} * shape.width;
}

[[gnu::always_inline]] inline void move(const float* x, float* y, size_t count, Onto onto) {
  if (onto == Onto::kWrite) {
    for (size_t i = 0; i < count; ++i) y[i] = x[i];
  } else {
    for (size_t i = 0; i < count; ++i) y[i] += x[i];
  }
}

}  // namespace

void flatten(const Layer& layer, size_t rows, const float* x, float* y) {
  const size_t c = layer.in.channels, area = pixels(layer.in);
  for (size_t row = 0; row < rows; ++row, x += c * area, y += c * area) {
    for (size_t k = 0; k < c; ++k) {
      for (size_t p = 0; p < area; ++p) y[k * area + p] = x[p * c + k];
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
  wide([&] {
    for (size_t i = 0; i < count; ++i) y[i] = a[i] + b[i];
  });
}

void copy(const float* x, float* y, size_t count, Onto onto) {
  wide([&] { move(x, y, count, onto); });
}

void scale(float* values, size_t count, float factor) {
  wide([=] {
    for (size_t i = 0, n = count; i < n; ++i) values[i] *= factor;
  });
}

void add_bias(const float* bias, size_t width, size_t rows, float* y) {
  wide([&] {
    for (size_t row = 0; row < rows; ++row) move(bias, y + row * width, width, Onto::kAdd);
  });
}

void into_channels(const Shape3& part, const Shape3& whole, uint32_t first, size_t rows,
                   const float* x, float* y) {
  for (size_t p = 0; p < rows * pixels(whole); ++p) {
    std::copy_n(x + p * part.channels, part.channels, y + p * whole.channels + first);
  }
}

void from_channels(const Shape3& part, const Shape3& whole, uint32_t first, size_t rows,
                   const float* dy, float* dx, Onto onto) {
  wide([&] {
    for (size_t p = 0; p < rows * pixels(whole); ++p) {
      move(dy + p * whole.channels + first, dx + p * part.channels, part.channels, onto);
    }
  });
}

void embed(const Layer& layer, size_t rows, const float* example, const float* table, float* y) {
  const size_t units = layer.node.units;
  for (size_t row = 0; row < rows; ++row, example += layer.in.channels) {
    for (uint32_t column : layer.node.columns) {
      std::copy_n(table + category(example[column], layer.node.categories) * units, units, y);
      y += units;
    }
  }
}

void choose_columns(const Layer& layer, size_t rows, const float* example, float* y) {
  for (size_t row = 0; row < rows; ++row, example += layer.in.channels) {
    for (uint32_t column : layer.node.columns) *y++ = example[column];
  }
}

}  // namespace souk::trainer::kernels
