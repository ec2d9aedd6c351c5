#include "trainer/engine/winograd.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "trainer/engine/narrow_product.h"
#include "trainer/engine/simd.h"

// Vectors are passed between inlined functions only.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace souk::trainer {
namespace {

using Vector = float __attribute__((vector_size(64)));
using Words = uint32_t __attribute__((vector_size(64)));
using Halves = uint16_t __attribute__((vector_size(32)));
using Md = dnnl::memory::desc;
using Type = dnnl::memory::data_type;

#define SOUK_INLINE [[gnu::always_inline]] inline

constexpr uint32_t kTile = 4, kReach = 6, kPlaces = kReach * kReach, kLanes = 16;

SOUK_INLINE Vector load(const float* from) {
  Vector v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}
SOUK_INLINE void store(const Vector& v, float* to) {
  std::memcpy(to, &v, sizeof(v));
}
// Numbers in bf16; rounded as bf16.h does it.
SOUK_INLINE Vector load(const uint16_t* from) {
  Halves halves;
  std::memcpy(&halves, from, sizeof(halves));
  return std::bit_cast<Vector>(__builtin_convertvector(halves, Words) << 16);
}
SOUK_INLINE void store(const Vector& v, uint16_t* to) {
  const Words bits = std::bit_cast<Words>(v);
  const Words rounded = bits + 0x7fff + ((bits >> 16) & 1);
  const Words chosen = (bits & 0x7fffffff) > 0x7f800000 ? bits | 0x00400000 : rounded;
  const Halves halves = __builtin_convertvector(chosen >> 16, Halves);
  std::memcpy(to, &halves, sizeof(halves));
}

// The three transforms in one direction, for interpolation at 0, a, -a, b, -b and infinity. With
// a = 5/8, b = 3/2 results err by half as much as with the usual 1 and 2: 2.3 times as much as sums
// of products do (128 channels).
constexpr float kA = 0.625F, kB = 1.5F, kA2 = kA * kA, kB2 = kB * kB;
constexpr double kOfA = 1 / (2.0 * kA2 * (kA2 - kB2)), kOfB = 1 / (2.0 * kB2 * (kB2 - kA2));

template <class V>
SOUK_INLINE void spread_line(const V* d, V* to) {
  const V p = d[4] - kB2 * d[2], q = kA * (d[3] - kB2 * d[1]), r = d[4] - kA2 * d[2],
          s = kB * (d[3] - kA2 * d[1]);
  to[0] = (kA2 * kB2) * d[0] - (kA2 + kB2) * d[2] + d[4];
  to[1] = p + q;
  to[2] = p - q;
  to[3] = r + s;
  to[4] = r - s;
  to[5] = (kA2 * kB2) * d[1] - (kA2 + kB2) * d[3] + d[5];
}
template <class V>
SOUK_INLINE void weight_line(const V& g0, const V& g1, const V& g2, V* to) {
  constexpr auto f = [](double v) { return static_cast<float>(v); };
  const V p = g0 * f(kOfA) + g2 * f(kOfA * kA2), q = g1 * f(kOfA * kA);
  const V r = g0 * f(kOfB) + g2 * f(kOfB * kB2), s = g1 * f(kOfB * kB);
  to[0] = g0 * f(1 / (1.0 * kA2 * kB2));
  to[1] = p + q;
  to[2] = p - q;
  to[3] = r + s;
  to[4] = r - s;
  to[5] = g2;
}
template <class V>
SOUK_INLINE void gather_line(const V* m, V* to) {
  const V p = m[1] + m[2], q = m[1] - m[2], r = m[3] + m[4], s = m[3] - m[4];
  to[0] = m[0] + p + r;
  to[1] = kA * q + kB * s;
  to[2] = kA2 * p + kB2 * r;
  to[3] = (kA2 * kA) * q + (kB2 * kB) * s + m[5];
}

// From one matrix of a row of 36 to the next: a cache line more than it needs, or all 36 would meet
// in the same few lines of the first cache.
constexpr uint64_t stride_of(uint64_t rows, uint64_t columns) {
  return rows * columns + kLanes;
}

// Products in bf16 take half the time of those in f32, and the transforms the same.
constexpr uint32_t kWideInBf16 = 64;

uint32_t tiles_of(uint32_t size) {
  return (size + kTile - 1) / kTile;
}

// Bytes, so that what follows begins a cache line.
size_t padded(const Md& md) {
  return (md.get_size() + 63) / 64 * 64;
}

// 36 matrices.
Md matrices(uint64_t rows, uint64_t columns, Type type = Type::f32) {
  auto d = [](uint64_t v) { return static_cast<int64_t>(v); };
  using Dims = dnnl::memory::dims;
  return Md(Dims{kPlaces, d(rows), d(columns)}, type,
            Dims{d(stride_of(rows, columns)), d(columns), 1});
}

void check(dnnl_status_t status) {
  if (status != dnnl_success) throw dnnl::error(status, "product of tiles");
}
void point(const dnnl::memory& memory, const void* data) {
  check(dnnl_memory_set_data_handle(memory.get(), const_cast<void*>(data)));
}

}  // namespace

