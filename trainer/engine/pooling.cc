#include <algorithm>

#include "trainer/engine/kernels.h"
#include "trainer/engine/simd.h"

namespace souk::trainer::kernels {
namespace {

size_t pixels(const Shape3& shape) {
  return size_t{shape.height} * shape.width;
}

// The input rows or columns [first, last) under output `o`.
struct Range {
  size_t first, last;
};
Range reach(const Node& node, size_t o, uint32_t size) {
  size_t start = o * node.stride,
         end = std::min<size_t>(start + node.kernel, size_t{size} + node.padding);
  return {start > node.padding ? start - node.padding : 0, end - node.padding};
}

// Calls visit(output pixel, y range, x range) for every window of a pooling layer.
template <class Visit>
[[gnu::always_inline]] inline void windows(const Layer& layer, const Visit& visit) {
  for (size_t oy = 0; oy < layer.out.height; ++oy) {
    Range y = reach(layer.node, oy, layer.in.height);
    for (size_t ox = 0; ox < layer.out.width; ++ox) {
      visit(oy * layer.out.width + ox, y, reach(layer.node, ox, layer.in.width));
    }
  }
}

}  // namespace

void max_pool(const Layer& layer, size_t rows, const float* x, float* y) {
  const size_t c = layer.in.channels, width = layer.in.width;
  wide([&] {
    const float* image = x;
    float* out = y;
    for (size_t row = 0; row < rows; ++row, image += layer.in.count(), out += layer.out.count()) {
      windows(layer, [&](size_t o, Range ys, Range xs) {
        float* best = out + o * c;
        const float* first = image + (ys.first * width + xs.first) * c;
        for (size_t k = 0; k < c; ++k) best[k] = first[k];
        for (size_t iy = ys.first; iy < ys.last; ++iy) {
          for (size_t ix = xs.first; ix < xs.last; ++ix) {
            const float* in = image + (iy * width + ix) * c;
            for (size_t k = 0; k < c; ++k) best[k] = in[k] > best[k] ? in[k] : best[k];
          }
        }
      });
    }
  });
}

void max_pool_backward(const Layer& layer, size_t rows, const float* x, const float* y,
                       const float* dy, float* dx, Onto onto, std::optional<float> before) {
  const float slope = before.value_or(1.0F);
  constexpr size_t kBlock = 64;
  const size_t c = layer.in.channels, kernel = layer.node.kernel, width = layer.in.width;
  wide([&] {
    // Where windows tile the image, every pixel is written once.
    const bool tiled = layer.node.stride == kernel &&
                       layer.in.height == layer.out.height * kernel &&
                       width == layer.out.width * kernel;
    const bool write = tiled && onto == Onto::kWrite;
    if (onto == Onto::kWrite && !write) {
      for (size_t i = 0; i < rows * layer.in.count(); ++i) dx[i] = 0;
    }
    const float* image = x;
    const float* maxima = y;
    const float* d = dy;
    float* to_image = dx;
    float rest[kBlock];
    for (size_t row = 0; row < rows; ++row) {
      windows(layer, [&](size_t o, Range ys, Range xs) {
        for (size_t start = 0; start < c; start += kBlock) {
          const size_t n = c - start < kBlock ? c - start : kBlock;
          const float* best = maxima + o * c + start;
          // What the maximum's first pixel takes, nobody after it gets.
          // A rectified maximum is positive exactly where it was so before.
          for (size_t k = 0; k < n; ++k)
            rest[k] = d[o * c + start + k] * (best[k] > 0 ? 1.0F : slope);
          for (size_t iy = ys.first; iy < ys.last; ++iy) {
            for (size_t ix = xs.first; ix < xs.last; ++ix) {
              const size_t at = (iy * width + ix) * c + start;
              const float* in = image + at;
              float* to = to_image + at;
              if (write) {
                for (size_t k = 0; k < n; ++k) {
                  const bool wins = in[k] == best[k];
                  to[k] = wins ? rest[k] : 0.0F;
                  rest[k] = wins ? 0.0F : rest[k];
                }
              } else {
                for (size_t k = 0; k < n; ++k) {
                  const bool wins = in[k] == best[k];
                  to[k] += wins ? rest[k] : 0.0F;
                  rest[k] = wins ? 0.0F : rest[k];
                }
              }
            }
          }
        }
      });
      image += layer.in.count();
      to_image += layer.in.count();
      maxima += layer.out.count();
      d += layer.out.count();
    }
  });
}

void average_pool(const Layer& layer, size_t rows, const float* x, float* y) {
  const size_t c = layer.in.channels;
  wide([&] {
    const float* image = x;
    float* whole = y;
    for (size_t row = 0; row < rows; ++row, image += layer.in.count(), whole += layer.out.count()) {
      windows(layer, [&](size_t o, Range ys, Range xs) {
        float* out = whole + o * c;
        for (size_t k = 0; k < c; ++k) out[k] = 0;
        for (size_t iy = ys.first; iy < ys.last; ++iy) {
          for (size_t ix = xs.first; ix < xs.last; ++ix) {
            const float* in = image + (iy * layer.in.width + ix) * c;
            for (size_t k = 0; k < c; ++k) out[k] += in[k];
          }
        }
        const float share = 1.0F / static_cast<float>((ys.last - ys.first) * (xs.last - xs.first));
        for (size_t k = 0; k < c; ++k) out[k] *= share;
      });
    }
  });
}

void average_pool_backward(const Layer& layer, size_t rows, const float* dy, float* dx, Onto onto) {
  const size_t c = layer.in.channels;
  wide([&] {
    if (onto == Onto::kWrite) {
      for (size_t i = 0; i < rows * layer.in.count(); ++i) dx[i] = 0;
    }
    float* image = dx;
    const float* whole = dy;
    for (size_t row = 0; row < rows; ++row, image += layer.in.count(), whole += layer.out.count()) {
      windows(layer, [&](size_t o, Range ys, Range xs) {
        const float share = 1.0F / static_cast<float>((ys.last - ys.first) * (xs.last - xs.first));
        for (size_t iy = ys.first; iy < ys.last; ++iy) {
          for (size_t ix = xs.first; ix < xs.last; ++ix) {
            float* in = image + (iy * layer.in.width + ix) * c;
            for (size_t k = 0; k < c; ++k) in[k] += whole[o * c + k] * share;
          }
        }
      });
    }
  });
}

void global_average_pool(const Layer& layer, size_t rows, const float* x, float* y) {
  const size_t c = layer.in.channels, area = pixels(layer.in);
  wide([&] {
    for (size_t row = 0; row < rows; ++row) {
      const float* in = x + row * c * area;
      float* out = y + row * c;
      for (size_t k = 0; k < c; ++k) out[k] = 0;
      for (size_t p = 0; p < area; ++p, in += c) {
        for (size_t k = 0; k < c; ++k) out[k] += in[k];
      }
      for (size_t k = 0; k < c; ++k) out[k] /= static_cast<float>(area);
    }
  });
}

void global_average_pool_backward(const Layer& layer, size_t rows, const float* dy, float* dx,
                                  Onto onto) {
  const size_t c = layer.in.channels, area = pixels(layer.in);
  const float share = 1.0F / static_cast<float>(area);
  wide([&] {
    for (size_t row = 0; row < rows; ++row) {
      const float* d = dy + row * c;
      float* to = dx + row * c * area;
      for (size_t p = 0; p < area; ++p, to += c) {
        if (onto == Onto::kWrite) {
          for (size_t k = 0; k < c; ++k) to[k] = d[k] * share;
        } else {
          for (size_t k = 0; k < c; ++k) to[k] += d[k] * share;
        }
      }
    }
  });
}

}  // namespace souk::trainer::kernels
