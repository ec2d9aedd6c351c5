#include "trainer/engine/graph.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "trainer/engine/chacha.h"

namespace souk::trainer {
namespace {

std::vector<int64_t> weight_shape(const Layer& layer) {
  const Node& node = layer.node;
  int64_t units = layer.out.channels, inputs = layer.in.channels;
  switch (node.op) {
    case Node::Op::kLinear:
      return {units, inputs};
    case Node::Op::kConv2d:
      return {units, inputs / node.groups, node.kernel, node.kernel};
    case Node::Op::kEmbedding:
      return {node.categories, node.units};
    default:
      return {units};
  }
}

bool has_weights(Node::Op op) {
  return op == Node::Op::kLinear || op == Node::Op::kConv2d || op == Node::Op::kEmbedding ||
         op == Node::Op::kBatchNorm || is_group_norm(op);
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
      case Node::Op::kLayerNorm:
      case Node::Op::kBatchNorm:
      case Node::Op::kDropout:
        if (is_rectified(graph, i)) return true;
        break;
      default:
        break;
    }
  }
  return false;
}

}  // namespace

Result<Graph> build_graph(const contracts::TrainingSpec& spec) {
  auto shape = TRY(contracts::check_spec(spec));
  Graph graph;
  graph.classes = spec.classes;
  graph.outputs = shape.outputs.back().channels;
  graph.layers.resize(spec.model.size() + 1);
  graph.layers[0].out = shape.outputs[0];
  for (uint32_t i = 1; i < graph.layers.size(); ++i) {
    Layer& layer = graph.layers[i];
    layer.node = spec.model[i - 1];
    layer.inputs = layer.node.inputs;
    if (layer.inputs.empty()) layer.inputs.push_back(i - 1);
    layer.in = shape.outputs[layer.inputs.front()];
    layer.out = shape.outputs[i];
    if (has_weights(layer.node.op)) {
      const bool affine = layer.node.op == Node::Op::kLinear || layer.node.op == Node::Op::kConv2d;
      layer.weight_count = 1;
      for (int64_t size : weight_shape(layer)) layer.weight_count *= static_cast<uint64_t>(size);
      layer.bias_count = (affine ? layer.node.bias : layer.node.op != Node::Op::kEmbedding)
                             ? layer.out.channels
                             : 0;
      if (layer.node.op == Node::Op::kBatchNorm)
        layer.running_count = uint64_t{2} * layer.out.channels;
      layer.trained = !layer.node.frozen;
    }
    layer.depends_on_trained = layer.trained;
    for (uint32_t input : layer.inputs) {
      if (graph.layers[input].depends_on_trained) layer.depends_on_trained = true;
    }
  }
  for (bool trained : {true, false}) {
    for (uint32_t i = 1; i < graph.layers.size(); ++i) {
      Layer& layer = graph.layers[i];
      if (layer.weight_count == 0 || layer.trained != trained) continue;
      layer.weight_at = graph.parameters;
      layer.bias_at = layer.weight_at + layer.weight_count;
      graph.parameters = layer.bias_at + layer.bias_count;
      if (!trained) continue;
      layer.group = static_cast<uint32_t>(graph.trained_layers.size());
      graph.trained_layers.push_back(i);
      graph.trained = graph.parameters;
    }
  }
  graph.numbers = graph.parameters;
  for (Layer& layer : graph.layers) {
    layer.running_at = graph.numbers;
    graph.numbers += layer.running_count;
  }
  CHECK(graph.parameters == shape.parameters && graph.trained == shape.trained);
  return graph;
}

namespace {

// Calls visit(name, shape, position, count) for every tensor, in the order of Model.
template <class Visit>
void each_tensor(const Graph& graph, const Visit& visit) {
  for (size_t i = 1; i < graph.layers.size(); ++i) {
    const Layer& layer = graph.layers[i];
    const std::string name = std::to_string(i);
    const std::vector<int64_t> channels{layer.out.channels};
    if (layer.weight_count > 0)
      visit(name + ".weight", weight_shape(layer), layer.weight_at, layer.weight_count);
    if (layer.bias_count > 0) visit(name + ".bias", channels, layer.bias_at, layer.bias_count);
    if (layer.running_count > 0) {
      visit(name + ".running_mean", channels, layer.running_at, layer.running_count / 2);
      visit(name + ".running_var", channels, layer.running_at + layer.running_count / 2,
            layer.running_count / 2);
    }
  }
}

}  // namespace

Model named(const Graph& graph, std::span<const float> parameters) {
  CHECK(parameters.size() == graph.numbers);
  Model model;
  each_tensor(
      graph, [&](std::string name, std::vector<int64_t> shape, uint64_t at, uint64_t count) {
        auto begin = parameters.begin() + static_cast<ptrdiff_t>(at);
        model.tensors.push_back(
            {std::move(name), std::move(shape), {begin, begin + static_cast<ptrdiff_t>(count)}});
      });
  return model;
}

std::vector<float> flatten(const Graph& graph, const Model& model) {
  std::vector<float> parameters(graph.numbers);
  size_t next = 0;
  each_tensor(graph,
              [&](const std::string&, const std::vector<int64_t>&, uint64_t at, uint64_t count) {
                CHECK(next < model.tensors.size() && model.tensors[next].values.size() == count);
                std::copy_n(model.tensors[next].values.begin(), count,
                            parameters.begin() + static_cast<ptrdiff_t>(at));
                ++next;
              });
  return parameters;
}

std::vector<float> initial_parameters(const Graph& graph, uint64_t seed) {
  std::vector<float> parameters(graph.numbers, 0.0F);
  std::array<uint8_t, 32> key{};
  constexpr char kLabel[] = "souk/engine/v1/initial";
  std::memcpy(key.data(), &seed, 8);
  std::memcpy(key.data() + 8, kLabel, sizeof(kLabel) - 1);
  for (size_t i = 1; i < graph.layers.size(); ++i) {
    const Layer& layer = graph.layers[i];
    float* weights = parameters.data() + layer.weight_at;
    if (layer.weight_count == 0) continue;
    if (is_group_norm(layer.node.op) || layer.node.op == Node::Op::kBatchNorm) {
      std::fill_n(weights, layer.weight_count, 1.0F);
      std::fill_n(parameters.data() + layer.running_at + layer.running_count / 2,
                  layer.running_count / 2, 1.0F);
      continue;
    }
    // Uniform with variance 1 / fan-in, twice that in front of a rectifier (He et al. 2015); an
    // embedding's rows have length 1 on average.
    double bound =
        layer.node.op == Node::Op::kEmbedding
            ? std::sqrt(3.0 / layer.node.units)
            : std::sqrt((is_rectified(graph, i) ? 6.0 : 3.0) / static_cast<double>(layer.fan_in()));
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
  Model expected = named(graph, std::vector<float>(graph.numbers));
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

bool asks_for(const Graph& graph, Node::Op op) {
  return std::any_of(graph.layers.begin() + 1, graph.layers.end(), [op](const Layer& layer) {
    return layer.node.op == op && (op != Node::Op::kDropout || layer.node.rate > 0);
  });
}

}  // namespace souk::trainer
