#include "trainer/decision/decision.h"

#include <algorithm>
#include <map>
#include <set>

#include "ledger/crypto/hash.h"
#include "policy/decide/joint.h"
#include "policy/decide/request.h"
#include "policy/decide/source.h"
#include "policy/privacy/accountant.h"
#include "policy/privacy/budget.h"
#include "trainer/data/age.h"
#include "trainer/engine/noise.h"

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
// A decision is one ledger entry: all reasons of all providers share this much of it.
constexpr size_t kReasonBytes = 28'000;

// At most `max` bytes, cut between characters.
std::string cut(const std::string& text, size_t max) {
  if (text.size() <= max) return text;
  size_t end = max;
  while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end);
}

Reason shortened(Reason reason) {
  reason.message = cut(reason.message, 200);
  reason.path = cut(reason.path, 64);
  reason.got = cut(reason.got, 64);
  reason.need = cut(reason.need, 64);
  return reason;
}

// The first names of a list, as far as a reason can carry them.
std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) {
    if (text.size() > 96) return text + ", ...";
    text += (text.empty() ? "" : ", ") + cut(name, 64);
  }
  return text;
}

size_t bytes_of(const Reason& reason) {
  return canonical(policy::to_json(reason)).size();
}

template <class Sides>
uint64_t count(const Sides& shape) {
  uint64_t product = 1;  // at most 2^48: both kinds of shape are bounded where they are read
  for (auto side : shape) product *= static_cast<uint64_t>(side);
  return product;
}

