// What can be said of a policy without running it. policy/SPEC.md, Check.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ledger/codec/json.h"

namespace souk::policy {

struct Finding {
  std::string code;  // "unknown_field", "mixed_comparison", ...
  // kError: it fails when it runs, or does not mean what it says. kNote: worth a look.
  enum class Weight : uint8_t { kError, kNote } weight = Weight::kError;
  int line = 1, column = 1;
  std::string message;
  std::string did_you_mean;  // may be empty
};
Json to_json(const Finding& finding);

struct LintReport {
  std::vector<Finding> findings;  // in the order of the text
  int loops = 0;                  // in the text
  bool bounded = true;            // no while, no repeat, no function that calls itself, no goto
  bool errors() const;
};

// Total. A text that check_source refuses has one finding: invalid_policy for what is too long or
// not UTF-8, else publish_rejected.
LintReport lint(std::string_view source);

}  // namespace souk::policy
