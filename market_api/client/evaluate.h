// What a model says about rows, and how good it is where their labels are known. In f32, the
// network as it is used: no dropout, running statistics.
#pragma once

#include <string>
#include <vector>

#include "market_api/client/stored_model.h"
#include "trainer/data/table.h"

namespace souk::market {

struct Predictions {
  uint64_t rows = 0;
  std::vector<int64_t> labels;  // the largest number's place; the first of equals
  // rows x width. Softmax and BCE: probabilities of the classes (two for a single logit of
  // BCE); MSE: the network's numbers themselves, and `are_probabilities` is false.
  std::vector<double> numbers;
  uint32_t width = 0;
  bool are_probabilities = true;

  uint64_t right(std::span<const int64_t> truth) const;
};

// kMalformed when model and rows do not fit together. `threads` 0: one for each processor.
Result<Predictions> predict_rows(const StoredModel& stored, const trainer::Dataset& rows,
                                 unsigned threads = 0);

}  // namespace souk::market
