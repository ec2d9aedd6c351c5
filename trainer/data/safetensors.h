// safetensors: 8-byte little-endian header length, JSON header, tensors.
//
// The writer is deterministic: equal tensors and metadata give equal bytes. The
// reader accepts every file in which the tensors cover the data exactly, and
// refuses the rest; it is safe on hostile bytes and allocates no more than the
// header asks for.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/bytes.h"
#include "ledger/base/result.h"

namespace souk::trainer {

enum class Dtype : uint8_t {
  kBool,
  kU8,
  kI8,
  kU16,
  kI16,
  kF16,
  kBf16,
  kU32,
  kI32,
  kF32,
  kU64,
  kI64,
  kF64,
};
size_t dtype_bytes(Dtype dtype);
std::string_view dtype_name(Dtype dtype);  // "F32"
std::optional<Dtype> dtype_from_name(std::string_view name);

inline constexpr size_t kMaxSafeTensorsHeaderBytes = 1 << 20;
inline constexpr size_t kMaxTensorDimensions = 8;

using TensorShape = std::vector<uint64_t>;

// Elements in the shape (1 for a scalar); nothing on overflow.
std::optional<uint64_t> element_count(const TensorShape& shape);

// A tensor in memory that somebody else owns. Elements are little-endian, row
// major, and need not be aligned: copy them out.
struct Tensor {
  std::string name;
  Dtype dtype = Dtype::kF32;
  TensorShape shape = {};
  ByteView bytes = {};
};

using TensorMetadata = std::map<std::string, std::string>;

// Header members in name order, data in order of falling element size and then
// name, so that every tensor is aligned; header padded with spaces to a multiple
// of 8. kMalformed when a name repeats, is not printable ASCII or is
// "__metadata__", when bytes do not fit the shape, or when the header grows past
// its limit.
Result<Bytes> write_safetensors(std::span<const Tensor> tensors, const TensorMetadata& metadata);

// A file that was read. Borrows the file's bytes.
class SafeTensors {
 public:
  static Result<SafeTensors> read(ByteView file);

  // In name order.
  const std::vector<Tensor>& tensors() const { return tensors_; }
  const TensorMetadata& metadata() const { return metadata_; }
  // Or null pointer.
  const Tensor* find(std::string_view name) const;

 private:
  std::vector<Tensor> tensors_;
  TensorMetadata metadata_;
};

}  // namespace souk::trainer
