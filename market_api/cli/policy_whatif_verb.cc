#include "market_api/cli/policy_whatif_verb.h"

#include <map>

#include "market_api/cli/policy_files.h"
#include "market_api/cli/policy_replay_verbs.h"
#include "policy/decide/schema.h"
#include "policy/jail/worker.h"

namespace souk::market {
namespace {

using policy::DecisionStatus;
using policy::PolicyDecision;

constexpr int kStudyWallMs = 60'000;

struct WhatIfOptions {
  PolicyFiles policy, against;
  std::string request, dataset, ctx, datasets, requests, data, market_id, only;
  LimitOptions limits;
  bool many_datasets() const { return !datasets.empty(); }
};

struct Asked {
  std::string name;
  Json request, dataset, ctx;
  std::optional<PolicyText> own;  // the dataset's policy
};

// What has been read, or the answer that says what is wrong with it.
template <class T>
using ReadOr = std::variant<T, Answer>;

// What is asked about, by the side it is asked from.
struct Row {
  std::string name;
  Outcome now;
  std::optional<Outcome> was;
};

Result<Json> read_part(const std::string& path, Json otherwise) {
  if (path.empty()) return otherwise;
  auto json = TRY(read_json_argument(path));
  policy::remove_absent(json);
  return json;
}

// Members of an item that holds parts, not of a part itself.
Status check_item(const Json& item, bool many_datasets) {
  for (const auto& [name, value] : *item.object()) {
    bool part = name == "request" || name == "dataset" || name == "ctx";
    bool own = many_datasets && (name == "policy" || name == "parameters");
    if (!part && !own) {
      return Error(Code::kMalformed, "expected no member " + name + " beside " +
                                         (many_datasets ? "dataset, ctx, policy and parameters"
                                                        : "request, dataset and ctx"));
    }
    if (name == "policy" && !value.string())
      return Error(Code::kMalformed, "policy: expected the name of a Lua file");
  }
  if (item.find("parameters") && !item.find("policy"))
    return Error(Code::kMalformed, "parameters: expected a policy with them");
  return Done{};
}

// One item of a list: a part, or {"request":…,"dataset":…,"ctx":…,"policy":FILE}.
Result<Asked> read_item(Json item, const std::string& path, bool many_datasets, Asked asked) {
  policy::remove_absent(item);
  const char* what = many_datasets ? "dataset" : "request";
  Json& about = many_datasets ? asked.dataset : asked.request;
  const Json* wrapped = item.find(what);
  if (!wrapped || !wrapped->object()) {
    about = item;
    TRY(policy::check_schema(what, about));
  } else {
    TRY(check_item(item, many_datasets));
    for (auto [root, part] : {std::pair("request", &asked.request),
                              std::pair("dataset", &asked.dataset), std::pair("ctx", &asked.ctx)}) {
      const Json* given = item.find(root);
      if (!given) continue;
      *part = *given;
      TRY(policy::check_schema(root, *part));
    }
    if (const Json* file = item.find("policy")) {
      size_t slash = path.rfind('/');
      bool relative = !file->string()->starts_with("/") && slash != std::string::npos;
      const Json* given = item.find("parameters");
      std::string name = (relative ? path.substr(0, slash + 1) : "") + *file->string();
      std::string source = TRY(load_policy_argument(name));
      asked.own = TRY(policy_text(name, std::move(source), given ? *given : Json(Json::Object{})));
    }
  }
  const Json *id = about.find("id"), *name = about.find("name");
  if (id && id->string()) asked.name = *id->string();
  if (name && name->string() && !name->string()->empty()) asked.name = *name->string();
  return asked;
}

// Every item of the list is a question that its schema accepts, to a policy that can be asked.
Result<ReadOr<std::vector<Asked>>> read_asked(const WhatIfOptions& options) {
  Asked otherwise;
  otherwise.request = TRY(read_part(options.request, Json()));
  otherwise.dataset = TRY(read_part(options.dataset, default_dataset()));
  otherwise.ctx = TRY(read_part(options.ctx, default_context()));
  auto invalid = [](const Error& why, const std::string& path) {
    return refused_input(DecisionStatus::kInvalidRequest, about_file(why, path).expected());
  };
  const bool many = options.many_datasets();
  if (many) {
    if (auto good = policy::check_schema("request", otherwise.request); !good)
      return {invalid(good.error(), options.request)};
  }
  if (auto good = policy::check_schema("dataset", otherwise.dataset); !good)
    return {invalid(good.error(), options.dataset)};
  if (auto good = policy::check_schema("ctx", otherwise.ctx); !good)
    return {invalid(good.error(), options.ctx)};
  const std::string& path = many ? options.datasets : options.requests;
  const auto file = TRY(read_json_argument(path));
  auto* list = file.array();
  if (!list || list->empty()) {
    return Error(Code::kMalformed,
                 path + ": expected a list of " + (many ? "datasets" : "requests"));
  }
  if (list->size() > policy::kMaxAsked)
    return Error(Code::kMalformed,
                 path + ": expected at most " + std::to_string(policy::kMaxAsked));
  std::vector<Asked> out;
  for (const Json& item : *list) {
    const std::string place = std::to_string(out.size() + 1);
    otherwise.name = place;
    auto asked = read_item(item, path, many, otherwise);
    if (!asked) return {invalid(std::move(asked).take_error().within("item " + place), path)};
    if (asked->own) {
      auto good = check_policy(*asked->own);
      if (!good)
        return {refused_policy(std::move(good).take_error().within(path + ": item " + place))};
    }
    out.push_back(std::move(*asked));
  }
  return {std::move(out)};
}

// Decisions of `source` on all of them, or each by its own policy where it has one.
std::vector<PolicyDecision> decide_all(policy::Nursery& jail, const std::vector<Asked>& all,
                                       const std::string& source, bool own_policies,
                                       const policy::Limits& limits) {
  std::map<std::string, std::vector<size_t>> by_source;
  for (size_t i = 0; i < all.size(); ++i)
    by_source[own_policies && all[i].own ? all[i].own->whole : source].push_back(i);
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

// Of one policy alone: it would be paid its price, and spend what the request asks for.
Outcome outcome_of(const PolicyDecision& decision, const Json& request) {
  Json::Array reasons;
  for (const auto& reason : decision.reasons) reasons.push_back(policy::to_json(reason));
  const Json* dp = request.find("dp");
  const Json* epsilon = dp ? dp->find("epsilon_micro") : nullptr;
  bool spends = decision.allowed() && epsilon && epsilon->integer();
  return {policy::status_name(decision.status), decision.allowed(), std::move(reasons),
          decision.price_minor, spends ? *epsilon->integer() : 0};
}

// The contracts a market has decided on: as its ledger says they came out, and as its decisions
// would have come out with the draft in place of the datasets' own policies.
Result<std::vector<Row>> rows_recorded(Session& session, policy::Nursery& jail,
                                       const WhatIfOptions& options, const PolicyText& draft,
                                       const std::optional<PolicyText>& current,
                                       const policy::Limits& limits) {
  auto wanted = [&](const Json& dataset) {
    const Json *name = dataset.find("name"), *id = dataset.find("id");
    return options.only.empty() || (name && *name == Json(options.only)) ||
           (id && id->string() && id->string()->starts_with(options.only));
  };
  auto in_place = [&](const PolicyText& policy) {
    return Draft{
        wanted, [&](std::string_view, const Json& request, const Json& dataset, const Json& ctx) {
          return policy::evaluate_jailed(jail, policy.whole, request, dataset, ctx, limits);
        }};
  };
  std::vector<Draft> drafts{in_place(draft)};
  if (current) drafts.push_back(in_place(*current));
  auto replayed = TRY(replay_data(session, jail, options.data, options.market_id, drafts));
  // What another engine decided stands as it is recorded; drafts are asked by this one.
  if (replayed.first_differing || !replayed.whole)
    return Error(Code::kRefused, "the ledger does not come out as recorded: " + replayed.reason);
  std::vector<Row> out;
  for (auto& question : replayed.questions) {
    if (!question.counts || !wanted(question.dataset)) continue;
    out.push_back({short_hex(to_hex(question.contract)), std::move(question.drafts[0]),
                   current ? std::move(question.drafts[1]) : std::move(question.recorded)});
  }
  if (out.empty())
    return Error(Code::kNotFound,
                 options.only.empty()
                     ? "no contract has been decided on this ledger yet"
                     : "no decided contract asked for " + options.only +
                           ": expected a dataset's name, or 6 or more first digits of its id");
  return out;
}

Result<ReadOr<std::vector<Row>>> rows_listed(policy::Nursery& jail, const WhatIfOptions& options,
                                             const PolicyText& draft,
                                             const std::optional<PolicyText>& current,
                                             const policy::Limits& limits) {
  auto read = TRY(read_asked(options));
  if (auto* wrong = std::get_if<Answer>(&read)) return {std::move(*wrong)};
  const auto& all = std::get<std::vector<Asked>>(read);
  bool own_policies = options.many_datasets() && !current;
  auto now = decide_all(jail, all, draft.whole, own_policies, limits);
  std::vector<Row> out;
  for (size_t i = 0; i < all.size(); ++i)
    out.push_back({all[i].name, outcome_of(now[i], all[i].request), std::nullopt});
  if (current) {
    auto was = decide_all(jail, all, current->whole, false, limits);
    for (size_t i = 0; i < all.size(); ++i) out[i].was = outcome_of(was[i], all[i].request);
  }
  return {std::move(out)};
}

std::string first_reason(const Json& reasons) {
  if (!reasons.array() || reasons.array()->empty()) return "";
  auto text = [&](const char* member) {
    const Json* value = reasons.array()->front().find(member);
    return value && value->string() ? *value->string() : std::string();
  };
  std::string message = text("message");
  return text("code") + (message.empty() ? "" : ": " + message);
}

Json change(int64_t was, int64_t now) {
  return Json::Object{{"was", was}, {"now", now}, {"change", now - was}};
}

Answer answer_of(std::vector<Row> all, bool many_datasets) {
  Json::Array results, gains, loses;
  int64_t money_was = 0, money_now = 0, epsilon_was = 0, epsilon_now = 0;
  uint64_t allowed = 0, unchanged = 0;
  std::map<std::string, int64_t> statuses;
  std::vector<std::vector<std::string>> rows{
      {many_datasets ? "dataset" : "contract", "now", "price", "why"}};
  const bool compared = all.front().was.has_value();
  for (auto& [name, now, was] : all) {
    ++statuses[now.status];
    allowed += now.allow;
    money_now += now.price;
    epsilon_now += now.epsilon_micro;
    if (rows.size() <= 100) {
      rows.push_back({printable(name), now.status, std::to_string(now.price),
                      printable(first_reason(now.reasons))});
    }
    Json::Object item{{"name", name},
                      {"status", now.status},
                      {"allow", now.allow},
                      {"price", now.price},
                      {"reasons", std::move(now.reasons)}};
    if (was) {
      item["was"] = was->status;
      item["price_was"] = was->price;
      money_was += was->price;
      epsilon_was += was->epsilon_micro;
      if (now.allow && !was->allow) gains.push_back(name);
      if (!now.allow && was->allow) loses.push_back(name);
      unchanged += now.allow == was->allow && now.price == was->price;
    }
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
  if (!compared) {
    answer.json["money"] = Json::Object{{"now", money_now}};
    answer.json["epsilon_micro"] = Json::Object{{"now", epsilon_now}};
    return answer;
  }
  answer.text += "\n" + std::to_string(gains.size()) + " gain, " + std::to_string(loses.size()) +
                 " lose; money " + std::to_string(money_now - money_was) + ", epsilon " +
                 (epsilon_now < epsilon_was ? "-" : "") +
                 millionths_text(std::abs(epsilon_now - epsilon_was));
  answer.json["gains"] = std::move(gains);
  answer.json["loses"] = std::move(loses);
  answer.json["unchanged"] = unchanged;
  answer.json["money"] = change(money_was, money_now);
  answer.json["epsilon_micro"] = change(epsilon_was, epsilon_now);
  return answer;
}

Result<Answer> whatif(Session& session, const WhatIfOptions& options) {
  int sources = !options.datasets.empty() + !options.requests.empty() + !options.data.empty();
  if (sources != 1) {
    return Error(Code::kMalformed,
                 "expected one of --datasets (a contract against them all), --requests and --data "
                 "(a policy against many contracts)");
  }
  if (options.many_datasets() && options.request.empty())
    return Error(Code::kMalformed, "--datasets: expected --request with it");
  if (options.against.policy.empty() && !options.against.parameters.empty())
    return Error(Code::kMalformed, "--against-parameters: expected --against with it");
  auto jail = TRY(policy::start_lua_nursery());
  const auto draft = TRY(load_policy(options.policy));
  if (auto good = check_policy(draft); !good) return refused_policy(good.error());
  std::optional<PolicyText> current;
  if (!options.against.policy.empty()) {
    current = TRY(load_policy(options.against));
    if (auto good = check_policy(*current); !good) return refused_policy(good.error());
  }
  const auto limits = TRY(options.limits.limits());
  if (!options.data.empty()) {
    auto rows = TRY(rows_recorded(session, *jail, options, draft, current, limits));
    return answer_of(std::move(rows), false);
  }
  auto rows = TRY(rows_listed(*jail, options, draft, current, limits));
  if (auto* wrong = std::get_if<Answer>(&rows)) return std::move(*wrong);
  return answer_of(std::move(std::get<std::vector<Row>>(rows)), options.many_datasets());
}

}  // namespace

void add_policy_whatif_verb(CLI::App& group, Session& session) {
  auto asking = std::make_shared<WhatIfOptions>();
  CLI::App* verb = add_verb(
      group, session, "whatif",
      "One contract against many datasets, or a policy against many contracts", asking, whatif);
  asking->policy.add_to(*verb);
  verb->add_option("--request", asking->request, "JSON of the contract");
  verb->add_option("--datasets", asking->datasets,
                   "JSON list of datasets, or of {dataset, ctx, policy, parameters}");
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
  verb->add_option("--against", asking->against.policy,
                   "the policy there is now: who gains, who loses");
  verb->add_option("--against-parameters", asking->against.parameters,
                   "JSON object that the policy of --against reads as `parameters`");
  asking->limits.add_to(*verb);
}

}  // namespace souk::market
