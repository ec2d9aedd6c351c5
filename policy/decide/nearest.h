// Which known name may have been meant by one that is not known. The one home of that rule: fields,
// obligations, members of answers, globals and templates ask here.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

namespace souk::policy {

// Letters to change, add or take away, or neighbours to swap (Levenshtein, with the transpositions
// of Damerau).
size_t edit_distance(std::string_view a, std::string_view b);

// How far what was written is from a known name; the less the nearer. First names that it is the
// beginning of, or whose words its words begin ("epsilon", "epsilon_micro"); then by letters; then
// abbreviations ("params", "parameters"); then names it has words too many for.
enum class Likeness : uint8_t { kSame, kPart, kMisspelt, kAbbreviated, kContained, kNone };
struct Nearness {
  Likeness likeness = Likeness::kNone;
  size_t letters = 0;  // that differ
  friend auto operator<=>(const Nearness&, const Nearness&) = default;
};
Nearness nearness(std::string_view written, std::string_view known);

// The nearest of them; empty when none is near.
std::string nearest(const std::string& name, const std::set<std::string>& known);

}  // namespace souk::policy
