#include "policy/decide/schema.h"

#include <gtest/gtest.h>

#include "ledger/codec/json_reals.h"
#include "policy/decide/decide.h"
#include "tests/policy/samples.h"

namespace souk::policy {
namespace {

using namespace samples;

// Nothing but what every one must have.
Json required_of(const std::string& root, Json whole) {
  for (const SchemaField& field : schema()) {
    const std::string path(field.path);
    bool member = path.rfind(root + ".", 0) == 0 && path.find('[') == std::string::npos;
    if (member && !field.required()) override_member(whole, path.substr(root.size() + 1), Json());
  }
  return whole;
}
Json plain_request() {
  return required_of("request", sample_request());
}
Json plain_dataset() {
  return required_of("dataset", sample_dataset());
}
Json plain_context() {
  return required_of("ctx", sample_context());
}

std::string refusal(std::string_view root, const Json& value) {
  auto status = check_schema(root, value);
  return status ? "" : status.error().expected();
}

TEST(Schema, TheRequiredFieldsAreEnough) {
  EXPECT_EQ(plain_request().object()->size(), 9U);
  EXPECT_EQ(plain_dataset().object()->size(), 3U);
  EXPECT_EQ(plain_context().object()->size(), 3U);
  EXPECT_EQ(refusal("request", plain_request()), "");
  EXPECT_EQ(refusal("dataset", plain_dataset()), "");
  EXPECT_EQ(refusal("ctx", plain_context()), "");
  EXPECT_EQ(refusal("request", sample_request()), "");
}

TEST(Schema, EveryRequiredFieldIsMissedByName) {
  for (const SchemaField& field : schema()) {
    const std::string path(field.path);
    if (!field.required() || path.find('.') == std::string::npos ||
        path.find('[') != std::string::npos)
      continue;
    const std::string root = path.substr(0, path.find('.'));
    Json whole = root == "request"   ? sample_request()
                 : root == "dataset" ? sample_dataset()
                                     : sample_context();
    if (root == "ctx") {
      for (const char* block : {"consumer", "purpose"}) {
        override_member(whole, block,
                        Json::Object{{"spent_epsilon_micro", 1}, {"runs", 1}, {"last_run", 1}});
      }
    }
    ASSERT_EQ(refusal(root, whole), "");
    override_member(whole, path.substr(root.size() + 1), Json());
    EXPECT_NE(refusal(root, whole).find(path + ": missing"), std::string::npos)
        << path << ": " << refusal(root, whole);
  }
}

TEST(Schema, AnUnknownFieldIsRefusedWithTheOneThatWasMeant) {
  struct Case {
    const char *path, *meant;
  };
  for (const Case& c :
       {Case{"dp.epsilon_mirco", "request.dp.epsilon_micro"}, Case{"purpos", "request.purpose"},
        Case{"epsilon_micro", "request.dp.epsilon_micro"},
        Case{"credential", "request.credentials"}, Case{"Region", "request.region"}}) {
    Json request = plain_request();
    override_member(request, c.path, Json(1));
    EXPECT_NE(refusal("request", request).find(std::string("did you mean ") + c.meant),
              std::string::npos)
        << refusal("request", request);
  }
  for (const Case& c :
       {Case{"dp.epsilon", "request.dp.epsilon_micro"}, Case{"dp.delta", "request.dp.delta_pico"},
        Case{"dp.noise", "request.dp.noise_micro"}, Case{"dp.clip", "request.dp.clip_micro"},
        Case{"pay", "request.payment"}, Case{"algo", "request.algorithm"},
        Case{"eps", "request.dp.epsilon_micro"}, Case{"epoch", "request.epochs"},
        Case{"payment_amount", "request.payment"}}) {
    Json request = plain_request();
    override_member(request, c.path, Json(1));
    EXPECT_EQ(refusal("request", request), std::string("request.") + c.path +
                                               ": there is no such field; did you mean " + c.meant +
                                               "?");
  }
  Json request = plain_request();
  override_member(request, "favourite_colour", Json(1));
  EXPECT_EQ(refusal("request", request), "request.favourite_colour: there is no such field");
}

TEST(Schema, AFieldIsMeantByItsBeginningItsWordsAndItsBlockFirst) {
  struct Case {
    const char *path, *meant;
  };
  for (const Case& c :
       {Case{"ctx.spent_epsilon", "ctx.spent_epsilon_micro"},
        Case{"ctx.consumer.spent_epsilon", "ctx.consumer.spent_epsilon_micro"},
        Case{"ctx.spent", "ctx.spent_epsilon_micro"},
        Case{"dataset.budget.epsilon", "dataset.budget.epsilon_micro"},
        Case{"dataset.epsilon", "dataset.budget.epsilon_micro"},
        Case{"request.model.params", "request.model.parameters"},
        Case{"request.params", "request.model.parameters"},
        Case{"request.dp.epsilonMicro", "request.dp.epsilon_micro"},
        Case{"request.credential_details[3].issuerr", "request.credential_details[].issuer"},
        Case{"ctx.nwo", "ctx.now"}, Case{"request.db", "request.dp"},
        Case{"ctx.budget", "dataset.budget"}, Case{"ctx.time", ""}, Case{"request.r", ""},
        Case{"ctx.xyz", ""}})
    EXPECT_EQ(nearest_path(c.path), c.meant) << c.path;
}

TEST(Schema, RealsAndWrongTypesAreNamedWithWhatWasFound) {
  for (const char* text :
       {"8e5", "800000.0", "NaN", "-Infinity", "9007199254740992", "{\"$float\":\"nan\"}",
        "\"800000\"", "true", "null", "[]", "{}", "-1", "00", "007", "-0"}) {
    std::string source = canonical(plain_request());
    source.replace(source.find("800000"), 6, text);
    auto request = parse_json_marking_reals(source);
    ASSERT_TRUE(request) << text;
    const std::string why = refusal("request", *request);
    EXPECT_EQ(
        why.find("request.dp.epsilon_micro: expected a whole number from 0 to 9007199254740991"),
        0u)
        << text << ": " << why;
  }
  EXPECT_FALSE(parse_json_marking_reals("{\"a\":01x}"));
  EXPECT_EQ(*parse_json_marking_reals("17"), Json(17));
}

TEST(Schema, AWrongTextOrNumberIsToldByWhatIsWrongWithIt) {
  struct Case {
    const char* path;
    Json value;
    const char* found;
  };
  for (const Case& c :
       {Case{"purpose", std::string(257, 'x'), ", not a text of 257 bytes"},
        Case{"purpose", "", ", not a text of 0 bytes"},
        Case{"purpose", "a\u202e", ", not a text with other characters"},
        Case{"consumer", "a b", ", not a text with other characters"},
        Case{"consumer", 7, ", not 7"}, Case{"epochs", 0, ", not 0"},
        Case{"credentials", Json::Array{"a", "b", "a"}, ", not the same twice"},
        Case{"credentials", Json::Array{"a", "b c"}, ", not a text with other characters"},
        Case{"credentials", "a", ", not a text"}, Case{"dp", 5, ", not 5"},
        Case{"credentials", Json::Array(65, Json("a")), ", not 65"},
        Case{"credentials", Json::Array{1}, ", not 1"}}) {
    Json request = plain_request();
    override_member(request, c.path, c.value);
    const std::string why = refusal("request", request);
    EXPECT_TRUE(why.ends_with(c.found)) << c.path << ": " << why;
  }
}

TEST(Schema, TheTableOfTheSpecificationIsTheSchema) {
  const std::string text = read_text(folder_from("SOUK_SOURCE") + "/policy/SPEC.md");
  std::vector<std::string> written, known;
  for (size_t at = 0; (at = text.find("\n| `", at)) != std::string::npos;) {
    at += 4;
    std::string path = text.substr(at, text.find('`', at) - at);
    if (path.starts_with("request.") || path.starts_with("dataset.") || path.starts_with("ctx."))
      written.push_back(path);
  }
  for (const SchemaField& field : schema()) {
    if (field.path.find('.') != std::string_view::npos) known.emplace_back(field.path);
  }
  EXPECT_EQ(written, known);
}

TEST(Schema, AbsentTakesTheMemberAway) {
  auto request = parse_json_marking_reals(
      R"({"dp":{"$absent":true},"id":"a","list":[{"b":{"$absent":true},"c":1}]})");
  ASSERT_TRUE(request);
  remove_absent(*request);
  EXPECT_EQ(canonical(*request), R"({"id":"a","list":[{"c":1}]})");
}

TEST(Schema, ADecisionOnAMalformedRequestSaysWhereAndWhat) {
  Json request = plain_request();
  override_member(request, "dp.epsilon_micro", Json(Json::Object{{"$float", "nan"}}));
  auto decision = evaluate("return {allow = true}", request, plain_dataset(), plain_context());
  ASSERT_EQ(decision.status, DecisionStatus::kInvalidRequest);
  EXPECT_EQ(decision.reasons[0].path, "request.dp.epsilon_micro");
  EXPECT_EQ(decision.reasons[0].got, "the number nan");
  EXPECT_EQ(decision.reasons[0].need, "a whole number from 0 to 9007199254740991");
}

TEST(Schema, APolicyMayReturnAFunctionOfTheThree) {
  auto decision = evaluate(
      "return function(request, dataset, ctx) return {allow = request.epochs == 20 and ctx.runs == "
      "1, price = dataset.price + 1} end",
      plain_request(), plain_dataset(), plain_context());
  ASSERT_TRUE(decision.allowed()) << canonical(decision.to_json());
  EXPECT_EQ(decision.price_minor, 5001);
  EXPECT_EQ(decision.read_set,
            (std::vector<std::string>{"request.epochs", "ctx.runs", "dataset.price"}));
  EXPECT_EQ(evaluate("return function() return function() end end", plain_request(),
                     plain_dataset(), plain_context())
                .status,
            DecisionStatus::kError);
}

TEST(Schema, PathsAreFoundAsTheReadSetWritesThem) {
  ASSERT_TRUE(schema_field("request.credentials[3]"));
  EXPECT_EQ(schema_field("request.credentials[3]")->path, "request.credentials");
  EXPECT_EQ(schema_field("#request.credentials")->path, "request.credentials");
  EXPECT_EQ(schema_field("request.credential_details[2].type")->path,
            "request.credential_details[].type");
  EXPECT_FALSE(schema_field("request.nothing"));
}

}  // namespace
}  // namespace souk::policy
