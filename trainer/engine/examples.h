// Examples on their way into a network: normalised, channels last, in the views that training
// wants of them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "contracts/training/spec.h"
#include "trainer/engine/chacha.h"
#include "trainer/engine/graph.h"
#include "trainer/engine/model.h"

namespace souk::trainer {

class ExampleReader {
 public:
  // kMalformed: `features` is not rows x input numbers, or a column that an embedding reads
  // holds something else than 0 .. categories - 1.
  static Result<ExampleReader> open(const contracts::TrainingSpec& spec, const Graph& graph,
                                    const Features& features, uint64_t rows);

  // Example `row`, normalised: x' = (x - mean) * scale, in row, column, channel order. Columns
  // that an embedding reads are left as they are.
  void read(uint64_t row, float* out) const;
  // A random view of it: cut out of a zero margin, perhaps mirrored. Draws one word.
  void read_view(uint64_t row, ChaCha20& random, float* out) const;
  bool augments() const { return augmentation_.flip || augmentation_.crop > 0; }

 private:
  Features features_;
  Shape3 shape_;
  contracts::Augmentation augmentation_;
  std::vector<float> mean_, scale_;  // one for each number of the input, in its own order
};

// kMalformed: not one label for each row, or a label outside 0 .. classes - 1.
Status check_labels(std::span<const int64_t> labels, uint64_t rows, uint32_t classes);

}  // namespace souk::trainer
