#include "trainer/decision/decision.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "contracts/lifecycle/ancestry.h"
#include "ledger/crypto/hash.h"
#include "policy/decide/joint.h"
#include "policy/decide/request.h"
#include "policy/decide/source.h"
#include "policy/privacy/budget.h"
#include "policy/privacy/odometer.h"
#include "policy/privacy/run.h"
#include "trainer/decision/feasibility.h"

namespace souk::trainer {
namespace {

using contracts::Contract;
using contracts::ContractDecision;
using contracts::ContractSubmit;
using contracts::Dataset;
using contracts::Grant;
using contracts::MarketState;
using policy::PolicyDecision;
using policy::Reason;

constexpr size_t kMaxReasons = 64;
constexpr size_t kMaxComposed = 64;  // runs that a refusal composes exactly
// A decision is one ledger entry: all reasons of all providers share this much of it.
constexpr size_t kReasonBytes = 28'000;
constexpr size_t kMaxAncestors = 64;  // jobs behind initial weights

Reason shortened(Reason reason) {
  reason.message = cut(reason.message, 200);
  reason.path = cut(reason.path, 64);
  reason.got = cut(reason.got, 64);
  reason.need = cut(reason.need, 64);
  return reason;
}

size_t bytes_of(const Reason& reason) {
  return canonical(policy::to_json(reason)).size();
}

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

class Judge {
 public:
  Judge(const MarketState& state, TimeMs now, uint64_t head_size, const PublicKey& consumer,
        const ContractSubmit& submit, const EvaluatePolicy& evaluate, ContractDecision& out)
      : state_(state),
        now_(now),
        head_size_(head_size),
        consumer_(consumer),
        submit_(submit),
        evaluate_(evaluate),
        out_(out) {}

  void reason(Reason reason) {
    auto& list = *out_.reasons.array();
    if (list.size() < kMaxReasons) list.push_back(policy::to_json(reason));
  }
  void refuse(const std::string& status, Reason why) {
    if (out_.status.empty() || out_.status == "allowed") out_.status = status;
    reason(std::move(why));
  }

  bool pooled() const { return submit_.spec.privacy && !submit_.spec.privacy->pool.empty(); }