// The most epsilon, in millionths, that a run of this rate and length could spend and still be
// admitted: with more noise, to within a thousandth of it. 0 where no amount of noise is enough.
int64_t epsilon_that_fits(const policy::Charges& caps, const policy::Charges& spent,
                          const policy::Event& event, double delta) {
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
  Judge(const MarketState& state, TimeMs now, ContractDecision& out)
      : state_(state), now_(now), out_(out) {}

  void reason(Reason reason) {
    auto& list = *out_.reasons.array();
    if (list.size() < kMaxReasons) list.push_back(policy::to_json(reason));
  }
  void refuse(const std::string& status, Reason why) {
    if (out_.status.empty() || out_.status == "allowed") out_.status = status;
    reason(std::move(why));
  }

  // A trainer would fail on it after the start, when the budget is spent already: the
  // consumer would burn it and have the money back.
  bool feasible(const ContractSubmit& submit, const std::vector<const Dataset*>& datasets) {
    const auto& spec = submit.spec;
    bool good = true;
    auto no = [&](Reason why) {
      refuse("denied", std::move(why));
      good = false;
    };
    auto recipient = recipient_from_text(submit.recipient);
    if (!recipient || !make_header(FileKey::random(), std::span(&*recipient, 1))) {
      no({"wrong_recipient", "nothing can be encrypted to this recipient", "", "", "", "",
          "an age recipient"});
    }
    uint64_t features = count(spec.input_shape);
    const Dataset* first = nullptr;  // that names its classes
    for (const Dataset* dataset : datasets) {
      const auto& manifest = dataset->manifest;
      if (count(manifest.feature_shape) != features) {
        no({"wrong_shape", "the specification is for rows of another shape", manifest.provider_name,
            manifest.name, "request.model", std::to_string(features),
            std::to_string(count(manifest.feature_shape))});
      }
      if (manifest.class_names.empty()) continue;  // its provider does not say
      if (manifest.class_names.size() != spec.classes) {
        no({"wrong_classes", "the specification is for another number of classes",
            manifest.provider_name, manifest.name, "request.model", std::to_string(spec.classes),
            std::to_string(manifest.class_names.size())});
      } else if (first && first->manifest.class_names != manifest.class_names) {
        no({"wrong_classes",
            "the datasets of one contract must name the same classes in the same order",
            manifest.provider_name, manifest.name, "request.datasets", listed(manifest.class_names),
            listed(first->manifest.class_names) + ", as in " + first->manifest.name});
      }
      if (first && manifest.categories != first->manifest.categories) {
        no({"different_categories",
            "the datasets of one contract must number the same categories alike",
            manifest.provider_name, manifest.name, "request.datasets", manifest.name,
            "the categories of " + first->manifest.name});
      }
      if (!first) first = dataset;
    }
    for (const Dataset* dataset : datasets) {
      if (!spec.privacy) break;
      int64_t cap = dataset->manifest.user_cap;
      bool covered = spec.privacy->user_cap == 1
                         ? cap == 1
                         : cap > 1 && cap <= int64_t{spec.privacy->user_cap};
      if (covered) continue;
      no({"wrong_unit", "epsilon must be about those whom the dataset's budget protects",
          dataset->manifest.provider_name, dataset->manifest.name, "request.dp.user_cap",
          std::to_string(spec.privacy->user_cap),
          cap == 1 ? "1: no number of rows of a person is promised"
                   : "at least " + std::to_string(cap)});
    }
    auto shape = contracts::check_spec(spec);
    if (spec.privacy && shape) {
      double draws = static_cast<double>(shape->parameters) * spec.steps;
      if (!NoiseGrid::make(spec.privacy->noise_multiplier, spec.privacy->clip, draws)) {
        no({"too_much_noise", "parameters times steps are more than the noise generator covers", "",
            "", "request.steps", std::to_string(spec.steps), "less than 3e10 numbers in all"});
      }
    }
    return good;
  }

  // What the run costs. All rows are sampled at one rate and clipped to one bound, so datasets
  // differ only in how many rows a person of theirs may have.
  bool account(const ContractSubmit& submit) {
    if (!submit.spec.privacy) return true;
    const auto& privacy = *submit.spec.privacy;
    event_ = policy::Event{policy::rate_from_threshold(submit.spec.sampling_threshold),
                           privacy.noise_multiplier, submit.spec.steps, privacy.user_cap};
    auto epsilon = policy::epsilon_upper(event_, static_cast<double>(privacy.delta_pico) * 1e-12);
    if (!epsilon) {
      refuse("denied", {"privacy_unaccountable", epsilon.error().expected(), "", "", "request.dp",
                        "", "a finite epsilon"});
      return false;
    }
    epsilon_micro_ = policy::epsilon_micro_up(*epsilon);
    if (epsilon_micro_ > privacy.epsilon_micro) {
      refuse("denied", {"epsilon_understated", "the run spends more than the contract claims", "",
                        "", "request.dp.epsilon_micro", std::to_string(privacy.epsilon_micro),
                        "at least " + std::to_string(epsilon_micro_)});
      return false;
    }
    return true;
  }

  // The event of the run for one dataset's people, and what it costs them.
  policy::Event event_on(const Dataset& dataset) const {
    policy::Event event = event_;
    event.records = static_cast<uint32_t>(dataset.manifest.user_cap);
    return event;
  }
  const policy::Charges& charges_on(const Dataset& dataset) {
    auto event = event_on(dataset);
    auto it = charges_.find(event.records);
    if (it == charges_.end()) {
      it = charges_.emplace(event.records, policy::charges_for(event)).first;
    }
    return it->second;
  }

  std::vector<policy::CredentialFact> credentials(const PublicKey& consumer,
                                                  const ContractSubmit& submit) {
    std::vector<policy::CredentialFact> facts;
    for (const auto& text : submit.credentials) {
      auto verified = contracts::verify_credential(text, state_.market());
      if (!verified || verified->credential.subject != consumer ||
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
      if (!ran || !past.decision || !counts(past)) continue;
      for (const Grant& grant : past.decision->grants) {
        if (grant.dataset != dataset) continue;
        ++facts.runs;
        facts.spent_epsilon_micro =
            std::min(facts.spent_epsilon_micro + grant.epsilon_micro, kMaxJsonInteger);
        facts.last_run_ms =
            std::max(facts.last_run_ms, past.deadline - past.submit.deadline_minutes * 60'000);
      }
    }
    return facts;
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
    refuse("budget_exhausted",
           {budget.code, budget.message, dataset.manifest.provider_name, dataset.manifest.name,
            "request.dp.epsilon_micro", std::to_string(grant.epsilon_micro),
            "what is left of " + std::to_string(*epsilon_micro) + ", of which " +
                std::to_string(spent.epsilon_micro_committed + spent.epsilon_micro_reserved) +
                " is spent or reserved"});
    return false;
  }

  // One provider's answer; false when it is not an allow.
  bool ask(const Dataset& dataset, size_t index, const Json& request, const PublicKey& consumer,
           const ContractSubmit& submit, const EvaluatePolicy& evaluate, uint64_t head_size) {
    size_t room = kReasonBytes / submit.datasets.size();
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
    auto choice = contracts::policy_for(dataset, submit, index);
    const std::string engine = to_hex(ByteView(policy::engine_hash()));
    if (!choice.policy || (!choice.policy->engine.empty() && choice.policy->engine != engine)) {
      refuse("denied",
             {choice.policy ? "policy_engine" : choice.obstacle,
              "no version of the policy can answer this contract", dataset.manifest.provider_name,
              dataset.manifest.name, "request.policies", choice.policy ? choice.policy->engine : "",
              choice.policy ? engine : "an active or quoted version"});
      return false;
    }
    policy::ContextFacts context;
    context.now_ms = now_;
    context.spent_epsilon_micro =
        dataset.budget.epsilon_micro_committed + dataset.budget.epsilon_micro_reserved;
    context.runs =
        dataset.budget.runs + static_cast<int64_t>(dataset.budget.holders.size());  // and to come
    context.head = static_cast<int64_t>(head_size);
    context.consumer =
        usage(dataset.id, [&](const Contract& past) { return past.consumer == consumer; });
    context.purpose = usage(
        dataset.id, [&](const Contract& past) { return past.submit.purpose == submit.purpose; });
    auto text = policy::with_parameters(choice.policy->source, choice.policy->parameters);
    if (!text) {
      refuse("publish_rejected",
             {"policy_parameters", text.error().expected(), dataset.manifest.provider_name,
              dataset.manifest.name, "", "", ""});
      return false;
    }
    PolicyDecision answer =
        evaluate(*text, request, policy::build_dataset(facts), policy::build_context(context));
    Json::Array read_set;
    for (const auto& path : answer.read_set) read_set.push_back(path);
    inputs_.push_back(
        Json::Object{{"dataset", dataset.id},
                     {"policy", answer.policy_hash},
                     {"version", choice.version},
                     {"request", answer.request_hash},
                     {"status", policy::status_name(answer.status)},
                     {"gas", answer.gas},
                     {"decision", answer.hash()},
                     {"read_set", ledger::sha256(as_bytes(canonical(Json(std::move(read_set)))))}});
    for (Reason why : answer.reasons) {
      why.provider = dataset.manifest.provider_name;
      why.dataset = dataset.manifest.name;
      if (bytes_of(why) > room) why = shortened(std::move(why));
      size_t bytes = bytes_of(why);
      if (bytes > room && room < kReasonBytes / submit.datasets.size())
        break;  // the first is always told
      room -= std::min(room, bytes);
      if (answer.allowed()) {
        reason(std::move(why));
      } else {
        refuse(policy::status_name(answer.status), std::move(why));
      }
    }
    if (!answer.allowed()) {
      if (answer.reasons.empty()) {
        refuse(policy::status_name(answer.status),
               {"denied", "the policy gave no reason", dataset.manifest.provider_name,
                dataset.manifest.name, "", "", ""});
      }
      return false;
    }
    auto kept = policy::check_obligations(submit.spec, answer.obligations);
    if (!kept) {
      refuse("denied", {"obligation_not_met", kept.error().expected(),
                        dataset.manifest.provider_name, dataset.manifest.name, "request", "", ""});
      return false;
    }
    if (!joint_.add(answer)) {
      refuse("denied",
             {"price_overflow", "the prices do not add up", "", "", "request.payment", "", ""});
      return false;
    }

    Grant grant;
    grant.dataset = dataset.id;
    grant.price = answer.price_minor;  // the list price when the policy names none
    if (submit.spec.privacy &&
        submit.spec.privacy->delta_pico > dataset.manifest.budget_delta_pico) {
      refuse("denied", {"max_delta", "delta may be at most that of the dataset's budget",
                        dataset.manifest.provider_name, dataset.manifest.name,
                        "request.dp.delta_pico", std::to_string(submit.spec.privacy->delta_pico),
                        "at most " + std::to_string(dataset.manifest.budget_delta_pico)});
      return false;
    }
    if (submit.spec.privacy) {
      grant.charges = charges_on(dataset);
      grant.epsilon_micro = epsilon_micro_;
      // The offer's caps are the provider's arithmetic; ours are the rule.
      auto caps = policy::caps_for(dataset.manifest.budget_epsilon_micro,
                                   dataset.manifest.budget_delta_pico);
      for (size_t order = 0; order < caps.size(); ++order) {
        caps[order] = std::min(caps[order], dataset.manifest.budget_caps[order]);
      }
      auto spent = policy::add(dataset.budget.committed, dataset.budget.reserved);
      if (!policy::admits(caps, spent, grant.charges)) {
        int64_t fits =
            epsilon_that_fits(caps, spent, event_on(dataset),
                              static_cast<double>(submit.spec.privacy->delta_pico) * 1e-12);
        refuse("budget_exhausted",
               {"budget_exhausted", "the dataset's privacy budget has no room for this run",
                dataset.manifest.provider_name, dataset.manifest.name, "request.dp.epsilon_micro",
                std::to_string(epsilon_micro_),
                (fits > 0 ? "at most " + std::to_string(fits) : "no private run at all") + ": of " +
                    std::to_string(dataset.manifest.budget_epsilon_micro) + ", " +
                    std::to_string(context.spent_epsilon_micro) + " is spent or reserved"});
        return false;
      }
      if (!within(dataset, answer.obligations.consumer_epsilon_micro,
                  {"consumer_budget_exhausted", "this consumer's budget of the dataset has no room",
                   &grant.consumer_caps},
                  spent_in(dataset.consumers, consumer), grant) ||
          !within(dataset, answer.obligations.purpose_epsilon_micro,
                  {"purpose_budget_exhausted", "this purpose's budget of the dataset has no room",
                   &grant.purpose_caps},
                  spent_in(dataset.purposes, submit.purpose), grant)) {
        return false;
      }
    } else {
      grant.waived = true;
    }
    out_.grants.push_back(grant);
    return true;
  }

  void finish(const ContractSubmit& submit) {
    out_.price = joint_.price_minor();
    if (joint_.obligations()) out_.obligations = policy::to_json(*joint_.obligations());
    if (out_.price > submit.offered) {
      refuse("denied",
             {"price", "the offer is below the sum of the prices", "", "", "request.payment",
              std::to_string(submit.offered), std::to_string(out_.price)});
    }
  }

  Json::Array inputs_;

 private:
  const MarketState& state_;
  const TimeMs now_;
  ContractDecision& out_;
  policy::Event event_;
  std::map<uint32_t, policy::Charges> charges_;  // by rows of a person
  int64_t epsilon_micro_ = 0;
  policy::Joint joint_;  // of the answers that allow
};

}  // namespace

ContractDecision decide_contract(const MarketState& state, uint64_t head_size,
                                 const Digest& head_root, const ContractId& id,
                                 const PublicKey& consumer, const ContractSubmit& submit,
                                 const DecisionTime& now, const EvaluatePolicy& evaluate) {
  ContractDecision out;
  out.contract = id;
  out.head_size = head_size;
  out.head_root = head_root;
  out.status = "allowed";
  Judge judge(state, now.ms, out);

  std::vector<const Dataset*> datasets;
  uint64_t rows = 0;
  for (const auto& dataset_id : submit.datasets) {
    const Dataset* dataset = state.dataset(dataset_id);
    if (!dataset || dataset->revoked) {
      judge.refuse("denied",
                   {dataset ? "revoked" : "unknown_dataset", "expected a dataset on offer",
                    dataset ? dataset->manifest.provider_name : "", to_hex(dataset_id),
                    "request.datasets", "", ""});
      continue;
    }
    datasets.push_back(dataset);
    rows += static_cast<uint64_t>(dataset->manifest.rows);
  }
  bool judged =
      out.status == "allowed" && judge.feasible(submit, datasets) && judge.account(submit);
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
    std::set<PublicKey> providers;
    std::set<DatasetId> ids;
    std::set<std::string> names;
    for (const Dataset* dataset : datasets) {
      providers.insert(dataset->provider);
      ids.insert(dataset->id);
      names.insert(dataset->manifest.name);
    }
    facts.providers.assign(providers.begin(), providers.end());
    facts.dataset_ids.assign(ids.begin(), ids.end());
    facts.dataset_names.assign(names.begin(), names.end());
    facts.credentials = judge.credentials(consumer, submit);
    auto request = policy::build_request(submit.spec, facts);
    if (!request) {
      judge.refuse("invalid_request",
                   {"invalid_request", request.error().expected(), "", "", "request", "", ""});
    } else {
      // Every provider is asked, so that one answer tells everything there is to change.
      for (size_t i = 0; i < datasets.size(); ++i)
        judge.ask(*datasets[i], i, *request, consumer, submit, evaluate, head_size);
    }
  }
  if (out.status == "allowed") judge.finish(submit);
  out.inputs = Json::Object{{"engine", policy::engine_hash()},
                            {"policies", std::move(judge.inputs_)},
                            {"time", Json::Object{{"ms", now.ms}, {"source", now.source}}}};
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
