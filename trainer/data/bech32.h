// Bech32 (BIP 173) as age uses it: no limit of 90 characters.
#pragma once

#include <string>
#include <string_view>

#include "ledger/base/bytes.h"
#include "ledger/base/result.h"

namespace souk::trainer {

// Lower case. `prefix` is lower-case printable ASCII.
std::string bech32_encode(std::string_view prefix, ByteView bytes);

// The bytes behind exactly this prefix. Lower case only. Messages never quote the text.
Result<Bytes> bech32_decode(std::string_view prefix, std::string_view text);

}  // namespace souk::trainer
