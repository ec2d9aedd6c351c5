// Mutants of a policy: would its tests notice? policy/SPEC.md, Analysis.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/result.h"

namespace souk::policy::analysis {

struct Mutant {
  std::string source;
  std::string operation;  // "comparison", "boundary", "drop_rule", ...
  uint32_t line = 1;
  std::string before, after;  // of the text that was changed
};

// Every mutant of the policy, each one change away, in the order of the text; none of
// them equal to it or to another. kMalformed names the line of a policy that is no Lua.
//   comparison  < <= > >= exchanged, == and ~= exchanged
//   constant    a number one more and one less, a text with an x behind it
//   logic       and/or exchanged, `not` taken away, true/false exchanged
//   drop_rule   a statement that is a call (r.require, r.deny …) taken away; an if that
//               never happens
//   arithmetic  + and - exchanged, * and // exchanged
Result<std::vector<Mutant>> mutants_of(std::string_view policy, size_t most = 2000);

struct MutationReport {
  size_t mutants = 0, killed = 0;
  std::vector<Mutant> survivors;
  double score() const {
    return mutants == 0 ? 1.0 : static_cast<double>(killed) / static_cast<double>(mutants);
  }
};
// `passes`: whether all tests pass of a policy with this source.
Result<MutationReport> mutation_report(std::string_view policy,
                                       const std::function<bool(const std::string& source)>& passes,
                                       size_t most = 2000);

}  // namespace souk::policy::analysis
