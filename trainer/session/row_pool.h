// The rows of all datasets of a job, one after another in the contract's order.
#pragma once

#include <string>
#include <vector>

#include "contracts/lifecycle/market_state.h"
#include "trainer/data/table.h"
#include "trainer/engine/model.h"

namespace souk::trainer {

class RowPool {
 public:
  // What dataset `input` of this specification holds. kMalformed when rows, shape, kind or classes
  // are not those of the offer, of the specification and of the datasets before it.
  Status add(const contracts::TrainingSpec& spec, const contracts::JobStart::Input& input,
             const contracts::Dataset* offered, Dataset dataset);
  // Borrowed.
  Examples examples() const;

 private:
  std::vector<float> floats_;
  std::vector<uint8_t> bytes_;
  bool of_bytes_ = false;
  std::vector<int64_t> labels_;
  std::vector<std::string> classes_;
  std::vector<uint64_t> parts_;  // rows of each
};

}  // namespace souk::trainer
