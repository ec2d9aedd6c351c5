#include "trainer/decision/judge.h"

#include "ledger/crypto/hash.h"
#include "policy/decide/source.h"
#include "trainer/decision/feasibility.h"

namespace souk::trainer {
namespace {

using contracts::Contract;
using contracts::Dataset;
using contracts::Grant;
using policy::PolicyDecision;
using policy::Reason;

constexpr size_t kMaxReasons = 64;
// A decision is one ledger entry: all reasons of all providers share this much of it.
constexpr size_t kReasonBytes = 28'000;

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

// Ledger time of its job.start or, as long as it waits for that, of what allowed it.
TimeMs time_of_run(const Contract& past) {
  return past.start ? past.start_time : past.decision_time;
}

}  // namespace

Reason too_costly(const char* path, const Dataset* dataset) {
  return {"too_costly",
          "judging this contract takes more work than a decision may: other numbers of its run, or "
          "fewer datasets and parents, take less",
          dataset ? dataset->manifest.provider_name : "",
          dataset ? dataset->manifest.name : "",
          path,
          "",
          ""};
}

void Judge::reason(Reason reason) {
  auto& list = *out_.reasons.array();
  auto add = [&](const Reason& one) {
    if (list.size() < kMaxReasons) list.push_back(policy::to_json(one));
  };
  if (!reason.provider.empty() || !reason.dataset.empty()) return add(reason);
  // About the contract as a whole: it stands against each dataset that the contract asks for.
  for (const DatasetId& id : submit_.datasets) {
    const Dataset* dataset = state_.dataset(id);
    reason.provider = dataset ? dataset->manifest.provider_name : "";
    reason.dataset = dataset ? dataset->manifest.name : to_hex(id);
    add(reason);
  }
}

void Judge::refuse(const std::string& status, Reason why) {
  if (out_.status.empty() || out_.status == "allowed") out_.status = status;
  reason(std::move(why));
}

std::vector<policy::CredentialFact> Judge::credentials() {
  std::vector<policy::CredentialFact> facts;
  size_t ignored = 0;
  for (const auto& text : submit_.credentials) {
    auto verified = contracts::verify_credential(text, state_.market());
    if (!verified || verified->credential.subject != consumer_ ||
        verified->credential.expires_ms <= now_) {
      ++ignored;
      continue;
    }
    facts.push_back({verified->credential.type, verified->issuer, verified->credential.expires_ms});
  }
  if (ignored > 0) {
    reason({"credential_ignored",
            std::to_string(ignored) + " of " + std::to_string(submit_.credentials.size()) +
                " credentials are not valid for this consumer now",
            "", "", "request.credentials", "", "signed, unexpired credentials of this consumer"});
  }
  return facts;
}

// What the dataset has answered, or is answering, in the contracts `counts` picks.
// What was allowed but never started cost nothing.
template <class Counts>
policy::UsageFacts Judge::usage(const DatasetId& dataset, Counts counts) const {
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

void Judge::expect(size_t policies) {
  room_ = kReasonBytes / std::max<size_t>(policies, 1);
}

// One policy's answer, noted in `noted` with its hashes, its reasons told. Nothing when there is
// none, or it is not an allow that the run keeps.
std::optional<PolicyDecision> Judge::ask(const Dataset& dataset,
                                         const contracts::PolicyChoice& choice, const Json& request,
                                         Json::Array& noted, std::optional<size_t> member) {
  if (!choice.policy || choice.obstacle) {
    refuse("denied", {choice.obstacle, "no version of the policy can answer this contract",
                      dataset.manifest.provider_name, dataset.manifest.name, "request.policies", "",
                      "an active or quoted version"});
    return std::nullopt;
  }
  if (!choice.policy->engine.empty() && choice.policy->engine != engine_) {
    refuse("denied",
           {"policy_engine",
            &noted == &inherited
                ? "a job behind the initial weights was allowed by this version of the policy, "
                  "which is for another engine than the market's"
                : "this version of the policy is for another engine than the market's: once its "
                  "provider has published and activated it for this one, ask for a new quote",
            dataset.manifest.provider_name, dataset.manifest.name, "request.policies",
            choice.policy->engine, engine_});
    return std::nullopt;
  }
  auto text = policy::with_parameters(choice.policy->source, choice.policy->parameters);
  if (!text) {
    refuse("publish_rejected", {"policy_parameters", text.error().expected(),
                                dataset.manifest.provider_name, dataset.manifest.name, "", "", ""});
    return std::nullopt;
  }
  if (gas_ > kMostGas) {
    refuse("denied", too_costly("request.initial_jobs", &dataset));
    return std::nullopt;
  }
  PolicyDecision answer = evaluate_(*text, request, facts_of(dataset), context_of(dataset));
  gas_ += answer.gas;
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
bool Judge::keeps(const policy::Obligations& obligations, const std::string& provider,
                  const std::string& dataset, std::optional<size_t> member) {
  auto kept = policy::check_obligations(submit_.spec, obligations, member);
  if (kept) return true;
  refuse("denied",
         {"obligation_not_met", kept.error().expected(), provider, dataset, "request", "", ""});
  return false;
}

void Judge::inherit(const Contract& job, const Json& request,
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
    if (auto answer = ask(dataset, choice, request, inherited)) joint_.inherit(answer->obligations);
  }
}

void Judge::admit(const Dataset& dataset, size_t index, const contracts::PolicyChoice& choice,
                  const Json& request) {
  auto allowed =
      ask(dataset, choice, request, inputs, pooled() ? std::optional(index) : std::nullopt);
  if (!allowed) return;
  PolicyDecision& answer = *allowed;
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
  if (submit_.spec.privacy &&
      submit_.spec.privacy->delta_pico > dataset.manifest.budget_delta_pico) {
    refuse("denied", {"max_delta", "delta may be at most that of the dataset's budget",
                      dataset.manifest.provider_name, dataset.manifest.name,
                      "request.dp.delta_pico", std::to_string(submit_.spec.privacy->delta_pico),
                      "at most " + std::to_string(dataset.manifest.budget_delta_pico)});
    return;
  }
  if (submit_.spec.privacy) {
    if (!has_room(dataset, index, answer.obligations, grant)) return;
  } else {
    grant.waived = true;
  }
  out_.grants.push_back(grant);
}

void Judge::finish() {
  out_.price = joint_.price_minor();
  if (joint_.obligations()) out_.obligations = policy::to_json(*joint_.obligations());
  if (out_.price > submit_.offered) {
    refuse("denied", {"price",
                      "the contract offers " + std::to_string(submit_.offered) +
                          ", the prices of its datasets come to " + std::to_string(out_.price),
                      "", "", "request.payment", std::to_string(submit_.offered),
                      std::to_string(out_.price)});
  }
}

Json Judge::facts_of(const Dataset& dataset) {
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

Json Judge::context_of(const Dataset& dataset) const {
  policy::ContextFacts context;
  context.now_ms = now_;
  context.spent_epsilon_micro =
      dataset.budget.epsilon_micro_committed + dataset.budget.epsilon_micro_reserved;
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
void Judge::tell(const Dataset& dataset, const PolicyDecision& answer) {
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

}  // namespace souk::trainer
