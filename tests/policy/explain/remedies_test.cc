#include "policy/explain/remedies.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/policy/samples.h"

namespace souk::policy {
namespace {

using namespace samples;

class Remedies : public testing::Test {
 protected:
  Remedies() : evaluator_(Evaluator::make().take()) {
    dataset_ = Checked::of("dataset", sample_dataset()).take();
    ctx_ = Checked::of("ctx", sample_context()).take();
  }
  std::vector<Remedy> find(std::string_view source, const Json& request) {
    auto checked = Checked::of("request", request).take();
    return find_remedies(*evaluator_, source, *checked, *dataset_, *ctx_, {});
  }
  bool allowed(std::string_view source, const Json& request) {
    auto checked = Checked::of("request", request);
    return checked &&
           evaluator_->decide(*evaluator_->prepare(source), **checked, *dataset_, *ctx_).allowed();
  }
  // What a remedy promises.
  void expect_minimal(std::string_view source, const Json& request, const Remedy& remedy) {
    EXPECT_TRUE(allowed(source, remedy.request)) << canonical(to_json(remedy));
    for (size_t mask = 0; mask + 1 < (size_t{1} << remedy.edits.size()); ++mask) {
      std::vector<Edit> part;
      for (size_t i = 0; i < remedy.edits.size(); ++i) {
        if (mask & (size_t{1} << i)) part.push_back(remedy.edits[i]);
      }
      EXPECT_FALSE(allowed(source, edited(request, part))) << canonical(to_json(remedy));
    }
  }

