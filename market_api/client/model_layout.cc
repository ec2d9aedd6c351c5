#include "market_api/client/model_layout.h"

#include <algorithm>

#include "contracts/training/columns.h"

namespace souk::market {
namespace {

using trainer::CsvColumn;
using Role = CsvColumn::Role;
using Values = std::vector<std::string>;

// The place (from 1) of the first value that `own` has elsewhere, or 0.
size_t misplaced(const Values& given, const Values& own) {
  for (size_t i = 0; i < given.size(); ++i) {
    auto at = std::find(own.begin(), own.end(), given[i]);
    if (at != own.end() && at - own.begin() != static_cast<ptrdiff_t>(i)) return i + 1;
  }
  return 0;
}

Status agree(const Values& given, const Values& own, const std::string& column) {
  const std::string count = std::to_string(own.size());
  if (given.size() != own.size()) {
    return Error(Code::kMalformed, column + ": expected the model's " + count +
                                       " values, in their order, found " +
                                       std::to_string(given.size()));
  }
  if (const size_t place = misplaced(given, own)) {
    return Error(Code::kMalformed, column + ": expected the model's " + count +
                                       " values, in their order; value " + std::to_string(place) +
                                       " has another place in the model");
  }
  return Done{};
}

}  // namespace

std::optional<trainer::CsvLayout> layout_of_model(const ModelNotes& notes) {
  if (notes.csv || notes.feature_names.empty()) return notes.csv;
  trainer::CsvLayout layout;
  for (const auto& name : notes.feature_names)
    layout.columns.push_back({name, Role::kNumber, {}, {}});
  layout.columns.push_back({notes.label, Role::kLabel, notes.classes, {}});
  return layout;
}

Result<trainer::CsvLayout> layout_for_model(trainer::CsvLayout given, const ModelNotes& notes,
                                            const std::string& place) {
  if (!notes.feature_names.empty()) {
    if (auto other = contracts::different_column(notes.feature_names, given.feature_names())) {
      return Error(Code::kMalformed, place + ": expected the model's columns, in their order; " +
                                         other->words("the model", "the layout"));
    }
  }
  const auto listed = notes.csv ? notes.csv->categories() : std::map<std::string, Values>();
  for (auto& column : given.columns) {
    const std::string named = place + ": column \"" + column.name + "\"";
    if (column.role == Role::kLabel) {
      if (column.values.empty()) column.values = notes.classes;
      if (!notes.classes.empty()) TRY(agree(column.values, notes.classes, named));
    } else if (auto own = listed.find(column.name);
               own != listed.end() && column.role == Role::kCategory) {
      TRY(agree(column.values, own->second, named));
    }
  }
  return given;
}

}  // namespace souk::market
