// How a CSV becomes rows of a model that is there already: what its numbers mean is the model's to
// say; how a file is laid out may be said of the file. market_api/SPEC.md, Rows.
#pragma once

#include <optional>
#include <string>

#include "market_api/client/stored_model.h"
#include "trainer/data/csv_layout.h"

namespace souk::market {

// The layout of the model's own rows: that of `notes.csv`; else, where its columns have names, all
// of them as numbers and its label; else none.
std::optional<trainer::CsvLayout> layout_of_model(const ModelNotes& notes);

// `given`, the layout of a file, as one whose numbers mean what they mean to the model: its
// features are the model's, in their order; a list of values or classes is as long as the model's,
// and what both lists name has one place. Other spellings, marks, orders of the label and dropped
// columns are the file's. A label without classes gets the model's. kMalformed begins with `place`
// and names the column. Nothing is asked of what the model does not say: names, categories,
// classes.
Result<trainer::CsvLayout> layout_for_model(trainer::CsvLayout given, const ModelNotes& notes,
                                            const std::string& place);

}  // namespace souk::market
