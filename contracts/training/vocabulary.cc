#include "contracts/training/vocabulary.h"

#include <array>

namespace souk::contracts {
namespace {

struct OpName {
  Node::Op op;
  std::string_view name;
};
constexpr std::array<OpName, 21> kOps = {{
    {Node::Op::kLinear, "linear"},
    {Node::Op::kConv2d, "conv2d"},
    {Node::Op::kMaxPool, "max_pool"},
    {Node::Op::kAvgPool, "avg_pool"},
    {Node::Op::kGlobalAvgPool, "global_avg_pool"},
    {Node::Op::kRelu, "relu"},
    {Node::Op::kLeakyRelu, "leaky_relu"},
    {Node::Op::kTanh, "tanh"},
    {Node::Op::kSigmoid, "sigmoid"},
    {Node::Op::kGelu, "gelu"},
    {Node::Op::kSilu, "silu"},
    {Node::Op::kFlatten, "flatten"},
    {Node::Op::kDropout, "dropout"},
    {Node::Op::kGroupNorm, "group_norm"},
    {Node::Op::kAdd, "add"},
    {Node::Op::kConcat, "concat"},
    {Node::Op::kEmbedding, "embedding"},
    {Node::Op::kColumns, "columns"},
    {Node::Op::kBatchNorm, "batch_norm"},
    {Node::Op::kLayerNorm, "layer_norm"},
    {Node::Op::kScattering, "scattering"},
}};

}  // namespace

OpFields fields_of(Node::Op op) {
  OpFields has;
  switch (op) {
    case Node::Op::kLinear:
      has.units = has.bias = has.standardize = has.frozen = true;
      break;
    case Node::Op::kConv2d:
      has.units = has.window = has.groups = has.bias = has.standardize = has.frozen = true;
      break;
    case Node::Op::kMaxPool:
    case Node::Op::kAvgPool:
      has.window = true;
      break;
    case Node::Op::kLeakyRelu:
      has.slope = true;
      break;
    case Node::Op::kDropout:
      has.rate = true;
      break;
    case Node::Op::kGroupNorm:
      has.groups = has.frozen = true;
      break;
    case Node::Op::kBatchNorm:
    case Node::Op::kLayerNorm:
      has.frozen = true;
      break;
    case Node::Op::kEmbedding:
      has.units = has.categories = has.columns = has.frozen = true;
      break;
    case Node::Op::kColumns:
      has.columns = true;
      break;
    case Node::Op::kScattering:
      has.scattering = true;
      break;
    case Node::Op::kGlobalAvgPool:
    case Node::Op::kRelu:
    case Node::Op::kTanh:
    case Node::Op::kSigmoid:
    case Node::Op::kGelu:
    case Node::Op::kSilu:
    case Node::Op::kFlatten:
    case Node::Op::kAdd:
    case Node::Op::kConcat:
      break;
  }
  return has;
}

Error malformed(const std::string& place, const std::string& expected) {
  return Error(Code::kMalformed, place + ": " + expected);
}

std::string node_place(size_t i) {
  return "spec.model[" + std::to_string(i + 1) + "]";
}

std::string op_name(Node::Op op) {
  for (const auto& row : kOps) {
    if (row.op == op) return std::string(row.name);
  }
  return "unknown";
}

std::optional<Node::Op> op_from_name(std::string_view name) {
  for (const auto& row : kOps) {
    if (row.name == name) return row.op;
  }
  return std::nullopt;
}

}  // namespace souk::contracts
