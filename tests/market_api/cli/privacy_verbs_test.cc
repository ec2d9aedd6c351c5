// souk privacy as a person or a program meets it: the real souk, its JSON, its exit statuses.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
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

  // What it prints. Fills exit_ and seconds_, of processors.
  std::string souk(const std::string& arguments) {
    const char* bin = std::getenv("SOUK_BIN");
    std::string command = std::string(bin ? bin : ".") + "/souk privacy " + arguments +
                          " --json 2>" + folder_ + "/stderr";
    const double before = seconds_of_children();
    FILE* pipe = popen(command.c_str(), "r");
    std::string out;
    char buffer[4096];
    while (size_t got = std::fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, got);
    exit_ = WEXITSTATUS(pclose(pipe));
    seconds_ = seconds_of_children() - before;
    return out;
  }
  static double seconds_of_children() {
    rusage used{};
    getrusage(RUSAGE_CHILDREN, &used);
    auto seconds = [](const timeval& t) {
      return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
    };
    return seconds(used.ru_utime) + seconds(used.ru_stime);
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

TEST_F(PrivacyVerbs, ExtremeNumbersAreAnsweredOrRefusedAtOnce) {
#ifdef SOUK_SANITIZED
  constexpr double kLong = 120;
#else
  constexpr double kLong = 30;
#endif
  for (const char* asked : {
           "epsilon --events 'gauss:sigma=1e-6,T=2' --delta 1e-5",
           "epsilon --events 'gauss:sigma=1e-8,T=9007199254740992' --delta 1e-300",
           "epsilon --events 'psg:q=0.01,sigma=1e-6,T=1' --delta 1e-5",
           "epsilon --events 'psg:q=0.01,sigma=1e-4,T=10000' --delta 0.01",
           "epsilon --events 'psgu:q=0.1,sigma=1e-7,T=2,k=4096;lap:b=1e-6,T=5' --delta 1e-9",
           "epsilon --events 'tpsg:N=1000000000000000,q=0.5,B=500000000000000,sigma=1e-3,T=1' "
           "--delta 1e-5",
           "delta --events 'psgu:q=0.0007,sigma=1e-7,T=2,k=4096' --epsilon 0.8",
           "delta --events 'gauss:sigma=0.3,T=3312;lap:b=1e-6,T=5;psg:q=1e-4,sigma=3,T=2' "
           "--epsilon 1e308",
           "noise --events 'psg:q=5e-5,sigma=?,T=1' --epsilon 10 --delta 0.01",
           "noise --events 'gauss:sigma=?,T=1e15' --epsilon 1e6 --delta 1e-5",
           "noise --events 'gauss:sigma=?,T=3;gauss:sigma=1e-5,T=33' --epsilon 16 --delta 1e-99",
           "filter --stream '0.04,2.8,11' --epsilon 1e6 --delta 0.01 --rule pld-static",
           "filter --stream '1,1e-8,3;8e-8,1.4,5' --epsilon 1e308 --delta 1e-5 --rule pld-static",
           "plan --epsilon 10 --delta 2.87e-11 --rows 487835804337 --batch 3902 --epochs 0.904",
       }) {
    souk(asked);
    EXPECT_TRUE(exit_ == 0 || exit_ == 1 || exit_ == 2) << exit_ << " " << asked;
    // Three seconds on a quiet machine; what is caught here took minutes, or for ever.
    EXPECT_LT(seconds_, kLong) << asked;
  }
}

TEST_F(PrivacyVerbs, GaussiansWithHardlyAnyNoiseCostWhatTheClosedFormSays) {
  // Balle and Wang 2018, Theorem 8, to 40 digits.
  const struct {
    const char* sigma;
    const char* delta;
    double exact;
  } kRows[] = {
      {"1e-6", "1e-5", 1000006031465.4028978}, {"1e-6", "0.01", 1000003289951.7143577},
      {"1e-6", "1e-9", 1000008482179.025213},  {"1e-4", "1e-5", 100060313.66417880658},
      {"1e-4", "0.01", 100032898.52722489562}, {"1e-4", "1e-9", 100084820.80046319024},
      {"1e-3", "1e-5", 1006030.4679078130197}, {"1e-3", "0.01", 1003288.9535360195887},
      {"1e-3", "1e-9", 1008481.1821398535412}, {"0.01", "1e-5", 10602.161437899068966},
      {"0.01", "0.01", 10328.003423173616819}, {"0.01", "1e-9", 10847.238641785575648},
      {"0.03", "1e-5", 1311.2027907044056166}, {"0.03", "0.01", 1219.8002253370295336},
      {"0.03", "1e-9", 1392.9092422679254244},
  };
  for (const auto& [sigma, delta, exact] : kRows) {
    auto json =
        souk(std::string("epsilon --events 'gauss:sigma=") + sigma + ",T=2' --delta " + delta);
    EXPECT_EQ(exit_, 0);
    EXPECT_NEAR(number(json, "epsilon"), exact, 1e-12 * exact) << sigma << " " << delta;
    EXPECT_GE(number(json, "epsilon"), exact * (1 - 2e-16)) << sigma << " " << delta;
    EXPECT_LE(number(json, "epsilon_lower"), exact * (1 + 2e-16)) << sigma << " " << delta;
    EXPECT_GT(number(json, "epsilon_lower"), exact * (1 - 1e-12)) << sigma << " " << delta;
  }
}

TEST_F(PrivacyVerbs, ADeltaBelowWhatADoubleHoldsIsNotNothing) {
  for (const char* events :
       {"gauss:sigma=5,T=3", "psg:q=0.01,sigma=1,T=1000", "psg:q=0.01,sigma=1,T=1",
        "psgu:q=0.01,sigma=1,T=100,k=3", "psg:q=0.5,sigma=2,T=5;lap:b=1,T=3"}) {
    for (const char* epsilon : {"3000", "1e6", "1e12"}) {
      auto json = souk(std::string("delta --events '") + events + "' --epsilon " + epsilon);
      EXPECT_EQ(exit_, 0);
      EXPECT_GT(number(json, "delta"), 0) << events << " " << epsilon;
      EXPECT_LT(number(json, "delta"), 1e-100) << events << " " << epsilon;
      EXPECT_EQ(number(json, "delta_lower"), 0) << events << " " << epsilon;
    }
  }
  // Nothing at all can lose that much.
  EXPECT_EQ(number(souk("delta --events 'pure:eps=1,T=3;lap:b=2,T=2' --epsilon 4.001"), "delta"),
            0);
}

TEST_F(PrivacyVerbs, ABudgetThatAdmitsNothingHasNoShares) {
  const std::string asked =
      "plan --epsilon 1 --delta 1e-5 --rows 100 --batch 10 --epochs 2 --budget-epsilon 0.001 "
      "--budget-delta 1e-10";
  const std::string json = souk(asked);
  EXPECT_EQ(exit_, 0);
  EXPECT_NE(json.find("\"budget_share\":null"), std::string::npos) << json;
  EXPECT_EQ(number(json, "jobs"), 0) << json;
  const char* bin = std::getenv("SOUK_BIN");
  FILE* pipe = popen((std::string(bin ? bin : ".") + "/souk privacy " + asked).c_str(), "r");
  char text[4096];
  const std::string said(text, std::fread(text, 1, sizeof text, pipe));
  EXPECT_EQ(pclose(pipe), 0);
  EXPECT_NE(said.find("none of any kind: it is too small"), std::string::npos) << said;
}

TEST_F(PrivacyVerbs, WhatDeltaMeansIsNotTheProbabilityThatEpsilonIsPassed) {
  auto has = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  };
  const std::string pure = souk("explain --epsilon 1");
  EXPECT_TRUE(has(pure,
                  "\"posterior_at_most\":0.7310585786300049,\"posterior_rarely_above\":"
                  "0.7310585786300049,\"prior\":0.5"))
      << pure;
  EXPECT_EQ(number(pure, "rarely"), 0) << pure;
  EXPECT_TRUE(has(pure, "it is at most 73.2 % sure after")) << pure;
  EXPECT_TRUE(has(pure, "They hold without exception.")) << pure;

  const std::string some = souk("explain --epsilon 1 --delta 1e-5");
  EXPECT_EQ(exit_, 0);
  EXPECT_TRUE(has(some, "\"posterior_at_most\":null,\"posterior_rarely_above\":0.8446")) << some;
  EXPECT_DOUBLE_EQ(number(some, "rarely"), 2e-5) << some;
  EXPECT_DOUBLE_EQ(number(some, "success_at_most"), (std::exp(1.0) + 1e-5) / (1 + std::exp(1.0)));
  EXPECT_TRUE(has(some, "it is more than 84.5 % sure after with probability 2e-05 at most"))
      << some;
  EXPECT_FALSE(has(some, "73.1 %")) << some;
  EXPECT_FALSE(has(some, "may fail")) << some;

  for (const auto& said : {pure, some})
    EXPECT_TRUE(has(said, "how many rows there are is public, and not protected.")) << said;

  const std::string vain = souk("explain --epsilon 1 --delta 0.5");
  EXPECT_TRUE(has(vain, "\"posterior_at_most\":null,\"posterior_rarely_above\":null")) << vain;
  EXPECT_EQ(number(vain, "rarely"), 1) << vain;
  EXPECT_TRUE(has(vain, "nothing limits how sure it can become")) << vain;
}

