// The table behind the vocabulary: which operation has which fields. For this folder alone.
#pragma once

#include <string>

#include "contracts/training/spec.h"

namespace souk::contracts {

inline constexpr size_t kMaxNodes = 256;
inline constexpr uint64_t kMaxParameters = 50'000'000;
inline constexpr uint64_t kMaxActivations = uint64_t{1}
                                            << 24;  // numbers in one node's output for one example
inline constexpr int64_t kMaxSteps = 1'000'000;
inline constexpr int64_t kMaxBatch = 65536;
inline constexpr int64_t kMaxShard = 4096;
inline constexpr int64_t kMaxWidth = 65536;
inline constexpr int64_t kMaxCategories = 1'000'000;
inline constexpr int64_t kMaxMultiplicity = 64;
inline constexpr int64_t kMaxCrop = 64;
inline constexpr int64_t kMaxScales = 4;
inline constexpr int64_t kMaxOrientations = 16;
inline constexpr int64_t kMaxScattered = 256;  // pixels on a side
inline constexpr size_t kMaxRates = 65536;
inline constexpr size_t kMaxConstants = 1 << 18;
inline constexpr int64_t kMaxEpsilonMicro = 1'000'000'000'000;
inline constexpr size_t kMaxPool = 16;  // datasets of one contract
inline constexpr int64_t kMaxDeltaPico = 999'999'999'999;

// Which fields of Node an op has. One table for the writer, the reader and the check.
struct OpFields {
  bool units = false, window = false, groups = false, bias = false, slope = false, rate = false;
  bool categories = false, columns = false, standardize = false, frozen = false;
  bool scattering = false;
};
OpFields fields_of(Node::Op op);

Error malformed(const std::string& place, const std::string& expected);
// "spec.model[i + 1]"
std::string node_place(size_t i);
// False for NaN.
inline bool within(double value, double min, double max) {
  return value >= min && value <= max;
}

struct NodeShape {
  Shape3 output;
  uint64_t parameters = 0;
};
// The output of a node on inputs of these shapes, at least one.
Result<NodeShape> shape_of(const Node& node, const std::vector<Shape3>& in,
                           const std::string& place);

}  // namespace souk::contracts
