// The same network in plain loops over doubles, one example at a time: slow, obvious,
// and the judge of network.h in tests.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "trainer/engine/graph.h"

namespace souk::trainer {

struct ReferencePass {
  std::vector<double> logits;
  double loss = 0;               // cross entropy in nats
  std::vector<double> gradient;  // of the loss, flat, in the order of Graph
};

// Whether a dropout layer keeps an element; elements count rows, then columns, then channels.
using KeepsElement = std::function<bool(uint32_t layer, uint64_t element)>;

// `example` is in channel, row, column order, already normalised. Without `keeps`, dropout
// layers pass everything unscaled.
ReferencePass reference_pass(const Graph& graph, std::span<const double> parameters, std::span<const double> example,
                             int64_t label, const KeepsElement& keeps = {});

}  // namespace souk::trainer