bool Winograd::suits(const Layer& layer, bool bf16) {
  const Node& node = layer.node;
  const auto isa = static_cast<unsigned>(dnnl_get_effective_cpu_isa());
  auto has = [&](unsigned set) { return (isa & set) == set; };
  if (!has(dnnl_cpu_isa_avx512_core)) return false;
  if (bf16 && (has(dnnl_cpu_isa_avx512_core_amx) ||
               std::min(layer.in.channels, layer.out.channels) < kWideInBf16))
    return false;
  const double pixels = double{1} * layer.in.height * layer.in.width,
               tiles = double{1} * tiles_of(layer.in.height) * tiles_of(layer.in.width);
  return node.kernel == 3 && node.stride == 1 && node.padding == 1 && node.groups == 1 &&
         layer.in.channels % kLanes == 0 && layer.out.channels % kLanes == 0 &&
         kPlaces * tiles <= 0.6 * 9 * pixels;
}

Winograd::Winograd(const dnnl::engine& engine, const Layer& layer, Way way, uint32_t rows,
                   uint32_t small_rows, bool bf16)
    : way_(way),
      bf16_(bf16),
      height_(layer.in.height),
      width_(layer.in.width),
      down_(tiles_of(height_)),
      right_(tiles_of(width_)),
      in_(way == Way::kForward ? layer.in.channels : layer.out.channels),
      out_(way == Way::kForward ? layer.out.channels : layer.in.channels),
      weights_(matrices(in_, out_), engine) {
  constexpr uint64_t kMost = 128;  // more would not stay in the second cache
  const Type type = bf16 ? Type::bf16 : Type::f32;
  Md weights = bf16 ? Md(weights_.get_desc().dims(), type, dnnl::memory::format_tag::any)
                    : weights_.get_desc();
  const uint64_t each = uint64_t{down_} * right_;
  for (uint64_t tiles : {std::min(kMost, rows * each), std::min(kMost, small_rows * each)}) {
    if (!chunks_.empty() && chunks_.front().tiles == tiles) continue;
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    Chunk chunk{tiles, matrices(tiles, in_, type), matrices(tiles, out_), {}, {}};
    dnnl::matmul::primitive_desc pd({chunk.spread, weights, chunk.products}, attr, engine);
    weights = pd.weights_desc();  // the first decides
    chunk.product = dnnl::matmul(pd);
    chunk.scratch = pd.scratchpad_desc();
    chunks_.push_back(chunk);
  }
  if (!bf16) {
    product_weights_ = weights_;
    return;
  }
  product_weights_ = dnnl::memory(weights, engine);
  to_product_ = dnnl::reorder(weights_, product_weights_);
}

size_t Winograd::scratch_bytes() const {
  size_t most = 0;
  for (const Chunk& c : chunks_)
    most = std::max(most, padded(c.spread) + padded(c.products) + c.scratch.get_size());
  return most;
}

