#include <bit>

#include "trainer/data/import.h"
#include "trainer/data/import_common.h"

namespace souk::trainer {
namespace {

// An IDX file: two zero bytes, element type, number of dimensions, big-endian
// extents, elements.
struct Idx {
  enum class Type : uint8_t { kU8 = 0x08, kF32 = 0x0d };
  Type type = Type::kU8;
  TensorShape shape;
  ByteView data;  // big-endian
};

Result<Idx> read_idx(ByteView file, const std::string& what) {
  auto bad = [&](size_t at, const std::string& expected) {
    return Error(Code::kMalformed, what + ", byte " + std::to_string(at) + ": " + expected);
  };
  if (file.size() < 4 || file[0] != 0 || file[1] != 0)
    return bad(0, "expected the IDX magic number");
  Idx idx;
  if (file[2] != static_cast<uint8_t>(Idx::Type::kU8) &&
      file[2] != static_cast<uint8_t>(Idx::Type::kF32)) {
    return bad(2, "expected elements of type u8 (0x08) or f32 (0x0d)");
  }
  idx.type = static_cast<Idx::Type>(file[2]);
  size_t dimensions = file[3];
  if (dimensions == 0 || dimensions >= kMaxTensorDimensions)
    return bad(3, "expected 1 to 7 dimensions");
  size_t at = 4;
  if (file.size() < at + 4 * dimensions) return bad(file.size(), "expected all extents");
  for (size_t i = 0; i < dimensions; ++i, at += 4) {
    uint64_t extent = 0;
    for (size_t k = 0; k < 4; ++k) extent = extent << 8 | file[at + k];
    if (extent == 0) return bad(at, "expected an extent that is not zero");
    idx.shape.push_back(extent);
  }
  idx.data = file.subspan(at);
  auto elements = element_count(idx.shape);
  uint64_t bytes = 0;
  if (!elements ||
      __builtin_mul_overflow(*elements, idx.type == Idx::Type::kU8 ? 1u : 4u, &bytes) ||
      bytes != idx.data.size()) {
    return bad(file.size(), "expected the file to end with the last element of its extents");
  }
  return idx;
}

std::vector<float> big_endian_floats(ByteView data) {
  std::vector<float> values(data.size() / 4);
  for (size_t i = 0; i < values.size(); ++i) {
    uint32_t bits = 0;
    for (size_t k = 0; k < 4; ++k) bits = bits << 8 | data[4 * i + k];
    values[i] = std::bit_cast<float>(bits);
  }
  return values;
}

}  // namespace

Result<TensorShape> idx_shape(ByteView file) {
  auto unpacked = TRY(gunzip_if_needed(file));
  auto idx = TRY(read_idx(unpacked, "file"));
  return idx.shape;
}

Result<Dataset> import_idx(ByteView images, ByteView labels, const IdxOptions& options) {
  auto image_file = gunzip_if_needed(images);
  if (!image_file) return std::move(image_file).take_error().within("images");
  auto label_file = gunzip_if_needed(labels);
  if (!label_file) return std::move(label_file).take_error().within("labels");
  auto image_idx = TRY(read_idx(*image_file, "images"));
  auto label_idx = TRY(read_idx(*label_file, "labels"));

  if (image_idx.shape.size() < 2) {
    return Error(Code::kMalformed, "images: expected rows and at least one more dimension");
  }
  if (label_idx.type != Idx::Type::kU8 || label_idx.shape.size() != 1) {
    return Error(Code::kMalformed, "labels: expected u8 in one dimension; are the files swapped?");
  }
  if (label_idx.shape[0] != image_idx.shape[0]) {
    return Error(Code::kMalformed, "labels: expected one for each of the " +
                                       std::to_string(image_idx.shape[0]) + " images");
  }

  Dataset dataset;
  dataset.schema.label_name = options.label_name;
  auto& shape = dataset.schema.feature_shape;
  shape.assign(image_idx.shape.begin() + 1, image_idx.shape.end());
  if (shape.size() == 2) shape.insert(shape.begin(), 1);  // one channel
  LabelCollector collector(options.classes);
  for (size_t row = 0; row < label_idx.data.size(); ++row) {
    auto added = collector.add(std::to_string(label_idx.data[row]));
    if (!added) return std::move(added).take_error().within("labels, row " + std::to_string(row));
  }
  std::move(collector).finish(dataset);
  if (image_idx.type == Idx::Type::kU8) {
    dataset.features = std::vector<uint8_t>(image_idx.data.begin(), image_idx.data.end());
  } else {
    dataset.features = big_endian_floats(image_idx.data);
  }
  TRY(validate(dataset));
  return dataset;
}

}  // namespace souk::trainer
