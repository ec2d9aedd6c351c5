// The market most tests of apply begin with.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "tests/contracts/market_world.h"

namespace souk::contracts {

inline constexpr TimeMs kMinute = 60'000;

// Two hospitals, one lab with 1000, one contract over both datasets for 150.
struct Apply : testing::Test {
  World world;
  DatasetId first = world.publish("hospital", "first", 100);
  DatasetId second = world.publish("clinic", "second", 50);
  ContractId contract;

  Apply() {
    world.fund("lab", 1000);
    contract = world.order("lab", {first, second}, 200);
  }

  Phase phase() const { return world.contract(contract).phase; }
  const Budget& budget(const DatasetId& id) const { return world.state().dataset(id)->budget; }
  std::string decide(const ContractDecision& decision) { return world.record(decision, "keeper"); }
  void escrow() { ASSERT_EQ(decide(world.allow(contract)), ""); }
  void run() {
    escrow();
    ASSERT_EQ(world.record(world.start(contract), "keeper"), "");
  }
};

}  // namespace souk::contracts
