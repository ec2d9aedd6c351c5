#include "policy/decide/canonical.h"

namespace souk::policy {
namespace {

Json usage() {
  return Json::Object{{"spent_epsilon_micro", 0}, {"runs", 0}, {"last_run", 0}};
}

Json dataset_facts() {
  return Json::Object{
      {"id", std::string(64, 'd')},
      {"name", "rows"},
      {"provider", std::string(64, 'b')},
      {"provider_name", "provider"},
      {"rows", 1000},
      {"price", 5000},
      {"user_cap", 1},
      {"budget", Json::Object{{"epsilon_micro", 8'000'000}, {"delta_pico", 10'000'000}}}};
}

Json context_facts() {
  return Json::Object{{"now", int64_t{1'800'000'000'000}},
                      {"spent_epsilon_micro", 0},
                      {"runs", 0},
                      {"head", 10},
                      {"consumer", usage()},
                      {"purpose", usage()}};
}

// What a careful consumer asks for: little epsilon, a small model, a purpose, credentials, money.
Json modest_request() {
  return Json::Object{
      {"id", std::string(64, '1')},
      {"consumer", std::string(64, 'c')},
      {"purpose", "research"},
      {"region", "EU"},
      {"algorithm", "logreg"},
      {"model", Json::Object{{"parameters", 62}, {"layers", 1}, {"ops", Json::Array{"linear"}}}},
      {"epochs", 5},
      {"steps", 100},
      {"batch", 32},
      {"payment", 1'000'000},
      {"currency", "EUR"},
      {"dp", Json::Object{{"enabled", true},
                          {"epsilon_micro", 500'000},
                          {"delta_pico", 1'000'000},
                          {"noise_micro", 4'000'000},
                          {"clip_micro", 1'000'000},
                          {"user_cap", 1}}},
      {"output", Json::Object{{"form", "weights"}}},
      {"datasets", 3},
      {"providers", Json::Array{std::string(64, '7'), std::string(64, '8'), std::string(64, 'b')}},
      {"dataset_ids",
       Json::Array{std::string(64, '3'), std::string(64, '4'), std::string(64, 'd')}},
      {"dataset_names", Json::Array{"columns", "more rows", "rows"}},
      {"credentials", Json::Array{"hospital", "irb-approved"}},
      {"credential_details",
       Json::Array{Json::Object{{"type", "hospital"},
                                {"issuer", std::string(64, 'e')},
                                {"expires_ms", int64_t{1'900'000'000'000}}},
                   Json::Object{{"type", "irb-approved"},
                                {"issuer", std::string(64, 'e')},
                                {"expires_ms", int64_t{1'900'000'000'000}}}}}};
}

// No privacy, a large model, no credentials, no money.
Json greedy_request() {
  return Json::Object{{"id", std::string(64, '2')},
                      {"consumer", std::string(64, 'f')},
                      {"purpose", "resale"},
                      {"region", "XX"},
                      {"algorithm", "cnn"},
                      {"model", Json::Object{{"parameters", 40'000'000},
                                             {"layers", 200},
                                             {"ops", Json::Array{"conv2d", "linear", "relu"}}}},
                      {"epochs", 1000},
                      {"steps", 1'000'000},
                      {"batch", 65'536},
                      {"payment", 0},
                      {"currency", "EUR"},
                      {"dp", Json::Object{{"enabled", false},
                                          {"epsilon_micro", 0},
                                          {"delta_pico", 0},
                                          {"noise_micro", 0},
                                          {"clip_micro", 0},
                                          {"user_cap", 1}}},
                      {"output", Json::Object{{"form", "weights"}}},
                      {"datasets", 1},
                      {"providers", Json::Array{std::string(64, 'b')}},
                      {"dataset_ids", Json::Array{std::string(64, 'd')}},
                      {"dataset_names", Json::Array{"rows"}},
                      {"credentials", Json::Array{}},
                      {"credential_details", Json::Array{}}};
}

}  // namespace

const std::vector<CanonicalQuestion>& canonical_questions() {
  static const std::vector<CanonicalQuestion> all = {
      {"modest", modest_request(), dataset_facts(), context_facts()},
      {"greedy", greedy_request(), dataset_facts(), context_facts()}};
  return all;
}

Status answers_canonical(const AskPolicy& ask) {
  std::string failure;
  for (const auto& question : canonical_questions()) {
    auto answer = ask(question.request, question.dataset, question.ctx);
    if (answer.status == DecisionStatus::kAllowed || answer.status == DecisionStatus::kDenied) {
      return Done{};
    }
    if (!failure.empty()) continue;
    failure = std::string(
                  "publish_rejected: expected a policy that answers a request; a modest one "
                  "and a greedy one end in status ") +
              status_name(answer.status);
    if (!answer.reasons.empty()) failure += ": " + answer.reasons.front().message;
  }
  return Error(Code::kRefused, failure);
}

}  // namespace souk::policy
