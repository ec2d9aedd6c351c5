// souk policy check|eval: try a policy before it is published.
#include <algorithm>

#include "ledger/crypto/hash.h"
#include "market_api/cli/policy_files.h"
#include "market_api/cli/session.h"
#include "policy/decide/source.h"
#include "policy/jail/worker.h"
#include "policy/lint/lint.h"

namespace souk::market {
namespace {

using policy::DecisionStatus;
using policy::PolicyDecision;

struct CheckOptions {
  PolicyFiles policy;
};
struct EvalOptions {
  PolicyFiles policy;
  QuestionFiles question;
  LimitOptions limits;
};

// What an ordinary request costs, by running it. Nothing when the policy fails on it.
Json cost_of(policy::Nursery& jail, const std::string& source, const policy::LintReport& report) {
  auto decision = policy::evaluate_jailed(jail, source, default_request(), default_dataset(),
                                          default_context());
  return Json(Json::Object{{"gas", decision.gas},
                           {"sample_status", policy::status_name(decision.status)},
                           {"loops", report.loops},
                           {"bounded", report.bounded}});
}

Result<Answer> check(Session&, const CheckOptions& options) {
  auto jail = TRY(policy::start_lua_nursery());
  const auto policy = TRY(load_policy(options.policy));
  const std::string &source = policy.whole, &path = policy.path;
  auto report = policy::lint(source);
  auto good = check_policy(policy);
  const bool publishable = static_cast<bool>(good);
  // A text that parses and still answers nobody is found out by asking it.
  auto answers = publishable ? try_policy(*jail, source, path) : Status(Done{});
  Answer answer;
  Json::Array findings;
  size_t errors = 0;
  for (auto& finding : report.findings) {
    // Places are those of the file, which the parameters stand before.
    if (finding.line == 1)
      finding.column = std::max(1, finding.column - static_cast<int>(policy.bytes_before()));
    bool error = finding.weight == policy::Finding::Weight::kError;
    errors += error;
    findings.push_back(policy::to_json(finding));
    answer.text +=
        path + ":" + std::to_string(finding.line) + ":" + std::to_string(finding.column) + ": " +
        (error ? "" : "note: ") + printable(finding.message) +
        (finding.did_you_mean.empty() ? "" : " (did you mean " + finding.did_you_mean + "?)") +
        " [" + finding.code + "]\n";
  }
  if (!answers) {
    ++errors;
    answer.text += printable(answers.error().expected()) + " [answers_nobody]\n";
    findings.push_back(policy::to_json({.code = "answers_nobody",
                                        .weight = policy::Finding::Weight::kError,
                                        .line = 1,
                                        .column = 1,
                                        .message = answers.error().expected(),
                                        .did_you_mean = ""}));
  }
  std::string stem = path.ends_with(".lua") ? path.substr(0, path.size() - 4) : path;
  bool tested = path_exists(stem + "_test.json") || path_exists(stem + "_test.lua");
  Digest hash = contracts::policy_hash(source);
  const bool no_policy = !good && good.error().code() == Code::kMalformed;
  answer.json = {{"ok", errors == 0},
                 {"status", no_policy                  ? "invalid_policy"
                            : !publishable || !answers ? "publish_rejected"
                            : errors == 0              ? "ok"
                                                       : "findings"},
                 {"findings", std::move(findings)},
                 {"errors", errors},
                 {"tested", tested},
                 {"policy_hash", hash},
                 {"version", policy.version()}};
  if (publishable) {
    Json cost = cost_of(*jail, source, report);
    answer.text +=
        "an ordinary request costs " + canonical(*cost.find("gas")) + " gas" +
        (report.bounded ? "" : "; there is a loop without a bound that is plain to see") + "\n";
    answer.json["cost"] = std::move(cost);
  }
  if (!tested) answer.text += "there are no cases beside it (" + stem + "_test.json)\n";
  answer.text += (errors == 0 ? "ok, policy hash " + to_hex(ByteView(hash))
                              : std::to_string(errors) + " to mend");
  answer.status = errors == 0 ? ExitStatus::kYes : ExitStatus::kNo;
  if (no_policy) {
    answer.status = ExitStatus::kUsage;
    answer.complaint = good.error().expected();
  }
  return answer;
}

Result<Answer> eval(Session&, const EvalOptions& options) {
  auto jail = TRY(policy::start_lua_nursery());
  const auto policy = TRY(load_policy(options.policy));
  const std::string& source = policy.whole;
  auto limits = TRY(options.limits.limits());
  auto question = TRY(read_question(options.question));
  auto decision = question.wrong.empty()
                      ? policy::evaluate_jailed(*jail, source, question.request, question.dataset,
                                                question.ctx, limits)
                      : policy::refused_request(source, question.request, question.wrong);
  return decision_answer(decision, policy.path, options.question);
}

}  // namespace

void add_policy_verbs(CLI::App& app, Session& session) {
  CLI::App* group = add_group(app, "policy", "Try a policy on this machine");
  auto checking = std::make_shared<CheckOptions>();
  CLI::App* verb = add_verb(*group, session, "check",
                            "What is wrong with a policy, before it is published", checking, check);
  checking->policy.add_to(*verb);
  auto trying = std::make_shared<EvalOptions>();
  verb = add_verb(*group, session, "eval", "What a policy answers to a request", trying, eval);
  trying->policy.add_to(*verb);
  trying->question.add_to(*verb);
  trying->limits.add_to(*verb);
}

}  // namespace souk::market
