#include "market_api/client/local_rows.h"

#include <algorithm>

#include "market_api/client/dataset_file.h"
#include "market_api/client/local_files.h"
#include "market_api/outcome/outcome.h"
#include "trainer/data/import.h"

namespace souk::market {
namespace {

using trainer::Dataset;

enum class Kind : uint8_t { kCsv, kIdx, kNpy, kSafeTensors, kCifar10, kFolder };

// Of a .bin: CIFAR-10's records may begin as an IDX file does.
const char* const kNoBinary = "expected whole CIFAR-10 records of 3073 bytes each, or an IDX file";

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

struct Opened {
  std::string path;
  Kind kind = Kind::kCsv;
  Bytes bytes;                      // unpacked
  trainer::TensorShape shape = {};  // of IDX and NPY
};

Result<Opened> open(const std::string& path) {
  Opened file{path, Kind::kCsv, {}, {}};
  if (is_directory(path)) {
    file.kind = Kind::kFolder;
    return file;
  }
  auto bytes = load_file(path, trainer::kMaxImportBytes);
  if (!bytes && bytes.error().code() == Code::kNotFound)
    return Error(Code::kMalformed, "no such file");
  if (!bytes) return std::move(bytes).take_error();
  if (bytes->empty()) return Error(Code::kMalformed, "expected rows, the file is empty");
  file.bytes = TRY(trainer::gunzip_if_needed(*bytes));
  auto starts = [&](std::string_view text) {
    return file.bytes.size() >= text.size() &&
           as_text(ByteView(file.bytes).first(text.size())) == text;
  };
  if (starts("\x93NUMPY") || ends_with(path, ".npy")) {
    file.kind = Kind::kNpy;
    file.shape = TRY(trainer::npy_shape(file.bytes));
  } else if (ends_with(path, ".safetensors")) {
    file.kind = Kind::kSafeTensors;
  } else if (ends_with(path, ".bin") && file.bytes.size() % trainer::kCifar10RecordBytes == 0) {
    file.kind = Kind::kCifar10;
  } else if (starts(std::string_view("\0\0", 2))) {
    file.kind = Kind::kIdx;
    auto shape = trainer::idx_shape(file.bytes);
    if (!shape && ends_with(path, ".bin")) return Error(Code::kMalformed, kNoBinary);
    file.shape = TRY(std::move(shape));
  } else if (ends_with(path, ".bin")) {
    return Error(Code::kMalformed, kNoBinary);
  }
  return file;
}

Result<Opened> open_named(const std::string& path) {
  auto file = open(path);
  if (!file) return about_file(std::move(file).take_error(), path);
  return file;
}

// Zeros in the shape of labels, for rows that have none.
Bytes no_idx_labels(uint64_t rows) {
  Bytes labels{0, 0, 8, 1};
  for (int shift = 24; shift >= 0; shift -= 8)
    labels.push_back(static_cast<uint8_t>(rows >> shift));
  labels.resize(labels.size() + rows, 0);
  return labels;
}
Bytes no_npy_labels(uint64_t rows) {
  std::string header =
      "{'descr': '|u1', 'fortran_order': False, 'shape': (" + std::to_string(rows) + ",), }\n";
  std::string text =
      std::string("\x93NUMPY\x01", 7) + '\0' + static_cast<char>(header.size()) + '\0' + header;
  Bytes labels(text.begin(), text.end());
  labels.resize(labels.size() + rows, 0);
  return labels;
}

std::string labels_name(const std::string& path) {
  size_t slash = path.rfind('/') == std::string::npos ? 0 : path.rfind('/') + 1;
  std::string name = path;
  for (auto [from, to] : {std::pair<std::string, std::string>{"images-idx3", "labels-idx1"},
                          {"images.idx3", "labels.idx1"}}) {
    size_t at = name.find(from, slash);
    if (at != std::string::npos) return name.replace(at, from.size(), to);
  }
  return "";
}

class Loader {
 public:
  explicit Loader(const RowFiles& files) : files_(files) { rows_.csv = files.csv; }

