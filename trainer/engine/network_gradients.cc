// Gradients of parameters: of a shard together, or of single examples, measured and then summed.
#include <algorithm>
#include <cmath>

#include "trainer/engine/bf16.h"
#include "trainer/engine/gemm.h"
#include "trainer/engine/network_state.h"
#include "trainer/engine/sums.h"

namespace souk::trainer {

using kernels::Onto;
using Op = Node::Op;

const void* Network::State::convolution_input(NetworkWorker& w, uint32_t index,
                                              uint64_t row) const {
  const uint64_t at = row * graph.layers[index].in.count();
  if (w.x16[index].size() > 0) return w.x16[index].data() + at;
  return w.values[graph.layers[index].inputs[0]] + at;
}

const void* Network::State::convolution_gradient(NetworkWorker& w, uint32_t index,
                                                 uint64_t row) const {
  const uint64_t at = row * graph.layers[index].out.count();
  if (w.dy16[index].size() > 0) return w.dy16[index].data() + at;
  return w.gradients[index] + at;
}

// With v = (w - mean) / s: dw = (dv - mean(dv) - v mean(v dv)) / s, unit by unit.
void Network::State::through_standardization(const Layer& layer, float* gradient) const {
  const uint64_t n = layer.fan_in();
  for (uint64_t unit = 0; unit < layer.out.channels; ++unit) {
    float* g = gradient + unit * n;
    const float* v = standardized.data() + layer.weight_at + unit * n;
    double mean = 0, dot = 0;
    for (uint64_t i = 0; i < n; ++i) {
      mean += g[i];
      dot += double{g[i]} * v[i];
    }
    mean /= static_cast<double>(n);
    dot /= static_cast<double>(n);
    const double inverse = deviations[layer.weight_at + unit];
    for (uint64_t i = 0; i < n; ++i)
      g[i] = static_cast<float>((g[i] - mean - v[i] * dot) * inverse);
  }
}

// The gradient of an embedding's table over rows [first, last), exact but for one rounding.
void Network::State::table_gradient(NetworkWorker& w, uint32_t index, uint64_t first, uint64_t last,
                                    float* dweight) const {
  const Layer& layer = graph.layers[index];
  const uint64_t units = layer.node.units, in = layer.in.count();
  const float* x = w.values[layer.inputs[0]];
  const float* dy = w.gradients[index] + first * layer.out.count();
  std::fill_n(w.sums.data(), layer.weight_count, 0.0);
  for (uint64_t row = first; row < last; ++row) {
    for (uint32_t column : layer.node.columns) {
      const uint32_t category = kernels::category(x[row * in + column], layer.node.categories);
      add_to(dy, units, w.sums.data() + category * units);
      dy += units;
    }
  }
  for (uint64_t i = 0; i < layer.weight_count; ++i)
    dweight[i] = static_cast<float>(w.sums.data()[i]);
}

void Network::State::batch_gradient(NetworkWorker& w, uint32_t index, float* gradient,
                                    Onto onto) const {
  const Layer& layer = graph.layers[index];
  float* dweight = gradient + layer.weight_at;
  if (onto == Onto::kWrite) return write_batch_gradient(w, index, dweight);
  float* fresh = w.fresh.data();
  const uint64_t in = layer.in.count(), out = layer.out.count(), rows = w.rows;
  if (layer.node.op == Op::kLinear && !layer.node.standardize && adds_as_a_whole(out, in, rows)) {
    const float* dy = w.gradients[index];
    gemm('T', 'N', out, in, rows, dy, out, w.values[layer.inputs[0]], in, Onto::kAdd, dweight, in);
    if (layer.bias_count == 0) return;
    sum_rows(dy, rows, out, fresh);
    return kernels::copy(fresh, gradient + layer.bias_at, out, Onto::kAdd);
  }
  write_batch_gradient(w, index, fresh);
  kernels::copy(fresh, dweight, layer.weight_count + layer.bias_count, Onto::kAdd);
}

// Of weights, then bias, as they lie in a gradient.
void Network::State::write_batch_gradient(NetworkWorker& w, uint32_t index, float* dweight) const {
  const Layer& layer = graph.layers[index];
  float* dbias = dweight + layer.weight_count;
  const float* x = w.values[layer.inputs[0]];
  const float* dy = w.gradients[index];
  const uint64_t in = layer.in.count(), out = layer.out.count(), rows = w.rows;
  const uint64_t active = uint64_t{w.pass.examples} * settings.views;
  switch (layer.node.op) {
    case Op::kLinear:
      gemm('T', 'N', out, in, rows, dy, out, x, in, Onto::kWrite, dweight, in);
      if (layer.bias_count > 0) sum_rows(dy, rows, out, dbias);
      break;
    case Op::kConv2d: {
      bool first = true;
      convolutions[index]->in_tiles(w.rows, [&](uint32_t start, uint32_t tile) {
        float* blocked = first ? w.blocked.data() : w.partial.data();
        float* to = first ? dbias : w.spare_bias.data();
        w.runners[index]->weights(*w.stream, tile, convolution_input(w, index, start),
                                  convolution_gradient(w, index, start), blocked, to,
                                  w.scratch.data());
        if (!first) {
          kernels::copy(blocked, w.blocked.data(), convolutions[index]->blocked_count(),
                        Onto::kAdd);
          if (layer.bias_count > 0) kernels::copy(to, dbias, layer.bias_count, Onto::kAdd);
        }
        first = false;
      });
      w.runners[index]->to_plain(*w.stream, w.blocked.data(), dweight);
      break;
    }
    case Op::kEmbedding:
      table_gradient(w, index, 0, active, dweight);
      break;
    case Op::kBatchNorm:
      std::copy_n(w.own[index].data(), layer.weight_count + layer.bias_count, dweight);
      break;
    default:
      sum_rows(w.own[index].data(), active, layer.weight_count + layer.bias_count, dweight);
  }
  if (layer.node.standardize) through_standardization(layer, dweight);
}

// The gradient of one example in the model's layout.
void Network::State::example_weights(NetworkWorker& w, uint32_t index, uint32_t example,
                                     float* dweight, float* dbias) const {
  const Layer& layer = graph.layers[index];
  const uint64_t in = layer.in.count(), out = layer.out.count(), views = settings.views,
                 row = example * views;
  const float* x = w.values[layer.inputs[0]] + row * in;
  const float* dy = w.gradients[index] + row * out;
  switch (layer.node.op) {
    case Op::kLinear:
      gemm('T', 'N', out, in, views, dy, out, x, in, Onto::kWrite, dweight, in);
      if (layer.bias_count > 0) sum_rows(dy, views, out, dbias);
      break;
    case Op::kConv2d:
      w.runners[index]->weights(*w.stream, settings.views, convolution_input(w, index, row),
                                convolution_gradient(w, index, row), w.blocked.data(), dbias,
                                w.scratch.data());
      w.runners[index]->to_plain(*w.stream, w.blocked.data(), dweight);
      break;
    case Op::kEmbedding:
      table_gradient(w, index, row, row + views, dweight);
      break;
    default: {
      // Views were folded into the first by example_norms.
      const uint64_t width = layer.weight_count + layer.bias_count;
      const float* own = w.own[index].data() + row * width;
      std::copy_n(own, layer.weight_count, dweight);
      std::copy_n(own + layer.weight_count, layer.bias_count, dbias);
    }
  }
  if (layer.node.standardize) through_standardization(layer, dweight);
}

// Of what bf16 products will see. The scaled gradient is rounded once more, relative 2^-8 with
// room: by at most that part of the roughness's root.
Measured Network::State::ghost_norm_of_bf16(NetworkWorker& w, uint32_t index, uint64_t row) const {
  const Layer& layer = graph.layers[index];
  const uint64_t in = layer.in.count(), out = layer.out.count();
  float* x = w.partial.data();  // free until clipped_sum
  float* dy = x + in;
  for (uint64_t i = 0; i < in; ++i) x[i] = from_bf16(w.x16[index].data()[row * in + i]);
  for (uint64_t i = 0; i < out; ++i) dy[i] = from_bf16(w.dy16[index].data()[row * out + i]);
  Measured own = ghost_norm(layer, x, dy, w.ghost);
  const double norm = std::sqrt(own.square) + 0x1p-7 * std::sqrt(own.roughness);
  own.square = norm * norm;
  return own;
}

void Network::State::example_norms(NetworkWorker& w, uint32_t index) const {
  const Layer& layer = graph.layers[index];
  const Strategy strategy = strategies[layer.group].strategy;
  const uint64_t in = layer.in.count(), out = layer.out.count(), views = settings.views;
  const float* const x_all = w.values[layer.inputs[0]];
  const float* const dy_all = w.gradients[index];
  for (uint32_t e = 0; e < w.pass.examples; ++e) {
    const float* x = x_all + e * views * in;
    const float* dy = dy_all + e * views * out;
    Measured own;
    auto add_bias_square = [&](const float* dbias) {
      const double square = square_of(dbias, layer.bias_count);
      own.square += square;
      own.roughness += square;
    };
    switch (strategy) {
      case Strategy::kStored: {
        const uint64_t count = convolutions[index]->blocked_count();
        float* kept = w.own[index].data() + e * count;
        float* dbias = w.own_bias[index].data() + e * layer.bias_count;
        w.runners[index]->weights(*w.stream, settings.views, convolution_input(w, index, e * views),
                                  convolution_gradient(w, index, e * views), w.blocked.data(),
                                  dbias, w.scratch.data());
        own.square = own.roughness = keep(w.blocked.data(), count, kept);
        add_bias_square(dbias);
        break;
      }
      case Strategy::kExplicit: {
        float* kept = w.own[index].data() + e * layer.weight_count;
        float* dbias = w.own_bias[index].data() + e * layer.bias_count;
        example_weights(w, index, e, kept, dbias);
        own.square = own.roughness = square_of(kept, layer.weight_count);
        add_bias_square(dbias);
        break;
      }
      case Strategy::kGhost: {
        own = w.x16[index].size() > 0 ? ghost_norm_of_bf16(w, index, e)
                                      : ghost_norm(layer, x, dy, w.ghost);
        if (layer.bias_count == 0) break;
        float* dbias = w.own_bias[index].data() + e * layer.bias_count;
        sum_rows(dy, out / layer.bias_count, layer.bias_count, dbias);
        add_bias_square(dbias);
        break;
      }
      case Strategy::kGoodfellow: {
        const double bias = layer.bias_count > 0 ? 1 : 0;
        double rough = 0;
        for (uint64_t i = 0; i < views; ++i) {
          const double size = square_of(dy + i * out, out) * (square_of(x + i * in, in) + bias);
          own.square += size;
          rough += std::sqrt(size);
          for (uint64_t k = 0; k < i; ++k) {
            own.square += 2 * dot_of(dy + i * out, dy + k * out, out) *
                          (dot_of(x + i * in, x + k * in, in) + bias);
          }
        }
        own.roughness = rough * rough;
        // Views may cancel; doubles do so almost exactly.
        own.square = std::max(own.square, 0.0) + (views > 1 ? 1e-12 * own.roughness : 0.0);
        break;
      }
      case Strategy::kTable: {
        const uint64_t columns = layer.node.columns.size(), units = layer.node.units;
        auto name = [&](uint64_t i) {
          return kernels::category(x[i / columns * in + layer.node.columns[i % columns]],
                                   layer.node.categories);
        };
        double rough = 0;
        for (uint64_t i = 0; i < views * columns; ++i) {
          const double size = square_of(dy + i * units, units);
          own.square += size;
          rough += std::sqrt(size);
          for (uint64_t k = 0; k < i; ++k) {
            if (name(k) == name(i)) own.square += 2 * dot_of(dy + i * units, dy + k * units, units);
          }
        }
        own.roughness = rough * rough;
        own.square = std::max(own.square, 0.0) + 1e-12 * own.roughness;
        break;
      }
      case Strategy::kNorm: {
        const uint64_t width = layer.weight_count + layer.bias_count;
        float* first = w.own[index].data() + e * views * width;
        for (uint64_t view = 1; view < views; ++view)
          kernels::copy(first + view * width, first, width, Onto::kAdd);
        own.square = own.roughness = square_of(first, width);
        break;
      }
    }
    w.norms.square[layer.group * settings.shard + e] = own.square;
    w.norms.roughness[layer.group * settings.shard + e] = own.roughness;
  }
}

// Sums factor * gradient over the examples; leaves the layer's dy scaled where the strategy does.
void Network::State::layer_sum(NetworkWorker& w, uint32_t index, const float* factors,
                               std::span<const uint8_t> present, float* sum) const {
  const Layer& layer = graph.layers[index];
  const LayerStrategy& own = strategies[layer.group];
  const uint64_t in = layer.in.count(), out = layer.out.count(), views = settings.views,
                 examples = present.size();
  float* dweight = sum + layer.weight_at;
  float* dbias = sum + layer.bias_at;
  float* x = w.values[layer.inputs[0]];
  float* dy = w.gradients[index];
  // Whole chunks, or what there is: what has no example is zero, and not infinity times zero.
  const uint64_t padded =
      std::min<uint64_t>((examples + own.chunk - 1) / own.chunk * own.chunk, settings.shard);
  auto scale_examples = [&] {
    for (uint64_t e = 0; e < padded; ++e) {
      if (e < examples && present[e]) {
        kernels::scale(dy + e * views * out, views * out, factors[e]);
      } else {
        std::fill_n(dy + e * views * out, views * out, 0.0F);
      }
    }
  };
  auto blank_inputs = [&] {
    for (uint64_t e = 0; e < padded; ++e) {
      if (e < examples && present[e]) continue;
      std::fill_n(x + e * views * in, views * in, 0.0F);
      if (w.x16[index].size() > 0)
        std::fill_n(w.x16[index].data() + e * views * in, views * in, uint16_t{0});
    }
  };
  switch (own.strategy) {
    case Strategy::kStored:
      weighted_sum(w.own[index].data(), convolutions[index]->blocked_count(),
                   convolutions[index]->blocked_count(), factors, present, own.chunk,
                   w.blocked.data());
      w.runners[index]->to_plain(*w.stream, w.blocked.data(), dweight);
      break;
    case Strategy::kExplicit:
      weighted_sum(w.own[index].data(), layer.weight_count, layer.weight_count, factors, present,
                   own.chunk, dweight);
      break;
    case Strategy::kGhost: {
      scale_examples();
      blank_inputs();
      if (w.dy16[index].size() > 0) to_bf16(dy, w.dy16[index].data(), padded * out);
      for (uint64_t first = 0; first < padded; first += own.chunk) {
        float* to = first == 0 ? w.blocked.data() : w.partial.data();
        w.runners[index]->weights(
            *w.stream, own.chunk * settings.views, convolution_input(w, index, first),
            convolution_gradient(w, index, first), to, w.spare_bias.data(), w.scratch.data());
        if (first > 0)
          kernels::copy(to, w.blocked.data(), convolutions[index]->blocked_count(), Onto::kAdd);
      }
      w.runners[index]->to_plain(*w.stream, w.blocked.data(), dweight);
      break;
    }
    case Strategy::kGoodfellow: {
      scale_examples();
      blank_inputs();
      for (uint64_t first = 0; first < padded; first += own.chunk) {
        const uint64_t rows = std::min<uint64_t>(own.chunk, padded - first) * views;
        float* to = first == 0 ? dweight : w.partial.data();
        gemm('T', 'N', out, in, rows, dy + first * views * out, out, x + first * views * in, in,
             Onto::kWrite, to, in);
        if (first > 0) kernels::copy(to, dweight, layer.weight_count, Onto::kAdd);
      }
      if (layer.bias_count > 0) sum_rows(dy, padded * views, out, dbias);
      return;
    }
    case Strategy::kTable: {
      scale_examples();
      table_gradient(w, index, 0, examples * views, dweight);
      return;
    }
    case Strategy::kNorm: {
      const uint64_t width = layer.weight_count + layer.bias_count;
      weighted_sum(w.own[index].data(), views * width, width, factors, present, own.chunk, dweight);
      return;
    }
  }
  if (layer.bias_count > 0) {
    weighted_sum(w.own_bias[index].data(), layer.bias_count, layer.bias_count, factors, present,
                 own.chunk, dbias);
  }
}

Status Network::clipped_sum(unsigned worker, std::span<const float> factors,
                            std::span<const uint8_t> present, std::span<float> sum) {
  const State& s = *state_;
  NetworkWorker& w = state_->workers[worker];
  CHECK(s.per_example() && sum.size() == s.graph.trained && present.size() == w.pass.examples);
  CHECK(factors.size() == s.graph.trained_layers.size() * s.settings.shard);
  return at_the_door([&] {
    for (uint32_t index : s.graph.trained_layers) {
      s.layer_sum(w, index, factors.data() + s.graph.layers[index].group * s.settings.shard,
                  present, sum.data());
    }
  });
}

Status Network::example_gradient(unsigned worker, uint32_t example, std::span<float> gradient) {
  const State& s = *state_;
  NetworkWorker& w = state_->workers[worker];
  CHECK(s.per_example() && gradient.size() == s.graph.trained && example < w.pass.examples);
  return at_the_door([&] {
    for (uint32_t index : s.graph.trained_layers) {
      const Layer& layer = s.graph.layers[index];
      s.example_weights(w, index, example, gradient.data() + layer.weight_at,
                        gradient.data() + layer.bias_at);
    }
  });
}

}  // namespace souk::trainer
