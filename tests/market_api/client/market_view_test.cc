// A ledger that was seen once cannot be exchanged for another one.
#include "market_api/client/market_view.h"

#include <gtest/gtest.h>

#include "ledger/proof/cosignature.h"
#include "ledger/proof/quorum.h"
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

// Two identities of one home: what the one has seen holds for the other, who is shown another
// ledger, or less of it, for the first time.
TEST_F(MarketViewTest, NoticesALedgerThatAnotherCopyHasSeenOtherwise) {
  market.deposit(market.lab.account(), 70);
  LedgerServer server(market.history());
  auto line = server.line();
  auto first = open();
  ASSERT_TRUE(first.sync(line));
  const std::string seen = first.checkpoint();
  auto another = [&](const std::string& name) {
    auto view = MarketView::open(market.market(), folder.file(name)).take();
    EXPECT_TRUE(view.sync(line));
    return view;
  };
  EXPECT_TRUE(another("same").agrees_with(line, seen));
  server.show(market.prefix(market.history().size() - 1));
  auto shorter = another("shorter");
  auto agrees = shorter.agrees_with(line, seen);
  ASSERT_FALSE(agrees);
  EXPECT_EQ(agrees.error().code(), Code::kUnauthentic);
  EXPECT_NE(agrees.error().expected().find("evidence-1"), std::string::npos);
  // What is there already is named again, and not written again.
  for (int i = 0; i < 3; ++i) {
    auto again = shorter.agrees_with(line, seen);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().expected(), agrees.error().expected());
  }
  auto envelopes = market.envelopes();
  envelopes.back() = flows::envelope_bytes(contracts::sign_record(
      contracts::Deposit{market.lab.account(), 71}, market.treasury.key, market.market()));
  server.show(market.rewrite(envelopes));
  auto forked = another("forked");
  agrees = forked.agrees_with(line, seen);
  ASSERT_FALSE(agrees);
  EXPECT_NE(agrees.error().expected().find("another root"), std::string::npos);
  // A longer one that holds all of it agrees, and what no log signed says nothing.
  server.show(market.history());
  market.deposit(market.lab.account(), 5);
  EXPECT_TRUE(shorter.agrees_with(line, seen)) << "it has read on";
  EXPECT_TRUE(forked.agrees_with(line, "no note"));
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
    auto view = MarketView::open(market.market(), {});
    ASSERT_TRUE(view);
    EXPECT_FALSE(view->sync(line)) << seq;
  }
  History dropped = honest;
  dropped.leaves.erase(dropped.leaves.begin() + 1);
  server.show(dropped);
  EXPECT_FALSE(MarketView::open(market.market(), {}).take().sync(line));
  History swapped = honest;
  std::swap(swapped.leaves[1], swapped.leaves[2]);
  server.show(swapped);
  EXPECT_FALSE(MarketView::open(market.market(), {}).take().sync(line));
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
  auto audit = audit_served_ledger(line, {market.market(), {{honest.checkpoint, ""}}});
  ASSERT_TRUE(audit);
  EXPECT_TRUE(audit->ok) << audit->reason;
  EXPECT_EQ(audit->entries, honest.size());
  EXPECT_EQ(audit->without_effect, 0u);

  History lie = honest;
  lie.leaves[2][lie.leaves[2].size() / 2] ^= 1;
  server.show(lie);
  audit = audit_served_ledger(line, {market.market(), {}});
  ASSERT_TRUE(audit);
  EXPECT_FALSE(audit->ok);
  EXPECT_EQ(audit->first_bad, 2u);

  server.show(market.prefix(2));
  audit = audit_served_ledger(line, {market.market(), {{honest.checkpoint, ""}}});
  ASSERT_TRUE(audit);
  EXPECT_FALSE(audit->ok);
  EXPECT_NE(audit->reason.find("rolled back"), std::string::npos);

  server.show(honest);
  audit = audit_served_ledger(line, {MarketId(Digest{}), {}});
  ASSERT_TRUE(audit);
  EXPECT_FALSE(audit->ok);
  EXPECT_EQ(audit->first_bad, 0u);
  audit = audit_served_ledger(line, {});
  ASSERT_TRUE(audit);
  EXPECT_TRUE(audit->ok);
  EXPECT_TRUE(audit->market_from_ledger);
}

