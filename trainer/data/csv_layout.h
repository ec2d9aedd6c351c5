// How the columns of a CSV become numbers, said in public before anyone has looked at a row:
// in a training contract (`csv`), at import, or beside a model. trainer/SPEC.md, Importers.
//
//   {"c45":false,"columns":["age",{"name":"work","values":["private","state"]},
//     {"missing":"0","name":"gain"},{"name":"id","role":"dropped"},
//     {"name":"income","role":"label","values":["<=50K",">50K"]}],"missing":"?"}
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ledger/base/bytes.h"
#include "ledger/base/result.h"
#include "ledger/codec/json.h"
#include "trainer/data/table.h"

namespace souk::trainer {

struct CsvColumn {
  enum class Role : uint8_t { kNumber, kCategory, kLabel, kDropped };
  std::string name;
  Role role = Role::kNumber;
  // kCategory: values[i] becomes i + 1, a missing one 0. kLabel: the classes, in order;
  // empty: those found, sorted.
  std::vector<std::string> values;
  std::optional<double> missing;  // kNumber: what a missing one becomes; else it is an error
  friend bool operator==(const CsvColumn&, const CsvColumn&) = default;
};

struct CsvLayout {
  std::vector<CsvColumn> columns;  // every column of a file without a header row, in order
  std::string missing;             // the mark of a missing value; an empty field always is one
  bool c45 = false;  // UCI's C4.5 files: a record from '|' on is a comment, a period may end one
  friend bool operator==(const CsvLayout&, const CsvLayout&) = default;

  std::vector<std::string> feature_names() const;
  // Of feature columns that hold categories: their values, in the order of their numbers.
  std::map<std::string, std::vector<std::string>> categories() const;
  const CsvColumn* label() const;  // or null pointer
};

// Strict: unknown members, more than one label, names that are not names are kMalformed.
// `place` is what the error calls it. Also the form that a Lua table has.
Result<CsvLayout> csv_layout_from_json(const Json& json, const std::string& place);
Json to_json(const CsvLayout& layout);

// The fields of a CSV's first record: its header, where it has one.
Result<std::vector<std::string>> first_csv_record(ByteView file);

enum class Labels : uint8_t { kNeeded, kIfThere };  // kIfThere: rows to predict may have none
// A category that the layout does not list: an error, or as good as missing, and counted.
enum class Unlisted : uint8_t { kRefused, kMissing };

struct UnlistedValues {
  uint64_t rows = 0;
  std::string example;  // the first of them
};

struct LaidOutRows {
  Dataset dataset;  // labels all 0 where has_labels is false
  bool has_labels = true;
  std::map<std::string, UnlistedValues> unlisted = {};  // by column; of Unlisted::kMissing
};
// A first record that names every feature is a header: then columns are found by name, in any
// order, and others are left out. Without one, the file has the layout's columns (with
// kIfThere: perhaps without the label's); a first record that is no such row, and names some
// columns or has no number in it, is a header that lacks one: kMalformed names the column. Errors
// name line and column as import_csv does.
Result<LaidOutRows> import_laid_out_csv(ByteView file, const CsvLayout& layout, Labels labels,
                                        Unlisted unlisted);

// The layout that the rows of a CSV with a header suggest: a feature column in which something
// is no number becomes a category of its distinct values, sorted; missing numbers get the
// column's mean; classes are those found. A column of which three quarters or more are numbers is
// one of numbers: anything else in it is kMalformed, by line and column. Made from the data, so it
// says something about them: for training one's own rows, never for publishing. `drop` and `label`
// must be columns.
Result<CsvLayout> guess_csv_layout(ByteView file, const std::string& label,
                                   const std::vector<std::string>& drop,
                                   const std::string& missing);

}  // namespace souk::trainer
