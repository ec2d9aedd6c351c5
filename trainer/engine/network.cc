#include "trainer/engine/network.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include <dnnl.h>

#include "trainer/engine/bf16.h"
#include "trainer/engine/engine.h"
#include "trainer/engine/gemm.h"
#include "trainer/engine/network_state.h"

// libgomp, which oneDNN was built with; declared here because <omp.h> needs -fopenmp.
extern "C" void omp_set_num_threads(int);

namespace souk::trainer {

using kernels::Onto;
using Op = Node::Op;

namespace {

constexpr uint64_t kMaxFloats = uint64_t{1} << 33;  // of activations, for one worker

// Whether `op` can work where its input lies: its derivative needs no input, or no value at all.
bool works_in_place(Op op) {
  return op == Op::kRelu || op == Op::kLeakyRelu || op == Op::kTanh || op == Op::kSigmoid ||
         op == Op::kDropout;
}
// Whether the backward of `op` looks at its own output.
bool looks_at_output(Op op) {
  return op == Op::kRelu || op == Op::kLeakyRelu || op == Op::kTanh || op == Op::kSigmoid ||
         op == Op::kMaxPool;
}
bool is_rectifier(Op op) {
  return op == Op::kRelu || op == Op::kLeakyRelu;
}
float slope_of(const Node& node) {
  return node.op == Op::kLeakyRelu ? static_cast<float>(node.slope) : 0.0F;
}

}  // namespace

void stay_on_this_thread() {
  omp_set_num_threads(1);
}

void configure_libraries() {
  static std::once_flag once;
  std::call_once(once, [] {
    // Whatever ONEDNN_* or DNNL_* said. The instruction set and the hints can be set before
    // first use only; a process that used oneDNN before keeps its own choice.
    (void)dnnl_set_max_cpu_isa(dnnl_cpu_isa_all);
    (void)dnnl_set_cpu_isa_hints(dnnl_cpu_isa_no_hints);
    (void)dnnl_set_default_fpmath_mode(dnnl_fpmath_mode_strict);
    (void)dnnl_set_verbose(0);
    (void)dnnl_set_jit_dump(0);
    (void)dnnl_set_jit_profiling_flags(DNNL_JIT_PROFILE_NONE);
    (void)dnnl_set_primitive_cache_capacity(1024);
  });
}

bool has_bf16() {
  configure_libraries();
  const auto isa = dnnl_get_effective_cpu_isa();
  return (isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
}

std::string isa_name() {
  configure_libraries();
  switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_avx512_core_amx:
      return "AVX512-AMX";
    case dnnl_cpu_isa_avx512_core_bf16:
      return "AVX512-BF16";
    case dnnl_cpu_isa_avx512_core_vnni:
      return "AVX512-VNNI";
    case dnnl_cpu_isa_avx512_core:
      return "AVX512";
    case dnnl_cpu_isa_avx2_vnni:
      return "AVX2-VNNI";
    case dnnl_cpu_isa_avx2:
      return "AVX2";
    case dnnl_cpu_isa_avx:
      return "AVX";
    case dnnl_cpu_isa_sse41:
      return "SSE4.1";
    default:
      return "plain";
  }
}

// Buffers, fusions, and in which order gradients meet.
void Network::State::plan() {
  const auto& layers = graph.layers;
  std::vector<std::vector<uint32_t>> readers(layers.size());
  for (uint32_t i = 1; i < layers.size(); ++i) {
    for (uint32_t input : layers[i].inputs) readers[input].push_back(i);
  }
  plans.assign(layers.size(), {});
  for (uint32_t i = 0; i < layers.size(); ++i) plans[i].value_root = i;
  auto alone = [&](uint32_t value) { return value != 0 && readers[value].size() == 1; };
  for (uint32_t i = 1; i < layers.size(); ++i) {
    const Layer& layer = layers[i];
    const uint32_t from = layer.inputs[0];
    LayerPlan& p = plans[i];
    if (layer.node.op == Op::kAdd) {
      // norm + residual: one pass, at the sum's place. The residual is there by then.
      for (size_t k = 0; k < 2 && !p.norm; ++k) {
        const uint32_t norm = layer.inputs[k];
        if (!is_group_norm(layers[norm].node.op) || !alone(norm)) continue;
        p.norm = norm;
        plans[norm].done_elsewhere = true;
        p.value_root = plans[norm].value_root;
      }
    }
    if (!works_in_place(layer.node.op) || !alone(from) || looks_at_output(layers[from].node.op))
      continue;
    p.value_root = plans[from].value_root;
    if (!is_rectifier(layer.node.op) ||
        (layer.node.op == Op::kLeakyRelu && !(layer.node.slope >= 0)))
      continue;
    if (layers[from].node.op == Op::kConv2d) p.done_elsewhere = true;
    std::optional<uint32_t> norm = plans[from].norm;
    if (is_group_norm(layers[from].node.op)) norm = from;
    if (norm) {
      plans[*norm].rectify = true;
      plans[*norm].slope = slope_of(layer.node);
      p.done_elsewhere = true;
      // Behind a sum, the gradient after the rectifier is somebody else's too.
      if (from == *norm) {
        plans[from].undoes = i;
        p.undone_elsewhere = true;
      }
    }
  }
  for (uint32_t i = 1; i < layers.size(); ++i) {
    const uint32_t from = layers[i].inputs[0];
    if (layers[i].node.op != Op::kMaxPool || !alone(from) || !is_rectifier(layers[from].node.op) ||
        slope_of(layers[from].node) < 0 || plans[from].undone_elsewhere ||
        plans[from].value_root == from)
      continue;
    plans[i].undoes = from;
    plans[from].undone_elsewhere = true;
  }
  // The last layer to read a value is the first to meet its gradient. A sum only passes its own
  // gradient on: it waits for a layer that writes, and is added to what that wrote.
  std::vector<bool> written(layers.size(), false);
  std::vector<uint32_t> waiting(layers.size(), 0);
  for (auto i = static_cast<uint32_t>(layers.size() - 1); i >= 1; --i) {
    const Layer& layer = layers[i];
    LayerPlan& p = plans[i];
    for (size_t k = 0; k < layer.inputs.size(); ++k) {
      const uint32_t input = layer.inputs[k];
      const auto& all = readers[input];
      const auto place = std::lower_bound(all.begin(), all.end(), i);
      bool wait = layer.node.op == Op::kAdd && layer.inputs[0] != layer.inputs[1] &&
                  !written[input] && waiting[input] == 0 && place != all.begin() && p.norm != input;
      if (wait) {
        const Layer& next = layers[*(place - 1)];
        wait = next.node.op != Op::kAdd && next.inputs[0] == input;
      }
      p.waits.push_back(wait);
      p.onto.push_back(written[input] ? Onto::kAdd : Onto::kWrite);
      if (wait) {
        waiting[input] = i;
        continue;
      }
      written[input] = true;
      if (waiting[input] != 0 && k == 0) {
        p.deferred.push_back(waiting[input]);
        waiting[input] = 0;
      }
    }
  }
}

void Network::State::build() {
  plan();
  small_rows = settings.views * std::max(1U, settings.shard / 8);
  convolutions.resize(graph.layers.size());
  scatterings.resize(graph.layers.size());
  for (uint32_t i : graph.trained_layers) {
    strategies.push_back(
        choose_strategy(graph.layers[i], settings.shard, settings.views,
                        settings.convolutions ? &*settings.convolutions : nullptr));
  }
  bool any_standardized = false;
  for (uint32_t i = 1; i < graph.layers.size(); ++i) {
    const Layer& layer = graph.layers[i];
    any_standardized |= layer.node.standardize;
    if (!runs(i)) continue;
    if (layer.node.op == Op::kScattering) scatterings[i].emplace(layer);
    if (layer.node.op != Op::kConv2d) continue;
    ConvolutionPlan conv;
    conv.rows = all_rows();
    conv.small_rows = small_rows;
    conv.training = settings.gradients != Gradients::kNone;
    conv.batch_gradient = settings.gradients == Gradients::kBatch && layer.trained;
    conv.needs_input_gradient = graph.layers[layer.inputs[0]].depends_on_trained;
    conv.bf16 = settings.dtype == contracts::TrainingSpec::Dtype::kBf16;
    if (per_example() && layer.trained) {
      conv.example_rows = settings.views;
      const LayerStrategy& own = strategies[layer.group];
      if (own.strategy == Strategy::kGhost) conv.chunk_rows = own.chunk * settings.views;
    }
    for (uint32_t k = i + 1; k < graph.layers.size(); ++k) {
      if (graph.layers[k].inputs[0] != i || !plans[k].done_elsewhere ||
          !is_rectifier(graph.layers[k].node.op))
        continue;
      conv.rectify = true;
      conv.slope = slope_of(graph.layers[k].node);
    }
    convolutions[i].emplace(engine, layer, conv);
  }
  if (any_standardized) {
    standardized.resize(graph.parameters);
    deviations.resize(graph.parameters);
  }
  for (unsigned k = 0; k < settings.workers; ++k) workers.push_back(make_worker());
}

NetworkWorker Network::State::make_worker() const {
  NetworkWorker w;
  const uint64_t rows = all_rows(), examples = settings.shard;
  const bool training = settings.gradients != Gradients::kNone;
  const bool bf16 = settings.dtype == contracts::TrainingSpec::Dtype::kBf16;
  uint64_t spare = 0, blocked = 0, partial = 0, bias = 0, sums = 0, scratch = 0, pixels = 0,
           images = 0;
  w.values.assign(graph.layers.size(), nullptr);
  w.gradients.assign(graph.layers.size(), nullptr);
  std::vector<bool> back(graph.layers.size(),
                         false);  // roots whose buffer somebody needs on the way back
  std::vector<bool> used(graph.layers.size(), false);  // roots whose buffer the pass needs
  used[plans[settings.first].value_root] = true;
  for (uint32_t i = 0; i < graph.layers.size(); ++i) {
    if (runs(i)) used[plans[i].value_root] = true;
    if (training && graph.layers[i].depends_on_trained) back[plans[i].value_root] = true;
  }
  for (uint32_t i = 0; i < graph.layers.size(); ++i) {
    const Layer& layer = graph.layers[i];
    const uint64_t count = layer.out.count() * rows;
    const bool root = plans[i].value_root == i && used[i];
    uint64_t extra = 0, own = 0, own_bias = 0;
    switch (!runs(i) ? Op::kFlatten : layer.node.op) {
      case Op::kGroupNorm:
      case Op::kLayerNorm:
        extra = uint64_t{2} * norm_groups(layer.node) * rows;
        if (training) own = uint64_t{2} * layer.out.channels * rows;
        w.norm_scratch.fit(layer);
        break;
      case Op::kBatchNorm:
        extra = uint64_t{2} * layer.out.channels;
        own = extra;
        w.norm_scratch.fit(layer);
        break;
      case Op::kDropout:
        extra = count;
        break;
      default:
        break;
    }
    if (i > 0 && layer.trained && per_example()) {
      const Strategy strategy = strategies[layer.group].strategy;
      if (strategy == Strategy::kStored) own = convolutions[i]->blocked_count() * examples;
      if (strategy == Strategy::kExplicit) own = layer.weight_count * examples;
      if (layer.node.op == Op::kConv2d || strategy == Strategy::kExplicit)
        own_bias = layer.bias_count * examples;
      if (strategy == Strategy::kGhost) {
        pixels = std::max(pixels, uint64_t{layer.in.height} * layer.in.width);
        partial = std::max(
            {partial, convolutions[i]->blocked_count(), layer.in.count() + layer.out.count()});
      }
      if (strategy == Strategy::kGoodfellow && strategies[layer.group].chunk < settings.shard) {
        partial = std::max(partial, layer.weight_count);
      }
    }
    if (training && i > 0 && layer.trained) {
      bias = std::max(bias, layer.bias_count);
      sums = std::max({sums, layer.bias_count * 2,
                       layer.node.op == Op::kEmbedding ? layer.weight_count : uint64_t{0}});
      if (convolutions[i] && !per_example())
        partial = std::max(partial, convolutions[i]->blocked_count());
    }
    if (convolutions[i]) {
      scratch = std::max<uint64_t>(scratch, convolutions[i]->scratch_bytes());
      if (training && layer.trained) blocked = std::max(blocked, convolutions[i]->blocked_count());
    }
    if (scatterings[i]) images = std::max<uint64_t>(images, scatterings[i]->scratch_floats());
    if (i > 0) {
      for (size_t k = 0; k < layer.inputs.size(); ++k) {
        if (training && plans[i].onto[k] == Onto::kAdd)
          spare = std::max(spare, graph.layers[layer.inputs[k]].out.count() * rows);
      }
    }
    w.value_buffers.emplace_back(root ? count : 0);
    w.gradient_buffers.emplace_back(back[i] ? count : 0);
    w.extras.emplace_back(extra);
    w.own.emplace_back(own);
    w.own_bias.emplace_back(own_bias);
    const bool converts = bf16 && convolutions[i].has_value();
    w.x16.emplace_back(converts ? layer.in.count() * rows : 0);
    w.dy16.emplace_back(converts && training ? count : 0);
    w.runners.emplace_back();
    if (convolutions[i]) w.runners.back().emplace(engine, *convolutions[i]);
  }
  for (uint32_t i = 0; i < graph.layers.size(); ++i) {
    if (used[plans[i].value_root]) w.values[i] = w.value_buffers[plans[i].value_root].data();
    if (training && graph.layers[i].depends_on_trained)
      w.gradients[i] = w.gradient_buffers[plans[i].value_root].data();
  }
  w.spare = Floats(spare);
  w.blocked = Floats(blocked);
  w.partial = Floats(partial);
  w.spare_bias = Floats(bias);
  w.images = Floats(images);
  w.sums = Buffer<double>(sums);
  w.scratch = Buffer<uint8_t>(scratch + 64);
  w.ghost.fit(pixels);
  w.stream.emplace(engine);
  if (per_example()) {
    w.norms.square.resize(strategies.size() * examples);
    w.norms.roughness.resize(strategies.size() * examples);
  }
  return w;
}

Result<std::unique_ptr<Network>> Network::compile(const Graph& graph,
                                                  const NetworkSettings& settings) {
  configure_libraries();
  if (settings.dtype == contracts::TrainingSpec::Dtype::kBf16 && !has_bf16()) {
    return Error(
        Code::kRefused,
        "bf16: expected a CPU that multiplies it (AVX512-BF16 or AMX); it is never emulated");
  }
  const uint64_t rows = uint64_t{settings.shard} * settings.views;
  uint64_t floats = 0;
  for (const Layer& layer : graph.layers) {
    floats += layer.out.count() * rows * 3;
    if (settings.gradients == Gradients::kPerExample && layer.trained) {
      const auto strategy =
          choose_strategy(layer, settings.shard, settings.views, nullptr).strategy;
      if (strategy == Strategy::kStored || strategy == Strategy::kExplicit)
        floats += layer.weight_count * settings.shard;
    }
  }
  if (floats > kMaxFloats)
    return Error(Code::kExhausted, "expected the activations of one shard to stay below 32 GiB");
  auto state = std::make_unique<State>();
  state->graph = graph;
  state->settings = settings;
  if (settings.last == 0) state->settings.last = static_cast<uint32_t>(graph.layers.size() - 1);
  TRY(at_the_door([&] { state->build(); }));
  return std::unique_ptr<Network>(new Network(std::move(state)));
}

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

Status Network::set_parameters(std::span<const float> numbers) {
  State& s = *state_;
  CHECK(numbers.size() == s.graph.numbers);
  s.numbers = numbers;
  if (!s.standardized.empty()) s.standardize();
  return at_the_door([&] {
    for (size_t i = 1; i < s.graph.layers.size(); ++i) {
      if (s.convolutions[i]) s.convolutions[i]->set_weights(s.stream, s.weights(s.graph.layers[i]));
    }
  });
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
    case Op::kLinear:
      gemm('N', 'T', rows, out, in, x, in, weights(layer), in, Onto::kWrite, y, out);
      if (layer.bias_count > 0) kernels::add_bias(bias(layer), out, rows, y);
      return;
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

void Network::State::backward_layer(NetworkWorker& w, uint32_t index, float* gradient) const {
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
      batch_gradient(w, index, gradient);
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

void Network::State::backward_all(NetworkWorker& w, float* gradient) const {
  const uint64_t active = uint64_t{w.pass.examples} * settings.views;
  std::fill_n(w.gradients.back() + active * graph.outputs, (w.rows - active) * graph.outputs, 0.0F);
  for (auto i = static_cast<uint32_t>(graph.layers.size() - 1); i >= 1; --i) {
    if (graph.layers[i].depends_on_trained) backward_layer(w, i, gradient);
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

Status Network::backward(unsigned worker, std::span<float> gradient) {
  const State& s = *state_;
  CHECK(s.settings.gradients == Gradients::kBatch && gradient.size() == s.graph.trained);
  return at_the_door([&] { s.backward_all(state_->workers[worker], gradient.data()); });
}

Status Network::backward(unsigned worker) {
  const State& s = *state_;
  CHECK(s.per_example());
  return at_the_door([&] { s.backward_all(state_->workers[worker], nullptr); });
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
