// Which blobs somebody still needs, as the recorded state says.
#include "market_api/verbs/blob_uses.h"

#include <gtest/gtest.h>

#include "tests/contracts/market_world.h"

namespace souk::market {
namespace {

using contracts::digest_named;
using contracts::key_named;
using contracts::PolicyChange;
using contracts::World;

class Uses : public ::testing::Test {
 protected:
  Uses()
      : north(world.publish("hospital", "north", 40)), south(world.publish("clinic", "south", 40)) {
    world.fund("lab", 1000);
  }
  ContractId order(const DatasetId& dataset, const std::string& weights) {
    auto submit = world.submit({dataset}, 100);
    if (!weights.empty()) submit.spec.initial = digest_named(weights);
    auto envelope = contracts::sign_record(submit, key_named("lab"), world.market());
    EXPECT_EQ(world.record(envelope), "");
    return contracts::contract_id(envelope.payload);
  }
  ContractId done(const ContractId& id, const std::string& model) {
    EXPECT_EQ(world.record(world.allow(id), "keeper"), "");
    EXPECT_EQ(world.record(world.start(id), "keeper"), "");
    auto result = world.result(id);
    result.model = digest_named(model);
    result.payload = digest_named("payload of " + model);
    EXPECT_EQ(world.record(result, "trainer"), "");
    return id;
  }
  void destroy(const ContractId& job) {
    const auto& contract = world.contract(job);
    EXPECT_EQ(world.record(PolicyChange{contract.submit.datasets[0], contract.policies[0],
                                        PolicyChange::Move::kRevokeDestroy},
                           "hospital"),
              "");
    EXPECT_TRUE(world.contract(job).destroyed);
  }
  // What a look-up says of a file that is no age file; and whether a sweep says the same.
  bool needed(const std::string& blob) const {
    bool out = BlobUses(world.state()).needed(world.state(), digest_named(blob), BlobKind::kOther);
    EXPECT_EQ(BlobUses::all_needed(world.state()).count(digest_named(blob)), out) << blob;
    return out;
  }

  World world;
  DatasetId north, south;
};

TEST_F(Uses, WeightsStayForWhoStartedFromThemBeforeADestroyedModelCameOutTheSame) {
  auto waiting = order(south, "public");
  auto late = done(order(north, ""), "public");
  EXPECT_TRUE(needed("payload of public"));
  destroy(late);
  EXPECT_FALSE(needed("payload of public"));
  EXPECT_TRUE(needed("public")) << "a contract that is not its child waits to start from it";
  EXPECT_EQ(world.contract(waiting).phase, contracts::Phase::kSubmitted);
}

TEST_F(Uses, WhatADestroyedModelAndItsChildrenWereMadeOfNobodyNeeds) {
  auto first = done(order(north, ""), "first");
  auto child = done(order(south, "first"), "second");
  EXPECT_TRUE(needed("first"));
  destroy(first);
  EXPECT_TRUE(world.contract(child).destroyed);
  EXPECT_FALSE(needed("first"));
  EXPECT_FALSE(needed("payload of second"));
}

}  // namespace
}  // namespace souk::market
