// Whether rows of two tables can stand in one run: their columns have the same names, in the same
// order. contracts/SPEC.md, "Datasets of one contract".
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace souk::contracts {

// The first column that two lists of feature names name differently. A list that is longer, or
// that names what the other leaves without names, differs too; two empty ones do not.
struct ColumnDifference {
  size_t column = 0;          // from 1
  std::string first, second;  // its names, at most 64 bytes of each; "" where it has none
  // `column 1 is "marker" in north and is "weight" in south`, of tables with these names.
  std::string words(const std::string& first_table, const std::string& second_table) const;
};
std::optional<ColumnDifference> different_column(const std::vector<std::string>& first,
                                                 const std::vector<std::string>& second);

}  // namespace souk::contracts
