// What the keeper believes: one ledger, its own sealed state, and money that the treasury made.
#include <cstring>

#include "ledger/crypto/hash.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "tests/flows/keeper_flow.h"

namespace souk::flows {
namespace {

// ---- other histories --------------------------------------------------------------

TEST_F(KeeperFlow, AnOlderLedgerIsRefusedAfterARestart) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 1000);
  ContractId id = market.submit(market.contract({dataset.id}));
  market.follow();
  History older = market.history();
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  market.started(id);

  for (uint64_t size = 1; size < market.history().size(); ++size) {
    auto keeper = market.new_keeper(market.keeper().sealed());
    auto answer = keeper->follow(market.prefix(size));
    EXPECT_EQ(refused(answer), Code::kUnauthentic) << size << " " << kind_and_body(answer);
    EXPECT_EQ(refused(keeper->about(Kind::kDecide, id)), Code::kConflict) << size;
    expect_no_key(*keeper, id, Code::kNotFound);
  }
  auto keeper = market.new_keeper(market.keeper().sealed());
  EXPECT_EQ(refused(keeper->follow(older)), Code::kUnauthentic);
  EXPECT_EQ(market.new_keeper(market.keeper().sealed())->follow(market.history()).kind,
            Kind::kConfirmed);
}

TEST_F(KeeperFlow, AForkSignedByTheLogKeyIsRefusedAfterARestart) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  market.started(id);
  auto envelopes = market.envelopes();
  // The same entries without the job.start, and longer ones than what was seen.
  envelopes.pop_back();
  for (int more = 0; more < 3; ++more) {
    contracts::Deposit deposit{market.lab.account(), 1};
    envelopes.push_back(
        envelope_bytes(contracts::sign_record(deposit, market.treasury.key, market.market())));
    History fork = market.rewrite(envelopes);
    EXPECT_EQ(market.fold(fork).contract(id)->phase,
              Phase::kEscrowed);  // a good ledger, to the eye
    auto keeper = market.new_keeper(market.keeper().sealed());
    EXPECT_EQ(refused(keeper->follow(fork)), Code::kUnauthentic) << more;
    expect_no_key(*keeper, id, Code::kNotFound);
  }
}

TEST_F(KeeperFlow, ARefusedForkStaysRefusedWhateverIsSaidNext) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  market.started(id);
  auto envelopes = market.envelopes();
  envelopes.pop_back();
  for (int more = 0; more < 3; ++more) {
    contracts::Deposit deposit{market.lab.account(), 1};
    envelopes.push_back(
        envelope_bytes(contracts::sign_record(deposit, market.treasury.key, market.market())));
  }
  History fork = market.rewrite(envelopes);
  const uint64_t seen = market.history().size();

  // In one frame, leaf by leaf, and with the refusal overheard.
  for (size_t step : {fork.leaves.size(), size_t{1}}) {
    auto keeper = market.new_keeper(market.keeper().sealed());
    for (size_t at = 0; at < fork.leaves.size(); at += step) {
      keeper->leaves(std::span(fork.leaves).subspan(at, std::min(step, fork.leaves.size() - at)));
    }
    EXPECT_TRUE(refused(keeper->confirm(fork.checkpoint)));
    keeper->leaves(std::span(fork.leaves).subspan(seen));
    EXPECT_TRUE(refused(keeper->confirm(fork.checkpoint)));
    expect_no_key(*keeper, id, Code::kNotFound);
    // It still takes the truth.
    EXPECT_EQ(keeper->follow(market.history()).kind, Kind::kConfirmed);
    EXPECT_EQ(refused(keeper->about(Kind::kChallenge, id)), Code::kRefused);
  }
}

TEST_F(KeeperFlow, ARunningKeeperFollowsNoFork) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  auto envelopes = market.envelopes();
  envelopes[1] = envelope_bytes(contracts::sign_record(contracts::Deposit{market.lab.account(), 9},
                                                       market.treasury.key, market.market()));
  contracts::Deposit deposit{market.lab.account(), 1};
  envelopes.push_back(
      envelope_bytes(contracts::sign_record(deposit, market.treasury.key, market.market())));
  History fork = market.rewrite(envelopes);
  auto answer = market.keeper().follow(fork);  // feeds what is new in it
  EXPECT_TRUE(refused(answer)) << kind_and_body(answer);
  EXPECT_TRUE(refused(market.keeper().confirm(fork.checkpoint)));
  market.deposit(market.lab.account(), 5);
  market.follow();
  market.started(id);
}

