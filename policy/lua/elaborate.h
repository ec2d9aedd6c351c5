// A training contract is a small Lua program. Elaboration runs it once and keeps
// the closed specification it describes; the program itself is then forgotten.
// contracts/SPEC.md, Training contracts.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "contracts/training/spec.h"
#include "ledger/base/named.h"
#include "ledger/base/result.h"
#include "ledger/codec/json.h"
#include "policy/lua/sandbox.h"

namespace souk::policy {

// What the market says about one dataset on offer.
struct CatalogEntry {
  DatasetId id;
  std::string name;
  uint64_t rows = 0;
  std::vector<uint32_t> feature_shape;  // {features} or {channels, height, width}
  uint32_t classes = 2;
  std::string label;
  std::vector<std::string> feature_names;
  // Of columns that hold categories: their values, numbered from 1; 0 is a missing one.
  std::map<std::string, std::vector<std::string>> categories;
  // Stands for every name and for a list of names: rows at hand, outside the market.
  bool any_name = false;
  friend bool operator==(const CatalogEntry&, const CatalogEntry&) = default;
};
Json to_json(const std::vector<CatalogEntry>& catalog);
Result<std::vector<CatalogEntry>> catalog_from_json(const Json& json);

struct Elaborated {
  contracts::TrainingSpec spec;     // check_spec has accepted it
  std::vector<DatasetId> datasets;  // in the order the contract names them, each once
  uint64_t rows_total = 0;
  std::string purpose;
  std::string region;  // may be empty
  int64_t offered_minor = 0;
  int64_t deadline_minutes = 60;
  bool noise_calibrated = false;  // noise_multiplier came from `calibrate`
  std::string initial_file;  // `initial`: weights to start from, a file beside the contract; or ""
  Json
      csv;  // the contract's own layout of CSV rows, or null; the market's rows are tensors already
};

// A contract may name an architecture file instead of listing layers: model = "net.cfg", or
// {file = "net.cfg", norm = "group"}. What the file says:
struct NamedModel {
  std::vector<uint32_t> input_shape;  // of the examples it was made for: those of the datasets
  std::vector<contracts::Node> model;
  std::vector<double> input_mean, input_scale;  // used where the contract has no `input`
};
using ModelSource =
    std::function<Result<NamedModel>(const std::string& file, const std::string& norm)>;

// The least noise multiplier that keeps `epsilon` at `delta` for Poisson rate q over `steps`, for
// whoever has at most `records` rows (policy/privacy supplies it).
using Calibrate = std::function<Result<double>(double epsilon, double delta, double q,
                                               uint32_t steps, uint32_t records)>;

inline constexpr Limits kContractLimits{
    .gas = 100'000'000, .memory_bytes = 64 << 20, .output_bytes = 4 << 20};

// Both steps, in this process. Errors name the field and what was expected.
Result<Elaborated> elaborate(std::string_view source, const std::vector<CatalogEntry>& catalog,
                             const Calibrate& calibrate, const Limits& limits = kContractLimits);

// Step 1, the only one that runs Lua (so the one for the jail): the table the
// contract returned, with reals as decimal strings and schedules as run lengths.
Result<Json> run_contract(std::string_view source, const std::vector<CatalogEntry>& catalog,
                          const Limits& limits);
// Step 2, plain C++ over data.
Result<Elaborated> assemble(const Json& table, const std::vector<CatalogEntry>& catalog,
                            const Calibrate& calibrate, const ModelSource& models = {});

}  // namespace souk::policy
