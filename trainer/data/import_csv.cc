#include <algorithm>
#include <set>

#include "trainer/data/csv_reader.h"
#include "trainer/data/import.h"
#include "trainer/data/import_common.h"
#include "trainer/data/names.h"

namespace souk::trainer {
namespace {

// What each column of the file is for.
struct Columns {
  enum class Role { kFeature, kLabel, kDropped };
  std::vector<std::string> names;
  std::vector<Role> roles;
  std::vector<std::string> feature_names;
};

Result<Columns> read_columns(CsvReader& reader, const CsvOptions& options) {
  Columns columns;
  auto some = TRY(reader.next(columns.names));
  if (!some) return csv_error(1, "expected a header row with the names of the columns");
  std::set<std::string_view> seen;
  for (size_t i = 0; i < columns.names.size(); ++i) {
    const auto& name = columns.names[i];
    if (!is_name(name)) return csv_error(1, i + 1, kExpectedColumnName);
    if (!seen.insert(name).second) return csv_error(1, i + 1, "expected each column name once");
    bool dropped = std::find(options.drop.begin(), options.drop.end(), name) != options.drop.end();
    if (name == options.label) {
      if (dropped) return csv_error(1, i + 1, "expected the label not to be dropped");
      columns.roles.push_back(Columns::Role::kLabel);
    } else if (dropped) {
      columns.roles.push_back(Columns::Role::kDropped);
    } else {
      columns.roles.push_back(Columns::Role::kFeature);
      columns.feature_names.push_back(name);
    }
  }
  if (!seen.count(options.label)) {
    return csv_error(1, "expected a column named \"" + options.label + "\" for the label");
  }
  for (const auto& name : options.drop) {
    if (!seen.count(name)) return csv_error(1, "expected a column named \"" + name + "\" to drop");
  }
  if (columns.feature_names.empty()) return csv_error(1, "expected a column beside the label");
  return columns;
}

}  // namespace

Result<Dataset> import_csv(ByteView file, const CsvOptions& options) {
  auto text = TRY(csv_text(file));
  CsvReader reader(text);
  auto columns = TRY(read_columns(reader, options));
  Dataset dataset;
  dataset.schema.feature_shape =
      TRY(chosen_shape(options.feature_shape, TensorShape{columns.feature_names.size()}));
  if (options.feature_type == FeatureType::kU8) dataset.features = std::vector<uint8_t>();

  LabelCollector labels(options.classes);
  std::vector<std::string> fields;
  while (TRY(reader.next(fields))) {
    if (fields.size() != columns.names.size()) {
      return csv_error(reader.line(), "expected " + std::to_string(columns.names.size()) +
                                          " columns as in the header, found " +
                                          std::to_string(fields.size()));
    }
    for (size_t i = 0; i < fields.size(); ++i) {
      auto bad_value = [&](const std::string& expected) {
        return csv_error(reader.line(), i + 1, columns.names[i], expected);
      };
      if (columns.roles[i] == Columns::Role::kDropped) continue;
      if (columns.roles[i] == Columns::Role::kLabel) {
        auto added = labels.add(fields[i]);
        if (!added) return bad_value(added.error().expected());
      } else if (auto* floats = std::get_if<std::vector<float>>(&dataset.features)) {
        auto value = parse_float(fields[i]);
        if (!value) return bad_value("expected a finite number");
        floats->push_back(*value);
      } else {
        auto value = parse_byte(fields[i]);
        if (!value) return bad_value("expected an integer from 0 to 255");
        std::get<std::vector<uint8_t>>(dataset.features).push_back(*value);
      }
    }
  }
  std::move(labels).finish(dataset);
  if (dataset.rows() == 0)
    return csv_error(reader.line(), "expected a row of data after the header");
  dataset.schema.feature_names = std::move(columns.feature_names);
  dataset.schema.label_name = options.label;
  TRY(validate(dataset));
  return dataset;
}

}  // namespace souk::trainer
