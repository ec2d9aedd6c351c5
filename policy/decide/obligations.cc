#include "policy/decide/obligations.h"

#include <algorithm>
#include <cmath>

#include "policy/decide/request.h"
#include "policy/decide/weaker.h"

namespace souk::policy {
namespace {

using Amount = std::optional<int64_t>;

Amount least(Amount a, Amount b) {
  return a && b ? Amount(std::min(*a, *b)) : a ? a : b;
}
Amount most(Amount a, Amount b) {
  return a && b ? Amount(std::max(*a, *b)) : a ? a : b;
}

struct AmountField {
  const char* name;
  Amount Obligations::*member;
};
constexpr AmountField kAmounts[] = {
    {"max_epsilon_micro", &Obligations::max_epsilon_micro},
    {"max_delta_pico", &Obligations::max_delta_pico},
    {"min_noise_micro", &Obligations::min_noise_micro},
    {"max_steps", &Obligations::max_steps},
    {"max_parameters", &Obligations::max_parameters},
    {"consumer_epsilon_micro", &Obligations::consumer_epsilon_micro},
    {"purpose_epsilon_micro", &Obligations::purpose_epsilon_micro},
    {"min_co_providers", &Obligations::min_co_providers},
    {"max_retention_days", &Obligations::max_retention_days},
    {"embargo_until", &Obligations::embargo_until},
};

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "" : ", ") + name;
  return out.empty() ? "none" : out;
}

}  // namespace

const std::set<std::string>& obligation_names() {
  static const std::set<std::string> kNames = [] {
    std::set<std::string> out = {"allowed_algorithms", "output_form", "attribution", "audit",
                                 "waive_privacy"};
    for (const auto& field : kAmounts) out.insert(field.name);
    return out;
  }();
  return kNames;
}

Json to_json(const Obligations& obligations) {
  Json::Object out;
  for (const auto& field : kAmounts) {
    if (const Amount& amount = obligations.*field.member) out[field.name] = *amount;
  }
  if (obligations.allowed_algorithms) {
    Json::Array names;
    for (const auto& name : *obligations.allowed_algorithms) names.push_back(name);
    out["allowed_algorithms"] = std::move(names);
  }
  if (obligations.output_form) out["output_form"] = "weights";
  if (obligations.attribution) {
    Json::Array names;
    for (const auto& name : *obligations.attribution) names.push_back(name);
    out["attribution"] = std::move(names);
  }
  if (obligations.audit) out["audit"] = "one-run";
  if (obligations.waive_privacy) out["waive_privacy"] = true;
  return out;
}

Result<Obligations> obligations_from_json(const Json& json) {
  auto fields = TRY(Fields::of(json, "obligations"));
  Obligations out;
  for (const auto& field : kAmounts) {
    if (!fields.has(field.name)) continue;
    int64_t amount = TRY(fields.integer(field.name));
    out.*field.member = amount;
  }
  if (fields.has("allowed_algorithms")) {
    const Json::Array* names = TRY(fields.array("allowed_algorithms", 16));
    std::vector<std::string> list;
    for (const Json& name : *names) {
      bool known = name.string() && (*name.string() == "logreg" || *name.string() == "mlp" ||
                                     *name.string() == "cnn");
      if (!known)
        return Error(Code::kMalformed,
                     "obligations.allowed_algorithms: expected logreg, mlp or cnn");
      list.push_back(*name.string());
    }
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
    out.allowed_algorithms = std::move(list);
  }
  if (fields.has("output_form")) {
    auto form = TRY(fields.text("output_form", 32));
    if (form != "weights")
      return Error(Code::kMalformed, "obligations.output_form: expected \"weights\"");
    out.output_form = Obligations::OutputForm::kWeights;
  }
  if (fields.has("attribution")) {
    const Json::Array* names = TRY(fields.array("attribution", 64));
    std::vector<std::string> list;
    for (const Json& name : *names) {
      bool good = name.string() && !name.string()->empty() && name.string()->size() <= 256;
      if (!good)
        return Error(Code::kMalformed,
                     "obligations.attribution: expected names of at most 256 bytes");
      list.push_back(*name.string());
    }
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
    out.attribution = std::move(list);
  }
  if (fields.has("audit")) {
    // true is the one audit there is.
    const Json* audit = TRY(fields.any("audit"));
    const bool named = audit->string() && *audit->string() == "one-run";
    if (!named && !audit->boolean())
      return Error(Code::kMalformed, "obligations.audit: expected \"one-run\", or true");
    if (named || *audit->boolean()) out.audit = Obligations::Audit::kOneRun;
  }
  if (fields.has("waive_privacy")) out.waive_privacy = TRY(fields.boolean("waive_privacy"));
  TRY(fields.done());
  return out;
}

