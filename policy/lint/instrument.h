// A policy's text with its conditions made visible, for coverage.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/result.h"

namespace souk::policy {

// Something that comes out true or false: an operand of and/or/not, a comparison, or
// what an if or a loop asks.
struct BranchPoint {
  int line = 1, column = 1;
  std::string text;      // as it stands in the source
  bool negated = false;  // within one "not", or three
};

struct Instrumented {
  std::string source;  // the same lines, with souk_condition(n, …) around condition n
  std::vector<BranchPoint> conditions;
  // Where statements begin, and where the last that begins there ends: the interpreter shows some
  // at their end alone, a function's definition for one.
  struct Lines {
    int first = 1, last = 1;
  };
  std::vector<Lines> lines;
};

// Those that choose, or calls of `contains` as well, wherever they stand.
enum class Conditions : uint8_t { kBranches, kAndContains };

// kRefused names the line of what is not Lua.
Result<Instrumented> instrument(std::string_view source,
                                Conditions conditions = Conditions::kBranches);

}  // namespace souk::policy
