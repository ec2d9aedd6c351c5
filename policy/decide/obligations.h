// What an allowed run must still respect: closed, typed, and composed by taking
// the strictest. policy/SPEC.md, Obligations.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "contracts/training/spec.h"
#include "ledger/base/result.h"
#include "ledger/codec/json.h"

namespace souk::policy {

struct Obligations {
  std::optional<int64_t> max_epsilon_micro;
  std::optional<int64_t> max_delta_pico;
  std::optional<int64_t> min_noise_micro;  // noise multiplier in millionths
  std::optional<int64_t> max_steps;
  std::optional<int64_t> max_parameters;
  std::optional<std::vector<std::string>> allowed_algorithms;  // sorted, each once
  enum class OutputForm : uint8_t { kWeights };
  std::optional<OutputForm> output_form;
  // Further budgets of the dataset, at its delta: what one consumer, or one purpose, may take
  // of it over all its contracts. The ledger keeps them (contracts/SPEC.md, Admission).
  std::optional<int64_t> consumer_epsilon_micro;
  std::optional<int64_t> purpose_epsilon_micro;
  std::optional<int64_t> min_co_providers;  // providers of the contract beside this one
  // Duties, told to the consumer by the decision, the start and the model card; no
  // part of a run can show that they were kept.
  std::optional<int64_t> max_retention_days;  // the model is to be deleted after so many days
  std::optional<int64_t> embargo_until;       // ms; nothing is to be published before
  std::optional<std::vector<std::string>> attribution;  // whom to name; sorted, each once
  // What the trainer must add to the receipt: a one-run audit with canaries (trainer/SPEC.md,
  // Audit).
  enum class Audit : uint8_t { kOneRun };
  std::optional<Audit> audit;
  bool waive_privacy = false;  // only by name may a run go without differential privacy
  friend bool operator==(const Obligations&, const Obligations&) = default;
};

// The names of all there are.
const std::set<std::string>& obligation_names();
Json to_json(const Obligations& obligations);  // absent members are left out
Result<Obligations> obligations_from_json(const Json& json);

// The strictest of both: nothing that either refuses is accepted. Commutative,
// associative, idempotent. Fold from the first provider's; there is no identity
// to start from, because `Obligations{}` does not waive privacy.
Obligations meet(const Obligations& a, const Obligations& b);

// kRefused names each thing that is weaker than obliged. More noise, fewer
// steps, a smaller model are fine. min_co_providers is not a matter of the
// specification: judge (policy/decide/decide.h) compares it with the request.
//
// `member`: the run as dataset `member` of its pool takes part in it, at its own noise and epsilon.
Status check_obligations(const contracts::TrainingSpec& spec, const Obligations& obligations,
                         std::optional<size_t> member = std::nullopt);

// Where a specification has a pool, what one provider obliges to about noise and epsilon is about
// its own part of it; everything else is about the run, and met with the others'.
Obligations about_own_part(const Obligations& obligations);
Obligations about_the_run(const Obligations& obligations);

}  // namespace souk::policy
