#include "trainer/data/safetensors.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <set>

#include "ledger/codec/json.h"

namespace souk::trainer {
namespace {

struct DtypeRow {
  Dtype dtype;
  std::string_view name;
  size_t bytes;
};
constexpr std::array<DtypeRow, 13> kDtypes{{
    {Dtype::kBool, "BOOL", 1},
    {Dtype::kU8, "U8", 1},
    {Dtype::kI8, "I8", 1},
    {Dtype::kU16, "U16", 2},
    {Dtype::kI16, "I16", 2},
    {Dtype::kF16, "F16", 2},
    {Dtype::kBf16, "BF16", 2},
    {Dtype::kU32, "U32", 4},
    {Dtype::kI32, "I32", 4},
    {Dtype::kF32, "F32", 4},
    {Dtype::kU64, "U64", 8},
    {Dtype::kI64, "I64", 8},
    {Dtype::kF64, "F64", 8},
}};

constexpr std::string_view kMetadataName = "__metadata__";
constexpr size_t kLengthBytes = 8;

const DtypeRow& row_of(Dtype dtype) {
  for (const auto& row : kDtypes) {
    if (row.dtype == dtype) return row;
  }
  CHECK(false);
}

bool is_tensor_name(std::string_view name) {
  return !name.empty() && name != kMetadataName && name.size() <= 1024 &&
         std::all_of(name.begin(), name.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
}

std::optional<uint64_t> tensor_bytes(Dtype dtype, const TensorShape& shape) {
  auto elements = element_count(shape);
  uint64_t bytes = 0;
  if (!elements || __builtin_mul_overflow(*elements, dtype_bytes(dtype), &bytes)) return {};
  return bytes;
}

Error bad(const std::string& expected) {
  return Error(Code::kMalformed, "safetensors: " + expected);
}

// One tensor of the header, before its bytes are cut out.
struct Entry {
  Tensor tensor;
  uint64_t begin = 0;
  uint64_t end = 0;
};

Result<Entry> read_entry(const std::string& name, const Json& json) {
  if (!is_tensor_name(name)) return bad("expected tensor names of printable ASCII");
  Entry entry;
  entry.tensor.name = name;
  auto fields = TRY(Fields::of(json, "safetensors: " + name));
  auto dtype_text = TRY(fields.text("dtype", 8));
  auto dtype = dtype_from_name(dtype_text);
  if (!dtype) return bad(name + ".dtype: expected a known element type");
  entry.tensor.dtype = *dtype;
  auto* shape = TRY(fields.array("shape", kMaxTensorDimensions));
  for (const auto& item : *shape) {
    auto* extent = item.integer();
    if (!extent || *extent < 0) return bad(name + ".shape: expected integers from 0");
    entry.tensor.shape.push_back(static_cast<uint64_t>(*extent));
  }
  auto* offsets = TRY(fields.array("data_offsets", 2));
  TRY(fields.done());
  auto* begin = offsets->size() == 2 ? (*offsets)[0].integer() : nullptr;
  auto* end = offsets->size() == 2 ? (*offsets)[1].integer() : nullptr;
  if (!begin || !end || *begin < 0 || *end < *begin) {
    return bad(name + ".data_offsets: expected a begin and an end after it");
  }
  entry.begin = static_cast<uint64_t>(*begin);
  entry.end = static_cast<uint64_t>(*end);
  if (tensor_bytes(*dtype, entry.tensor.shape) != entry.end - entry.begin) {
    return bad(name + ".data_offsets: expected the size of its shape and element type");
  }
  return entry;
}

}  // namespace

size_t dtype_bytes(Dtype dtype) {
  return row_of(dtype).bytes;
}
std::string_view dtype_name(Dtype dtype) {
  return row_of(dtype).name;
}

std::optional<Dtype> dtype_from_name(std::string_view name) {
  for (const auto& row : kDtypes) {
    if (row.name == name) return row.dtype;
  }
  return {};
}

std::optional<uint64_t> element_count(const TensorShape& shape) {
  uint64_t count = 1;
  bool empty = false;
  // A zero does not excuse an overflow beside it: the product of the others counts.
  for (uint64_t extent : shape) {
    if (extent == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(count, extent, &count)) {
      return {};
    }
  }
  return empty ? 0 : count;
}

Result<Bytes> write_safetensors(std::span<const Tensor> tensors, const TensorMetadata& metadata) {
  std::vector<const Tensor*> order;
  std::set<std::string_view> names;
  for (const auto& tensor : tensors) {
    if (!is_tensor_name(tensor.name)) return bad("expected tensor names of printable ASCII");
    if (!names.insert(tensor.name).second) return bad("expected each tensor name once");
    if (tensor.shape.size() > kMaxTensorDimensions) return bad("expected at most 8 dimensions");
    if (tensor_bytes(tensor.dtype, tensor.shape) != tensor.bytes.size()) {
      return bad(tensor.name + ": expected the bytes of its shape and element type");
    }
    order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(), [](const Tensor* a, const Tensor* b) {
    size_t a_bytes = dtype_bytes(a->dtype);
    size_t b_bytes = dtype_bytes(b->dtype);
    return a_bytes != b_bytes ? a_bytes > b_bytes : a->name < b->name;
  });

  Json::Object header;
  uint64_t offset = 0;
  for (const Tensor* tensor : order) {
    Json::Array shape;
    for (uint64_t extent : tensor->shape) {
      if (extent > static_cast<uint64_t>(kMaxJsonInteger))
        return bad("expected extents below 2^53");
      shape.emplace_back(extent);
    }
    Json::Array offsets{Json(offset), Json(offset + tensor->bytes.size())};
    header[tensor->name] = Json::Object{{"data_offsets", std::move(offsets)},
                                        {"dtype", Json(dtype_name(tensor->dtype))},
                                        {"shape", std::move(shape)}};
    offset += tensor->bytes.size();
  }
  if (!metadata.empty()) {
    Json::Object members;
    for (const auto& [name, value] : metadata) {
      if (!name.empty() && !is_tensor_name(name)) {
        return bad("expected metadata names of printable ASCII");
      }
      members[name] = value;
    }
    header[std::string(kMetadataName)] = std::move(members);
  }

  auto text = canonical(Json(std::move(header)));
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > kMaxSafeTensorsHeaderBytes) return bad("expected a header of at most 1 MiB");
  // Only the values of the metadata can be wrong here: text that is not UTF-8.
  TRY(parse_json(text, kMaxSafeTensorsHeaderBytes));

