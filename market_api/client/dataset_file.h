// A file or folder that somebody has, as a dataset. The kind is told by its first
// bytes and its name: CSV, IDX (with labels), NPY, a dataset's own safetensors, or
// a folder with one sub-folder of PGM or PPM images for each class.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "trainer/data/csv_layout.h"
#include "trainer/data/table.h"

namespace souk::market {

struct DatasetFile {
  std::string path;
  std::optional<std::string> labels;  // path of the labels of IDX and NPY
  std::string label;              // CSV: name of the label's column; NPY: its number; else a name
  std::vector<std::string> drop;  // CSV columns to leave out
  std::vector<std::string> classes;   // their order is their number; empty: those found, sorted
  std::vector<std::string> features;  // CSV: leave out every column that is neither one of these
                                      // nor the label; empty: keep all
  std::optional<trainer::CsvLayout> csv;  // CSV: columns, categories, missing values; stands
                                          // before drop and features
};

// kMalformed names the file, the place in it and what was expected there. What an image folder
// has beside images is left out, and said in `warnings`.
Result<trainer::Dataset> load_dataset(const DatasetFile& file,
                                      std::vector<std::string>* warnings = nullptr);

// Makes `label` the label's column of a layout that perhaps names another; its classes are the
// layout's, or `classes`. kMalformed unless the first record of `csv` has that name and it is no
// feature of the layout.
Status name_label(trainer::CsvLayout& layout, const std::string& label,
                  const std::vector<std::string>& classes, ByteView csv);

}  // namespace souk::market
