// Networks with every layer, and rows for them.
#pragma once

#include <cmath>
#include <random>

#include "market_api/client/evaluate.h"
#include "market_api/client/model_part.h"
#include "market_api/client/stored_model.h"
#include "trainer/engine/engine.h"

namespace souk::market::testing {

using contracts::Node;
using Op = contracts::Node::Op;

inline Node layer(Op op, std::vector<uint32_t> inputs = {}) {
  Node node;
  node.op = op;
  node.inputs = std::move(inputs);
  return node;
}
inline Node linear(uint32_t units, bool bias = true) {
  Node node = layer(Op::kLinear);
  node.units = units;
  node.bias = bias;
  return node;
}
inline Node conv(uint32_t units, uint32_t kernel, uint32_t stride = 1, uint32_t padding = 0,
                 uint32_t groups = 1, bool bias = true) {
  Node node = layer(Op::kConv2d);
  node.units = units;
  node.kernel = kernel;
  node.stride = stride;
  node.padding = padding;
  node.groups = groups;
  node.bias = bias;
  return node;
}
inline Node pool(Op op, uint32_t kernel, uint32_t stride, uint32_t padding = 0) {
  Node node = layer(op);
  node.kernel = kernel;
  node.stride = stride;
  node.padding = padding;
  return node;
}
inline Node group_norm(uint32_t groups) {
  Node node = layer(Op::kGroupNorm);
  node.groups = groups;
  return node;
}
inline Node dropout(double rate) {
  Node node = layer(Op::kDropout);
  node.rate = rate;
  return node;
}
inline Node leaky(double slope) {
  Node node = layer(Op::kLeakyRelu);
  node.slope = slope;
  return node;
}
inline Node from(Node node, std::vector<uint32_t> inputs) {
  node.inputs = std::move(inputs);
  return node;
}
inline Node embedding(uint32_t categories, uint32_t units, std::vector<uint32_t> columns) {
  Node node = layer(Op::kEmbedding, {0});
  node.categories = categories;
  node.units = units;
  node.columns = std::move(columns);
  return node;
}
inline Node columns(std::vector<uint32_t> which) {
  Node node = layer(Op::kColumns, {0});
  node.columns = std::move(which);
  return node;
}

// Every layer for images but batch norm, two ways through.
inline ModelPart picture_network() {
  ModelPart part;
  part.input_shape = {3, 12, 10};
  part.input_mean = {100};
  part.input_scale = {0.0125};
  part.classes = 4;
  part.model = {conv(8, 3, 1, 1),  // 1
                group_norm(4),
                layer(Op::kSilu),                        // 3
                conv(8, 3, 1, 1, 2, false),              // 4
                layer(Op::kGelu),                        // 5
                layer(Op::kAdd, {5, 3}),                 // 6
                pool(Op::kMaxPool, 3, 2, 1),             // 7
                leaky(0.1),                              // 8
                from(pool(Op::kAvgPool, 3, 2, 1), {6}),  // 9
                layer(Op::kConcat, {8, 9}),              // 10
                dropout(0.25),
                layer(Op::kTanh),  // 12
                conv(6, 1),
                layer(Op::kSigmoid),  // 14
                layer(Op::kFlatten),
                linear(9),  // 16
                layer(Op::kRelu),
                group_norm(3),
                linear(4)};  // 19
  return part;
}

inline ModelPart pooled_network() {
  ModelPart part;
  part.input_shape = {1, 8, 8};
  part.classes = 3;
  part.model = {conv(5, 3), layer(Op::kRelu), layer(Op::kGlobalAvgPool), layer(Op::kRelu),
                linear(3)};
  return part;
}

// Trained for no step: initial weights, moved a little so that no norm is the identity.
inline StoredModel stored_with_noise(const contracts::TrainingSpec& spec, uint64_t seed = 7) {
  StoredModel stored;
  stored.notes.spec = spec;
  stored.model = trainer::initial_model(spec).take();
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<float> noise(-0.1F, 0.1F);
  for (auto& tensor : stored.model.tensors) {
    bool variance = tensor.name.find("running_var") != std::string::npos;
    for (float& value : tensor.values) value += variance ? std::fabs(noise(random)) : noise(random);
  }
  return stored;
}

inline trainer::Dataset random_rows(const contracts::TrainingSpec& spec, uint64_t rows,
                                    uint64_t seed = 3) {
  trainer::Dataset data;
  uint64_t count = 1;
  for (uint32_t side : spec.input_shape) {
    data.schema.feature_shape.push_back(side);
    count *= side;
  }
  std::mt19937_64 random(seed);
  std::vector<uint8_t> values(rows * count);
  for (auto& value : values) value = static_cast<uint8_t>(random() % 256);
  data.features = std::move(values);
  for (uint64_t row = 0; row < rows; ++row)
    data.labels.push_back(static_cast<int64_t>(random() % spec.classes));
  for (uint32_t label = 0; label < spec.classes; ++label)
    data.schema.classes.push_back(std::to_string(label));
  data.schema.label_name = "label";
  return data;
}

inline std::vector<float> logits(const StoredModel& stored, const trainer::Dataset& rows) {
  auto workers = trainer::Workers::start(1).take();
  auto features =
      std::visit([](const auto& v) { return trainer::Features(std::span(v.data(), v.size())); },
                 rows.features);
  return trainer::predict(stored.notes.spec, stored.model, features, rows.rows(), *workers).take();
}

}  // namespace souk::market::testing
