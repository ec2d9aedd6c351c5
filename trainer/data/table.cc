#include "trainer/data/table.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <set>

#include "ledger/codec/json.h"
#include "trainer/data/names.h"

static_assert(std::endian::native == std::endian::little, "tensors are little-endian in memory");

namespace souk::trainer {
namespace {

constexpr char kFeatures[] = "features";
constexpr char kLabels[] = "labels";
constexpr size_t kMaxMetadataTextBytes = kMaxSafeTensorsHeaderBytes;

Error bad(const std::string& expected) {
  return Error(Code::kMalformed, "dataset: " + expected);
}

Status check_names(const std::vector<std::string>& names, const std::string& what) {
  std::set<std::string_view> seen;
  for (const auto& name : names) {
    if (!is_name(name)) {
      return bad(what + ": expected names of 1 to 256 bytes of UTF-8 without control characters");
    }
    if (!seen.insert(name).second) return bad(what + ": expected each name once");
  }
  return Done{};
}

Status check_schema(const DatasetSchema& schema, uint64_t rows) {
  if (rows == 0 || rows > kMaxDatasetRows) return bad("expected 1 to 2^31 rows");
  if (schema.feature_shape.empty() || schema.feature_shape.size() >= kMaxTensorDimensions) {
    return bad("feature shape: expected 1 to 7 dimensions");
  }
  auto features = element_count(schema.feature_shape);
  if (!features || *features == 0 || *features > kMaxRowFeatures) {
    return bad("feature shape: expected 1 to 2^24 features in a row");
  }
  if (!schema.feature_names.empty() && schema.feature_names.size() != *features) {
    return bad("feature names: expected none, or one for each feature");
  }
  TRY(check_names(schema.feature_names, "feature names"));
  if (!is_name(schema.label_name)) {
    return bad("label name: expected 1 to 256 bytes of UTF-8 without control characters");
  }
  if (schema.classes.empty() || schema.classes.size() > kMaxClasses) {
    return bad("classes: expected 1 to 4096");
  }
  TRY(check_names(schema.classes, "classes"));
  return Done{};
}

template <class T>
T load(ByteView bytes, uint64_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

Status check_values(Dtype dtype, ByteView features, uint64_t feature_count, ByteView labels,
                    size_t classes) {
  if (dtype == Dtype::kF32) {
    for (uint64_t i = 0; i < features.size() / sizeof(float); ++i) {
      if (!std::isfinite(load<float>(features, i))) {
        return bad("row " + std::to_string(i / feature_count) + ", feature " +
                   std::to_string(i % feature_count) + ": expected a finite number");
      }
    }
  }
  for (uint64_t row = 0; row < labels.size() / sizeof(int64_t); ++row) {
    auto label = load<int64_t>(labels, row);
    if (label < 0 || static_cast<uint64_t>(label) >= classes) {
      return bad("row " + std::to_string(row) + ": expected a label below the number of classes");
    }
  }
  return Done{};
}

std::string names_text(const std::vector<std::string>& names) {
  return canonical(Json(Json::Array(names.begin(), names.end())));
}

Result<std::vector<std::string>> names_from_text(const std::string& text, const std::string& what) {
  auto json = TRY(parse_canonical(text, kMaxMetadataTextBytes));
  auto* items = json.array();
  if (!items) return bad(what + ": expected a list of names");
  std::vector<std::string> names;
  for (const auto& item : *items) {
    if (!item.string()) return bad(what + ": expected a list of names");
    names.push_back(*item.string());
  }
  return names;
}

// The four members of "__metadata__", each once and no other.
Result<DatasetSchema> schema_from_metadata(const TensorMetadata& metadata) {
  auto text = [&](const char* name) -> Result<std::string> {
    auto it = metadata.find(name);
    if (it == metadata.end()) return bad(std::string(name) + ": expected this metadata");
    return it->second;
  };
  auto version = TRY(text("version"));
  if (version != kDatasetVersion) return bad("version: expected " + std::string(kDatasetVersion));
  auto classes = TRY(text("classes"));
  auto feature_names = TRY(text("feature_names"));
  DatasetSchema schema;
  schema.label_name = TRY(text("label_name"));
  if (metadata.size() != 4) return bad("expected no other metadata");
  schema.classes = TRY(names_from_text(classes, "classes"));
  schema.feature_names = TRY(names_from_text(feature_names, "feature names"));
  return schema;
}

ByteView feature_bytes(const Dataset& dataset) {
  return std::visit(
      [](const auto& values) {
        return ByteView(reinterpret_cast<const uint8_t*>(values.data()),
                        values.size() * sizeof(values[0]));
      },
      dataset.features);
}

Dtype feature_dtype(const Dataset& dataset) {
  return dataset.features.index() == 0 ? Dtype::kF32 : Dtype::kU8;
}

ByteView label_bytes(const Dataset& dataset) {
  return {reinterpret_cast<const uint8_t*>(dataset.labels.data()),
          dataset.labels.size() * sizeof(int64_t)};
}

}  // namespace

Status validate(const Dataset& dataset) {
  TRY(check_schema(dataset.schema, dataset.rows()));
  auto features = feature_bytes(dataset);
  // In range: at most 2^31 rows of 2^24 features of 4 bytes.
  if (features.size() !=
      dataset.rows() * dataset.feature_count() * dtype_bytes(feature_dtype(dataset))) {
    return bad("expected rows times features values");
  }
  return check_values(feature_dtype(dataset), features, dataset.feature_count(),
                      label_bytes(dataset), dataset.schema.classes.size());
}

Result<Bytes> dataset_to_safetensors(const Dataset& dataset) {
  TRY(validate(dataset));
  TensorShape shape{dataset.rows()};
  shape.insert(shape.end(), dataset.schema.feature_shape.begin(),
               dataset.schema.feature_shape.end());
  const Tensor tensors[] = {
      {kFeatures, feature_dtype(dataset), shape, feature_bytes(dataset)},
      {kLabels, Dtype::kI64, {dataset.rows()}, label_bytes(dataset)},
  };
  return write_safetensors(tensors, {{"version", std::string(kDatasetVersion)},
                                     {"label_name", dataset.schema.label_name},
                                     {"classes", names_text(dataset.schema.classes)},
                                     {"feature_names", names_text(dataset.schema.feature_names)}});
}

Result<DatasetFile> DatasetFile::of(ByteView safetensors, Values values) {
  auto file = TRY(SafeTensors::read(safetensors));
  DatasetFile view;
  view.schema_ = TRY(schema_from_metadata(file.metadata()));

  const Tensor* features = file.find(kFeatures);
  const Tensor* labels = file.find(kLabels);
  if (!features || !labels || file.tensors().size() != 2) {
    return bad("expected exactly the tensors features and labels");
  }
  if (labels->dtype != Dtype::kI64 || labels->shape.size() != 1) {
    return bad("labels: expected I64 [rows]");
  }
  if (features->dtype != Dtype::kF32 && features->dtype != Dtype::kU8) {
    return bad("features: expected F32 or U8");
  }
  if (features->shape.empty() || features->shape[0] != labels->shape[0]) {
    return bad("features: expected one row for each label");
  }
  view.rows_ = labels->shape[0];
  view.schema_.feature_shape.assign(features->shape.begin() + 1, features->shape.end());
  TRY(check_schema(view.schema_, view.rows_));
  view.feature_count_ = element_count(view.schema_.feature_shape).value_or(0);
  view.feature_dtype_ = features->dtype;
  view.features_ = features->bytes;
  view.labels_ = labels->bytes;
  if (values == Values::kChecked) {
    TRY(check_values(view.feature_dtype_, view.features_, view.feature_count_, view.labels_,
                     view.schema_.classes.size()));
  }
  return view;
}

void DatasetFile::copy_row(uint64_t row, std::span<float> out) const {
  CHECK(row < rows_ && out.size() == feature_count_);
  if (feature_dtype_ == Dtype::kF32) {
    std::memcpy(out.data(), features_.data() + row * feature_count_ * sizeof(float),
                out.size_bytes());
    for (float& value : out) value = std::isfinite(value) ? value : 0;  // checked, or clamped
    return;
  }
  auto bytes = features_.subspan(row * feature_count_, feature_count_);
  std::transform(bytes.begin(), bytes.end(), out.begin(),
                 [](uint8_t byte) { return static_cast<float>(byte); });
}

int64_t DatasetFile::label(uint64_t row) const {
  CHECK(row < rows_);
  auto label = load<int64_t>(labels_, row);
  bool known = label >= 0 && static_cast<uint64_t>(label) < schema_.classes.size();
  return known ? label : 0;
}

Result<Dataset> dataset_from_safetensors(ByteView file, Values values) {
  auto view = TRY(DatasetFile::of(file, values));
  Dataset dataset;
  dataset.schema = view.schema();
  dataset.labels.resize(view.rows());
  for (uint64_t row = 0; row < view.rows(); ++row) dataset.labels[row] = view.label(row);

  if (view.feature_dtype() == Dtype::kU8) {
    // The view has proved that this tensor is there.
    auto tensors = TRY(SafeTensors::read(file));
    auto bytes = tensors.find(kFeatures)->bytes;
    dataset.features = std::vector<uint8_t>(bytes.begin(), bytes.end());
    return dataset;
  }
  std::vector<float> floats(view.rows() * view.feature_count());
  for (uint64_t row = 0; row < view.rows(); ++row) {
    view.copy_row(row, std::span(floats).subspan(row * view.feature_count(), view.feature_count()));
  }
  dataset.features = std::move(floats);
  return dataset;
}

}  // namespace souk::trainer
