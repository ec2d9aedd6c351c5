#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>

#include "trainer/data/import.h"
#include "trainer/data/import_common.h"

namespace souk::trainer {
namespace {

Error bad(size_t line, const std::string& expected) {
  return Error(Code::kMalformed, "line " + std::to_string(line) + ": " + expected);
}

// `column` counts from 1.
Error bad(size_t line, size_t column, const std::string& expected) {
  return Error(Code::kMalformed, "line " + std::to_string(line) + ", column " +
                                     std::to_string(column) + ": " + expected);
}

Error bad(size_t line, size_t column, const std::string& name, const std::string& expected) {
  return Error(Code::kMalformed, "line " + std::to_string(line) + ", column " +
                                     std::to_string(column) + " (" + name + "): " + expected);
}

// The records of an RFC 4180 text.
class CsvReader {
 public:
  explicit CsvReader(std::string_view text) : text_(text) {}

  // The line on which the last record began.
  size_t line() const { return record_line_; }

  // No record: the end, perhaps after blank lines.
  Result<bool> next(std::vector<std::string>& fields) {
    record_line_ = line_;
    size_t count = 0;
    if (text_.find_first_not_of("\r\n", at_) == std::string_view::npos) return false;
    while (true) {
      if (count == fields.size()) fields.emplace_back();
      TRY(read_field(fields[count], count + 1));
      ++count;
      if (at_ < text_.size() && text_[at_] == ',') {
        ++at_;
        continue;
      }
      TRY(read_line_end(count));
      fields.resize(count);
      return true;
    }
  }

 private:
  Status read_field(std::string& out, size_t column) {
    out.clear();
    if (at_ < text_.size() && text_[at_] == '"') return read_quoted(out, column);
    auto end = std::min(text_.find_first_of(",\r\n", at_), text_.size());
    auto field = text_.substr(at_, end - at_);
    if (field.find('"') != std::string_view::npos) {
      return bad(line_, column, "expected a quote only around a whole field");
    }
    at_ = end;
    auto first = std::min(field.find_first_not_of(" \t"), field.size());
    field.remove_prefix(first);
    field = field.substr(0, field.find_last_not_of(" \t") + 1);
    out = field;
    return Done{};
  }

  Status read_quoted(std::string& out, size_t column) {
    size_t opened_on = line_;
    ++at_;
    while (at_ < text_.size()) {
      char c = text_[at_++];
      if (c == '\n') ++line_;
      if (c != '"') {
        out.push_back(c);
      } else if (at_ < text_.size() && text_[at_] == '"') {
        out.push_back('"');
        ++at_;
      } else {
        return Done{};
      }
    }
    return bad(opened_on, column, "expected a closing quote");
  }

  Status read_line_end(size_t column) {
    if (at_ == text_.size()) return Done{};
    if (text_[at_] == '\r') ++at_;
    if (at_ == text_.size() || text_[at_] != '\n') {
      return bad(line_, column, "expected a comma or the end of the line");
    }
    ++at_;
    ++line_;
    return Done{};
  }

