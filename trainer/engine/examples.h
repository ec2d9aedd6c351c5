// Examples on their way into a network: normalised, channels last; and the loss at its end.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "contracts/training/spec.h"
#include "trainer/engine/graph.h"
#include "trainer/engine/model.h"

namespace souk::trainer {

class ExampleReader {
 public:
  // kMalformed: `features` is not rows x input numbers.
  static Result<ExampleReader> open(const contracts::TrainingSpec& spec, const Graph& graph, const Features& features,
                                    uint64_t rows);

  // Example `row`, normalised: x' = (x - mean) * scale, in row, column, channel order.
  void read(uint64_t row, float* out) const;

 private:
  Features features_;
  Shape3 shape_;
  std::vector<float> mean_, scale_;  // one for each number of the input, in its own order
};

// kMalformed: not one label for each row, or a label outside 0 .. classes - 1.
Status check_labels(std::span<const int64_t> labels, uint64_t rows, uint32_t classes);

// Softmax cross entropy of one example; its gradient if `gradient` is not null.
double cross_entropy(std::span<const float> logits, int64_t label, float* gradient);

}  // namespace souk::trainer
