#include "policy/privacy/shown.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>

namespace souk::policy {
namespace {

TEST(Shown, WhatSomethingIsAtMostIsRoundedUpAndAtLeastDown) {
  EXPECT_EQ(digits_up(2e-5), "2e-05");
  EXPECT_EQ(digits_up(0.1 * 3), "0.3");
  EXPECT_EQ(digits_up(1.0001), "1.001");
  EXPECT_EQ(digits_up(9.9991), "10");
  EXPECT_EQ(digits_up(99.9991, 3), "100");
  EXPECT_EQ(digits_up(0), "0");
  EXPECT_EQ(digits_down(0), "0");
  EXPECT_EQ(digits_down(2e-5), "2e-05");
  EXPECT_EQ(digits_down(1.9999), "1.999");
  EXPECT_EQ(digits_up(std::numeric_limits<double>::infinity()), "inf");
  for (double value : {1e-300, 1.23456e-7, 0.0999991, 3.14159, 84.4646, 123456.7, 9.99999e299}) {
    for (int digits : {1, 3, 5}) {
      const double shown = std::strtod(digits_up(value, digits).c_str(), nullptr);
      EXPECT_GE(shown, value * (1 - 1e-14)) << value << " " << digits;
      EXPECT_LE(shown, value * (1 + 1.01 * std::pow(10, 1 - digits))) << value << " " << digits;
      const double below = std::strtod(digits_down(value, digits).c_str(), nullptr);
      EXPECT_LE(below, value * (1 + 1e-14)) << value << " " << digits;
      EXPECT_GE(below, value * (1 - 1.01 * std::pow(10, 1 - digits))) << value << " " << digits;
    }
  }
}

}  // namespace
}  // namespace souk::policy
