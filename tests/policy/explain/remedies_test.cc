#include "policy/explain/remedies.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
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

TEST_F(Remedies, RulesThatSayNothingAreAllMet) {
  for (const char* source :
       {"return {allow = request.epochs <= 10 and request.payment >= 7000}",
        "return {allow = request.epochs <= 10 and request.payment >= 7000, reason = 'no'}",
        "return function(request, dataset, ctx) return {allow = request.epochs <= 10 and "
        "request.payment >= 7000} end",
        "local a = request.epochs <= 10; local b = request.payment >= 7000; return {allow = a and "
        "b}",
        "local a = request.epochs > 10; local b = request.payment < 7000; return {allow = not (a "
        "or "
        "b)}",
        "if request.epochs > 10 then return {allow = false, reason = 'no'} end "
        "if request.payment < 7000 then return {allow = false, reason = 'no'} end "
        "return {allow = true}"}) {
    auto remedies = find(source, sample_request());
    ASSERT_EQ(remedies.size(), 1U) << source;
    EXPECT_EQ(edits_of(remedies[0]), "request.epochs=10 request.payment=7000 ") << source;
    expect_minimal(source, sample_request(), remedies[0]);
  }
  auto texts = find("return {allow = request.region == 'CH' and request.purpose == 'care'}",
                    sample_request());
  ASSERT_EQ(texts.size(), 1U);
  EXPECT_EQ(edits_of(texts[0]), "request.purpose=\"care\" request.region=\"CH\" ");
  auto held =
      find("return {allow = contains(request.credentials, 'gold') and request.epochs <= 10}",
           sample_request());
  ASSERT_EQ(held.size(), 1U);
  EXPECT_EQ(edits_of(held[0]),
            "request.credentials=[\"hospital\",\"irb-approved\",\"gold\"] request.epochs=10 ");
}

TEST_F(Remedies, ALaterRuleMayAskMoreOfTheSameField) {
  const char* source =
      "return {allow = request.epochs <= 10 and request.payment >= 7000 and request.epochs <= 5 "
      "and "
      "request.payment % 100 == 82}";
  auto remedies = find(source, sample_request());
  ASSERT_FALSE(remedies.empty());
  EXPECT_EQ(edits_of(remedies[0]), "request.epochs=5 request.payment=7082 ");
}

TEST_F(Remedies, ARemainderIsReachedByTheNearestNumber) {
  auto remedies = find("return {allow = request.payment % 100 == 82}", sample_request());
  ASSERT_EQ(remedies.size(), 1U);
  EXPECT_EQ(edits_of(remedies[0]), "request.payment=5982 ");
}

// The market refuses an offer below the price, so no remedy may be one.
TEST_F(Remedies, TheirPaymentReachesTheirPrice) {
  Json request = sample_request();
  override_member(request, "payment", 4000);
  auto remedies = find(
      "return {allow = request.payment >= 5000, reason = 'payment', price = dataset.price + 7 * "
      "request.epochs}",
      request);
  ASSERT_FALSE(remedies.empty());
  EXPECT_EQ(edits_of(remedies[0]), "request.payment=5140 ");
  EXPECT_EQ(remedies[0].price, 5140);
  remedies =
      find("return {allow = request.region == 'CH', reason = 'region', price = 2 * dataset.price}",
           request);
  ASSERT_FALSE(remedies.empty());
  EXPECT_EQ(edits_of(remedies[0]), "request.payment=10000 request.region=\"CH\" ");
}

