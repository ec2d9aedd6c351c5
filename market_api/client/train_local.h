// Training on this machine, with the market's engine and outside the market: no enclave, no
// policy, no ledger, no receipt, and whoever runs it sees the rows. A convenience for one's own
// data; a model that others must trust comes from `souk job submit`.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "market_api/client/darknet.h"
#include "market_api/client/local_rows.h"
#include "market_api/client/stored_model.h"
#include "policy/jail/nursery.h"

namespace souk::market {

struct LocalRequest {
  // CONTRACT.lua, run as for the market with the rows in place of all its datasets; an elaborated
  // specification .json (or a spec.json beside a model); or a Darknet .cfg.
  std::string spec;
  std::vector<std::string> data, test;  // RowFiles::paths
  std::string label;                    // CSV, NPY; unnecessary where the contract has a csv layout
  std::vector<std::string> drop;
  std::string csv;       // a file with a csv layout; it stands before the contract's
  std::string initial;   // safetensors with weights to start from; before the contract's
  uint32_t folds = 0;    // 2 or more: cross-validation, each fold tested by the others' model
  unsigned threads = 0;  // 0: one for each processor
  std::optional<uint64_t> seed;
  DarknetNorm norm = DarknetNorm::kBatch;
};

struct LocalResult {
  enum class MeasuredOn : uint8_t { kTest, kFolds, kTraining } measured_on = MeasuredOn::kTraining;
  double accuracy = 0;  // over all rows it was measured on
  double loss = 0;      // the mean of the specification's loss on them
  uint64_t measured_rows = 0;
  std::vector<double> fold_accuracies;
  uint64_t rows = 0;  // trained on
  uint32_t steps = 0;
  double seconds = 0;  // of training alone, over all folds
  double examples_per_s =
      0;  // examples drawn, over those seconds; expected ones where drawing is Poisson
  uint64_t parameters = 0;
  std::optional<double> epsilon;  // spent, at delta
  double delta = 0;
  // Of the rows trained and tested on: Rows::unlisted and warnings.
  std::map<std::string, uint64_t> unlisted;
  std::vector<std::string> warnings;
  // Trained on all rows; with folds, on those outside the last.
  StoredModel stored;
};

// done steps, of how many.
using LocalProgress = std::function<void(uint64_t done, uint64_t total)>;

// kMalformed: specification and rows are not files of their kinds, or do not fit together.
// kRefused: the engine will not do it (epsilon above the claimed one, no such instruction set), or
// the run diverged.
Result<LocalResult> train_local(const LocalRequest& request, policy::Nursery& jail,
                                const LocalProgress& progress);

// A request's specification, completed for its rows, and both of them; nothing is trained.
struct LocalJob {
  contracts::TrainingSpec spec;
  Rows rows;
  std::optional<trainer::Model> initial;
};
Result<LocalJob> open_local(const LocalRequest& request, policy::Nursery& jail);

// For people, beside a model trained here.
std::string local_model_card(const LocalResult& result);

}  // namespace souk::market
