#include "trainer/audit/self_test.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <tuple>

#include "policy/privacy/accountant.h"
#include "tests/trainer/audit/planted.h"
#include "tests/trainer/engine/support.h"
#include "trainer/audit/one_run.h"
#include "trainer/audit/privacy_audit.h"
#include "trainer/engine/noise.h"
#include "trainer/engine/sampling.h"

namespace souk::trainer {
namespace {

using seam::Fault;
using seam::planted_fault;

// Restores a trainer that is not broken.
struct Planted {
  explicit Planted(Fault fault) { planted_fault = fault; }
  ~Planted() { planted_fault = Fault::kNone; }
};

contracts::TrainingSpec spec_of(double q, double sigma, uint32_t steps = 1000) {
  auto spec = testing::plain_spec({4}, 2, {testing::linear(2)}, steps, 0.1);
  testing::make_private(spec, q, 0.7, sigma);
  return spec;
}

double claimed(const contracts::TrainingSpec& spec) {
  auto epsilon = policy::epsilon_upper({policy::rate_from_threshold(spec.sampling_threshold),
                                        spec.privacy->noise_multiplier, spec.steps},
                                       1e-5);
  return *epsilon;
}

std::string failed(const SelfTest& test) {
  std::string out;
  for (const auto& check : test.checks) {
    if (!check.ok)
      out += check.name + " " + std::to_string(check.measured) + " not in " +
             std::to_string(check.least) + ".." + std::to_string(check.most) + "; ";
  }
  return out;
}

TEST(SelfTest, ACorrectTrainerIsNotCaughtWithTwentySeeds) {
  auto spec = spec_of(0.05, 1.1);
  const double claim = claimed(spec);
  for (uint8_t seed = 1; seed <= 20; ++seed) {
    auto test = self_test(spec, testing::root_of(seed));
    ASSERT_TRUE(test) << test.error().expected();
    EXPECT_TRUE(test->ok) << int{seed} << ": " << failed(*test);
    EXPECT_LE(test->epsilon_lower, claim);
    // What it measures is nearly all that there is.
    EXPECT_GT(test->epsilon_lower, 0.5 * claim);
  }
}

TEST(SelfTest, ACorrectTrainerIsNotCaughtAtOtherRatesNoisesAndClippings) {
  using Clipping = contracts::PrivacySpec::Clipping;
  for (auto [q, sigma] : {std::pair{0.001, 0.7}, {0.3, 8.0}, {1.0, 30.0}, {0.0002, 0.6}}) {
    auto spec = spec_of(q, sigma);
    if (q == 1) spec.sampling_threshold = UINT64_MAX;
    auto test = self_test(spec, testing::root_of(3));
    ASSERT_TRUE(test) << test.error().expected();
    EXPECT_TRUE(test->ok) << q << " " << sigma << ": " << failed(*test);
    EXPECT_LE(test->epsilon_lower, claimed(spec));
  }
  for (auto clipping : {Clipping::kPerLayer, Clipping::kAutomatic}) {
    auto spec = spec_of(0.05, 1.1);
    spec.privacy->clipping = clipping;
    auto test = self_test(spec, testing::root_of(4));
    ASSERT_TRUE(test);
    EXPECT_TRUE(test->ok) << failed(*test);
  }
}

#ifdef SOUK_SANITIZED
constexpr int kFaultySeeds = 2;  // each takes ten times as long
#else
constexpr int kFaultySeeds = 20;
#endif

TEST(SelfTest, EveryPlantedFaultIsCaughtWithTwentySeeds) {
  for (auto [q, sigma, seeds] : {std::tuple{0.05, 1.1, kFaultySeeds}, {0.2, 6.0, 1}}) {
    auto spec = spec_of(q, sigma);
    const double claim = claimed(spec);
    for (Fault fault : seam::kFaults) {
      Planted planted(fault);
      for (int seed = 1; seed <= seeds; ++seed) {
        auto test = self_test(spec, testing::root_of(static_cast<uint8_t>(seed)));
        ASSERT_TRUE(test) << test.error().expected();
        EXPECT_FALSE(test->ok) << static_cast<int>(fault) << " at q " << q << ", seed " << seed;
        EXPECT_GT(test->epsilon_lower, claim)
            << static_cast<int>(fault) << " at q " << q << ", seed " << seed;
      }
    }
  }
}

// The figures of one run of 300 rows with canaries.
OneRunFigures one_run(const contracts::TrainingSpec& spec, uint8_t seed, uint32_t count) {
  std::vector<float> x(300 * 4);
  std::vector<int64_t> labels(300);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (size_t row = 0; row < 300; ++row) {
    labels[row] = static_cast<int64_t>(row % 2);
    for (size_t i = 0; i < 4; ++i) x[row * 4 + i] = normal(random) + static_cast<float>(row % 2);
  }
  auto workers = std::move(*Workers::start(1));
  auto run = TrainingRun::create(spec, {Features(std::span<const float>(x)), labels},
                                 testing::root_of(seed), *workers);
  EXPECT_TRUE(run) << run.error().expected();
  EXPECT_TRUE(run->plant_canaries(count));
  EXPECT_TRUE(run->run_to_end());
  return one_run_figures(*run->canaries(), 1e-5);
}

TEST(OneRun, ACorrectTrainerIsNeverAboveItsClaimAndSeesMuchOfIt) {
  auto spec = spec_of(0.05, 1.1, 400);
  const double claim = claimed(spec);
  for (uint8_t seed = 1; seed <= 20; ++seed) {
    auto figures = one_run(spec, seed, kMostCanaries);
    EXPECT_LT(figures.epsilon_lower, claim);
    EXPECT_GT(figures.epsilon_lower, 0.15 * claim);
    EXPECT_LT(figures.epsilon_gdp, 1.1 * claim);
    EXPECT_GT(figures.epsilon_gdp, 0.5 * claim);
  }
}

TEST(OneRun, FaultsThatAreThereAreInItsFigures) {
  auto spec = spec_of(0.05, 1.1, 400);
  const double claim = claimed(spec);
  for (Fault fault : {Fault::kNoNoise, Fault::kQuarterNoise, Fault::kNoClipping}) {
    Planted planted(fault);
    auto figures = one_run(spec, 5, kMostCanaries);
    EXPECT_GT(figures.epsilon_gdp, 2 * claim) << static_cast<int>(fault);
  }
  // Where little is claimed, the proven bound passes it.
  auto modest = spec_of(0.05, 3, 100);
  for (Fault fault : {Fault::kNoNoise, Fault::kQuarterNoise, Fault::kNoClipping}) {
    Planted planted(fault);
    EXPECT_GT(one_run(modest, 5, kMostCanaries).epsilon_lower, claimed(modest))
        << static_cast<int>(fault);
  }
}

// ---- everything at once, as `souk privacy audit` does -------------------------------------

struct OwnRows {
  std::vector<float> x;
  std::vector<int64_t> labels;
  OwnRows() : x(96 * 4), labels(96) {
    std::mt19937 random(9);
    std::normal_distribution<float> normal;
    for (size_t row = 0; row < labels.size(); ++row) {
      labels[row] = static_cast<int64_t>(row % 2);
      for (size_t i = 0; i < 4; ++i) x[row * 4 + i] = normal(random);
    }
  }
  Examples examples() const { return {Features(std::span<const float>(x)), labels}; }
};

PrivacyAudit audited(const contracts::TrainingSpec& spec, uint8_t seed, uint32_t shadows) {
  OwnRows rows;
  auto workers = std::move(*Workers::start(1));
  auto found = audit_privacy(spec, rows.examples(), nullptr, shadows, testing::root_of(seed),
                             *workers, [](uint64_t, uint64_t) {});
  CHECK(found);
  return *found;
}

contracts::TrainingSpec claiming(double q, double sigma, uint32_t steps) {
  auto spec = spec_of(q, sigma, steps);
  spec.privacy->epsilon_micro = policy::epsilon_micro_up(claimed(spec));
  return spec;
}

TEST(Audit, ACorrectTrainerPassesWithTwentySeeds) {
  auto spec = claiming(0.1, 2, 60);
  for (uint8_t seed = 1; seed <= 20; ++seed) {
    auto found = audited(spec, seed, seed <= 2 ? 3 : 0);
    EXPECT_TRUE(found.ok) << int{seed} << ": " << failed(found.self_test);
    EXPECT_LE(found.epsilon_lower, found.claimed);
    EXPECT_EQ(found.membership.has_value(), seed <= 2);
  }
}

TEST(Audit, EveryPlantedFaultIsRefuted) {
  auto spec = claiming(0.1, 2, 60);
  for (Fault fault : seam::kFaults) {
    Planted planted(fault);
    auto found = audited(spec, 3, 0);
    EXPECT_FALSE(found.ok) << static_cast<int>(fault);
    EXPECT_GT(found.epsilon_lower, found.claimed) << static_cast<int>(fault);
  }
}

TEST(Audit, AClaimBelowTheAccountantsIsRefuted) {
  auto spec = claiming(0.1, 2, 60);
  spec.privacy->epsilon_micro /= 2;
  auto found = audited(spec, 4, 0);
  EXPECT_FALSE(found.ok);
  EXPECT_TRUE(found.self_test.ok);
  EXPECT_GT(found.accountant, found.claimed);
}

// Ten numbers, of one stream of noise; 6,302, of two.
contracts::TrainingSpec audited_spec(bool wide, double q, uint32_t steps) {
  auto spec = spec_of(q, 1, steps);
  if (wide) {
    spec.model.insert(spec.model.begin(), testing::linear(900));
    EXPECT_TRUE(contracts::check_spec(spec));
  }
  return spec;
}

TEST(Canaries, DoNotMoveABitOfTheModel) {
  OwnRows rows;
  for (bool wide : {false, true}) {
    auto spec = audited_spec(wide, 0.2, wide ? 10 : 30);
    std::vector<Model> models;
    for (unsigned threads : {1U, 3U}) {
      auto workers = std::move(*Workers::start(threads));
      for (uint32_t canaries : {0U, 32U, kMostCanaries}) {
        auto run = TrainingRun::create(spec, rows.examples(), testing::root_of(6), *workers);
        ASSERT_TRUE(run);
        if (canaries > 0) {
          ASSERT_TRUE(run->plant_canaries(canaries));
        }
        ASSERT_TRUE(run->run_to_end());
        models.push_back(*run->finish());
        EXPECT_EQ(models[0], models.back()) << wide << " " << threads << " " << canaries;
      }
    }
  }
}

TEST(Canaries, AreHiddenByNormalsOfTheModelsLastStreamThatItDoesNotTake) {
  OwnRows rows;
  auto workers = std::move(*Workers::start(2));
  for (bool wide : {false, true}) {
    // Nobody is drawn: what is released is noise.
    auto spec = audited_spec(wide, 1e-12, 1);
    auto run =
        std::move(*TrainingRun::create(spec, rows.examples(), testing::root_of(7), *workers));
    ASSERT_TRUE(run.plant_canaries(300));
    ASSERT_TRUE(run.run_to_end());
    const uint64_t trained = wide ? 6302 : 10, stream = wide ? 1 : 0,
                   taken = trained - 4096 * stream,
                   first = std::max(taken, (taken + 255) / 256 * 256 - 128);
    const auto grid = *NoiseGrid::make(1, 0.7, static_cast<double>(trained));
    ChaCha20 random(derive_key(testing::root_of(7), "noise", 0).bytes(SecretAccess()), stream);
    std::vector<double> normals(first + 300);
    standard_normals(random, normals);
    for (size_t i = 0; i < 300; ++i) {
      EXPECT_EQ(run.canaries()->scores()[i],
                grid.step * std::nearbyint(normals[first + i] * grid.deviation_units))
          << wide << " " << i;
    }
  }
}

TEST(Canaries, AreForPrivateRunsThatHaveNotBegun) {
  OwnRows rows;
  auto workers = std::move(*Workers::start(1));
  auto spec = spec_of(0.2, 1, 30);
  auto run = std::move(*TrainingRun::create(spec, rows.examples(), testing::root_of(6), *workers));
  EXPECT_EQ(run.plant_canaries(0).error().code(), Code::kMalformed);
  EXPECT_EQ(run.plant_canaries(kMostCanaries + 1).error().code(), Code::kMalformed);
  ASSERT_TRUE(run.plant_canaries(100));
  EXPECT_EQ(run.plant_canaries(100).error().code(), Code::kConflict);
  spec.privacy.reset();
  auto open = std::move(*TrainingRun::create(spec, rows.examples(), testing::root_of(6), *workers));
  EXPECT_EQ(open.plant_canaries(100).error().code(), Code::kConflict);
}

TEST(OneRun, GuessesAreJudgedAsTheBinomialDoes) {
  // By hand: 10 of 10 right at epsilon 0 has a chance of 2^-10; of 5 or more of 10, 638/1024.
  EXPECT_NEAR(chance_of_guessing(10, 10, 10, 0, 0), 1.0 / 1024, 1e-9);
  EXPECT_NEAR(chance_of_guessing(10, 10, 5, 0, 0), 638.0 / 1024, 1e-8);
  EXPECT_GT(chance_of_guessing(10, 10, 10, 0, 1e-3), 1.0 / 1024);
  EXPECT_GT(chance_of_guessing(1000, 500, 400, 1, 1e-5),
            chance_of_guessing(1000, 500, 410, 1, 1e-5));
}

// ---- the seam ----------------------------------------------------------------------------

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(Seam, ThisTestCarriesItAndNoProgramDoes) {
  const std::string mark = seam::planted_mark;
  EXPECT_NE(bytes_of("/proc/self/exe").find(mark), std::string::npos);
#ifndef SOUK_SANITIZED  // only what is delivered: no program is built for this test there
  const char* bin = std::getenv("SOUK_BIN");
  ASSERT_TRUE(bin);
  for (const char* program : {"souk-client", "souk-enclave"}) {
    const std::string own = bytes_of(std::string(bin) + "/" + program);
    ASSERT_GT(own.size(), 100'000U) << program;
    EXPECT_EQ(own.find(mark), std::string::npos) << program;
  }
#endif
}

}  // namespace
}  // namespace souk::trainer
