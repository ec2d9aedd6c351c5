// Inside trainer/decision: one decision in the making.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "policy/decide/joint.h"
#include "policy/decide/request.h"
#include "policy/privacy/budget.h"
#include "policy/privacy/run.h"
#include "policy/privacy/work.h"
#include "trainer/decision/decision.h"

namespace souk::trainer {

// What one decision may cost, of each kind at most two to three seconds of a slow core: accounting
// that decides, accounting that only explains a refusal, and the gas of all policies together.
inline constexpr uint64_t kMostWork = 250'000'000;
inline constexpr uint64_t kMostExplaining = 50'000'000;
inline constexpr uint64_t kMostGas = 200'000'000;
policy::Reason too_costly(const char* path, const contracts::Dataset* dataset = nullptr);

class Judge {
 public:
  Judge(const contracts::MarketState& state, TimeMs now, uint64_t head_size,
        const PublicKey& consumer, const contracts::ContractSubmit& submit,
        const EvaluatePolicy& evaluate, const Digest& engine, contracts::ContractDecision& out)
      : state_(state),
        now_(now),
        head_size_(head_size),
        consumer_(consumer),
        submit_(submit),
        evaluate_(evaluate),
        engine_(to_hex(ByteView(engine))),
        out_(out) {}

  // A reason of the decision; the first refusal gives it its status.
  void reason(policy::Reason reason);
  void refuse(const std::string& status, policy::Reason why);

  bool pooled() const { return submit_.spec.privacy && !submit_.spec.privacy->pool.empty(); }
  std::vector<policy::CredentialFact> credentials();
  // What the run costs the people of each dataset: by its own rate and its own clipping norm, and
  // by how many rows of a person it may have. Before admit().
  bool account(const std::vector<const contracts::Dataset*>& datasets);
  // How many policies will be asked: they share what a decision can carry of reasons.
  void expect(size_t policies);
  // One provider's answer, and what it grants of the dataset.
  void admit(const contracts::Dataset& dataset, size_t index, const contracts::PolicyChoice& choice,
             const Json& request);
  // What a job obliged to holds for every model that starts from its model, and so do the policies
  // that it was allowed under; `asked` are those that have answered already. Nothing is paid to
  // them again, and nothing of their budgets is spent: their rows are not read.
  void inherit(const contracts::Contract& job, const Json& request,
               std::set<std::pair<DatasetId, Digest>>& asked);
  void finish();

  // Who was asked and what they said: of the contract's datasets, and of those its initial
  // weights have learned from.
  Json::Array inputs, inherited;

 private:
  // judge.cc
  std::optional<policy::PolicyDecision> ask(const contracts::Dataset& dataset,
                                            const contracts::PolicyChoice& choice,
                                            const Json& request, Json::Array& noted,
                                            std::optional<size_t> member = std::nullopt);
  bool keeps(const policy::Obligations& obligations, const std::string& provider,
             const std::string& dataset, std::optional<size_t> member = std::nullopt);
  void tell(const contracts::Dataset& dataset, const policy::PolicyDecision& answer);
  static Json facts_of(const contracts::Dataset& dataset);
  Json context_of(const contracts::Dataset& dataset) const;
  template <class Counts>
  policy::UsageFacts usage(const DatasetId& dataset, Counts counts) const;

  // spending.cc
  bool has_room(const contracts::Dataset& dataset, size_t index,
                const policy::Obligations& obligations, contracts::Grant& grant);
  // One of the budgets of a dataset, as a refusal tells of it.
  struct Budget {
    const char* code;
    const char* message;
    const char* whose;  // are the runs that it counts
    std::function<bool(const contracts::Contract&)> counts;
  };
  // A budget that the policy names beside the dataset's own: its caps go into the grant.
  bool within(const contracts::Dataset& dataset, std::optional<int64_t> epsilon_micro,
              const Budget& budget, const contracts::Spending& spent, const contracts::Grant& grant,
              std::optional<contracts::Charges>& caps);
  void no_room(const contracts::Dataset& dataset, const Budget& budget, int64_t total_micro,
               const policy::Charges& spent, const policy::Charges& charges);
  std::string exactly(const contracts::Dataset& dataset, const Budget& budget);
  // Which of the kinds of members a dataset is, what it is charged for, and how much that is.
  size_t kind_of(size_t index) const { return std::min(index, epsilon_micro_.size() - 1); }
  policy::Event event_on(const contracts::Dataset& dataset, size_t index) const;
  // Null where that costs more than a decision may.
  const policy::Charges* charges_on(const contracts::Dataset& dataset, size_t index);

  const contracts::MarketState& state_;
  const TimeMs now_;
  const uint64_t head_size_;
  const PublicKey& consumer_;
  const contracts::ContractSubmit& submit_;
  const EvaluatePolicy& evaluate_;
  const std::string engine_;  // whose versions of policies answer
  contracts::ContractDecision& out_;
  policy::WorkBudget work_{kMostWork}, explaining_{kMostExplaining};
  uint64_t gas_ = 0;
  size_t room_ = 0;                                                // of reasons, for one policy
  std::map<std::pair<size_t, int64_t>, policy::Charges> charges_;  // by kind, rows of a person
  std::vector<int64_t> epsilon_micro_;                             // by kind of member
  policy::Joint joint_;                                            // of the answers that allow
};

}  // namespace souk::trainer
