// Numbers and texts as people write and read them.
#include "market_api/cli/answer.h"

#include <gtest/gtest.h>

namespace souk::market {
namespace {

TEST(Scaled, ReadsDecimalsExactly) {
  auto micro = [](std::string_view text) { return *parse_scaled(text, 6, "x"); };
  EXPECT_EQ(micro("0.3"), 300000);
  EXPECT_EQ(micro("8"), 8000000);
  EXPECT_EQ(micro("1.000001"), 1000001);
  EXPECT_EQ(micro("1.5000000"), 1500000);
  EXPECT_EQ(micro("1e2"), 100000000);
  EXPECT_EQ(*parse_scaled("1e-5", 12, "x"), 10000000);
  EXPECT_EQ(*parse_scaled("2.5e-6", 12, "x"), 2500000);
  EXPECT_EQ(*parse_scaled(".5", 12, "x"), 500000000000);
  EXPECT_EQ(*parse_scaled("0", 12, "x"), 0);
}

TEST(Scaled, RefusesWhatItCannotHold) {
  for (const char* text :
       {"", "-1", "+1", "1,5", "1.2.3", "e5", "1e", "1e-", "1e100", "0x1", "nan", " 1", "1 ",
        "1e-7", "0.0000001", "9007199255", "99999999999999999999999999999999999999999"}) {
    auto value = parse_scaled(text, 6, "x");
    ASSERT_FALSE(value) << text;
    EXPECT_EQ(value.error().code(), Code::kMalformed) << text;
  }
}

TEST(Texts, AreShortAndSafe) {
  EXPECT_EQ(millionths_text(0), "0");
  EXPECT_EQ(millionths_text(1999997), "1.999997");
  EXPECT_EQ(millionths_text(2500000), "2.5");
  EXPECT_EQ(delta_text(10'000'000), "1e-5");
  EXPECT_EQ(delta_text(0), "0e-12");
  EXPECT_EQ(utc_text(0), "1970-01-01 00:00:00Z");
  EXPECT_EQ(printable("a\x1b[31m\tb\x7f"), "a?[31m?b?");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "??31m");
  // Right-to-left override, zero width, no UTF-8, a character cut short.
  EXPECT_EQ(printable("a\xe2\x80\xae"
                      "b"),
            "a???b");
  EXPECT_EQ(printable("a\xe2\x80\x8b"
                      "b"),
            "a???b");
  EXPECT_EQ(printable("a\xff"
                      "b\xe2\x80"),
            "a?b??");
  EXPECT_EQ(printable("\xe2\x82\xac 5\n"), "\xe2\x82\xac 5\n");
  EXPECT_EQ(printable("caf\xc3\xa9 \xc2\xb7"), "caf\xc3\xa9 \xc2\xb7");
}

TEST(Texts, AReasonNamesProviderDatasetAndWhatIsNeeded) {
  Json reason =
      Json::Object{{"code", "max_epsilon"}, {"message", "too much"}, {"provider", "north"},
                   {"dataset", "wdbc"},     {"path", "request.dp"},  {"got", "8"},
                   {"need", "at most 3"}};
  EXPECT_EQ(reasons_text(Json::Array{reason}),
            "  north · wdbc · request.dp: got 8, need at most 3 — too much");
  EXPECT_EQ(reasons_text(Json::Array{}), "");
  EXPECT_EQ(reasons_text(Json::Array{Json::Object{{"code", "unfunded"}, {"message", "a\x1b"}}}),
            "  unfunded — a?");
}

TEST(Texts, TablesAlign) {
  EXPECT_EQ(table_text({{"A", "BB"}, {"ccc", "d"}}), "A    BB\nccc  d");
  EXPECT_EQ(table_text({{"é", "x"}, {"ab", "y"}}), "é   x\nab  y");
}

TEST(ExitStatuses, SayWhatTheCallerCanDo) {
  auto status = [](Code code) { return exit_status(Error(code, "")); };
  EXPECT_EQ(status(Code::kMalformed), ExitStatus::kUsage);
  for (Code code :
       {Code::kUnauthentic, Code::kRefused, Code::kNotFound, Code::kConflict, Code::kExhausted}) {
    EXPECT_EQ(status(code), ExitStatus::kNo);
  }
  EXPECT_EQ(status(Code::kTryAgain), ExitStatus::kCannotNow);
  EXPECT_EQ(status(Code::kBroken), ExitStatus::kInternal);
}

}  // namespace
}  // namespace souk::market
