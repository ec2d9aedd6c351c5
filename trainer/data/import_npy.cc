#include <algorithm>
#include <array>
#include <cfloat>
#include <charconv>
#include <cmath>
#include <cstring>

#include "trainer/data/import.h"
#include "trainer/data/import_common.h"

namespace souk::trainer {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";

struct Npy {
  enum class Type { kF4, kF8, kU1, kI8 };
  Type type = Type::kF4;
  TensorShape shape;
  ByteView data;

  size_t element_bytes() const { return type == Type::kU1 ? 1 : type == Type::kF4 ? 4 : 8; }
};

// The header: a Python dictionary with exactly descr, fortran_order and shape.
class HeaderReader {
 public:
  HeaderReader(std::string_view text, size_t offset, std::string what)
      : text_(text), offset_(offset), what_(std::move(what)) {}

  Status read(Npy& npy) {
    TRY(expect("{"));
    std::array<bool, 3> seen{};
    constexpr std::array<std::string_view, 3> names{"descr", "fortran_order", "shape"};
    while (!accept("}")) {
      auto name = TRY(quoted());
      size_t which =
          static_cast<size_t>(std::find(names.begin(), names.end(), name) - names.begin());
      if (which == names.size() || seen[which]) {
        return bad("expected descr, fortran_order and shape, each once");
      }
      seen[which] = true;
      TRY(expect(":"));
      if (which == 0) TRY(read_type(npy));
      if (which == 1 && !accept("False")) return bad("expected C order (fortran_order False)");
      if (which == 2) TRY(read_shape(npy.shape));
      if (!accept(",")) {
        TRY(expect("}"));
        break;
      }
    }
    skip_space();
    if (at_ != text_.size()) return bad("expected nothing after the header's dictionary");
    if (seen != std::array<bool, 3>{true, true, true}) {
      return bad("expected descr, fortran_order and shape");
    }
    return Done{};
  }

 private:
  Error bad(const std::string& expected) const {
    return Error(Code::kMalformed,
                 what_ + ", byte " + std::to_string(offset_ + at_) + ": " + expected);
  }
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool accept(std::string_view word) {
    skip_space();
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  Status expect(std::string_view word) {
    if (!accept(word)) return bad("expected " + std::string(word));
    return Done{};
  }
  Result<std::string_view> quoted() {
    TRY(expect("'"));
    auto end = text_.find('\'', at_);
    if (end == std::string_view::npos) return bad("expected a closing quote");
    auto text = text_.substr(at_, end - at_);
    at_ = end + 1;
    return text;
  }
  Status read_type(Npy& npy) {
    auto type = TRY(quoted());
    if (type == "<f4")
      npy.type = Npy::Type::kF4;
    else if (type == "<f8")
      npy.type = Npy::Type::kF8;
    else if (type == "|u1")
      npy.type = Npy::Type::kU1;
    else if (type == "<i8")
      npy.type = Npy::Type::kI8;
    else
      return bad("expected an array of <f4, <f8, |u1 or <i8; convert it with astype");
    return Done{};
  }
  Status read_shape(TensorShape& shape) {
    TRY(expect("("));
    while (!accept(")")) {
      skip_space();
      uint64_t extent = 0;
      auto [end, status] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), extent);
      if (status != std::errc()) return bad("expected an extent");
      at_ = static_cast<size_t>(end - text_.data());
      if (shape.size() == kMaxTensorDimensions) return bad("expected at most 8 dimensions");
      shape.push_back(extent);
      if (!accept(",")) {
        TRY(expect(")"));
        break;
      }
    }
    return Done{};
  }

  std::string_view text_;
  size_t offset_;
  std::string what_;
  size_t at_ = 0;
};

Result<Npy> read_npy(ByteView file, const std::string& what) {
  auto bad = [&](size_t at, const std::string& expected) {
    return Error(Code::kMalformed, what + ", byte " + std::to_string(at) + ": " + expected);
  };
  if (as_text(file.first(std::min(file.size(), kMagic.size()))) != kMagic) {
    return bad(0, "expected the NPY magic number");
  }
  if (file.size() < 12) return bad(file.size(), "expected the header");
  if ((file[6] != 1 && file[6] != 2) || file[7] != 0)
    return bad(6, "expected NPY version 1.0 or 2.0");
  size_t length_bytes = file[6] == 1 ? 2 : 4;
  size_t length = 0;
  for (size_t i = 0; i < length_bytes; ++i) length |= size_t{file[8 + i]} << (8 * i);
  size_t start = 8 + length_bytes;
  if (length > file.size() - start) return bad(file.size(), "expected the whole header");

  Npy npy;
  TRY(HeaderReader(as_text(file.subspan(start, length)), start, what).read(npy));
  npy.data = file.subspan(start + length);
  auto elements = element_count(npy.shape);
  uint64_t bytes = 0;
  if (!elements || __builtin_mul_overflow(*elements, npy.element_bytes(), &bytes) ||
      bytes != npy.data.size()) {
    return bad(file.size(), "expected the file to end with the last element of its shape");
  }
  return npy;
}