  std::string_view text_;
  size_t at_ = 0;
  size_t line_ = 1;
  size_t record_line_ = 1;
};

// A float, or nothing. What is too small for one is zero.
std::optional<float> parse_float(std::string_view text) {
  const char* end = text.data() + text.size();
  float value = 0;
  auto [stop, status] = std::from_chars(text.data(), end, value);
  if (status == std::errc::result_out_of_range && stop == end) {
    double wide = 0;
    auto [wide_stop, wide_status] = std::from_chars(text.data(), end, wide);
    if (wide_status != std::errc() || wide_stop != end || std::abs(wide) > 1) return {};
    return static_cast<float>(wide);
  }
  if (status != std::errc() || stop != end || !std::isfinite(value)) return {};
  return value;
}

std::optional<uint8_t> parse_byte(std::string_view text) {
  uint8_t value = 0;
  const char* end = text.data() + text.size();
  auto [stop, status] = std::from_chars(text.data(), end, value);
  if (status != std::errc() || stop != end) return {};
  return value;
}

// What each column of the file is for.
struct Columns {
  enum class Role { kFeature, kLabel, kDropped };
  std::vector<std::string> names;
  std::vector<Role> roles;
  std::vector<std::string> feature_names;
};

Result<Columns> read_columns(CsvReader& reader, const CsvOptions& options) {
  Columns columns;
  auto some = TRY(reader.next(columns.names));
  if (!some) return bad(1, "expected a header row with the names of the columns");
  std::set<std::string_view> seen;
  for (size_t i = 0; i < columns.names.size(); ++i) {
    const auto& name = columns.names[i];
    if (name.empty()) return bad(1, i + 1, "expected a column name");
    if (!seen.insert(name).second) return bad(1, i + 1, "expected each column name once");
    bool dropped = std::find(options.drop.begin(), options.drop.end(), name) != options.drop.end();
    if (name == options.label) {
      if (dropped) return bad(1, i + 1, "expected the label not to be dropped");
      columns.roles.push_back(Columns::Role::kLabel);
    } else if (dropped) {
      columns.roles.push_back(Columns::Role::kDropped);
    } else {
      columns.roles.push_back(Columns::Role::kFeature);
      columns.feature_names.push_back(name);
    }
  }
  if (!seen.count(options.label)) {
    return bad(1, "expected a column named \"" + options.label + "\" for the label");
  }
  for (const auto& name : options.drop) {
    if (!seen.count(name)) return bad(1, "expected a column named \"" + name + "\" to drop");
  }
  if (columns.feature_names.empty()) return bad(1, "expected a column beside the label");
  return columns;
}

}  // namespace

Result<Dataset> import_csv(ByteView file, const CsvOptions& options) {
  if (file.size() > kMaxImportBytes)
    return Error(Code::kMalformed, "expected at most 4 GiB of CSV");
  auto text = as_text(file);
  constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
  if (text.substr(0, byte_order_mark.size()) == byte_order_mark) {
    text.remove_prefix(byte_order_mark.size());
  }

  CsvReader reader(text);
  auto columns = TRY(read_columns(reader, options));
  Dataset dataset;
  dataset.schema.feature_shape =
      TRY(chosen_shape(options.feature_shape, TensorShape{columns.feature_names.size()}));
  if (options.feature_type == FeatureType::kU8) dataset.features = std::vector<uint8_t>();

  LabelCollector labels(options.classes);
  std::vector<std::string> fields;
  while (TRY(reader.next(fields))) {
    if (fields.size() != columns.names.size()) {
      return bad(reader.line(), "expected " + std::to_string(columns.names.size()) +
                                    " columns as in the header, found " +
                                    std::to_string(fields.size()));
    }
    for (size_t i = 0; i < fields.size(); ++i) {
      auto bad_value = [&](const std::string& expected) {
        return bad(reader.line(), i + 1, columns.names[i], expected);
      };
      if (columns.roles[i] == Columns::Role::kDropped) continue;
      if (columns.roles[i] == Columns::Role::kLabel) {
        auto added = labels.add(fields[i]);
        if (!added) return bad_value(added.error().expected());
      } else if (auto* floats = std::get_if<std::vector<float>>(&dataset.features)) {
        auto value = parse_float(fields[i]);
        if (!value) return bad_value("expected a finite number");
        floats->push_back(*value);
      } else {
        auto value = parse_byte(fields[i]);
        if (!value) return bad_value("expected an integer from 0 to 255");
        std::get<std::vector<uint8_t>>(dataset.features).push_back(*value);
      }
    }
  }
  std::move(labels).finish(dataset);
  if (dataset.rows() == 0) return bad(reader.line(), "expected a row of data after the header");
  dataset.schema.feature_names = std::move(columns.feature_names);
  dataset.schema.label_name = options.label;
  TRY(validate(dataset));
  return dataset;
}

}  // namespace souk::trainer
