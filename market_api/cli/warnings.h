// What an answer leaves out or counts otherwise than expected.
#pragma once

#include <string>
#include <vector>

namespace souk::market {

// One line on stderr for each; the answer stands all the same.
void warn_of(const std::vector<std::string>& warnings);

}  // namespace souk::market
