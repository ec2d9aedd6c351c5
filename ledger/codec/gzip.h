// gzip (RFC 1952), unpacked within a limit.
#pragma once

#include "ledger/base/bytes.h"
#include "ledger/base/result.h"

namespace souk {

// Whether it begins like gzip.
bool is_gzip(ByteView bytes);

// What is inside, of all members one after another. kMalformed when it is no gzip, is cut or
// altered, or has more than `max_bytes` inside; no more than those and a MiB is ever held.
Result<Bytes> gunzip(ByteView packed, size_t max_bytes);

}  // namespace souk
