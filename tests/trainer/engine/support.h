// Small specifications and data for the engine's tests.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "contracts/training/spec.h"
#include "trainer/engine/engine.h"

namespace souk::trainer::testing {

using contracts::Node;
using contracts::TrainingSpec;

inline Node layer(Node::Op op, std::vector<uint32_t> inputs = {}) {
  Node node;
  node.op = op;
  node.inputs = std::move(inputs);
  return node;
}
inline Node linear(uint32_t units, bool bias = true) {
  Node node = layer(Node::Op::kLinear);
  node.units = units;
  node.bias = bias;
  return node;
}
inline Node convolution(uint32_t units, uint32_t kernel, uint32_t stride = 1, uint32_t padding = 0,
                        uint32_t groups = 1, bool bias = true) {
  Node node = layer(Node::Op::kConv2d);
  node.units = units;
  node.kernel = kernel;
  node.stride = stride;
  node.padding = padding;
  node.groups = groups;
  node.bias = bias;
  return node;
}
inline Node pool(Node::Op op, uint32_t kernel, uint32_t stride, uint32_t padding = 0) {
  Node node = layer(op);
  node.kernel = kernel;
  node.stride = stride;
  node.padding = padding;
  return node;
}
inline Node group_norm(uint32_t groups) {
  Node node = layer(Node::Op::kGroupNorm);
  node.groups = groups;
  return node;
}
inline Node dropout(double rate) {
  Node node = layer(Node::Op::kDropout);
  node.rate = rate;
  return node;
}
inline Node from(Node node, std::vector<uint32_t> inputs) {
  node.inputs = std::move(inputs);
  return node;
}

// Shuffled batches of 8, no privacy; callers change what they need.
inline TrainingSpec plain_spec(std::vector<uint32_t> input, uint32_t classes,
                               std::vector<Node> model, uint32_t steps, double rate) {
  TrainingSpec spec;
  spec.input_shape = std::move(input);
  spec.classes = classes;
  spec.model = std::move(model);
  spec.steps = steps;
  spec.batch = 8;
  spec.shard = 4;
  spec.shuffle = true;
  spec.learning_rate = {{steps, rate}};
  return spec;
}

inline void make_private(TrainingSpec& spec, double q, double clip, double sigma,
                         int64_t epsilon_micro = 1'000'000'000'000) {
  spec.shuffle = false;
  spec.sampling_threshold = static_cast<uint64_t>(std::ldexp(q, 64));
  spec.privacy = contracts::PrivacySpec{clip, sigma, epsilon_micro, 10'000'000};
}

// Every operation, with a residual sum, a branch and a concatenation.
inline TrainingSpec every_layer_spec() {
  using Op = Node::Op;
  return plain_spec({3, 9, 8}, 3,
                    {convolution(8, 3, 1, 1),                 // 1
                     group_norm(4),                           // 2
                     layer(Op::kSilu),                        // 3
                     convolution(8, 3, 1, 1, 2, false),       // 4
                     layer(Op::kAdd, {3, 4}),                 // 5
                     layer(Op::kLeakyRelu),                   // 6
                     pool(Op::kMaxPool, 3, 2, 1),             // 7: 5 x 4
                     from(pool(Op::kAvgPool, 3, 2, 1), {6}),  // 8: 5 x 4
                     layer(Op::kConcat, {7, 8}),              // 9: 16 channels
                     convolution(6, 2, 2, 1),                 // 10: 3 x 3
                     layer(Op::kGelu),                        // 11
                     layer(Op::kFlatten),                     // 12
                     from(layer(Op::kGlobalAvgPool), {9}),    // 13
                     layer(Op::kConcat, {12, 13}),            // 14: 54 + 16
                     linear(10),                              // 15
                     layer(Op::kTanh),                        // 16: read by 17 alone
                     dropout(0.25),                           // 17
                     linear(7, false),                        // 18
                     layer(Op::kSigmoid),                     // 19
                     layer(Op::kRelu),                        // 20
                     linear(3)},                              // 21
                    2, 0.1);
}

// Two categorical columns under one table, one under another, two numbers.
inline TrainingSpec mixed_columns_spec() {
  using Op = Node::Op;
  Node shared = layer(Op::kEmbedding, {0}), own = layer(Op::kEmbedding, {0}),
       numbers = layer(Op::kColumns, {0});
  shared.categories = 4;
  shared.units = 3;
  shared.columns = {1, 3};
  own.categories = 2;
  own.units = 2;
  own.columns = {4};
  numbers.columns = {0, 2};
  return plain_spec({5}, 2,
                    {shared, own, numbers, layer(Op::kConcat, {1, 2, 3}), linear(6),
                     layer(Op::kLayerNorm), layer(Op::kGelu), linear(2)},
                    2, 0.1);
}

struct Data {
  std::vector<float> features;
  std::vector<int64_t> labels;
  Examples examples() const { return {std::span<const float>(features), labels}; }
};

inline Data random_data(uint64_t rows, uint64_t numbers, uint32_t classes, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Data data;
  for (uint64_t i = 0; i < rows * numbers; ++i) data.features.push_back(normal(random));
  for (uint64_t i = 0; i < rows; ++i)
    data.labels.push_back(static_cast<int64_t>(random() % classes));
  return data;
}

inline Data mixed_columns_data(uint64_t rows, uint32_t seed) {
  Data data = random_data(rows, 5, 2, seed);
  std::mt19937 random(seed + 1);
  for (uint64_t row = 0; row < rows; ++row) {
    data.features[row * 5 + 1] = static_cast<float>(random() % 4);
    data.features[row * 5 + 3] = static_cast<float>(random() % 4);
    data.features[row * 5 + 4] = static_cast<float>(random() % 2);
  }
  data.features[3] = data.features[1];  // one example names the same category twice
  return data;
}

// Two clouds, `gap` deviations apart.
inline Data separable_data(uint64_t rows, uint64_t numbers, float gap, uint32_t seed) {
  Data data = random_data(rows, numbers, 2, seed);
  for (uint64_t row = 0; row < rows; ++row) {
    for (uint64_t i = 0; i < numbers; ++i) {
      data.features[row * numbers + i] +=
          (data.labels[row] == 1 ? gap : -gap) / std::sqrt(static_cast<float>(numbers)) / 2;
    }
  }
  return data;
}

inline NoiseRoot root_of(uint8_t byte) {
  std::array<uint8_t, 32> bytes{};
  bytes.fill(byte);
  return NoiseRoot::copy_of(bytes);
}

inline std::vector<float> flat(const Model& model) {
  std::vector<float> out;
  for (const auto& tensor : model.tensors)
    out.insert(out.end(), tensor.values.begin(), tensor.values.end());
  return out;
}

}  // namespace souk::trainer::testing
