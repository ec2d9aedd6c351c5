// souk policy explain, and the family that looks at a policy from many sides.
#include "market_api/cli/policy_files.h"
#include "market_api/cli/policy_replay_verbs.h"
#include "market_api/cli/policy_test_verb.h"
#include "market_api/cli/policy_whatif_verb.h"
#include "market_api/cli/session.h"
#include "policy/decide/schema.h"
#include "policy/jail/worker.h"

namespace souk::market {
namespace {

using policy::DecisionStatus;
using policy::PolicyDecision;

constexpr int kStudyWallMs = 60'000;

struct ExplainOptions {
  PolicyFiles policy;
  QuestionFiles question;
  LimitOptions limits;
  int most = 5;
};

// --- explain ----------------------------------------------------------------------------

std::string value_text(const Json& value) {
  return value.string() ? *value.string() : canonical(value);
}

Json names_in(const Json& block) {
  Json::Array out;
  for (const auto& [name, value] : *block.object()) out.emplace_back(name);
  return out;
}

Result<Answer> explain(Session&, const ExplainOptions& options) {
  auto jail = TRY(policy::start_lua_nursery());
  const auto policy = TRY(load_policy(options.policy));
  const std::string& source = policy.whole;
  auto limits = TRY(options.limits.limits());
  auto question = TRY(read_question(options.question));
  if (!question.wrong.empty())
    return decision_answer(policy::refused_request(source, question.request, question.wrong),
                           policy.path, options.question);
  auto decision = policy::evaluate_jailed(*jail, source, question.request, question.dataset,
                                          question.ctx, limits);
  Answer answer = decision_answer(decision, policy.path, options.question);
  Json::Array read;
  std::string text;
  for (const auto& path : decision.read_set) {
    std::string_view rest = path;
    bool length = rest.front() == '#';
    if (length) rest.remove_prefix(1);
    const Json* root = rest.starts_with("request")   ? &question.request
                       : rest.starts_with("dataset") ? &question.dataset
                                                     : &question.ctx;
    auto value = value_at(*root, rest);
    if (!value) {
      read.push_back(Json::Object{{"path", path}, {"value", nullptr}, {"absent", true}});
      text += "\n  it asked for " + path + ", which is not there";
      continue;
    }
    if (length) value = value->array() ? Json(value->array()->size()) : names_in(*value);
    read.push_back(Json::Object{{"path", path}, {"value", *value}, {"absent", false}});
    text += "\n  it read " + path + " = " + printable(value_text(*value));
  }
  answer.json["read"] = std::move(read);
  Json::Array remedies;
  if (decision.status == DecisionStatus::kDenied) {
    remedies = TRY(policy::remedies_jailed(*jail, source, question.request, question.dataset,
                                           question.ctx, limits, options.most, kStudyWallMs));
  }
  for (const Json& remedy : remedies) {
    text += "\n  it would be allowed with";
    for (const Json& edit : *remedy.find("edits")->array()) {
      text += " " + *edit.find("path")->string() + " " + printable(value_text(*edit.find("from"))) +
              " -> " + printable(value_text(*edit.find("to"))) + ";";
    }
    text += " price " + canonical(*remedy.find("price"));
  }
  if (decision.status == DecisionStatus::kDenied && remedies.empty())
    text += "\n  no change of up to eight fields was found that it would allow";
  answer.json["remedies"] = std::move(remedies);
  answer.text += text;
  return answer;
}

}  // namespace

void add_policy_study_verbs(CLI::App& app, Session& session) {
  CLI::App* group = app.get_subcommand("policy");
  add_policy_test_verb(*group, session);
  auto explaining = std::make_shared<ExplainOptions>();
  CLI::App* verb = add_verb(*group, session, "explain",
                            "Why a policy answers so, and what to change", explaining, explain);
  explaining->policy.add_to(*verb);
  explaining->question.add_to(*verb);
  verb->add_option("--most", explaining->most, "most remedies (default 5)")
      ->check(whole_number(1, 20));
  explaining->limits.add_to(*verb);
  add_policy_whatif_verb(*group, session);
  add_policy_replay_verb(*group, session);
}

}  // namespace souk::market
