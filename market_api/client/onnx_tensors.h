// What a node of an ONNX graph says, read with care. For onnx_import.cc alone.
#pragma once

#include <onnx/onnx_pb.h>

#include <map>
#include <string>
#include <vector>

#include "ledger/base/result.h"

namespace souk::market {

// A constant of the graph: exactly one of the two lists is used.
struct OnnxConstant {
  std::vector<int64_t> shape;
  std::vector<float> floats;
  std::vector<int64_t> integers;

  size_t size() const { return floats.empty() ? integers.size() : floats.size(); }
};
// Float, double, int64 and int32, finite, inside the file.
Result<OnnxConstant> read_onnx_constant(const onnx::TensorProto& tensor);

// The double that one writes like this float: 0.1, where its bits say 0.10000000149.
double as_written(float value);

// The attributes of one node; those that nobody asked for are refused by done().
class OnnxAttributes {
 public:
  explicit OnnxAttributes(const onnx::NodeProto& node);

  int64_t integer(const std::string& name, int64_t otherwise);
  double real(const std::string& name, double otherwise);
  std::string text(const std::string& name, const std::string& otherwise);
  std::vector<int64_t> integers(const std::string& name, std::vector<int64_t> otherwise = {});
  const onnx::AttributeProto* any(const std::string& name);
  // "" or the name of an attribute that was not read.
  std::string left() const;

 private:
  std::map<std::string, const onnx::AttributeProto*> attributes_;
};

}  // namespace souk::market
