#include "trainer/engine/examples.h"

#include <algorithm>
#include <cmath>

#include "trainer/engine/simd.h"

namespace souk::trainer {
namespace {

std::vector<float> spread(const std::vector<double>& constants, uint64_t count, float otherwise) {
  std::vector<float> out(count, otherwise);
  for (uint64_t i = 0; i < count && !constants.empty(); ++i) {
    out[i] = static_cast<float>(constants[constants.size() == 1 ? 0 : i]);
  }
  return out;
}

Status check_categories(const Layer& layer, const Features& features, uint64_t rows,
                        uint64_t width) {
  bool fit = true;
  std::visit(
      [&](const auto& values) {
        for (uint64_t row = 0; row < rows; ++row) {
          for (uint32_t column : layer.node.columns) {
            const auto value = static_cast<double>(values[row * width + column]);
            fit = fit && value >= 0 && value < layer.node.categories && value == std::floor(value);
          }
        }
      },
      features);
  if (fit) return Done{};
  return Error(Code::kMalformed, "dataset: expected whole numbers from 0 to " +
                                     std::to_string(layer.node.categories - 1) +
                                     " in the columns of an embedding");
}

}  // namespace

Result<ExampleReader> ExampleReader::open(const contracts::TrainingSpec& spec, const Graph& graph,
                                          const Features& features, uint64_t rows) {
  ExampleReader reader;
  reader.features_ = features;
  reader.shape_ = graph.input();
  const uint64_t count = reader.shape_.count();
  uint64_t have =
      std::visit([](const auto& values) { return static_cast<uint64_t>(values.size()); }, features);
  if (rows > UINT64_MAX / count || have != rows * count) {
    return Error(Code::kMalformed,
                 "dataset: expected " + std::to_string(count) + " numbers for each example");
  }
  reader.augmentation_ = spec.augmentation;
  reader.mean_ = spread(spec.input_mean, count, 0.0F);
  reader.scale_ = spread(spec.input_scale, count, 1.0F);
  for (const Layer& layer : graph.layers) {
    if (layer.node.op != Node::Op::kEmbedding) continue;
    // Under privacy nothing that the rows decide may fail a run: whether it failed is public, exact
    // and free. Kernels take a number that is no category as category 0.
    if (!spec.privacy) TRY(check_categories(layer, features, rows, count));
    for (uint32_t column : layer.node.columns) {
      reader.mean_[column] = 0;
      reader.scale_[column] = 1;
    }
  }
  return reader;
}

void ExampleReader::read(uint64_t row, float* out) const {
  const uint64_t pixels = uint64_t{shape_.height} * shape_.width, channels = shape_.channels,
                 count = pixels * channels;
  const float* mean = mean_.data();
  const float* scale = scale_.data();
  std::visit(
      [&](const auto& values) {
        const auto* in = values.data() + row * count;
        wide([&] {
          if (pixels == 1 || channels == 1) {  // one order is the other
            for (uint64_t i = 0; i < count; ++i)
              out[i] = (static_cast<float>(in[i]) - mean[i]) * scale[i];
            return;
          }
          for (uint64_t c = 0; c < channels; ++c) {
            for (uint64_t p = 0; p < pixels; ++p) {
              const uint64_t i = c * pixels + p;
              out[p * channels + c] = (static_cast<float>(in[i]) - mean[i]) * scale[i];
            }
          }
        });
      },
      features_);
}

void ExampleReader::read_view(uint64_t row, ChaCha20& random, float* out) const {
  const uint64_t word = random.next();
  const int64_t height = shape_.height, width = shape_.width, channels = shape_.channels,
                margin = augmentation_.crop;
  auto below = [&](uint64_t bits) {  // 0 .. 2 * margin, each within 2^-30 of evenly
    return static_cast<int64_t>(((bits & 0x7fffffff) * (2 * augmentation_.crop + uint64_t{1})) >>
                                31);
  };
  const int64_t down = below(word >> 1) - margin, right = below(word >> 32) - margin;
  const bool mirror = augmentation_.flip && (word & 1) != 0;
  std::visit(
      [&](const auto& values) {
        const auto* in = values.data() + row * shape_.count();
        for (int64_t y = 0; y < height; ++y) {
          for (int64_t x = 0; x < width; ++x) {
            const int64_t from_y = y + down, from_x = (mirror ? width - 1 - x : x) + right;
            const bool inside = from_y >= 0 && from_y < height && from_x >= 0 && from_x < width;
            for (int64_t c = 0; c < channels; ++c) {
              const auto to = static_cast<uint64_t>((c * height + y) * width + x);
              const auto from = static_cast<uint64_t>((c * height + from_y) * width + from_x);
              const float value = inside ? static_cast<float>(in[from]) : 0.0F;
              out[(y * width + x) * channels + c] = (value - mean_[to]) * scale_[to];
            }
          }
        }
      },
      features_);
}

Status check_labels(std::span<const int64_t> labels, uint64_t rows, uint32_t classes) {
  if (labels.size() != rows)
    return Error(Code::kMalformed, "dataset: expected one label for each example");
  for (int64_t label : labels) {
    if (label < 0 || label >= int64_t{classes}) {
      return Error(Code::kMalformed,
                   "dataset: expected labels from 0 to " + std::to_string(classes - 1));
    }
  }
  return Done{};
}

}  // namespace souk::trainer
