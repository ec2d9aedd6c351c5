// How many contracts of a stream one dataset's budget lets in, under rules that remain sound
// when a contract is chosen after earlier models were seen, and under one that does not.
// Of the ideal mechanisms; what the ledger charges is in budget.h. policy/SPEC.md, Privacy.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "policy/privacy/mechanism.h"

namespace souk::policy {

struct FilterRule {
  enum class Kind : uint8_t {
    kRenyi,         // one fixed order (Feldman, Zrnic 2021, Theorem 4.3)
    kRenyiMixture,  // the orders of budget.h, each owning delta / 8
    kPldStatic,     // exact composition: sound only if the stream was fixed beforehand
  };
  Kind kind = Kind::kRenyiMixture;
  double order = 0;  // of kRenyi, > 1
};
// "renyi:8", "renyi-mixture8" or "pld-static", each with - or _ between its words. kMalformed
// otherwise.
Result<FilterRule> parse_rule(std::string_view text);

// "q,sigma,T;q,sigma,T;...": one contract each. kMalformed otherwise.
Result<std::vector<Mechanism>> parse_stream(std::string_view text);

// Contracts of the stream, taken in turn again and again, that are let in before the first
// refusal; nothing where it never comes. kMalformed: epsilon or delta out of range.
Result<std::optional<uint64_t>> admitted(std::span<const Mechanism> stream, const FilterRule& rule,
                                         double epsilon, double delta);

// What the whole of a budget (epsilon, delta) bears at one Renyi order; not positive where
// the order is dead.
double renyi_budget(double epsilon, double delta, double order);

}  // namespace souk::policy
