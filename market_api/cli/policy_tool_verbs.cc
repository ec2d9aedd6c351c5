// souk policy new|templates: policies out of the library.
#include <algorithm>

#include "market_api/cli/session.h"
#include "market_api/client/local_files.h"
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
  if (found.empty() && names.size() == 1 && wanted.empty()) found.push_back(0);  // its mistake is named later
  if (found.size() != 1) {
    return Error(Code::kMalformed, "--set " + key + ": expected a parameter of one of the templates" +
                                       (found.empty() ? "" : "; several have it, so write template." + key));
  }
  settings[found[0]][key] = value;
  return Done{};
}

Result<Answer> make(Session&, const NewOptions& options) {
  std::vector<std::map<std::string, std::string>> settings(options.templates.size());
  for (const auto& setting : options.settings) TRY(place_setting(setting, options.templates, settings));
  std::vector<policy::Chosen> parts;
  Json::Array names, sentences, parameters;
  for (size_t i = 0; i < options.templates.size(); ++i) {
    auto chosen = TRY(policy::choose_from_text(options.templates[i], settings[i]));
    names.push_back(options.templates[i]);
    sentences.push_back(policy::reading(chosen));
    parameters.push_back(Json::Object{{"template", options.templates[i]}, {"values", chosen.values}});
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
    bool numbers = parameter.type == policy::ParameterType::kInteger || parameter.type == policy::ParameterType::kTime ||
                   parameter.type == policy::ParameterType::kIntegers || parameter.type == policy::ParameterType::kAmounts;
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
    conditions.push_back(Json::Object{{"code", row.code}, {"left", row.left}, {"op", row.op}, {"right", row.right}});
  }
  for (const auto& row : kind.obligations) obligations.push_back(Json::Object{{"name", row.name}, {"value", row.value}});
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
      answer.text += "\n  " + parameter.name + " (" + policy::type_name(parameter.type) + "): " + parameter.what + " [" +
                     canonical(parameter.fallback) + "]";
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

}  // namespace

void add_policy_tool_verbs(CLI::App& app, Session& session) {
  CLI::App* group = app.get_subcommand("policy");
  auto making = std::make_shared<NewOptions>();
  CLI::App* verb = add_verb(*group, session, "new", "A policy out of templates: all of them must hold", making, make);
  verb->add_option("--template", making->templates, "its name; may be given several times")->required();
  verb->add_option("--set", making->settings, "key=value or template.key=value; lists as a,b,c");
  verb->add_option("--out", making->out, "file to write (default: standard output)");
  auto listing = std::make_shared<ListOptions>();
  verb = add_verb(*group, session, "templates", "The library of policies, or one of it", listing, list);
  verb->add_option("NAME", listing->name, "template");
}

}  // namespace souk::market
