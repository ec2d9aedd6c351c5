// Inside of policy/analysis: what is asked of a policy, "A implies B" or "B" alone.
#pragma once

#include <string>

#include "ledger/base/result.h"

namespace souk::policy::analysis {

// Without an A, A is `true`.
struct Invariant {
  std::string left, right;
  bool implies = false;
  // kMalformed where there is more than one `implies`.
  static Result<Invariant> of(const std::string& text);
};

// kMalformed where it could hold of everything without saying anything: a name that is nothing, a
// comparison that always fails, or a side that is no condition. A condition is a comparison,
// `true`, `false`, `allow`, a field of the schema that is true or false, a call of `contains`, or
// conditions under `and`, `or` and `not`.
Status check_invariant(const Invariant& invariant);

}  // namespace souk::policy::analysis
