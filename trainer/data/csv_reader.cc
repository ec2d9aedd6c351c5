#include "trainer/data/csv_reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "trainer/data/import.h"

namespace souk::trainer {

Error csv_error(size_t line, const std::string& expected) {
  return Error(Code::kMalformed, "line " + std::to_string(line) + ": " + expected);
}

Error csv_error(size_t line, size_t column, const std::string& expected) {
  return Error(Code::kMalformed, "line " + std::to_string(line) + ", column " +
                                     std::to_string(column) + ": " + expected);
}

Error csv_error(size_t line, size_t column, const std::string& name, const std::string& expected) {
  return Error(Code::kMalformed, "line " + std::to_string(line) + ", column " +
                                     std::to_string(column) + " (" + name + "): " + expected);
}

Result<std::string_view> csv_text(ByteView file) {
  if (file.size() > kMaxImportBytes)
    return Error(Code::kMalformed, "expected at most 4 GiB of CSV");
  auto text = as_text(file);
  constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
  if (text.substr(0, byte_order_mark.size()) == byte_order_mark) {
    text.remove_prefix(byte_order_mark.size());
  }
  return text;
}

Result<bool> CsvReader::next(std::vector<std::string>& fields) {
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

Status CsvReader::read_field(std::string& out, size_t column) {
  out.clear();
  if (at_ < text_.size() && text_[at_] == '"') return read_quoted(out, column);
  auto end = std::min(text_.find_first_of(",\r\n", at_), text_.size());
  auto field = text_.substr(at_, end - at_);
  if (field.find('"') != std::string_view::npos) {
    return csv_error(line_, column, "expected a quote only around a whole field");
  }
  at_ = end;
  auto first = std::min(field.find_first_not_of(" \t"), field.size());
  field.remove_prefix(first);
  field = field.substr(0, field.find_last_not_of(" \t") + 1);
  out = field;
  return Done{};
}

Status CsvReader::read_quoted(std::string& out, size_t column) {
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
  return csv_error(opened_on, column, "expected a closing quote");
}

Status CsvReader::read_line_end(size_t column) {
  if (at_ == text_.size()) return Done{};
  if (text_[at_] == '\r') ++at_;
  if (at_ == text_.size() || text_[at_] != '\n') {
    return csv_error(line_, column, "expected a comma or the end of the line");
  }
  ++at_;
  ++line_;
  return Done{};
}

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

}  // namespace souk::trainer
