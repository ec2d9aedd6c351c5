// A checked specification as the engine sees it: every default resolved, every shape
// known, every parameter at its place in one flat vector.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "contracts/training/spec.h"
#include "ledger/base/result.h"
#include "trainer/engine/model.h"

namespace souk::trainer {

using contracts::Node;
using contracts::Shape3;

inline constexpr double kNormEpsilon = 1e-5;      // of group, layer and batch norm
inline constexpr double kStandardEpsilon = 1e-5;  // of standardised weights
inline constexpr double kRunningMomentum = 0.1;   // share of the newest batch in running statistics

// Layer i computes value i; value 0 is the example.
struct Layer {
  Node node;
  std::vector<uint32_t> inputs;  // values, never empty except for layer 0
  Shape3 in;                     // of the first input
  Shape3 out;
  uint64_t weight_at = 0, weight_count = 0;
  uint64_t bias_at = 0, bias_count = 0;
  uint64_t running_at = 0, running_count = 0;  // batch norm: means, then variances
  bool trained = false;                        // has weights, and they change
  uint32_t group = 0;                          // which of the trained layers
  bool depends_on_trained = false;             // so a gradient flows into this value

  // Weights of one unit (output channel or row).
  uint64_t fan_in() const { return weight_count / out.channels; }
};

// One flat vector holds every number of the model: first what is trained, in the order of the
// layers; then what is frozen; then running statistics. Gradients are as long as the first part.
struct Graph {
  std::vector<Layer> layers;
  std::vector<uint32_t> trained_layers;
  uint64_t trained = 0;
  uint64_t parameters = 0;  // trained and frozen
  uint64_t numbers = 0;     // with running statistics
  uint32_t classes = 0;
  uint32_t outputs = 0;  // numbers that the last layer gives

  const Shape3& input() const { return layers.front().out; }
};

// kMalformed as check_spec says.
Result<Graph> build_graph(const contracts::TrainingSpec& spec);

// Flat parameters <-> named tensors. `flatten` requires check_model to have passed.
Model named(const Graph& graph, std::span<const float> parameters);
std::vector<float> flatten(const Graph& graph, const Model& model);
std::vector<float> initial_parameters(const Graph& graph, uint64_t seed);

// Whether a layer asks for it, and does something.
bool asks_for(const Graph& graph, Node::Op op);

inline bool is_group_norm(Node::Op op) {
  return op == Node::Op::kGroupNorm || op == Node::Op::kLayerNorm;
}
inline uint32_t norm_groups(const Node& node) {
  return node.op == Node::Op::kGroupNorm ? node.groups : 1;
}

}  // namespace souk::trainer
