#include "market_api/transport/message.h"

#include <gtest/gtest.h>

namespace souk::market {
namespace {

TEST(Message, AProblemSaysItsCodeAndDetailAsRfc9457) {
  auto response = problem(409, "conflict", "Someone was first", "expected another offset");
  EXPECT_EQ(response.status, 409);
  EXPECT_EQ(response.content_type, "application/problem+json");
  EXPECT_EQ(as_text(response.body),
            R"({"code":"conflict","detail":"expected another offset","status":409,)"
            R"("title":"Someone was first","type":"about:blank"})");
}

TEST(Message, EveryErrorSurvivesTheJourneyThroughAProblem) {
  for (Code code : {Code::kMalformed, Code::kUnauthentic, Code::kRefused, Code::kNotFound,
                    Code::kConflict, Code::kExhausted, Code::kTryAgain, Code::kBroken}) {
    auto back = error_from(problem(Error(code, "expected this")));
    EXPECT_EQ(back.code(), code);
    EXPECT_EQ(back.expected(), "expected this");
  }
}

TEST(Message, EachCodeHasTheStatusOfTheSpec) {
  EXPECT_EQ(problem(Error(Code::kMalformed, "")).status, 400);
  EXPECT_EQ(problem(Error(Code::kUnauthentic, "")).status, 401);
  EXPECT_EQ(problem(Error(Code::kRefused, "")).status, 403);
  EXPECT_EQ(problem(Error(Code::kNotFound, "")).status, 404);
  EXPECT_EQ(problem(Error(Code::kConflict, "")).status, 409);
  EXPECT_EQ(problem(Error(Code::kExhausted, "")).status, 429);
  EXPECT_EQ(problem(Error(Code::kTryAgain, "")).status, 503);
  EXPECT_EQ(problem(Error(Code::kBroken, "")).status, 500);
}

TEST(Message, AnAnswerThatIsNoProblemDocumentIsToldByItsStatus) {
  auto told = [](int status) {
    Response html{.status = status,
                  .content_type = "text/html",
                  .body = to_bytes("<html>"),
                  .headers = {},
                  .file = {}};
    return error_from(html);
  };
  for (int later : {408, 429, 500, 501, 502, 503, 504, 599})
    EXPECT_EQ(told(later).code(), Code::kTryAgain) << later;
  for (int gone : {404, 410}) EXPECT_EQ(told(gone).code(), Code::kNotFound) << gone;
  for (int other : {204, 301, 304, 400, 401, 403, 405, 409, 413, 418})
    EXPECT_EQ(told(other).code(), Code::kRefused) << other;
  EXPECT_EQ(told(401).expected(), "expected 200 from the server, not 401");
  EXPECT_EQ(error_from(json_response(404, Json::Array{})).code(), Code::kNotFound);
}

TEST(Message, AnUnknownCodeIsReadByItsStatus) {
  EXPECT_EQ(error_from(problem(404, "gone_fishing", "", "x")).code(), Code::kNotFound);
  EXPECT_EQ(error_from(problem(413, "too_large", "", "x")).code(), Code::kRefused);
  EXPECT_EQ(error_from(problem(502, "gone_fishing", "", "x")).code(), Code::kTryAgain);
}

TEST(Message, QueriesDecodeOnce) {
  auto query = parse_query("a=1&b=x%20y+z&c&d=%2526=");
  ASSERT_TRUE(query);
  EXPECT_EQ(*query, (std::map<std::string, std::string>{
                        {"a", "1"}, {"b", "x y z"}, {"c", ""}, {"d", "%26="}}));
  EXPECT_TRUE(parse_query("")->empty());
}

TEST(Message, QueriesRefuseBadEscapesAndRepeatedNames) {
  for (auto* text : {"a=%", "a=%2", "a=%zz", "a=1&a=2", "a=1&%61=2"}) {
    auto query = parse_query(text);
    ASSERT_FALSE(query) << text;
    EXPECT_EQ(query.error().code(), Code::kMalformed);
  }
}

TEST(Message, PercentEncodingComesBackAsItWas) {
  std::string all;
  for (int c = 0; c < 256; ++c) all.push_back(static_cast<char>(c));
  auto query = parse_query("v=" + percent_encode(all));
  ASSERT_TRUE(query);
  EXPECT_EQ((*query)["v"], all);
}

}  // namespace
}  // namespace souk::market
