// souk policy new|templates|prove|diff: policies out of the library, and what is true of them.
#include <algorithm>

#include "market_api/cli/policy_files.h"
#include "market_api/cli/session.h"
#include "market_api/client/local_files.h"
#include "policy/analysis/prove.h"
#include "policy/jail/worker.h"
#include "policy/templates/template.h"

namespace souk::market {
namespace {

struct NewOptions {
  std::vector<std::string> templates, settings;
  std::string out;
};
struct ListOptions {
  std::string name;
};
struct EffortOptions {
  uint64_t seed = 1;
  std::optional<uint64_t> evaluations;
  double seconds = 10;
  unsigned threads = 2;
  void add_to(CLI::App& verb) {
    verb.add_option("--seed", seed, "seed of the search (default 1)");
    verb.add_option("--seconds", seconds, "how long to look (default 10)");
    verb.add_option(
        "--evaluations", evaluations,
        "at most this many for each thread, 1 or more (default: as many as --seconds allows); with "
        "--seed and --threads it repeats a certificate");
    verb.add_option("--threads", threads, "threads of the search (default 2)");
  }
  Result<policy::analysis::Effort> effort() const {
    if (!(seconds > 0 && seconds <= 86'400))
      return Error(Code::kMalformed, "--seconds: expected more than 0, at most 86400");
    if (seed > static_cast<uint64_t>(kMaxJsonInteger) - 64)
      return Error(Code::kMalformed, "--seed: expected a number below 2^53");
    if (threads < 1 || threads > 64) return Error(Code::kMalformed, "--threads: expected 1 to 64");
    if (evaluations == 0u) {
      return Error(
          Code::kMalformed,
          "--evaluations: expected 1 or more (without it --seconds alone ends the search)");
    }
    return policy::analysis::Effort{seed, seconds, evaluations.value_or(UINT64_MAX), threads};
  }
};
struct ProveOptions {
  PolicyFiles policy;
  std::string invariant;
  EffortOptions effort;
};
struct DiffOptions {
  std::string a, b, parameters, parameters_of_b;
  EffortOptions effort;
};

// "key=value" for the one template that has the key, or "template.key=value".
Result<Done> place_setting(const std::string& setting, const std::vector<std::string>& names,
                           std::vector<std::map<std::string, std::string>>& settings) {
  size_t equals = setting.find('=');
  if (equals == std::string::npos || equals == 0) {
    return Error(Code::kMalformed, "--set: expected key=value or template.key=value");
  }
  std::string key = setting.substr(0, equals), value = setting.substr(equals + 1), wanted;
  if (size_t dot = key.find('.'); dot != std::string::npos) {
    wanted = key.substr(0, dot);
    key = key.substr(dot + 1);
  }
  std::vector<size_t> found;
  for (size_t i = 0; i < names.size(); ++i) {
    const auto* kind = TRY(policy::find_template(names[i]));
    bool named = wanted.empty() ? std::any_of(kind->parameters.begin(), kind->parameters.end(),
                                              [&](const auto& p) { return p.name == key; })
                                : wanted == names[i];
    if (named) found.push_back(i);
  }
  if (found.size() != 1) {
    std::string known;
    for (const auto& name : names) {
      const auto* kind = TRY(policy::find_template(name));
      for (const auto& parameter : kind->parameters)
        known += (known.empty() ? "" : ", ") + name + "." + parameter.name;
    }
    return Error(Code::kMalformed,
                 "--set " + key + ": expected " +
                     (found.empty() ? "a parameter of one of the templates: " + known
                                    : "template." + key + ", several templates have one"));
  }
  settings[found[0]][key] = value;
  return Done{};
}

Result<Answer> make(Session&, const NewOptions& options) {
  std::vector<std::map<std::string, std::string>> settings(options.templates.size());
  for (const auto& setting : options.settings)
    TRY(place_setting(setting, options.templates, settings));
  std::vector<policy::Chosen> parts;
  Json::Array names, sentences, parameters;
  for (size_t i = 0; i < options.templates.size(); ++i) {
    auto chosen = TRY(policy::choose_from_text(options.templates[i], settings[i]));
    names.push_back(options.templates[i]);
    sentences.push_back(policy::reading(chosen));
    parameters.push_back(
        Json::Object{{"template", options.templates[i]}, {"values", chosen.values}});
    parts.push_back(std::move(chosen));
  }
  auto source = TRY(policy::compose(parts));
  Answer answer;
  answer.json = {{"templates", std::move(names)},
                 {"parameters", std::move(parameters)},
                 {"reading", sentences},
                 {"source", source},
                 {"policy_hash", contracts::policy_hash(source)}};
  if (options.out.empty()) {
    answer.text = source.substr(0, source.size() - 1);  // print() ends the last line
    return answer;
  }
  TRY(save_file(options.out, as_bytes(source), FileMode::kShared));
  answer.json["out"] = options.out;
  answer.text = "wrote " + options.out + ":";
  for (const Json& sentence : sentences) answer.text += "\n  " + *sentence.string();
  return answer;
}

Json describe(const policy::Template& kind) {
  Json::Array parameters, conditions, obligations;
  for (const auto& parameter : kind.parameters) {
    Json::Object item{{"name", parameter.name},
                      {"type", policy::type_name(parameter.type)},
                      {"what", parameter.what},
                      {"default", parameter.fallback}};
    bool numbers = parameter.type == policy::ParameterType::kInteger ||
                   parameter.type == policy::ParameterType::kTime ||
                   parameter.type == policy::ParameterType::kIntegers ||
                   parameter.type == policy::ParameterType::kAmounts;
    if (numbers) {
      item["min"] = parameter.min;
      item["max"] = parameter.max;
    }
    if (!parameter.choices.empty()) {
      Json::Array choices;
      for (const auto& choice : parameter.choices) choices.push_back(choice);
      item["choices"] = std::move(choices);
    }
    parameters.push_back(std::move(item));
  }
  for (const auto& row : kind.conditions) {
    conditions.push_back(
        Json::Object{{"code", row.code}, {"left", row.left}, {"op", row.op}, {"right", row.right}});
  }
  for (const auto& row : kind.obligations)
    obligations.push_back(Json::Object{{"name", row.name}, {"value", row.value}});
  auto plain = policy::choose(kind.name, {});
  return Json::Object{{"name", kind.name},
                      {"sentence", kind.sentence},
                      {"reading", plain ? policy::reading(*plain) : ""},
                      {"parameters", std::move(parameters)},
                      {"conditions", std::move(conditions)},
                      {"obligations", std::move(obligations)}};
}

Result<Answer> list(Session&, const ListOptions& options) {
  Answer answer;
  if (!options.name.empty()) {
    const auto* kind = TRY(policy::find_template(options.name));
    Json described = describe(*kind);
    answer.json = *described.object();
    answer.text = kind->name + ": " + *answer.json["reading"].string();
    for (const auto& parameter : kind->parameters) {
      answer.text += "\n  " + parameter.name + " (" + policy::type_name(parameter.type) +
                     "): " + parameter.what + " [" + canonical(parameter.fallback) + "]";
    }
    return answer;
  }
  Json::Array all;
  std::vector<std::vector<std::string>> rows{{"template", "with its defaults it says"}};
  for (const auto& kind : policy::templates()) {
    Json described = describe(kind);
    rows.push_back({kind.name, *described.find("reading")->string()});
    all.push_back(std::move(described));
  }
  answer.json = {{"count", static_cast<int64_t>(all.size())}, {"templates", std::move(all)}};
  answer.text = table_text(rows);
  return answer;
}

// Policies are asked in the jail; what the search itself runs is our own interpreter.
policy::analysis::AskEngine engine_of(policy::Nursery& jail) {
  return [&jail](const std::string& source, const Json& request, const Json& dataset,
                 const Json& ctx) {
    return policy::evaluate_jailed(jail, source, request, dataset, ctx);
  };
}

Json certificate_json(const policy::analysis::Certificate& certificate) {
  Json::Array lines;
  for (uint32_t line : certificate.unreached_lines) lines.push_back(line);
  double coverage = certificate.branches == 0
                        ? 1.0
                        : static_cast<double>(certificate.branches_covered) / certificate.branches;
  return Json::Object{{"seed", certificate.seed},
                      {"threads", static_cast<int64_t>(certificate.threads)},
                      {"evaluations", certificate.evaluations},
                      {"allowed", certificate.allowed},
                      {"failed", certificate.failed},
                      {"branches", certificate.branches},
                      {"branches_covered", certificate.branches_covered},
                      {"branch_coverage", Json::real(coverage)},
                      {"unreached_lines", std::move(lines)},
                      {"seconds", Json::real(certificate.seconds)},
                      {"engine_hash", policy::engine_hash()}};
}

std::string certificate_text(const policy::analysis::Certificate& certificate) {
  std::string out = std::to_string(certificate.evaluations) + " evaluations, " +
                    std::to_string(certificate.branches_covered) + " of " +
                    std::to_string(certificate.branches) + " branches, seed " +
                    std::to_string(certificate.seed);
  for (size_t i = 0; i < certificate.unreached_lines.size(); ++i) {
    out +=
        (i == 0 ? "; not both ways: line " : ", ") + std::to_string(certificate.unreached_lines[i]);
  }
  return out;
}

// Of what never answered, or not always.
std::string failures(const policy::analysis::Certificate& certificate) {
  if (certificate.failed == 0) return "";
  return "it ended in an error or a limit in " +
         (certificate.failed == certificate.evaluations
              ? "every one"
              : std::to_string(certificate.failed) + " of " +
                    std::to_string(certificate.evaluations));
}

Json question_json(const policy::analysis::Space::Question& question) {
  return Json::Object{
      {"request", question.request}, {"dataset", question.dataset}, {"ctx", question.ctx}};
}

// Nothing can be found out about a policy that says nothing.
Status check_studied(const PolicyText& policy) {
  if (policy.source.find_first_not_of(" \t\r\n") == std::string::npos)
    return Error(Code::kRefused, policy.path + ": expected a policy, the file is empty");
  return check_policy(policy);
}

// Nothing was allowed at all, or nothing that the left side is about.
std::string why_vacuous(const policy::analysis::Certificate& certificate) {
  if (certificate.allowed == 0)
    return "no question was found that the policy allows" +
           (certificate.failed ? "; " + failures(certificate) : "");
  if (certificate.applied == 0) return "of none of these questions did the left side hold";
  return "of no decision that the engine was asked for did the left side hold, though the policy "
         "allows: no request was found that keeps its obligations";
}

Result<Answer> prove(Session&, const ProveOptions& options) {
  auto jail = TRY(policy::start_lua_nursery());
  const auto policy = TRY(load_policy(options.policy));
  const std::string& source = policy.whole;
  auto effort = TRY(options.effort.effort());
  if (auto good = check_studied(policy); !good) return refused_policy(good.error());
  auto searched = policy::analysis::prove(source, options.invariant, engine_of(*jail), effort);
  if (!searched && searched.error().expected().starts_with("invariant")) {
    return Error(Code::kMalformed,
                 "--invariant: expected a condition on allow, price, request, dataset and ctx, "
                 "such as 'allow implies price >= 100': " +
                     searched.error().expected());
  }
  auto proof = TRY(std::move(searched));
  Answer answer;
  Json::Object certificate = *certificate_json(proof.certificate).object();
  certificate["applied"] = proof.certificate.applied;
  certificate["vacuous"] = proof.certificate.vacuous;
  answer.json = {{"invariant", options.invariant},
                 {"policy_hash", contracts::policy_hash(source)},
                 {"holds", !proof.counterexample.has_value()},
                 {"result", proof.counterexample ? "counterexample" : "certificate"},
                 {"counterexample", nullptr},
                 {"vacuous", proof.certificate.vacuous},
                 {"certificate", std::move(certificate)}};
  if (!proof.counterexample) {
    answer.text = "no counterexample: " + certificate_text(proof.certificate);
    if (proof.certificate.vacuous) answer.text += "\nvacuous: " + why_vacuous(proof.certificate);
    return answer;
  }
  const auto& shown = *proof.counterexample;
  Json::Object counterexample = *question_json(shown.question).object();
  counterexample["decision"] = decision_json(shown.decision);
  answer.text = "broken: " + options.invariant + "\nrequest " + canonical(shown.question.request) +
                "\ndataset " + canonical(shown.question.dataset) + "\nctx " +
                canonical(shown.question.ctx) + "\n" + policy::status_name(shown.decision.status) +
                ", price " + std::to_string(shown.decision.price_minor) + "; " +
                certificate_text(proof.certificate);
  answer.json["counterexample"] = std::move(counterexample);
  answer.status = ExitStatus::kNo;
  return answer;
}

Json witness_json(const std::optional<policy::analysis::Difference::Witness>& witness) {
  if (!witness) return nullptr;
  Json::Object out = *question_json(witness->question).object();
  out["a"] = decision_json(witness->a);
  out["b"] = decision_json(witness->b);
  return out;
}

std::string witness_text(const char* what,
                         const std::optional<policy::analysis::Difference::Witness>& witness) {
  if (!witness) return "";
  auto side = [](const policy::PolicyDecision& decision) {
    return std::string(policy::status_name(decision.status)) +
           (decision.allowed() ? " for " + std::to_string(decision.price_minor) : "");
  };
  return std::string("\n") + what + ": A " + side(witness->a) + ", B " + side(witness->b) +
         "\n  request " + canonical(witness->question.request) + "\n  dataset " +
         canonical(witness->question.dataset) + "\n  ctx " + canonical(witness->question.ctx);
}

Result<Answer> diff(Session&, const DiffOptions& options) {
  auto jail = TRY(policy::start_lua_nursery());
  const auto policy_a = TRY(load_policy(options.a, options.parameters));
  const auto policy_b = TRY(load_policy(
      options.b, options.parameters_of_b.empty() ? options.parameters : options.parameters_of_b));
  auto effort = TRY(options.effort.effort());
  for (const PolicyText* each : {&policy_a, &policy_b}) {
    if (auto good = check_studied(*each); !good) return refused_policy(good.error());
  }
  const std::string &a = policy_a.whole, &b = policy_b.whole;
  auto difference = TRY(policy::analysis::compare_policies(a, b, engine_of(*jail), effort));
  Answer answer;
  const std::string relation = policy::analysis::relation_name(difference.relation);
  answer.json = {{"relation", relation},
                 {"a", contracts::policy_hash(a)},
                 {"b", contracts::policy_hash(b)},
                 {"stricter_witness", witness_json(difference.stricter)},
                 {"looser_witness", witness_json(difference.looser)},
                 {"vacuous", difference.vacuous},
                 {"certificate", Json::Object{{"a", certificate_json(difference.of_a)},
                                              {"b", certificate_json(difference.of_b)}}}};
  bool same = difference.relation == policy::analysis::Difference::Relation::kEquivalent;
  answer.text = same ? "no difference found"
                     : "B is " + relation + (relation == "incomparable" ? " with A" : " than A");
  answer.text += ": " + certificate_text(difference.of_b) +
                 witness_text("where B asks for more", difference.stricter) +
                 witness_text("where B asks for less", difference.looser);
  if (difference.vacuous) {
    answer.text += "\nvacuous: no question was found that either of them allows";
    for (const auto& [name, certificate] :
         {std::pair("A", difference.of_a), {"B", difference.of_b}}) {
      if (certificate.failed > 0)
        answer.text += "\n" + std::string(name) + ": " + failures(certificate);
    }
  }
  answer.status = same ? ExitStatus::kYes : ExitStatus::kNo;
  return answer;
}

}  // namespace

void add_policy_tool_verbs(CLI::App& app, Session& session) {
  CLI::App* group = app.get_subcommand("policy");
  auto making = std::make_shared<NewOptions>();
  CLI::App* verb = add_verb(*group, session, "new",
                            "A policy out of templates: all of them must hold", making, make);
  verb->add_option("--template", making->templates,
                   "name of a template (souk policy templates lists them)")
      ->required();
  verb->add_option("--set", making->settings,
                   "key=value, or template.key=value where several have the key; lists as a,b,c");
  verb->add_option("--out", making->out, "file to write (default: standard output)");
  auto listing = std::make_shared<ListOptions>();
  verb = add_verb(*group, session, "templates", "The library of policies, or one of it", listing,
                  list);
  verb->add_option("NAME", listing->name, "one of them, with its parameters");
  auto proving = std::make_shared<ProveOptions>();
  verb = add_verb(*group, session, "prove",
                  "Look for a request that breaks an invariant of a policy", proving, prove);
  proving->policy.add_to(*verb);
  verb->add_option("--invariant", proving->invariant,
                   "e.g. 'allow implies request.dp.epsilon_micro <= 1000000'")
      ->required();
  proving->effort.add_to(*verb);
  auto comparing = std::make_shared<DiffOptions>();
  verb =
      add_verb(*group, session, "diff",
               "Whether policy B asks for more than A, for less, or for the same", comparing, diff);
  verb->add_option("A", comparing->a, "Lua file")->required();
  verb->add_option("B", comparing->b, "Lua file")->required();
  verb->add_option("--parameters", comparing->parameters,
                   "JSON object that both policies read as `parameters`");
  verb->add_option("--parameters-b", comparing->parameters_of_b,
                   "JSON object that B reads instead");
  comparing->effort.add_to(*verb);
}

}  // namespace souk::market