// What `souk` answers itself and what it leaves to souk-client is told apart by nobody.
TEST_F(PrivacyVerbs, EveryCallIsAnsweredAsTheWholeProgramAnswersIt) {
  const std::string bin = std::getenv("SOUK_BIN") ? std::getenv("SOUK_BIN") : ".";
  auto said = [&](const std::string& program, const std::string& arguments) {
    std::string command =
        "exec 2>&1; SOUK_HOME=" + folder_ + " " + bin + "/" + program + " " + arguments;
    FILE* pipe = popen(command.c_str(), "r");
    std::string out;
    char buffer[4096];
    while (size_t got = std::fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, got);
    return out + "\nstatus " + std::to_string(WEXITSTATUS(pclose(pipe)));
  };
  const std::string run = " --sample-rate 0.01 --noise-multiplier 1 --steps 10";
  for (const std::string& arguments : {
           "privacy epsilon --delta 1e-5" + run,
           "--json privacy epsilon --delta 1e-5" + run,
           "privacy --json delta --epsilon 1" + run,
           "--as nobody privacy rdp --order 2" + run,
           "privacy --home /nowhere rdp --order 2" + run,
           "privacy rdp --order 2 --as nobody" + run,
           std::string(
               "privacy noise --epsilon 1 --delta 1e-5 --sample-rate 0.01 --steps 9 --json"),
           std::string("privacy filter --epsilon 1 --delta 1e-6 --stream 0.01,4,100"),
           std::string("privacy plan --epsilon 1 --delta 1e-5 --rows 999 --batch 9 --epochs 1"),
           std::string("privacy explain --epsilon 1 --delta 1e-5"),
           std::string("privacy explain --epsilon -1"),
           std::string("privacy explain --epsilon"),
           std::string("privacy explain --epsilon 1 --nonsense --json"),
           std::string("privacy explain --epsilon 1 epsilon --delta 1e-5"),
           std::string("privacy epsilon --help"),
           std::string("privacy epsilon --help --json"),
           std::string("privacy explain --version"),
           std::string("privacy --help"),
           std::string("privacy audit --help"),
           std::string("privacy"),
           std::string("privacy epsilonn"),
           std::string("privacy '' --json"),
           std::string("Privacy epsilon"),
           std::string("--help"),
           std::string("--version"),
           std::string(""),
       }) {
    EXPECT_EQ(said("souk", arguments), said("souk-client", arguments)) << arguments;
  }
}