TEST_F(KeeperFlow, LeavesDroppedReorderedOrChangedAreRefused) {
  auto dataset = market.publish(market.providers[0]);
  market.escrowed({dataset.id});
  const History good = market.history();
  auto lie = [&](const char* name, auto change) {
    History history = good;
    change(history);
    auto keeper = market.new_keeper({});
    EXPECT_TRUE(refused(keeper->follow(history))) << name;
    EXPECT_TRUE(refused(keeper->confirm(good.checkpoint))) << name;
  };
  lie("dropped", [](History& h) { h.leaves.erase(h.leaves.begin() + 2); });
  lie("reordered", [](History& h) { std::swap(h.leaves[2], h.leaves[3]); });
  lie("repeated", [](History& h) { h.leaves.insert(h.leaves.begin() + 2, h.leaves[2]); });
  lie("cut short", [](History& h) { h.leaves.pop_back(); });
  lie("without genesis", [](History& h) { h.leaves.erase(h.leaves.begin()); });
  lie("one bit", [](History& h) { h.leaves[3][h.leaves[3].size() / 2] ^= 1; });
  lie("an older checkpoint",
      [&](History& h) { h.checkpoint = market.prefix(h.size() - 1).checkpoint; });
  lie("a checkpoint of nobody", [](History& h) {
    auto key = ledger::SigningKey::generate();
    auto note = ledger::NoteKey::of("market.example/test", key.public_key()).take();
    h.checkpoint = ledger::sign_checkpoint({"market.example/test", h.size(), Digest{}}, note, key);
  });
}

// ---- sealed state -----------------------------------------------------------------

TEST_F(KeeperFlow, SealedStateOpensOnlyHere) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  const Bytes sealed = market.keeper().sealed();
  auto genesis = market.history().leaves.front();
  auto evaluate = [](auto&&...) { return policy::PolicyDecision{}; };
  auto other_platform =
      market.another_self(ledger::SigningKey::generate(), market.self().measurement);
  auto other_program = market.another_self(market.platform(), ledger::sha256(as_bytes("patched")));
  for (const auto* self : {&other_platform, &other_program}) {
    KeeperHost keeper(*self, evaluate);
    EXPECT_EQ(refused(keeper.begin(genesis, sealed)), Code::kUnauthentic);
    EXPECT_EQ(refused(keeper.about(Kind::kRelease, id)), Code::kConflict);  // it has not begun
  }

  MarketFixture other;
  KeeperHost keeper(market.self(), evaluate);
  EXPECT_EQ(refused(keeper.begin(other.history().leaves.front(), sealed)), Code::kUnauthentic);

  for (size_t at = 0; at < sealed.size(); at += 7) {
    Bytes changed = sealed;
    changed[at] ^= 1;
    KeeperHost reader(market.self(), evaluate);
    // A changed length of a piece is no state at all.
    auto code = refused(reader.begin(genesis, changed));
    EXPECT_TRUE(code == Code::kUnauthentic || code == Code::kMalformed) << at;
  }
  for (size_t length : {size_t{1}, size_t{27}, size_t{28}, sealed.size() - 1}) {
    KeeperHost reader(market.self(), evaluate);
    EXPECT_TRUE(refused(reader.begin(genesis, ByteView(sealed).first(length)))) << length;
    EXPECT_EQ(reader.begin(genesis, sealed).kind, Kind::kReady)
        << length;  // a refusal changed nothing
  }
}

TEST_F(KeeperFlow, SealedStateSaysNothingToTheHost) {
  market.publish(market.providers[0]);
  std::string sealed = to_text(market.keeper().sealed());
  EXPECT_EQ(sealed.find("root"), std::string::npos);
  EXPECT_EQ(sealed.find("kem"), std::string::npos);
}

