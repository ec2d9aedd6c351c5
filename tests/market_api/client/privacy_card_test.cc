// What a card promises is what was accounted.
#include "market_api/client/privacy_card.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "policy/privacy/meaning.h"
#include "policy/privacy/run.h"

namespace souk::market {
namespace {

contracts::TrainingSpec private_spec(uint32_t user_cap) {
  contracts::TrainingSpec spec;
  spec.steps = 100;
  spec.batch = 32;
  spec.sampling_threshold = uint64_t{1} << 58;
  spec.privacy = contracts::PrivacySpec{};
  spec.privacy->noise_multiplier = 2;
  spec.privacy->delta_pico = 10'000'000;
  spec.privacy->user_cap = user_cap;
  return spec;
}

contracts::JobResult result_of(const contracts::TrainingSpec& spec) {
  contracts::JobResult result;
  result.steps = spec.steps;
  result.epsilon_micro = policy::epsilon_micro_up(policy::epsilon_of_run(spec, spec.steps).take());
  result.delta_pico = spec.privacy->delta_pico;
  return result;
}

TEST(PrivacyCard, OfAMarketNamesItsEvidenceAndOfAnOwnersMachineThatNothingAttests) {
  const auto spec = private_spec(1);
  auto claim = claim_of(result_of(spec), "sev-snp");
  EXPECT_NE(privacy_card(spec, claim).find("(evidence `sev-snp`)"), std::string::npos);
  claim.evidence_kind.reset();
  const std::string local = privacy_card(spec, claim);
  EXPECT_EQ(local.find("evidence"), std::string::npos) << local;
  EXPECT_EQ(local.find("providers"), std::string::npos) << local;
  claim.evidence_kind = "sev-snp";
  for (const auto& card : {privacy_card(spec, claim), local}) {
    EXPECT_NE(card.find("| adjacency | add or remove one record (row): what is removed counts as "
                        "nothing in its place, and the number of rows is public; "),
              std::string::npos)
        << card;
  }
}

// Groups are composed by the accountant: for Poisson batches two records are not twice epsilon.
TEST(PrivacyCard, WhoHasTwoRecordsIsToldTheAccountantsEpsilon) {
  const auto spec = private_spec(1), pair = private_spec(2);
  const std::string card = privacy_card(spec, claim_of(result_of(spec), "none"));
  EXPECT_EQ(card.find("times less"), std::string::npos);
  const std::string words = "epsilon for groups (";
  const size_t at = card.find(words);
  ASSERT_NE(at, std::string::npos) << card;
  const double told = std::strtod(card.c_str() + at + words.size(), nullptr),
               one = policy::epsilon_of_run(spec, spec.steps).take(),
               two = policy::epsilon_of_run(pair, spec.steps).take();
  EXPECT_GE(told, two);
  EXPECT_LE(told, two * 1.002);
  EXPECT_GT(std::abs(told - 2 * one), 0.02 * one);
  EXPECT_EQ(privacy_card(pair, claim_of(result_of(pair), "none")).find("two records"),
            std::string::npos);
}

TEST(PrivacyCard, WarnsWhereTheAuditLooksWorseThanTheClaim) {
  const auto spec = private_spec(1);
  auto result = result_of(spec);
  result.audit = contracts::JobAudit{};
  result.audit->canaries = 100;
  result.audit->epsilon_gdp_micro = result.epsilon_micro;
  EXPECT_EQ(privacy_card(spec, claim_of(result, "none")).find("WARNING"), std::string::npos);
  ++result.audit->epsilon_gdp_micro;
  EXPECT_NE(privacy_card(spec, claim_of(result, "none")).find("WARNING"), std::string::npos);
}

TEST(PrivacyCard, ALimitOnCertaintyComesWithTheProbabilityThatItIsPassed) {
  const auto spec = private_spec(1);
  auto claim = claim_of(result_of(spec), "none");
  claim.epsilon = 1;
  const std::string card = privacy_card(spec, claim);
  // 2 e^epsilon against 1, and 2 delta.
  EXPECT_NE(
      card.find("is more than 84.47 % sure after seeing the model with a probability of 2e-05 "
                "at most.\n"),
      std::string::npos)
      << card;
  EXPECT_LT(100 * policy::certainty_after(1 + std::log(2.0), 0.5), 84.47);
  EXPECT_EQ(card.find("73.1"), std::string::npos) << card;
  EXPECT_NE(card.find("recognises at most 2.72 % of those that were"), std::string::npos) << card;
}

}  // namespace
}  // namespace souk::market