// On the way back the windows are turned round, and what went in comes out.
void Winograd::set_weights(dnnl::stream& stream, const float* weights) {
  auto* to = static_cast<float*>(weights_.get_data_handle());
  const uint64_t in = in_, out = out_;
  const uint64_t place = stride_of(in, out);
  const bool back = way_ == Way::kBackward;
  wide([=] {
    for (uint64_t i = 0; i < in; ++i) {
      for (uint64_t first = 0; first < out; first += kLanes) {
        alignas(64) float own[9][kLanes];
        for (uint64_t lane = 0; lane < kLanes; ++lane) {
          const uint64_t o = first + lane;
          const float* window = weights + 9 * (back ? i * out + o : o * in + i);
          for (uint64_t k = 0; k < 9; ++k) own[k][lane] = window[back ? 8 - k : k];
        }
        Vector half[3][kReach];
        for (size_t column = 0; column < 3; ++column)
          weight_line(load(own[column]), load(own[3 + column]), load(own[6 + column]),
                      half[column]);
        for (size_t row = 0; row < kReach; ++row) {
          Vector line[kReach];
          weight_line(half[0][row], half[1][row], half[2][row], line);
          for (size_t column = 0; column < kReach; ++column)
            store(line[column], to + (kReach * row + column) * place + i * out + first);
        }
      }
    }
  });
  if (!bf16_) return;
  const dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, weights_.get()},
                                   {DNNL_ARG_TO, product_weights_.get()}};
  check(dnnl_primitive_execute(to_product_.get(), stream.get(), 2, args));
  check(dnnl_stream_wait(stream.get()));
}

// Tiles [first, last), with the pixels around them; outside of the image there are zeros.
template <class Number>
void Winograd::spread(const Number* images, uint64_t first, uint64_t last, uint64_t place,
                      Number* tiles) const {
  const int64_t height = height_, width = width_, channels = in_;
  const uint64_t down = down_, right = right_;
  wide([=] {
    for (uint64_t tile = first; tile < last; ++tile) {
      const Number* image =
          images + static_cast<int64_t>(tile / (down * right)) * height * width * channels;
      const int64_t top = static_cast<int64_t>(tile / right % down) * kTile - 1,
                    left = static_cast<int64_t>(tile % right) * kTile - 1;
      Number* to = tiles + (tile - first) * static_cast<uint64_t>(channels);
      for (int64_t channel = 0; channel < channels; channel += kLanes, to += kLanes) {
        Vector half[kReach][kReach];  // by column
        for (int64_t column = 0; column < kReach; ++column) {
          Vector line[kReach];
          const int64_t x = left + column;
          for (int64_t row = 0; row < kReach; ++row) {
            const int64_t y = top + row;
            const bool inside = x >= 0 && x < width && y >= 0 && y < height;
            line[row] = inside ? load(image + (y * width + x) * channels + channel) : Vector{};
          }
          spread_line(line, half[column]);
        }
        for (size_t row = 0; row < kReach; ++row) {
          Vector line[kReach], done[kReach];
          for (size_t column = 0; column < kReach; ++column) line[column] = half[column][row];
          spread_line(line, done);
          for (size_t column = 0; column < kReach; ++column)
            store(done[column], to + (kReach * row + column) * place);
        }
      }
    }
  });
}

