#include "policy/decide/request.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "policy/lua/utf8.h"

namespace souk::policy {
namespace {

using contracts::Node;
using contracts::TrainingSpec;

constexpr size_t kMaxCredentials = 64;

Error wrong(const std::string& place, const std::string& expected) { return Error(Code::kMalformed, place + ": expected " + expected); }

bool is_token(std::string_view text) {
  return !text.empty() && text.size() <= 128 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-' || c == ':' || c == '/';
  });
}

bool is_words(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    auto character = utf8_at(text, at);
    if (character.length == 0 || is_invisible(character.point)) return false;
    at += character.length;
  }
  return text.size() <= 256;
}

// A name without spaces or quotes: ids, algorithms, credential types.
Result<std::string> token(Fields& fields, const std::string& name, const std::string& place) {
  auto text = TRY(fields.text(name, 128));
  if (!is_token(text)) return wrong(place + "." + name, "1 to 128 letters, digits and ._-:/");
  return text;
}

Result<std::string> words(Fields& fields, const std::string& name, const std::string& place) {
  auto text = TRY(fields.text(name, 256));
  if (!is_words(text)) return wrong(place + "." + name, "printable UTF-8");
  return text;
}

Status check_model(const Json& value) {
  auto fields = TRY(Fields::of(value, "request.model"));
  TRY(fields.integer("parameters", 1));
  TRY(fields.integer("layers", 1, 256));
  const Json::Array* ops = TRY(fields.array("ops", 256));
  for (const Json& op : *ops) {
    if (!op.string() || !contracts::op_from_name(*op.string())) return wrong("request.model.ops", "names of operations");
  }
  return fields.done();
}

