// Decimal numbers as the C2SP texts write them. Private to this room.
#pragma once

#include <charconv>
#include <cstdint>
#include <string_view>

#include "ledger/base/result.h"

namespace souk::ledger {

// No sign, no leading zero unless the number is 0.
inline Result<uint64_t> parse_decimal(std::string_view text) {
  uint64_t value = 0;
  auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  bool whole = status == std::errc() && end == text.data() + text.size() && !text.empty();
  if (!whole || (text.front() == '0' && text.size() > 1)) {
    return Error(Code::kMalformed, "expected a decimal number without leading zeros");
  }
  return value;
}

// Cuts the first line, without its newline, off `text`. kMalformed when there is none.
inline Result<std::string_view> take_line(std::string_view& text) {
  size_t end = text.find('\n');
  if (end == std::string_view::npos) {
    return Error(Code::kMalformed, "expected a line and its newline");
  }
  auto line = text.substr(0, end);
  text.remove_prefix(end + 1);
  return line;
}

}  // namespace souk::ledger