void Winograd::gather(const float* products, uint64_t first, uint64_t last, uint64_t place,
                      const End& end, float* images) const {
  const uint64_t height = height_, width = width_, channels = out_, down = down_, right = right_;
  const float* const bias = end.bias;
  const bool rectify = end.rectify;
  const float slope = end.slope;
  wide([=] {
    for (uint64_t tile = first; tile < last; ++tile) {
      float* image = images + tile / (down * right) * height * width * channels;
      const uint64_t top = tile / right % down * kTile, left = tile % right * kTile;
      const float* from = products + (tile - first) * channels;
      for (uint64_t channel = 0; channel < channels; channel += kLanes, from += kLanes) {
        Vector half[kReach][kTile];  // by column
        for (size_t column = 0; column < kReach; ++column) {
          Vector line[kReach];
          for (size_t row = 0; row < kReach; ++row)
            line[row] = load(from + (kReach * row + column) * place);
          gather_line(line, half[column]);
        }
        const Vector added = bias ? load(bias + channel) : Vector{};
        for (uint64_t row = 0; row < kTile && top + row < height; ++row) {
          Vector line[kReach], done[kTile];
          for (size_t column = 0; column < kReach; ++column) line[column] = half[column][row];
          gather_line(line, done);
          float* to = image + ((top + row) * width + left) * channels + channel;
          for (uint64_t column = 0; column < kTile && left + column < width; ++column) {
            Vector v = done[column] + added;
            if (rectify) v = v > 0 ? v : v * slope;
            store(v, to + column * channels);
          }
        }
      }
    }
  });
}

// The 36 products where they are small, to the bit as oneDNN makes them. False, with nothing done,
// where they are not.
bool Winograd::narrow_products(uint64_t tiles, const void* spread, void* products) const {
  if (bf16_) return false;
  const auto* from = static_cast<const float*>(spread);
  const auto* weights = static_cast<const float*>(weights_.get_data_handle());
  auto* to = static_cast<float*>(products);
  for (uint64_t place = 0; place < kPlaces; ++place) {
    if (!narrow_product('N', 'N', tiles, out_, in_, from + place * stride_of(tiles, in_), in_,
                        weights + place * stride_of(in_, out_), out_, kernels::Onto::kWrite,
                        to + place * stride_of(tiles, out_), out_))
      return false;
  }
  return true;
}

Winograd::Runner::Runner(const dnnl::engine& engine, const Winograd& of) : of_(of) {
  for (const Chunk& c : of.chunks_) {
    memories_.push_back({dnnl::memory(c.spread, engine, DNNL_MEMORY_NONE),
                         dnnl::memory(c.products, engine, DNNL_MEMORY_NONE),
                         dnnl::memory(c.scratch, engine, DNNL_MEMORY_NONE)});
  }
}

void Winograd::Runner::run(dnnl::stream& stream, uint32_t rows, const void* from, const End& end,
                           float* to, void* scratch) {
  const uint64_t all = uint64_t{rows} * of_.down_ * of_.right_;
  for (uint64_t first = 0; first < all;) {
    const size_t index = all - first < of_.chunks_.front().tiles ? of_.chunks_.size() - 1 : 0;
    const Chunk& chunk = of_.chunks_[index];
    const Memories& m = memories_[index];
    const uint64_t last = std::min(all, first + chunk.tiles);
    auto* spread = static_cast<uint8_t*>(scratch);
    uint8_t* products = spread + padded(chunk.spread);
    point(m.spread, spread);
    point(m.products, products);
    point(m.scratch, products + padded(chunk.products));
    auto spread_from = [&](auto number) {
      using Number = decltype(number);
      of_.spread(static_cast<const Number*>(from), first, last, stride_of(chunk.tiles, of_.in_),
                 reinterpret_cast<Number*>(spread));
    };
    of_.bf16_ ? spread_from(uint16_t{}) : spread_from(float{});
    if (!of_.narrow_products(chunk.tiles, spread, products)) {
      const dnnl_exec_arg_t args[4] = {{DNNL_ARG_SRC, m.spread.get()},
                                       {DNNL_ARG_WEIGHTS, of_.product_weights_.get()},
                                       {DNNL_ARG_DST, m.products.get()},
                                       {DNNL_ARG_SCRATCHPAD, m.scratch.get()}};
      check(dnnl_primitive_execute(chunk.product.get(), stream.get(), 4, args));
      check(dnnl_stream_wait(stream.get()));
    }
    of_.gather(reinterpret_cast<const float*>(products), first, last,
               stride_of(chunk.tiles, of_.out_), end, to);
    first = last;
  }
}

}  // namespace souk::trainer
