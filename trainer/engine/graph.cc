#include "trainer/engine/graph.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "trainer/engine/chacha.h"

namespace souk::trainer {
namespace {

std::vector<int64_t> weight_shape(const Layer& layer) {
  int64_t units = layer.out.channels, inputs = layer.in.channels;
  switch (layer.node.op) {
    case Node::Op::kLinear:
      return {units, inputs};
    case Node::Op::kConv2d:
      return {units, inputs / layer.node.groups, layer.node.kernel, layer.node.kernel};
    default:
      return {units};
  }
}

// Whether the layer's output goes into a rectifier, perhaps through a group norm.
bool is_rectified(const Graph& graph, size_t value) {
  for (size_t i = value + 1; i < graph.layers.size(); ++i) {
    const Layer& layer = graph.layers[i];
    if (std::find(layer.inputs.begin(), layer.inputs.end(), value) == layer.inputs.end()) continue;
    switch (layer.node.op) {
      case Node::Op::kRelu:
      case Node::Op::kLeakyRelu:
      case Node::Op::kGelu:
      case Node::Op::kSilu:
        return true;
      case Node::Op::kGroupNorm:
        if (is_rectified(graph, i)) return true;
        break;
      default:
        break;
    }
  }
  return false;
}

Status refuse_what_is_not_built(const contracts::TrainingSpec& spec) {
  using contracts::TrainingSpec;
  bool plain = spec.loss == TrainingSpec::Loss::kSoftmaxCrossEntropy &&
               spec.augmentation == contracts::Augmentation{} && spec.accumulate == 1 &&
               spec.ema == 0 && spec.dtype == TrainingSpec::Dtype::kF32 &&
               spec.optimizer.decay == contracts::Optimizer::Decay::kDecoupled;
  if (spec.privacy && spec.privacy->clipping != contracts::PrivacySpec::Clipping::kFlat)
    plain = false;
  for (const Node& node : spec.model) {
    plain = plain && !node.frozen && !node.standardize && node.op != Node::Op::kEmbedding &&
            node.op != Node::Op::kColumns && node.op != Node::Op::kBatchNorm &&
            node.op != Node::Op::kLayerNorm;
  }
  if (!plain)
    return Error(Code::kRefused,
                 "engine: this specification asks for more than this build can train");
  return Done{};
}

}  // namespace

Result<Graph> build_graph(const contracts::TrainingSpec& spec) {
  auto shape = TRY(contracts::check_spec(spec));
  TRY(refuse_what_is_not_built(spec));
  Graph graph;
  graph.classes = spec.classes;
  graph.layers.resize(spec.model.size() + 1);
  graph.layers[0].out = shape.outputs[0];
  for (uint32_t i = 1; i < graph.layers.size(); ++i) {
    Layer& layer = graph.layers[i];
    layer.node = spec.model[i - 1];
    layer.inputs = layer.node.inputs;
    if (layer.inputs.empty()) layer.inputs.push_back(i - 1);
    layer.in = shape.outputs[layer.inputs.front()];
    layer.out = shape.outputs[i];
    switch (layer.node.op) {
      case Node::Op::kLinear:
      case Node::Op::kConv2d:
      case Node::Op::kGroupNorm:
        layer.weight_count = 1;
        for (int64_t size : weight_shape(layer)) layer.weight_count *= static_cast<uint64_t>(size);
        layer.bias_count =
            layer.node.bias || layer.node.op == Node::Op::kGroupNorm ? layer.out.channels : 0;
        break;
      default:
        break;
    }
    layer.weight_at = graph.parameters;
    layer.bias_at = layer.weight_at + layer.weight_count;
    graph.parameters = layer.bias_at + layer.bias_count;
    layer.depends_on_parameters = layer.weight_count > 0;
    for (uint32_t input : layer.inputs) {
      if (graph.layers[input].depends_on_parameters) layer.depends_on_parameters = true;
    }
  }
  CHECK(graph.parameters == shape.parameters);
  return graph;
}

Model named(const Graph& graph, const std::vector<float>& parameters) {
  CHECK(parameters.size() == graph.parameters);
  Model model;
  for (size_t i = 1; i < graph.layers.size(); ++i) {
    const Layer& layer = graph.layers[i];
    auto part = [&](uint64_t at, uint64_t count) {
      auto begin = parameters.begin() + static_cast<ptrdiff_t>(at);
      return std::vector<float>(begin, begin + static_cast<ptrdiff_t>(count));
    };
    if (layer.weight_count > 0) {
      model.tensors.push_back({std::to_string(i) + ".weight", weight_shape(layer),
                               part(layer.weight_at, layer.weight_count)});
    }
    if (layer.bias_count > 0) {
      model.tensors.push_back({std::to_string(i) + ".bias",
                               {layer.out.channels},
                               part(layer.bias_at, layer.bias_count)});
    }
  }
  return model;
}

std::vector<float> flatten(const Graph& graph, const Model& model) {
  std::vector<float> parameters;
  parameters.reserve(graph.parameters);
  for (const auto& tensor : model.tensors) {
    parameters.insert(parameters.end(), tensor.values.begin(), tensor.values.end());
  }
  CHECK(parameters.size() == graph.parameters);
  return parameters;
}

std::vector<float> initial_parameters(const Graph& graph, uint64_t seed) {
  std::vector<float> parameters(graph.parameters, 0.0F);
  std::array<uint8_t, 32> key{};
  constexpr char kLabel[] = "souk/engine/v1/initial";
  std::memcpy(key.data(), &seed, 8);
  std::memcpy(key.data() + 8, kLabel, sizeof(kLabel) - 1);
  for (size_t i = 1; i < graph.layers.size(); ++i) {
    const Layer& layer = graph.layers[i];
    float* weights = parameters.data() + layer.weight_at;
    if (layer.node.op == Node::Op::kGroupNorm) {
      std::fill_n(weights, layer.weight_count, 1.0F);
      continue;
    }
    if (layer.weight_count == 0) continue;
    // Uniform with variance 1 / fan-in, twice that in front of a rectifier (He et al. 2015).
    double fan_in = static_cast<double>(layer.weight_count) / layer.out.channels;
    double bound = std::sqrt((is_rectified(graph, i) ? 6.0 : 3.0) / fan_in);
    ChaCha20 random(std::span<const uint8_t, 32>(key), i);
    for (uint64_t k = 0; k < layer.weight_count; ++k) {
      double unit = static_cast<double>(random.next() >> 11) * 0x1p-52 - 1;  // [-1, 1)
      weights[k] = static_cast<float>(unit * bound);
    }
  }
  return parameters;
}

Result<Model> initial_model(const contracts::TrainingSpec& spec) {
  auto graph = TRY(build_graph(spec));
  return named(graph, initial_parameters(graph, spec.seed));
}

Status check_model(const contracts::TrainingSpec& spec, const Model& model) {
  auto graph = TRY(build_graph(spec));
  Model expected = named(graph, std::vector<float>(graph.parameters));
  if (model.tensors.size() != expected.tensors.size()) {
    return Error(Code::kMalformed,
                 "model: expected " + std::to_string(expected.tensors.size()) + " tensors");
  }
  for (size_t i = 0; i < expected.tensors.size(); ++i) {
    const auto& want = expected.tensors[i];
    const auto& have = model.tensors[i];
    if (have.name != want.name || have.shape != want.shape ||
        have.values.size() != want.values.size()) {
      return Error(Code::kMalformed,
                   "model: expected tensor " + want.name + " in the shape the specification gives");
    }
  }
  return Done{};
}

}  // namespace souk::trainer
