// Whether a private run failed is public and exact, and costs no epsilon: rows must not decide it.
#include <gtest/gtest.h>

#include "tests/trainer/engine/support.h"

namespace souk::trainer {
namespace {

bool trains(const contracts::TrainingSpec& spec, const testing::Data& data) {
  auto workers = Workers::start(1).take();
  auto run = TrainingRun::create(spec, data.examples(), testing::root_of(1), *workers);
  return run && run->run_to_end();
}

TEST(Silence, ARowOfNoCategoryFailsARunWithoutPrivacyAndNoneWithIt) {
  auto with = testing::mixed_columns_spec(), without = with;
  testing::make_private(with, 0.5, 1, 1);
  auto data = testing::mixed_columns_data(16, 3);
  EXPECT_TRUE(trains(without, data));
  for (float odd : {4.0F, -1.0F, 0.5F, 1e30F, std::nanf("")}) {
    data.features[5 * 7 + 1] = odd;
    EXPECT_FALSE(trains(without, data)) << odd;
    EXPECT_TRUE(trains(with, data)) << odd;
  }
}

}  // namespace
}  // namespace souk::trainer