  Bytes out;
  out.reserve(kLengthBytes + text.size() + offset);
  for (size_t i = 0; i < kLengthBytes; ++i) {
    out.push_back(static_cast<uint8_t>(uint64_t{text.size()} >> (8 * i)));
  }
  append(out, as_bytes(text));
  for (const Tensor* tensor : order) append(out, tensor->bytes);
  return out;
}

Result<SafeTensors> SafeTensors::read(ByteView file) {
  if (file.size() < kLengthBytes) return bad("expected 8 bytes of header length");
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) length |= uint64_t{file[i]} << (8 * i);
  if (length > kMaxSafeTensorsHeaderBytes) return bad("expected a header of at most 1 MiB");
  if (length > file.size() - kLengthBytes) return bad("expected the whole header");
  auto text = as_text(file.subspan(kLengthBytes, length));
  auto data = file.subspan(kLengthBytes + length);
  if (text.empty() || text.front() != '{') return bad("expected the header to start with {");

  auto header = TRY(parse_json(text, kMaxSafeTensorsHeaderBytes));
  auto* members = header.object();
  if (!members) return bad("expected an object");

  SafeTensors out;
  std::vector<Entry> entries;
  for (const auto& [name, value] : *members) {
    if (name == kMetadataName) {
      auto* metadata = value.object();
      if (!metadata) return bad("__metadata__: expected an object");
      for (const auto& [key, item] : *metadata) {
        if (!item.string()) return bad("__metadata__: expected strings");
        out.metadata_.emplace(key, *item.string());
      }
      continue;
    }
    auto entry = TRY(read_entry(name, value));
    entries.push_back(std::move(entry));
  }

  // In the order of their bytes the tensors must meet exactly and reach the end.
  std::vector<size_t> order(entries.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::pair(entries[a].begin, entries[a].end) <
           std::pair(entries[b].begin, entries[b].end);
  });
  uint64_t at = 0;
  for (size_t i : order) {
    if (entries[i].begin != at) return bad("expected tensors without gap or overlap");
    if (entries[i].end > data.size()) return bad("expected all tensors inside the file");
    at = entries[i].end;
  }
  if (at != data.size()) return bad("expected no bytes after the last tensor");

  for (auto& entry : entries) {
    entry.tensor.bytes = data.subspan(entry.begin, entry.end - entry.begin);
    out.tensors_.push_back(std::move(entry.tensor));
  }
  return out;
}

const Tensor* SafeTensors::find(std::string_view name) const {
  auto it = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                             [](const Tensor& t, std::string_view n) { return t.name < n; });
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

}  // namespace souk::trainer
