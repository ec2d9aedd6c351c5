// The templates' tables, evaluated directly: the second opinion on their Lua. It
// shares no code with the sandbox. policy/SPEC.md, Templates.
//
// Atoms of a term: an integer; `$name` a parameter; a path into request, dataset or
// ctx; `#atom` a list's length; `others` the providers of the contract but this
// dataset's; `common(a,b)` how many items of list a are in list b; `held($types,$issuers)`
// how many of the types the consumer holds, unexpired, from one of the issuers;
// `share(a,b,c)` a*b/c rounded up; `tier(value,$limits,$amounts,$above)` the amount of
// the first limit that value does not exceed.
// Operators: <= >= < == ; `in` a text or every item of a list in a list; `none in`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "policy/decide/decide.h"
#include "policy/templates/template.h"

namespace souk::policy {

struct TableAnswer {
  DecisionStatus status = DecisionStatus::kError;  // kAllowed, kDenied or kError
  std::vector<std::string> codes;                  // of a denial, in order
  int64_t price_minor = 0;                         // 0 unless allowed
  Obligations obligations;                         // empty unless allowed
  friend bool operator==(const TableAnswer&, const TableAnswer&) = default;
};

// The three inputs must have passed their schemas.
TableAnswer evaluate_table(const std::vector<Chosen>& parts, const Json& request,
                           const Json& dataset, const Json& ctx);
// The part of a Lua decision that a table answers too, for comparison.
TableAnswer table_view(const PolicyDecision& decision);

}  // namespace souk::policy
