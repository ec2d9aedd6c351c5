// The files that the policy verbs share: a policy, the question put to it, limits.
#pragma once

#include <string>

#include "market_api/cli/session.h"
#include "policy/decide/decide.h"
#include "policy/jail/nursery.h"

namespace souk::market {

// --request REQ.json [--dataset D.json] [--ctx C.json]
struct QuestionFiles {
  std::string request, dataset, ctx;
  void add_to(CLI::App& verb);
};

// What the files say, before the schema is asked. Reals stand as {"$float": text}.
struct Question {
  Json request, dataset, ctx;
  std::string wrong;  // not empty: a file that is not JSON, and why; the request is then its text
};
// A file that is missing is kMalformed; what is in it is for the schema.
Result<Question> read_question(const QuestionFiles& files);
Result<Json> read_question_part(const std::string& path);

// JSON that the schema will be asked about, or lists of such.
Result<Json> read_json_argument(const std::string& path);
// The value at "request.dp.epsilon_micro" or "request.credentials[2]"; null when there is none.
Json value_at(const Json& root, std::string_view path);

// The request for those who only care about a few of its fields.
Json default_request();
// The dataset and the moment for those who only care about the request: those of
// policy/SPEC.md, Request, the same every day.
Json default_dataset();
Json default_context();

// --gas N --memory BYTES
struct LimitOptions {
  uint64_t gas = policy::Limits{}.gas;
  uint64_t memory = policy::Limits{}.memory_bytes;
  void add_to(CLI::App& verb);
  Result<policy::Limits> limits() const;
};

// The text of a policy; one that is too long is cut after the first byte too many, so
// that it is refused as such.
Result<std::string> load_policy_argument(const std::string& path);

// The same of a policy that the engine would run: kMalformed says where it is not one.
Result<std::string> load_checked_policy(const std::string& path);

// The JSON of policy/SPEC.md, Decision; 0 allowed, 2 for a malformed question or
// policy, 1 for every other refusal.
// Of a malformed one it also says which of the files is malformed.
Answer decision_answer(const policy::PolicyDecision& decision, const std::string& policy,
                       const QuestionFiles& question);
Json decision_json(const policy::PolicyDecision& decision);
ExitStatus decision_exit(policy::DecisionStatus status);

// kRefused, with "publish_rejected", when the policy answers none of the canonical questions.
Status try_policy(policy::Nursery& jail, const std::string& source, const std::string& path);

}  // namespace souk::market
