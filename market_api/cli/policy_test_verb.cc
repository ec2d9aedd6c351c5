#include "market_api/cli/policy_test_verb.h"

#include <algorithm>
#include <set>

#include "market_api/cli/policy_files.h"
#include "policy/analysis/mutate.h"
#include "policy/decide/schema.h"
#include "policy/jail/worker.h"
#include "policy/lint/instrument.h"

namespace souk::market {
namespace {

using policy::PolicyDecision;

constexpr int kStudyWallMs = 60'000;

struct TestOptions {
  PolicyFiles policy;
  std::string cases;
  bool mutate = false;
  LimitOptions limits;
};
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
  auto status = out.expect.find("status");
  const std::string* named = status == out.expect.end() ? nullptr : status->second.string();
  if (named && !policy::status_of_name(*named)) {
    return Error(Code::kMalformed, place +
                                       ".expect: expected a status (allowed, denied, error, limit, "
                                       "invalid_request, invalid_policy, publish_rejected), not " +
                                       printable(*named));
  }
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
  for (auto [first, last] : prepared.lines) {
    auto shown = trace.lines.lower_bound(first);
    if (shown != trace.lines.end() && shown->first <= last) {
      ++lines;
    } else {
      missed_lines.push_back(first);
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
Result<Json> mutation(policy::Nursery& jail, const PolicyText& policy,
                      const std::vector<Case>& cases, const policy::Batch& batch,
                      const policy::Limits& limits, std::string& text) {
  Status wrong_case = Done{};
  auto passes = [&](const std::string& mutant) {
    const std::string whole = policy.whole.substr(0, policy.bytes_before()) + mutant;
    auto decisions = policy::evaluate_jailed(jail, whole, batch, limits, kStudyWallMs);
    for (size_t i = 0; i < cases.size(); ++i) {
      auto wrong = difference(cases[i], decisions[i]);
      if (!wrong) wrong_case = std::move(wrong).take_error();
      if (!wrong || !wrong->empty()) return false;
    }
    return true;
  };
  auto report = TRY(policy::analysis::mutation_report(policy.source, passes));
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
  const auto policy = TRY(load_policy(options.policy));
  auto limits = TRY(options.limits.limits());
  std::string path = options.cases.empty() ? TRY(cases_beside(policy.path)) : options.cases;
  auto cases = TRY(load_cases(*jail, path));
  if (auto good = check_policy(policy); !good) {
    Answer refused = refused_policy(good.error());
    refused.json["ok"] = false;
    return refused;
  }
  policy::Batch batch;
  for (const Case& one : cases) {
    batch.asks.push_back({batch.requests.size(), batch.requests.size(), batch.requests.size()});
    batch.requests.push_back(&one.request);
    batch.datasets.push_back(&one.dataset);
    batch.contexts.push_back(&one.ctx);
  }
  auto decisions = policy::evaluate_jailed(*jail, policy.whole, batch, limits, kStudyWallMs);
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
  if (auto prepared = policy::instrument(policy.source)) {
    prepared->source.insert(0, policy.whole, 0, policy.bytes_before());
    auto trace = TRY(policy::observe_jailed(*jail, *prepared, batch, limits, kStudyWallMs));
    Coverage coverage = coverage_of(*prepared, trace);
    answer.json["coverage"] = std::move(coverage.json);
    text += "\n" + coverage.text;
  }
  if (options.mutate) {
    if (!failed.empty())
      return Error(Code::kMalformed, "--mutate: expected cases that hold of the policy itself");
    answer.json["mutation"] = TRY(mutation(*jail, policy, cases, batch, limits, text));
  }
  answer.text = std::move(text);
  answer.status = failed.empty() ? ExitStatus::kYes : ExitStatus::kNo;
  return answer;
}

}  // namespace

void add_policy_test_verb(CLI::App& group, Session& session) {
  auto testing = std::make_shared<TestOptions>();
  CLI::App* verb =
      add_verb(group, session, "test", "Run a policy's cases; what they cover", testing, test);
  testing->policy.add_to(*verb);
  verb->add_option("--cases", testing->cases,
                   "JSON or Lua of cases (default: POLICY_test.json beside it)");
  verb->add_flag("--mutate", testing->mutate,
                 "mutation score: which changes of the policy its cases would not notice");
  testing->limits.add_to(*verb);
}

}  // namespace souk::market