TEST_F(KeeperFlow, AKeeperThatLostItsStateOpensNoWrap) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  auto keeper = market.new_keeper({});
  ASSERT_EQ(keeper->follow(market.history()).kind, Kind::kConfirmed);
  auto body = trainer::expect(keeper->about(Kind::kChallenge, id), Kind::kNonce);
  ASSERT_TRUE(body);
  StandIn enclave = market.stand_in(id, *body->find("nonce")->string());
  auto answer = keeper->ask(
      Kind::kStart,
      Json::Object{{"contract", id}, {"evidence", contracts::to_json(enclave.evidence)}});
  EXPECT_EQ(refused(answer), Code::kUnauthentic) << kind_and_body(answer);
}

TEST_F(KeeperFlow, NothingIsAnsweredBeforeBeginAndBeginIsOnce) {
  auto evaluate = [](auto&&...) { return policy::PolicyDecision{}; };
  KeeperHost keeper(market.self(), evaluate);
  EXPECT_EQ(refused(keeper.ask(Kind::kBoot, Json::Object{})), Code::kConflict);
  EXPECT_EQ(refused(keeper.ask(Kind::kAttest, Json::Object{{"nonce", std::string(64, '0')}})),
            Code::kConflict);
  auto genesis = market.history().leaves.front();
  ASSERT_EQ(keeper.begin(genesis).kind, Kind::kReady);
  EXPECT_EQ(refused(keeper.begin(genesis)), Code::kConflict);
}

// ---- money ------------------------------------------------------------------------

TEST_F(KeeperFlow, TheHostCannotInventABalance) {
  auto dataset = market.publish(market.providers[0]);
  ledger::SigningKey host = ledger::SigningKey::generate();
  contracts::Deposit deposit{market.lab.account(), 1000};
  const std::vector<const ledger::SigningKey*> others = {
      &host, &market.lab.key, &market.providers[0].key, &market.platform()};
  for (const auto* key : others) {
    auto seq = market.append(contracts::sign_record(deposit, *key, market.market()));
    EXPECT_EQ(market.void_of(seq), "not_the_treasury");
  }
  ContractId id = market.submit(market.contract({dataset.id}));
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.state().contract(id)->ended_because, "unfunded");
  EXPECT_EQ(market.state().minted(), 0);
  expect_no_key(id);
}

TEST_F(KeeperFlow, ADepositInTheTreasurysNameIsNoEntry) {
  // Signed by the host, with the treasury written where the author belongs.
  ledger::SigningKey host = ledger::SigningKey::generate();
  contracts::Deposit deposit{market.lab.account(), 1000};
  auto real = contracts::sign_record(deposit, market.treasury.key, market.market());
  auto forged = ledger::sign_envelope(host, real.payload_type, real.payload);
  auto renamed = forged;
  renamed.signatures.front().key = market.treasury.account();
  auto enlarged = real;
  std::string text = to_text(enlarged.payload);
  auto at = text.find("\"minor\":1000");
  ASSERT_NE(at, std::string::npos);
  text.replace(at, 12, "\"minor\":9000");
  enlarged.payload = to_bytes(text);
  for (const auto& lie : {forged, renamed, enlarged}) {
    auto envelopes = market.envelopes();
    envelopes.push_back(envelope_bytes(lie));
    History history = market.rewrite(envelopes);
    auto keeper = market.new_keeper({});
    auto answer = keeper->follow(history);
    EXPECT_TRUE(refused(answer)) << kind_and_body(answer);
  }
}

TEST_F(KeeperFlow, ADepositReplayedByTheHostCountsOnce) {
  market.deposit(market.lab.account(), 70);
  auto envelopes = market.envelopes();
  envelopes.push_back(envelopes.back());
  History history = market.rewrite(envelopes);
  EXPECT_EQ(market.fold(history).balance(market.lab.account()), 70);
  // Under a new nonce it would need the treasury's signature: nobody else has it.
  MarketFixture other;
  contracts::Deposit deposit{market.lab.account(), 70};
  auto foreign = contracts::sign_record(deposit, market.treasury.key, other.market());
  EXPECT_FALSE(market.try_append(foreign));
}

}  // namespace
}  // namespace souk::flows
