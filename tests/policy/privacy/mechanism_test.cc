#include "policy/privacy/mechanism.h"

#include <gtest/gtest.h>

namespace souk::policy {
namespace {

TEST(Events, AreReadStrictly) {
  auto good = parse_mechanisms(
      "psg:q=0.01,sigma=4,T=1000;gauss:sigma=9;lap:b=8,T=1;pure:eps=0.1,T=3;psgu:q=0.1,sigma=2,T=5,"
      "k=3;"
      "tpsg:N=100,q=0.1,B=20,sigma=1,T=1e3");
  ASSERT_TRUE(good);
  EXPECT_EQ(good->all.size(), 6u);
  EXPECT_EQ(good->all[1].steps, 1u);
  EXPECT_EQ(good->all[5].steps, 1000u);
  EXPECT_EQ(parse_mechanisms("lap:b=1;psg:q=0.1,sigma=?,T=3")->unknown, 1u);
  for (const char* bad : {"",
                          ";",
                          "psg",
                          "psg:",
                          "psg:q=0.1",
                          "psg:q=0.1,sigma=1,T=",
                          "psg:q=0.1,sigma=1,T=1.5",
                          "psg:q=0.1,sigma=1,T=-1",
                          "psg:q=0.1,sigma=1,T=1,T=2",
                          "psg:q=0.1,sigma=1,T=1,z=2",
                          "psg:q=2,sigma=1,T=1",
                          "psg:q=nan,sigma=1,T=1",
                          "psg:q=0.1,sigma=inf,T=1",
                          "psg:q=0.1x,sigma=1,T=1",
                          "lap:b=0,T=1",
                          "pure:eps=-1,T=1",
                          "gaus:sigma=1,T=1",
                          "psgu:q=0.1,sigma=1,T=1",
                          "psgu:q=0.1,sigma=1,T=1,k=0",
                          "tpsg:N=10,q=0.1,B=11,sigma=1,T=1",
                          "psg:q=0.1,sigma=?,T=1;lap:b=?,T=1",
                          "psg:q=0.1,sigma=1,T=99999999999999999999"}) {
    auto parsed = parse_mechanisms(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_EQ(parsed.error().code(), Code::kMalformed);
    EXPECT_NE(parsed.error().expected().find("xpected") == std::string::npos &&
                  parsed.error().expected().find("needs") == std::string::npos &&
                  parsed.error().expected().find("no parameter") == std::string::npos,
              true)
        << bad;
  }
}

}  // namespace
}  // namespace souk::policy
