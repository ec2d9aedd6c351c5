#include "trainer/data/csv_layout.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>

#include "trainer/data/csv_reader.h"
#include "trainer/data/import_common.h"
#include "trainer/data/names.h"

namespace souk::trainer {
namespace {

using Role = CsvColumn::Role;

constexpr size_t kMaxColumns = 4096;
constexpr size_t kMaxValues = 65535;  // index 0 is the missing one

Error bad(const std::string& place, const std::string& expected) {
  return Error(Code::kMalformed, place + ": expected " + expected);
}

Result<std::vector<std::string>> read_values(const Json& json, const std::string& place) {
  const Json::Array* list = json.array();
  if (!list || list->empty() || list->size() > kMaxValues)
    return bad(place, "a list of 1 to 65535 texts");
  std::vector<std::string> values;
  std::set<std::string_view> seen;
  for (const Json& item : *list) {
    // Lua writes {1, 2} where the file has the texts "1" and "2".
    std::string text = item.integer()  ? std::to_string(*item.integer())
                       : item.string() ? *item.string()
                                       : "";
    if (!is_name(text))
      return bad(place, "texts of 1 to 256 bytes of UTF-8 without control characters");
    values.push_back(std::move(text));
  }
  for (const auto& value : values) {
    if (!seen.insert(value).second) return bad(place, "each value once");
  }
  return values;
}

Result<double> read_number(const Json& json, const std::string& place) {
  if (json.integer()) return static_cast<double>(*json.integer());
  double value = 0;
  const std::string* text = json.string();
  auto [end, status] = text ? std::from_chars(text->data(), text->data() + text->size(), value)
                            : std::from_chars_result{nullptr, std::errc::invalid_argument};
  if (status != std::errc() || end != text->data() + text->size() ||
      !std::isfinite(static_cast<float>(value))) {
    return bad(place, "a finite number");
  }
  return value;
}

Result<CsvColumn> read_column(const Json& json, const std::string& place) {
  CsvColumn column;
  if (json.string()) {
    column.name = *json.string();
  } else {
    auto fields = TRY(Fields::of(json, place));
    column.name = TRY(fields.text("name", kMaxNameBytes));
    if (fields.has("values")) {
      const Json* values = TRY(fields.any("values"));
      column.values = TRY(read_values(*values, place + ".values"));
      column.role = Role::kCategory;
    }
    if (fields.has("role")) {
      auto role = TRY(fields.text("role", 16));
      if (role == "label") {
        column.role = Role::kLabel;
      } else if (role == "dropped" && column.values.empty()) {
        column.role = Role::kDropped;
      } else {
        return bad(place + ".role", "\"label\" or, without values, \"dropped\"");
      }
    }
    if (fields.has("missing")) {
      const Json* missing = TRY(fields.any("missing"));
      if (column.role != Role::kNumber)
        return bad(place + ".missing", "only for a column of numbers");
      column.missing = TRY(read_number(*missing, place + ".missing"));
    }
    TRY(fields.done());
  }
  if (!is_name(column.name))
    return bad(place, "a name of 1 to 256 bytes of UTF-8 without control characters");
  return column;
}

// What a column of the file becomes: `feature` counts the features of the layout.
struct Binding {
  const CsvColumn* column = nullptr;  // null: left out
  size_t feature = 0;
};

// Where the layout's columns are, by position (no header) or by name.
Result<std::vector<Binding>> bind(const CsvLayout& layout, const std::vector<std::string>* header,
                                  size_t count, size_t line, Labels labels) {
  std::map<std::string_view, Binding> by_name;
  std::vector<Binding> in_order;
  size_t feature = 0;
  for (const auto& column : layout.columns) {
    Binding binding{column.role == Role::kDropped ? nullptr : &column, feature};
    if (column.role == Role::kNumber || column.role == Role::kCategory) ++feature;
    by_name[column.name] = binding;
    in_order.push_back(binding);
  }
  std::vector<Binding> bindings;
  if (header) {
    for (const auto& name : *header) {
      auto it = by_name.find(name);
      bindings.push_back(it == by_name.end() ? Binding{} : it->second);
      if (it != by_name.end()) it->second.column = nullptr;  // the first of equal names
    }
    return bindings;
  }
  if (count != in_order.size() && labels == Labels::kIfThere) {
    in_order.erase(
        std::remove_if(in_order.begin(), in_order.end(),
                       [](const Binding& b) { return b.column && b.column->role == Role::kLabel; }),
        in_order.end());
  }
  if (count != in_order.size()) {
    return csv_error(line, "expected the " + std::to_string(layout.columns.size()) +
                               " columns of the layout, found " + std::to_string(count));
  }
  return in_order;
}

bool names_every_feature(const std::vector<std::string>& record, const CsvLayout& layout) {
  auto names = layout.feature_names();
  return std::all_of(names.begin(), names.end(), [&](const std::string& name) {
    return std::find(record.begin(), record.end(), name) != record.end();
  });
}

struct Number {
  float value = 0;
  bool unlisted = false;
};

// One field as a number of its column.
Result<Number> number_of(const std::string& field, const CsvColumn& column, bool missing,
                         Unlisted unlisted) {
  if (column.role == Role::kCategory) {
    if (missing) return Number{};
    // Vocabularies are short; the importer is not where time goes.
    auto it = std::find(column.values.begin(), column.values.end(), field);
    if (it != column.values.end())
      return Number{static_cast<float>(it - column.values.begin() + 1)};
    if (unlisted == Unlisted::kMissing) return Number{0, true};
    return Error(Code::kMalformed, "expected one of the column's listed values");
  }
  if (missing) {
    if (column.missing) return Number{static_cast<float>(*column.missing)};
    return Error(Code::kMalformed,
                 "expected a number; the layout says nothing of missing ones here");
  }
  auto value = parse_float(field);
  if (!value) return Error(Code::kMalformed, "expected a finite number");
  return Number{*value};
}

bool is_missing(const std::string& field, const CsvLayout& layout) {
  return field.empty() || field == layout.missing;
}

bool reads_as_row(const std::vector<std::string>& record, const CsvLayout& layout, Labels labels) {
  auto bindings = bind(layout, nullptr, record.size(), 1, labels);
  if (!bindings) return false;
  for (size_t i = 0; i < record.size(); ++i) {
    const CsvColumn* column = (*bindings)[i].column;
    if (!column || column->role == Role::kLabel) continue;
    if (!number_of(record[i], *column, is_missing(record[i], layout), Unlisted::kRefused))
      return false;
  }
  return true;
}

// The columns that a first record lacks to be the layout's header, where it can be nothing else;
// else none.
std::vector<std::string> lacking_columns(const std::vector<std::string>& record,
                                         const CsvLayout& layout, Labels labels) {
  auto has = [&](const std::string& name) {
    return std::find(record.begin(), record.end(), name) != record.end();
  };
  bool names_some = std::any_of(
      layout.columns.begin(), layout.columns.end(),
      [&](const CsvColumn& column) { return column.role != Role::kDropped && has(column.name); });
  bool any_number = std::any_of(record.begin(), record.end(),
                                [](const std::string& field) { return parse_float(field); });
  bool takes_numbers =
      std::any_of(layout.columns.begin(), layout.columns.end(),
                  [](const CsvColumn& column) { return column.role == Role::kNumber; });
  bool is_header = names_some || (takes_numbers && !any_number);
  if (!is_header || reads_as_row(record, layout, labels)) return {};
  auto lacking = layout.feature_names();
  std::erase_if(lacking, has);
  return lacking;
}

}  // namespace

std::vector<std::string> CsvLayout::feature_names() const {
  std::vector<std::string> names;
  for (const auto& column : columns) {
    if (column.role == Role::kNumber || column.role == Role::kCategory)
      names.push_back(column.name);
  }
  return names;
}

std::map<std::string, std::vector<std::string>> CsvLayout::categories() const {
  std::map<std::string, std::vector<std::string>> out;
  for (const CsvColumn& column : columns) {
    if (column.role == CsvColumn::Role::kCategory) out.emplace(column.name, column.values);
  }
  return out;
}

const CsvColumn* CsvLayout::label() const {
  for (const auto& column : columns) {
    if (column.role == Role::kLabel) return &column;
  }
  return nullptr;
}

Result<CsvLayout> csv_layout_from_json(const Json& json, const std::string& place) {
  auto fields = TRY(Fields::of(json, place));
  CsvLayout layout;
  const Json::Array* columns = TRY(fields.array("columns", kMaxColumns));
  std::set<std::string> names;
  size_t labels = 0;
  for (size_t i = 0; i < columns->size(); ++i) {
    const std::string here = place + ".columns[" + std::to_string(i + 1) + "]";
    auto column = TRY(read_column((*columns)[i], here));
    if (!names.insert(column.name).second) return bad(here, "each column name once");
    if (column.role == Role::kLabel && ++labels > 1) return bad(here, "one label");
    layout.columns.push_back(std::move(column));
  }
  if (layout.feature_names().empty()) return bad(place + ".columns", "a column beside the label");
  if (fields.has("missing")) layout.missing = TRY(fields.text("missing", kMaxNameBytes));
  if (fields.has("c45")) layout.c45 = TRY(fields.boolean("c45"));
  TRY(fields.done());
  return layout;
}

Json to_json(const CsvLayout& layout) {
  Json::Array columns;
  for (const auto& column : layout.columns) {
    Json::Object out{{"name", column.name}};
    if (!column.values.empty())
      out["values"] = Json::Array(column.values.begin(), column.values.end());
    if (column.role == Role::kLabel) out["role"] = "label";
    if (column.role == Role::kDropped) out["role"] = "dropped";
    if (column.missing) out["missing"] = real_text(*column.missing);
    columns.emplace_back(std::move(out));
  }
  return Json::Object{
      {"c45", layout.c45}, {"columns", std::move(columns)}, {"missing", layout.missing}};
}

Result<LaidOutRows> import_laid_out_csv(ByteView file, const CsvLayout& layout, Labels labels,
                                        Unlisted unlisted) {
  auto text = TRY(csv_text(file));
  const CsvColumn* label = layout.label();
  if (!label && labels == Labels::kNeeded) {
    return Error(Code::kMalformed, "expected a layout with a column of role \"label\"");
  }
  const size_t features = layout.feature_names().size();
  LaidOutRows rows;
  std::vector<float> values;
  LabelCollector collector(label ? label->values : std::vector<std::string>());
  CsvReader reader(text);
  std::vector<Binding> bindings;
  std::vector<std::string> fields;
  size_t count = 0;
  while (TRY(reader.next(fields))) {
    if (layout.c45 && !fields[0].empty() && fields[0][0] == '|') continue;
    if (bindings.empty()) {
      bool header = names_every_feature(fields, layout);
      if (auto lacking = lacking_columns(fields, layout, labels); !header && !lacking.empty()) {
        return csv_error(
            reader.line(),
            "expected a header with a column named \"" + lacking.front() + "\"" +
                (lacking.size() > 1 ? " and " + std::to_string(lacking.size() - 1) + " more" : "") +
                ", which it does not have, or a row");
      }
      bindings =
          TRY(bind(layout, header ? &fields : nullptr, fields.size(), reader.line(), labels));
      rows.has_labels = std::any_of(bindings.begin(), bindings.end(), [](const Binding& b) {
        return b.column && b.column->role == Role::kLabel;
      });
      if (!rows.has_labels && labels == Labels::kNeeded) {
        return csv_error(reader.line(),
                         "expected a column named \"" + label->name + "\" for the label");
      }
      if (header) continue;
    }
    if (fields.size() != bindings.size()) {
      return csv_error(reader.line(), "expected " + std::to_string(bindings.size()) +
                                          " columns as in the first record, found " +
                                          std::to_string(fields.size()));
    }
    if (layout.c45 && !fields.back().empty() && fields.back().back() == '.')
      fields.back().pop_back();
    values.resize((count + 1) * features);
    for (size_t i = 0; i < fields.size(); ++i) {
      const CsvColumn* column = bindings[i].column;
      if (!column) continue;
      bool missing = is_missing(fields[i], layout);
      if (column->role == Role::kLabel) {
        auto added = collector.add(fields[i]);
        if (!added) return csv_error(reader.line(), i + 1, column->name, added.error().expected());
        continue;
      }
      auto value = number_of(fields[i], *column, missing, unlisted);
      if (!value) return csv_error(reader.line(), i + 1, column->name, value.error().expected());
      values[count * features + bindings[i].feature] = value->value;
      if (!value->unlisted) continue;
      UnlistedValues& unknown = rows.unlisted[column->name];
      if (unknown.rows++ == 0) unknown.example = fields[i];
    }
    ++count;
  }
  if (count == 0) return csv_error(reader.line(), "expected a row of data");
  rows.dataset.features = std::move(values);
  if (rows.has_labels) {
    std::move(collector).finish(rows.dataset);
  } else {
    rows.dataset.labels.assign(count, 0);
    rows.dataset.schema.classes =
        label && !label->values.empty() ? label->values : std::vector<std::string>{"0"};
  }
  rows.dataset.schema.feature_shape = {features};
  rows.dataset.schema.feature_names = layout.feature_names();
  rows.dataset.schema.label_name = label ? label->name : "label";
  TRY(validate(rows.dataset));
  return rows;
}

Result<std::vector<std::string>> first_csv_record(ByteView file) {
  auto text = TRY(csv_text(file));
  CsvReader reader(text);
  std::vector<std::string> fields;
  if (!TRY(reader.next(fields))) return csv_error(reader.line(), "expected a row of data");
  return fields;
}

Result<CsvLayout> guess_csv_layout(ByteView file, const std::string& label,
                                   const std::vector<std::string>& drop,
                                   const std::string& missing) {
  auto text = TRY(csv_text(file));
  CsvReader reader(text);
  std::vector<std::string> header;
  if (!TRY(reader.next(header)))
    return csv_error(1, "expected a header row with the names of the columns");
  CsvLayout layout;
  layout.missing = missing;
  for (size_t i = 0; i < header.size(); ++i) {
    bool dropped = std::find(drop.begin(), drop.end(), header[i]) != drop.end();
    Role role = header[i] == label ? Role::kLabel : dropped ? Role::kDropped : Role::kNumber;
    if (!is_name(header[i])) return csv_error(1, i + 1, kExpectedColumnName);
    if (std::find(header.begin(), header.begin() + static_cast<ptrdiff_t>(i), header[i]) !=
        header.begin() + static_cast<ptrdiff_t>(i)) {
      return csv_error(1, i + 1, "expected each column name once");
    }
    layout.columns.push_back({header[i], role, {}, {}});
  }
  if (!layout.label())
    return csv_error(1, "expected a column named \"" + label + "\" for the label");
  for (const auto& name : drop) {
    if (std::find(header.begin(), header.end(), name) == header.end()) {
      return csv_error(1, "expected a column named \"" + name + "\" to drop");
    }
  }
  if (layout.feature_names().empty()) return csv_error(1, "expected a column beside the label");

  struct Seen {
    bool numbers = true, has_missing = false;
    std::set<std::string> values;
    double sum = 0;
    uint64_t count = 0;                  // not missing
    uint64_t texts = 0, first_text = 0;  // of those, no numbers; the line of the first
  };
  std::vector<Seen> seen(header.size());
  std::vector<std::string> fields;
  while (TRY(reader.next(fields))) {
    if (fields.size() != header.size()) {
      return csv_error(reader.line(), "expected " + std::to_string(header.size()) +
                                          " columns as in the header, found " +
                                          std::to_string(fields.size()));
    }
    for (size_t i = 0; i < fields.size(); ++i) {
      Seen& column = seen[i];
      if (layout.columns[i].role != Role::kNumber) continue;
      if (fields[i].empty() || fields[i] == missing) {
        column.has_missing = true;
        continue;
      }
      auto number = parse_float(fields[i]);
      column.numbers = column.numbers && number;
      if (number) column.sum += static_cast<double>(*number);
      if (!number && column.texts++ == 0) column.first_text = reader.line();
      ++column.count;
      if (column.values.size() <= kMaxClasses) column.values.insert(fields[i]);
    }
  }
  for (size_t i = 0; i < header.size(); ++i) {
    CsvColumn& column = layout.columns[i];
    if (column.role != Role::kNumber) continue;
    if (seen[i].numbers) {
      if (seen[i].has_missing)
        column.missing = seen[i].count > 0 ? seen[i].sum / static_cast<double>(seen[i].count) : 0;
      continue;
    }
    if (seen[i].texts * 4 <= seen[i].count) {
      return csv_error(seen[i].first_text, i + 1, column.name,
                       "expected a finite number, as in " +
                           std::to_string(seen[i].count - seen[i].texts) + " of the column's " +
                           std::to_string(seen[i].count) +
                           " values; a csv layout that lists the values makes it a category");
    }
    if (seen[i].values.size() > kMaxClasses) {
      return csv_error(1, i + 1, column.name,
                       "expected numbers, or at most 4096 distinct values; drop it otherwise");
    }
    column.role = Role::kCategory;
    column.values.assign(seen[i].values.begin(), seen[i].values.end());
  }
  return layout;
}

}  // namespace souk::trainer
