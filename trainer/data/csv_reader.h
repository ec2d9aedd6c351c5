// The records of a CSV text, and the values of its fields. Not for other rooms.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/bytes.h"
#include "ledger/base/result.h"

namespace souk::trainer {

inline constexpr const char* kExpectedColumnName =
    "expected a column name of 1 to 256 bytes of UTF-8 without control characters";

// kMalformed with the place in front; `column` counts from 1.
Error csv_error(size_t line, const std::string& expected);
Error csv_error(size_t line, size_t column, const std::string& expected);
Error csv_error(size_t line, size_t column, const std::string& name, const std::string& expected);

// The text without a byte order mark. kMalformed above kMaxImportBytes.
Result<std::string_view> csv_text(ByteView file);

// The records of an RFC 4180 text, which it borrows.
class CsvReader {
 public:
  explicit CsvReader(std::string_view text) : text_(text) {}

  // The line on which the last record began.
  size_t line() const { return record_line_; }

  // No record: the end, perhaps after blank lines.
  Result<bool> next(std::vector<std::string>& fields);

 private:
  Status read_field(std::string& out, size_t column);
  Status read_quoted(std::string& out, size_t column);
  Status read_line_end(size_t column);

  std::string_view text_;
  size_t at_ = 0;
  size_t line_ = 1;
  size_t record_line_ = 1;
};

// A float, or nothing. What is too small for one is zero.
std::optional<float> parse_float(std::string_view text);
// An integer from 0 to 255, or nothing.
std::optional<uint8_t> parse_byte(std::string_view text);

}  // namespace souk::trainer
