#include "trainer/session/row_pool.h"

namespace souk::trainer {

Status RowPool::add(const contracts::TrainingSpec& spec, const contracts::JobStart::Input& input,
                    const contracts::Dataset* offered, Dataset dataset) {
  if (dataset.rows() != static_cast<uint64_t>(input.rows)) {
    return Error(Code::kMalformed, "expected as many rows as the offer says");
  }
  uint64_t features = 1;
  for (uint32_t side : spec.input_shape) features *= side;
  // Classes that the offer does not name are nobody's to learn from whether a private run
  // settles: the contract says how many there are, and a label past them is the first class.
  bool unnamed = spec.privacy && offered && offered->manifest.class_names.empty();
  bool fits = unnamed || dataset.schema.classes.size() == spec.classes;
  if (dataset.feature_count() != features || !fits) {
    return Error(Code::kMalformed, "expected rows of the specification's shape and classes");
  }
  if (unnamed) {
    for (auto& label : dataset.labels) {
      if (label < 0 || label >= int64_t{spec.classes}) label = 0;
    }
  }
  bool bytes = std::holds_alternative<std::vector<uint8_t>>(dataset.features);
  if (labels_.empty()) of_bytes_ = bytes;
  if (classes_.empty() && !unnamed) classes_ = dataset.schema.classes;
  bool same = unnamed || classes_ == dataset.schema.classes;
  if (of_bytes_ != bytes || !same) {
    return Error(Code::kMalformed, "expected datasets of one kind with the same classes");
  }
  auto& f = dataset.features;
  if (bytes) {
    const auto& more = std::get<std::vector<uint8_t>>(f);
    bytes_.insert(bytes_.end(), more.begin(), more.end());
  } else {
    const auto& more = std::get<std::vector<float>>(f);
    floats_.insert(floats_.end(), more.begin(), more.end());
  }
  labels_.insert(labels_.end(), dataset.labels.begin(), dataset.labels.end());
  parts_.push_back(dataset.rows());
  return Done{};
}

Examples RowPool::examples() const {
  return {of_bytes_ ? Features(std::span<const uint8_t>(bytes_))
                    : Features(std::span<const float>(floats_)),
          labels_, parts_};
}

}  // namespace souk::trainer
