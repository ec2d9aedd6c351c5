// A checked specification as the engine sees it: every default resolved, every shape
// known, every parameter at its place in one flat vector.
#pragma once

#include <cstdint>
#include <vector>

#include "contracts/training/spec.h"
#include "ledger/base/result.h"
#include "trainer/engine/model.h"

namespace souk::trainer {

using contracts::Node;
using contracts::Shape3;

inline constexpr double kGroupNormEpsilon = 1e-5;

// Layer i computes value i; value 0 is the example.
struct Layer {
  Node node;
  std::vector<uint32_t> inputs;  // values, never empty except for layer 0
  Shape3 in;                     // of the first input
  Shape3 out;
  uint64_t weight_at = 0, weight_count = 0;
  uint64_t bias_at = 0, bias_count = 0;
  bool depends_on_parameters = false;  // so a gradient flows into this value
};

struct Graph {
  std::vector<Layer> layers;
  uint64_t parameters = 0;
  uint32_t classes = 0;

  const Shape3& input() const { return layers.front().out; }
};

// kMalformed as check_spec says.
Result<Graph> build_graph(const contracts::TrainingSpec& spec);

// Flat parameters <-> named tensors. `flatten` requires check_model to have passed.
Model named(const Graph& graph, const std::vector<float>& parameters);
std::vector<float> flatten(const Graph& graph, const Model& model);
std::vector<float> initial_parameters(const Graph& graph, uint64_t seed);

}  // namespace souk::trainer