  Result<Rows> run() {
    if (files_.paths.empty()) return Error(Code::kMalformed, "expected a file of rows");
    for (size_t i = 0; i < files_.paths.size(); ++i) {
      auto file = TRY(open_named(files_.paths[i]));
      std::optional<Opened> labels;
      bool takes_labels =
          file.kind == Kind::kIdx || (file.kind == Kind::kNpy && file.shape.size() > 1);
      if (takes_labels && i + 1 < files_.paths.size()) {
        auto next = TRY(open_named(files_.paths[i + 1]));
        not_labels_ = ", which " + next.path + " is not";
        if (next.kind == file.kind && next.shape.size() == 1) {
          labels = std::move(next);
          ++i;
        }
      }
      bool labelled = true;
      std::string labels_path = labels ? labels->path : labels_beside(file);
      auto dataset = read(file, std::move(labels), labelled);
      if (!dataset) {
        bool of_labels = dataset.error().expected().starts_with("labels");
        return about_file(std::move(dataset).take_error(), of_labels ? labels_path : file.path);
      }
      TRY(add(std::move(*dataset), labelled, file.path));
    }
    for (const auto& [column, values] : rows_.unlisted) {
      rows_.warnings.push_back("column \"" + column + "\": " + std::to_string(values.rows) +
                               (values.rows == 1 ? " row has a value" : " rows have values") +
                               " that the layout does not list, such as \"" + values.example +
                               "\"; counted as missing");
    }
    return std::move(rows_);
  }

 private:
  Result<Dataset> read(const Opened& file, std::optional<Opened> labels, bool& labelled) {
    bool has_columns = file.kind == Kind::kCsv || file.kind == Kind::kNpy;
    if (!has_columns && !files_.label.empty() && files_.labels == trainer::Labels::kIfThere)
      return Error(Code::kMalformed, "--label: expected for CSV and NPY only, which have columns");
    switch (file.kind) {
      case Kind::kCsv:
        return read_csv(file, labelled);
      case Kind::kIdx:
        return read_idx(file, std::move(labels), labelled);
      case Kind::kNpy:
        return read_npy(file, std::move(labels), labelled);
      case Kind::kSafeTensors:
        return trainer::dataset_from_safetensors(file.bytes);
      case Kind::kCifar10:
        return trainer::import_cifar10(file.bytes);
      case Kind::kFolder: {
        DatasetFile folder;
        folder.path = file.path;
        folder.classes = files_.classes;
        return load_dataset(folder, &rows_.warnings);
      }
    }
    return Error(Code::kBroken, "a kind of file");
  }

  // Where the labels of an IDX file lie, if nothing else was said; "" if there are none.
  static std::string labels_beside(const Opened& file) {
    std::string name = file.kind == Kind::kIdx ? labels_name(file.path) : "";
    return !name.empty() && path_exists(name) ? name : "";
  }

  Result<Dataset> read_csv(const Opened& file, bool& labelled) {
    if (!rows_.csv) {
      if (files_.label.empty()) {
        return Error(
            Code::kMalformed,
            "expected --label COLUMN, or a csv layout in the contract that names the label");
      }
      rows_.csv = TRY(trainer::guess_csv_layout(file.bytes, files_.label, files_.drop, "?"));
      guessed_ = true;
      rows_.decided_by_rows = Decided::kLayout;
    }
    if (!guessed_ && !files_.label.empty())
      TRY(name_label(*rows_.csv, files_.label, files_.classes, file.bytes));
    auto layout = *rows_.csv;
    if (!files_.classes.empty()) {
      for (auto& column : layout.columns) {
        if (column.role == trainer::CsvColumn::Role::kLabel && column.values.empty())
          column.values = files_.classes;
      }
    }
    auto unlisted = guessed_ ? trainer::Unlisted::kMissing : files_.unlisted;
    auto labels = files_.label.empty() ? files_.labels : trainer::Labels::kNeeded;
    auto rows = TRY(trainer::import_laid_out_csv(file.bytes, layout, labels, unlisted));
    labelled = rows.has_labels;
    for (auto& [column, values] : rows.unlisted) {
      auto& all = rows_.unlisted[column];
      if (all.rows == 0) all.example = values.example;
      all.rows += values.rows;
    }
    // What was found is the numbering from now on.
    const auto* label = layout.label();
    if (labelled && label && label->values.empty() && !guessed_)
      rows_.decided_by_rows = Decided::kClasses;
    for (auto& column : rows_.csv->columns) {
      if (column.role == trainer::CsvColumn::Role::kLabel && labelled)
        column.values = rows.dataset.schema.classes;
    }
    return std::move(rows.dataset);
  }