// Rules that hold together, each on a field of its own, in whatever form: so many are broken, so
// many edits are needed, and each is known.
struct Rule {
  std::string path, holds, opposite;  // of the request; what holds, and when it does not
  Json edit;                          // where it is broken; null where it holds
};
std::vector<Rule> some_rules(std::mt19937_64& random) {
  auto at_most = [&](const char* path, int64_t now, int64_t limit) {
    const std::string n = std::to_string(limit), field = std::string("request.") + path;
    return Rule{field, field + " <= " + n, field + " > " + n, now > limit ? Json(limit) : Json()};
  };
  auto is = [&](const char* path, const std::string& now, const std::string& wanted) {
    const std::string field = std::string("request.") + path, text = "'" + wanted + "'";
    return Rule{field, field + " == " + text, field + " ~= " + text,
                now == wanted ? Json() : Json(wanted)};
  };
  auto number = [&](int64_t least, int64_t most) {
    return least + static_cast<int64_t>(random() % static_cast<uint64_t>(most - least));
  };
  int64_t payment = number(4000, 12000);
  bool gold = random() % 2;
  const std::string held =
      std::string("contains(request.credentials, '") + (gold ? "gold" : "hospital") + "')";
  std::vector<Rule> all = {
      at_most("epochs", 20, number(1, 30)),
      at_most("dp.epsilon_micro", 800000, number(1000, 1200000)),
      at_most("steps", 400, number(1, 500)),
      at_most("model.parameters", 514, number(1, 700)),
      is("region", "EU", random() % 4 ? "CH" : "EU"),
      is("purpose", "medical-research", random() % 4 ? "care" : "medical-research"),
      {"request.payment", "request.payment >= " + std::to_string(payment),
       "request.payment < " + std::to_string(payment), payment > 6000 ? Json(payment) : Json()},
      {"request.credentials", held, "not " + held,
       gold ? Json(Json::Array{"hospital", "irb-approved", "gold"}) : Json()}};
  std::shuffle(all.begin(), all.end(), random);
  all.resize(1 + random() % all.size());
  return all;
}
std::string policy_of(const std::vector<Rule>& rules, size_t form, std::mt19937_64& random) {
  const std::string no = random() % 2 ? ", reason = 'no'" : "";
  std::string all, any, locals, names, ifs, counts, broken, list, sum;
  for (size_t i = 0; i < rules.size(); ++i) {
    const std::string holds = random() % 3 ? rules[i].holds : "not (" + rules[i].opposite + ")";
    const std::string fails = random() % 3 ? rules[i].opposite : "not (" + rules[i].holds + ")";
    const std::string name = "rule" + std::to_string(i);
    all += (i ? " and " : "") + holds;
    any += (i ? " or " : "") + fails;
    names += (i ? " and " : "") + name;
    locals += "local " + name + " = " + holds + " ";
    ifs += "if " + fails + " then return {allow = false" + no + "} end ";
    counts += "if " + rules[i].holds + " then n = n + 1 end ";
    broken += "if " + rules[i].opposite + " then n = n + 1 end ";
    list += (i ? ", " : "") + holds;
    sum += "ok = ok and " + holds + " ";
  }
  const std::string end = no + "} ";
  switch (form) {
    case 0:
      return "return {allow = " + all + end;
    case 1:
      return locals + "return {allow = " + names + end;
    case 2:
      return ifs + "return {allow = true}";
    case 3:
      return "return function(request, dataset, ctx) return {allow = " + all + end + "end";
    case 4:
      return "return function(request, dataset, ctx) " + locals + "return {allow = " + names + end +
             "end";
    case 5:
      return "if " + any + " then return {allow = false" + end + "end return {allow = true}";
    case 6:
      return "local n = 0 " + counts + "return {allow = n == " + std::to_string(rules.size()) + end;
    case 7:
      return "local n = 0 " + broken + "return {allow = n == 0" + end;
    case 8:
      return "for _, holds in ipairs({" + list + "}) do if not holds then return {allow = false" +
             end + "end end return {allow = true}";
    default:
      return "local ok = true " + sum + "return {allow = ok" + end;
  }
}

#ifdef SOUK_SANITIZED  // five times as long
constexpr size_t kPolicies = 90;
constexpr int kFewest = 2;  // that break so and so many rules
#else
constexpr size_t kPolicies = 360;
constexpr int kFewest = 20;
#endif

TEST_F(Remedies, RulesOfAllFormsThatHoldTogetherAreMetByExactlyTheBrokenOnes) {
  std::mt19937_64 random(29);
  std::map<size_t, int> by_edits;
  for (size_t i = 0; i < kPolicies; ++i) {
    auto rules = some_rules(random);
    const std::string source = policy_of(rules, i % 10, random);
    std::map<std::string, Json> needed;
    for (const Rule& rule : rules) {
      if (!rule.edit.is_null()) needed[rule.path] = rule.edit;
    }
    auto remedies = find(source, sample_request());
    if (needed.empty()) {
      EXPECT_TRUE(remedies.empty()) << source;
      continue;
    }
    ASSERT_EQ(remedies.size(), 1U) << source;
    std::map<std::string, Json> made;
    for (const Edit& edit : remedies[0].edits) made[edit.path] = edit.to;
    EXPECT_TRUE(made == needed) << source << "\n" << edits_of(remedies[0]);
    expect_minimal(source, sample_request(), remedies[0]);
    ++by_edits[needed.size()];
  }
  for (size_t edits = 1; edits <= 6; ++edits) EXPECT_GE(by_edits[edits], kFewest) << edits;
}

}  // namespace
}  // namespace souk::policy