Status check_dp(const Json& value) {
  auto fields = TRY(Fields::of(value, "request.dp"));
  bool enabled = TRY(fields.boolean("enabled"));
  int64_t least = enabled ? 1 : 0;
  int64_t most = enabled ? kMaxJsonInteger : 0;
  TRY(fields.integer("epsilon_micro", least, most));
  TRY(fields.integer("delta_pico", least, std::min<int64_t>(most, 999'999'999'999)));
  TRY(fields.integer("noise_micro", 0, most));
  TRY(fields.integer("clip_micro", least, most));
  return fields.done();
}

Status check_credentials(const Json::Array& types, const Json::Array& details) {
  std::set<std::string> held;
  for (const Json& item : details) {
    auto fields = TRY(Fields::of(item, "request.credential_details"));
    auto type = TRY(token(fields, "type", "request.credential_details"));
    TRY(token(fields, "issuer", "request.credential_details"));
    TRY(fields.integer("expires_ms"));
    TRY(fields.done());
    held.insert(std::move(type));
  }
  std::set<std::string> named;
  for (const Json& type : types) {
    if (!type.string() || !held.count(*type.string())) return wrong("request.credentials", "the types of credential_details");
    if (!named.insert(*type.string()).second) return wrong("request.credentials", "each type once");
  }
  if (named.size() != held.size()) return wrong("request.credentials", "every type of credential_details");
  return Done{};
}

int64_t micro_down(double value) { return static_cast<int64_t>(std::min(std::floor(value * 1e6), 9e15)); }
int64_t micro_up(double value) { return static_cast<int64_t>(std::min(std::ceil(value * 1e6), 9e15)); }

// A list of texts that `good` accepts, each once; nothing when it is not there.
template <class Good>
Status optional_list(Fields& fields, const std::string& name, const std::string& expected, Good good) {
  if (!fields.has(name)) return Done{};
  const Json::Array* items = TRY(fields.array(name, 256));
  std::set<std::string> seen;
  for (const Json& item : *items) {
    if (!item.string() || !good(*item.string()) || !seen.insert(*item.string()).second) return wrong("request." + name, expected);
  }
  return Done{};
}

Status check_usage(const Json& value, const std::string& place) {
  auto fields = TRY(Fields::of(value, place));
  TRY(fields.integer("spent_epsilon_micro"));
  TRY(fields.integer("runs"));
  TRY(fields.integer("last_run"));
  return fields.done();
}

Json usage_json(const UsageFacts& facts) {
  return Json::Object{{"spent_epsilon_micro", facts.spent_epsilon_micro}, {"runs", facts.runs}, {"last_run", facts.last_run_ms}};
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
  Json::Object dp{{"enabled", spec.privacy.has_value()}, {"epsilon_micro", 0}, {"delta_pico", 0}, {"noise_micro", 0}, {"clip_micro", 0}};
  if (spec.privacy) {
    dp["epsilon_micro"] = spec.privacy->epsilon_micro;
    dp["delta_pico"] = spec.privacy->delta_pico;
    dp["noise_micro"] = micro_down(spec.privacy->noise_multiplier);
    dp["clip_micro"] = micro_up(spec.privacy->clip);
  }
  std::set<std::string> types;
  Json::Array details;
  for (const auto& credential : facts.credentials) {
    types.insert(credential.type);
    details.push_back(Json::Object{{"type", credential.type}, {"issuer", credential.issuer}, {"expires_ms", credential.expires_ms}});
  }
  Json::Array type_list;
  for (const auto& type : types) type_list.push_back(type);
  Json request = Json::Object{
      {"id", facts.id},
      {"consumer", facts.consumer},
      {"purpose", facts.purpose},
      {"region", facts.region},
      {"algorithm", algorithm_name(spec)},
      {"model", Json::Object{{"parameters", shape.parameters}, {"layers", static_cast<int64_t>(spec.model.size())}, {"ops", ops_of(spec)}}},
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
      {"budget", Json::Object{{"epsilon_micro", facts.budget_epsilon_micro}, {"delta_pico", facts.budget_delta_pico}}},
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
  const std::string place = "request";
  auto fields = TRY(Fields::of(request, place));
  TRY(token(fields, "id", place));
  TRY(token(fields, "consumer", place));
  auto purpose = TRY(words(fields, "purpose", place));
  if (purpose.empty()) return wrong("request.purpose", "a text");
  TRY(words(fields, "region", place));
  auto algorithm = TRY(fields.text("algorithm", 32));
  if (algorithm != "logreg" && algorithm != "mlp" && algorithm != "cnn") return wrong("request.algorithm", "logreg, mlp or cnn");
  const Json* model = TRY(fields.any("model"));
  TRY(check_model(*model));
  TRY(fields.integer("epochs", 1));
  TRY(fields.integer("steps", 1, 1'000'000));
  TRY(fields.integer("batch", 1, 65536));
  TRY(fields.integer("payment"));
  TRY(token(fields, "currency", place));
  const Json* dp = TRY(fields.any("dp"));
  TRY(check_dp(*dp));
  const Json* output = TRY(fields.any("output"));
  auto output_fields = TRY(Fields::of(*output, "request.output"));
  auto form = TRY(output_fields.text("form", 32));
  if (form != "weights") return wrong("request.output.form", "\"weights\"");
  TRY(output_fields.done());
  TRY(fields.integer("datasets", 1, 256));
  TRY(optional_list(fields, "providers", "ids of providers, each once", is_token));
  TRY(optional_list(fields, "dataset_ids", "ids of datasets, each once", is_token));
  TRY(optional_list(fields, "dataset_names", "printable names, each once", is_words));
  const Json::Array* types = TRY(fields.array("credentials", kMaxCredentials));
  const Json::Array* details = TRY(fields.array("credential_details", kMaxCredentials));
  TRY(check_credentials(*types, *details));
  return fields.done();
}

Status validate_dataset(const Json& dataset) {
  const std::string place = "dataset";
  auto fields = TRY(Fields::of(dataset, place));
  TRY(token(fields, "id", place));
  TRY(words(fields, "name", place));
  TRY(token(fields, "provider", place));
  TRY(words(fields, "provider_name", place));
  TRY(fields.integer("rows"));
  TRY(fields.integer("price"));
  const Json* budget = TRY(fields.any("budget"));
  auto budget_fields = TRY(Fields::of(*budget, "dataset.budget"));
  TRY(budget_fields.integer("epsilon_micro"));
  TRY(budget_fields.integer("delta_pico"));
  TRY(budget_fields.done());
  return fields.done();
}

Status validate_context(const Json& ctx) {
  auto fields = TRY(Fields::of(ctx, "ctx"));
  TRY(fields.integer("now"));
  TRY(fields.integer("spent_epsilon_micro"));
  TRY(fields.integer("runs"));
  TRY(fields.integer("head"));
  for (const char* name : {"consumer", "purpose"}) {
    if (!fields.has(name)) continue;
    const Json* usage = TRY(fields.any(name));
    TRY(check_usage(*usage, std::string("ctx.") + name));
  }
  return fields.done();
}

}  // namespace souk::policy
