#include "market_api/client/dataset_file.h"

#include <algorithm>
#include <charconv>

#include "market_api/client/local_files.h"
#include "market_api/outcome/outcome.h"
#include "trainer/data/import.h"

namespace souk::market {
namespace {

using trainer::Dataset;

constexpr size_t kMaxImage = size_t{64} << 20;

// A path that somebody typed: no such file is a mistake of theirs.
Result<Bytes> load(const std::string& path) {
  auto bytes = load_file(path, trainer::kMaxImportBytes);
  if (!bytes && bytes.error().code() == Code::kNotFound) {
    return Error(Code::kMalformed, "no file " + path);
  }
  return bytes;
}

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

bool starts_with(ByteView bytes, std::string_view start) {
  return bytes.size() >= start.size() && as_text(bytes.first(start.size())) == start;
}

// The columns of the header line that the caller did not ask for. A header that needs more
// than splitting at commas is left to the importer.
std::vector<std::string> columns_to_drop(ByteView csv, const DatasetFile& file) {
  std::vector<std::string> drop = file.drop;
  if (file.features.empty()) return drop;
  std::string_view text = as_text(csv);
  if (text.substr(0, 3) == "\xef\xbb\xbf") text.remove_prefix(3);
  text = text.substr(0, text.find('\n'));
  while (!text.empty()) {
    size_t comma = std::min(text.find(','), text.size());
    std::string_view name = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    while (!name.empty() && (name.back() == ' ' || name.back() == '\r')) name.remove_suffix(1);
    while (!name.empty() && name.front() == ' ') name.remove_prefix(1);
    if (name.size() >= 2 && name.front() == '"' && name.back() == '"') {
      name = name.substr(1, name.size() - 2);
    }
    auto among = [&](const std::vector<std::string>& names) {
      return std::find(names.begin(), names.end(), name) != names.end();
    };
    if (name != file.label && !among(file.features) && !among(drop)) drop.emplace_back(name);
  }
  return drop;
}

// What is wrong with the labels is said of their file.
Result<Dataset> about_labels(Result<Dataset> read, const std::string& labels) {
  if (read || !read.error().expected().starts_with("labels")) return read;
  return about_file(std::move(read), labels);
}

Result<Dataset> from_csv(ByteView bytes, const DatasetFile& file) {
  if (file.csv) {
    auto layout = *file.csv;
    if (!file.label.empty()) TRY(name_label(layout, file.label, file.classes, bytes));
    auto rows = TRY(trainer::import_laid_out_csv(bytes, layout, trainer::Labels::kNeeded,
                                                 trainer::Unlisted::kRefused));
    return std::move(rows.dataset);
  }
  if (file.label.empty()) {
    return Error(Code::kMalformed, "expected --label COLUMN, the name of the label's column");
  }
  trainer::CsvOptions options;
  options.label = file.label;
  options.drop = columns_to_drop(bytes, file);
  options.classes = file.classes;
  return trainer::import_csv(bytes, options);
}

Result<Dataset> from_idx(ByteView images, const DatasetFile& file) {
  if (!file.labels)
    return Error(Code::kMalformed, "expected --labels FILE with the labels of this IDX file");
  auto labels = TRY(load(*file.labels));
  trainer::IdxOptions options;
  options.classes = file.classes;
  if (!file.label.empty()) options.label_name = file.label;
  return about_labels(trainer::import_idx(images, labels, options), *file.labels);
}

Result<Dataset> from_npy(ByteView features, const DatasetFile& file) {
  trainer::NpyOptions options;
  options.classes = file.classes;
  if (file.labels) {
    if (!file.label.empty()) options.label_name = file.label;
    auto labels = TRY(load(*file.labels));
    return about_labels(trainer::import_npy(features, ByteView(labels), options), *file.labels);
  }
  int64_t column = 0;
  const char* end = file.label.data() + file.label.size();
  auto [at, status] = std::from_chars(file.label.data(), end, column);
  if (file.label.empty() || status != std::errc() || at != end) {
    return Error(Code::kMalformed,
                 "expected --labels FILE, or --label N with the number of the label's column");
  }
  options.label_column = column;
  return trainer::import_npy(features, std::nullopt, options);
}

Result<Dataset> from_folder(const DatasetFile& file, std::vector<std::string>* warnings) {
  uint64_t others = 0;
  std::string other;
  auto leave_out = [&](const std::string& name) {
    if (name.substr(name.rfind('/') + 1).front() != '.' && others++ == 0) other = name;
  };
  std::vector<Bytes> contents;
  std::vector<trainer::ImageFile> images;
  for (const auto& class_name : list_directory(file.path)) {
    std::string folder = file.path + "/" + class_name;
    if (!is_directory(folder)) {
      leave_out(class_name);
      continue;
    }
    for (const auto& name : list_directory(folder)) {
      if (!ends_with(name, ".pgm") && !ends_with(name, ".ppm")) {
        leave_out(class_name + "/" + name);
        continue;
      }
      contents.push_back(TRY(load_file(folder + "/" + name, kMaxImage)));
      images.push_back({class_name, name, {}});
    }
  }
  if (images.empty()) {
    return Error(Code::kMalformed, "expected one sub-folder of .pgm or .ppm images for each class");
  }
  if (others > 0 && warnings) {
    warnings->push_back(file.path + ": left out " + std::to_string(others) +
                        (others == 1 ? " file that is" : " files that are") +
                        " not .pgm or .ppm in the folder of a class: " + other +
                        (others == 1 ? "" : " and others"));
  }
  for (size_t i = 0; i < images.size(); ++i) images[i].bytes = contents[i];
  trainer::ImageOptions options;
  options.classes = file.classes;
  if (!file.label.empty()) options.label_name = file.label;
  return trainer::import_images(images, options);
}

Result<Dataset> from_file(const DatasetFile& file, std::vector<std::string>* warnings) {
  if (is_directory(file.path)) return from_folder(file, warnings);
  auto bytes = TRY(load(file.path));
  if (bytes.empty()) return Error(Code::kMalformed, "expected rows, the file is empty");
  if (starts_with(bytes, "\x93NUMPY") || ends_with(file.path, ".npy")) return from_npy(bytes, file);
  if (ends_with(file.path, ".safetensors")) return trainer::dataset_from_safetensors(bytes);
  bytes = TRY(trainer::gunzip_if_needed(bytes));
  if (starts_with(bytes, std::string_view("\0\0", 2))) return from_idx(bytes, file);
  return from_csv(bytes, file);
}

}  // namespace

Result<Dataset> load_dataset(const DatasetFile& file, std::vector<std::string>* warnings) {
  auto dataset = from_file(file, warnings);
  if (dataset) return dataset;
  Error error = std::move(dataset).take_error();
  bool of_labels = file.labels && error.expected().find(*file.labels) != std::string::npos;
  return of_labels ? error : about_file(std::move(error), file.path);
}

Status name_label(trainer::CsvLayout& layout, const std::string& label,
                  const std::vector<std::string>& classes, ByteView csv) {
  using Role = trainer::CsvColumn::Role;
  const auto* own = layout.label();
  if (own && own->name == label) return Done{};
  trainer::CsvColumn named{label, Role::kLabel, own ? own->values : classes, {}};
  auto header = TRY(trainer::first_csv_record(csv));
  bool is_feature = std::any_of(layout.columns.begin(), layout.columns.end(), [&](const auto& c) {
    return c.name == label && c.role != Role::kDropped;
  });
  if (is_feature || std::count(header.begin(), header.end(), label) == 0) {
    return Error(Code::kMalformed,
                 "--label: expected a column that is in the header and no feature, found none "
                 "named \"" +
                     label + "\"");
  }
  std::erase_if(layout.columns,
                [&](const auto& c) { return c.role == Role::kLabel || c.name == label; });
  layout.columns.push_back(std::move(named));
  return Done{};
}

}  // namespace souk::market
