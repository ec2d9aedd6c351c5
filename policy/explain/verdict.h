// Inside of policy/explain: what a policy said, and how far it came.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "policy/decide/decide.h"

namespace souk::policy {

struct Verdict {
  PolicyDecision decision;
  // Times each came out false, true; the other way round where it stands within a "not".
  std::vector<std::array<uint64_t, 2>> conditions;

  std::string told() const;  // its status and its reasons
  // Two verdicts with the same trail have passed the same rules.
  std::string trail() const;
};

// How near a verdict is to an allowance; the less the nearer. Rules that speak count first. Of
// those that are silent, as the parts of one `and` are, a later one is only asked where the
// earlier hold; and where all are asked, more of them hold (or, written the other way, fewer).
struct Distance {
  size_t reasons = 0;
  int64_t unasked = 0, against = 0;
  friend auto operator<=>(const Distance&, const Distance&) = default;
};
enum class Wanted : uint8_t { kTrue, kFalse };
Distance distance_of(const Verdict& verdict, Wanted wanted);

}  // namespace souk::policy