Obligations meet(const Obligations& a, const Obligations& b) {
  Obligations out;
  out.max_epsilon_micro = least(a.max_epsilon_micro, b.max_epsilon_micro);
  out.max_delta_pico = least(a.max_delta_pico, b.max_delta_pico);
  out.min_noise_micro = most(a.min_noise_micro, b.min_noise_micro);
  out.max_steps = least(a.max_steps, b.max_steps);
  out.max_parameters = least(a.max_parameters, b.max_parameters);
  if (a.allowed_algorithms && b.allowed_algorithms) {
    std::vector<std::string> both;
    std::set_intersection(a.allowed_algorithms->begin(), a.allowed_algorithms->end(),
                          b.allowed_algorithms->begin(), b.allowed_algorithms->end(),
                          std::back_inserter(both));
    out.allowed_algorithms = std::move(both);
  } else {
    out.allowed_algorithms = a.allowed_algorithms ? a.allowed_algorithms : b.allowed_algorithms;
  }
  out.consumer_epsilon_micro = least(a.consumer_epsilon_micro, b.consumer_epsilon_micro);
  out.purpose_epsilon_micro = least(a.purpose_epsilon_micro, b.purpose_epsilon_micro);
  out.min_co_providers = most(a.min_co_providers, b.min_co_providers);
  out.max_retention_days = least(a.max_retention_days, b.max_retention_days);
  out.embargo_until = most(a.embargo_until, b.embargo_until);
  if (a.attribution && b.attribution) {
    std::vector<std::string> all;
    std::set_union(a.attribution->begin(), a.attribution->end(), b.attribution->begin(),
                   b.attribution->end(), std::back_inserter(all));
    out.attribution = std::move(all);
  } else {
    out.attribution = a.attribution ? a.attribution : b.attribution;
  }
  out.audit = a.audit ? a.audit : b.audit;                          // there is one kind
  out.output_form = a.output_form ? a.output_form : b.output_form;  // there is one form
  out.waive_privacy = a.waive_privacy && b.waive_privacy;
  return out;
}

std::vector<Weakness> weaknesses(const RunFacts& run, const Obligations& obligations) {
  std::vector<Weakness> out;
  auto at_most = [&](const char* name, const char* path, int64_t got, const Amount& limit) {
    if (limit && got > *limit)
      out.push_back({name, path, std::to_string(got), "at most " + std::to_string(*limit)});
  };
  if (run.private_run) {
    at_most("max_epsilon_micro", "request.dp.epsilon_micro", run.epsilon_micro,
            obligations.max_epsilon_micro);
    at_most("max_delta_pico", "request.dp.delta_pico", run.delta_pico, obligations.max_delta_pico);
    if (obligations.min_noise_micro && run.noise_micro < *obligations.min_noise_micro) {
      out.push_back({"min_noise_micro", "request.dp.noise_micro", std::to_string(run.noise_micro),
                     "at least " + std::to_string(*obligations.min_noise_micro)});
    }
  } else if (!obligations.waive_privacy) {
    out.push_back({"waive_privacy", "request.dp.enabled", "false", "true: privacy is not waived"});
  }
  at_most("max_steps", "request.steps", run.steps, obligations.max_steps);
  at_most("max_parameters", "request.model.parameters", run.parameters, obligations.max_parameters);
  if (run.co_providers && obligations.min_co_providers &&
      *run.co_providers < *obligations.min_co_providers) {
    out.push_back(
        {"min_co_providers", "request.providers", std::to_string(*run.co_providers),
         "at least " + std::to_string(*obligations.min_co_providers) + " beside this one"});
  }
  if (obligations.allowed_algorithms &&
      !std::binary_search(obligations.allowed_algorithms->begin(),
                          obligations.allowed_algorithms->end(), run.algorithm)) {
    out.push_back({"allowed_algorithms", "request.algorithm", run.algorithm,
                   joined(*obligations.allowed_algorithms)});
  }
  return out;
}

Obligations about_own_part(const Obligations& obligations) {
  Obligations own;
  own.max_epsilon_micro = obligations.max_epsilon_micro;
  own.min_noise_micro = obligations.min_noise_micro;
  return own;
}

Obligations about_the_run(const Obligations& obligations) {
  Obligations shared = obligations;
  shared.max_epsilon_micro = shared.min_noise_micro = std::nullopt;
  return shared;
}

Status check_obligations(const contracts::TrainingSpec& spec, const Obligations& obligations,
                         std::optional<size_t> member) {
  auto shape = TRY(contracts::check_spec(spec));
  RunFacts run;
  run.steps = spec.steps;
  run.parameters = static_cast<int64_t>(shape.parameters);
  run.algorithm = algorithm_name(spec);
  if (spec.privacy) {
    run.private_run = true;
    run.epsilon_micro =
        member ? contracts::member_of(spec, *member).epsilon_micro : spec.privacy->epsilon_micro;
    run.delta_pico = spec.privacy->delta_pico;
    run.noise_micro = static_cast<int64_t>(std::floor(
        (member ? contracts::noise_on(spec, *member) : spec.privacy->noise_multiplier) * 1e6));
  }
  std::string text;
  for (const auto& weakness : weaknesses(run, obligations)) {
    text += (text.empty() ? "" : "; ") + weakness.obligation + ": expected " + weakness.need +
            ", the run has " + weakness.got;
  }
  if (!text.empty()) return Error(Code::kRefused, text);
  return Done{};
}

}  // namespace souk::policy