// Two of three witnesses.
ledger::SigningKey witness_key(uint8_t number) {
  return ledger::SigningKey::from_seed(Bytes(32, static_cast<uint8_t>(number + 1))).take();
}
ledger::CosignerKey witness(uint8_t number) {
  return ledger::CosignerKey::of("w" + std::to_string(number), witness_key(number).public_key())
      .take();
}
ledger::WitnessQuorum two_of_three() {
  std::string text;
  for (uint8_t i = 0; i < 3; ++i)
    text += "witness W" + std::to_string(i) + " " + witness(i).vkey() + "\n";
  return ledger::WitnessQuorum::parse(text + "group G 2 W0 W1 W2\nquorum G\n").take();
}
History cosigned(History history, std::initializer_list<uint8_t> by) {
  auto note = ledger::parse_note(history.checkpoint).take();
  for (uint8_t i : by) {
    note.signatures.push_back(ledger::cosign(note.text, witness(i), witness_key(i), 1'700'000'000));
  }
  history.checkpoint = ledger::encode_note(note);
  return history;
}

TEST_F(MarketViewTest, WithAPinnedQuorumBelievesNothingThatItHasNotCosigned) {
  market.deposit(market.lab.account(), 70);
  auto open_pinned = [&] {
    return MarketView::open(market.market(), folder.file("pinned"), two_of_three()).take();
  };
  LedgerServer server(market.history());
  auto line = server.line();
  line.ask_witnessed();
  auto view = open_pinned();
  auto refused_now = [&] {
    auto synced = view.sync(line);
    return !synced && synced.error().code() == Code::kUnauthentic;
  };
  EXPECT_TRUE(refused_now()) << "the log's own word";
  server.show(cosigned(market.history(), {1}));
  EXPECT_TRUE(refused_now()) << "one witness of two";
  server.show(cosigned(market.history(), {1, 1}));
  EXPECT_TRUE(refused_now()) << "one witness twice";
  EXPECT_TRUE(view.empty());
  auto forged = market.history();
  auto note = ledger::parse_note(cosigned(market.history(), {0}).checkpoint).take();
  auto line_of_another = ledger::cosign(note.text, witness(1), witness_key(1), 1'700'000'000);
  line_of_another.name = witness(2).name();
  line_of_another.id = witness(2).id();
  note.signatures.push_back(line_of_another);
  forged.checkpoint = ledger::encode_note(note);
  server.show(forged);
  EXPECT_TRUE(refused_now());

  server.show(cosigned(market.history(), {0, 2}));
  ASSERT_TRUE(view.sync(line));
  EXPECT_EQ(view.state().balance(market.lab.account()), 70);
  auto seen = market.history();
  // What came later counts when it is witnessed, not before.
  market.deposit(market.lab.account(), 5);
  server.show(market.history());
  EXPECT_TRUE(refused_now());
  EXPECT_EQ(view.leaves(), seen.leaves);
  server.show(cosigned(market.history(), {1, 2}));
  ASSERT_TRUE(view.sync(line));
  EXPECT_EQ(open_pinned().state().balance(market.lab.account()), 75);
  // And a witnessed ledger that is shorter again is still a rollback.
  server.show(cosigned(seen, {0, 1, 2}));
  EXPECT_TRUE(refused_now());
}

TEST_F(MarketViewTest, AnAuditUnderAPinnedQuorumAsksForIt) {
  LedgerServer server(market.history());
  auto line = server.line();
  auto audit = audit_served_ledger(line, {market.market(), {}, two_of_three()});
  ASSERT_TRUE(audit);
  EXPECT_FALSE(audit->ok);
  server.show(cosigned(market.history(), {0, 1}));
  audit = audit_served_ledger(line, {market.market(), {}, two_of_three()});
  ASSERT_TRUE(audit);
  EXPECT_TRUE(audit->ok) << audit->reason;
}

}  // namespace
}  // namespace souk::market
