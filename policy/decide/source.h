// What a policy's text must be before anyone runs or reads it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "ledger/base/result.h"
#include "ledger/codec/json.h"

namespace souk::policy {

inline constexpr size_t kMaxSourceBytes = 32 << 10;

// UTF-8, at most 32 kB (kMalformed), no control, invisible, direction-changing or
// look-alike characters (kRefused names the character and the line), parses as Lua
// (kRefused names the line).
Status check_source(std::string_view text);
// The text that is run for a version of a policy: the source itself, or with parameters the
// source after `local parameters = {...}` on its first line. kMalformed: nested deeper than 16.
Result<std::string> with_parameters(std::string_view source, const Json& parameters);
// The part of it that needs no parser.
Status check_characters(std::string_view text);
// Where the character stands that check_characters refuses, in bytes from 1 as in Token.
struct Place {
  int line = 1, column = 1;
};
std::optional<Place> refused_character(std::string_view text);

}  // namespace souk::policy
