// What a run costs each dataset's people, and whether its budgets bear that.
#include <cmath>

#include "policy/privacy/odometer.h"
#include "trainer/decision/judge.h"

namespace souk::trainer {
namespace {

using contracts::Contract;
using contracts::Dataset;
using contracts::Grant;
using policy::Reason;

constexpr size_t kMaxComposed = 64;  // runs that a refusal composes exactly

// The most epsilon, in millionths, that a run of this rate and length could spend and still be
// admitted: with more noise, to within a thousandth of it. 0 where no amount of noise is enough.
int64_t epsilon_that_fits(const policy::Charges& caps, const policy::Charges& spent,
                          const policy::Event& event, double delta) {
  if (event.records > 1) return 0;  // for persons each try costs as much as the decision
  auto fits = [&](double sigma) {
    return policy::admits(caps, spent,
                          policy::charges_for({event.q, sigma, event.steps, event.records}));
  };
  double too_little = event.sigma, enough = event.sigma;
  for (int doubling = 0; !fits(enough); ++doubling) {
    if (doubling == 12) return 0;
    too_little = enough;
    enough *= 2;
  }
  while (enough - too_little > 1e-3 * enough) {
    double middle = (too_little + enough) / 2;
    (fits(middle) ? enough : too_little) = middle;
  }
  auto epsilon = policy::epsilon_upper({event.q, enough, event.steps, event.records}, delta);
  return epsilon ? policy::epsilon_micro_up(*epsilon) : 0;
}

int64_t certified_micro(const policy::Charges& charges, int64_t delta) {
  auto reading = policy::odometer({}, charges, delta);
  if (!reading || !std::isfinite(reading->certified)) return kMaxJsonInteger;
  return policy::epsilon_micro_up(reading->certified);
}

template <class Name>
contracts::Spending spent_in(const std::map<Name, contracts::Spending>& all, const Name& name) {
  auto it = all.find(name);
  return it == all.end() ? contracts::Spending{} : it->second;
}

}  // namespace

policy::Event Judge::event_on(const Dataset& dataset, size_t index) const {
  return policy::event_of_run(submit_.spec, index, submit_.spec.steps,
                              static_cast<uint32_t>(dataset.manifest.user_cap));
}

bool Judge::account(const std::vector<const Dataset*>& datasets) {
  const auto& spec = submit_.spec;
  if (!spec.privacy) return true;
  for (size_t i = 0; i < policy::kinds_of_members(spec); ++i) {
    auto no = [&](Reason why) {
      if (pooled()) {
        why.provider = datasets[i]->manifest.provider_name;
        why.dataset = datasets[i]->manifest.name;
      }
      refuse("denied", std::move(why));
      return false;
    };
    Result<double> epsilon = 0.0;
    if (!work_.run([&] { epsilon = policy::epsilon_of_run(spec, i, spec.steps); }))
      return no(too_costly("request.dp"));
    if (!epsilon) {
      return no({"privacy_unaccountable", epsilon.error().expected(), "", "", "request.dp", "",
                 "a finite epsilon"});
    }
    const int64_t claimed = contracts::member_of(spec, i).epsilon_micro;
    epsilon_micro_.push_back(policy::epsilon_micro_up(*epsilon));
    if (epsilon_micro_[i] > claimed) {
      return no({"epsilon_understated", "the run spends more than the contract claims", "", "",
                 "request.dp.epsilon_micro", std::to_string(claimed),
                 "at least " + std::to_string(epsilon_micro_[i])});
    }
  }
  return true;
}

const policy::Charges* Judge::charges_on(const Dataset& dataset, size_t index) {
  const auto key = std::pair(kind_of(index), dataset.manifest.user_cap);
  auto it = charges_.find(key);
  if (it == charges_.end()) {
    policy::Charges charges{};
    if (!work_.run([&] { charges = policy::charges_for(event_on(dataset, index)); }))
      return nullptr;
    it = charges_.emplace(key, charges).first;
  }
  return &it->second;
}

// Whether all budgets of the dataset bear the run; its charges and further caps go into the grant.
bool Judge::has_room(const Dataset& dataset, size_t index, const policy::Obligations& obligations,
                     Grant& grant) {
  const policy::Charges* charges = charges_on(dataset, index);
  if (!charges) {
    refuse("denied", too_costly("request.dp", &dataset));
    return false;
  }
  grant.charges = *charges;
  grant.epsilon_micro = epsilon_micro_[kind_of(index)];
  // The offer's caps are the provider's arithmetic; ours are the rule.
  auto caps =
      policy::caps_for(dataset.manifest.budget_epsilon_micro, dataset.manifest.budget_delta_pico);
  for (size_t order = 0; order < caps.size(); ++order) {
    caps[order] = std::min(caps[order], dataset.manifest.budget_caps[order]);
  }
  auto spent = policy::add(dataset.budget.committed, dataset.budget.reserved);
  if (!policy::admits(caps, spent, grant.charges)) {
    int64_t fits = 0;
    explaining_.run([&] {
      fits = epsilon_that_fits(caps, spent, event_on(dataset, index),
                               static_cast<double>(submit_.spec.privacy->delta_pico) * 1e-12);
    });
    no_room(dataset,
            {"budget_exhausted", "the dataset's privacy budget has no room for this run",
             "the dataset's", [](const Contract&) { return true; }},
            dataset.manifest.budget_epsilon_micro, spent, grant.charges);
    if (fits > 0) {
      reason({"more_noise", "a run of this length with more noise would have room",
              dataset.manifest.provider_name, dataset.manifest.name, "request.dp.epsilon_micro",
              std::to_string(grant.epsilon_micro), "at most " + std::to_string(fits)});
    }
    return false;
  }
  return within(
             dataset, obligations.consumer_epsilon_micro,
             {"consumer_budget_exhausted", "this consumer's budget of the dataset has no room",
              "this consumer's", [&](const Contract& past) { return past.consumer == consumer_; }},
             spent_in(dataset.consumers, consumer_), grant, grant.consumer_caps) &&
         within(dataset, obligations.purpose_epsilon_micro,
                {"purpose_budget_exhausted", "this purpose's budget of the dataset has no room",
                 "this purpose's",
                 [&](const Contract& past) { return past.submit.purpose == submit_.purpose; }},
                spent_in(dataset.purposes, submit_.purpose), grant, grant.purpose_caps);
}

bool Judge::within(const Dataset& dataset, std::optional<int64_t> epsilon_micro,
                   const Budget& budget, const contracts::Spending& spent, const Grant& grant,
                   std::optional<contracts::Charges>& caps) {
  if (!epsilon_micro) return true;
  caps = policy::caps_for(*epsilon_micro, dataset.manifest.budget_delta_pico);
  auto sum = policy::add(spent.committed, spent.reserved);
  if (policy::admits(*caps, sum, grant.charges)) return true;
  no_room(dataset, budget, *epsilon_micro, sum, grant.charges);
  return false;
}

// What a run asks of a budget, what is left of it and what it was, all in the epsilon that the
// filter certifies: a run has room if and only if it asks for no more than is left.
void Judge::no_room(const Dataset& dataset, const Budget& budget, int64_t total_micro,
                    const policy::Charges& spent, const policy::Charges& charges) {
  const int64_t delta = dataset.manifest.budget_delta_pico;
  int64_t before = certified_micro(spent, delta);
  int64_t after = certified_micro(policy::add(spent, charges), delta);
  int64_t left = std::max<int64_t>(0, total_micro - before);
  bool known = after < kMaxJsonInteger;
  std::string asked = known ? std::to_string(std::max(after - before, left + 1)) : "more than any";
  refuse("budget_exhausted",
         {budget.code,
          std::string(budget.message) + ": it asks for " + asked +
              " millionths of certified epsilon, " + std::to_string(left) + " of " +
              std::to_string(total_micro) + " are left" + exactly(dataset, budget),
          dataset.manifest.provider_name, dataset.manifest.name, "request.dp.epsilon_micro", asked,
          "at most " + std::to_string(left)});
}

// For people: what ran or may still run on the dataset against this budget costs less if composed
// exactly, which holds only had all of it been chosen beforehand, and so admits nothing.
std::string Judge::exactly(const Dataset& dataset, const Budget& budget) {
  std::vector<policy::Event> runs;
  for (const auto& [id, past] : state_.contracts()) {
    bool holds = dataset.budget.holders.count(id) != 0;
    const auto& spec = past.submit.spec;
    if (!spec.privacy || (!holds && !past.start) || runs.size() > kMaxComposed) continue;
    if (!budget.counts(past)) continue;
    const auto& wanted = past.submit.datasets;
    auto it = std::find(wanted.begin(), wanted.end(), dataset.id);
    if (it == wanted.end()) continue;
    runs.push_back(policy::event_of_run(spec, static_cast<size_t>(it - wanted.begin()),
                                        past.stop ? past.stop->steps : spec.steps,
                                        static_cast<uint32_t>(dataset.manifest.user_cap)));
  }
  if (runs.empty() || runs.size() > kMaxComposed) return "";
  Result<policy::Odometer> reading = policy::Odometer{};
  bool read = explaining_.run(
      [&] { reading = policy::odometer(runs, {}, dataset.manifest.budget_delta_pico); });
  if (!read || !reading || !std::isfinite(reading->exact)) return "";
  return std::string(" (composed exactly, ") + budget.whose + " runs so far cost " +
         std::to_string(policy::epsilon_micro_up(reading->exact)) + ")";
}

}  // namespace souk::trainer
