#include "policy/decide/decide.h"

#include <algorithm>
#include <array>

#include "ledger/crypto/hash.h"
#include "policy/decide/evaluator.h"
#include "policy/decide/weaker.h"
#include "policy/lua/utf8.h"

namespace souk::policy {
namespace {

constexpr size_t kMaxReasons = 64;
constexpr size_t kMaxMessageBytes = 4096;
constexpr size_t kMaxDetailBytes = 512;
constexpr std::array<const char*, 7> kStatusNames = {
    "allowed", "denied", "error", "limit", "invalid_request", "invalid_policy", "publish_rejected"};

bool is_code(std::string_view text) {
  if (text.empty() || text.size() > 64) return false;
  for (char c : text) {
    bool fine =
        (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
    if (!fine) return false;
  }
  return true;
}

std::string name_of(const Json& dataset, const char* member) {
  const Json* value = dataset.find(member);
  return value && value->string() ? one_line(*value->string(), 256) : std::string();
}

// The parts of a decision that do not depend on how it went.
struct Question {
  const QuestionHashes& hashes;
  const QuestionNames& names;

  PolicyDecision start() const {
    PolicyDecision decision;
    decision.policy_hash = hashes.policy;
    decision.request_hash = hashes.request;
    return decision;
  }
  Reason reason(std::string code, std::string message) const {
    Reason out;
    out.code = std::move(code);
    out.message = one_line(message, kMaxMessageBytes);
    out.provider = names.provider;
    out.dataset = names.dataset;
    return out;
  }
  // "PATH: expected NEED, not GOT", as the schema words it.
  PolicyDecision malformed(const std::string& text) const {
    PolicyDecision decision = no(DecisionStatus::kInvalidRequest, "invalid_request", text);
    Reason& why = decision.reasons.front();
    if (size_t colon = text.find(": "); colon != std::string::npos)
      why.path = one_line(text.substr(0, colon), kMaxDetailBytes);
    if (size_t need = text.find("expected "); need != std::string::npos) {
      size_t got = text.rfind(", not ");
      why.need = one_line(text.substr(need + 9, got == std::string::npos ? got : got - need - 9),
                          kMaxDetailBytes);
      if (got != std::string::npos) why.got = one_line(text.substr(got + 6), kMaxDetailBytes);
    }
    return decision;
  }
  PolicyDecision no(DecisionStatus status, std::string code, std::string message) const {
    PolicyDecision decision = start();
    decision.status = status;
    decision.reasons.push_back(reason(std::move(code), std::move(message)));
    return decision;
  }
};

Result<std::string> optional_text(Fields& fields, const std::string& name, size_t max_bytes) {
  if (!fields.has(name)) return std::string();
  auto text = TRY(fields.text(name, max_bytes));
  return one_line(text, max_bytes);
}

// What was found, or is asked for: a number, true and false stand for their texts.
Result<std::string> optional_detail(Fields& fields, const std::string& name) {
  if (!fields.has(name)) return std::string();
  const Json* value = TRY(fields.any(name));
  if (value->integer() || value->boolean()) return canonical(*value);
  auto* text = value->string();
  if (!text || text->size() > kMaxDetailBytes) {
    return Error(Code::kMalformed, "reasons." + name + ": expected a text of at most " +
                                       std::to_string(kMaxDetailBytes) +
                                       " bytes, a whole number, true or false");
  }
  return one_line(*text, kMaxDetailBytes);
}

// A text, or a table of these members.
Result<Reason> read_reason(const Json& value, const char* name, const Question& question) {
  if (auto* text = value.string()) {
    if (text->size() > kMaxMessageBytes) {
      return Error(Code::kMalformed,
                   "decision." + std::string(name) + ": expected at most 4096 bytes");
    }
    return question.reason("policy", *text);
  }
  auto fields = TRY(Fields::of(value, name));
  auto code = TRY(optional_text(fields, "code", 64));
  if (!code.empty() && !is_code(code))
    return Error(Code::kMalformed, "reasons.code: expected a-z, 0-9 and _.-");
  auto message = TRY(optional_text(fields, "message", kMaxMessageBytes));
  Reason reason = question.reason(code.empty() ? "policy" : code, message);
  reason.path = TRY(optional_text(fields, "path", kMaxDetailBytes));
  reason.got = TRY(optional_detail(fields, "got"));
  reason.need = TRY(optional_detail(fields, "need"));
  TRY(fields.done());
  return reason;
}

struct Answer {
  bool allow = false;
  std::optional<int64_t> price;
  std::vector<Reason> reasons;
  Obligations obligations;
};

Result<Answer> read_answer(const Json& value, const Question& question) {
  auto fields = TRY(Fields::of(value, "decision"));
  Answer answer;
  answer.allow = TRY(fields.boolean("allow"));
  if (fields.has("price")) answer.price = TRY(fields.integer("price"));
  if (fields.has("reason")) {
    const Json* only = TRY(fields.any("reason"));
    auto reason = TRY(read_reason(*only, "reason", question));
    answer.reasons.push_back(std::move(reason));
  }
  if (fields.has("reasons")) {
    const Json::Array* list = TRY(fields.array("reasons", kMaxReasons));
    for (const Json& item : *list) {
      auto reason = TRY(read_reason(item, "reasons", question));
      answer.reasons.push_back(std::move(reason));
    }
  }
  if (fields.has("obligations")) {
    const Json* obligations = TRY(fields.any("obligations"));
    bool none = obligations->array() && obligations->array()->empty();
    if (!none) answer.obligations = TRY(obligations_from_json(*obligations));
  }
  TRY(fields.done());
  return answer;
}

int64_t whole(const Json& value, const char* outer, const char* inner = nullptr) {
  const Json* member = value.find(outer);
  if (member && inner) member = member->find(inner);
  return member && member->integer() ? *member->integer() : 0;
}

// From a request and a dataset that their schemas have accepted.
RunFacts run_of(const Json& request, const Json& dataset) {
  RunFacts run;
  const Json* dp = request.find("dp");
  const Json* enabled = dp ? dp->find("enabled") : nullptr;
  run.private_run = enabled && enabled->boolean() && *enabled->boolean();
  run.epsilon_micro = whole(request, "dp", "epsilon_micro");
  run.delta_pico = whole(request, "dp", "delta_pico");
  // A request that does not say is not weaker for it: the trainer's plan is compared again.
  run.noise_micro =
      dp && dp->find("noise_micro") ? whole(request, "dp", "noise_micro") : kMaxJsonInteger;
  run.steps = whole(request, "steps");
  run.parameters = whole(request, "model", "parameters");
  run.algorithm = *request.find("algorithm")->string();
  const Json* providers = request.find("providers");
  run.co_providers = 0;
  if (providers && providers->array()) {
    for (const Json& provider : *providers->array())
      *run.co_providers += provider == *dataset.find("provider") ? 0 : 1;
  }
  return run;
}

PolicyDecision decide_answer(Answer answer, PolicyDecision decision, const Question& question,
                             const Json& request, const Json& dataset) {
  decision.reasons = std::move(answer.reasons);
  if (!answer.allow) {
    decision.status = DecisionStatus::kDenied;
    if (decision.reasons.empty())
      decision.reasons.push_back(
          question.reason("denied", "the policy denies this without a reason"));
    return decision;
  }
  auto weak = weaknesses(run_of(request, dataset), answer.obligations);
  if (!weak.empty()) {
    decision.status = DecisionStatus::kDenied;
    decision.reasons.clear();
    for (auto& weakness : weak) {
      Reason reason = question.reason(weakness.obligation,
                                      "the run is weaker than the policy obliges it to be");
      reason.path = std::move(weakness.path);
      reason.got = std::move(weakness.got);
      reason.need = std::move(weakness.need);
      decision.reasons.push_back(std::move(reason));
    }
    return decision;
  }
  decision.status = DecisionStatus::kAllowed;
  decision.price_minor = answer.price ? *answer.price : whole(dataset, "price");
  decision.obligations = std::move(answer.obligations);
  return decision;
}

}  // namespace

const std::set<std::string>& answer_members() {
  static const std::set<std::string> kMembers = {"allow", "reason", "reasons", "price",
                                                 "obligations"};
  return kMembers;
}
const std::set<std::string>& reason_members() {
  static const std::set<std::string> kMembers = {"code", "message", "path", "got", "need"};
  return kMembers;
}

const Digest& engine_hash() {
  static const Digest hash = ledger::sha256(as_bytes(kEngineSemantics));
  return hash;
}

const char* status_name(DecisionStatus status) {
  return kStatusNames[static_cast<size_t>(status)];
}

std::optional<DecisionStatus> status_of_name(std::string_view name) {
  for (size_t i = 0; i < kStatusNames.size(); ++i) {
    if (name == kStatusNames[i]) return static_cast<DecisionStatus>(i);
  }
  return std::nullopt;
}

Json to_json(const Reason& reason) {
  return Json::Object{{"code", reason.code},         {"message", reason.message},
                      {"provider", reason.provider}, {"dataset", reason.dataset},
                      {"path", reason.path},         {"got", reason.got},
                      {"need", reason.need}};
}

Result<Reason> reason_from_json(const Json& json) {
  auto fields = TRY(Fields::of(json, "reason"));
  Reason reason;
  reason.code = TRY(fields.text("code", 64));
  reason.message = TRY(fields.text("message", kMaxMessageBytes));
  reason.provider = TRY(fields.text("provider", 256));
  reason.dataset = TRY(fields.text("dataset", 256));
  reason.path = TRY(fields.text("path", kMaxDetailBytes));
  reason.got = TRY(fields.text("got", kMaxDetailBytes));
  reason.need = TRY(fields.text("need", kMaxDetailBytes));
  TRY(fields.done());
  if (!is_code(reason.code))
    return Error(Code::kMalformed, "reason.code: expected a-z, 0-9 and _.-");
  return reason;
}

Json PolicyDecision::to_json() const {
  Json::Array reason_list, reads;
  for (const auto& reason : reasons) reason_list.push_back(policy::to_json(reason));
  for (const auto& path : read_set) reads.push_back(path);
  return Json::Object{
      {"allow", allowed()},
      {"status", status_name(status)},
      {"reasons", std::move(reason_list)},
      {"price", price_minor},
      {"obligations", policy::to_json(obligations)},
      {"read_set", std::move(reads)},
      {"gas", gas},
      {"policy_hash", policy_hash},
      {"request_hash", request_hash},
      {"engine_hash", engine_hash},
  };
}

// The canonical form, written without making the tree first: it is hashed for every
// decision. Members in the order of their names.
std::string PolicyDecision::text() const {
  std::string out;
  out.reserve(1024);
  auto put_text = [&](std::string_view text) {
    bool plain = std::all_of(text.begin(), text.end(),
                             [](char c) { return c >= 0x20 && c < 0x7f && c != '"' && c != '\\'; });
    if (plain) {
      out += '"';
      out += text;
      out += '"';
    } else {
      out += canonical(Json(text));
    }
  };
  auto put_hash = [&](const Digest& hash) {
    out += '"';
    out += to_hex(ByteView(hash));
    out += '"';
  };
  auto put_list = [&](const auto& items, auto put) {
    out += '[';
    bool first = true;
    for (const auto& item : items) {
      if (!first) out += ',';
      first = false;
      put(item);
    }
    out += ']';
  };
  out += allowed() ? "{\"allow\":true,\"engine_hash\":" : "{\"allow\":false,\"engine_hash\":";
  put_hash(engine_hash);
  out += ",\"gas\":" + std::to_string(gas) + ",\"obligations\":";
  out += obligations == Obligations{} ? "{}" : canonical(policy::to_json(obligations));
  out += ",\"policy_hash\":";
  put_hash(policy_hash);
  out += ",\"price\":" + std::to_string(price_minor) + ",\"read_set\":";
  put_list(read_set, put_text);
  out += ",\"reasons\":";
  put_list(reasons, [&](const Reason& reason) {
    out += "{\"code\":";
    put_text(reason.code);
    out += ",\"dataset\":";
    put_text(reason.dataset);
    out += ",\"got\":";
    put_text(reason.got);
    out += ",\"message\":";
    put_text(reason.message);
    out += ",\"need\":";
    put_text(reason.need);
    out += ",\"path\":";
    put_text(reason.path);
    out += ",\"provider\":";
    put_text(reason.provider);
    out += '}';
  });
  out += ",\"request_hash\":";
  put_hash(request_hash);
  out += ",\"status\":\"";
  out += status_name(status);
  out += "\"}";
  return out;
}

Result<PolicyDecision> PolicyDecision::from_json(const Json& json) {
  auto fields = TRY(Fields::of(json, "decision"));
  PolicyDecision decision;
  auto name = TRY(fields.text("status", 32));
  auto status = status_of_name(name);
  if (!status) return Error(Code::kMalformed, "decision.status: expected a known status");
  decision.status = *status;
  const Json::Array* reason_list = TRY(fields.array("reasons", kMaxReasons + 1));
  for (const Json& item : *reason_list) {
    auto reason = TRY(reason_from_json(item));
    decision.reasons.push_back(std::move(reason));
  }
  bool allow = TRY(fields.boolean("allow"));
  decision.price_minor = TRY(fields.integer("price"));
  const Json* obligations = TRY(fields.any("obligations"));
  decision.obligations = TRY(obligations_from_json(*obligations));
  const Json::Array* reads = TRY(fields.array("read_set"));
  for (const Json& path : *reads) {
    if (!path.string()) return Error(Code::kMalformed, "decision.read_set: expected paths");
    decision.read_set.push_back(*path.string());
  }
  decision.gas = static_cast<uint64_t>(TRY(fields.integer("gas")));
  decision.policy_hash = TRY(fields.digest("policy_hash"));
  decision.request_hash = TRY(fields.digest("request_hash"));
  decision.engine_hash = TRY(fields.digest("engine_hash"));
  TRY(fields.done());
  if (allow != decision.allowed())
    return Error(Code::kMalformed,
                 "decision.allow: expected true with status allowed and no other");
  if (!decision.allowed() && decision.price_minor != 0)
    return Error(Code::kMalformed, "decision.price: expected 0 unless allowed");
  if (!decision.allowed() && decision.reasons.empty())
    return Error(Code::kMalformed, "decision.reasons: expected one unless allowed");
  return decision;
}

Digest PolicyDecision::hash() const {
  return ledger::sha256(as_bytes(text()));
}

Digest question_hash(const Digest& request, const Digest& dataset, const Digest& ctx) {
  std::array<uint8_t, 96> all{};
  std::copy(request.begin(), request.end(), all.begin());
  std::copy(dataset.begin(), dataset.end(), all.begin() + 32);
  std::copy(ctx.begin(), ctx.end(), all.begin() + 64);
  return ledger::sha256(all);
}

QuestionHashes hashes_of(std::string_view policy_source, const Json& request, const Json& dataset,
                         const Json& ctx) {
  auto digest = [](const Json& value) { return ledger::sha256(as_bytes(canonical(value))); };
  return {ledger::sha256(as_bytes(policy_source)),
          question_hash(digest(request), digest(dataset), digest(ctx))};
}

QuestionNames names_of(const Json& dataset) {
  return {name_of(dataset, "provider_name"), name_of(dataset, "name")};
}

PolicyDecision refused_text(const Error& why, const QuestionHashes& hashes,
                            const QuestionNames& names) {
  bool no_text = why.code() == Code::kMalformed;
  return Question{hashes, names}.no(
      no_text ? DecisionStatus::kInvalidPolicy : DecisionStatus::kPublishRejected,
      no_text ? "invalid_policy" : "publish_rejected", why.expected());
}

PolicyDecision refused_request(std::string_view policy_source, const Json& request,
                               const std::string& why) {
  const Json none;
  return Question{hashes_of(policy_source, request, none, none), {}}.no(
      DecisionStatus::kInvalidRequest, "invalid_request", why);
}

std::optional<PolicyDecision> refuse_early(std::string_view policy_source, const Json& request,
                                           const Json& dataset, const Json& ctx) {
  auto refuse = [&](auto how) {
    const QuestionHashes hashes = hashes_of(policy_source, request, dataset, ctx);
    const QuestionNames names = names_of(dataset);
    return how(hashes, names);
  };
  if (auto text = check_characters(policy_source); !text) {
    return refuse([&](const auto& hashes, const auto& names) {
      return refused_text(text.error(), hashes, names);
    });
  }
  for (const Status& shape :
       {validate_request(request), validate_dataset(dataset), validate_context(ctx)}) {
    if (shape) continue;
    return refuse([&](const auto& hashes, const auto& names) {
      return Question{hashes, names}.malformed(shape.error().expected());
    });
  }
  return std::nullopt;
}

PolicyDecision judge(Evaluation evaluation, const QuestionHashes& hashes,
                     const QuestionNames& names, const Json& request, const Json& dataset) {
  Question question{hashes, names};
  using Outcome = Evaluation::Outcome;
  PolicyDecision decision = question.start();
  decision.gas = evaluation.gas;
  decision.read_set = std::move(evaluation.read_set);
  auto failed = [&](DecisionStatus status, std::string code, std::string message) {
    decision.status = status;
    decision.reasons = {question.reason(std::move(code), std::move(message))};
    return decision;
  };
  switch (evaluation.outcome) {
    case Outcome::kLimit:
      return failed(DecisionStatus::kLimit, "limit", evaluation.error);
    case Outcome::kSyntax:
      return failed(DecisionStatus::kPublishRejected, "publish_rejected", evaluation.error);
    case Outcome::kError:
      return failed(DecisionStatus::kError, "error", evaluation.error);
    case Outcome::kValue:
      break;
  }
  auto answer = read_answer(evaluation.value, question);
  if (!answer) return failed(DecisionStatus::kError, "error", answer.error().expected());
  return decide_answer(std::move(*answer), std::move(decision), question, request, dataset);
}

PolicyDecision interrupted(DecisionStatus status, const QuestionHashes& hashes,
                           const QuestionNames& names) {
  Question question{hashes, names};
  return status == DecisionStatus::kLimit
             ? question.no(status, "limit", "the policy ran out of time")
             : question.no(DecisionStatus::kError, "error",
                           "the policy's worker died or gave no answer");
}

bool was_interrupted(std::string_view status, int64_t gas) {
  return gas == 0 && (status == status_name(DecisionStatus::kLimit) ||
                      status == status_name(DecisionStatus::kError));
}

PolicyDecision evaluate(std::string_view policy_source, const Json& request, const Json& dataset,
                        const Json& ctx, const Limits& limits) {
  if (auto refused = refuse_early(policy_source, request, dataset, ctx)) return *std::move(refused);
  auto evaluator = Evaluator::make();
  if (evaluator) return (*evaluator)->decide(policy_source, request, dataset, ctx, limits);
  Evaluation failed;
  failed.error = evaluator.error().expected();
  return judge(std::move(failed), hashes_of(policy_source, request, dataset, ctx),
               names_of(dataset), request, dataset);
}

}  // namespace souk::policy
