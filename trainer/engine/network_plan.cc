// What is decided about a network before its first pass: fusions, buffers, primitives.
#include <algorithm>

#include "trainer/engine/network_state.h"
#include "trainer/engine/wide_product.h"

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

}  // namespace

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
  uint64_t spare = 0, blocked = 0, partial = 0, bias = 0, fresh = 0, sums = 0, scratch = 0,
           pixels = 0, images = 0, products = 0;
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
      fresh = std::max(fresh, layer.weight_count + layer.bias_count);
      if (layer.node.op == Op::kEmbedding) sums = std::max(sums, layer.weight_count);
      if (convolutions[i] && !per_example())
        partial = std::max(partial, convolutions[i]->blocked_count());
    }
    if (convolutions[i]) {
      scratch = std::max<uint64_t>(scratch, convolutions[i]->scratch_bytes());
      if (training && layer.trained) blocked = std::max(blocked, convolutions[i]->blocked_count());
    }
    if (runs(i) && layer.node.op == Op::kLinear &&
        suits_wide_product(rows, layer.in.count(), layer.out.count()))
      products = room_of_wide_product();
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
  w.fresh = Floats(per_example() || settings.workers > 1 ? 0 : fresh);
  w.products = Floats(products);
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

}  // namespace souk::trainer
