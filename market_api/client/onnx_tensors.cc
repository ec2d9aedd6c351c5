#include "market_api/client/onnx_tensors.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

namespace souk::market {
namespace {

constexpr int64_t kMaxElements = int64_t{1} << 28;

template <class T, class Out>
bool raw(const std::string& bytes, size_t count, std::vector<Out>& out) {
  if (bytes.size() != count * sizeof(T)) return false;
  out.resize(count);
  for (size_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    out[i] = static_cast<Out>(value);
  }
  return true;
}

template <class Field, class Out>
bool listed(const Field& field, size_t count, std::vector<Out>& out) {
  if (static_cast<size_t>(field.size()) != count) return false;
  for (auto value : field) out.push_back(static_cast<Out>(value));
  return true;
}

}  // namespace

Result<OnnxConstant> read_onnx_constant(const onnx::TensorProto& tensor) {
  auto bad = [&](const std::string& expected) {
    return Error(Code::kMalformed, "onnx: constant " + tensor.name() + ": expected " + expected);
  };
  if (tensor.data_location() == onnx::TensorProto::EXTERNAL)
    return bad("its values inside the file");
  OnnxConstant constant;
  int64_t elements = 1;
  for (int64_t size : tensor.dims()) {
    if (size < 0 || (size > 0 && elements > kMaxElements / size)) return bad("at most 2^28 values");
    elements *= size;
    constant.shape.push_back(size);
  }
  const auto count = static_cast<size_t>(elements);
  const bool is_raw = tensor.has_raw_data();
  const std::string& bytes = tensor.raw_data();
  bool fits = false;
  switch (tensor.data_type()) {
    case onnx::TensorProto::FLOAT:
      fits = is_raw ? raw<float>(bytes, count, constant.floats)
                    : listed(tensor.float_data(), count, constant.floats);
      break;
    case onnx::TensorProto::DOUBLE:
      fits = is_raw ? raw<double>(bytes, count, constant.floats)
                    : listed(tensor.double_data(), count, constant.floats);
      break;
    case onnx::TensorProto::INT64:
      fits = is_raw ? raw<int64_t>(bytes, count, constant.integers)
                    : listed(tensor.int64_data(), count, constant.integers);
      break;
    case onnx::TensorProto::INT32:
      fits = is_raw ? raw<int32_t>(bytes, count, constant.integers)
                    : listed(tensor.int32_data(), count, constant.integers);
      break;
    default:
      return bad("float, double, int32 or int64 values");
  }
  if (!fits) return bad("as many values as its shape says");
  if (!std::all_of(constant.floats.begin(), constant.floats.end(),
                   [](float value) { return std::isfinite(value); })) {
    return bad("finite values");
  }
  return constant;
}

double as_written(float value) {
  if (!std::isfinite(value)) return static_cast<double>(value);
  char text[32];
  double out = 0;
  auto [end, written] = std::to_chars(text, text + sizeof text, value);
  auto [read, status] = std::from_chars(text, end, out);
  CHECK(written == std::errc() && status == std::errc() && read == end);
  return out;
}

OnnxAttributes::OnnxAttributes(const onnx::NodeProto& node) {
  for (const auto& attribute : node.attribute()) attributes_[attribute.name()] = &attribute;
}

const onnx::AttributeProto* OnnxAttributes::any(const std::string& name) {
  auto it = attributes_.find(name);
  if (it == attributes_.end()) return nullptr;
  const auto* found = it->second;
  attributes_.erase(it);
  return found;
}

int64_t OnnxAttributes::integer(const std::string& name, int64_t otherwise) {
  const auto* found = any(name);
  return found ? found->i() : otherwise;
}

double OnnxAttributes::real(const std::string& name, double otherwise) {
  const auto* found = any(name);
  return found ? as_written(found->f()) : otherwise;
}

std::string OnnxAttributes::text(const std::string& name, const std::string& otherwise) {
  const auto* found = any(name);
  return found ? found->s() : otherwise;
}

std::vector<int64_t> OnnxAttributes::integers(const std::string& name,
                                              std::vector<int64_t> otherwise) {
  const auto* found = any(name);
  if (!found) return otherwise;
  return {found->ints().begin(), found->ints().end()};
}

std::string OnnxAttributes::left() const {
  return attributes_.empty() ? "" : attributes_.begin()->first;
}

}  // namespace souk::market