  Result<Dataset> read_idx(const Opened& file, std::optional<Opened> labels, bool& labelled) {
    if (!labels) {
      std::string name = labels_beside(file);
      if (!name.empty()) labels = TRY(open_named(name));
    }
    labelled = labels.has_value();
    if (!labelled && files_.labels == trainer::Labels::kNeeded) {
      return Error(Code::kMalformed, "expected a file of labels after this one" + not_labels_);
    }
    trainer::IdxOptions options;
    options.classes = labelled ? files_.classes : std::vector<std::string>{};
    return trainer::import_idx(file.bytes, labelled ? labels->bytes : no_idx_labels(file.shape[0]),
                               options);
  }

  Result<Dataset> read_npy(const Opened& file, std::optional<Opened> labels, bool& labelled) {
    if (!labels && !files_.label.empty()) {
      DatasetFile array;
      array.path = file.path;
      array.label = files_.label;
      array.classes = files_.classes;
      return load_dataset(array);
    }
    labelled = labels.has_value();
    if (!labelled && files_.labels == trainer::Labels::kNeeded) {
      return Error(
          Code::kMalformed,
          "expected a file of labels after this one, or --label N, the number of their column" +
              not_labels_);
    }
    if (file.shape.empty()) return Error(Code::kMalformed, "expected rows");
    trainer::NpyOptions options;
    options.classes = labelled ? files_.classes : std::vector<std::string>{};
    Bytes values = labelled ? std::move(labels->bytes) : no_npy_labels(file.shape[0]);
    return trainer::import_npy(file.bytes, ByteView(values), options);
  }

  Status add(Dataset dataset, bool labelled, const std::string& path) {
    if (first_) {
      rows_.data = std::move(dataset);
      rows_.has_labels = labelled;
      first_ = false;
      return Done{};
    }
    auto bad = [&](const std::string& expected) {
      return Error(Code::kMalformed, path + ": expected " + expected + " of the first file");
    };
    if (dataset.schema.feature_shape != rows_.data.schema.feature_shape)
      return bad("the shape of a row");
    if (dataset.features.index() != rows_.data.features.index()) return bad("the kind of numbers");
    if (labelled != rows_.has_labels ||
        (labelled && dataset.schema.classes != rows_.data.schema.classes))
      return bad("the classes");
    std::visit(
        [&](auto& values) {
          auto& all = std::get<std::decay_t<decltype(values)>>(rows_.data.features);
          all.insert(all.end(), values.begin(), values.end());
        },
        dataset.features);
    rows_.data.labels.insert(rows_.data.labels.end(), dataset.labels.begin(), dataset.labels.end());
    return Done{};
  }

  const RowFiles& files_;
  Rows rows_;
  bool first_ = true, guessed_ = false;
  std::string not_labels_;  // the file that stands where labels were expected
};

}  // namespace

Result<Rows> load_rows(const RowFiles& files) {
  return Loader(files).run();
}

Result<bool> is_csv(const std::string& path) {
  auto file = TRY(open_named(path));
  return file.kind == Kind::kCsv;
}

Result<uint64_t> count_csv_lines(const std::vector<std::string>& paths) {
  uint64_t lines = 1;
  for (const auto& path : paths) {
    auto file = TRY(open_named(path));
    lines += static_cast<uint64_t>(std::count(file.bytes.begin(), file.bytes.end(), '\n'));
  }
  return lines;
}

Dataset some_rows(const Dataset& all, const std::vector<uint64_t>& keep) {
  Dataset some;
  some.schema = all.schema;
  const uint64_t width = all.feature_count();
  std::visit(
      [&](const auto& values) {
        std::decay_t<decltype(values)> chosen;
        chosen.reserve(keep.size() * width);
        for (uint64_t row : keep) {
          auto begin = values.begin() + static_cast<ptrdiff_t>(row * width);
          chosen.insert(chosen.end(), begin, begin + static_cast<ptrdiff_t>(width));
        }
        some.features = std::move(chosen);
      },
      all.features);
  for (uint64_t row : keep) some.labels.push_back(all.labels[row]);
  return some;
}

trainer::Features features_of(const Dataset& data) {
  return std::visit(
      [](const auto& values) { return trainer::Features(std::span(values.data(), values.size())); },
      data.features);
}

}  // namespace souk::market
