#include "policy/jail/worker.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include "ledger/crypto/hash.h"
#include "policy/decide/evaluator.h"
#include "policy/decide/schema.h"
#include "policy/explain/remedies.h"

namespace souk::policy {
namespace {

constexpr size_t kMaxPrepared = 256 << 10;
constexpr std::array<const char*, 4> kOutcomes = {"value", "error", "limit", "syntax"};

Json limits_json(const Limits& limits) {
  return Json::Object{{"gas", limits.gas},
                      {"memory_bytes", limits.memory_bytes},
                      {"output_bytes", limits.output_bytes}};
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

Json evaluation_json(Evaluation evaluation) {
  Json::Array reads;
  for (auto& path : evaluation.read_set) reads.emplace_back(std::move(path));
  return Json::Object{{"outcome", kOutcomes[static_cast<size_t>(evaluation.outcome)]},
                      {"value", std::move(evaluation.value)},
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
  if (outcome == kOutcomes.size())
    return Error(Code::kMalformed, "evaluation.outcome: expected a known outcome");
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

// What one worker keeps between its questions: the interpreter, and the policy it ran last.
class PolicyRunner {
 public:
  // `question` is used up; the source came beside it.
  Result<Json> answer(Json& question, std::string_view source) {
    auto fields = TRY(Fields::of(question, "job"));
    if (source.size() > kMaxSourceBytes)
      return Error(Code::kMalformed, "source: expected at most 32768 bytes");
    const Json* limits_value = TRY(fields.any("limits"));
    Limits limits = TRY(limits_from_json(*limits_value));
    if (!machine_) machine_ = TRY(Machine::boot(Vocabulary::kPolicy));
    if (!loaded_ || source != source_) {
      loaded_ = machine_->load(source, {"request", "dataset", "ctx"});
      source_ = source;
    }
    auto requests = TRY(facts_of(question, "request"));
    auto datasets = TRY(facts_of(question, "dataset"));
    auto contexts = TRY(facts_of(question, "ctx"));
    const Json::Array* asks = TRY(fields.array("asks", kMaxAsked));
    Json::Array out;
    for (const Json& places : *asks) {
      auto* which = places.array();
      if (!which || which->size() != 3)
        return Error(Code::kMalformed, "asks: expected three places each");
      const Facts* request = TRY(at(requests, (*which)[0]));
      const Facts* dataset = TRY(at(datasets, (*which)[1]));
      const Facts* context = TRY(at(contexts, (*which)[2]));
      const Facts* inputs[] = {request, dataset, context};
      out.push_back(evaluation_json(machine_->run(*loaded_, inputs, limits)));
    }
    return Json(std::move(out));
  }

 private:
  using List = std::vector<std::unique_ptr<Facts>>;
  static Result<List> facts_of(Json& question, const std::string& name) {
    auto member = question.object()->find(name);
    auto* values = member == question.object()->end() ? nullptr : member->second.array();
    if (!values || values->size() > kMaxAsked)
      return Error(Code::kMalformed, name + ": expected a list");
    List out;
    for (Json& value : *values) out.push_back(std::make_unique<Facts>(name, std::move(value)));
    return out;
  }
  static Result<const Facts*> at(const List& list, const Json& place) {
    auto* index = place.integer();
    if (!index || *index < 0 || static_cast<size_t>(*index) >= list.size())
      return Error(Code::kMalformed, "asks: expected places in the lists");
    return list[static_cast<size_t>(*index)].get();
  }

  std::unique_ptr<Machine> machine_;
  std::string source_;
  std::shared_ptr<const Machine::Loaded> loaded_;
};

// Coverage: the sums over all asks.
Result<Json> observe_job(Fields& fields) {
  auto source = TRY(fields.text("source", kMaxPrepared));
  const Json* limits_value = TRY(fields.any("limits"));
  Limits limits = TRY(limits_from_json(*limits_value));
  int64_t conditions = TRY(fields.integer("conditions", 0, 1 << 16));
  const Json::Array* asks = TRY(fields.array("asks", kMaxAsked));
  auto machine = TRY(Machine::boot(Vocabulary::kPolicy));
  auto loaded = machine->load(source, {"request", "dataset", "ctx"}, Machine::Observed::kYes);
  Trace trace;
  trace.conditions.resize(static_cast<size_t>(conditions));
  for (const Json& ask : *asks) {
    const Json *request = ask.find("request"), *dataset = ask.find("dataset"),
               *ctx = ask.find("ctx");
    if (!request || !dataset || !ctx)
      return Error(Code::kMalformed, "asks: expected three parts each");
    const Facts request_facts("request", *request), dataset_facts("dataset", *dataset),
        ctx_facts("ctx", *ctx);
    const Facts* inputs[] = {&request_facts, &dataset_facts, &ctx_facts};
    machine->run(*loaded, inputs, limits, {}, &trace);
  }
  Json::Array lines, counts;
  for (const auto& [line, times] : trace.lines) lines.push_back(Json::Array{line, times});
  for (const auto& [never, ever] : trace.conditions) counts.push_back(Json::Array{never, ever});
  return Json(Json::Object{{"lines", std::move(lines)}, {"conditions", std::move(counts)}});
}

Result<Json> remedies_job(Fields& fields) {
  auto source = TRY(fields.text("source", kMaxSourceBytes));
  const Json* limits_value = TRY(fields.any("limits"));
  Limits limits = TRY(limits_from_json(*limits_value));
  RemedySearch search;
  search.most_remedies = static_cast<size_t>(TRY(fields.integer("most", 1, 100)));
  const Json *request = TRY(fields.any("request")), *dataset = TRY(fields.any("dataset")),
             *ctx = TRY(fields.any("ctx"));
  auto evaluator = TRY(Evaluator::make());
  auto asked = TRY(Checked::of("request", *request));
  auto about = TRY(Checked::of("dataset", *dataset));
  auto when = TRY(Checked::of("ctx", *ctx));
  Json::Array out;
  for (const Remedy& remedy :
       find_remedies(*evaluator, source, *asked, *about, *when, limits, search))
    out.push_back(to_json(remedy));
  return Json(std::move(out));
}

Result<Json> table_job(Fields& fields) {
  auto source = TRY(fields.text("source", kMaxSourceBytes));
  const Json* limits_value = TRY(fields.any("limits"));
  Program program;
  program.source = source;
  return evaluation_json(run_confined(program, TRY(limits_from_json(*limits_value))));
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

Result<Json> run_job(PolicyRunner& runner, std::string_view request) {
  // Canonical JSON has no line end: what follows one is a source as it is.
  size_t end = request.find('\n');
  auto json = TRY(parse_canonical(request.substr(0, end), kMaxNurseryMessage));
  auto fields = TRY(Fields::of(json, "job"));
  auto kind = TRY(fields.text("kind", 16));
  if (kind == "policy") {
    if (end == std::string_view::npos)
      return Error(Code::kMalformed, "job: expected a source after it");
    return runner.answer(json, request.substr(end + 1));
  }
  if (kind == "observe") return observe_job(fields);
  if (kind == "remedies") return remedies_job(fields);
  if (kind == "table") return table_job(fields);
  return contract_job(fields);
}

// Reals and sources pass as JSON text, so a source must be UTF-8 here as well.
Result<Json> ask(Nursery& nursery, const Json& job, int wall_ms) {
  auto answer = TRY(nursery.call(canonical(job), wall_ms));
  return parse_canonical(answer, kMaxNurseryMessage);
}

// A part of a question, looked at once however often it is asked about.
struct Part {
  bool good;
  std::string text;  // canonical
  Digest digest;
};

std::vector<Part> look_at(std::span<const Json* const> values, std::string_view root) {
  std::vector<Part> parts;
  for (const Json* value : values) {
    bool good = static_cast<bool>(check_schema(root, *value));
    std::string text = canonical(*value);
    Digest digest = ledger::sha256(as_bytes(text));
    parts.push_back({good, std::move(text), digest});
  }
  return parts;
}

struct Parts {
  std::vector<Part> requests, datasets, contexts;
};
struct PartTexts {
  std::vector<std::string_view> requests, datasets, contexts;  // borrowed
};
PartTexts texts_of(const Parts& parts) {
  auto all = [](const std::vector<Part>& from) {
    std::vector<std::string_view> out;
    out.reserve(from.size());
    for (const Part& part : from) out.push_back(part.text);
    return out;
  };
  return {all(parts.requests), all(parts.datasets), all(parts.contexts)};
}

// Written as text: the parts are canonical already.
std::string job_text(std::string_view source, const PartTexts& parts,
                     std::span<const std::array<size_t, 3>> asks, const Limits& limits) {
  std::string out = "{\"asks\":[";
  for (const auto& [r, d, c] : asks) {
    if (out.back() == ']') out += ',';
    out += "[" + std::to_string(r) + "," + std::to_string(d) + "," + std::to_string(c) + "]";
  }
  auto list = [&](const char* name, const std::vector<std::string_view>& values) {
    out += name;
    bool first = true;
    for (std::string_view text : values) {
      if (!first) out += ',';
      first = false;
      out += text;
    }
  };
  list("],\"ctx\":[", parts.contexts);
  list("],\"dataset\":[", parts.datasets);
  out += "],\"kind\":\"policy\",\"limits\":" + canonical(limits_json(limits));
  list(",\"request\":[", parts.requests);
  out += "]}\n";
  out += source;
  return out;
}

// Of each ask: its evaluation, or how it was interrupted.
struct Outcome {
  std::optional<Evaluation> evaluation;
  DecisionStatus interrupted = DecisionStatus::kError;
};
std::vector<Outcome> evaluate_there(Nursery& nursery, std::string_view source,
                                    const PartTexts& parts,
                                    std::span<const std::array<size_t, 3>> asks,
                                    const Limits& limits, int wall_ms) {
  auto answer = [&]() -> Result<Json> {
    auto text = TRY(nursery.call(job_text(source, parts, asks, limits), wall_ms));
    return parse_canonical(text, kMaxNurseryMessage);
  }();
  if (!answer) {
    bool out_of_time = answer.error().code() == Code::kExhausted;
    return std::vector<Outcome>(
        asks.size(), {std::nullopt, out_of_time ? DecisionStatus::kLimit : DecisionStatus::kError});
  }
  std::vector<Outcome> out;
  auto* items = answer->array();
  bool suspicious = !items || items->size() != asks.size();
  for (size_t i = 0; items && i < std::min(items->size(), asks.size()); ++i) {
    auto evaluation = evaluation_from_json((*items)[i]);
    suspicious = suspicious || !evaluation || evaluation->outcome == Evaluation::Outcome::kLimit;
    Outcome outcome;
    if (evaluation) outcome.evaluation = std::move(*evaluation);
    out.push_back(std::move(outcome));
  }
  out.resize(asks.size());
  if (suspicious) nursery.retire();  // nothing is known against it; it is cheap to be sure
  return out;
}

}  // namespace

Nursery::Job lua_job() {
  ledger::sha256({});  // the library loads what it needs now; in the jail it could not
  auto runner = std::make_shared<PolicyRunner>();
  return [runner](std::string_view request) {
    auto answer = run_job(*runner, request);
    return canonical(answer ? *answer : Json(Json::Object{{"broken", answer.error().expected()}}));
  };
}

PolicyDecision evaluate_jailed(Nursery& nursery, std::string_view policy_source,
                               const Json& request, const Json& dataset, const Json& ctx,
                               const Limits& limits, int wall_ms) {
  Batch batch;
  batch.requests = {&request};
  batch.datasets = {&dataset};
  batch.contexts = {&ctx};
  batch.asks = {{0, 0, 0}};
  return evaluate_jailed(nursery, policy_source, batch, limits, wall_ms).front();
}

ReadyPolicy::ReadyPolicy(std::string source)
    : source_(std::move(source)),
      digest_(ledger::sha256(as_bytes(source_))),
      characters_(check_characters(source_)) {}

PolicyDecision evaluate_jailed(Nursery& nursery, const ReadyPolicy& policy, const Checked& request,
                               const Checked& dataset, const Checked& ctx, const Limits& limits,
                               int wall_ms) {
  const QuestionHashes hashes{policy.digest(),
                              question_hash(request.digest(), dataset.digest(), ctx.digest())};
  const QuestionNames names{dataset.provider_name(), dataset.name()};
  if (!policy.characters()) return refused_text(policy.characters().error(), hashes, names);
  static constexpr std::array<size_t, 3> kOne[] = {{0, 0, 0}};
  const PartTexts texts{{request.text()}, {dataset.text()}, {ctx.text()}};
  auto outcomes = evaluate_there(nursery, policy.source(), texts, kOne, limits, wall_ms);
  if (!outcomes[0].evaluation) return interrupted(outcomes[0].interrupted, hashes, names);
  return judge(std::move(*outcomes[0].evaluation), hashes, names, request.value(), dataset.value());
}

std::vector<PolicyDecision> evaluate_jailed(Nursery& nursery, std::string_view policy_source,
                                            const Batch& batch, const Limits& limits, int wall_ms) {
  std::vector<PolicyDecision> out(batch.asks.size());
  std::vector<std::array<size_t, 3>> asks;
  std::vector<size_t> places;
  const Parts parts{look_at(batch.requests, "request"), look_at(batch.datasets, "dataset"),
                    look_at(batch.contexts, "ctx")};
  const auto &requests = parts.requests, &datasets = parts.datasets, &contexts = parts.contexts;
  const bool text = static_cast<bool>(check_characters(policy_source));
  const Digest policy_hash = ledger::sha256(as_bytes(policy_source));
  for (size_t i = 0; i < batch.asks.size(); ++i) {
    const auto& [r, d, c] = batch.asks[i];
    if (!text || !requests[r].good || !datasets[d].good || !contexts[c].good) {
      auto refused =
          refuse_early(policy_source, *batch.requests[r], *batch.datasets[d], *batch.contexts[c]);
      CHECK(refused);
      out[i] = *std::move(refused);
    } else {
      asks.push_back(batch.asks[i]);
      places.push_back(i);
    }
  }
  if (asks.empty()) return out;
  auto outcomes = evaluate_there(nursery, policy_source, texts_of(parts), asks, limits, wall_ms);
  for (size_t n = 0; n < places.size(); ++n) {
    const auto& [r, d, c] = asks[n];
    const Json &request = *batch.requests[r], &dataset = *batch.datasets[d];
    QuestionHashes hashes{
        policy_hash, question_hash(requests[r].digest, datasets[d].digest, contexts[c].digest)};
    Outcome& outcome = outcomes[n];
    out[places[n]] =
        outcome.evaluation
            ? judge(std::move(*outcome.evaluation), hashes, names_of(dataset), request, dataset)
            : interrupted(outcome.interrupted, hashes, names_of(dataset));
  }
  return out;
}

Result<Trace> observe_jailed(Nursery& nursery, const Instrumented& prepared, const Batch& batch,
                             const Limits& limits, int wall_ms) {
  Json::Array asks;
  for (const auto& [r, d, c] : batch.asks) {
    const Json &request = *batch.requests[r], &dataset = *batch.datasets[d],
               &ctx = *batch.contexts[c];
    bool valid = validate_request(request) && validate_dataset(dataset) && validate_context(ctx);
    if (valid)
      asks.push_back(Json::Object{{"request", request}, {"dataset", dataset}, {"ctx", ctx}});
  }
  Json job = Json::Object{{"kind", "observe"},
                          {"source", prepared.source},
                          {"conditions", prepared.conditions.size()},
                          {"asks", std::move(asks)},
                          {"limits", limits_json(limits)}};
  nursery.retire();
  auto answer = TRY(ask(nursery, job, wall_ms));
  nursery.retire();
  auto fields = TRY(Fields::of(answer, "coverage"));
  const Json::Array* lines = TRY(fields.array("lines", 1 << 16));
  const Json::Array* conditions = TRY(fields.array("conditions", 1 << 16));
  Trace trace;
  auto pair = [](const Json& value) -> Result<std::array<int64_t, 2>> {
    auto* list = value.array();
    bool good = list && list->size() == 2 && (*list)[0].integer() && (*list)[1].integer();
    if (!good) return Error(Code::kTryAgain, "policy worker gave no coverage");
    return std::array<int64_t, 2>{*(*list)[0].integer(), *(*list)[1].integer()};
  };
  for (const Json& line : *lines) {
    auto [number, times] = TRY(pair(line));
    trace.lines[static_cast<int>(number)] = static_cast<uint64_t>(times);
  }
  for (const Json& condition : *conditions) {
    auto [never, ever] = TRY(pair(condition));
    trace.conditions.push_back({static_cast<uint64_t>(never), static_cast<uint64_t>(ever)});
  }
  if (trace.conditions.size() != prepared.conditions.size())
    return Error(Code::kTryAgain, "policy worker gave no coverage");
  return trace;
}

Result<Json::Array> remedies_jailed(Nursery& nursery, std::string_view source, const Json& request,
                                    const Json& dataset, const Json& ctx, const Limits& limits,
                                    int most, int wall_ms) {
  Json job = Json::Object{{"kind", "remedies"},           {"source", source}, {"request", request},
                          {"dataset", dataset},           {"ctx", ctx},       {"most", most},
                          {"limits", limits_json(limits)}};
  nursery.retire();
  auto answer = TRY(ask(nursery, job, wall_ms));
  nursery.retire();
  if (!answer.array()) return Error(Code::kTryAgain, "policy worker gave no remedies");
  Json::Array out;
  for (const Json& remedy : *answer.array()) {
    const Json* changed = remedy.find("request");
    bool holds =
        changed && evaluate_jailed(nursery, source, *changed, dataset, ctx, limits).allowed();
    if (holds) out.push_back(remedy);
  }
  return out;
}

namespace {

// The characters a policy may have, of another kind of program.
Status check_program(std::string_view source) {
  auto good = check_characters(source);
  constexpr std::string_view kSubject = "policy";
  if (good || !good.error().expected().starts_with(kSubject)) return good;
  std::string said = good.error().expected().substr(kSubject.size());
  return Error(good.error().code(), said.substr(said.find_first_not_of(": ")));
}

}  // namespace

Result<Json> table_jailed(Nursery& nursery, std::string_view source, const Limits& limits,
                          int wall_ms) {
  TRY(check_program(source));
  Json job = Json::Object{{"kind", "table"}, {"source", source}, {"limits", limits_json(limits)}};
  nursery.retire();
  auto answer = TRY(ask(nursery, job, wall_ms));
  nursery.retire();
  auto evaluation = TRY(evaluation_from_json(answer));
  if (evaluation.outcome != Evaluation::Outcome::kValue)
    return Error(Code::kMalformed, evaluation.error);
  return std::move(evaluation.value);
}

Result<Json> run_contract_jailed(Nursery& nursery, std::string_view source,
                                 const std::vector<CatalogEntry>& catalog, const Limits& limits,
                                 int wall_ms) {
  TRY(check_program(source));
  Json job = Json::Object{{"kind", "contract"},
                          {"source", source},
                          {"catalog", to_json(catalog)},
                          {"limits", limits_json(limits)}};
  nursery.retire();  // contracts and policies do not share a worker
  auto answer = TRY(ask(nursery, job, wall_ms));
  nursery.retire();
  if (const Json* refused = answer.find("refused"); refused && refused->string()) {
    const Json* exhausted = answer.find("exhausted");
    bool limit = exhausted && exhausted->boolean() && *exhausted->boolean();
    return Error(limit ? Code::kExhausted : Code::kMalformed, *refused->string());
  }
  const Json* table = answer.find("table");
  if (!table) return Error(Code::kTryAgain, "contract worker gave no table");
  return *table;
}

Result<Elaborated> elaborate_jailed(Nursery& nursery, std::string_view source,
                                    const std::vector<CatalogEntry>& catalog,
                                    const Calibrate& calibrate, const ModelSource& models,
                                    const Limits& limits, int wall_ms) {
  auto table = TRY(run_contract_jailed(nursery, source, catalog, limits, wall_ms));
  return assemble(table, catalog, calibrate, models);
}

}  // namespace souk::policy