TEST_F(PrivacyVerbs, AloneTheProgramSaysWhatIsMissing) {
  const std::string bin = std::getenv("SOUK_BIN") ? std::getenv("SOUK_BIN") : ".";
  std::filesystem::copy_file(bin + "/souk", folder_ + "/souk");
  auto status = [&](const std::string& arguments) {
    return WEXITSTATUS(
        std::system((folder_ + "/souk " + arguments + " >" + folder_ + "/out 2>&1").c_str()));
  };
  EXPECT_EQ(status("privacy explain --epsilon 1"), 0);
  EXPECT_EQ(status("dataset list"), 4);
  auto line = [&] {
    std::ifstream out(folder_ + "/out");
    std::string text;
    std::getline(out, text);
    return text;
  };
  EXPECT_EQ(line(),
            "souk: expected to start " + folder_ + "/souk-client: No such file or directory");
  std::filesystem::create_symlink("souk", folder_ + "/souk-client");  // never itself again
  EXPECT_EQ(status("dataset list"), 4);
  EXPECT_NE(line().find("/souk-client to be another program"), std::string::npos) << line();
}

TEST_F(PrivacyVerbs, WhatABoundWasAskedForIsShownAsItIs) {
  const std::string bin = std::getenv("SOUK_BIN") ? std::getenv("SOUK_BIN") : ".";
  auto said = [&](const std::string& arguments) {
    const std::string out = folder_ + "/out";
    EXPECT_EQ(std::system((bin + "/souk privacy " + arguments + " >" + out).c_str()), 0);
    std::ifstream file(out);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  EXPECT_NE(said("delta --epsilon 1.0000049 --events gauss:sigma=1,T=1").find("epsilon 1.0000049 "),
            std::string::npos);
  EXPECT_NE(
      said("epsilon --delta 0.010000049 --events gauss:sigma=3,T=1").find("delta 0.010000049 "),
      std::string::npos);
}

TEST_F(PrivacyVerbs, WhereNoNoiseIsEnoughItSaysUpToWhich) {
  const std::string bin = std::getenv("SOUK_BIN") ? std::getenv("SOUK_BIN") : ".";
  const std::string asked = "noise --epsilon 1e-9 --delta 1e-5 --sample-rate 1 --steps 10000000";
  auto json = souk(asked);
  EXPECT_EQ(exit_, 1);
  EXPECT_NE(json.find("\"noise_multiplier\":null"), std::string::npos) << json;
  const std::string words = bin + "/souk privacy " + asked + " | grep -q 'up to 1e7' && ! " + bin +
                            "/souk privacy " + asked + " | grep -q rest";
  EXPECT_EQ(std::system(words.c_str()), 0);
}

// A reader that goes away kills nobody before what was done is said.
TEST_F(PrivacyVerbs, AnAnswerThatNobodyReadsIsNotWritten) {
  const std::string bin = std::getenv("SOUK_BIN") ? std::getenv("SOUK_BIN") : ".";
  for (const char* program : {"souk", "souk-client"}) {
    const std::string call = bin + "/" + program + " privacy explain --epsilon 1 2>/dev/null";
    const std::string gone = "bash -c '{ sleep 0.3; " + call + "; echo $? >" + folder_ +
                             "/status; } | true'; grep -q '^3$' " + folder_ + "/status";
    EXPECT_EQ(std::system(gone.c_str()), 0) << program;
    const std::string limited =
        "bash -c 'ulimit -f 0; " + call + " >" + folder_ + "/limited; [ $? = 3 ]'";
    EXPECT_EQ(std::system(limited.c_str()), 0) << program;
  }
}

}  // namespace
}  // namespace souk::market
