// What a receipt must not prove, put together by hand from entries that are all in
// the ledger.
#include <gtest/gtest.h>

#include "ledger/entry/leaf.h"
#include "ledger/proof/merkle.h"
#include "ledger/proof/tlog_proof.h"
#include "market_api/client/receipt.h"
#include "tests/support/market_fixture.h"

namespace souk::flows {
namespace {

namespace client = souk::market;

class ReceiptFlow : public ::testing::Test {
 protected:
  explicit ReceiptFlow(const char* policy = "return {allow = true}")
      : north(market.publish(market.providers[0], {.policy = policy})),
        id(market.escrowed({north.id})),
        trainer(market.started(id)),
        result(market.result_of(id, to_bytes("header"), to_bytes("payload"))) {
    result.delta_pico = market.state().contract(id)->submit.spec.privacy->delta_pico;
  }

  void next_entry_at(TimeMs time) { market.clock().advance(time - market.clock().now() - 1000); }
  uint64_t record_result() {
    return market.append(contracts::sign_record(result, trainer.signing, market.market()));
  }

  client::ReceiptReport verify(uint64_t result_seq) {
    const auto& state = market.state();
    const auto& contract = *state.contract(id);
    History history = market.history();
    std::vector<Digest> hashes;
    for (const auto& leaf : history.leaves) hashes.push_back(ledger::leaf_hash(leaf));
    auto proven = [&](uint64_t seq) {
      ledger::TlogProof proof;
      proof.index = seq;
      proof.path = ledger::inclusion_proof(hashes, seq);
      proof.checkpoint = history.checkpoint;
      return client::ProvenLeaf{history.leaves[seq], proof.text()};
    };
    client::Receipt receipt;
    receipt.market = market.market();
    receipt.genesis = proven(0);
    receipt.keeper_boots = {proven(state.keeper()->seq)};
    receipt.datasets = {proven(state.dataset(north.id)->seq)};
    receipt.contract = proven(contract.submit_seq);
    receipt.decision = proven(contract.decision_seq);
    receipt.start = proven(contract.start_seq);
    receipt.result = proven(result_seq);
    return client::verify_receipt(receipt, market.market());
  }

  MarketFixture market;
  Offered north;
  ContractId id;
  StandIn trainer;
  contracts::JobResult result;
};

TEST_F(ReceiptFlow, AnHonestOneHolds) {
  next_entry_at(market.state().contract(id)->deadline - 1);
  uint64_t seq = record_result();
  ASSERT_EQ(market.void_of(seq), "");
  auto report = verify(seq);
  EXPECT_TRUE(report.ok) << report.section << ": " << report.reason;
}

TEST_F(ReceiptFlow, AResultAfterTheRefundIsNone) {
  next_entry_at(market.state().contract(id)->deadline);
  uint64_t seq = record_result();
  ASSERT_EQ(market.void_of(seq), "not_running");
  auto report = verify(seq);
  EXPECT_FALSE(report.ok);
  EXPECT_EQ(report.section, "result");
}

class AuditedReceiptFlow : public ReceiptFlow {
 protected:
  AuditedReceiptFlow() : ReceiptFlow("return {allow = true, obligations = {audit = 'one-run'}}") {
    result.epsilon_micro = market.state().contract(id)->submit.spec.privacy->epsilon_micro;
  }
  client::ReceiptReport with(std::optional<contracts::JobAudit> audit) {
    result.audit = audit;
    uint64_t seq = record_result();
    EXPECT_EQ(market.void_of(seq), "");
    return verify(seq);
  }
};

TEST_F(AuditedReceiptFlow, WhatTheAuditProvesMayReachTheClaim) {
  contracts::JobAudit audit;
  audit.canaries = 64;
  audit.epsilon_lower_micro = result.epsilon_micro;
  auto report = with(audit);
  EXPECT_TRUE(report.ok) << report.section << ": " << report.reason;
}

TEST_F(AuditedReceiptFlow, WhatTheAuditProvesMayNotPassTheClaim) {
  contracts::JobAudit audit;
  audit.canaries = 64;
  audit.epsilon_lower_micro = result.epsilon_micro + 1;
  auto report = with(audit);
  EXPECT_FALSE(report.ok);
  EXPECT_EQ(report.section, "result");
}

TEST_F(AuditedReceiptFlow, NoFiguresAreNoAudit) {
  auto report = with({});
  EXPECT_FALSE(report.ok);
  EXPECT_EQ(report.section, "result");
}

}  // namespace
}  // namespace souk::flows
