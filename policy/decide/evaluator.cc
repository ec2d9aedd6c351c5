#include "policy/decide/evaluator.h"

#include <array>
#include <list>

#include "ledger/crypto/hash.h"
#include "policy/decide/schema.h"
#include "policy/lua/utf8.h"

namespace souk::policy {
namespace {

constexpr size_t kKeptPolicies = 16;
const std::vector<std::string> kNames = {"request", "dataset", "ctx"};

std::string text_member(const Json& value, const char* member) {
  const Json* text = value.find(member);
  return text && text->string() ? one_line(*text->string(), 256) : std::string();
}

}  // namespace

Checked::Checked(std::string_view root, Json value)
    : facts_(std::string(root), std::move(value)),
      text_(canonical(facts_.value())),
      digest_(ledger::sha256(as_bytes(text_))) {
  if (root != "dataset") return;
  provider_name_ = text_member(facts_.value(), "provider_name");
  name_ = text_member(facts_.value(), "name");
}

Result<std::shared_ptr<const Checked>> Checked::of(std::string_view root, Json value) {
  TRY(check_schema(root, value));
  return std::shared_ptr<const Checked>(new Checked(root, std::move(value)));
}

class Evaluator::Policy {
 public:
  std::string source;
  Digest digest{};
  Status characters = Done{};
  std::shared_ptr<const Machine::Loaded> loaded;  // where the characters are fine
};

struct Evaluator::Parts {
  std::unique_ptr<Machine> machine;
  std::list<std::shared_ptr<const Policy>> recent;  // the latest first
};

Evaluator::Evaluator(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Evaluator::~Evaluator() = default;

Result<std::unique_ptr<Evaluator>> Evaluator::make() {
  auto parts = std::make_unique<Parts>();
  parts->machine = TRY(Machine::boot(Vocabulary::kPolicy));
  return std::unique_ptr<Evaluator>(new Evaluator(std::move(parts)));
}

std::shared_ptr<const Evaluator::Policy> Evaluator::prepare(std::string_view source) {
  auto& recent = parts_->recent;
  for (auto it = recent.begin(); it != recent.end(); ++it) {
    if ((*it)->source != source) continue;
    recent.splice(recent.begin(), recent, it);
    return recent.front();
  }
  auto policy = std::make_shared<Policy>();
  policy->source = source;
  policy->digest = ledger::sha256(as_bytes(source));
  policy->characters = check_characters(source);
  if (policy->characters) policy->loaded = parts_->machine->load(source, kNames);
  recent.push_front(std::move(policy));
  if (recent.size() > kKeptPolicies) recent.pop_back();
  return recent.front();
}

PolicyDecision Evaluator::decide(const Policy& policy, const Checked& request,
                                 const Checked& dataset, const Checked& ctx, const Limits& limits) {
  QuestionHashes hashes{policy.digest,
                        question_hash(request.digest(), dataset.digest(), ctx.digest())};
  QuestionNames names{dataset.provider_name(), dataset.name()};
  if (!policy.characters) return refused_text(policy.characters.error(), hashes, names);
  const std::array<const Facts*, 3> inputs = {&request.facts(), &dataset.facts(), &ctx.facts()};
  Evaluation evaluation = parts_->machine->run(*policy.loaded, inputs, limits);
  return judge(std::move(evaluation), hashes, names, request.value(), dataset.value());
}

PolicyDecision Evaluator::decide(std::string_view source, const Json& request, const Json& dataset,
                                 const Json& ctx, const Limits& limits) {
  if (auto refused = refuse_early(source, request, dataset, ctx)) return *std::move(refused);
  auto checked_request = Checked::of("request", request);
  auto checked_dataset = Checked::of("dataset", dataset);
  auto checked_ctx = Checked::of("ctx", ctx);
  CHECK(checked_request && checked_dataset && checked_ctx);  // refuse_early has asked
  return decide(*prepare(source), **checked_request, **checked_dataset, **checked_ctx, limits);
}

std::shared_ptr<const Evaluator::Policy> Evaluator::prepare_observed(
    std::string_view instrumented) {
  auto policy = std::make_shared<Policy>();
  policy->source = instrumented;
  policy->digest = ledger::sha256(as_bytes(instrumented));
  policy->loaded = parts_->machine->load(instrumented, kNames, Machine::Observed::kYes);
  return policy;
}

PolicyDecision Evaluator::observe(const Policy& observed, const Checked& request,
                                  const Checked& dataset, const Checked& ctx, const Limits& limits,
                                  Trace& trace) {
  const std::array<const Facts*, 3> inputs = {&request.facts(), &dataset.facts(), &ctx.facts()};
  Evaluation evaluation = parts_->machine->run(*observed.loaded, inputs, limits, {}, &trace);
  QuestionHashes hashes{observed.digest,
                        question_hash(request.digest(), dataset.digest(), ctx.digest())};
  return judge(std::move(evaluation), hashes,
               QuestionNames{dataset.provider_name(), dataset.name()}, request.value(),
               dataset.value());
}

}  // namespace souk::policy