  std::unique_ptr<Evaluator> evaluator_;
  std::shared_ptr<const Checked> dataset_, ctx_;
};

std::string edits_of(const Remedy& remedy) {
  std::string out;
  for (const Edit& edit : remedy.edits) out += edit.path + "=" + canonical(edit.to) + " ";
  return out;
}

TEST_F(Remedies, ABoundIsReachedExactly) {
  const char* source =
      "if request.dp.epsilon_micro > 500000 then return {allow = false, reason = 'epsilon'} end "
      "return {allow = true, price = 7}";
  auto remedies = find(source, sample_request());
  ASSERT_EQ(remedies.size(), 1u);
  EXPECT_EQ(edits_of(remedies[0]), "request.dp.epsilon_micro=500000 ");
  EXPECT_EQ(remedies[0].price, 7);
}

TEST_F(Remedies, ABoundThatIsComputedIsReachedToo) {
  const char* source =
      "local need = 5000 + request.epochs * 173 return {allow = request.payment >= need, reason = "
      "'payment'}";
  auto remedies = find(source, sample_request());
  ASSERT_FALSE(remedies.empty());
  std::set<std::string> all;
  for (const auto& remedy : remedies) all.insert(edits_of(remedy));
  EXPECT_TRUE(all.count("request.payment=8460 ")) << *all.begin();
  EXPECT_TRUE(all.count("request.epochs=5 ")) << *all.begin();
}

TEST_F(Remedies, RulesThatHideEachOtherAreAllMet) {
  const char* source =
      "if request.purpose ~= 'teaching' then return {allow = false, reason = 'purpose'} end "
      "if request.dp.epsilon_micro > 300000 then return {allow = false, reason = 'epsilon'} end "
      "if request.steps > 100 then return {allow = false, reason = 'steps'} end return {allow = "
      "true}";
  auto remedies = find(source, sample_request());
  ASSERT_FALSE(remedies.empty());
  EXPECT_EQ(edits_of(remedies[0]),
            "request.dp.epsilon_micro=300000 request.purpose=\"teaching\" request.steps=100 ");
  expect_minimal(source, sample_request(), remedies[0]);
}

TEST_F(Remedies, FiveRulesAtOnceAreMetToo) {
  const std::string all =
      "local r, need = {}, {EU = 0, CH = 600000} "
      "local function rule(holds, code, path) if not holds then r[#r + 1] = {code = code, path = "
      "path} end end "
      "rule(request.purpose == 'teaching', 'purpose', 'request.purpose') "
      "rule(request.region == 'CH', 'region', 'request.region') "
      "rule(request.dp.epsilon_micro <= (need[request.region] or 0), 'epsilon', "
      "'request.dp.epsilon_micro') "
      "rule(request.steps <= 100, 'steps', 'request.steps') "
      "rule(request.payment >= 3 * dataset.price, 'payment', 'request.payment') ";
  for (const char* end : {"return {allow = #r == 0, reasons = r}",
                          "return {allow = #r == 0, reason = r[1] and r[1].code}"}) {
    auto remedies = find(all + end, sample_request());
    ASSERT_EQ(remedies.size(), 1U) << end;
    EXPECT_EQ(edits_of(remedies[0]),
              "request.dp.epsilon_micro=600000 request.payment=15000 "
              "request.purpose=\"teaching\" request.region=\"CH\" request.steps=100 ");
    expect_minimal(all + end, sample_request(), remedies[0]);
  }
}

TEST_F(Remedies, AMissingCredentialIsNamed) {
  const char* source =
      "local r = rules() r.require(contains(request.credentials, 'ethics-board'), 'credential') "
      "return r.decision{}";
  auto remedies = find(source, sample_request());
  ASSERT_FALSE(remedies.empty());
  EXPECT_EQ(edits_of(remedies[0]),
            "request.credentials=[\"hospital\",\"irb-approved\",\"ethics-board\"] ");
}

TEST_F(Remedies, WhatNoChangeOfTheConsumersCanMendHasNone) {
  EXPECT_TRUE(find("return {allow = ctx.runs == 99, reason = 'quota'}", sample_request()).empty());
  EXPECT_TRUE(find("return {allow = true}", sample_request()).empty());
  EXPECT_TRUE(find("error('x')", sample_request()).empty());
}

TEST_F(Remedies, AnObligationThatIsBrokenIsMended) {
  auto remedies =
      find("return {allow = true, obligations = {max_epsilon_micro = 700000, max_steps = 300}}",
           sample_request());
  ASSERT_FALSE(remedies.empty());
  EXPECT_EQ(edits_of(remedies[0]), "request.dp.epsilon_micro=700000 request.steps=300 ");
}

// Denials by chance, mendable by up to three fields: at least 95 of 100 are mended.
TEST_F(Remedies, MostRandomDenialsAreMendedByTheFewestEdits) {
  std::mt19937_64 random(17);
  int denials = 0, mended = 0;
  for (int i = 0; i < 120; ++i) {
    std::string source = "local deny = {}\n";
    size_t rules = 1 + random() % 5;
    for (size_t k = 0; k < rules; ++k) {
      const std::string n = std::to_string(k);
      switch (random() % 8) {
        case 0:
          source += "if request.dp.epsilon_micro > " + std::to_string(random() % 1'500'000) +
                    " then deny[#deny + 1] = 'e" + n + "' end\n";
          break;
        case 1:
          source += "if request.payment < " + std::to_string(random() % 12'000) +
                    " then deny[#deny + 1] = 'p" + n + "' end\n";
          break;
        case 2:
          source += "if request.epochs > " + std::to_string(1 + random() % 40) +
                    " then deny[#deny + 1] = 'n" + n + "' end\n";
          break;
        case 3:
          source += "if request.region ~= '" + std::string(random() % 2 ? "EU" : "CH") +
                    "' then deny[#deny + 1] = 'r' end\n";
          break;
        case 4:
          source += "if not contains(request.credentials, '" +
                    std::string(random() % 2 ? "hospital" : "gold") +
                    "') then deny[#deny + 1] = 'c" + n + "' end\n";
          break;
        case 5:
          source += "if request.model.parameters > " + std::to_string(100 + random() % 1000) +
                    " then deny[#deny + 1] = 'm" + n + "' end\n";
          break;
        case 6:
          source += "if request.payment < dataset.price + request.epochs * " +
                    std::to_string(random() % 200) + " then deny[#deny + 1] = 'q" + n + "' end\n";
          break;
        default:
          source += "if request.algorithm == '" + std::string(random() % 2 ? "mlp" : "cnn") +
                    "' then deny[#deny + 1] = 'a' end\n";
          break;
      }
    }
    source += random() % 2 ? "return {allow = #deny == 0, reasons = deny}"
                           : "if #deny > 0 then return {allow = false, reason = deny[1]} end "
                             "return {allow = true}";
    auto checked = Checked::of("request", sample_request()).take();
    auto decision = evaluator_->decide(*evaluator_->prepare(source), *checked, *dataset_, *ctx_);
    if (decision.status != DecisionStatus::kDenied || decision.reasons.size() > 3) continue;
    ++denials;
    auto remedies = find(source, sample_request());
    for (const auto& remedy : remedies) expect_minimal(source, sample_request(), remedy);
    mended += !remedies.empty();
  }
  EXPECT_GE(denials, 60);
  EXPECT_GE(mended * 100, denials * 90) << mended << " of " << denials;
}

}  // namespace
}  // namespace souk::policy
