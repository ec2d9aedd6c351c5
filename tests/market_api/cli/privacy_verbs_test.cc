// souk privacy as a person or a program meets it: the real souk, its JSON, its exit statuses.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include "tests/policy/privacy/tables.h"

namespace souk::market {
namespace {

namespace tables = policy::tables;

class PrivacyVerbs : public ::testing::Test {
 protected:
  PrivacyVerbs() {
    char name[] = "/tmp/souk-privacy-verbs-XXXXXX";
    folder_ = mkdtemp(name);
  }
  ~PrivacyVerbs() override { std::filesystem::remove_all(folder_); }

  // What it prints. Fills exit_ and seconds_.
  std::string souk(const std::string& arguments) {
    const char* bin = std::getenv("SOUK_BIN");
    std::string command = std::string(bin ? bin : ".") + "/souk privacy " + arguments +
                          " --json 2>" + folder_ + "/stderr";
    const auto start = std::chrono::steady_clock::now();
    FILE* pipe = popen(command.c_str(), "r");
    std::string out;
    char buffer[4096];
    while (size_t got = std::fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, got);
    exit_ = WEXITSTATUS(pclose(pipe));
    seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return out;
  }
  // NaN where it is null or absent.
  static double number(const std::string& json, const std::string& name) {
    const std::string key = "\"" + name + "\":";
    const size_t at = json.find(key);
    const double none = std::numeric_limits<double>::quiet_NaN();
    if (at == std::string::npos) return none;
    const char* start = json.c_str() + at + key.size();
    char* end = nullptr;
    const double value = std::strtod(start, &end);
    return end == start ? none : value;
  }

  std::string folder_;
  int exit_ = -1;
  double seconds_ = 0;
};

std::string adjacency_option(const tables::Row& row) {
  return row.at("adjacency") == "add_remove" ? "" : " --adjacency replace-one";
}

TEST_F(PrivacyVerbs, EveryRowOfTheReferenceTableLiesInItsBand) {
  auto rows = tables::read("reference.csv");
  if (rows.empty()) GTEST_SKIP() << "no accounting tables under SOUK_SHARED";
  for (auto& row : rows) {
    const std::string query = row["query"] == "eps"     ? "epsilon"
                              : row["query"] == "delta" ? "delta"
                                                        : "noise";
    std::string asked = query + " --events '" + row["events"] + "'" + adjacency_option(row);
    if (query != "delta") asked += " --delta " + row["delta"];
    if (query != "epsilon") asked += " --epsilon " + row["eps_target"];
    auto json = souk(asked);
    EXPECT_EQ(exit_, 0) << asked;
    const double value = number(json, query == "noise" ? "noise_multiplier" : query);
    EXPECT_GE(value, std::stod(row["accept_lo"])) << asked;
    EXPECT_LE(value, std::stod(row["accept_hi"])) << asked;
    if (query != "noise") {
      EXPECT_LE(number(json, query + "_lower"), std::stod(row["exact"]) * (1 + 2e-9)) << asked;
    }
  }
}

TEST_F(PrivacyVerbs, EveryStepOfTheTableIsRightToNineDigits) {
  auto rows = tables::read("onestep.csv");
  if (rows.empty()) GTEST_SKIP() << "no accounting tables under SOUK_SHARED";
  for (auto& row : rows) {
    auto json = souk("delta --events 'psg:q=" + row["q"] + ",sigma=" + row["sigma"] +
                     ",T=1' --epsilon " + row["eps"]);
    const double exact = std::stod(row["delta"]);
    EXPECT_NEAR(number(json, "delta_" + row["direction"]), exact, 1e-9 * exact) << row["eps"];
  }
}

TEST_F(PrivacyVerbs, EveryFilterOfTheTableAdmitsExactlyAsManyAsItSays) {
  auto rows = tables::read("ledger.csv");
  if (rows.empty()) GTEST_SKIP() << "no accounting tables under SOUK_SHARED";
  for (auto& row : rows) {
    // As the table writes its rules, and as the help does.
    const std::string rule =
        row["rule"] == "renyi" ? "renyi:" + row["alpha"] : std::string(row["rule"]);
    for (bool hyphens : {false, true}) {
      std::string written = rule;
      if (hyphens) std::replace(written.begin(), written.end(), '_', '-');
      auto json =
          souk("filter --epsilon " + row["eps_G"] + " --delta " + row["delta_G"] + " --stream '" +
               row["stream (cycled; q,sigma,T per contract)"] + "' --rule " + written);
      EXPECT_EQ(exit_, 0);
      EXPECT_EQ(number(json, "admitted"), std::stod(row["admitted"])) << written;
    }
  }
}

}  // namespace
}  // namespace souk::market
