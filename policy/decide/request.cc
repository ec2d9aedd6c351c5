#include "policy/decide/request.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "policy/decide/schema.h"

namespace souk::policy {
namespace {

using contracts::Node;
using contracts::TrainingSpec;

Error wrong(const std::string& place, const std::string& expected) {
  return Error(Code::kMalformed, place + ": expected " + expected);
}

int64_t micro_down(double value) {
  return static_cast<int64_t>(std::min(std::floor(value * 1e6), 9e15));
}
int64_t micro_up(double value) {
  return static_cast<int64_t>(std::min(std::ceil(value * 1e6), 9e15));
}

Json usage_json(const UsageFacts& facts) {
  return Json::Object{{"spent_epsilon_micro", facts.spent_epsilon_micro},
                      {"runs", facts.runs},
                      {"last_run", facts.last_run_ms}};
}

template <class Items>
Json list_of(const Items& items) {
  Json::Array out;
  for (const auto& item : items) out.emplace_back(item);
  return out;
}

Json ops_of(const TrainingSpec& spec) {
  std::set<std::string> names;
  for (const Node& node : spec.model) names.insert(contracts::op_name(node.op));
  Json::Array out;
  for (const auto& name : names) out.push_back(name);
  return out;
}

}  // namespace

std::string algorithm_name(const TrainingSpec& spec) {
  size_t linear = 0, other = 0;
  for (const Node& node : spec.model) {
    if (node.op == Node::Op::kConv2d) return "cnn";
    if (node.op == Node::Op::kLinear) {
      ++linear;
    } else if (node.op != Node::Op::kFlatten && node.op != Node::Op::kDropout) {
      ++other;
    }
  }
  return linear == 1 && other == 0 ? "logreg" : "mlp";
}

Result<Json> build_request(const TrainingSpec& spec, const RequestFacts& facts) {
  auto shape = TRY(contracts::check_spec(spec));
  if (facts.rows_total == 0) return wrong("rows_total", "at least one row");
  double examples = static_cast<double>(spec.steps) * spec.batch;
  auto epochs = static_cast<int64_t>(std::ceil(examples / static_cast<double>(facts.rows_total)));
  Json::Object dp{{"enabled", spec.privacy.has_value()},
                  {"epsilon_micro", 0},
                  {"delta_pico", 0},
                  {"noise_micro", 0},
                  {"clip_micro", 0},
                  {"user_cap", 1}};
  if (spec.privacy) {
    if (!spec.privacy->pool.empty() && facts.member >= spec.privacy->pool.size())
      return wrong("spec.privacy.pool", "one for each dataset");
    const auto own = contracts::member_of(spec, facts.member);
    dp["epsilon_micro"] = own.epsilon_micro;
    dp["delta_pico"] = spec.privacy->delta_pico;
    dp["noise_micro"] = micro_down(contracts::noise_on(spec, facts.member));
    dp["clip_micro"] = micro_up(own.clip);
    if (!spec.privacy->pool.empty()) {
      epochs = static_cast<int64_t>(
          std::ceil(static_cast<double>(spec.steps) *
                    std::ldexp(static_cast<double>(own.sampling_threshold), -64)));
    }
    dp["user_cap"] = spec.privacy->user_cap;
  }
  std::set<std::string> types;
  Json::Array details;
  for (const auto& credential : facts.credentials) {
    types.insert(credential.type);
    details.push_back(Json::Object{{"type", credential.type},
                                   {"issuer", credential.issuer},
                                   {"expires_ms", credential.expires_ms}});
  }
  Json::Array type_list;
  for (const auto& type : types) type_list.push_back(type);
  Json request = Json::Object{
      {"id", facts.id},
      {"consumer", facts.consumer},
      {"purpose", facts.purpose},
      {"region", facts.region},
      {"algorithm", algorithm_name(spec)},
      {"model", Json::Object{{"parameters", shape.parameters},
                             {"layers", static_cast<int64_t>(spec.model.size())},
                             {"ops", ops_of(spec)}}},
      {"epochs", epochs},
      {"steps", spec.steps},
      {"batch", spec.batch},
      {"payment", facts.payment_minor},
      {"currency", facts.currency},
      {"dp", std::move(dp)},
      {"output", Json::Object{{"form", "weights"}}},
      {"datasets", facts.datasets},
      {"providers", list_of(facts.providers)},
      {"dataset_ids", list_of(facts.dataset_ids)},
      {"dataset_names", list_of(facts.dataset_names)},
      {"credentials", std::move(type_list)},
      {"credential_details", std::move(details)},
  };
  TRY(validate_request(request));
  return request;
}

Json build_dataset(const DatasetFacts& facts) {
  return Json::Object{
      {"id", facts.id},
      {"name", facts.name},
      {"provider", facts.provider},
      {"provider_name", facts.provider_name},
      {"rows", facts.rows},
      {"price", facts.price_minor},
      {"budget", Json::Object{{"epsilon_micro", facts.budget_epsilon_micro},
                              {"delta_pico", facts.budget_delta_pico}}},
      {"user_cap", facts.user_cap},
  };
}

Json build_context(const ContextFacts& facts) {
  return Json::Object{{"now", facts.now_ms},
                      {"spent_epsilon_micro", facts.spent_epsilon_micro},
                      {"runs", facts.runs},
                      {"head", facts.head},
                      {"consumer", usage_json(facts.consumer)},
                      {"purpose", usage_json(facts.purpose)}};
}

Status validate_request(const Json& request) {
  return check_schema("request", request);
}
Status validate_dataset(const Json& dataset) {
  return check_schema("dataset", dataset);
}
Status validate_context(const Json& ctx) {
  return check_schema("ctx", ctx);
}

}  // namespace souk::policy
