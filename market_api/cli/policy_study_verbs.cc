// souk policy explain|whatif: a policy looked at from many sides.
#include <algorithm>
#include <map>
#include <set>

#include "market_api/cli/policy_files.h"
#include "market_api/cli/policy_replay_verbs.h"
#include "market_api/cli/policy_test_verb.h"
#include "market_api/cli/session.h"
#include "policy/decide/schema.h"
#include "policy/jail/worker.h"

namespace souk::market {
namespace {

using policy::DecisionStatus;
using policy::PolicyDecision;

constexpr int kStudyWallMs = 60'000;

struct ExplainOptions {
  std::string policy;
  QuestionFiles question;
  LimitOptions limits;
  int most = 5;
};
struct WhatIfOptions {
  std::string policy, request, dataset, ctx, datasets, requests, against, data, market_id, only;
  LimitOptions limits;
};

// --- explain ----------------------------------------------------------------------------

std::string value_text(const Json& value) {
  return value.string() ? *value.string() : canonical(value);
}

Result<Answer> explain(Session&, const ExplainOptions& options) {
  auto jail = TRY(policy::start_lua_nursery());
  auto source = TRY(load_policy_argument(options.policy));
  auto limits = TRY(options.limits.limits());
  auto question = TRY(read_question(options.question));
  if (!question.wrong.empty())
    return decision_answer(policy::refused_request(source, question.request, question.wrong),
                           options.policy, options.question);
  auto decision = policy::evaluate_jailed(*jail, source, question.request, question.dataset,
                                          question.ctx, limits);
  Answer answer = decision_answer(decision, options.policy, options.question);
  Json::Array read;
  std::string text;
  for (const auto& path : decision.read_set) {
    std::string_view rest = path;
    bool length = rest.front() == '#';
    if (length) rest.remove_prefix(1);
    const Json* root = rest.starts_with("request")   ? &question.request
                       : rest.starts_with("dataset") ? &question.dataset
                                                     : &question.ctx;
    Json value = value_at(*root, rest);
    if (length) value = value.array() ? Json(value.array()->size()) : Json();
    read.push_back(Json::Object{{"path", path}, {"value", value}});
    text += "\n  it read " + path + " = " + printable(value_text(value));
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
    text += "\n  no change of up to three fields was found that it would allow";
  answer.json["remedies"] = std::move(remedies);
  answer.text += text;
  return answer;
}

// --- whatif -----------------------------------------------------------------------------

struct Asked {
  std::string name;
  Json request, dataset, ctx;
  std::string source;  // of the dataset's own policy, or empty
};

// A list of parts, or of {"request":…,"dataset":…,"ctx":…,"policy":FILE} each.
Result<std::vector<Asked>> read_asked(const std::string& path, const std::string& what,
                                      const Asked& otherwise) {
  auto file = TRY(read_json_argument(path));
  auto* list = file.array();
  if (!list || list->empty())
    return Error(Code::kMalformed, path + ": expected a list of " + what + "s");
  if (list->size() > policy::kMaxAsked)
    return Error(Code::kMalformed,
                 path + ": expected at most " + std::to_string(policy::kMaxAsked));
  std::vector<Asked> out;
  for (const Json& item : *list) {
    Asked asked = otherwise;
    const Json* part = item.find(what);
    bool wrapped = part && part->object();
    Json& own = what == "request" ? asked.request : asked.dataset;
    own = wrapped ? *part : item;
    for (const char* other : {"request", "dataset", "ctx"}) {
      const Json* given = wrapped && other != what ? item.find(other) : nullptr;
      if (given)
        (std::string_view(other) == "request"   ? asked.request
         : std::string_view(other) == "dataset" ? asked.dataset
                                                : asked.ctx) = *given;
    }
    if (const Json* file_name = wrapped ? item.find("policy") : nullptr;
        file_name && file_name->string()) {
      size_t slash = path.rfind('/');
      bool relative = file_name->string()->front() != '/' && slash != std::string::npos;
      asked.source = TRY(
          load_policy_argument((relative ? path.substr(0, slash + 1) : "") + *file_name->string()));
    }
    const Json* id = own.find("id");
    asked.name = id && id->string() ? *id->string() : std::to_string(out.size() + 1);
    if (const Json* name = own.find("name"); name && name->string() && !name->string()->empty())
      asked.name = *name->string();
    out.push_back(std::move(asked));
  }
  return out;
}

// Decisions of `source` on all of them, or each by its own policy where it has one.
std::vector<PolicyDecision> decide_all(policy::Nursery& jail, const std::vector<Asked>& all,
                                       const std::string& source, bool own_policies,
                                       const policy::Limits& limits) {
  std::map<std::string, std::vector<size_t>> by_source;
  for (size_t i = 0; i < all.size(); ++i)
    by_source[own_policies && !all[i].source.empty() ? all[i].source : source].push_back(i);
  std::vector<PolicyDecision> out(all.size());
  for (const auto& [text, places] : by_source) {
    policy::Batch batch;
    std::map<std::string, size_t> known;
    for (size_t i : places) {
      std::array<size_t, 3> ask{};
      auto place = [&](std::vector<const Json*>& list, const Json& value, char kind) {
        auto [it, fresh] = known.try_emplace(kind + canonical(value), list.size());
        if (fresh) list.push_back(&value);
        return it->second;
      };
      ask[0] = place(batch.requests, all[i].request, 'r');
      ask[1] = place(batch.datasets, all[i].dataset, 'd');
      ask[2] = place(batch.contexts, all[i].ctx, 'c');
      batch.asks.push_back(ask);
    }
    auto decisions = policy::evaluate_jailed(jail, text, batch, limits, kStudyWallMs);
    for (size_t n = 0; n < places.size(); ++n) out[places[n]] = std::move(decisions[n]);
  }
  return out;
}

int64_t epsilon_of(const Json& request) {
  const Json* dp = request.find("dp");
  const Json* epsilon = dp ? dp->find("epsilon_micro") : nullptr;
  return epsilon && epsilon->integer() ? *epsilon->integer() : 0;
}

Json change(int64_t was, int64_t now) {
  return Json::Object{{"was", was}, {"now", now}, {"change", now - was}};
}

// The contracts a market has decided on, as questions to one dataset's policy.
Result<std::vector<Asked>> read_recorded(Session& session, const WhatIfOptions& options,
                                         std::vector<PolicyDecision>& answers) {
  auto replayed = TRY(replay_data(session, options.data, options.market_id));
  if (!replayed.ok)
    return Error(Code::kRefused, "the ledger does not come out as recorded: " + replayed.reason);
  std::vector<Asked> out;
  for (auto& question : replayed.questions) {
    const Json *name = question.dataset.find("name"), *id = question.dataset.find("id");
    bool wanted = options.only.empty() || (name && *name == Json(options.only)) ||
                  (id && id->string() && id->string()->starts_with(options.only));
    if (!wanted) continue;
    out.push_back({short_hex(to_hex(question.contract)), std::move(question.request),
                   std::move(question.dataset), std::move(question.ctx), ""});
    answers.push_back(std::move(question.answer));
  }
  if (out.empty())
    return Error(Code::kNotFound,
                 options.only.empty()
                     ? "no contract has been decided on this ledger yet"
                     : "no decided contract asked for " + options.only +
                           ": expected a dataset's name, or 6 or more first digits of its id");
  return out;
}

Result<Answer> whatif(Session& session, const WhatIfOptions& options) {
  int sources = !options.datasets.empty() + !options.requests.empty() + !options.data.empty();
  if (sources != 1) {
    return Error(Code::kMalformed,
                 "expected one of --datasets (a contract against them all), --requests and --data "
                 "(a policy against many contracts)");
  }
  if (!options.datasets.empty() && options.request.empty())
    return Error(Code::kMalformed, "--datasets: expected --request with it");
  auto jail = TRY(policy::start_lua_nursery());
  auto source = TRY(load_policy_argument(options.policy));
  auto limits = TRY(options.limits.limits());
  Asked otherwise{"", Json(), default_dataset(), default_context(), ""};
  if (!options.request.empty()) otherwise.request = TRY(read_json_argument(options.request));
  if (!options.dataset.empty()) otherwise.dataset = TRY(read_json_argument(options.dataset));
  if (!options.ctx.empty()) otherwise.ctx = TRY(read_json_argument(options.ctx));
  std::string current;
  if (!options.against.empty()) current = TRY(load_policy_argument(options.against));
  const bool many_datasets = !options.datasets.empty();
  std::optional<std::vector<PolicyDecision>> was;
  std::vector<Asked> all;
  if (options.data.empty()) {
    all = TRY(read_asked(many_datasets ? options.datasets : options.requests,
                         many_datasets ? "dataset" : "request", otherwise));
  } else {
    was.emplace();
    all = TRY(read_recorded(session, options, *was));
  }
  auto now = decide_all(*jail, all, source, many_datasets && options.against.empty(), limits);
  if (!options.against.empty()) {
    was = decide_all(*jail, all, current, false, limits);
  }
  Json::Array results, gains, loses;
  int64_t money_was = 0, money_now = 0, epsilon_was = 0, epsilon_now = 0;
  uint64_t allowed = 0, unchanged = 0;
  std::map<std::string, int64_t> statuses;
  std::vector<std::vector<std::string>> rows{
      {many_datasets ? "dataset" : "contract", "now", "price", "why"}};
  for (size_t i = 0; i < all.size(); ++i) {
    const PolicyDecision& decision = now[i];
    Json::Object item{{"name", all[i].name},
                      {"status", policy::status_name(decision.status)},
                      {"allow", decision.allowed()},
                      {"price", decision.price_minor}};
    Json::Array reasons;
    for (const auto& reason : decision.reasons) reasons.push_back(policy::to_json(reason));
    item["reasons"] = std::move(reasons);
    ++statuses[policy::status_name(decision.status)];
    allowed += decision.allowed();
    money_now += decision.price_minor;
    if (decision.allowed()) epsilon_now += epsilon_of(all[i].request);
    if (was) {
      const PolicyDecision& before = (*was)[i];
      item["was"] = policy::status_name(before.status);
      item["price_was"] = before.price_minor;
      money_was += before.price_minor;
      if (before.allowed()) epsilon_was += epsilon_of(all[i].request);
      if (decision.allowed() && !before.allowed()) gains.push_back(all[i].name);
      if (!decision.allowed() && before.allowed()) loses.push_back(all[i].name);
      unchanged +=
          decision.allowed() == before.allowed() && decision.price_minor == before.price_minor;
    }
    std::string why =
        decision.reasons.empty()
            ? ""
            : decision.reasons[0].code +
                  (decision.reasons[0].message.empty() ? "" : ": " + decision.reasons[0].message);
    if (rows.size() <= 100)
      rows.push_back({printable(all[i].name), policy::status_name(decision.status),
                      std::to_string(decision.price_minor), printable(why)});
    results.emplace_back(std::move(item));
  }
  Json::Object counts;
  for (const auto& [status, count] : statuses) counts[status] = count;
  Answer answer;
  answer.json = {{"asked", all.size()},
                 {"allowed", allowed},
                 {"refused", all.size() - allowed},
                 {"statuses", std::move(counts)},
                 {"results", std::move(results)}};
  answer.text = table_text(rows) + "\n" + std::to_string(allowed) + " of " +
                std::to_string(all.size()) + " allowed, " + std::to_string(money_now) +
                " to be paid";
  if (was) {
    answer.text += "\n" + std::to_string(gains.size()) + " gain, " + std::to_string(loses.size()) +
                   " lose; money " + std::to_string(money_now - money_was) + ", epsilon " +
                   (epsilon_now < epsilon_was ? "-" : "") +
                   millionths_text(std::abs(epsilon_now - epsilon_was));
    answer.json["gains"] = std::move(gains);
    answer.json["loses"] = std::move(loses);
    answer.json["unchanged"] = unchanged;
    answer.json["money"] = change(money_was, money_now);
    answer.json["epsilon_micro"] = change(epsilon_was, epsilon_now);
  } else {
    answer.json["money"] = Json::Object{{"now", money_now}};
    answer.json["epsilon_micro"] = Json::Object{{"now", epsilon_now}};
  }
  return answer;
}

}  // namespace

void add_policy_study_verbs(CLI::App& app, Session& session) {
  CLI::App* group = app.get_subcommand("policy");
  add_policy_test_verb(*group, session);
  auto explaining = std::make_shared<ExplainOptions>();
  CLI::App* verb = add_verb(*group, session, "explain",
                            "Why a policy answers so, and what to change", explaining, explain);
  verb->add_option("POLICY", explaining->policy, "Lua file")->required();
  explaining->question.add_to(*verb);
  verb->add_option("--most", explaining->most, "most remedies (default 5)")
      ->check(whole_number(1, 20));
  explaining->limits.add_to(*verb);
  auto asking = std::make_shared<WhatIfOptions>();
  verb = add_verb(*group, session, "whatif",
                  "One contract against many datasets, or a policy against many contracts", asking,
                  whatif);
  verb->add_option("POLICY", asking->policy, "Lua file")->required();
  verb->add_option("--request", asking->request, "JSON of the contract");
  verb->add_option("--datasets", asking->datasets,
                   "JSON list of datasets, or of {dataset, ctx, policy}");
  verb->add_option("--requests", asking->requests,
                   "JSON list of requests, or of {request, dataset, ctx}");
  verb->add_option("--dataset", asking->dataset, "JSON of the dataset (default: a sample)");
  verb->add_option("--ctx", asking->ctx, "JSON of the context (default: a sample)");
  verb->add_option("--data", asking->data,
                   "a market's folder: against all contracts it has decided on");
  verb->add_option("--market-id", asking->market_id,
                   "which market it must be (default: the pinned one)");
  verb->add_option("--only", asking->only,
                   "with --data: the dataset, by name or the first digits of its id");
  verb->add_option("--against", asking->against, "the policy there is now: who gains, who loses");
  asking->limits.add_to(*verb);
  add_policy_replay_verb(*group, session);
}

}  // namespace souk::market