  // What the run costs the people of each dataset: by its own rate and its own clipping norm, and
  // by how many rows of a person it may have.
  bool account(const std::vector<const Dataset*>& datasets) {
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
      auto epsilon = policy::epsilon_of_run(spec, i, spec.steps);
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

  // Which of the kinds of members a dataset is, what it is charged for, and how much that is.
  size_t kind_of(size_t index) const { return std::min(index, epsilon_micro_.size() - 1); }
  policy::Event event_on(const Dataset& dataset, size_t index) const {
    return policy::event_of_run(submit_.spec, index, submit_.spec.steps,
                                static_cast<uint32_t>(dataset.manifest.user_cap));
  }
  const policy::Charges& charges_on(const Dataset& dataset, size_t index) {
    const auto key = std::pair(kind_of(index), dataset.manifest.user_cap);
    auto it = charges_.find(key);
    if (it == charges_.end()) {
      it = charges_.emplace(key, policy::charges_for(event_on(dataset, index))).first;
    }
    return it->second;
  }

  std::vector<policy::CredentialFact> credentials() {
    std::vector<policy::CredentialFact> facts;
    for (const auto& text : submit_.credentials) {
      auto verified = contracts::verify_credential(text, state_.market());
      if (!verified || verified->credential.subject != consumer_ ||
          verified->credential.expires_ms <= now_) {
        reason({"credential_ignored", "a credential is not valid for this consumer now", "", "",
                "request.credentials", "", "a signed, unexpired credential of this consumer"});
        continue;
      }
      facts.push_back(
          {verified->credential.type, verified->issuer, verified->credential.expires_ms});
    }
    return facts;
  }

  // What the dataset has answered, or is answering, in the contracts `counts` picks.
  // What was allowed but never started cost nothing.
  template <class Counts>
  policy::UsageFacts usage(const DatasetId& dataset, Counts counts) const {
    policy::UsageFacts facts;
    for (const auto& [id, past] : state_.contracts()) {
      bool ran = past.phase == contracts::Phase::kEscrowed || past.start.has_value();
      if (past.stop && past.stop->missing) continue;  // no step was begun
      if (!ran || !past.decision || !counts(past)) continue;
      for (const Grant& grant : past.decision->grants) {
        if (grant.dataset != dataset) continue;
        ++facts.runs;
        facts.spent_epsilon_micro =
            std::min(facts.spent_epsilon_micro + grant.epsilon_micro, kMaxJsonInteger);
        facts.last_run_ms = std::max(facts.last_run_ms, time_of_run(past));
      }
    }
    return facts;
  }

  // Ledger time of its job.start or, as long as it waits for that, of what allowed it.
  static TimeMs time_of_run(const Contract& past) {
    return past.start ? past.start_time : past.decision_time;
  }

  template <class Name>
  static contracts::Spending spent_in(const std::map<Name, contracts::Spending>& all,
                                      const Name& name) {
    auto it = all.find(name);
    return it == all.end() ? contracts::Spending{} : it->second;
  }

  // A budget that the policy names beside the dataset's own: its caps go into the grant.
  struct FurtherBudget {
    const char* code;
    const char* message;
    std::optional<contracts::Charges>* caps;
  };
  bool within(const Dataset& dataset, std::optional<int64_t> epsilon_micro, FurtherBudget budget,
              const contracts::Spending& spent, const Grant& grant) {
    if (!epsilon_micro) return true;
    *budget.caps = policy::caps_for(*epsilon_micro, dataset.manifest.budget_delta_pico);
    auto sum = policy::add(spent.committed, spent.reserved);
    if (policy::admits(**budget.caps, sum, grant.charges)) return true;
    no_room(dataset, budget.code, budget.message, *epsilon_micro, sum, grant.charges);
    return false;
  }

  // What a run asks of a budget, what is left of it and what it was, all in the epsilon that the
  // filter certifies: a run has room if and only if it asks for no more than is left.
  void no_room(const Dataset& dataset, const char* code, const std::string& message,
               int64_t total_micro, const policy::Charges& spent, const policy::Charges& charges) {
    const int64_t delta = dataset.manifest.budget_delta_pico;
    int64_t before = certified_micro(spent, delta);
    int64_t after = certified_micro(policy::add(spent, charges), delta);
    int64_t left = std::max<int64_t>(0, total_micro - before);
    bool known = after < kMaxJsonInteger;
    std::string asked =
        known ? std::to_string(std::max(after - before, left + 1)) : "more than any";
    refuse("budget_exhausted",
           {code,
            message + ": it asks for " + asked + " millionths of certified epsilon, " +
                std::to_string(left) + " of " + std::to_string(total_micro) + " are left" +
                exactly(dataset),
            dataset.manifest.provider_name, dataset.manifest.name, "request.dp.epsilon_micro",
            asked, "at most " + std::to_string(left)});
  }

  static int64_t certified_micro(const policy::Charges& charges, int64_t delta) {
    auto reading = policy::odometer({}, charges, delta);
    if (!reading || !std::isfinite(reading->certified)) return kMaxJsonInteger;
    return policy::epsilon_micro_up(reading->certified);
  }

  // For people: what ran or may still run on the dataset costs less if composed exactly, which
  // holds only had all of it been chosen beforehand, and so admits nothing.
  std::string exactly(const Dataset& dataset) const {
    std::vector<policy::Event> runs;
    for (const auto& [id, past] : state_.contracts()) {
      bool holds = dataset.budget.holders.count(id) != 0;
      const auto& spec = past.submit.spec;
      if (!spec.privacy || (!holds && !past.start) || runs.size() > kMaxComposed) continue;
      const auto& wanted = past.submit.datasets;
      auto it = std::find(wanted.begin(), wanted.end(), dataset.id);
      if (it == wanted.end()) continue;
      runs.push_back(policy::event_of_run(spec, static_cast<size_t>(it - wanted.begin()),
                                          past.stop ? past.stop->steps : spec.steps,
                                          static_cast<uint32_t>(dataset.manifest.user_cap)));
    }
    if (runs.empty() || runs.size() > kMaxComposed) return "";
    auto reading = policy::odometer(runs, {}, dataset.manifest.budget_delta_pico);
    if (!reading || !std::isfinite(reading->exact)) return "";
    return " (composed exactly, its runs so far cost " +
           std::to_string(policy::epsilon_micro_up(reading->exact)) + ")";
  }

  // How many policies will be asked: they share what a decision can carry of reasons.
  void expect(size_t policies) { room_ = kReasonBytes / std::max<size_t>(policies, 1); }

  // One policy's answer, noted in `noted` with its hashes, its reasons told. Nothing when there is
  // none, or it is not an allow that the run keeps.
  std::optional<PolicyDecision> ask(const Dataset& dataset, const contracts::PolicyChoice& choice,
                                    const Json& request, Json::Array& noted,
                                    std::optional<size_t> member = std::nullopt) {
    const std::string engine = to_hex(ByteView(policy::engine_hash()));
    if (!choice.policy || choice.obstacle ||
        (!choice.policy->engine.empty() && choice.policy->engine != engine)) {
      const bool other_engine = choice.policy && !choice.obstacle;
      refuse("denied",
             {other_engine ? "policy_engine" : choice.obstacle,
              "no version of the policy can answer this contract", dataset.manifest.provider_name,
              dataset.manifest.name, "request.policies", other_engine ? choice.policy->engine : "",
              other_engine ? engine : "an active or quoted version"});
      return std::nullopt;
    }
    auto text = policy::with_parameters(choice.policy->source, choice.policy->parameters);
    if (!text) {
      refuse("publish_rejected",
             {"policy_parameters", text.error().expected(), dataset.manifest.provider_name,
              dataset.manifest.name, "", "", ""});
      return std::nullopt;
    }
    PolicyDecision answer = evaluate_(*text, request, facts_of(dataset), context_of(dataset));
    Json::Array read_set;
    for (const auto& path : answer.read_set) read_set.push_back(path);
    noted.push_back(
        Json::Object{{"dataset", dataset.id},
                     {"policy", answer.policy_hash},
                     {"version", choice.version},
                     {"request", answer.request_hash},
                     {"status", policy::status_name(answer.status)},
                     {"gas", answer.gas},
                     {"decision", answer.hash()},
                     {"read_set", ledger::sha256(as_bytes(canonical(Json(std::move(read_set)))))}});
    tell(dataset, answer);
    if (!answer.allowed()) return std::nullopt;
    if (!keeps(answer.obligations, dataset.manifest.provider_name, dataset.manifest.name, member))
      return std::nullopt;
    return answer;
  }

  // The run is no weaker than that.
  bool keeps(const policy::Obligations& obligations, const std::string& provider,
             const std::string& dataset, std::optional<size_t> member = std::nullopt) {
    auto kept = policy::check_obligations(submit_.spec, obligations, member);
    if (kept) return true;
    refuse("denied",
           {"obligation_not_met", kept.error().expected(), provider, dataset, "request", "", ""});
    return false;
  }

  // What a job obliged to holds for every model that starts from its model, and so do the policies
  // that it was allowed under; `asked` are those that have answered already. Nothing is paid to
  // them again, and nothing of their budgets is spent: their rows are not read.
  void inherit(const Contract& job, const Json& request,
               std::set<std::pair<DatasetId, Digest>>& asked) {
    auto obligations = policy::obligations_from_json(job.decision->obligations);
    if (!obligations) {
      refuse("denied", {"unknown_parent", obligations.error().expected(), "", "",
                        "request.initial_jobs", to_hex(job.id), "a decision of this engine"});
      return;
    }
    if (keeps(*obligations, "", "")) joint_.inherit(*obligations);
    // What a provider obliged to about its own part of a pool is about the whole of what follows.
    for (const Grant& grant : job.decision->grants) {
      if (!grant.obligations) continue;
      auto own = policy::obligations_from_json(*grant.obligations);
      if (!own) continue;  // as recorded by a keeper, it is one
      own->waive_privacy = obligations->waive_privacy;
      if (keeps(*own, "", "")) joint_.inherit(*own);
    }
    for (size_t i = 0; i < job.submit.datasets.size(); ++i) {
      const Dataset& dataset = *state_.dataset(job.submit.datasets[i]);
      contracts::PolicyChoice choice{job.policies[i], &dataset.policies.at(job.policies[i])};
      if (!asked.emplace(dataset.id, choice.version).second) continue;
      if (choice.policy->standing == contracts::PolicyVersion::Standing::kRevoked)
        choice.obstacle = "policy_revoked";
      if (auto answer = ask(dataset, choice, request, inherited_))
        joint_.inherit(answer->obligations);
    }
  }

  // One provider's answer, and what it grants of the dataset.
  void admit(const Dataset& dataset, size_t index, const contracts::PolicyChoice& choice,
             const Json& request) {
    auto allowed =
        ask(dataset, choice, request, inputs_, pooled() ? std::optional(index) : std::nullopt);
    if (!allowed) return;
    PolicyDecision& answer = *allowed;
    const ContractSubmit& submit = submit_;
    Grant grant;
    if (pooled()) {
      // Kept apart: what one provider obliges to about its own rows binds no other's.
      auto own = policy::about_own_part(answer.obligations);
      if (own != policy::Obligations{}) grant.obligations = policy::to_json(own);
      answer.obligations = policy::about_the_run(answer.obligations);
    }
    if (!joint_.add(answer)) {
      refuse("denied",
             {"price_overflow", "the prices do not add up", "", "", "request.payment", "", ""});
      return;
    }

    grant.dataset = dataset.id;
    grant.price = answer.price_minor;  // the list price when the policy names none
    if (submit.spec.privacy &&
        submit.spec.privacy->delta_pico > dataset.manifest.budget_delta_pico) {
      refuse("denied", {"max_delta", "delta may be at most that of the dataset's budget",
                        dataset.manifest.provider_name, dataset.manifest.name,
                        "request.dp.delta_pico", std::to_string(submit.spec.privacy->delta_pico),
                        "at most " + std::to_string(dataset.manifest.budget_delta_pico)});
      return;
    }
    if (submit.spec.privacy) {
      grant.charges = charges_on(dataset, index);
      grant.epsilon_micro = epsilon_micro_[kind_of(index)];
      // The offer's caps are the provider's arithmetic; ours are the rule.
      auto caps = policy::caps_for(dataset.manifest.budget_epsilon_micro,
                                   dataset.manifest.budget_delta_pico);
      for (size_t order = 0; order < caps.size(); ++order) {
        caps[order] = std::min(caps[order], dataset.manifest.budget_caps[order]);
      }
      auto spent = policy::add(dataset.budget.committed, dataset.budget.reserved);
      if (!policy::admits(caps, spent, grant.charges)) {
        int64_t fits =
            epsilon_that_fits(caps, spent, event_on(dataset, index),
                              static_cast<double>(submit.spec.privacy->delta_pico) * 1e-12);
        no_room(dataset, "budget_exhausted",
                "the dataset's privacy budget has no room for this run",
                dataset.manifest.budget_epsilon_micro, spent, grant.charges);
        if (fits > 0) {
          reason({"more_noise", "a run of this length with more noise would have room",
                  dataset.manifest.provider_name, dataset.manifest.name, "request.dp.epsilon_micro",
                  std::to_string(grant.epsilon_micro), "at most " + std::to_string(fits)});
        }
        return;
      }
      if (!within(dataset, answer.obligations.consumer_epsilon_micro,
                  {"consumer_budget_exhausted", "this consumer's budget of the dataset has no room",
                   &grant.consumer_caps},
                  spent_in(dataset.consumers, consumer_), grant) ||
          !within(dataset, answer.obligations.purpose_epsilon_micro,
                  {"purpose_budget_exhausted", "this purpose's budget of the dataset has no room",
                   &grant.purpose_caps},
                  spent_in(dataset.purposes, submit.purpose), grant)) {
        return;
      }
    } else {
      grant.waived = true;
    }
    out_.grants.push_back(grant);
  }

  void finish() {
    out_.price = joint_.price_minor();
    if (joint_.obligations()) out_.obligations = policy::to_json(*joint_.obligations());
    if (out_.price > submit_.offered) {
      refuse("denied",
             {"price", "the offer is below the sum of the prices", "", "", "request.payment",
              std::to_string(submit_.offered), std::to_string(out_.price)});
    }
  }

  Json::Array inputs_;     // of the contract's datasets
  Json::Array inherited_;  // of those its initial weights have learned from

 private:
  int64_t spent_on(const Dataset& dataset) const {
    return dataset.budget.epsilon_micro_committed + dataset.budget.epsilon_micro_reserved;
  }

  static Json facts_of(const Dataset& dataset) {
    policy::DatasetFacts facts;
    facts.id = dataset.id;
    facts.name = dataset.manifest.name;
    facts.provider = dataset.provider;
    facts.provider_name = dataset.manifest.provider_name;
    facts.rows = static_cast<uint64_t>(dataset.manifest.rows);
    facts.price_minor = dataset.manifest.price;
    facts.budget_epsilon_micro = dataset.manifest.budget_epsilon_micro;
    facts.budget_delta_pico = dataset.manifest.budget_delta_pico;
    facts.user_cap = dataset.manifest.user_cap;
    return policy::build_dataset(facts);
  }

  Json context_of(const Dataset& dataset) const {
    policy::ContextFacts context;
    context.now_ms = now_;
    context.spent_epsilon_micro = spent_on(dataset);
    context.runs =
        dataset.budget.runs + static_cast<int64_t>(dataset.budget.holders.size());  // and to come
    context.head = static_cast<int64_t>(head_size_);
    context.consumer =
        usage(dataset.id, [&](const Contract& past) { return past.consumer == consumer_; });
    context.purpose = usage(
        dataset.id, [&](const Contract& past) { return past.submit.purpose == submit_.purpose; });
    return policy::build_context(context);
  }

  // The reasons of an answer, as far as there is room; a refusal without one gets one.
  void tell(const Dataset& dataset, const PolicyDecision& answer) {
    size_t room = room_;
    for (Reason why : answer.reasons) {
      why.provider = dataset.manifest.provider_name;
      why.dataset = dataset.manifest.name;
      if (bytes_of(why) > room) why = shortened(std::move(why));
      size_t bytes = bytes_of(why);
      if (bytes > room && room < room_) break;  // the first is always told
      room -= std::min(room, bytes);
      if (answer.allowed()) {
        reason(std::move(why));
      } else {
        refuse(policy::status_name(answer.status), std::move(why));
      }
    }
    if (!answer.allowed() && answer.reasons.empty()) {
      refuse(policy::status_name(answer.status),
             {"denied", "the policy gave no reason", dataset.manifest.provider_name,
              dataset.manifest.name, "", "", ""});
    }
  }

  const MarketState& state_;
  const TimeMs now_;
  const uint64_t head_size_;
  const PublicKey& consumer_;
  const ContractSubmit& submit_;
  const EvaluatePolicy& evaluate_;
  ContractDecision& out_;
  size_t room_ = kReasonBytes;
  std::map<std::pair<size_t, int64_t>, policy::Charges> charges_;  // by kind, rows of a person
  std::vector<int64_t> epsilon_micro_;                             // by kind of member
  policy::Joint joint_;                                            // of the answers that allow
};

Reason not_on_offer(const MarketState& state, const DatasetId& id) {
  const Dataset* dataset = state.dataset(id);
  if (!dataset) {
    return {"unknown_dataset",
            "expected a dataset on offer",
            "",
            to_hex(id),
            "request.datasets",
            "",
            ""};
  }
  return {dataset->erased ? "erased" : "revoked",
          dataset->erased ? "its provider has revoked and erased this dataset: its key is destroyed"
                          : "its provider has revoked this dataset: no new contract may use it",
          dataset->manifest.provider_name,
          dataset->manifest.name,
          "request.datasets",
          to_hex(id),
          "a dataset on offer"};
}

}  // namespace

std::set<DatasetId> unavailable_in(const ContractDecision& decision) {
  std::set<DatasetId> out;
  const Json* listed = decision.inputs.find("unavailable");
  if (!listed || !listed->array()) return out;
  for (const auto& item : *listed->array()) {
    auto id = item.string() ? named_from_hex<DatasetId>(*item.string())
                            : Result<DatasetId>(Error(Code::kMalformed, "an id"));
    if (id) out.insert(*id);
  }
  return out;
}

ContractDecision decide_contract(const MarketState& state, uint64_t head_size,
                                 const Digest& head_root, const ContractId& id,
                                 const PublicKey& consumer, const ContractSubmit& submit,
                                 const DecisionTime& now, const EvaluatePolicy& evaluate,
                                 const std::set<DatasetId>& unavailable) {
  ContractDecision out;
  out.contract = id;
  out.head_size = head_size;
  out.head_root = head_root;
  out.status = "allowed";
  Judge judge(state, now.ms, head_size, consumer, submit, evaluate, out);
  // Nothing of one that is too late is worth judging.
  const Contract* recorded = state.contract(id);
  if (recorded && recorded->deadline < now.ms) {
    judge.refuse("expired", {"expired", "the deadline of the contract has passed", "", "",
                             "request.deadline", "", ""});
  }

  std::vector<const Dataset*> datasets;
  uint64_t rows = 0;
  Json::Array missing;
  for (const auto& dataset_id : submit.datasets) {
    const Dataset* dataset = state.dataset(dataset_id);
    if (!dataset || dataset->revoked) {
      judge.refuse("denied", not_on_offer(state, dataset_id));
      continue;
    }
    if (unavailable.count(dataset_id) != 0) {
      judge.refuse("denied", {"ciphertext_missing",
                              "the host does not hold the ciphertext of this dataset as it was "
                              "offered: nothing can be trained on it until its provider uploads "
                              "it again",
                              dataset->manifest.provider_name, dataset->manifest.name,
                              "request.datasets", "", ""});
      missing.push_back(Json(dataset_id));
    }
    datasets.push_back(dataset);
    rows += static_cast<uint64_t>(dataset->manifest.rows);
  }
  const auto ancestry = contracts::ancestry_of(state, submit);
  if (ancestry.obstacle) {
    judge.refuse("denied",
                 {ancestry.obstacle->code, "nothing can start from this model", "", "",
                  "request.initial_jobs", ancestry.obstacle->got, ancestry.obstacle->need});
  } else if (ancestry.jobs.size() > kMaxAncestors) {
    judge.refuse("denied", {"too_many_parents", "too many jobs stand behind these weights", "", "",
                            "request.initial_jobs", std::to_string(ancestry.jobs.size()),
                            "at most " + std::to_string(kMaxAncestors)});
  }
  if (out.status == "allowed") {
    for (Reason& why : infeasible(submit, datasets)) judge.refuse("denied", std::move(why));
  }
  bool judged = out.status == "allowed" && judge.account(datasets);
  if (judged) {
    policy::RequestFacts facts;
    facts.id = id;
    facts.consumer = consumer;
    facts.purpose = submit.purpose;
    facts.region = submit.region;
    facts.payment_minor = submit.offered;
    facts.currency = state.genesis() ? state.genesis()->currency : "";
    facts.rows_total = rows;
    facts.datasets = static_cast<uint32_t>(datasets.size());
    const auto ids = contracts::learned_from(state, submit);
    std::set<std::string> names;
    std::set<PublicKey> providers, of_all;
    for (const Dataset* dataset : datasets) providers.insert(dataset->provider);
    for (const DatasetId& each : ids) {
      names.insert(state.dataset(each)->manifest.name);
      of_all.insert(state.dataset(each)->provider);
    }
    facts.providers.assign(providers.begin(), providers.end());
    facts.dataset_ids.assign(ids.begin(), ids.end());
    facts.dataset_names.assign(names.begin(), names.end());
    facts.credentials = judge.credentials();
    auto request = policy::build_request(submit.spec, facts);
    // Those whose rows are in the initial weights are asked about all who are in the model.
    facts.providers.assign(of_all.begin(), of_all.end());
    auto of_model = policy::build_request(submit.spec, facts);
    if (!request || !of_model) {
      judge.refuse("invalid_request",
                   {"invalid_request", (request ? of_model : request).error().expected(), "", "",
                    "request", "", ""});
    } else {
      // Every provider is asked, so that one answer tells everything there is to change.
      std::set<std::pair<DatasetId, Digest>> asked;
      judge.expect(ids.size());
      for (size_t i = 0; i < datasets.size(); ++i) {
        auto choice = contracts::policy_for(*datasets[i], submit, i);
        asked.emplace(datasets[i]->id, choice.version);
        if (judge.pooled() && i > 0) {
          facts.member = i;  // about its own part
          facts.providers.assign(providers.begin(), providers.end());
          request = policy::build_request(submit.spec, facts);
          if (!request) {
            judge.refuse("invalid_request", {"invalid_request", request.error().expected(), "", "",
                                             "request", "", ""});
            break;
          }
        }
        judge.admit(*datasets[i], i, choice, *request);
      }
      for (const ContractId& job : ancestry.jobs)
        judge.inherit(*state.contract(job), *of_model, asked);
    }
  }
  if (out.status == "allowed") judge.finish();
  Json::Object inputs{{"engine", policy::engine_hash()},
                      {"policies", std::move(judge.inputs_)},
                      {"time", Json::Object{{"ms", now.ms}, {"source", now.source}}}};
  if (submit.spec.initial) {
    Json::Array jobs;
    for (const ContractId& job : ancestry.jobs) jobs.push_back(job);
    inputs["inherited"] =
        Json::Object{{"jobs", std::move(jobs)}, {"policies", std::move(judge.inherited_)}};
  }
  if (!missing.empty()) inputs["unavailable"] = std::move(missing);
  out.inputs = std::move(inputs);
  out.allow = out.status == "allowed";
  if (out.allow) {
    // A contract on the ledger, or one that is only asked about.
    auto blocked = state.contract(id) ? contracts::obstacle(state, out)
                                      : contracts::obstacle_of_terms(state, consumer, submit, out);
    if (blocked) {
      judge.refuse(blocked->code,
                   {blocked->code, "the state of the ledger stands against it", "",
                    blocked->dataset, "request.payment", blocked->got, blocked->need});
      out.status = blocked->code;
      out.allow = false;
    }
  }
  if (!out.allow) {
    out.grants.clear();
    out.obligations = Json::Object{};
  }
  return out;
}

}  // namespace souk::trainer
