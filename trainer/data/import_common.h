// What the importers share. Not for other rooms.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/result.h"
#include "trainer/data/table.h"

namespace souk::trainer {

// Numbers the classes of a file whose labels come one by one (import.h, "Classes").
class LabelCollector {
 public:
  // `given` may be empty: then the labels themselves make the classes.
  explicit LabelCollector(std::vector<std::string> given);

  // kMalformed for a label that is none of the given, or one class too many.
  Status add(std::string_view label);

  // Sets labels and classes of `dataset`.
  void finish(Dataset& dataset) &&;

 private:
  const std::vector<std::string> given_;
  std::map<std::string, int64_t, std::less<>> numbers_;  // in order of appearance, or as given
  std::vector<int64_t> labels_;
};

// `shape` with the number of features that a row has, or `fallback` when it is empty.
Result<TensorShape> chosen_shape(const TensorShape& shape, const TensorShape& fallback);

}  // namespace souk::trainer
