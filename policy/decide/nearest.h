// Which known name may have been meant by one that is not known.
#pragma once

#include <set>
#include <string>
#include <string_view>

namespace souk::policy {

// Letters to change, add or take away (Levenshtein).
size_t edit_distance(std::string_view a, std::string_view b);
// The nearest of them; empty when none is near.
std::string nearest(const std::string& name, const std::set<std::string>& known);

}  // namespace souk::policy
