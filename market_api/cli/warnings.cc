#include "market_api/cli/warnings.h"

#include <cstdio>

#include "market_api/cli/answer.h"

namespace souk::market {

void warn_of(const std::vector<std::string>& warnings) {
  for (const auto& warning : warnings)
    std::fprintf(stderr, "souk: warning: %s\n", printable(warning).c_str());
}

}  // namespace souk::market
