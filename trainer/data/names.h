// Names of columns and classes. Not for other rooms.
#pragma once

#include <string>

namespace souk::trainer {

// What a person can read: 1 to kMaxNameBytes bytes of UTF-8 without control characters.
bool is_name(const std::string& name);

}  // namespace souk::trainer
