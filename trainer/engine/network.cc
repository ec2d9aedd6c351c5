// Passes through a network.
#include "trainer/engine/network.h"

#include <algorithm>
#include <cmath>

#include "trainer/engine/bf16.h"
#include "trainer/engine/first_error.h"
#include "trainer/engine/gemm.h"
#include "trainer/engine/network_state.h"
#include "trainer/engine/wide_product.h"

namespace souk::trainer {

using kernels::Onto;
using Op = Node::Op;

Network::Network(std::unique_ptr<State> state) : state_(std::move(state)) {}
Network::~Network() = default;

uint32_t Network::shard() const {
  return state_->settings.shard;
}
float* Network::input(unsigned worker) {
  return state_->workers[worker].values[state_->settings.first];
}
const float* Network::outputs(unsigned worker) const {
  return state_->workers[worker].values[state_->settings.last];
}
float* Network::outputs_gradient(unsigned worker) {
  return state_->workers[worker].gradients.back();
}
const std::vector<LayerStrategy>& Network::strategies() const {
  return state_->strategies;
}

Status Network::set_parameters(std::span<const float> numbers, Workers* helpers) {
  State& s = *state_;
  CHECK(numbers.size() == s.graph.numbers);
  CHECK(!helpers || helpers->threads() <= s.workers.size());
  s.numbers = numbers;
  if (!s.standardized.empty()) s.standardize();
  auto set = [&](size_t index, unsigned worker) {
    return at_the_door([&] {
      if (!s.convolutions[index]) return;
      s.convolutions[index]->set_weights(*s.workers[worker].stream,
                                         s.weights(s.graph.layers[index]));
    });
  };
  FirstError errors;
  auto note = [&](size_t index, unsigned worker) { errors.note(set(index, worker)); };
  if (helpers) {
    helpers->run(s.graph.layers.size(), note);
  } else {
    for (size_t i = 0; i < s.graph.layers.size(); ++i) note(i, 0);
  }
  return errors.status();
}

void Network::State::standardize() {
  for (const Layer& layer : graph.layers) {
    if (!layer.node.standardize) continue;
    const uint64_t n = layer.fan_in();
    for (uint64_t unit = 0; unit < layer.out.channels; ++unit) {
      const float* w = numbers.data() + layer.weight_at + unit * n;
      double mean = 0, variance = 0;
      for (uint64_t i = 0; i < n; ++i) mean += w[i];
      mean /= static_cast<double>(n);
      for (uint64_t i = 0; i < n; ++i) variance += (w[i] - mean) * (w[i] - mean);
      const double inverse = 1 / std::sqrt(variance / static_cast<double>(n) + kStandardEpsilon);
      deviations[layer.weight_at + unit] = static_cast<float>(inverse);
      for (uint64_t i = 0; i < n; ++i) {
        standardized[layer.weight_at + unit * n + i] = static_cast<float>((w[i] - mean) * inverse);
      }
    }
  }
}

void Network::State::forward_layer(NetworkWorker& w, uint32_t index) const {
  const Layer& layer = graph.layers[index];
  const LayerPlan& p = plans[index];
  if (p.done_elsewhere) return;
  const float* x = w.values[layer.inputs[0]];
  float* y = w.values[index];
  const uint64_t in = layer.in.count(), out = layer.out.count(), rows = w.rows, count = out * rows;
  switch (layer.node.op) {
    case Op::kLinear: {
      const float* added = layer.bias_count > 0 ? bias(layer) : nullptr;
      if (suits_wide_product(rows, in, out))
        return wide_product(rows, in, out, x, weights(layer), added, y, w.products.data());
      gemm('N', 'T', rows, out, in, x, in, weights(layer), in, Onto::kWrite, y, out);
      if (added) kernels::add_bias(added, out, rows, y);
      return;
    }
    case Op::kConv2d:
      if (w.x16[index].size() > 0) to_bf16(x, w.x16[index].data(), in * rows);
      convolutions[index]->in_tiles(w.rows, [&](uint32_t first, uint32_t tile) {
        w.runners[index]->forward(*w.stream, tile, convolution_input(w, index, first), bias(layer),
                                  y + first * out, w.scratch.data());
      });
      return;
    case Op::kMaxPool:
      return kernels::max_pool(layer, rows, x, y);
    case Op::kAvgPool:
      return kernels::average_pool(layer, rows, x, y);
    case Op::kGlobalAvgPool:
      return kernels::global_average_pool(layer, rows, x, y);
    case Op::kFlatten:
      return kernels::flatten(layer, rows, x, y);
    case Op::kGroupNorm:
    case Op::kLayerNorm:
      return kernels::group_norm(layer, rows, x, weights(layer), bias(layer),
                                 {nullptr, p.rectify, p.slope}, y, w.extras[index].data(),
                                 w.norm_scratch);
    case Op::kBatchNorm: {
      float* moments = w.extras[index].data();
      if (w.pass.training && layer.trained) {
        kernels::batch_moments(layer, uint64_t{w.pass.examples} * settings.views, x, moments,
                               w.norm_scratch);
      } else {
        std::copy_n(numbers.data() + layer.running_at, layer.running_count, moments);
      }
      return kernels::batch_norm(layer, rows, x, moments, weights(layer), bias(layer), y,
                                 w.norm_scratch);
    }
    case Op::kDropout: {
      float* factors = w.extras[index].data();
      if (!w.pass.dropout) {
        std::fill_n(factors, count, 1.0F);
        if (x != y) kernels::copy(x, y, count, Onto::kWrite);
        return;
      }
      for (uint64_t row = 0; row < rows; ++row) {
        ChaCha20 random(w.pass.dropout->bytes(SecretAccess()),
                        (uint64_t{index} << 32) | (w.pass.first * settings.views + row));
        kernels::dropout_factors(layer, random, factors + row * out);
      }
      return kernels::multiply(x, factors, y, count, Onto::kWrite);
    }
    case Op::kAdd:
      if (p.norm) {
        const Layer& norm = graph.layers[*p.norm];
        const uint32_t other = layer.inputs[0] == *p.norm ? layer.inputs[1] : layer.inputs[0];
        return kernels::group_norm(norm, rows, w.values[norm.inputs[0]], weights(norm), bias(norm),
                                   {w.values[other], plans[*p.norm].rectify, plans[*p.norm].slope},
                                   y, w.extras[*p.norm].data(), w.norm_scratch);
      }
      return kernels::add(x, w.values[layer.inputs[1]], y, count);
    case Op::kConcat: {
      uint32_t channel = 0;
      for (uint32_t input : layer.inputs) {
        const Shape3& part = graph.layers[input].out;
        kernels::into_channels(part, layer.out, channel, rows, w.values[input], y);
        channel += part.channels;
      }
      return;
    }
    case Op::kScattering:
      return scatterings[index]->forward(rows, x, y, w.images.data());
    case Op::kEmbedding:
      return kernels::embed(layer, rows, x, weights(layer), y);
    case Op::kColumns:
      return kernels::choose_columns(layer, rows, x, y);
    default:
      return kernels::activate(layer.node, x, y, count);
  }
}

void Network::State::backward_layer(NetworkWorker& w, uint32_t index, float* gradient,
                                    Onto onto) const {
  const Layer& layer = graph.layers[index];
  const LayerPlan& p = plans[index];
  const float* x = w.values[layer.inputs[0]];
  const float* dy = w.gradients[index];
  float* dx = w.gradients[layer.inputs[0]];
  const uint64_t in = layer.in.count(), out = layer.out.count(), rows = w.rows, count = out * rows;
  const Onto first = p.onto[0];
  switch (layer.node.op) {
    case Op::kGroupNorm:
    case Op::kLayerNorm:
      kernels::group_norm_backward(layer, rows, x, weights(layer), w.extras[index].data(),
                                   {p.undoes ? w.values[*p.undoes] : nullptr, p.slope},
                                   w.gradients[index], dx, first, w.own[index].data(),
                                   w.norm_scratch);
      break;
    case Op::kBatchNorm:
      kernels::batch_norm_backward(layer, uint64_t{w.pass.examples} * settings.views, x,
                                   w.extras[index].data(), w.pass.training && layer.trained,
                                   weights(layer), dy, dx, first, w.own[index].data(),
                                   w.norm_scratch);
      if (dx && first == Onto::kWrite) {
        const uint64_t active = uint64_t{w.pass.examples} * settings.views;
        std::fill_n(dx + active * in, (rows - active) * in, 0.0F);
      }
      break;
    case Op::kConv2d:
      if (w.dy16[index].size() > 0) to_bf16(dy, w.dy16[index].data(), count);
      break;
    default:
      break;
  }
  if (layer.trained) {
    if (per_example()) {
      example_norms(w, index);
    } else {
      batch_gradient(w, index, gradient, onto);
    }
  }
  auto wanted = [&](uint32_t input) { return w.gradients[input] != nullptr; };
  if (layer.inputs.size() == 1 && !dx) return;
  switch (layer.node.op) {
    case Op::kLinear:
      gemm('N', 'N', rows, in, out, dy, out, weights(layer), in, first, dx, in);
      break;
    case Op::kConv2d: {
      float* target = first == Onto::kAdd ? w.spare.data() : dx;
      convolutions[index]->in_tiles(w.rows, [&](uint32_t start, uint32_t tile) {
        w.runners[index]->backward_data(*w.stream, tile, convolution_gradient(w, index, start),
                                        target + start * in, w.scratch.data());
      });
      if (first == Onto::kAdd) kernels::copy(target, dx, in * rows, Onto::kAdd);
      break;
    }
    case Op::kMaxPool:
      kernels::max_pool_backward(
          layer, rows, x, w.values[index], dy, dx, first,
          p.undoes ? std::optional(slope_of(graph.layers[*p.undoes].node)) : std::nullopt);
      break;
    case Op::kAvgPool:
      kernels::average_pool_backward(layer, rows, dy, dx, first);
      break;
    case Op::kGlobalAvgPool:
      kernels::global_average_pool_backward(layer, rows, dy, dx, first);
      break;
    case Op::kFlatten:
      kernels::flatten_backward(layer, rows, dy, dx, first);
      break;
    case Op::kGroupNorm:
    case Op::kLayerNorm:
    case Op::kBatchNorm:
      break;
    case Op::kDropout:
      kernels::multiply(dy, w.extras[index].data(), dx, count, first);
      break;
    case Op::kAdd:
      for (size_t i = 0; i < layer.inputs.size(); ++i) {
        const uint32_t input = layer.inputs[i];
        if (!wanted(input) || w.gradients[input] == dy) continue;
        if (!p.waits[i]) kernels::copy(dy, w.gradients[input], count, p.onto[i]);
      }
      return;
    case Op::kConcat: {
      uint32_t channel = 0;
      for (size_t i = 0; i < layer.inputs.size(); ++i) {
        const Shape3& part = graph.layers[layer.inputs[i]].out;
        if (wanted(layer.inputs[i])) {
          kernels::from_channels(part, layer.out, channel, rows, dy, w.gradients[layer.inputs[i]],
                                 p.onto[i]);
        }
        channel += part.channels;
      }
      break;
    }
    case Op::kEmbedding:
    case Op::kColumns:
      return;
    default:
      if (p.undone_elsewhere) break;
      kernels::activate_backward(layer.node, x, w.values[index], dy, dx, count, first);
  }
  for (uint32_t sum : p.deferred) kernels::copy(w.gradients[sum], dx, in * rows, Onto::kAdd);
}

void Network::State::backward_all(NetworkWorker& w, float* gradient, Onto onto) const {
  const uint64_t active = uint64_t{w.pass.examples} * settings.views;
  std::fill_n(w.gradients.back() + active * graph.outputs, (w.rows - active) * graph.outputs, 0.0F);
  for (auto i = static_cast<uint32_t>(graph.layers.size() - 1); i >= 1; --i) {
    if (graph.layers[i].depends_on_trained) backward_layer(w, i, gradient, onto);
  }
}

Status Network::forward(unsigned worker, const Pass& pass) {
  const State& s = *state_;
  NetworkWorker& w = state_->workers[worker];
  CHECK(pass.examples >= 1 && pass.examples <= s.settings.shard);
  w.pass = pass;
  const uint32_t active = pass.examples * s.settings.views;
  w.rows = active + s.small_rows > s.all_rows()
               ? s.all_rows()
               : (active + s.small_rows - 1) / s.small_rows * s.small_rows;
  const uint64_t numbers = s.graph.layers[s.settings.first].out.count();
  std::fill_n(w.values[s.settings.first] + active * numbers, (w.rows - active) * numbers, 0.0F);
  return at_the_door([&] {
    for (uint32_t i = s.settings.first + 1; i <= s.settings.last; ++i) s.forward_layer(w, i);
  });
}

Status Network::backward(unsigned worker, std::span<float> gradient, Onto onto) {
  const State& s = *state_;
  CHECK(s.settings.gradients == Gradients::kBatch && gradient.size() == s.graph.trained);
  CHECK(onto == Onto::kWrite || s.settings.workers == 1);
  return at_the_door([&] { s.backward_all(state_->workers[worker], gradient.data(), onto); });
}

Status Network::backward(unsigned worker) {
  const State& s = *state_;
  CHECK(s.per_example());
  return at_the_door([&] { s.backward_all(state_->workers[worker], nullptr, Onto::kWrite); });
}

void Network::copy_statistics(unsigned worker, std::span<float> statistics) const {
  const State& s = *state_;
  const NetworkWorker& w = s.workers[worker];
  CHECK(statistics.size() == s.graph.numbers - s.graph.parameters);
  for (uint32_t i = 1; i < s.graph.layers.size(); ++i) {
    const Layer& layer = s.graph.layers[i];
    if (layer.running_count == 0) continue;
    const double n =
        static_cast<double>(w.pass.examples) * s.settings.views * layer.in.height * layer.in.width;
    const auto unbiased = static_cast<float>(layer.trained && n > 1 ? n / (n - 1) : 1.0);
    float* to = statistics.data() + (layer.running_at - s.graph.parameters);
    const float* moments = w.extras[i].data();
    for (uint64_t k = 0; k < layer.running_count; ++k)
      to[k] = moments[k] * (k < layer.running_count / 2 ? 1.0F : unbiased);
  }
}

const ExampleNorms& Network::norms(unsigned worker) const {
  return state_->workers[worker].norms;
}

}  // namespace souk::trainer
