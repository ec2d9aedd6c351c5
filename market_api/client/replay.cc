#include "market_api/client/replay.h"

#include <algorithm>
#include <map>
#include <set>
#include <span>

#include "contracts/records/records.h"
#include "ledger/audit/audit.h"
#include "ledger/proof/merkle.h"
#include "trainer/attest/appraisal.h"

namespace souk::market {
namespace {

// The clock that a decision says it was made by: the witnesses' as recorded, the host's as
// it stands on the ledger.
trainer::DecisionTime time_of(const contracts::ContractDecision& decision,
                              const contracts::MarketState& before) {
  const Json* time = decision.inputs.find("time");
  const Json* source = time ? time->find("source") : nullptr;
  const Json* ms = time ? time->find("ms") : nullptr;
  bool witnessed = source && source->string() && *source->string() == trainer::kWitnessedTime;
  if (witnessed && ms && ms->integer()) return {*ms->integer(), trainer::kWitnessedTime};
  return {before.time(), trainer::kHostTime};
}

using contracts::ContractDecision;
using contracts::MarketState;

std::optional<ContractDecision> decision_of(const ledger::RecordedEntry& recorded) {
  auto record = contracts::record_of(recorded.entry());
  if (!record) return std::nullopt;
  auto* decision = std::get_if<ContractDecision>(&*record);
  return decision ? std::optional(*decision) : std::nullopt;
}

// The first member that is not the same, with both values.
std::string difference(const Json& recorded, const Json& again) {
  for (const auto& [name, value] : *recorded.object()) {
    const Json* other = again.find(name);
    if (other && *other == value) continue;
    return name + ": recorded " + canonical(value).substr(0, 300) + ", now " +
           (other ? canonical(*other).substr(0, 300) : "absent");
  }
  return "a member that is not recorded";
}

// How the policy of the dataset at `place` was interrupted, if the record says so.
std::optional<policy::DecisionStatus> interruption(const ContractDecision& decision, size_t place) {
  const Json* policies = decision.inputs.find("policies");
  auto* list = policies ? policies->array() : nullptr;
  if (!list || place >= list->size()) return std::nullopt;
  const Json *status = (*list)[place].find("status"), *gas = (*list)[place].find("gas");
  if (!status || !status->string() || !gas || !gas->integer()) return std::nullopt;
  if (!policy::was_interrupted(*status->string(), *gas->integer())) return std::nullopt;
  return *status->string() == policy::status_name(policy::DecisionStatus::kLimit)
             ? policy::DecisionStatus::kLimit
             : policy::DecisionStatus::kError;
}

// Of a decision of another engine: whether this one comes to the same.
void note_other(PolicyReplay& out, const Digest& engine, uint64_t seq, const ContractDecision& was,
                const std::optional<ContractDecision>& again) {
  auto known = std::find_if(out.others.begin(), out.others.end(),
                            [&](const OtherEngine& each) { return each.engine == engine; });
  if (known == out.others.end())
    known = out.others.insert(known, OtherEngine{.engine = engine, .first = seq});
  ++known->decisions;
  if (!again) return;
  ContractDecision outcome = *again;
  outcome.inputs = was.inputs;
  known->same_outcome += outcome == was;
}

DatasetId asked_about(const RecordedQuestion& question) {
  const Json* id = question.dataset.find("id");
  auto named = id && id->string() ? named_from_hex<DatasetId>(*id->string())
                                  : Result<DatasetId>(Error(Code::kMalformed, "an id"));
  return named ? *named : DatasetId{};
}

Outcome outcome_of(const ContractDecision& decision, const DatasetId& dataset) {
  Outcome out{decision.status, decision.allow, decision.reasons};
  for (const auto& grant : decision.grants) {
    if (grant.dataset != dataset) continue;
    out.price = grant.price;
    out.epsilon_micro = grant.epsilon_micro;
  }
  return out;
}

// What is left of an allowed outcome where its contract ended without a model.
void go_on(Outcome& outcome, const contracts::Contract& contract, const DatasetId& dataset) {
  using contracts::Phase;
  bool money_is_back = contract.phase == Phase::kRefunded || contract.phase == Phase::kExpired ||
                       contract.phase == Phase::kStopping;
  if (!outcome.allow || !contract.decision || !contract.decision->allow || !money_is_back) return;
  outcome.price = 0;
  if (!contract.start) outcome.epsilon_micro = 0;
  if (!contract.stop) return;
  outcome.epsilon_micro = 0;
  for (const auto& spent : contract.stop->spent) {
    if (spent.dataset == dataset) outcome.epsilon_micro = spent.epsilon_micro;
  }
}

// Each decision with a draft in place of the policies it replaces; what others answered stands.
void ask_drafts(std::span<RecordedQuestion> questions, const std::vector<Draft>& drafts,
                const std::function<ContractDecision(const trainer::EvaluatePolicy&)>& decide) {
  for (const Draft& draft : drafts) {
    size_t place = 0;
    auto decision = decide(
        [&](std::string_view source, const Json& request, const Json& dataset, const Json& ctx) {
          const auto* known = place < questions.size() ? &questions[place++] : nullptr;
          return draft.replaces(dataset) || !known ? draft.evaluate(source, request, dataset, ctx)
                                                   : known->answer;
        });
    for (auto& question : questions)
      question.drafts.push_back(outcome_of(decision, asked_about(question)));
  }
}

}  // namespace

PolicyReplay replay_ledger_file(const std::string& path, const AuditBasis& basis,
                                const trainer::EvaluatePolicy& evaluate,
                                const std::vector<Draft>& drafts) {
  PolicyReplay out;
  LedgerAudit audit = audit_ledger_file(path, basis);
  out.entries = audit.entries;
  if (!audit.ok) {
    out.first_differing = audit.first_bad;
    out.reason = "the ledger is not whole: " + audit.reason;
    return out;
  }
  out.whole = true;
  // A decision may have been recorded after others that came in meanwhile: which heads
  // were decided on is known only at the end, so the ledger is read twice.
  std::map<uint64_t, std::optional<MarketState>> heads;
  auto note_heads = [&](const ledger::RecordedEntry& recorded) -> Status {
    auto decision = decision_of(recorded);
    if (decision && decision->head_size < recorded.seq()) heads[decision->head_size];
    return Done{};
  };
  ledger::audit_file(path, std::nullopt, note_heads);

  MarketState state(&trainer::appraise_for_market);
  std::vector<Digest> leaf_hashes;
  auto replay = [&](const ledger::RecordedEntry& recorded) -> Status {
    if (auto head = heads.find(recorded.seq()); head != heads.end()) head->second = state;
    if (auto decision = decision_of(recorded)) {
      auto head = heads.find(decision->head_size);
      const MarketState* before = decision->head_size == recorded.seq() ? &state
                                  : head != heads.end() && head->second ? &*head->second
                                                                        : nullptr;
      const auto* contract = before ? before->contract(decision->contract) : nullptr;
      ++out.decisions;
      std::string why;
      const Digest engine = trainer::engine_of(*decision).value_or(policy::engine_hash());
      const bool others = engine != policy::engine_hash();
      std::optional<ContractDecision> made;
      if (!contract) {
        why = "it is about a contract that its head does not know";
      } else {
        size_t place = 0;
        const size_t first = out.questions.size();
        auto asking = [&](std::string_view source, const Json& request, const Json& dataset,
                          const Json& ctx) {
          auto stopped = interruption(*decision, place++);
          auto early = policy::refuse_early(source, request, dataset, ctx);
          if (stopped && !early) ++out.interrupted;
          auto answer =
              stopped && !early
                  ? policy::interrupted(*stopped, policy::hashes_of(source, request, dataset, ctx),
                                        policy::names_of(dataset))
                  : evaluate(source, request, dataset, ctx);
          out.questions.push_back({recorded.seq(), decision->contract, std::string(source), request,
                                   dataset, ctx, answer});
          return answer;
        };
        Digest root = ledger::tree_root(std::span(leaf_hashes).first(decision->head_size));
        auto decide = [&](const trainer::EvaluatePolicy& ask) {
          return trainer::decide_contract(*before, decision->head_size, root, decision->contract,
                                          contract->consumer, contract->submit,
                                          time_of(*decision, *before), ask,
                                          trainer::unavailable_in(*decision), engine);
        };
        auto again = decide(asking);
        auto questions = std::span(out.questions).subspan(first);
        std::set<DatasetId> met;
        for (auto& question : questions) {
          question.counts = met.insert(asked_about(question)).second;
          question.recorded = outcome_of(*decision, asked_about(question));
        }
        bool replaced = std::any_of(questions.begin(), questions.end(), [&](const auto& each) {
          return std::any_of(drafts.begin(), drafts.end(),
                             [&](const Draft& draft) { return draft.replaces(each.dataset); });
        });
        if (replaced) ask_drafts(questions, drafts, decide);
        if (others) {
          made = again;
        } else if (again != *decision) {
          why = difference(contracts::members_json(*decision), contracts::members_json(again));
        }
      }
      if (others && why.empty()) {
        note_other(out, engine, recorded.seq(), *decision, made);
      } else if (why.empty()) {
        ++out.same;
      } else if (!out.first_differing) {
        out.first_differing = recorded.seq();
        out.reason = why;
      }
    }
    state = contracts::apply(std::move(state), recorded);
    leaf_hashes.push_back(recorded.leaf_hash());
    return Done{};
  };
  ledger::audit_file(path, std::nullopt, replay);
  for (auto& question : out.questions) {
    const auto* contract = state.contract(question.contract);
    question.counts = question.counts && contract && contract->decision_seq == question.seq;
    if (!question.counts) continue;
    const DatasetId dataset = asked_about(question);
    go_on(question.recorded, *contract, dataset);
    for (auto& draft : question.drafts) go_on(draft, *contract, dataset);
  }
  out.ok = !out.first_differing && out.others.empty();
  return out;
}

}  // namespace souk::market
