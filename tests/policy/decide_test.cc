#include "policy/decide/decide.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/policy/samples.h"

namespace souk::policy {
namespace {

using namespace samples;

PolicyDecision decide(std::string_view source) {
  return evaluate(source, sample_request(), sample_dataset(), sample_context());
}

TEST(Decide, AnAllowingPolicyGivesPriceAndObligations) {
  auto decision = decide(
      "return {allow = true, price = 4200, obligations = {max_epsilon_micro = 900000, "
      "allowed_algorithms = {'mlp', 'logreg'}}}");
  ASSERT_TRUE(decision.allowed()) << canonical(decision.to_json());
  EXPECT_EQ(decision.price_minor, 4200);
  EXPECT_EQ(decision.obligations.max_epsilon_micro, 900000);
  EXPECT_EQ(decision.obligations.allowed_algorithms, (std::vector<std::string>{"logreg", "mlp"}));
}

TEST(Decide, WithoutAPriceTheListPriceHolds) {
  EXPECT_EQ(decide("return {allow = true}").price_minor, 5000);
}

TEST(Decide, ADenialAlwaysHasAReason) {
  EXPECT_EQ(decide("return {allow = false}").reasons[0].code, "denied");
  auto plain = decide("return {allow = false, reason = 'not today'}");
  EXPECT_EQ(plain.reasons[0].code, "policy");
  EXPECT_EQ(plain.reasons[0].message, "not today");
  auto coded = decide(
      "local r = rules() r.require(false, 'purpose', 'request.purpose', request.purpose, "
      "'teaching') return r.decision{}");
  ASSERT_EQ(coded.status, DecisionStatus::kDenied);
  EXPECT_EQ(coded.reasons[0].code, "purpose");
  EXPECT_EQ(coded.reasons[0].got, "medical-research");
  EXPECT_EQ(coded.reasons[0].need, "teaching");
  EXPECT_EQ(coded.reasons[0].provider, "North Hospital");
  EXPECT_EQ(coded.reasons[0].dataset, "wdbc-north");
  auto counted =
      decide("return {allow = false, reason = {code = 'steps', got = request.steps, need = true}}");
  EXPECT_EQ(counted.status, DecisionStatus::kDenied);
  EXPECT_EQ(counted.reasons[0].code, "steps");
  EXPECT_EQ(counted.reasons[0].got, "400");
  EXPECT_EQ(counted.reasons[0].need, "true");
}

TEST(Decide, ARunWeakerThanTheObligationsIsDenied) {
  auto decision = decide(
      "return {allow = true, obligations = {max_epsilon_micro = 700000, min_noise_micro = "
      "1200000}}");
  ASSERT_EQ(decision.status, DecisionStatus::kDenied);
  ASSERT_EQ(decision.reasons.size(), 2u);
  EXPECT_EQ(decision.reasons[0].code, "max_epsilon_micro");
  EXPECT_EQ(decision.reasons[0].got, "800000");
  EXPECT_EQ(decision.price_minor, 0);
}

TEST(Decide, PrivacyIsWaivedByNameOnly) {
  Json request = sample_request();
  override_member(request, "dp",
                  Json::Object{{"enabled", false},
                               {"epsilon_micro", 0},
                               {"delta_pico", 0},
                               {"noise_micro", 0},
                               {"clip_micro", 0}});
  auto silent = evaluate(
      "if request.dp.epsilon_micro > 1000000 then return {allow = false} end return {allow = true}",
      request, sample_dataset(), sample_context());
  EXPECT_EQ(silent.status, DecisionStatus::kDenied);
  auto waived = evaluate("return {allow = true, obligations = {waive_privacy = true}}", request,
                         sample_dataset(), sample_context());
  EXPECT_TRUE(waived.allowed());
}

TEST(Decide, WhatIsNotADecisionIsAnError) {
  for (const char* source :
       {"return true", "return {}", "return {allow = 1}", "return {allow = 'true'}",
        "return {allow = true, price = -1}", "return {allow = true, price = 1.0}",
        "return {allow = true, price = '5'}", "return {allow = true, extra = 1}",
        "return {allow = true, obligations = {max_epsilon = 5}}",
        "return {allow = true, obligations = {max_steps = -1}}",
        "return {allow = true, obligations = {allowed_algorithms = {'gan'}}}",
        "return {allow = false, reasons = {{code = 'A B'}}}",
        "return {allow = false, reasons = {{kode = 'a'}}}",
        "return {allow = false, reason = {got = 0.5}}",
        "return {allow = false, reason = {got = {}}}", "return {allow = false, reason = 5}",
        "error('x')"}) {
    EXPECT_EQ(decide(source).status, DecisionStatus::kError) << source;
  }
  EXPECT_EQ(decide("return {").status, DecisionStatus::kPublishRejected);
  EXPECT_EQ(decide("return {allow = true} -- \xe2\x80\xae").status,
            DecisionStatus::kPublishRejected);
  EXPECT_EQ(decide("return {allow = true} -- \xff").status, DecisionStatus::kInvalidPolicy);
  EXPECT_EQ(decide(std::string(kMaxSourceBytes + 1, ' ')).status, DecisionStatus::kInvalidPolicy);
}

TEST(Decide, EveryMutatedRequestIsRefusedBeforeThePolicyRuns) {
  const std::vector<Json> lies = {
      Json(),      Json("nan"),           Json("0x10"),        Json(-1),
      Json(true),  Json(kMaxJsonInteger), Json(Json::Array{}), Json(Json::Object{}),
      Json("a\nb")};
  const char* allow_all = "return {allow = true}";
  int refused = 0;
  for (const char* path : {"id",
                           "consumer",
                           "purpose",
                           "region",
                           "algorithm",
                           "model",
                           "model.parameters",
                           "model.ops",
                           "epochs",
                           "steps",
                           "batch",
                           "payment",
                           "currency",
                           "dp",
                           "dp.enabled",
                           "dp.epsilon_micro",
                           "dp.delta_pico",
                           "dp.noise_micro",
                           "output",
                           "output.form",
                           "datasets",
                           "credentials",
                           "credential_details",
                           "extra"}) {
    for (const Json& lie : lies) {
      Json request = sample_request();
      override_member(request, path, lie);
      if (request == sample_request() || validate_request(request)) continue;
      auto decision = evaluate(allow_all, request, sample_dataset(), sample_context());
      EXPECT_EQ(decision.status, DecisionStatus::kInvalidRequest) << path;
      EXPECT_EQ(decision.gas, 0u);
      ++refused;
    }
  }
  EXPECT_GT(refused, 150);
  Json nan = sample_request();
  override_member(nan, "dp.epsilon_micro", Json("nan"));
  EXPECT_FALSE(validate_request(nan));
}

TEST(Decide, ADecisionReadsBackAsItself) {
  for (const char* source : {"return {allow = true, price = 1, obligations = {max_steps = 400, "
                             "output_form = 'weights'}, reason = 'ok'}",
                             "return {allow = false}", "error()", "while true do end"}) {
    auto decision = decide(source);
    auto back = PolicyDecision::from_json(decision.to_json());
    ASSERT_TRUE(back) << back.error().expected();
    EXPECT_EQ(*back, decision);
    EXPECT_EQ(back->hash(), decision.hash());
    const Json whole = decision.to_json();
    for (const auto& [name, value] : *whole.object()) {
      Json less = whole;
      less.object()->erase(name);
      EXPECT_FALSE(PolicyDecision::from_json(less)) << name;
    }
  }
}

TEST(Decide, TheHashesBindPolicyRequestDatasetAndContext) {
  auto base = decide("return {allow = true}");
  EXPECT_NE(decide("return {allow = true} ").policy_hash, base.policy_hash);
  Json ctx = sample_context();
  override_member(ctx, "runs", Json(2));
  EXPECT_NE(evaluate("return {allow = true}", sample_request(), sample_dataset(), ctx).request_hash,
            base.request_hash);
}

TEST(Source, LookalikesControlsAndOverlongTextsAreRefused) {
  EXPECT_TRUE(check_source("-- caf\xc3\xa9, \xe6\x97\xa5\xe6\x9c\xac\r\n\treturn 1"));
  for (const char* text : {"return '\xd0\xb0'", "return '\xce\xbf'", "return 1 \x01",
                           "return 1 \xe2\x80\x8b", "return 1 \xef\xbb\xbf", "-- \xc2\xa0",
                           "return '\xff'", "-- \xe2\x81\xa6", "return 1\rreturn 2"}) {
    auto refused = check_source(text);
    ASSERT_FALSE(refused) << text;
    EXPECT_NE(refused.error().expected().find("line 1"), std::string::npos);
  }
  EXPECT_FALSE(check_source(std::string(kMaxSourceBytes + 1, ' ')));
  EXPECT_TRUE(check_source(std::string(kMaxSourceBytes, ' ')));
  EXPECT_FALSE(check_source("return ("));
}

// --- obligations ---------------------------------------------------------------

contracts::TrainingSpec plain_spec() {
  contracts::TrainingSpec spec;
  spec.input_shape = {4};
  contracts::Node node;
  node.units = 2;
  spec.model = {node};
  spec.steps = 10;
  spec.batch = 4;
  spec.sampling_threshold = 1 << 20;
  spec.learning_rate = {{10, 0.1}};
  spec.privacy = contracts::PrivacySpec{1.0, 1.1, 1000000, 1000000};
  return spec;
}

Obligations random_obligations(std::mt19937_64& random) {
  Obligations out;
  auto maybe = [&](int64_t around) -> std::optional<int64_t> {
    if (random() % 2) return std::nullopt;
    return around + static_cast<int64_t>(random() % 5) - 2;
  };
  out.max_epsilon_micro = maybe(1000000);
  out.max_delta_pico = maybe(1000000);
  out.min_noise_micro = maybe(1100000);
  out.max_steps = maybe(10);
  out.max_parameters = maybe(10);
  if (random() % 2) {
    std::vector<std::string> names;
    for (const char* name : {"cnn", "logreg", "mlp"}) {
      if (random() % 2) names.push_back(name);
    }
    out.allowed_algorithms = names;
  }
  out.min_co_providers = maybe(3);
  out.max_retention_days = maybe(30);
  out.embargo_until = maybe(1000);
  if (random() % 2) {
    std::vector<std::string> names;
    for (const char* name : {"Clinic A", "Clinic B", "Institute"}) {
      if (random() % 2) names.push_back(name);
    }
    out.attribution = names;
  }
  if (random() % 2) out.output_form = Obligations::OutputForm::kWeights;
  out.waive_privacy = random() % 2;
  return out;
}

TEST(Obligations, TheMeetAcceptsExactlyWhatBothAccept) {
  std::mt19937_64 random(7);
  int accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    Obligations a = random_obligations(random), b = random_obligations(random),
                c = random_obligations(random);
    Obligations both = meet(a, b);
    EXPECT_EQ(both, meet(b, a));
    EXPECT_EQ(meet(a, a), a);
    EXPECT_EQ(meet(meet(a, b), c), meet(a, meet(b, c)));
    auto spec = plain_spec();
    if (random() % 4 == 0) spec.privacy.reset();
    bool by_both = check_obligations(spec, a) && check_obligations(spec, b);
    EXPECT_EQ(static_cast<bool>(check_obligations(spec, both)), by_both);
    accepted += by_both;
    auto back = obligations_from_json(to_json(both));
    ASSERT_TRUE(back);
    EXPECT_EQ(*back, both);
  }
  EXPECT_GT(accepted, 100);
}

TEST(Obligations, OneUnitWeakerIsRefusedAndNamed) {
  Obligations exact;
  exact.max_epsilon_micro = 1000000;
  exact.max_delta_pico = 1000000;
  exact.min_noise_micro = 1100000;
  exact.max_steps = 10;
  exact.max_parameters = 10;
  exact.allowed_algorithms = std::vector<std::string>{"logreg"};
  ASSERT_TRUE(check_obligations(plain_spec(), exact));
  auto expect_refused = [&](const char* name, contracts::TrainingSpec spec) {
    auto status = check_obligations(spec, exact);
    ASSERT_FALSE(status) << name;
    EXPECT_EQ(status.error().code(), Code::kRefused);
    EXPECT_NE(status.error().expected().find(name), std::string::npos) << status.error().expected();
  };
  auto spec = plain_spec();
  spec.privacy->epsilon_micro += 1;
  expect_refused("max_epsilon_micro", spec);
  spec = plain_spec();
  spec.privacy->delta_pico += 1;
  expect_refused("max_delta_pico", spec);
  spec = plain_spec();
  spec.privacy->noise_multiplier = 1.0999995;
  expect_refused("min_noise_micro", spec);
  spec.privacy->noise_multiplier = 50;
  EXPECT_TRUE(check_obligations(spec, exact));
  spec = plain_spec();
  spec.steps = 11;
  spec.learning_rate[0].steps = 11;
  expect_refused("max_steps", spec);
  spec = plain_spec();
  spec.privacy.reset();
  expect_refused("waive_privacy", spec);
}

TEST(Decide, TooFewOtherProvidersBreakTheObligation) {
  const char* crowd = "return {allow = true, obligations = {min_co_providers = 2}}";
  Json request = sample_request();
  auto alone = evaluate(crowd, request, sample_dataset(), sample_context());
  ASSERT_EQ(alone.status, DecisionStatus::kDenied);
  EXPECT_EQ(alone.reasons[0].code, "min_co_providers");
  override_member(request, "providers", Json::Array{"p1", "p2"});
  EXPECT_FALSE(evaluate(crowd, request, sample_dataset(), sample_context()).allowed());
  override_member(request, "providers", Json::Array{"p1", "p2", "p3"});
  EXPECT_TRUE(evaluate(crowd, request, sample_dataset(), sample_context()).allowed());
}

TEST(Request, BuiltRequestsPassTheirOwnSchema) {
  RequestFacts facts;
  facts.purpose = "medical-research";
  facts.payment_minor = 100;
  facts.currency = "EUR";
  facts.rows_total = 100;
  facts.credentials = {{"irb-approved", PublicKey(), 5}, {"irb-approved", PublicKey(), 6}};
  auto request = build_request(plain_spec(), facts);
  ASSERT_TRUE(request) << request.error().expected();
  EXPECT_EQ(*request->find("algorithm")->string(), "logreg");
  EXPECT_EQ(*request->find("dp")->find("noise_micro")->integer(), 1100000);
  EXPECT_EQ(request->find("credentials")->array()->size(), 1u);
  EXPECT_TRUE(validate_dataset(build_dataset({DatasetId(), "d", PublicKey(), "p", 5, 6, 7, 8})));
  EXPECT_TRUE(validate_context(build_context({1, 2, 3, 4, {5, 6, 7}, {8, 9, 10}})));
  Json lie = build_context({1, 2, 3, 4, {5, 6, 7}, {8, 9, 10}});
  override_member(lie, "consumer.runs", Json(-1));
  EXPECT_FALSE(validate_context(lie));
  Json twice = *request;
  override_member(twice, "providers", Json::Array{"p1", "p1"});
  EXPECT_FALSE(validate_request(twice));
  facts.purpose = "two\nlines";
  EXPECT_FALSE(build_request(plain_spec(), facts));
}

}  // namespace
}  // namespace souk::policy
