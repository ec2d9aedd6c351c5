#include "market_api/cli/policy_files.h"

#include "ledger/codec/json_reals.h"
#include "policy/decide/canonical.h"
#include "policy/decide/schema.h"
#include "policy/decide/source.h"
#include "policy/jail/worker.h"

namespace souk::market {
namespace {

constexpr size_t kMaxQuestionBytes = 1 << 20;
constexpr uint64_t kMaxMemory = uint64_t{128} << 20;

}  // namespace

void QuestionFiles::add_to(CLI::App& verb) {
  verb.add_option("--request", request, "file with the request as JSON (policy/SPEC.md, Request)")
      ->required();
  verb.add_option("--dataset", dataset, "file with the dataset as JSON (default: a sample)");
  verb.add_option("--ctx", ctx,
                  "file with the context (time, what is spent) as JSON (default: a sample)");
}

Result<Json> read_question_part(const std::string& path) {
  auto bytes = TRY(load_argument(path, kMaxQuestionBytes));
  auto json = parse_json_marking_reals(as_text(bytes), kMaxQuestionBytes);
  if (!json) return Error(Code::kConflict, path + ": " + json.error().expected());
  policy::remove_absent(*json);
  return json;
}

Result<Question> read_question(const QuestionFiles& files) {
  Question question;
  auto part = [&](const std::string& path, Json otherwise) -> Result<Json> {
    if (path.empty()) return otherwise;
    auto json = read_question_part(path);
    if (json || json.error().code() != Code::kConflict) return json;
    question.wrong = json.error().expected();
    return Json();
  };
  question.request = TRY(part(files.request, Json()));
  question.dataset = TRY(part(files.dataset, default_dataset()));
  question.ctx = TRY(part(files.ctx, default_context()));
  return question;
}

Result<Json> read_json_argument(const std::string& path) {
  auto bytes = TRY(load_argument(path, 64 << 20));
  auto json = parse_json_marking_reals(as_text(bytes), 64 << 20);
  if (!json) return about_file(std::move(json).take_error(), path);
  return json;
}

std::optional<Json> value_at(const Json& root, std::string_view path) {
  const Json* at = &root;
  size_t i = path.find_first_of(".[");
  while (at && i < path.size()) {
    if (path[i] == '.') {
      size_t end = path.find_first_of(".[", i + 1);
      at = at->find(
          std::string(path.substr(i + 1, end == std::string_view::npos ? end : end - i - 1)));
      i = end;
    } else {
      size_t end = path.find(']', i);
      size_t place = 0;
      for (size_t k = i + 1; k < end && k < path.size(); ++k)
        place = place * 10 + static_cast<size_t>(path[k] - '0');
      auto* list = at->array();
      at = list && place >= 1 && place <= list->size() ? &(*list)[place - 1] : nullptr;
      i = end + 1;
    }
  }
  return at ? std::optional(*at) : std::nullopt;
}

Json default_request() {
  return Json::Object{
      {"id", "t1"},
      {"consumer", "acme-labs"},
      {"purpose", "medical-research"},
      {"region", "EU"},
      {"algorithm", "mlp"},
      {"epochs", 20},
      {"payment", 6000},
      {"dp", Json::Object{{"enabled", true}, {"epsilon_micro", 800000}, {"delta_pico", 1000000}}},
      {"credentials", Json::Array{"hospital", "irb-approved"}}};
}

Json default_dataset() {
  return Json::Object{{"id", "d1"}, {"rows", 1000}, {"price", 5000}};
}

Json default_context() {
  return Json::Object{{"now", int64_t{1'800'000'000'000}}, {"spent_epsilon_micro", 0}, {"runs", 0}};
}

void LimitOptions::add_to(CLI::App& verb) {
  verb.add_option("--gas", gas,
                  "most gas: the units in which a policy's work is counted (default 5000000)");
  verb.add_option("--memory", memory,
                  "most bytes of memory that the policy may use (default 33554432)");
}

Result<policy::Limits> LimitOptions::limits() const {
  if (gas < 1 || gas > static_cast<uint64_t>(kMaxJsonInteger))
    return Error(Code::kMalformed, "--gas: expected 1 to 9007199254740991");
  if (memory < 1 || memory > kMaxMemory)
    return Error(Code::kMalformed, "--memory: expected 1 to 134217728 bytes");
  policy::Limits limits;
  limits.gas = gas;
  limits.memory_bytes = memory;
  return limits;
}

Result<std::string> load_policy_argument(const std::string& path) {
  auto bytes = TRY(load_argument(path, 64 << 20));
  std::string text = to_text(bytes);
  if (text.size() > policy::kMaxSourceBytes) text.resize(policy::kMaxSourceBytes + 1);
  return text;
}

void PolicyFiles::add_to(CLI::App& verb) {
  verb.add_option("POLICY", policy, "Lua file")->required();
  verb.add_option("--parameters", parameters, "JSON object that the policy reads as `parameters`");
}

Digest PolicyText::version() const {
  return contracts::policy_version(source, parameters, to_hex(ByteView(policy::engine_hash())));
}

Result<PolicyText> policy_text(const std::string& path, std::string source, Json parameters) {
  if (!parameters.object()) return Error(Code::kMalformed, "parameters: expected one JSON object");
  if (canonical(parameters).size() > contracts::kMaxParameterBytes)
    return Error(Code::kMalformed, "parameters: expected at most 8192 bytes");
  std::string whole = TRY(policy::with_parameters(source, parameters));
  return PolicyText{path, std::move(source), std::move(parameters), std::move(whole)};
}

Result<PolicyText> load_policy(const std::string& path, const std::string& parameters_path) {
  auto source = TRY(load_policy_argument(path));
  Json parameters = Json::Object{};
  if (!parameters_path.empty()) {
    auto bytes = TRY(load_argument(parameters_path, 1 << 16));
    parameters = TRY(about_file(parse_json(as_text(bytes)), parameters_path));
  }
  return about_file(policy_text(path, std::move(source), std::move(parameters)), parameters_path);
}

Result<PolicyText> load_policy(const PolicyFiles& files) {
  return load_policy(files.policy, files.parameters);
}

Status check_policy(const PolicyText& policy) {
  return about_file(policy::check_source(policy.whole), policy.path);
}

Answer refused_policy(const Error& why) {
  return refused_input(why.code() == Code::kRefused ? policy::DecisionStatus::kPublishRejected
                                                    : policy::DecisionStatus::kInvalidPolicy,
                       why.expected());
}

Answer refused_input(policy::DecisionStatus status, const std::string& why) {
  Json error = error_json(Error(Code::kMalformed, why));
  (*(*error.object())["error"].object())["code"] = policy::status_name(status);
  Answer answer;
  answer.json = *error.object();
  answer.json["status"] = policy::status_name(status);
  answer.complaint = why;
  answer.status = decision_exit(status);
  return answer;
}

Status try_policy(policy::Nursery& jail, const std::string& source, const std::string& path) {
  auto answers =
      policy::answers_canonical([&](const Json& request, const Json& dataset, const Json& ctx) {
        return policy::evaluate_jailed(jail, source, request, dataset, ctx);
      });
  if (!answers) return std::move(answers).take_error().within(path);
  return Done{};
}

std::optional<Answer> refused_publication(policy::Nursery& jail, const PolicyText& policy) {
  if (auto good = check_policy(policy); !good) {
    Answer answer = refused_policy(good.error());
    answer.status = ExitStatus::kUsage;
    return answer;
  }
  auto answers = try_policy(jail, policy.whole, policy.path);
  if (!answers) return refused_policy(answers.error());
  return std::nullopt;
}

ExitStatus decision_exit(policy::DecisionStatus status) {
  switch (status) {
    case policy::DecisionStatus::kAllowed:
      return ExitStatus::kYes;
    case policy::DecisionStatus::kInvalidRequest:
    case policy::DecisionStatus::kInvalidPolicy:
      return ExitStatus::kUsage;
    default:
      return ExitStatus::kNo;
  }
}

Json decision_json(const policy::PolicyDecision& decision) {
  Json json = decision.to_json();
  (*json.object())["hashes"] = Json::Object{{"policy", decision.policy_hash},
                                            {"request", decision.request_hash},
                                            {"engine", decision.engine_hash},
                                            {"decision", decision.hash()}};
  return json;
}

Answer decision_answer(const policy::PolicyDecision& decision, const std::string& policy,
                       const QuestionFiles& question) {
  Answer answer;
  answer.json = *decision_json(decision).object();
  answer.text = policy::status_name(decision.status);
  if (decision.allowed()) answer.text += ", price " + std::to_string(decision.price_minor);
  Json::Array reasons;
  for (const auto& reason : decision.reasons) reasons.push_back(policy::to_json(reason));
  if (std::string why = reasons_text(reasons); !why.empty()) answer.text += "\n" + why;
  answer.text += "\n" + std::to_string(decision.gas) + " gas";
  answer.status = decision_exit(decision.status);
  if (answer.status != ExitStatus::kUsage) return answer;
  std::string why = decision.reasons.empty() ? policy::status_name(decision.status)
                                             : decision.reasons.front().message;
  // What is no JSON has been said with its file's name.
  auto names = [&](const std::string& file) {
    return !file.empty() && why.starts_with(file + ":");
  };
  bool named = names(question.request) || names(question.dataset) || names(question.ctx);
  const std::string file = named                                                       ? ""
                           : decision.status == policy::DecisionStatus::kInvalidPolicy ? policy
                           : why.starts_with("dataset") ? question.dataset
                           : why.starts_with("ctx")     ? question.ctx
                                                        : question.request;
  answer.complaint = about_file(Error(Code::kMalformed, why), file).expected();
  return answer;
}

}  // namespace souk::market
