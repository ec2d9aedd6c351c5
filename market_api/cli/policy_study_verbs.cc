// souk policy test|explain|whatif|replay: a policy looked at from many sides.
#include <algorithm>
#include <map>
#include <set>

#include "market_api/cli/policy_files.h"
#include "market_api/cli/policy_replay_verbs.h"
#include "market_api/cli/session.h"
#include "policy/analysis/mutate.h"
#include "policy/decide/schema.h"
#include "policy/jail/worker.h"
#include "policy/lint/instrument.h"

namespace souk::market {
namespace {

using policy::DecisionStatus;
using policy::PolicyDecision;

constexpr int kStudyWallMs = 60'000;

struct TestOptions {
  std::string policy, cases;
  bool mutate = false;
  LimitOptions limits;
};
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

// --- test -----------------------------------------------------------------------------

// RFC 7396: members of `patch` replace those of `base`, null takes them away.
void merge(Json& base, const Json& patch) {
  if (!patch.object() || !base.object()) {
    base = patch;
    return;
  }
  for (const auto& [name, value] : *patch.object()) {
    if (value.is_null()) {
      base.object()->erase(name);
    } else if (value.object() && base.find(name) && base.find(name)->object()) {
      merge((*base.object())[name], value);
    } else {
      (*base.object())[name] = value;
    }
  }
}

bool is_empty_list(const Json& value) {
  return value.array() && value.array()->empty();
}

struct Case {
  std::string name;
  Json request, dataset, ctx;
  Json::Object expect;
};

Result<Case> read_case(const Json& value, const Json& base, size_t number) {
  const std::string place = "case " + std::to_string(number);
  auto* members = value.object();
  if (!members) return Error(Code::kMalformed, place + ": expected an object");
  Case out;
  out.name = place;
  out.request = *base.find("request");
  out.dataset = *base.find("dataset");
  out.ctx = *base.find("ctx");
  for (const auto& [name, member] : *members) {
    if (name == "name" && member.string()) {
      out.name = *member.string();
    } else if (name == "request" || name == "dataset" || name == "ctx") {
      Json& part = name == "request" ? out.request : name == "dataset" ? out.dataset : out.ctx;
      if (!is_empty_list(member)) merge(part, member);
    } else if (name == "expect" && member.string()) {
      out.expect["status"] = member;
    } else if (name == "expect" && member.object()) {
      for (const auto& [what, expected] : *member.object()) out.expect[what] = expected;
    } else if (name == "status" || name == "allow" || name == "price" || name == "codes" ||
               name == "code" || name == "message" || name == "obligations") {
      out.expect[name] = member;
    } else {
      return Error(Code::kMalformed,
                   place + "." + name + ": expected name, request, dataset, ctx or expect");
    }
  }
  for (Json* part : {&out.request, &out.dataset, &out.ctx}) policy::remove_absent(*part);
  if (out.expect.empty())
    return Error(Code::kMalformed,
                 place + ": expected something under expect, such as {\"status\":\"denied\"}");
  return out;
}

// Empty when the decision is what the case expects.
Result<std::string> difference(const Case& one, const PolicyDecision& decision) {
  std::string out;
  auto differs = [&](const std::string& what, const std::string& got) {
    out += (out.empty() ? "" : "; ") + what + ": got " + got;
  };
  for (const auto& [what, expected] : one.expect) {
    if (what == "status" && expected.string()) {
      if (*expected.string() != policy::status_name(decision.status))
        differs("expected status " + *expected.string(), policy::status_name(decision.status));
    } else if (what == "allow" && expected.boolean()) {
      if (*expected.boolean() != decision.allowed())
        differs(*expected.boolean() ? "expected to be allowed" : "expected a refusal",
                policy::status_name(decision.status));
    } else if (what == "price" && expected.integer()) {
      if (*expected.integer() != decision.price_minor)
        differs("expected price " + std::to_string(*expected.integer()),
                std::to_string(decision.price_minor));
    } else if ((what == "codes" && expected.array()) || (what == "code" && expected.string())) {
      std::set<std::string> wanted, got;
      if (expected.string()) wanted.insert(*expected.string());
      if (auto* list = expected.array()) {
        for (const Json& code : *list) wanted.insert(code.string() ? *code.string() : "");
      }
      for (const auto& reason : decision.reasons) got.insert(reason.code);
      bool fine = what == "codes"
                      ? wanted == got
                      : std::includes(got.begin(), got.end(), wanted.begin(), wanted.end());
      std::string text;
      for (const auto& code : got) text += (text.empty() ? "" : ", ") + code;
      if (!fine)
        differs("expected reason codes " + canonical(expected), text.empty() ? "none" : text);
    } else if (what == "message" && expected.string()) {
      const std::string& words = *expected.string();
      bool said = std::any_of(
          decision.reasons.begin(), decision.reasons.end(),
          [&](const auto& reason) { return reason.message.find(words) != std::string::npos; });
      if (!said)
        differs("expected a reason saying \"" + *expected.string() + "\"",
                decision.reasons.empty() ? "none" : decision.reasons[0].message);
    } else if (what == "obligations") {
      Json got = policy::to_json(decision.obligations);
      if (canonical(got) != canonical(is_empty_list(expected) ? Json(Json::Object{}) : expected))
        differs("expected obligations " + canonical(expected), canonical(got));
    } else {
      return Error(Code::kMalformed,
                   one.name + ": expect." + what +
                       ": expected status, allow, price, code, codes, message or obligations");
    }
  }
  return out;
}

// POLICY_test.json, else POLICY_test.lua, beside POLICY.lua.
Result<std::string> cases_beside(const std::string& path) {
  std::string stem = path.ends_with(".lua") ? path.substr(0, path.size() - 4) : path;
  for (const char* tail : {"_test.json", "_test.lua"}) {
    if (path_exists(stem + tail)) return stem + tail;
  }
  return Error(Code::kMalformed,
               path + ": expected its cases in " + stem + "_test.json (or --cases FILE)");
}

Result<std::vector<Case>> load_cases(policy::Nursery& jail, const std::string& path) {
  Json file;
  if (path.ends_with(".lua")) {
    auto source = TRY(load_policy_argument(path));
    policy::Limits limits;
    limits.output_bytes = 4 << 20;
    auto value = policy::table_jailed(jail, source, limits);
    if (!value) return std::move(value).take_error().within(path);
    file = std::move(*value);
  } else {
    file = TRY(read_json_argument(path));
  }
  Json base = Json::Object{
      {"request", default_request()}, {"dataset", default_dataset()}, {"ctx", default_context()}};
  if (const Json* own = file.find("base"); own && !is_empty_list(*own)) merge(base, *own);
  const Json* list = file.array() ? &file : file.find("cases");
  if (!list || !list->array())
    return Error(Code::kMalformed,
                 path + ": expected a list of cases, or {\"base\":…,\"cases\":[…]}");
  std::vector<Case> out;
  for (const Json& value : *list->array()) {
    auto one = read_case(value, base, out.size() + 1);
    if (!one) return std::move(one).take_error().within(path);
    out.push_back(std::move(*one));
  }
  if (out.empty()) return Error(Code::kMalformed, path + ": expected at least one case");
  return out;
}

Json percent(uint64_t part, uint64_t whole) {
  return whole == 0 ? Json(100) : Json(static_cast<int64_t>(100 * part / whole));
}

struct Coverage {
  Json::Object json;
  std::string text;
};

Coverage coverage_of(const policy::Instrumented& prepared, const policy::Trace& trace) {
  Json::Array missed_lines, missed_branches;
  uint64_t lines = 0, branches = 0;
  for (int line : prepared.lines) {
    if (trace.lines.count(line)) {
      ++lines;
    } else {
      missed_lines.push_back(line);
    }
  }
  std::string text;
  for (size_t i = 0; i < prepared.conditions.size(); ++i) {
    const auto& condition = prepared.conditions[i];
    for (int outcome : {0, 1}) {
      if (trace.conditions[i][static_cast<size_t>(outcome)] > 0) {
        ++branches;
        continue;
      }
      missed_branches.push_back(Json::Object{{"line", condition.line},
                                             {"column", condition.column},
                                             {"text", condition.text},
                                             {"never", outcome == 1}});
      text += "\n  line " + std::to_string(condition.line) + ": never " +
              (outcome == 1 ? "true: " : "false: ") + printable(condition.text);
    }
  }
  uint64_t all_branches = 2 * prepared.conditions.size();
  Coverage out;
  out.json = {{"lines", Json::Object{{"covered", lines},
                                     {"total", prepared.lines.size()},
                                     {"percent", percent(lines, prepared.lines.size())},
                                     {"missed", std::move(missed_lines)}}},
              {"branches", Json::Object{{"covered", branches},
                                        {"total", all_branches},
                                        {"percent", percent(branches, all_branches)},
                                        {"missed", std::move(missed_branches)}}}};
  out.text = std::to_string(lines) + " of " + std::to_string(prepared.lines.size()) + " lines, " +
             std::to_string(branches) + " of " + std::to_string(all_branches) +
             " decision branches" + text;
  return out;
}

// Which mutants of the policy its cases would not notice.
Result<Json> mutation(policy::Nursery& jail, const std::string& source,
                      const std::vector<Case>& cases, const policy::Batch& batch,
                      const policy::Limits& limits, std::string& text) {
  Status wrong_case = Done{};
  auto passes = [&](const std::string& mutant) {
    auto decisions = policy::evaluate_jailed(jail, mutant, batch, limits, kStudyWallMs);
    for (size_t i = 0; i < cases.size(); ++i) {
      auto wrong = difference(cases[i], decisions[i]);
      if (!wrong) wrong_case = std::move(wrong).take_error();
      if (!wrong || !wrong->empty()) return false;
    }
    return true;
  };
  auto report = TRY(policy::analysis::mutation_report(source, passes));
  TRY(std::move(wrong_case));
  Json::Array survivors;
  text += "\n" + std::to_string(report.killed) + " of " + std::to_string(report.mutants) +
          " mutants noticed";
  for (const auto& mutant : report.survivors) {
    survivors.push_back(Json::Object{{"line", mutant.line},
                                     {"operation", mutant.operation},
                                     {"before", mutant.before},
                                     {"after", mutant.after}});
    text += "\n  line " + std::to_string(mutant.line) + ": nobody would notice " +
            printable(mutant.before.empty() ? "nothing" : mutant.before) + " -> " +
            printable(mutant.after.empty() ? "nothing" : mutant.after) + " (" + mutant.operation +
            ")";
  }
  return Json(Json::Object{{"mutants", report.mutants},
                           {"killed", report.killed},
                           {"score", Json::real(report.score())},
                           {"survivors", std::move(survivors)}});
}

Result<Answer> test(Session&, const TestOptions& options) {
  auto jail = TRY(policy::start_lua_nursery());
  auto source = TRY(load_policy_argument(options.policy));
  auto limits = TRY(options.limits.limits());
  std::string path = options.cases.empty() ? TRY(cases_beside(options.policy)) : options.cases;
  auto cases = TRY(load_cases(*jail, path));
  policy::Batch batch;
  for (const Case& one : cases) {
    batch.asks.push_back({batch.requests.size(), batch.requests.size(), batch.requests.size()});
    batch.requests.push_back(&one.request);
    batch.datasets.push_back(&one.dataset);
    batch.contexts.push_back(&one.ctx);
  }
  auto decisions = policy::evaluate_jailed(*jail, source, batch, limits, kStudyWallMs);
  Json::Array results, failed;
  std::string text;
  for (size_t i = 0; i < cases.size(); ++i) {
    std::string wrong = TRY(difference(cases[i], decisions[i]));
    results.push_back(Json::Object{{"name", cases[i].name},
                                   {"ok", wrong.empty()},
                                   {"status", policy::status_name(decisions[i].status)},
                                   {"gas", decisions[i].gas},
                                   {"message", wrong}});
    if (wrong.empty()) continue;
    failed.push_back(Json::Object{{"name", cases[i].name}, {"message", wrong}});
    text += "FAILED " + printable(cases[i].name) + ": " + printable(wrong) + "\n";
  }
  Answer answer;
  size_t passed = cases.size() - failed.size();
  text += std::to_string(passed) + " of " + std::to_string(cases.size()) + " cases as expected";
  answer.json = {{"ok", failed.empty()},
                 {"cases", cases.size()},
                 {"passed", passed},
                 {"failed", failed},
                 {"results", std::move(results)}};
  if (auto prepared = policy::instrument(source)) {
    auto trace = TRY(policy::observe_jailed(*jail, *prepared, batch, limits, kStudyWallMs));
    Coverage coverage = coverage_of(*prepared, trace);
    answer.json["coverage"] = std::move(coverage.json);
    text += "\n" + coverage.text;
  }
  if (options.mutate) {
    if (!failed.empty())
      return Error(Code::kMalformed, "--mutate: expected cases that hold of the policy itself");
    answer.json["mutation"] = TRY(mutation(*jail, source, cases, batch, limits, text));
  }
  answer.text = std::move(text);
  answer.status = failed.empty() ? ExitStatus::kYes : ExitStatus::kNo;
  return answer;
}

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
    return Error(Code::kNotFound, "no recorded contract asked for " +
                                      (options.only.empty() ? "a dataset" : options.only));
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
  auto testing = std::make_shared<TestOptions>();
  CLI::App* verb =
      add_verb(*group, session, "test", "Run a policy's cases; what they cover", testing, test);
  verb->add_option("POLICY", testing->policy, "Lua file")->required();
  verb->add_option("--cases", testing->cases,
                   "JSON or Lua of cases (default: POLICY_test.json beside it)");
  verb->add_flag("--mutate", testing->mutate,
                 "mutation score: which changes of the policy its cases would not notice");
  testing->limits.add_to(*verb);
  auto explaining = std::make_shared<ExplainOptions>();
  verb = add_verb(*group, session, "explain", "Why a policy answers so, and what to change",
                  explaining, explain);
  verb->add_option("POLICY", explaining->policy, "Lua file")->required();
  explaining->question.add_to(*verb);
  verb->add_option("--most", explaining->most, "most remedies (default 5)")
      ->check(CLI::Range(1, 20));
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
