#include "trainer/decision/decision.h"

#include <algorithm>
#include <set>

#include "contracts/lifecycle/ancestry.h"
#include "trainer/decision/feasibility.h"
#include "trainer/decision/judge.h"

namespace souk::trainer {
namespace {

using contracts::Contract;
using contracts::ContractDecision;
using contracts::ContractSubmit;
using contracts::Dataset;
using contracts::MarketState;
using policy::Reason;

constexpr size_t kMaxAncestors = 64;  // jobs behind initial weights

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

// What the state of the ledger says against a decision, in the names that people know.
Reason blocked_by(const MarketState& state, const contracts::Obstacle& obstacle) {
  Reason why{obstacle.code,
             "the rules of the ledger forbid it: " + obstacle.code,
             "",
             obstacle.dataset,
             "request",
             obstacle.got,
             obstacle.need};
  auto id = named_from_hex<DatasetId>(obstacle.dataset);
  if (const Dataset* dataset = id ? state.dataset(*id) : nullptr) {
    why.provider = dataset->manifest.provider_name;
    why.dataset = dataset->manifest.name;
  }
  if (obstacle.code == "unfunded") {
    why.path = "request.payment";
    why.message = "the account has " + obstacle.got + ", the prices of the datasets come to " +
                  obstacle.need + " (minor units)";
  }
  if (obstacle.code.ends_with("budget_exhausted")) {
    why.path = "request.dp.epsilon_micro";
    why.message = "a privacy budget of the dataset has no room: at its best order " + obstacle.got +
                  " are left, the run asks for " + obstacle.need;
  }
  return why;
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

std::optional<Digest> engine_of(const ContractDecision& decision) {
  const Json* engine = decision.inputs.find("engine");
  if (!engine || !engine->string()) return std::nullopt;
  auto bytes = from_hex(*engine->string());
  Digest digest{};
  if (!bytes || bytes->size() != digest.size()) return std::nullopt;
  std::copy(bytes->begin(), bytes->end(), digest.begin());
  return digest;
}

ContractDecision decide_contract(const MarketState& state, uint64_t head_size,
                                 const Digest& head_root, const ContractId& id,
                                 const PublicKey& consumer, const ContractSubmit& submit,
                                 const DecisionTime& now, const EvaluatePolicy& evaluate,
                                 const std::set<DatasetId>& unavailable, const Digest& engine) {
  ContractDecision out;
  out.contract = id;
  out.head_size = head_size;
  out.head_root = head_root;
  out.status = "allowed";
  Judge judge(state, now.ms, head_size, consumer, submit, evaluate, engine, out);
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
  const uint64_t submit_seq = recorded ? recorded->submit_seq : contracts::kNotRecorded;
  const auto ancestry = contracts::ancestry_of(state, submit, submit_seq);
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
  if (out.status == "allowed") {
    for (Reason& why : foreign_to_initial(state, submit, ancestry.jobs, datasets))
      judge.refuse("denied", std::move(why));
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
    const auto ids = contracts::learned_from(state, submit, submit_seq);
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
  Json::Object inputs{{"engine", engine},
                      {"policies", std::move(judge.inputs)},
                      {"time", Json::Object{{"ms", now.ms}, {"source", now.source}}}};
  if (submit.spec.initial) {
    Json::Array jobs;
    for (const ContractId& job : ancestry.jobs) jobs.push_back(job);
    inputs["inherited"] =
        Json::Object{{"jobs", std::move(jobs)}, {"policies", std::move(judge.inherited)}};
  }
  if (!missing.empty()) inputs["unavailable"] = std::move(missing);
  out.inputs = std::move(inputs);
  out.allow = out.status == "allowed";
  if (out.allow) {
    // A contract on the ledger, or one that is only asked about.
    auto blocked = state.contract(id) ? contracts::obstacle(state, out)
                                      : contracts::obstacle_of_terms(state, consumer, submit, out);
    if (blocked) {
      judge.refuse(blocked->code, blocked_by(state, *blocked));
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
