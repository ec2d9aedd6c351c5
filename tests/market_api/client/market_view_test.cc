// A ledger that was seen once cannot be exchanged for another one.
#include "market_api/client/market_view.h"

#include <gtest/gtest.h>

#include "market_api/client/audit.h"
#include "market_api/client/local_files.h"
#include "tests/market_api/client/ledger_server.h"

namespace souk::market {
namespace {

using flows::History;
using flows::MarketFixture;
using flows::TempFolder;

class MarketViewTest : public ::testing::Test {
 protected:
  MarketView open() {
    auto view = MarketView::open(market.market(), folder.file("ledger"));
    EXPECT_TRUE(view) << view.error().expected();
    return std::move(view).take();
  }
  bool has_evidence() const {
    for (const auto& name : list_directory(folder.file("ledger"))) {
      if (name.rfind("evidence-", 0) == 0) return true;
    }
    return false;
  }

  MarketFixture market;
  TempFolder folder;
};

TEST_F(MarketViewTest, ReadsTheWholeLedgerAndGoesOnWhereItStopped) {
  LedgerServer server(market.history());
  auto line = server.line();
  auto view = open();
  ASSERT_TRUE(view.sync(line));
  EXPECT_EQ(view.leaves(), market.history().leaves);
  EXPECT_EQ(view.state().balance(market.lab.account()), 0);

  market.deposit(market.lab.account(), 70);
  server.show(market.history());
  auto again = open();
  EXPECT_EQ(again.leaves().size() + 1, market.history().size());
  ASSERT_TRUE(again.sync(line));
  EXPECT_EQ(again.state().balance(market.lab.account()), 70);
  // The first view learns what the second has written.
  ASSERT_TRUE(view.sync(line));
  EXPECT_EQ(view.state().balance(market.lab.account()), 70);
  EXPECT_EQ(open().checkpoint(), market.history().checkpoint);
}

TEST_F(MarketViewTest, NoticesALedgerThatWasRolledBack) {
  market.deposit(market.lab.account(), 70);
  LedgerServer server(market.history());
  auto line = server.line();
  auto view = open();
  ASSERT_TRUE(view.sync(line));
  server.show(market.prefix(market.history().size() - 1));
  auto synced = view.sync(line);
  ASSERT_FALSE(synced);
  EXPECT_EQ(synced.error().code(), Code::kUnauthentic);
  EXPECT_NE(synced.error().expected().find("rolled back or forked"), std::string::npos);
  EXPECT_TRUE(has_evidence());
  EXPECT_EQ(view.leaves().size(), market.history().size());  // unchanged
  auto fresh = open().sync(line);
  EXPECT_FALSE(fresh) << "another process must remember";
}

TEST_F(MarketViewTest, NoticesALedgerThatWasForkedAtTheSameSize) {
  market.deposit(market.lab.account(), 70);
  LedgerServer server(market.history());
  auto line = server.line();
  auto view = open();
  ASSERT_TRUE(view.sync(line));
  auto envelopes = market.envelopes();
  auto other = contracts::sign_record(contracts::Deposit{market.lab.account(), 71},
                                      market.treasury.key, market.market());
  envelopes.back() = flows::envelope_bytes(other);
  server.show(market.rewrite(envelopes));
  auto synced = view.sync(line);
  ASSERT_FALSE(synced);
  EXPECT_NE(synced.error().expected().find("rolled back or forked"), std::string::npos);
  EXPECT_TRUE(has_evidence());
  EXPECT_EQ(view.state().balance(market.lab.account()), 70);
}

TEST_F(MarketViewTest, NoticesALedgerThatWasForkedAndGrewOn) {
  market.deposit(market.lab.account(), 70);
  LedgerServer server(market.history());
  auto line = server.line();
  auto view = open();
  ASSERT_TRUE(view.sync(line));
  auto envelopes = market.envelopes();
  for (contracts::Minor minor : {71, 72}) {
    auto other = contracts::sign_record(contracts::Deposit{market.lab.account(), minor},
                                        market.treasury.key, market.market());
    if (minor == 71) envelopes.pop_back();
    envelopes.push_back(flows::envelope_bytes(other));
  }
  server.show(market.rewrite(envelopes));
  auto synced = view.sync(line);
  ASSERT_FALSE(synced);
  EXPECT_NE(synced.error().expected().find("rolled back or forked"), std::string::npos);
  EXPECT_TRUE(has_evidence());
}

TEST_F(MarketViewTest, BelievesNoOtherMarketAndNoOtherKey) {
  MarketFixture stranger;
  LedgerServer server(stranger.history());
  auto line = server.line();
  auto view = open();
  auto synced = view.sync(line);
  ASSERT_FALSE(synced);
  EXPECT_EQ(synced.error().code(), Code::kUnauthentic);
  EXPECT_TRUE(view.empty());

  History mixed = market.history();
  mixed.checkpoint = stranger.history().checkpoint;
  server.show(mixed);
  synced = view.sync(line);
  ASSERT_FALSE(synced);
  EXPECT_EQ(synced.error().code(), Code::kUnauthentic);
  EXPECT_TRUE(view.empty());
  server.show(market.history());
  EXPECT_TRUE(view.sync(line));
}

TEST_F(MarketViewTest, RefusesEveryChangedLeaf) {
  market.deposit(market.lab.account(), 70);
  const History honest = market.history();
  LedgerServer server(honest);
  auto line = server.line();
  for (size_t seq = 0; seq < honest.size(); ++seq) {
    History lie = honest;
    lie.leaves[seq][lie.leaves[seq].size() / 2] ^= 1;
    server.show(lie);
    auto view = MarketView::open(market.market(), "");
    ASSERT_TRUE(view);
    EXPECT_FALSE(view->sync(line)) << seq;
  }
  History dropped = honest;
  dropped.leaves.erase(dropped.leaves.begin() + 1);
  server.show(dropped);
  EXPECT_FALSE(MarketView::open(market.market(), "").take().sync(line));
  History swapped = honest;
  std::swap(swapped.leaves[1], swapped.leaves[2]);
  server.show(swapped);
  EXPECT_FALSE(MarketView::open(market.market(), "").take().sync(line));
}

TEST_F(MarketViewTest, ADamagedCopyIsAnErrorAndATornOneIsNot) {
  LedgerServer server(market.history());
  auto line = server.line();
  ASSERT_TRUE(open().sync(line));
  std::string path = folder.file("ledger") + "/leaves";
  auto good = load_file(path, 1 << 20);
  ASSERT_TRUE(good);

  // A crash after the leaves and before the checkpoint leaves more than the checkpoint names.
  Bytes torn = *good;
  torn.insert(torn.end(), {0, 0, 1, 0, 'x'});
  ASSERT_TRUE(save_file(path, torn, FileMode::kPrivate));
  market.deposit(market.lab.account(), 70);
  server.show(market.history());
  auto view = open();
  ASSERT_TRUE(view.sync(line));
  EXPECT_EQ(open().state().balance(market.lab.account()), 70);

  auto bytes = load_file(path, 1 << 20);
  ASSERT_TRUE(bytes);
  (*bytes)[bytes->size() / 2] ^= 1;
  ASSERT_TRUE(save_file(path, *bytes, FileMode::kPrivate));
  auto damaged = MarketView::open(market.market(), folder.file("ledger"));
  ASSERT_FALSE(damaged);
  EXPECT_EQ(damaged.error().code(), Code::kUnauthentic);
}

TEST_F(MarketViewTest, AnAuditNamesTheFirstBadEntry) {
  market.deposit(market.lab.account(), 70);
  const History honest = market.history();
  LedgerServer server(honest);
  auto line = server.line();
  auto audit = audit_served_ledger(line, {market.market(), honest.checkpoint});
  ASSERT_TRUE(audit);
  EXPECT_TRUE(audit->ok) << audit->reason;
  EXPECT_EQ(audit->entries, honest.size());
  EXPECT_EQ(audit->without_effect, 0u);

  History lie = honest;
  lie.leaves[2][lie.leaves[2].size() / 2] ^= 1;
  server.show(lie);
  audit = audit_served_ledger(line, {market.market(), ""});
  ASSERT_TRUE(audit);
  EXPECT_FALSE(audit->ok);
  EXPECT_EQ(audit->first_bad, 2u);

  server.show(market.prefix(2));
  audit = audit_served_ledger(line, {market.market(), honest.checkpoint});
  ASSERT_TRUE(audit);
  EXPECT_FALSE(audit->ok);
  EXPECT_NE(audit->reason.find("rolled back"), std::string::npos);

  server.show(honest);
  audit = audit_served_ledger(line, {MarketId(Digest{}), ""});
  ASSERT_TRUE(audit);
  EXPECT_FALSE(audit->ok);
  EXPECT_EQ(audit->first_bad, 0u);
  audit = audit_served_ledger(line, {});
  ASSERT_TRUE(audit);
  EXPECT_TRUE(audit->ok);
  EXPECT_TRUE(audit->market_from_ledger);
}

}  // namespace
}  // namespace souk::market
