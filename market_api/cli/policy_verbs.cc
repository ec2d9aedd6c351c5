// souk policy check|eval: try a policy before it is published.
#include "ledger/crypto/hash.h"
#include "market_api/cli/policy_files.h"
#include "market_api/cli/session.h"
#include "policy/decide/source.h"
#include "policy/jail/worker.h"

namespace souk::market {
namespace {

using policy::DecisionStatus;
using policy::PolicyDecision;

struct CheckOptions {
  std::string policy;
};
struct EvalOptions {
  std::string policy;
  QuestionFiles question;
  LimitOptions limits;
};

Result<Answer> check(Session&, const CheckOptions& options) {
  auto bytes = TRY(load_argument(options.policy, policy::kMaxSourceBytes));
  auto good = policy::check_source(as_text(bytes));
  if (!good) return Error(Code::kMalformed, options.policy + ": " + good.error().expected());
  Digest hash = contracts::policy_hash(to_text(bytes));
  Answer answer;
  answer.json = {{"ok", true}, {"policy_hash", hash}};
  answer.text = "ok, policy hash " + to_hex(ByteView(hash));
  return answer;
}

Result<Answer> eval(Session&, const EvalOptions& options) {
  auto jail = TRY(policy::start_lua_nursery());
  auto source = TRY(load_policy_argument(options.policy));
  auto limits = TRY(options.limits.limits());
  auto question = TRY(read_question(options.question));
  if (!question.wrong.empty())
    return decision_answer(policy::refused_request(source, question.request, question.wrong));
  return decision_answer(policy::evaluate_jailed(*jail, source, question.request, question.dataset,
                                                 question.ctx, limits));
}

}  // namespace

void add_policy_verbs(CLI::App& app, Session& session) {
  CLI::App* group = add_group(app, "policy", "Try a policy on this machine");
  auto checking = std::make_shared<CheckOptions>();
  CLI::App* verb = add_verb(*group, session, "check", "Whether a text may be published as a policy",
                            checking, check);
  verb->add_option("POLICY", checking->policy, "Lua file")->required();
  auto trying = std::make_shared<EvalOptions>();
  verb = add_verb(*group, session, "eval", "What a policy answers to a request", trying, eval);
  verb->add_option("POLICY", trying->policy, "Lua file")->required();
  trying->question.add_to(*verb);
  trying->limits.add_to(*verb);
}

}  // namespace souk::market
