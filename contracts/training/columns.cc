#include "contracts/training/columns.h"

#include <algorithm>

namespace souk::contracts {
namespace {

constexpr size_t kMaxShown = 64;

std::string name_at(const std::vector<std::string>& names, size_t index) {
  if (index >= names.size()) return "";
  const std::string& name = names[index];
  size_t end = std::min(name.size(), kMaxShown);
  while (end < name.size() && end > 0 && (static_cast<unsigned char>(name[end]) & 0xc0) == 0x80)
    --end;
  return name.substr(0, end);
}

std::string said(const std::string& name) {
  return name.empty() ? "has no name" : "is \"" + name + "\"";
}

}  // namespace

std::string ColumnDifference::words(const std::string& first_table,
                                    const std::string& second_table) const {
  return "column " + std::to_string(column) + " " + said(first) + " in " + first_table + " and " +
         said(second) + " in " + second_table;
}

std::optional<ColumnDifference> different_column(const std::vector<std::string>& first,
                                                 const std::vector<std::string>& second) {
  const size_t most = std::max(first.size(), second.size());
  for (size_t i = 0; i < most; ++i) {
    if (i < first.size() && i < second.size() && first[i] == second[i]) continue;
    return ColumnDifference{i + 1, name_at(first, i), name_at(second, i)};
  }
  return std::nullopt;
}

}  // namespace souk::contracts
