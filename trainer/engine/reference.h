// The same network in plain loops over doubles: slow, obvious, and the judge of network.h in tests.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "trainer/engine/graph.h"

namespace souk::trainer {

struct ReferencePass {
  std::vector<double> outputs;
  double loss = 0;
  std::vector<double> gradient;  // of the loss, as long as graph.trained
};

// Whether a dropout layer keeps an element; elements count rows, then columns, then channels.
using KeepsElement = std::function<bool(uint32_t layer, uint64_t element)>;

// `numbers` are all of the graph's; `example` is in channel, row, column order, already
// normalised. Without `keeps`, dropout layers pass everything unscaled. Batch norms use their
// running statistics.
ReferencePass reference_pass(const Graph& graph, contracts::TrainingSpec::Loss loss,
                             std::span<const double> numbers, std::span<const double> example,
                             int64_t label, const KeepsElement& keeps = {});

// Several examples at once, whose statistics trained batch norms use. The gradients of such a
// norm's own numbers, which are nobody's alone, are in the first pass.
std::vector<ReferencePass> reference_batch(const Graph& graph, contracts::TrainingSpec::Loss loss,
                                           std::span<const double> numbers,
                                           const std::vector<std::vector<double>>& examples,
                                           std::span<const int64_t> labels);

}  // namespace souk::trainer
