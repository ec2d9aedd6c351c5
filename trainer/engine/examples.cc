#include "trainer/engine/examples.h"

#include <algorithm>
#include <cmath>

namespace souk::trainer {
namespace {

std::vector<float> spread(const std::vector<double>& constants, uint64_t count, float otherwise) {
  std::vector<float> out(count, otherwise);
  for (uint64_t i = 0; i < count && !constants.empty(); ++i) {
    out[i] = static_cast<float>(constants[constants.size() == 1 ? 0 : i]);
  }
  return out;
}

}  // namespace

Result<ExampleReader> ExampleReader::open(const contracts::TrainingSpec& spec, const Graph& graph, const Features& features,
                                          uint64_t rows) {
  ExampleReader reader;
  reader.features_ = features;
  reader.shape_ = graph.input();
  const uint64_t count = reader.shape_.count();
  uint64_t have = std::visit([](const auto& values) { return static_cast<uint64_t>(values.size()); }, features);
  if (rows > UINT64_MAX / count || have != rows * count) {
    return Error(Code::kMalformed, "dataset: expected " + std::to_string(count) + " numbers for each example");
  }
  reader.mean_ = spread(spec.input_mean, count, 0.0F);
  reader.scale_ = spread(spec.input_scale, count, 1.0F);
  return reader;
}

void ExampleReader::read(uint64_t row, float* out) const {
  const uint64_t pixels = uint64_t{shape_.height} * shape_.width, channels = shape_.channels;
  std::visit(
      [&](const auto& values) {
        const auto* in = values.data() + row * shape_.count();
        for (uint64_t c = 0, i = 0; c < channels; ++c) {
          for (uint64_t p = 0; p < pixels; ++p, ++i) {
            out[p * channels + c] = (static_cast<float>(in[i]) - mean_[i]) * scale_[i];
          }
        }
      },
      features_);
}

Status check_labels(std::span<const int64_t> labels, uint64_t rows, uint32_t classes) {
  if (labels.size() != rows) return Error(Code::kMalformed, "dataset: expected one label for each example");
  for (int64_t label : labels) {
    if (label < 0 || label >= int64_t{classes}) {
      return Error(Code::kMalformed, "dataset: expected labels from 0 to " + std::to_string(classes - 1));
    }
  }
  return Done{};
}

double cross_entropy(std::span<const float> logits, int64_t label, float* gradient) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float logit : logits) sum += std::exp(logit - top);
  const auto target = static_cast<size_t>(label);
  if (gradient) {
    for (size_t c = 0; c < logits.size(); ++c) {
      gradient[c] = static_cast<float>(std::exp(logits[c] - top) / sum - (c == target ? 1.0 : 0.0));
    }
  }
  return std::log(sum) + top - logits[target];
}

}  // namespace souk::trainer
