// Named parameters of a network. Names are "<node index>.weight", ".bias" and, of a batch
// norm, ".running_mean" and ".running_var", where node i of spec.model has index i + 1. Shapes:
// linear [out, in]; conv [out, in / groups, kernel, kernel]; norms [channels]; embedding
// [categories, units].
// A linear layer behind a flatten reads its inputs in channel, row, column order.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "contracts/training/spec.h"
#include "ledger/base/result.h"

namespace souk::trainer {

struct NamedTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;  // row major
  friend bool operator==(const NamedTensor&, const NamedTensor&) = default;
};

struct Model {
  std::vector<NamedTensor> tensors;  // in node order; weight, bias, running_mean, running_var
  friend bool operator==(const Model&, const Model&) = default;
};

// Rows of numbers, one after another, each in the order of spec.input_shape.
using Features = std::variant<std::span<const float>, std::span<const uint8_t>>;

// A dataset in memory, borrowed: it must outlive whoever was given it.
struct Examples {
  Features features;
  std::span<const int64_t> labels;  // one for each row, 0 <= label < classes
  // Rows of each dataset, which stand one after another; needed where the specification has a
  // pool, whose datasets take part each in its own way. Public, like the number of all rows.
  std::span<const uint64_t> parts = {};
};

// The weights before the first step, a function of spec.model and spec.seed alone.
Result<Model> initial_model(const contracts::TrainingSpec& spec);

// kMalformed unless `model` has exactly the tensors, in name, order and shape, that
// `spec` describes.
Status check_model(const contracts::TrainingSpec& spec, const Model& model);

}  // namespace souk::trainer
