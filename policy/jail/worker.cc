#include "policy/jail/worker.h"

#include <array>

namespace souk::policy {
namespace {

constexpr std::array<const char*, 4> kOutcomes = {"value", "error", "limit", "syntax"};

Json limits_json(const Limits& limits) {
  return Json::Object{{"gas", limits.gas}, {"memory_bytes", limits.memory_bytes}, {"output_bytes", limits.output_bytes}};
}

Result<Limits> limits_from_json(const Json& json) {
  auto fields = TRY(Fields::of(json, "limits"));
  Limits limits;
  limits.gas = static_cast<uint64_t>(TRY(fields.integer("gas")));
  limits.memory_bytes = static_cast<uint64_t>(TRY(fields.integer("memory_bytes")));
  limits.output_bytes = static_cast<uint64_t>(TRY(fields.integer("output_bytes")));
  TRY(fields.done());
  return limits;
}

Json evaluation_json(const Evaluation& evaluation) {
  Json::Array reads;
  for (const auto& path : evaluation.read_set) reads.push_back(path);
  return Json::Object{{"outcome", kOutcomes[static_cast<size_t>(evaluation.outcome)]},
                      {"value", evaluation.value},
                      {"error", evaluation.error},
                      {"read_set", std::move(reads)},
                      {"gas", evaluation.gas}};
}

Result<Evaluation> evaluation_from_json(const Json& json) {
  auto fields = TRY(Fields::of(json, "evaluation"));
  Evaluation evaluation;
  auto name = TRY(fields.text("outcome", 16));
  size_t outcome = 0;
  while (outcome < kOutcomes.size() && name != kOutcomes[outcome]) ++outcome;
  if (outcome == kOutcomes.size()) return Error(Code::kMalformed, "evaluation.outcome: expected a known outcome");
  evaluation.outcome = static_cast<Evaluation::Outcome>(outcome);
  const Json* value = TRY(fields.any("value"));
  evaluation.value = *value;
  evaluation.error = TRY(fields.text("error", kMaxErrorBytes));
  const Json::Array* reads = TRY(fields.array("read_set", 1 << 16));
  for (const Json& path : *reads) {
    if (!path.string()) return Error(Code::kMalformed, "evaluation.read_set: expected paths");
    evaluation.read_set.push_back(*path.string());
  }
  evaluation.gas = static_cast<uint64_t>(TRY(fields.integer("gas")));
  TRY(fields.done());
  return evaluation;
}

Result<Json> policy_job(Fields& fields) {
  auto source = TRY(fields.text("source", kMaxSourceBytes));
  const Json* limits_value = TRY(fields.any("limits"));
  Limits limits = TRY(limits_from_json(*limits_value));
  const Json* request = TRY(fields.any("request"));
  const Json* dataset = TRY(fields.any("dataset"));
  const Json* ctx = TRY(fields.any("ctx"));
  return evaluation_json(run_confined(policy_program(source, *request, *dataset, *ctx), limits));
}

Result<Json> contract_job(Fields& fields) {
  auto source = TRY(fields.text("source", 256 << 10));
  const Json* limits_value = TRY(fields.any("limits"));
  Limits limits = TRY(limits_from_json(*limits_value));
  const Json* catalog_value = TRY(fields.any("catalog"));
  auto catalog = TRY(catalog_from_json(*catalog_value));
  auto table = run_contract(source, catalog, limits);
  if (table) return Json(Json::Object{{"table", std::move(*table)}});
  bool exhausted = table.error().code() == Code::kExhausted;
  return Json(Json::Object{{"refused", table.error().expected()}, {"exhausted", exhausted}});
}

Result<Json> run_job(std::string_view request) {
  auto json = TRY(parse_canonical(request, kMaxNurseryMessage));
  auto fields = TRY(Fields::of(json, "job"));
  auto kind = TRY(fields.text("kind", 16));
  if (kind == "policy") return policy_job(fields);
  return contract_job(fields);
}

// Reals and sources pass as JSON text, so a source must be UTF-8 here as well.
Result<Json> ask(Nursery& nursery, const Json& job, int wall_ms) {
  auto answer = TRY(nursery.call(canonical(job), wall_ms));
  return parse_canonical(answer, kMaxNurseryMessage);
}

Evaluation evaluate_there(Nursery& nursery, const Json& job, int wall_ms) {
  Evaluation failed;
  auto answer = ask(nursery, job, wall_ms);
  if (answer) {
    auto evaluation = evaluation_from_json(*answer);
    if (evaluation) return std::move(*evaluation);
    failed.error = "policy worker gave no evaluation";
    return failed;
  }
  bool out_of_time = answer.error().code() == Code::kExhausted;
  failed.outcome = out_of_time ? Evaluation::Outcome::kLimit : Evaluation::Outcome::kError;
  failed.error = answer.error().expected();
  return failed;
}

}  // namespace

std::string lua_job(std::string_view request) {
  auto answer = run_job(request);
  return canonical(answer ? *answer : Json(Json::Object{{"broken", answer.error().expected()}}));
}

PolicyDecision evaluate_jailed(Nursery& nursery, std::string_view policy_source, const Json& request, const Json& dataset, const Json& ctx,
                               const Limits& limits, int wall_ms) {
  if (auto refused = refuse_early(policy_source, request, dataset, ctx)) return *std::move(refused);
  Json job = Json::Object{{"kind", "policy"}, {"source", policy_source}, {"request", request},
                          {"dataset", dataset}, {"ctx", ctx}, {"limits", limits_json(limits)}};
  return judge(evaluate_there(nursery, job, wall_ms), policy_source, request, dataset, ctx);
}

Result<Elaborated> elaborate_jailed(Nursery& nursery, std::string_view source, const std::vector<CatalogEntry>& catalog,
                                    const Calibrate& calibrate, const Limits& limits, int wall_ms) {
  TRY(check_characters(source));
  Json job = Json::Object{{"kind", "contract"}, {"source", source}, {"catalog", to_json(catalog)}, {"limits", limits_json(limits)}};
  auto answer = TRY(ask(nursery, job, wall_ms));
  if (const Json* refused = answer.find("refused"); refused && refused->string()) {
    const Json* exhausted = answer.find("exhausted");
    bool limit = exhausted && exhausted->boolean() && *exhausted->boolean();
    return Error(limit ? Code::kExhausted : Code::kMalformed, *refused->string());
  }
  const Json* table = answer.find("table");
  if (!table) return Error(Code::kTryAgain, "contract worker gave no table");
  return assemble(*table, catalog, calibrate);
}

}  // namespace souk::policy
