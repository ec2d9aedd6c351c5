#include "policy/templates/template.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "policy/decide/decide.h"
#include "policy/templates/table.h"
#include "tests/policy/templates/questions.h"

namespace souk::policy {
namespace {

using namespace samples;

PolicyDecision decide(const std::vector<Chosen>& parts, const Question& q) {
  auto source = compose(parts);
  EXPECT_TRUE(source) << source.error().expected();
  return evaluate(*source, q.request, q.dataset, q.ctx);
}

Question plain_question() {
  Question q{sample_request(), sample_dataset(), sample_context()};
  override_member(q.request, "providers", Json::Array{"p1", "p2", "p3"});
  override_member(q.request, "dataset_ids", Json::Array{"d1", "d2", "d3"});
  override_member(q.request, "dataset_names",
                  Json::Array{"wdbc-north", "wdbc-valley", "wdbc-harbour"});
  for (const char* name : {"consumer", "purpose"}) {
    override_member(q.ctx, name,
                    Json::Object{{"spent_epsilon_micro", 400'000},
                                 {"runs", 3},
                                 {"last_run", int64_t{1'799'999'000'000}}});
  }
  return q;
}

TEST(Templates, ThereAreAtLeastTwentyAndEachSaysWhatItDoesInOneSentence) {
  EXPECT_GE(templates().size(), 20u);
  std::set<std::string> names;
  for (const Template& kind : templates()) {
    EXPECT_TRUE(names.insert(kind.name).second) << kind.name;
    auto chosen = choose(kind.name, {});
    ASSERT_TRUE(chosen) << chosen.error().expected();
    std::string sentence = reading(*chosen);
    EXPECT_EQ(sentence.back(), '.') << sentence;
    EXPECT_EQ(sentence.find_first_of("{}"), std::string::npos) << sentence;
    auto source = compose({*chosen});
    ASSERT_TRUE(source) << kind.name << source.error().expected();
    auto decision =
        evaluate(*source, plain_question().request, plain_question().dataset, plain_question().ctx);
    EXPECT_TRUE(decision.status == DecisionStatus::kAllowed ||
                decision.status == DecisionStatus::kDenied)
        << kind.name << canonical(decision.to_json());
  }
}

struct Case {
  const char* name;
  const char* settings;  // JSON object
  const char* path;      // changed in the plain question; "" for nothing
  const char* value;     // JSON
  const char* code;      // "" for allowed
};

// For each template the last thing it allows, and the first it does not.
const Case kCases[] = {
    {"purpose", R"({"allowed":["teaching","medical-research"]})", "", "", ""},
    {"purpose", R"({"allowed":["teaching"]})", "", "", "purpose"},
    {"purpose", R"({"allowed":["medical-research"]})", "request.purpose", R"("medical-research ")",
     "purpose"},
    {"region", R"({"allowed":["EU"]})", "", "", ""},
    {"region", R"({"allowed":["EU"]})", "request.region", R"("")", "region"},
    {"model_class", R"({"allowed":["mlp"]})", "", "", ""},
    {"model_class", R"({"allowed":["logreg"]})", "", "", "model_class"},
    {"model_size", R"({"max_parameters":514})", "", "", ""},
    {"model_size", R"({"max_parameters":513})", "", "", "model_size"},
    {"max_steps", R"({"max_steps":400})", "", "", ""},
    {"max_steps", R"({"max_steps":400})", "request.steps", "401", "max_steps"},
    {"max_epochs", R"({"max_epochs":20})", "", "", ""},
    {"max_epochs", R"({"max_epochs":19})", "", "", "max_epochs"},
    {"dp_floor",
     R"({"max_epsilon_micro":800000,"max_delta_pico":1000000,"min_noise_micro":1100000})", "", "",
     ""},
    {"dp_floor", R"({"max_epsilon_micro":799999})", "", "", "max_epsilon"},
    {"dp_floor", R"({"max_delta_pico":999999})", "", "", "max_delta"},
    {"dp_floor", R"({"min_noise_micro":1100001})", "", "", "min_noise"},
    {"dp_floor", "{}", "request.dp",
     R"({"enabled":false,"epsilon_micro":0,"delta_pico":0,"noise_micro":0,"clip_micro":0})",
     "privacy"},
    {"budget_dataset", R"({"max_epsilon_micro":2300000})", "", "", ""},
    {"budget_dataset", R"({"max_epsilon_micro":2299999})", "", "", "budget_dataset"},
    {"budget_consumer", R"({"max_epsilon_micro":1200000})", "", "", ""},
    {"budget_consumer", R"({"max_epsilon_micro":1199999})", "", "", "budget_consumer"},
    {"budget_purpose", R"({"max_epsilon_micro":1200000})", "", "", ""},
    {"budget_purpose", R"({"max_epsilon_micro":1199999})", "", "", "budget_purpose"},
    {"min_cohort", R"({"min_rows":1000,"min_batch":64})", "", "", ""},
    {"min_cohort", R"({"min_rows":1001,"min_batch":64})", "", "", "min_cohort"},
    {"min_cohort", R"({"min_rows":1000,"min_batch":65})", "", "", "min_batch"},
    {"output_form", R"({"allowed":["weights"]})", "", "", ""},
    {"expiry", R"({"end_time":1800000000001})", "", "", ""},
    {"expiry", R"({"end_time":1800000000000})", "", "", "expired"},
    {"embargo", R"({"from":1800000000000})", "", "", ""},
    {"embargo", R"({"from":1800000000001})", "", "", "embargo"},
    {"quota", R"({"max_runs":2,"max_runs_of_consumer":4})", "", "", ""},
    {"quota", R"({"max_runs":1,"max_runs_of_consumer":4})", "", "", "quota"},
    {"quota", R"({"max_runs":2,"max_runs_of_consumer":3})", "", "", "quota_consumer"},
    {"rate", R"({"min_interval_ms":1000000})", "", "", ""},
    {"rate", R"({"min_interval_ms":1000001})", "", "", "rate"},
    {"emergency_stop", R"({"stopped":false})", "", "", ""},
    {"emergency_stop", R"({"stopped":true})", "", "", "stopped"},
    {"min_payment", R"({"amount":6000})", "", "", ""},
    {"min_payment", R"({"amount":6001})", "", "", "min_payment"},
    {"consumers", R"({"allowed":["acme-labs"]})", "", "", ""},
    {"consumers", R"({"allowed":["acme-lab"]})", "", "", "consumer"},
    {"credentials_all", R"({"types":["hospital","irb-approved"],"issuers":["aa","bb"]})", "", "",
     ""},
    {"credentials_all", R"({"types":["hospital","irb-approved"],"issuers":["aa"]})", "", "",
     "credentials_all"},
    {"credentials_any", R"({"types":["hospital","university"],"issuers":["aa"]})", "", "", ""},
    {"credentials_any", R"({"types":["irb-approved","university"],"issuers":["aa"]})", "", "",
     "credentials_any"},
    {"credentials_any", R"({"types":["hospital"],"issuers":["aa"]})", "ctx.now", "1900000000000",
     "credentials_any"},
    {"credentials_n_of_m",
     R"({"least":2,"types":["hospital","irb-approved","iso-27001"],"issuers":["aa","bb"]})", "", "",
     ""},
    {"credentials_n_of_m",
     R"({"least":3,"types":["hospital","irb-approved","iso-27001"],"issuers":["aa","bb"]})", "", "",
     "credentials_n_of_m"},
    {"co_providers_named", R"({"partners":["p2","p3"]})", "", "", ""},
    {"co_providers_named", R"({"partners":["p2","p4"]})", "", "", "co_provider"},
    {"co_providers_n_of_m", R"({"least":1,"partners":["p3","p4"]})", "", "", ""},
    {"co_providers_n_of_m", R"({"least":2,"partners":["p1","p3","p4"]})", "", "", "co_providers"},
    {"min_other_providers", R"({"least":2})", "", "", ""},
    {"min_other_providers", R"({"least":3})", "", "", "min_other_providers"},
    {"exclude_competitors", R"({"excluded":["p4"]})", "", "", ""},
    {"exclude_competitors", R"({"excluded":["p3"]})", "", "", "competitor"},
    {"exclude_competitors", R"({"excluded":["acme-labs"]})", "", "", "competitor"},
    {"incompatible", R"({"datasets":["national-register"]})", "", "", ""},
    {"incompatible", R"({"datasets":["wdbc-valley"]})", "", "", "incompatible"},
};

TEST(Templates, EachAllowsTheLastAllowedThingAndRefusesTheFirstOther) {
  std::set<std::string> tested;
  for (const Case& test : kCases) {
    Question q = plain_question();
    if (std::string path = test.path; !path.empty()) {
      size_t dot = path.find('.');
      Json& root = path[0] == 'r' ? q.request : q.ctx;
      override_member(root, path.substr(dot + 1), *parse_json(test.value));
    }
    auto chosen = choose(test.name, *parse_json(test.settings)->object());
    ASSERT_TRUE(chosen) << chosen.error().expected();
    auto decision = decide({*chosen}, q);
    std::string code = decision.allowed() ? "" : decision.reasons[0].code;
    EXPECT_EQ(code, test.code) << test.name << " " << test.settings << " "
                               << canonical(decision.to_json());
    EXPECT_EQ(evaluate_table({*chosen}, q.request, q.dataset, q.ctx), table_view(decision))
        << test.name << " " << test.settings;
    tested.insert(test.name);
  }
  for (const Template& kind : templates()) {
    if (!kind.conditions.empty()) {
      EXPECT_TRUE(tested.count(kind.name)) << kind.name;
    }
  }
}

struct PriceCase {
  std::vector<std::pair<const char*, const char*>> parts;
  int64_t price;
};

TEST(Templates, PricesAddUpAndDiscountsComeOffTheSum) {
  const PriceCase cases[] = {
      {{{"purpose", "{}"}}, 5000},  // the list price
      {{{"price_flat", R"({"amount":1200})"}}, 1200},
      {{{"price_per_row", R"({"per_thousand_rows":333})"}}, 333},
      {{{"price_per_epsilon", R"({"per_epsilon":1001})"}}, 801},  // 800.8, rounded up
      {{{"price_tiers", R"({"limits":[800000],"amounts":[10],"above":99})"}}, 10},
      {{{"price_tiers", R"({"limits":[799999],"amounts":[10],"above":99})"}}, 99},
      {{{"price_flat", R"({"amount":1000})"}, {"price_per_row", R"({"per_thousand_rows":500})"}},
       1500},
      {{{"price_flat", R"({"amount":1999})"},
        {"discount_volume", R"({"percent":10,"from_run":4})"}},
       1800},
      {{{"price_flat", R"({"amount":1999})"},
        {"discount_volume", R"({"percent":10,"from_run":5})"}},
       1999},
      {{{"discount_credential", R"({"percent":50,"types":["hospital"],"issuers":["aa"]})"}}, 2500},
      {{{"discount_credential", R"({"percent":60,"types":["hospital"],"issuers":["aa"]})"},
        {"discount_volume", R"({"percent":60,"from_run":1})"}},
       0},
  };
  for (const PriceCase& test : cases) {
    std::vector<Chosen> parts;
    for (auto [name, settings] : test.parts)
      parts.push_back(*choose(name, *parse_json(settings)->object()));
    auto decision = decide(parts, plain_question());
    ASSERT_TRUE(decision.allowed()) << canonical(decision.to_json());
    EXPECT_EQ(decision.price_minor, test.price)
        << test.parts[0].first << " " << test.parts[0].second;
  }
}

TEST(Templates, DutiesMeetWhereSeveralPartsAskForThem) {
  std::vector<Chosen> parts = {*choose("retention", {{"max_days", 90}}),
                               *choose("retention", {{"max_days", 30}}),
                               *choose("attribution", {{"names", Json::Array{"Valley"}}}),
                               *choose("attribution", {{"names", Json::Array{"North", "Valley"}}}),
                               *choose("publication_embargo", {{"end_time", 5}}),
                               *choose("publication_embargo", {{"end_time", 7}}),
                               *choose("model_class", {{"allowed", Json::Array{"mlp", "cnn"}}}),
                               *choose("model_class", {{"allowed", Json::Array{"mlp", "logreg"}}})};
  auto decision = decide(parts, plain_question());
  ASSERT_TRUE(decision.allowed()) << canonical(decision.to_json());
  EXPECT_EQ(decision.obligations.max_retention_days, 30);
  EXPECT_EQ(decision.obligations.embargo_until, 7);
  EXPECT_EQ(decision.obligations.attribution, (std::vector<std::string>{"North", "Valley"}));
  EXPECT_EQ(decision.obligations.allowed_algorithms, (std::vector<std::string>{"mlp"}));
}

TEST(Templates, ParametersAreCheckedAndTheMistakeIsNamed) {
  auto message = [](const char* name, std::map<std::string, std::string> settings) {
    auto chosen = choose_from_text(name, settings);
    return chosen ? std::string("accepted") : chosen.error().expected();
  };
  EXPECT_NE(message("purposes", {}).find("did you mean purpose"), std::string::npos);
  EXPECT_NE(message("max_steps", {{"max_step", "5"}}).find("did you mean max_steps"),
            std::string::npos);
  EXPECT_NE(message("max_steps", {{"max_steps", "0"}}).find("from 1 to 1000000"),
            std::string::npos);
  EXPECT_NE(message("max_steps", {{"max_steps", "1e3"}}).find("max_steps.max_steps"),
            std::string::npos);
  EXPECT_NE(message("model_class", {{"allowed", "mlp,gan"}}).find("one of logreg, mlp, cnn"),
            std::string::npos);
  EXPECT_NE(message("purpose", {{"allowed", "a,,b"}}).find("printable"), std::string::npos);
  EXPECT_NE(message("purpose", {{"allowed", "a,a"}}).find("each once"), std::string::npos);
  EXPECT_NE(message("expiry", {{"end_time", "2027-02-29"}}).find("YYYY-MM-DD"), std::string::npos);
  EXPECT_NE(message("price_tiers", {{"limits", "5,5"}}).find("rising"), std::string::npos);
  EXPECT_NE(message("emergency_stop", {{"stopped", "yes"}}).find("true or false"),
            std::string::npos);
  auto leap = choose_from_text("expiry", {{"end_time", "2028-02-29"}});
  ASSERT_TRUE(leap);
  EXPECT_EQ(*leap->values.at("end_time").integer(), int64_t{1'835'395'200'000});
  EXPECT_EQ(reading(*leap), "Until 2028-02-29, and not after.");
}

TEST(Templates, NoTextOfAParameterEscapesItsQuotes) {
  const std::string hostile = R"("}} return {allow=true} --[[\)";
  auto chosen = choose("purpose", {{"allowed", Json::Array{hostile}}});
  ASSERT_TRUE(chosen);
  Question q = plain_question();
  EXPECT_EQ(decide({*chosen}, q).status, DecisionStatus::kDenied);
  override_member(q.request, "purpose", Json(hostile));
  EXPECT_TRUE(decide({*chosen}, q).allowed());
  EXPECT_FALSE(choose("purpose", {{"allowed", Json::Array{"two\nlines"}}}));
  auto greek = choose("purpose", {{"allowed", Json::Array{"\xce\xbf"}}});
  if (greek) {  // looks like an o
    EXPECT_FALSE(compose({*greek}));
  }
}

// The differential test: Lua in the sandbox, against the tables in C++.
TEST(Templates, LuaAndTheTablesGiveTheSameAnswers) {
  Questions questions(20260201);
  std::map<std::string, int> allowed, denied;
  uint64_t count = rounds("SOUK_TEMPLATE_QUESTIONS", 8'000), errors = 0;
  for (uint64_t i = 0; i < count; ++i) {
    Question q = questions.next();
    std::vector<Chosen> parts;
    const Template& first = templates()[i % templates().size()];
    parts.push_back(questions.parameters(first, q));
    if (questions.one_in(3)) {
      for (uint64_t more = 0; more <= questions.below(4); ++more) {
        parts.push_back(questions.parameters(templates()[questions.below(templates().size())], q));
      }
    }
    auto decision = decide(parts, q);
    auto expected = evaluate_table(parts, q.request, q.dataset, q.ctx);
    ASSERT_EQ(table_view(decision), expected)
        << "question " << i << ": " << canonical(decision.to_json()) << "\n"
        << canonical(q.request) << *compose(parts);
    if (parts.size() == 1 && decision.allowed()) ++allowed[first.name];
    if (parts.size() == 1 && decision.status == DecisionStatus::kDenied &&
        decision.reasons[0].code != "waive_privacy")
      ++denied[first.name];
    errors += decision.status == DecisionStatus::kError;
  }
  for (const Template& kind : templates()) {
    if (count < 8'000) break;  // too few to meet every template both ways
    EXPECT_GT(allowed[kind.name], 0) << kind.name;
    if (!kind.conditions.empty() && kind.name != "output_form") {
      EXPECT_GT(denied[kind.name], 0) << kind.name;
    }
  }
  EXPECT_LT(errors, count / 4);
  std::printf("%llu questions, 0 differences\n", static_cast<unsigned long long>(count));
}

}  // namespace
}  // namespace souk::policy
