// JSON from people who may have written a real where none belongs.
#pragma once

#include "ledger/codec/json.h"

namespace souk {

// parse_json that reads also what is not an integer below 2^53 (reals, NaN, Infinity,
// longer integers), as {"$float": its text}: for input whose schema is to refuse it by
// the name of the member.
Result<Json> parse_json_marking_reals(std::string_view text, size_t max_bytes = 16 << 20);

}  // namespace souk
