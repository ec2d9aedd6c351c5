// One provider's answer to one training contract. policy/SPEC.md, Decision.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/bytes.h"
#include "ledger/base/named.h"
#include "ledger/base/result.h"
#include "ledger/codec/json.h"
#include "policy/decide/obligations.h"
#include "policy/decide/request.h"
#include "policy/decide/source.h"
#include "policy/lua/sandbox.h"

namespace souk::policy {

// Everything but kAllowed denies.
enum class DecisionStatus : uint8_t {
  kAllowed,
  kDenied,           // the policy said no
  kError,            // the policy failed, or its answer was not a decision
  kLimit,            // gas, memory, output, or time
  kInvalidRequest,   // refused by the schema; the policy did not run
  kInvalidPolicy,    // not a policy at all: too long, or not UTF-8
  kPublishRejected,  // a text that may not be published: its characters, or it does not parse
};
const char* status_name(
    DecisionStatus status);  // "allowed", "denied", "error", "limit", "invalid_request", ...
std::optional<DecisionStatus> status_of_name(std::string_view name);

struct Reason {
  std::string code;  // a-z 0-9 _ - ., e.g. "max_epsilon"
  std::string message;
  std::string provider;  // name, as the dataset gives it
  std::string dataset;   // name
  std::string path;      // "request.dp.epsilon_micro", or empty
  std::string got, need;
  friend bool operator==(const Reason&, const Reason&) = default;
};
Json to_json(const Reason& reason);
Result<Reason> reason_from_json(const Json& json);

// What a policy's answer and each of its reasons may have for members.
const std::set<std::string>& answer_members();
const std::set<std::string>& reason_members();

// SHA-256 of the name of these semantics, the interpreter's release and the table of
// costs. Two engines with one hash give one decision, gas included.
const Digest& engine_hash();

struct PolicyDecision {
  DecisionStatus status = DecisionStatus::kError;
  std::vector<Reason> reasons;        // never empty unless allowed
  int64_t price_minor = 0;            // 0 unless allowed
  Obligations obligations;            // those of an allowing policy
  std::vector<std::string> read_set;  // what of the request, dataset and context was looked at
  uint64_t gas = 0;
  Digest policy_hash{};   // SHA-256 of the source text
  Digest request_hash{};  // question_hash of the canonical request, dataset and ctx
  Digest engine_hash = policy::engine_hash();  // of whoever decided
  bool allowed() const { return status == DecisionStatus::kAllowed; }

  Json to_json() const;
  static Result<PolicyDecision> from_json(const Json& json);
  std::string text() const;  // canonical(to_json())
  Digest hash() const;       // SHA-256 of it
  friend bool operator==(const PolicyDecision&, const PolicyDecision&) = default;
};

// --- the parts that evaluators are made of -------------------------------------------

// What binds a decision to what was asked.
struct QuestionHashes {
  Digest policy{}, request{};
};
// SHA-256 of the three SHA-256, in this order.
Digest question_hash(const Digest& request, const Digest& dataset, const Digest& ctx);
QuestionHashes hashes_of(std::string_view policy_source, const Json& request, const Json& dataset,
                         const Json& ctx);
// What reasons say of a dataset.
struct QuestionNames {
  std::string provider, dataset;
};
QuestionNames names_of(const Json& dataset);

// The refusals of text and schema, without running anything.
std::optional<PolicyDecision> refuse_early(std::string_view policy_source, const Json& request,
                                           const Json& dataset, const Json& ctx);
PolicyDecision refused_text(const Error& why, const QuestionHashes& hashes,
                            const QuestionNames& names);
// The decision on a question that is not even three JSON values.
PolicyDecision refused_request(std::string_view policy_source, const Json& request,
                               const std::string& why);
// What the result of a policy means. Obligations the request already breaks deny it.
PolicyDecision judge(Evaluation evaluation, const QuestionHashes& hashes,
                     const QuestionNames& names, const Json& request, const Json& dataset);
// The decision about a policy that was stopped from outside, before it could answer: out of wall
// time (kLimit), or its worker died (kError). It has no gas, which marks it: whatever ran has some.
// What stopped it is not in the question, so that asking again may answer otherwise.
PolicyDecision interrupted(DecisionStatus status, const QuestionHashes& hashes,
                           const QuestionNames& names);
// The marks, as a contract.decision's inputs record them.
bool was_interrupted(std::string_view status, int64_t gas);

// One decision, by an evaluator of its own (policy/decide/evaluator.h). Total and
// deterministic. Runs Lua in this process: outside tests, call it through
// evaluate_jailed (policy/jail/worker.h).
PolicyDecision evaluate(std::string_view policy_source, const Json& request, const Json& dataset,
                        const Json& ctx, const Limits& limits = {});

}  // namespace souk::policy
