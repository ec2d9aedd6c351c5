// The files that the policy verbs share: a policy, the question put to it, limits.
#pragma once

#include <optional>
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
// The value at "request.dp.epsilon_micro" or "request.credentials[2]", if there is one.
std::optional<Json> value_at(const Json& root, std::string_view path);

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

// POLICY [--parameters FILE]
struct PolicyFiles {
  std::string policy, parameters;
  void add_to(CLI::App& verb);
};

// A version of a policy: its identity is source, parameters and engine.
struct PolicyText {
  std::string path;  // of the source
  std::string source;
  Json parameters = Json::Object{};
  std::string whole;  // what runs: `local parameters = {…} ` where there are any, and the source
  size_t bytes_before() const { return whole.size() - source.size(); }  // on the first line
  Digest version() const;
};
// Any bytes: whether they are a policy is for check_policy, or for whoever runs it. kMalformed: no
// such file, or parameters that are not one JSON object of at most 8192 bytes.
Result<PolicyText> load_policy(const std::string& path, const std::string& parameters_path);
Result<PolicyText> load_policy(const PolicyFiles& files);
Result<PolicyText> policy_text(const std::string& path, std::string source, Json parameters);

// The text of a program; one that is too long is cut after the first byte too many, so
// that it is refused as such.
Result<std::string> load_policy_argument(const std::string& path);

// Whether its text is one to be run or published, policy/SPEC.md, Refused texts. The error names
// the file: kRefused is publish_rejected, kMalformed invalid_policy.
Status check_policy(const PolicyText& policy);
// What a verb that decides nothing answers then: {"status", "error": {"code", "message"}}, exit
// status as for a decision of that status.
Answer refused_policy(const Error& why);
Answer refused_input(policy::DecisionStatus status, const std::string& why);

// The JSON of policy/SPEC.md, Decision; 0 allowed, 2 for a malformed question or
// policy, 1 for every other refusal.
// Of a malformed one it also says which of the files is malformed.
Answer decision_answer(const policy::PolicyDecision& decision, const std::string& policy,
                       const QuestionFiles& question);
Json decision_json(const policy::PolicyDecision& decision);
ExitStatus decision_exit(policy::DecisionStatus status);

// check_policy, and try_policy: what a verb answers that may not publish it. A text that is no
// policy is a malformed file there, exit status 2; one that answers nobody is refused, 1.
std::optional<Answer> refused_publication(policy::Nursery& jail, const PolicyText& policy);
// kRefused, with "publish_rejected", when the policy answers none of the canonical questions.
Status try_policy(policy::Nursery& jail, const std::string& source, const std::string& path);

}  // namespace souk::market
