// The parts of elaborate.cc: reading the table that a contract's program returned.
// For this folder alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "contracts/training/spec.h"
#include "policy/lua/elaborate.h"

namespace souk::policy {

// "place: expected ..."
Error wrong(const std::string& place, const std::string& expected);
// A real as the sandbox writes it, a whole number, or text such as "1e-5".
Result<double> real_of(const Json& value, const std::string& place);
// A number in units of 1/scale, which must come out whole and be 1 to `most` of them.
Result<int64_t> scaled(const Json& value, double scale, int64_t most, const std::string& unit,
                       const std::string& place);

// The members of one table of the contract, each read once; the rest is refused.
class Table {
 public:
  // Borrows `value`.
  static Result<Table> of(const Json& value, std::string place);
  static Result<Table> of(Json&&, std::string) = delete;

  const Json* find(const std::string& name);
  Result<const Json*> need(const std::string& name, const std::string& what);
  Result<int64_t> whole(const std::string& name, int64_t min, int64_t max,
                        std::optional<int64_t> otherwise = std::nullopt);
  Result<double> real(const std::string& name, double otherwise);
  Result<bool> boolean(const std::string& name, bool otherwise);
  Result<std::string> text(const std::string& name,
                           std::optional<std::string> otherwise = std::nullopt);
  // kMalformed names the first member that nobody asked for.
  Status done() const;
  std::string place(const std::string& name) const {
    return place_.empty() ? name : place_ + "." + name;
  }

 private:
  Table(const Json::Object* members, std::string place)
      : members_(members), place_(std::move(place)) {}
  const Json::Object* members_;
  std::string place_;
  std::vector<std::string> taken_;
};

// contract_model.cc: `model`, a list of layers, lists of layers, residual{} and parallel{}.
// `offer`: names and categories of the features.
Result<std::vector<contracts::Node>> read_model(const Json* model, const CatalogEntry& offer);

// contract_training.cc: `train`, `privacy`, `input`.
Result<int64_t> read_batch(Table& train, uint64_t rows);
Result<uint32_t> read_steps(Table& train, uint64_t rows, int64_t batch);
Result<contracts::Optimizer> read_optimizer(const Json* value);
Result<std::vector<contracts::TrainingSpec::Rate>> read_rates(Table& train, const Json* optimizer,
                                                              uint32_t steps);
Result<std::vector<double>> read_constants(const Json* value, const std::string& place);
// Loss, precision, and how gradients become updates.
Status read_arithmetic(Table& train, contracts::TrainingSpec& spec);
// floor(2^64 * batch / rows), at most 2^64 - 1.
uint64_t poisson_threshold(int64_t batch, uint64_t rows);

struct Privacy {
  contracts::PrivacySpec spec;
  bool calibrated = false;
};
// `privacy`, for a run whose steps, batch and sampling_threshold are read already; moves
// sampling_threshold where the contract has a pool. `rows` of each dataset; none: rows at hand,
// which are one dataset whatever the contract says.
Result<Privacy> read_privacy(const Json& value, contracts::TrainingSpec& spec,
                             const std::vector<uint64_t>& rows, const Calibrate& calibrate);

}  // namespace souk::policy
