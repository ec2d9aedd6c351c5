#include "ledger/codec/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace souk {
namespace {

TEST(CanonicalJson, WritesWhatItReads) {
  for (std::string text :
       {"null", "true", "false", "0", "-1", "9007199254740991", "-9007199254740991", "\"\"", "[]",
        "{}", "[1,2,[3]]", R"({"a":1,"b":[true,null],"c":{"d":"e"}})", R"("\b\t\n\f\r\"\\/")",
        R"("\u0000\u001f")", "\"\x7f\"", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
        R"({"A":0,"a":0})", R"({"":0,"!":1})"}) {
    auto value = parse_canonical(text);
    ASSERT_TRUE(value) << text << ": " << value.error().expected();
    EXPECT_EQ(canonical(*value), text);
  }
}

TEST(CanonicalJson, RefusesEverySecondSpelling) {
  for (std::string text : {"",
                           " ",
                           " 1",
                           "1 ",
                           "[1, 2]",
                           "[1,]",
                           "[,1]",
                           "{\"a\" :1}",
                           "{\"b\":1,\"a\":2}",
                           "{\"a\":1,\"a\":1}",
                           "01",
                           "-0",
                           "-",
                           "+1",
                           "1.0",
                           "1e0",
                           "1E2",
                           "9007199254740992",
                           "-9007199254740992",
                           "99999999999999999999999",
                           "nul",
                           "True",
                           "tru",
                           "\"a",
                           "'a'",
                           "\"\\u0041\"",
                           "\"\\u000a\"",
                           "\"\\u001F\"",
                           "\"\\/\"",
                           "\"\\x\"",
                           "\"\\",
                           "\"\n\"",
                           "{1:2}",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{\"a\":1",
                           "[1",
                           "1 1",
                           "1,1",
                           "\"\\ud83d\\ude00\"",
                           "\xef\xbb\xbf"
                           "1",
                           "{\"\xc3\xa9\":1}",
                           "{\"\\n\":1}",
                           "NaN",
                           "Infinity",
                           "//x\n1"}) {
    EXPECT_FALSE(parse_canonical(text)) << text;
  }
}

TEST(CanonicalJson, RefusesBrokenUtf8) {
  for (std::string inside :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xc3", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
        "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "\xff", "\xe2\x82"}) {
    EXPECT_FALSE(parse_canonical("\"" + inside + "\""));
    EXPECT_FALSE(parse_json("\"" + inside + "\""));
  }
}

TEST(CanonicalJson, AllowsThirtyTwoLevelsAndNotOneMore) {
  auto nested = [](int levels) {
    return std::string(static_cast<size_t>(levels), '[') +
           std::string(static_cast<size_t>(levels), ']');
  };
  EXPECT_TRUE(parse_canonical(nested(33)));  // the innermost list is a value at level 32
  EXPECT_FALSE(parse_canonical(nested(34)));
}

TEST(CanonicalJson, RefusesMoreBytesThanAllowed) {
  std::string text = "\"" + std::string(100, 'a') + "\"";
  EXPECT_TRUE(parse_canonical(text, 102));
  EXPECT_FALSE(parse_canonical(text, 101));
  EXPECT_FALSE(parse_canonical("\"" + std::string(kMaxRecordBytes, 'a') + "\""));
}

TEST(CanonicalJson, NamesTheByteThatIsWrong) {
  auto value = parse_canonical("[1,x]");
  ASSERT_FALSE(value);
  EXPECT_EQ(value.error().code(), Code::kMalformed);
  EXPECT_NE(value.error().expected().find("byte 3"), std::string::npos);
}

TEST(OrdinaryJson, ReadsWhatPeopleWrite) {
  auto value = parse_json(" { \"b\" : [ 1 , 2 ] ,\n\t\"a\" : \"\\u0041\\/\\ud83d\\ude00\" } ");
  ASSERT_TRUE(value);
  EXPECT_EQ(canonical(*value), "{\"a\":\"A/\xf0\x9f\x98\x80\",\"b\":[1,2]}");
}

TEST(OrdinaryJson, StillRefusesDuplicatesFloatsAndLoneSurrogates) {
  for (std::string text : {"{\"a\":1,\"a\":2}", "1.5", "1e3", "\"\\ud800\"", "\"\\udc00\"",
                           "\"\\ud800\\u0041\"", "[1,]", "01"}) {
    EXPECT_FALSE(parse_json(text)) << text;
  }
}

TEST(AnswerJson, WritesRealsAsNumbersAndCanonicalRefusesThem) {
  Json answer = Json::Object{{"accuracy", Json::real(0.99)},
                             {"loss", Json::Array{Json::real(1e-7), Json::real(3)}},
                             {"n", 2}};
  EXPECT_EQ(answer_json(answer), R"({"accuracy":0.99,"loss":[1e-07,3],"n":2})");
  EXPECT_DEATH(canonical(answer), "bug");
}

TEST(Fields, RefusesAMemberNobodyAskedFor) {
  Json json = Json::Object{{"a", 1}, {"b", 2}};
  auto fields = Fields::of(json, "thing").take();
  EXPECT_TRUE(fields.integer("a"));
  auto done = fields.done();
  ASSERT_FALSE(done);
  EXPECT_NE(done.error().expected().find("thing.b"), std::string::npos);
  EXPECT_TRUE(fields.integer("b"));
  EXPECT_TRUE(fields.done());
}

TEST(Fields, RefusesOtherTypesRangesAndLengths) {
  Json json = Json::Object{{"n", 7}, {"s", "abc"}, {"t", true}, {"h", "0A"}};
  auto fields = Fields::of(json, "thing").take();
  EXPECT_FALSE(fields.integer("n", 0, 6));
  EXPECT_FALSE(fields.integer("n", 8));
  EXPECT_TRUE(fields.integer("n", 7, 7));
  EXPECT_FALSE(fields.text("s", 2));
  EXPECT_FALSE(fields.text("n"));
  EXPECT_FALSE(fields.boolean("n"));
  EXPECT_FALSE(fields.hex("h"));
  EXPECT_FALSE(fields.digest("s"));
  EXPECT_FALSE(fields.array("s"));
  EXPECT_FALSE(fields.any("missing"));
  EXPECT_FALSE(Fields::of(Json(1), "thing"));
}

TEST(Reals, AreTheirShortestRoundTripText) {
  for (double value : {0.1, 1.0, -2.5, 1e300, 5e-324, 123456789.123, 1.0 / 3.0}) {
    auto back = parse_real(real_text(value));
    ASSERT_TRUE(back);
    EXPECT_EQ(*back, value);
  }
  EXPECT_EQ(real_text(-0.0), "0");
  for (auto* text :
       {"", "0.10", "1.0", ".5", "+1", "01", "nan", "inf", "1e400", "-0", " 1", "0x1p3", "1,5"}) {
    EXPECT_FALSE(parse_real(text)) << text;
  }
}

}  // namespace
}  // namespace souk
