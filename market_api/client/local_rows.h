// Files of rows, in any mixture that makes one dataset: for training and predicting on this
// machine. market_api/SPEC.md, Rows.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "trainer/data/csv_layout.h"
#include "trainer/data/table.h"
#include "trainer/engine/model.h"

namespace souk::market {

struct RowFiles {
  // CSV (perhaps gzipped), IDX, NPY, safetensors datasets, CIFAR-10 records (.bin), image folders.
  // An IDX or NPY file of one dimension holds the labels of the file before it; without one, IDX
  // images look for the file whose name has "labels-idx1" for "images-idx3".
  std::vector<std::string> paths;
  // CSV: name of the label's column, which must then be there, also where `csv` names another;
  // NPY: its number.
  std::string label;
  std::vector<std::string> drop;          // CSV columns to leave out
  std::vector<std::string> classes;       // their order is their number; empty: those found, sorted
  std::optional<trainer::CsvLayout> csv;  // otherwise guessed from the rows
  trainer::Labels labels = trainer::Labels::kNeeded;
  trainer::Unlisted unlisted = trainer::Unlisted::kRefused;
};

// What the rows themselves decided about how they became numbers.
enum class Decided : uint8_t { kNothing, kClasses, kLayout };

struct Rows {
  trainer::Dataset data;
  bool has_labels = true;
  std::optional<trainer::CsvLayout> csv;        // that the CSV files were read with
  Decided decided_by_rows = Decided::kNothing;  // of `csv`
  // By column: categories that the layout does not list, which count as missing.
  std::map<std::string, trainer::UnlistedValues> unlisted = {};
  std::vector<std::string> warnings = {};  // of what was left out, or counts as missing
};

// kMalformed names the file, the place in it and what was expected.
Result<Rows> load_rows(const RowFiles& files);
// An upper estimate, for a contract that is run before its rows can be read: line ends of CSV
// files.
Result<uint64_t> count_csv_lines(const std::vector<std::string>& paths);
// Whether the first file is a CSV, by its bytes and name.
Result<bool> is_csv(const std::string& path);

// Rows `keep` of `all`, in that order.
trainer::Dataset some_rows(const trainer::Dataset& all, const std::vector<uint64_t>& keep);
trainer::Features features_of(const trainer::Dataset& data);

}  // namespace souk::market
