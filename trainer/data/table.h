// A dataset: rows of numeric features, each with a class. Kept as one safetensors
// file (trainer/SPEC.md, "Dataset").
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "ledger/base/bytes.h"
#include "ledger/base/result.h"
#include "trainer/data/safetensors.h"

namespace souk::trainer {

inline constexpr std::string_view kDatasetVersion = "souk-dataset/1";
inline constexpr uint64_t kMaxDatasetRows = uint64_t{1} << 31;
inline constexpr uint64_t kMaxRowFeatures = uint64_t{1} << 24;
inline constexpr size_t kMaxClasses = 4096;
inline constexpr size_t kMaxNameBytes = 256;

// What both forms of a dataset say about their rows.
struct DatasetSchema {
  TensorShape feature_shape = {};  // of one row: {30}, {1, 28, 28} (channel, height, width)
  std::vector<std::string> feature_names = {};  // empty, or one per feature
  std::string label_name = {};
  std::vector<std::string> classes = {};  // label i is classes[i]

  friend bool operator==(const DatasetSchema&, const DatasetSchema&) = default;
};

// A dataset in ordinary memory: for importers and tests.
struct Dataset {
  // Row major, rows × feature_count. Floats are finite; bytes are 0…255, unscaled.
  std::variant<std::vector<float>, std::vector<uint8_t>> features;
  std::vector<int64_t> labels;  // each in [0, classes)
  DatasetSchema schema;

  uint64_t rows() const { return labels.size(); }
  uint64_t feature_count() const { return element_count(schema.feature_shape).value_or(0); }

  friend bool operator==(const Dataset&, const Dataset&) = default;
};

// What becomes of a number that is not finite, and of a label past the classes.
enum class Values : uint8_t {
  kChecked,  // the file is malformed
  kClamped,  // the number is 0, the label the first class: no row decides whether the file is read
};

// A validated dataset inside the bytes of its file, which it borrows: for the
// enclave, whose rows stay where they were decrypted.
class DatasetFile {
 public:
  // kMalformed says what was expected: exactly the tensors "features" (F32 or U8)
  // and "labels" (I64), exactly the metadata of this version, finite floats, labels
  // in range. Each value is looked at once, in order.
  static Result<DatasetFile> of(ByteView safetensors, Values values = Values::kChecked);

  uint64_t rows() const { return rows_; }
  uint64_t feature_count() const { return feature_count_; }
  Dtype feature_dtype() const { return feature_dtype_; }
  const DatasetSchema& schema() const { return schema_; }

  // Writes feature_count() floats; bytes become 0.0 … 255.0. CHECKs its arguments.
  void copy_row(uint64_t row, std::span<float> out) const;
  int64_t label(uint64_t row) const;

 private:
  DatasetFile() = default;

  uint64_t rows_ = 0;
  uint64_t feature_count_ = 0;
  Dtype feature_dtype_ = Dtype::kF32;
  DatasetSchema schema_;
  ByteView features_;
  ByteView labels_;
};

// The same rules, for a dataset in memory.
Status validate(const Dataset& dataset);

Result<Bytes> dataset_to_safetensors(const Dataset& dataset);
Result<Dataset> dataset_from_safetensors(ByteView file, Values values = Values::kChecked);

}  // namespace souk::trainer