template <class T>
T load(ByteView data, uint64_t index) {
  T value;
  std::memcpy(&value, data.data() + index * sizeof(T), sizeof(T));
  return value;
}

double element(const Npy& npy, uint64_t index) {
  switch (npy.type) {
    case Npy::Type::kF4:
      return static_cast<double>(load<float>(npy.data, index));
    case Npy::Type::kF8:
      return load<double>(npy.data, index);
    case Npy::Type::kU1:
      return npy.data[index];
    case Npy::Type::kI8:
      return static_cast<double>(load<int64_t>(npy.data, index));
  }
  CHECK(false);
}

std::optional<int64_t> integer_element(const Npy& npy, uint64_t index) {
  if (npy.type == Npy::Type::kI8) return load<int64_t>(npy.data, index);
  double value = element(npy, index);
  if (!(std::abs(value) <= 9007199254740992.0) || std::floor(value) != value) return {};  // 2^53
  return static_cast<int64_t>(value);
}

// One label after another from `npy`, from `first` in steps of `step`.
Status collect_labels(const Npy& npy, uint64_t rows, uint64_t first, uint64_t step,
                      LabelCollector& labels) {
  for (uint64_t row = 0; row < rows; ++row) {
    auto place = "labels, row " + std::to_string(row);
    auto label = integer_element(npy, first + row * step);
    if (!label) return Error(Code::kMalformed, place + ": expected an integer");
    auto added = labels.add(std::to_string(*label));
    if (!added) return std::move(added).take_error().within(place);
  }
  return Done{};
}

// Every element but those of the label's column.
Status collect_features(const Npy& npy, uint64_t rows, uint64_t columns,
                        std::optional<uint64_t> label_column, Dataset& dataset) {
  std::vector<float> floats;
  std::vector<uint8_t> bytes;
  for (uint64_t row = 0; row < rows; ++row) {
    for (uint64_t column = 0; column < columns; ++column) {
      if (column == label_column) continue;
      uint64_t index = row * columns + column;
      if (npy.type == Npy::Type::kU1) {
        bytes.push_back(npy.data[index]);
        continue;
      }
      double value = element(npy, index);
      if (!(std::abs(value) <= static_cast<double>(FLT_MAX))) {
        return Error(Code::kMalformed, "features, row " + std::to_string(row) + ", element " +
                                           std::to_string(column) +
                                           ": expected a finite number that fits 32 bits");
      }
      floats.push_back(static_cast<float>(value));
    }
  }
  if (npy.type == Npy::Type::kU1) {
    dataset.features = std::move(bytes);
  } else {
    dataset.features = std::move(floats);
  }
  return Done{};
}

Result<uint64_t> column_index(int64_t column, const TensorShape& shape) {
  if (shape.size() != 2 || shape[1] < 2) {
    return Error(Code::kMalformed, "features: expected [rows, columns] to take the label from");
  }
  auto columns = static_cast<int64_t>(shape[1]);
  int64_t index = column < 0 ? column + columns : column;
  if (index < 0 || index >= columns) {
    return Error(Code::kMalformed,
                 "label column: expected one of the " + std::to_string(columns) + " columns");
  }
  return static_cast<uint64_t>(index);
}

}  // namespace

Result<TensorShape> npy_shape(ByteView file) {
  auto npy = TRY(read_npy(file, "array"));
  return npy.shape;
}

Result<Dataset> import_npy(ByteView features, std::optional<ByteView> labels,
                           const NpyOptions& options) {
  if (labels.has_value() == options.label_column.has_value()) {
    return Error(Code::kMalformed, "expected a labels file or a label column, one of the two");
  }
  auto array = TRY(read_npy(features, "features"));
  if (array.shape.size() < 2 || element_count(array.shape) == 0) {
    return Error(Code::kMalformed, "features: expected rows and features, at least two dimensions");
  }
  uint64_t rows = array.shape[0];
  TensorShape row_shape(array.shape.begin() + 1, array.shape.end());
  uint64_t columns = element_count(row_shape).value_or(0);

  Dataset dataset;
  dataset.schema.label_name = options.label_name;
  LabelCollector collector(options.classes);
  std::optional<uint64_t> label_column;
  if (labels) {
    auto label_array = TRY(read_npy(*labels, "labels"));
    if (label_array.shape != TensorShape{rows}) {
      return Error(Code::kMalformed,
                   "labels: expected one dimension of " + std::to_string(rows) + " rows");
    }
    TRY(collect_labels(label_array, rows, 0, 1, collector));
  } else {
    label_column = TRY(column_index(*options.label_column, array.shape));
    TRY(collect_labels(array, rows, *label_column, columns, collector));
    row_shape = {columns - 1};
  }
  std::move(collector).finish(dataset);
  dataset.schema.feature_shape = TRY(chosen_shape(options.feature_shape, row_shape));
  TRY(collect_features(array, rows, columns, label_column, dataset));
  TRY(validate(dataset));
  return dataset;
}

}  // namespace souk::trainer
