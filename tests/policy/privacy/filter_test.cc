#include "policy/privacy/filter.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/policy/privacy/tables.h"

namespace souk::policy {
namespace {

TEST(Filter, AdmitsByEachRule) {
  auto stream = *parse_stream("0.004266666666666667,1.3,3515");
  auto count = [&](const char* rule, double e) {
    return **admitted(stream, *parse_rule(rule), e, 1e-6);
  };
  EXPECT_EQ(count("renyi:4", 3), 0u);
  EXPECT_EQ(count("renyi:5", 3), 1u);
  EXPECT_EQ(count("renyi:6", 3), 4u);
  EXPECT_EQ(count("renyi:8", 3), 6u);
  EXPECT_EQ(count("renyi-mixture8", 3), 5u);
  EXPECT_EQ(count("pld-static", 3), 7u);
  EXPECT_FALSE(admitted(*parse_stream("0,1,5"), *parse_rule("pld-static"), 1, 1e-6)->has_value());
  EXPECT_FALSE(admitted(*parse_stream("0,1,5;0.1,2,0"), *parse_rule("renyi-mixture8"), 1, 1e-6)
                   ->has_value());
  EXPECT_EQ(count("renyi_mixture8", 3), 5u);
  EXPECT_EQ(count("pld_static", 3), 7u);
  for (const char* bad : {"renyi", "renyi:", "renyi:1", "renyi:x", "pld", "", "renyi-mixture",
                          "RENYI-MIXTURE8", "renyi8"})
    EXPECT_FALSE(parse_rule(bad)) << bad;
  for (const char* bad : {"", "0.1,1", "0.1,1,2,3", "2,1,1", "0.1,0,1", "0.1,1,x"})
    EXPECT_FALSE(parse_stream(bad)) << bad;
}

// The tables under SOUK_SHARED.

TEST(FilterTables, EveryRuleAdmitsExactlyAsMany) {
  auto rows = tables::read("ledger.csv");
  if (rows.empty()) GTEST_SKIP() << "no accounting tables under SOUK_SHARED";
  for (auto& row : rows) {
    auto stream = *parse_stream(row["stream (cycled; q,sigma,T per contract)"]);
    std::string rule = row["rule"] == "renyi"        ? "renyi:" + row["alpha"]
                       : row["rule"] == "pld_static" ? "pld-static"
                                                     : "renyi-mixture8";
    auto count =
        admitted(stream, *parse_rule(rule), std::stod(row["eps_G"]), std::stod(row["delta_G"]));
    EXPECT_EQ(**count, std::stoull(row["admitted"])) << rule;
  }
}

}  // namespace
}  // namespace souk::policy
