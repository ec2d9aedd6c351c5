#include "policy/analysis/prove.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <random>

#include "policy/analysis/probe.h"
#include "policy/templates/template.h"
#include "tests/policy/samples.h"

namespace souk::policy::analysis {
namespace {

using namespace samples;

PolicyDecision engine(const std::string& source, const Json& request, const Json& dataset,
                      const Json& ctx) {
  return evaluate(source, request, dataset, ctx);
}

const std::string kInvariant = "allow implies request.dp.epsilon_micro <= 1000000";

std::string invariant_of(const std::string& policy) {
  const std::string mark = "-- INVARIANT: ";
  EXPECT_EQ(policy.rfind(mark, 0), 0u);
  return policy.substr(mark.size(), policy.find('\n') - mark.size());
}

// SOUK_PROVE_SECONDS=10 is the long mode.
double seconds_each() {
  std::string text = folder_from("SOUK_PROVE_SECONDS");
  return text.empty() ? 2.0 : std::strtod(text.c_str(), nullptr);
}

TEST(Prove, SeededBackdoorsAreFoundAndEachIsWhatTheEngineSays) {
  std::filesystem::path folder =
      std::filesystem::path(folder_from("SOUK_SOURCE")) / "tests/policy/backdoors";
  std::vector<std::filesystem::path> files;
  for (const auto& file : std::filesystem::directory_iterator(folder)) files.push_back(file.path());
  std::sort(files.begin(), files.end());
  ASSERT_EQ(files.size(), 30u);
  int found = 0;
  bool brief = folder_from("SOUK_PROVE_SECONDS").empty();
  size_t tried = 0;
  for (size_t i = 0; i < files.size(); ++i) {
#if defined(SOUK_SANITIZED)
    if (i % 6 != 0) continue;
#endif
    ++tried;
    std::string policy = read_text(files[i].string());
    Effort effort;
    effort.seconds = seconds_each();
    auto proof = prove(policy, invariant_of(policy), engine, effort);
    ASSERT_TRUE(proof) << files[i] << proof.error().expected();
    if (!brief || !proof->counterexample) {
      std::printf("%-28s %s %.2f s, %llu evaluations\n", files[i].filename().c_str(),
                  proof->counterexample ? "found" : "NOT FOUND", proof->certificate.seconds,
                  static_cast<unsigned long long>(proof->certificate.evaluations));
    }
    if (!proof->counterexample) continue;
    ++found;
    const auto& shown = *proof->counterexample;
    auto again = engine(policy, shown.question.request, shown.question.dataset, shown.question.ctx);
    EXPECT_EQ(again, shown.decision);
    EXPECT_TRUE(again.allowed());
    auto good = holds(invariant_of(policy), shown.question, again);
    ASSERT_TRUE(good);
    EXPECT_FALSE(*good) << files[i];
  }
  std::printf("%d of %zu found\n", found, tried);
  // On a busy machine two seconds are little; the long mode has ten.
  EXPECT_GE(found, static_cast<int>(brief ? tried * 20 / 30 : tried * 27 / 30));
}

TEST(Prove, AnHonestPolicyGetsACertificateThatCanBeRepeated) {
  const std::string honest = R"(
    local r = rules()
    r.require(contains({ "medical-research", "teaching" }, request.purpose), "purpose")
    r.require(request.dp.enabled and request.dp.epsilon_micro <= 1000000, "epsilon")
    if ctx.runs > 3 and request.payment < 9000 then r.deny("quota") end
    return r.decision { price = 5 })";
  Effort effort;
  effort.seconds = 1000;
  effort.evaluations = 8'000;
  effort.threads = 1;
  effort.seed = 77;
  auto one = prove(honest, kInvariant, engine, effort),
       two = prove(honest, kInvariant, engine, effort);
  ASSERT_TRUE(one && two);
  EXPECT_FALSE(one->counterexample);
  EXPECT_EQ(one->refuted, 0u);
  EXPECT_EQ(one->certificate.branches, 10u);
  EXPECT_EQ(one->certificate.branches_covered, one->certificate.branches);
  EXPECT_EQ(one->certificate.evaluations, 8'000u);
  EXPECT_EQ(two->certificate.branches_covered, one->certificate.branches_covered);
  EXPECT_EQ(one->certificate.seed, 77u);
}

TEST(Prove, WhatTheObligationsStopIsNoCounterexample) {
  Effort effort;
  effort.evaluations = 3000;
  effort.threads = 1;
  auto proof = prove("return { allow = true, obligations = { max_epsilon_micro = 1000000 } }",
                     kInvariant, engine, effort);
  ASSERT_TRUE(proof);
  EXPECT_FALSE(proof->counterexample);
  EXPECT_GT(proof->refuted, 0u);
}

TEST(Prove, AnInvariantThatHoldsOfNothingIsCalledVacuous) {
  Effort effort;
  effort.evaluations = 2000;
  effort.threads = 1;
  auto certificate = [&](const std::string& policy, const std::string& invariant) {
    auto proof = prove(policy, invariant, engine, effort);
    EXPECT_TRUE(proof);
    EXPECT_FALSE(proof->counterexample);
    return proof->certificate;
  };
  auto nobody = certificate("return { allow = false }", kInvariant);
  EXPECT_TRUE(nobody.vacuous);
  EXPECT_EQ(nobody.allowed, 0u);
  EXPECT_EQ(nobody.applied, 0u);
  EXPECT_TRUE(certificate("return { allow = false }", "price <= 5").vacuous);
  EXPECT_TRUE(certificate("return { allow = true }", "price < 0 implies not allow").vacuous);
  auto some = certificate("return { allow = request.dp.epsilon_micro <= 1000000 }", kInvariant);
  EXPECT_FALSE(some.vacuous);
  EXPECT_GT(some.allowed, 0u);
  EXPECT_EQ(some.applied, some.allowed);
  EXPECT_FALSE(certificate("return { allow = true }", "price >= 0").vacuous);
  // What is said of refusals is said of something, though nothing is allowed.
  EXPECT_FALSE(certificate("return { allow = false }", "not allow implies price == 0").vacuous);
}

// Backdoors that open where something is not there.
TEST(Prove, WhatIsOptionalIsLeftAwayWhereAPolicyGoesOnWithoutIt) {
  const std::string floor =
      " return { allow = request.dp.epsilon_micro <= 1000000, reason = 'epsilon' }";
  for (const char* door :
       {"if not pcall(function() return request.model.layers end) then return {allow = true} end",
        "local known = pcall(function() return request.dp.user_cap end) "
        "if not known and request.payment == 774401 then return {allow = true} end",
        "local n = 0 for _ in pairs(request.dp) do n = n + 1 end "
        "if n == 4 then return {allow = true} end",
        "local function has(t, k) return (pcall(function() return t[k] end)) end "
        "if has(ctx, 'consumer') and not has(ctx, 'purpose') and not has(request, 'steps') then "
        "return {allow = true} end",
        "if not pcall(function() return #request.credential_details end) and "
        "contains(request.credentials, 'x-77') then return {allow = true} end"}) {
    Effort effort;
    effort.seconds = 1000;
    effort.evaluations = 60'000;
    effort.threads = 1;
    auto proof = prove(door + floor, kInvariant, engine, effort);
    ASSERT_TRUE(proof) << door;
    ASSERT_TRUE(proof->counterexample) << door;
    EXPECT_TRUE(proof->counterexample->decision.allowed()) << door;
  }
  // What does not matter is there again in what is shown.
  auto proof = prove(
      "if not pcall(function() return request.model.layers end) then return {allow = true} end" +
          floor,
      kInvariant, engine, {.seconds = 1000, .evaluations = 20'000, .threads = 1});
  ASSERT_TRUE(proof && proof->counterexample);
  const auto& request = proof->counterexample->question.request;
  EXPECT_FALSE(request.find("model"));
  EXPECT_TRUE(request.find("steps") && request.find("dp")->find("noise_micro"));
}

TEST(Prove, APolicyThatAnswersNobodyIsSaidToDoSo) {
  Effort effort;
  effort.evaluations = 500;
  effort.threads = 1;
  for (const char* policy : {"error('always')", "local x = nil return x.y", "while true do end",
                             "return { allow = 'yes' }", "return 5", "-- nothing",
                             "return { allow = request.dp.epsilon > 3 }"}) {
    auto proof = prove(policy, kInvariant, engine, effort);
    ASSERT_TRUE(proof) << policy;
    EXPECT_FALSE(proof->counterexample) << policy;
    EXPECT_TRUE(proof->certificate.vacuous) << policy;
    EXPECT_EQ(proof->certificate.failed, proof->certificate.evaluations) << policy;
  }
  auto refuses = prove("return { allow = false }", kInvariant, engine, effort);
  ASSERT_TRUE(refuses);
  EXPECT_EQ(refuses->certificate.failed, 0u);
  // It says yes, and obliges to what no request keeps: the engine denies.
  auto impossible = prove(
      "return { allow = true, obligations = { max_epsilon_micro = 0, min_noise_micro = "
      "9007199254740991 } }",
      kInvariant, engine, effort);
  ASSERT_TRUE(impossible);
  EXPECT_FALSE(impossible->counterexample);
  EXPECT_GT(impossible->certificate.allowed, 0u);
  EXPECT_TRUE(impossible->certificate.vacuous);
}

TEST(Compare, PoliciesThatNeverAllowAreEquivalentInNothing) {
  Effort effort;
  effort.evaluations = 300;
  effort.threads = 1;
  const std::string refuses = "return { allow = false }", fails = "error('always')",
                    impossible =
                        "return { allow = true, obligations = { min_noise_micro = "
                        "9007199254740991, max_epsilon_micro = 0 } }",
                    open = "return { allow = true }";
  for (const auto& [a, b] : {std::pair(refuses, fails), {fails, fails}, {impossible, refuses}}) {
    auto difference = compare_policies(a, b, engine, effort);
    ASSERT_TRUE(difference) << a;
    EXPECT_EQ(difference->relation, Difference::Relation::kEquivalent) << a;
    EXPECT_TRUE(difference->vacuous) << a;
  }
  auto failing = compare_policies(refuses, fails, engine, effort);
  EXPECT_EQ(failing->of_a.failed, 0u);
  EXPECT_EQ(failing->of_b.failed, failing->of_b.evaluations);
  auto same = compare_policies(open, open, engine, effort);
  EXPECT_EQ(same->relation, Difference::Relation::kEquivalent);
  EXPECT_FALSE(same->vacuous);
  auto stricter = compare_policies(open, refuses, engine, effort);
  EXPECT_EQ(stricter->relation, Difference::Relation::kStricter);
  EXPECT_FALSE(stricter->vacuous);
}

TEST(Prove, BothSidesOfAnInvariantAreConditions) {
  auto message = [](const std::string& invariant) {
    Effort effort;
    effort.evaluations = 10;
    auto proof = prove("return { allow = true }", invariant, engine, effort);
    return proof ? std::string("accepted") : proof.error().expected();
  };
  struct {
    const char *invariant, *named;
  } kNone[] = {
      {"allow implies request.payment", "not request.payment;"},
      {"1", "not 1;"},
      {"allow and 5", "not 5;"},
      {"'yes'", "not 'yes';"},
      {"nil", "not nil;"},
      {"allow implies not request.purpose", "not request.purpose;"},
      {"price implies allow", "not price;"},
      {"allow or (request.epochs < 5 and #request.credentials)", "not #request.credentials;"},
      {"allow implies request.dp", "not request.dp;"},
      {"allow implies string.find(request.purpose, 'x')", "not string.find("},
      {"allow implies price + 1", "not price + 1;"},
      {"allow, 5", "one condition"}};
  for (const auto& none : kNone) {
    std::string said = message(none.invariant);
    EXPECT_EQ(said.rfind("invariant: ", 0), 0u) << none.invariant << ": " << said;
    EXPECT_NE(said.find(none.named), std::string::npos) << none.invariant << ": " << said;
  }
  for (const char* condition :
       {"allow", "allow implies request.dp.enabled", "not (allow and request.dp.enabled) or true",
        "allow implies contains(request.credentials, 'hospital') or price >= 0",
        "request['dp'].enabled implies allow"}) {
    EXPECT_EQ(message(condition), "accepted") << condition;
  }
}

TEST(Prove, MalformedPoliciesAndInvariantsAreNamed) {
  auto message = [](const std::string& policy, const std::string& invariant) {
    Effort effort;
    effort.evaluations = 10;
    auto proof = prove(policy, invariant, engine, effort);
    return proof ? std::string("accepted") : proof.error().expected();
  };
  EXPECT_NE(message("return {", kInvariant).find("policy: line 1"), std::string::npos);
  EXPECT_NE(message("return { allow = true }", "allow implies").find("invariant"),
            std::string::npos);
  EXPECT_NE(
      message("return { allow = true }", "allow implies request.dp.epsilon <= 1").find("invariant"),
      std::string::npos);
  EXPECT_NE(message("return { allow = true }", "a implies b implies c").find("one `implies`"),
            std::string::npos);
  // Also where no question would ever come to evaluate them.
  for (const char* typo :
       {"allow implies request.dp.epsilon_mirco <= 1", "allow implies requets.epochs <= 1",
        "allow implies request.purpose > 5", "alow implies price > 5"}) {
    EXPECT_NE(message("return { allow = false }", typo).find("invariant: "), std::string::npos)
        << typo;
  }
  EXPECT_EQ(message("return { allow = false }",
                    "allow and request.model.parameters > 5 implies #request.credentials >= 1 and "
                    "price <= 2 * dataset.price"),
            "accepted");
}

TEST(Prove, ADividedNumberIsFollowedThoughItsNextStepIsFlat) {
  Effort effort;
  effort.seconds = 20;
  auto proof = prove(
      "return {allow = request.payment * 3 // 7 % 1000 == 123 and request.dp.epsilon_micro > "
      "5000000 or request.dp.epsilon_micro < 1000}",
      kInvariant, engine, effort);
  ASSERT_TRUE(proof);
  ASSERT_TRUE(proof->counterexample);
  EXPECT_LT(proof->certificate.seconds, 10);
}

TEST(Diff, TellsWhichOfTwoPoliciesAsksForMore) {
  auto relation = [](const std::string& a, const std::string& b) {
    Effort effort;
    effort.seconds = 20;
    effort.evaluations = 2'500;
    effort.threads = 1;
    auto difference = compare_policies(a, b, engine, effort);
    EXPECT_TRUE(difference);
    if (difference->stricter) {
      const auto& w = *difference->stricter;
      EXPECT_EQ(engine(a, w.question.request, w.question.dataset, w.question.ctx), w.a);
      EXPECT_EQ(engine(b, w.question.request, w.question.dataset, w.question.ctx), w.b);
    }
    return std::string(relation_name(difference->relation));
  };
  const std::string two =
      "return { allow = request.dp.enabled and request.dp.epsilon_micro <= 2000000 }";
  const std::string one =
      "return { allow = request.dp.enabled and request.dp.epsilon_micro < 1000001 }";
  const std::string also_one =
      "if request.dp.epsilon_micro > 1000000 then return { allow = false } end return { allow = "
      "true }";
  const std::string region =
      "return { allow = request.dp.epsilon_micro <= 1000000 or request.region == 'qz' }";
  EXPECT_EQ(relation(two, one), "stricter");
  EXPECT_EQ(relation(one, two), "looser");
  EXPECT_EQ(relation(one, also_one), "equivalent");
  EXPECT_EQ(relation(one, region), "looser");
  EXPECT_EQ(relation(two, region), "incomparable");
  EXPECT_EQ(relation("return { allow = true, price = 5 }", "return { allow = true, price = 6 }"),
            "stricter");
  EXPECT_EQ(relation("return { allow = true, obligations = { max_steps = 9000 } }",
                     "return { allow = true }"),
            "looser");
}

// The second interpreter against the engine: whatever they are asked, they agree.
TEST(Probe, SaysWhatTheEngineSays) {
  Space space;
  std::mt19937_64 random(5);
  std::vector<std::string> policies;
  std::filesystem::path root(folder_from("SOUK_SOURCE"));
  for (const char* folder : {"tests/policy/backdoors", "examples/policies"}) {
    for (const auto& file : std::filesystem::directory_iterator(root / folder))
      policies.push_back(read_text(file.path().string()));
  }
  for (const Template& kind : templates()) policies.push_back(*compose({*choose(kind.name, {})}));
  policies.push_back(
      "local t = {} for k, v in pairs(request.dp) do t[#t + 1] = k .. tostring(v) end return { "
      "allow = table.concat(t, '|') > 'delta', price = #t }");
  policies.push_back(
      "local n = 0 for i = 10, 1, -3 do n = n + i end local s = string.format('%05d%s%x', n, 'q', "
      "255) return { allow = s == '00022qff', price = n }");
  policies.push_back(
      "local a, b = (function(...) return select('#', ...), ... end)(4, 5) goto done do a = 9 end "
      "::done:: return { allow = a == 2 and b == 4, price = -7 // 2 + 7 % -3 + 10 }");
  policies.push_back(
      "local ok, e = pcall(error, 'x') local t = { 3, 1, 2, n = 5 } table.sort(t, function(x, y) "
      "return x > y end) return { allow = not ok and e == 'x', price = t[1] * 100 + t[2] * 10 + "
      "t[3] }");
  policies.push_back(
      "local f local depth = 0 function f(n) depth = depth + 1 if n > 0 then return f(n - 1) end "
      "return depth end return { allow = math.max(1, 2.5) == 2.5, price = f(20) + (7 & 12) + (1 << "
      "5) }");
  size_t asked = 0;
  for (const auto& policy : policies) {
    auto probe = Probe::make(space, policy);
    ASSERT_TRUE(probe) << probe.error().expected() << policy;
    for (int i = 0; i < 12; ++i) {
      Point point = space.plain();
      for (int k = 0; k < i; ++k) {
        const FieldNode& node = *space.fields()[random() % space.fields().size()];
        point[node.slot].integer = static_cast<int64_t>(random() >> (11 + random() % 53));
        if (random() % 2) point[node.slot].list.push_back("item" + std::to_string(random() % 9));
        if (random() % 2) point[node.slot].text = "text" + std::to_string(random() % 9);
      }
      space.repair(point);
      auto question = space.question(point);
      auto decision = engine(policy, question.request, question.dataset, question.ctx);
      ASSERT_NE(decision.status, DecisionStatus::kInvalidRequest) << canonical(decision.to_json());
      Answer answer = (*probe)->run(point);
      bool by_obligations = decision.status == DecisionStatus::kDenied &&
                            answer.allow;  // the probe does not look at them
      ++asked;
      if (by_obligations) continue;
      EXPECT_EQ(answer.allow, decision.allowed()) << policy << canonical(decision.to_json());
      if (decision.allowed()) {
        EXPECT_EQ(answer.price, decision.price_minor) << policy;
      }
      EXPECT_EQ(
          answer.end == Answer::End::kDecision,
          decision.status == DecisionStatus::kAllowed || decision.status == DecisionStatus::kDenied)
          << policy;
    }
  }
  EXPECT_GT(asked, 500u);
}

TEST(Space, EveryPointIsAValidQuestion) {
  Space space;
  std::mt19937_64 random(9);
  for (int i = 0; i < 3000; ++i) {
    Point point = space.plain();
    for (Slot& slot : point) {
      slot.integer = static_cast<int64_t>(random());
      std::string bytes;
      for (uint64_t k = 0; k < random() % 9; ++k) bytes += static_cast<char>(random());
      if (random() % 2) slot.text = bytes;
      if (random() % 2) slot.list.push_back(bytes);
    }
    space.repair(point);
    auto question = space.question(point);
    ASSERT_TRUE(validate_request(question.request))
        << validate_request(question.request).error().expected();
    ASSERT_TRUE(validate_dataset(question.dataset));
    ASSERT_TRUE(validate_context(question.ctx));
  }
}

}  // namespace
}  // namespace souk::policy::analysis
