// A market whose host asks its keeper what it must not answer.
#pragma once

#include <gtest/gtest.h>

#include "tests/support/market_fixture.h"

namespace souk::flows {

using contracts::Phase;
using trainer::Frame;
using trainer::Kind;

class KeeperFlow : public ::testing::Test {
 protected:
  // No key: neither a challenge nor, with the best evidence there is, a start.
  void expect_no_key(const ContractId& contract, Code code = Code::kRefused) {
    market.follow();
    expect_no_key(market.keeper(), contract, code);
  }
  void expect_no_key(KeeperHost& keeper, const ContractId& contract, Code code) {
    auto challenge = keeper.about(Kind::kChallenge, contract);
    EXPECT_EQ(refused(challenge), code) << kind_and_body(challenge);
    StandIn enclave = market.stand_in(contract, std::string(64, '0'));
    auto start = keeper.ask(
        Kind::kStart,
        Json::Object{{"contract", contract}, {"evidence", contracts::to_json(enclave.evidence)}});
    EXPECT_TRUE(refused(start)) << kind_and_body(start);
  }

  contracts::ContractDecision allowing(const ContractId& contract) {
    contracts::ContractDecision decision;
    const auto& state = market.state();
    decision.contract = contract;
    decision.allow = true;
    decision.status = "allowed";
    decision.head_size = state.size();
    decision.head_root = state.root();
    for (const auto& id : state.contract(contract)->submit.datasets) {
      contracts::Grant grant;
      grant.dataset = id;
      decision.grants.push_back(grant);
    }
    return decision;
  }

  std::string deny_of(const std::string& policy) {
    auto dataset = market.publish(market.providers[0], {.policy = policy});
    market.deposit(market.lab.account(), 1000);
    auto balance = market.state().balance(market.lab.account());
    ContractId id = market.submit(market.contract({dataset.id}));
    EXPECT_TRUE(market.record(Kind::kDecide, id));
    EXPECT_EQ(market.phase(id), Phase::kRefused);
    EXPECT_EQ(market.state().balance(market.lab.account()), balance);
    EXPECT_EQ(market.state().escrow_total(), 0);
    const auto& decision = *market.state().contract(id)->decision;
    EXPECT_FALSE(decision.allow);
    EXPECT_TRUE(decision.grants.empty());
    EXPECT_FALSE(decision.reasons.array()->empty());
    expect_no_key(id);
    return decision.status;
  }

  MarketFixture market;
};

}  // namespace souk::flows
