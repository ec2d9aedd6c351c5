// souk policy check|eval: try a policy before it is published.
#include "market_api/cli/session.h"
#include "policy/decide/source.h"
#include "policy/jail/worker.h"

namespace souk::market {
namespace {

struct CheckOptions {
  std::string policy;
};
struct EvalOptions {
  std::string policy, request, dataset, ctx;
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

Result<Json> load_json_argument(const std::string& path) {
  auto bytes = TRY(load_argument(path, 1 << 20));
  auto json = parse_json(as_text(bytes));
  if (!json) return std::move(json).take_error().within(path);
  return json;
}

// A dataset and a moment for those who only care about the request.
Json sample_dataset() {
  policy::DatasetFacts facts;
  facts.name = "sample";
  facts.provider_name = "sample";
  facts.rows = 1000;
  facts.budget_epsilon_micro = 8'000'000;
  facts.budget_delta_pico = 10'000'000;
  return policy::build_dataset(facts);
}

Result<Answer> eval(Session& session, const EvalOptions& options) {
  auto jail = TRY(policy::start_lua_nursery());
  auto source = TRY(load_argument(options.policy, policy::kMaxSourceBytes));
  auto request = TRY(load_json_argument(options.request));
  Json dataset =
      options.dataset.empty() ? sample_dataset() : TRY(load_json_argument(options.dataset));
  policy::ContextFacts now;
  now.now_ms = session.now();
  Json ctx =
      options.ctx.empty() ? policy::build_context(now) : TRY(load_json_argument(options.ctx));
  auto decision = policy::evaluate_jailed(*jail, as_text(source), request, dataset, ctx);
  Answer answer;
  answer.json = *decision.to_json().object();
  answer.text = policy::status_name(decision.status);
  if (decision.allowed()) answer.text += ", price " + std::to_string(decision.price_minor);
  Json::Array reasons;
  for (const auto& reason : decision.reasons) reasons.push_back(policy::to_json(reason));
  if (std::string why = reasons_text(reasons); !why.empty()) answer.text += "\n" + why;
  answer.text += "\n" + std::to_string(decision.gas) + " gas";
  bool malformed = decision.status == policy::DecisionStatus::kInvalidRequest ||
                   decision.status == policy::DecisionStatus::kInvalidPolicy;
  answer.status = decision.allowed() ? ExitStatus::kYes
                  : malformed        ? ExitStatus::kUsage
                                     : ExitStatus::kNo;
  return answer;
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
  verb->add_option("--request", trying->request, "JSON of the request")->required();
  verb->add_option("--dataset", trying->dataset, "JSON of the dataset (default: a sample)");
  verb->add_option("--ctx", trying->ctx, "JSON of the context (default: now, nothing spent)");
}

}  // namespace souk::market
