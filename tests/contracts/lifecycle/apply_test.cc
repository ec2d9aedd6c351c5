// Each record against its nearest lies.
#include <gtest/gtest.h>

#include "ledger/proof/tlog_proof.h"
#include "policy/privacy/budget.h"
#include "tests/contracts/market_world.h"

namespace souk::contracts {
namespace {

constexpr TimeMs kMinute = 60'000;

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

TEST_F(Apply, AWholeContractPaysEachProviderItsPriceAndCommitsTheCharges) {
  EXPECT_EQ(phase(), Phase::kSubmitted);
  escrow();
  EXPECT_EQ(phase(), Phase::kEscrowed);
  EXPECT_EQ(world.balance("lab"), 850);
  EXPECT_EQ(world.state().escrow_total(), 150);
  EXPECT_EQ(budget(first).reserved, (Charges{1, 10, 20, 30, 40, 50, 60, 70}));
  EXPECT_EQ(budget(first).epsilon_micro_reserved, 900'000);

  ASSERT_EQ(world.record(world.start(contract), "keeper"), "");
  EXPECT_EQ(phase(), Phase::kRunning);
  EXPECT_EQ(world.state().escrow_total(), 150);

  ASSERT_EQ(world.record(world.result(contract), "trainer"), "");
  EXPECT_EQ(phase(), Phase::kSettled);
  EXPECT_EQ(world.balance("hospital"), 100);
  EXPECT_EQ(world.balance("clinic"), 50);
  EXPECT_EQ(world.balance("lab"), 850);
  EXPECT_EQ(world.state().escrow_total(), 0);
  EXPECT_EQ(budget(first).reserved, Charges{});
  EXPECT_EQ(budget(first).committed, (Charges{1, 10, 20, 30, 40, 50, 60, 70}));
  EXPECT_EQ(budget(first).epsilon_micro_committed, 900'000);
  EXPECT_EQ(budget(first).epsilon_micro_reserved, 0);
  EXPECT_EQ(budget(first).runs, 1);
  EXPECT_TRUE(world.state().voids().empty());
}

TEST_F(Apply, OneProviderOfTwoDatasetsIsPaidBoth) {
  auto third = world.publish("hospital", "third", 7);
  contract = world.order("lab", {first, third}, 200);
  run();
  auto sums = payouts(world.state(), world.contract(contract));
  EXPECT_EQ(sums, (std::map<PublicKey, Minor>{{key_named("hospital").public_key(), 107}}));
  ASSERT_EQ(world.record(world.result(contract), "trainer"), "");
  EXPECT_EQ(world.balance("hospital"), 107);
}

TEST_F(Apply, FewerStepsThanTheSpecStillCommitTheWholeReservation) {
  run();
  auto result = world.result(contract);
  result.steps = 3;
  ASSERT_EQ(world.record(result, "trainer"), "");
  EXPECT_EQ(budget(first).committed, (Charges{1, 10, 20, 30, 40, 50, 60, 70}));
}

TEST_F(Apply, AContractWithoutPrivacyRunsWhereItIsWaivedAndChargesNothing) {
  auto open = world.submit({first}, 200);
  open.spec = sample_open_spec();
  auto envelope = sign_record(open, key_named("lab"), world.market());
  ASSERT_EQ(world.record(envelope), "");
  contract = contract_id(envelope.payload);

  auto unwaived = world.allow(contract);
  unwaived.grants[0].waived = false;
  EXPECT_EQ(decide(unwaived), "privacy_required");
  auto charged = world.allow(contract);
  charged.grants[0].charges[3] = 1;
  EXPECT_EQ(decide(charged), "charged_waiver");
  auto epsilon = world.allow(contract);
  epsilon.grants[0].epsilon_micro = 1;
  EXPECT_EQ(decide(epsilon), "charged_waiver");
  run();
  ASSERT_EQ(world.record(world.result(contract), "trainer"), "");
  EXPECT_EQ(budget(first).committed, Charges{});
  EXPECT_EQ(budget(first).runs, 1);
}

// --- genesis, keeper, treasury -------------------------------------------------

TEST_F(Apply, GenesisIsReadFromItsEntry) {
  ASSERT_TRUE(world.state().genesis());
  EXPECT_EQ(*world.state().genesis(), world.genesis());
  EXPECT_EQ(world.state().market(), world.market());
  EXPECT_EQ(world.state().size(), 6u);
}

// A ledger whose first entry is `envelope`, followed by one deposit.
MarketState ledger_of(const ledger::Envelope& envelope) {
  auto log = key_named("log");
  auto vkey = *ledger::NoteKey::of(World::kOrigin, log.public_key());
  auto reader = ledger::ChainReader::start(World::kOrigin, vkey);
  Deposit deposit{key_named("lab").public_key(), 5};
  auto second = sign_record(deposit, key_named("treasury"), market_id(envelope.payload));
  for (const auto& each : {envelope, second}) {
    ledger::Leaf leaf{reader.size(), reader.last_leaf(), 1000, to_bytes(canonical(to_json(each)))};
    CHECK(reader.add(ledger::encode_leaf(leaf)));
  }
  auto entries = reader.confirm(
      ledger::sign_checkpoint({World::kOrigin, reader.size(), reader.root()}, vkey, log));
  CHECK(entries);
  MarketState state(test_appraiser);
  for (const auto& entry : *entries) state = apply(std::move(state), entry);
  return state;
}

TEST_F(Apply, AGenesisThatTheNamedLedgerKeyDidNotSignMakesNoMarket) {
  auto good = ledger_of(sign_genesis(world.genesis(), key_named("log")));
  EXPECT_TRUE(good.voids().empty());
  EXPECT_EQ(good.minted(), 5);

  auto forged = ledger_of(sign_genesis(world.genesis(), key_named("mallory")));
  EXPECT_FALSE(forged.genesis());
  EXPECT_EQ(forged.voids(), (std::map<uint64_t, std::string>{{0, "not_the_ledger"}, {1, "no_genesis"}}));
  EXPECT_EQ(forged.minted(), 0);

  Genesis other_name = world.genesis();
  other_name.origin = "souk.test/other";
  EXPECT_EQ(ledger_of(sign_genesis(other_name, key_named("log"))).voids().at(0), "not_the_ledger");

  Genesis bad_key = world.genesis();
  bad_key.ledger_key = "souk.test/log+00000000+AAAA";
  EXPECT_EQ(ledger_of(sign_genesis(bad_key, key_named("log"))).voids().at(0), "not_the_ledger");

  auto body = payload_of(Tick{}, key_named("log").public_key(), "", fresh_nonce());
  auto tick = ledger::sign_envelope(key_named("log"), Tick::kType, body);
  EXPECT_EQ(ledger_of(tick).voids().at(0), "no_genesis");
}

TEST_F(Apply, ASecondGenesisIsVoid) {
  auto body = payload_of(world.genesis(), key_named("log").public_key(), to_hex(world.market()),
                         fresh_nonce());
  EXPECT_EQ(world.record(ledger::sign_envelope(key_named("log"), Genesis::kType, body)),
            "second_genesis");
}

TEST_F(Apply, AKeeperIsWhomItsEvidenceNames) {
  EXPECT_EQ(world.record(world.boot("keeper"), "mallory"), "wrong_keys");
  auto other_kem = world.boot("keeper");
  other_kem.kem = kem_named("mallory");
  EXPECT_EQ(world.record(other_kem, "keeper"), "wrong_keys");
  auto unbelievable = world.boot("mallory");
  unbelievable.evidence.proof.pop_back();
  EXPECT_EQ(world.record(unbelievable, "mallory"), "unappraised");
  KeeperBoot trainer{kem_named("mallory"), evidence_for("trainer", "mallory")};
  EXPECT_EQ(world.record(trainer, "mallory"), "unappraised");
  EXPECT_EQ(world.state().keeper()->key, key_named("keeper").public_key());
  EXPECT_EQ(world.state().keeper_evidence().size(), 1u);
}

TEST_F(Apply, OnlyTheNewestAppraisedKeeperActs) {
  ASSERT_EQ(world.record(world.boot("successor"), "successor"), "");
  EXPECT_EQ(world.record(Tick{}, "keeper"), "not_the_keeper");
  EXPECT_EQ(world.record(world.allow(contract), "keeper"), "not_the_keeper");
  EXPECT_EQ(world.record(world.allow(contract), "successor"), "");
  EXPECT_EQ(world.record(world.start(contract), "keeper"), "not_the_keeper");
  EXPECT_EQ(world.record(JobAbort{contract, "trainer_died"}, "keeper"), "not_the_keeper");
  EXPECT_EQ(world.record(world.start(contract), "successor"), "");
  // An older keeper's evidence still explains an older wrap.
  auto offer = world.offer("late", 1);
  offer.keeper_evidence = evidence_digest(evidence_for("keeper", "keeper"));
  EXPECT_EQ(world.record(offer, "hospital"), "");
}

TEST_F(Apply, OnlyTheTreasuryMakesMoneyAndNeverMoreThanCanBeCounted) {
  Deposit deposit{key_named("lab").public_key(), 5};
  EXPECT_EQ(world.record(deposit, "lab"), "not_the_treasury");
  EXPECT_EQ(world.record(deposit, "keeper"), "not_the_treasury");
  EXPECT_EQ(world.record(deposit, "log"), "not_the_treasury");
  deposit.minor = kMaxJsonInteger - 999;
  EXPECT_EQ(world.record(deposit, "treasury"), "overflow");
  deposit.minor = kMaxJsonInteger - 1000;
  EXPECT_EQ(world.record(deposit, "treasury"), "");
  EXPECT_EQ(world.state().minted(), kMaxJsonInteger);
  EXPECT_EQ(world.balance("lab"), kMaxJsonInteger);
  deposit.minor = 1;
  EXPECT_EQ(world.record(deposit, "treasury"), "overflow");
  deposit.minor = 0;
  EXPECT_EQ(world.record(deposit, "treasury"), "malformed");
  deposit.minor = -1;
  EXPECT_EQ(world.record(deposit, "treasury"), "malformed");
}

// --- what every entry must be ----------------------------------------------------

TEST_F(Apply, AReplayedNonceIsVoidEvenWithAnotherBodyOrAfterAVoid) {
  Deposit deposit{key_named("lab").public_key(), 5};
  std::string nonce(32, 'a');
  ASSERT_EQ(world.record(deposit, "treasury", nonce), "");
  EXPECT_EQ(world.record(deposit, "treasury", nonce), "replayed");
  deposit.minor = 6;
  EXPECT_EQ(world.record(deposit, "treasury", nonce), "replayed");
  EXPECT_EQ(world.state().minted(), 1005);

  std::string other(32, 'b');
  auto poor = world.submit({DatasetId(digest_named("nowhere"))}, 1);
  ASSERT_EQ(world.record(poor, "lab", other), "unknown_dataset");
  EXPECT_EQ(world.record(world.submit({first}, 1), "lab", other), "replayed");
  // The nonce is the author's own: another may have the same.
  EXPECT_EQ(world.record(world.submit({first}, 1), "rival", other), "");
}

TEST_F(Apply, AnEntryOfAnotherMarketIsVoid) {
  // A chain reader refuses it; an entry by its own proof gets as far as apply.
  auto log = key_named("log");
  auto vkey = *ledger::NoteKey::of(World::kOrigin, log.public_key());
  auto envelope = sign_record(Deposit{key_named("lab").public_key(), 5}, key_named("treasury"),
                              MarketId(digest_named("elsewhere")));
  std::vector<Digest> hashes;
  for (const auto& leaf : world.leaves()) hashes.push_back(ledger::leaf_hash(leaf));
  ledger::Leaf leaf{hashes.size(), hashes.back(), world.now(), to_bytes(canonical(to_json(envelope)))};
  Bytes bytes = ledger::encode_leaf(leaf);
  hashes.push_back(ledger::leaf_hash(bytes));
  auto note = ledger::sign_checkpoint({World::kOrigin, hashes.size(), ledger::tree_root(hashes)},
                                      vkey, log);
  ledger::TlogProof proof{std::nullopt, leaf.seq, ledger::inclusion_proof(hashes, leaf.seq), note};
  auto recorded = ledger::confirm_one(bytes, proof.text(), vkey, World::kOrigin);
  ASSERT_TRUE(recorded);
  auto state = apply(world.state(), *recorded);
  EXPECT_EQ(state.voids().at(leaf.seq), "other_market");
  EXPECT_EQ(state.minted(), 1000);
}

TEST_F(Apply, AnUnknownPayloadTypeOrMemberIsVoid) {
  auto key = key_named("keeper");
  auto body = payload_of(Tick{}, key.public_key(), to_hex(world.market()), fresh_nonce());
  EXPECT_EQ(world.record(ledger::sign_envelope(key, "application/vnd.souk.mint+json", body)),
            "malformed");
  auto json = *parse_canonical(as_text(body));
  (*json.object())["extra"] = 1;
  (*json.object())["nonce"] = fresh_nonce();
  EXPECT_EQ(world.record(ledger::sign_envelope(key, Tick::kType, to_bytes(canonical(json)))),
            "malformed");
}

// --- datasets ----------------------------------------------------------------------

TEST_F(Apply, AnOfferNamesEvidenceOfAKeeperAndIsMadeOnce) {
  EXPECT_EQ(world.record(world.offer("first", 100), "mallory"), "already_offered");
  auto unknown = world.offer("third", 1);
  unknown.keeper_evidence = digest_named("nobody");
  EXPECT_EQ(world.record(unknown, "hospital"), "unknown_keeper_evidence");
  auto negative = world.offer("third", -1);
  EXPECT_EQ(world.record(negative, "hospital"), "malformed");
  auto no_rows = world.offer("third", 1);
  no_rows.manifest.rows = 0;
  EXPECT_EQ(world.record(no_rows, "hospital"), "malformed");
  auto caps = world.offer("third", 1);
  caps.manifest.budget_caps[0] = -2;
  EXPECT_EQ(world.record(caps, "hospital"), "malformed");
  EXPECT_EQ(world.state().datasets().size(), 2u);
  EXPECT_EQ(world.state().dataset(first)->provider, key_named("hospital").public_key());
}

TEST_F(Apply, OnlyItsProviderRevokesADatasetAndOnlyOnce) {
  EXPECT_EQ(world.record(DatasetRevoke{first}, "clinic"), "not_the_provider");
  EXPECT_EQ(world.record(DatasetRevoke{first}, "keeper"), "not_the_provider");
  EXPECT_EQ(world.record(DatasetRevoke{DatasetId(digest_named("x"))}, "clinic"), "unknown_dataset");
  EXPECT_EQ(world.record(DatasetRevoke{first}, "hospital"), "");
  EXPECT_EQ(world.record(DatasetRevoke{first}, "hospital"), "revoked");
  EXPECT_EQ(decide(world.allow(contract)), "revoked");
}

TEST_F(Apply, ARevokedDatasetIsNotOpenedThoughItsContractWasAllowed) {
  escrow();
  ASSERT_EQ(world.record(DatasetRevoke{second}, "clinic"), "");
  EXPECT_EQ(world.record(world.start(contract), "keeper"), "revoked");
  ASSERT_EQ(world.record(JobAbort{contract, "revoked"}, "keeper"), "");
  EXPECT_EQ(world.balance("lab"), 1000);
  EXPECT_EQ(budget(first).reserved, Charges{});
}

TEST_F(Apply, ARevocationDuringARunStopsNothingThatWasReleased) {
  run();
  ASSERT_EQ(world.record(DatasetRevoke{second}, "clinic"), "");
  EXPECT_EQ(world.record(world.result(contract), "trainer"), "");
  EXPECT_EQ(phase(), Phase::kSettled);
}

// --- contract.submit ---------------------------------------------------------------

TEST_F(Apply, ASubmittedContractIsWhollyReadable) {
  auto submit = world.submit({first}, 1);
  submit.deadline_minutes = 0;
  EXPECT_EQ(world.record(submit, "lab"), "malformed");
  submit.deadline_minutes = kMaxDeadlineMinutes + 1;
  EXPECT_EQ(world.record(submit, "lab"), "malformed");
  submit.deadline_minutes = kMaxDeadlineMinutes;
  EXPECT_EQ(world.record(submit, "lab"), "");

  EXPECT_EQ(world.record(world.submit({}, 1), "lab"), "malformed");
  EXPECT_EQ(world.record(world.submit({first, first}, 1), "lab"), "malformed");
  EXPECT_EQ(world.record(world.submit({first, DatasetId(digest_named("x"))}, 1), "lab"),
            "unknown_dataset");
  EXPECT_EQ(world.record(world.submit({first}, -1), "lab"), "malformed");
  auto spec = world.submit({first}, 1);
  spec.spec.model[0].units = 3;  // three logits for two classes
  EXPECT_EQ(world.record(spec, "lab"), "malformed");
  auto recipient = world.submit({first}, 1);
  recipient.recipient[10] = 'b';  // not in bech32
  EXPECT_EQ(world.record(recipient, "lab"), "malformed");
}

TEST_F(Apply, SixteenDatasetsAreAContractAndSeventeenAreNot) {
  std::vector<DatasetId> many;
  for (int i = 0; i < 17; ++i) many.push_back(world.publish("hospital", "d" + std::to_string(i), 1));
  EXPECT_EQ(world.record(world.submit(many, 20), "lab"), "malformed");
  many.pop_back();
  contract = world.order("lab", many, 20);
  run();
  ASSERT_EQ(world.record(world.result(contract), "trainer"), "");
  EXPECT_EQ(world.balance("hospital"), 16);
}

TEST_F(Apply, ADeadlinePastTheEndOfTimeIsVoid) {
  world.pass(kMaxJsonInteger - world.now());
  EXPECT_EQ(world.record(world.submit({first}, 1), "lab"), "overflow");
}

// --- contract.decision ---------------------------------------------------------------

TEST_F(Apply, OnlyTheKeeperDecides) {
  for (const char* author : {"lab", "hospital", "treasury", "log", "trainer", "mallory"}) {
    EXPECT_EQ(world.record(world.allow(contract), author), "not_the_keeper") << author;
    EXPECT_EQ(world.record(world.deny(contract), author), "not_the_keeper") << author;
  }
  EXPECT_EQ(phase(), Phase::kSubmitted);
  EXPECT_EQ(decide(world.allow(ContractId(digest_named("x")))), "unknown_contract");
}

TEST_F(Apply, GrantsAreOnePerDatasetInTheContractsOrder) {
  auto missing = world.allow(contract);
  missing.grants.pop_back();
  missing.price = 100;
  EXPECT_EQ(decide(missing), "wrong_grants");
  auto swapped = world.allow(contract);
  std::swap(swapped.grants[0], swapped.grants[1]);
  EXPECT_EQ(decide(swapped), "wrong_grants");
  auto twice = world.allow(contract);
  twice.grants[1] = twice.grants[0];
  EXPECT_EQ(decide(twice), "wrong_grants");
  auto more = world.allow(contract);
  more.grants.push_back(more.grants[0]);
  EXPECT_EQ(decide(more), "wrong_grants");
  EXPECT_EQ(phase(), Phase::kSubmitted);
}

TEST_F(Apply, ThePriceIsTheSumOfTheGrantsWithinTheOfferAndTheBalance) {
  auto more = world.allow(contract);
  more.price += 1;
  EXPECT_EQ(decide(more), "wrong_price");
  auto less = world.allow(contract);
  less.price -= 1;
  EXPECT_EQ(decide(less), "wrong_price");
  auto dear = world.allow(contract);
  dear.grants[0].price = 151;
  dear.price = 201;
  EXPECT_EQ(decide(dear), "over_offer");
  auto negative = world.allow(contract);
  negative.grants[0].price = 200;
  negative.grants[1].price = -50;
  EXPECT_EQ(decide(negative), "malformed");
  auto huge = world.allow(contract);
  huge.grants[0].price = kMaxJsonInteger;
  huge.grants[1].price = kMaxJsonInteger;
  huge.price = kMaxJsonInteger;
  EXPECT_EQ(decide(huge), "overflow");

  contract = world.order("pauper", {first}, 200);
  world.fund("pauper", 99);
  EXPECT_EQ(decide(world.allow(contract)), "unfunded");
  world.fund("pauper", 1);
  EXPECT_EQ(decide(world.allow(contract)), "");
  EXPECT_EQ(world.balance("pauper"), 0);
}

TEST_F(Apply, TheExactOfferIsEnough) {
  contract = world.order("lab", {first, second}, 150);
  EXPECT_EQ(decide(world.allow(contract)), "");
  contract = world.order("lab", {first, second}, 149);
  EXPECT_EQ(decide(world.allow(contract)), "over_offer");
}

TEST_F(Apply, TheBudgetAdmitsWhatOneOrderBears) {
  auto at_cap = world.allow(contract);
  at_cap.grants[0].charges = {0, 51, 101, 201, 301, 301, 301, 300};  // the last order fits
  auto over = at_cap;
  over.grants[0].charges[7] = 301;
  EXPECT_EQ(decide(over), "budget_exhausted");  // order 0 is dead though its charge is 0
  at_cap.head_size = world.state().size();
  at_cap.head_root = world.state().root();
  EXPECT_EQ(decide(at_cap), "");

  // Reserved counts as spent: nothing more fits at the last order.
  auto next = world.order("lab", {first}, 200);
  auto one_more = world.allow(next);
  one_more.grants[0].charges = {0, 51, 101, 201, 301, 301, 301, 1};
  EXPECT_EQ(decide(one_more), "budget_exhausted");
  // A run that costs nothing at the order that is full still fits there.
  auto nothing = world.allow(next);
  nothing.grants[0].charges = {0, 51, 101, 201, 301, 301, 301, 0};
  EXPECT_EQ(decide(nothing), "");
}

TEST_F(Apply, ASaturatedOrderNeverAdmitsAgain) {
  auto ceiling = world.offer("rich", 0);
  ceiling.manifest.budget_caps.fill(-1);
  ceiling.manifest.budget_caps[0] = kMaxJsonInteger;
  ASSERT_EQ(world.record(ceiling, "hospital"), "");
  auto rich = dataset_id(ceiling.manifest);
  auto grand = world.order("lab", {rich}, 0);
  auto decision = world.allow(grand);
  decision.grants[0].charges.fill(kMaxJsonInteger);
  ASSERT_EQ(decide(decision), "");
  EXPECT_EQ(budget(rich).reserved[5], kMaxJsonInteger);

  auto next = world.order("lab", {rich}, 0);
  auto free_ride = world.allow(next);
  free_ride.grants[0].charges.fill(0);
  EXPECT_EQ(decide(free_ride), "budget_exhausted");
  // What was only reserved comes back whole.
  ASSERT_EQ(world.record(JobAbort{grand, "trainer_died"}, "keeper"), "");
  EXPECT_EQ(budget(rich).reserved, Charges{});
  EXPECT_EQ(decide(world.allow(next)), "");
}

TEST_F(Apply, PrivacyIsChargedWhereTheSpecHasItAndNotWaived) {
  auto waived = world.allow(contract);
  waived.grants[1].waived = true;
  EXPECT_EQ(decide(waived), "needless_waiver");
  auto negative = world.allow(contract);
  negative.grants[1].charges[2] = -1;
  EXPECT_EQ(decide(negative), "malformed");
}

TEST_F(Apply, ADecisionOnAnotherLedgerOrTooEarlyOrAheadIsVoid) {
  auto fork = world.allow(contract);
  fork.head_root = digest_named("fork");
  EXPECT_EQ(decide(fork), "wrong_head");
  auto ahead = world.allow(contract);
  ahead.head_size += 1;
  EXPECT_EQ(decide(ahead), "wrong_head");
  auto early = world.allow(contract);
  early.head_size = world.contract(contract).submit_seq;
  EXPECT_EQ(decide(early), "stale");
  auto nothing = world.allow(contract);
  nothing.head_size = 0;
  EXPECT_EQ(decide(nothing), "stale");
  EXPECT_EQ(decide(world.allow(contract)), "");
}

TEST_F(Apply, ADecisionIsStaleOnceAnythingItReadHasChanged) {
  auto other = world.order("lab", {first}, 200);
  auto rival = world.order("rival", {second}, 200);
  world.fund("rival", 500);

  auto before = world.allow(contract);
  world.fund("lab", 1);
  EXPECT_EQ(decide(before), "stale");  // the balance

  before = world.allow(contract);
  ASSERT_EQ(decide(world.allow(rival)), "");
  EXPECT_EQ(decide(before), "stale");  // the budget of the second dataset

  before = world.deny(contract);
  ASSERT_EQ(world.record(world.boot("keeper"), "keeper"), "");
  EXPECT_EQ(decide(before), "stale");  // the keeper itself; a refusal too

  before = world.allow(contract);
  ASSERT_EQ(world.record(JobAbort{rival, "trainer_died"}, "keeper"), "");
  EXPECT_EQ(decide(before), "stale");  // a reservation freed

  before = world.allow(contract);
  ASSERT_EQ(world.record(DatasetRevoke{first}, "hospital"), "");
  EXPECT_EQ(decide(before), "stale");
  EXPECT_EQ(world.contract(other).phase, Phase::kSubmitted);
}

TEST_F(Apply, ADecisionStandsWhenOnlyOtherThingsHaveChanged) {
  auto before = world.allow(contract);
  world.fund("rival", 500);
  auto third = world.publish("hospital", "third", 10);
  auto unrelated = world.order("rival", {third}, 10);
  ASSERT_EQ(decide(world.allow(unrelated)), "");
  EXPECT_EQ(decide(before), "");
}

TEST_F(Apply, AReservationFreedByTheVeryEntryOfADecisionMakesItStale) {
  auto short_lived = world.submit({second}, 200);
  short_lived.deadline_minutes = 1;
  auto envelope = sign_record(short_lived, key_named("rival"), world.market());
  ASSERT_EQ(world.record(envelope), "");
  world.fund("rival", 500);
  ASSERT_EQ(decide(world.allow(contract_id(envelope.payload))), "");
  auto before = world.allow(contract);
  world.pass(kMinute);
  EXPECT_EQ(decide(before), "stale");
  EXPECT_EQ(decide(world.allow(contract)), "");
}

// --- job.start -----------------------------------------------------------------------

TEST_F(Apply, AStartRepeatsExactlyWhatWasAgreed) {
  escrow();
  auto lie = [&](auto&& change) {
    auto start = world.start(contract);
    change(start);
    return world.record(start, "keeper");
  };
  EXPECT_EQ(lie([](JobStart& s) { s.recipient = recipient_named('p'); }), "wrong_recipient");
  EXPECT_EQ(lie([](JobStart& s) { s.decision[0] ^= 1; }), "wrong_decision");
  EXPECT_EQ(lie([](JobStart& s) { s.spec[31] ^= 1; }), "wrong_spec");
  EXPECT_EQ(lie([](JobStart& s) { s.obligations = Json::Object{}; }), "wrong_obligations");
  EXPECT_EQ(lie([](JobStart& s) { s.obligations = Json::Object{{"max_steps", 11}}; }),
            "wrong_obligations");
  EXPECT_EQ(lie([](JobStart& s) { s.inputs.pop_back(); }), "wrong_inputs");
  EXPECT_EQ(lie([](JobStart& s) { std::swap(s.inputs[0], s.inputs[1]); }), "wrong_inputs");
  EXPECT_EQ(lie([](JobStart& s) { s.inputs[0].ciphertext[5] ^= 1; }), "wrong_inputs");
  EXPECT_EQ(lie([](JobStart& s) { s.inputs[1].size += 1; }), "wrong_inputs");
  EXPECT_EQ(lie([](JobStart& s) { s.inputs[1].rows -= 1; }), "wrong_inputs");
  EXPECT_EQ(lie([](JobStart& s) { s.wraps.pop_back(); }), "wrong_wraps");
  EXPECT_EQ(lie([](JobStart& s) { s.wraps.push_back(s.wraps[0]); }), "wrong_wraps");
  EXPECT_EQ(lie([](JobStart& s) { std::swap(s.wraps[0], s.wraps[1]); }), "wrong_wraps");
  EXPECT_EQ(lie([](JobStart& s) { s.wraps[0].dataset = DatasetId(digest_named("x")); }),
            "wrong_wraps");
  EXPECT_EQ(lie([](JobStart& s) { s.wraps[0].sealed.resize(48); }), "malformed");
  EXPECT_EQ(lie([](JobStart& s) { s.trainer.proof[0] ^= 1; }), "unappraised");
  EXPECT_EQ(lie([](JobStart& s) { s.trainer = evidence_for("keeper", "trainer"); }), "unappraised");
  EXPECT_EQ(lie([](JobStart& s) { s.trainer = evidence_for("trainer", "mallory"); }), "wrong_keys");
  EXPECT_EQ(lie([](JobStart& s) { s.receipt_key = key_named("mallory").public_key(); }),
            "wrong_keys");
  EXPECT_EQ(lie([](JobStart& s) { s.trainer_kem = kem_named("mallory"); }), "wrong_keys");
  EXPECT_EQ(lie([](JobStart& s) { s.contract = ContractId(digest_named("x")); }),
            "unknown_contract");
  EXPECT_EQ(world.record(world.start(contract), "trainer"), "not_the_keeper");
  EXPECT_EQ(phase(), Phase::kEscrowed);
  EXPECT_EQ(lie([](JobStart&) {}), "");
}

TEST_F(Apply, AJobIsStartedOnce) {
  run();
  auto first_start = world.contract(contract).start_hash;
  EXPECT_EQ(world.record(world.start(contract, "another"), "keeper"), "not_escrowed");
  EXPECT_EQ(world.contract(contract).start_hash, first_start);
}

// --- job.result, job.abort ---------------------------------------------------------------

TEST_F(Apply, AResultIsThatTrainersForThatStart) {
  run();
  auto lie = [&](auto&& change) {
    auto result = world.result(contract);
    change(result);
    return world.record(result, "trainer");
  };
  for (const char* author : {"keeper", "lab", "hospital", "mallory", "log"}) {
    EXPECT_EQ(world.record(world.result(contract), author), "not_the_trainer") << author;
  }
  EXPECT_EQ(lie([](JobResult& r) { r.job_start[0] ^= 1; }), "wrong_start");
  EXPECT_EQ(lie([](JobResult& r) { r.spec[0] ^= 1; }), "wrong_spec");
  EXPECT_EQ(lie([](JobResult& r) { r.trainer_evidence[0] ^= 1; }), "wrong_evidence");
  EXPECT_EQ(lie([](JobResult& r) { r.steps = 11; }), "too_many_steps");
  EXPECT_EQ(lie([](JobResult& r) { r.contract = ContractId(digest_named("x")); }),
            "unknown_contract");
  EXPECT_EQ(world.state().escrow_total(), 150);
  EXPECT_EQ(lie([](JobResult&) {}), "");
  EXPECT_EQ(lie([](JobResult&) {}), "not_running");
  EXPECT_EQ(world.balance("hospital"), 100);
}

TEST_F(Apply, AnAbortBeforeTheStartFreesMoneyAndBudget) {
  escrow();
  EXPECT_EQ(world.record(JobAbort{contract, "mine"}, "lab"), "not_the_keeper");
  ASSERT_EQ(world.record(JobAbort{contract, "no_trainer"}, "keeper"), "");
  EXPECT_EQ(phase(), Phase::kRefunded);
  EXPECT_EQ(world.contract(contract).ended_because, "no_trainer");
  EXPECT_EQ(world.balance("lab"), 1000);
  EXPECT_EQ(budget(first).reserved, Charges{});
  EXPECT_EQ(budget(first).committed, Charges{});
  EXPECT_EQ(budget(first).runs, 0);
}

TEST_F(Apply, AnAbortOfARunReturnsMoneyAndCommitsTheBudget) {
  run();
  ASSERT_EQ(world.record(JobAbort{contract, "trainer_died"}, "keeper"), "");
  EXPECT_EQ(phase(), Phase::kRefunded);
  EXPECT_EQ(world.balance("lab"), 1000);
  EXPECT_EQ(world.balance("hospital"), 0);
  EXPECT_EQ(budget(first).reserved, Charges{});
  EXPECT_EQ(budget(first).committed, (Charges{1, 10, 20, 30, 40, 50, 60, 70}));
  EXPECT_EQ(world.record(world.result(contract), "trainer"), "not_running");
}

// --- deadlines ---------------------------------------------------------------------------

TEST_F(Apply, ADeadlineActsAtItsMillisecondAndThroughAnyEntryEvenAVoidOne) {
  world.pass(60 * kMinute - 1);
  EXPECT_EQ(world.record(Tick{}, "keeper"), "");
  EXPECT_EQ(phase(), Phase::kSubmitted);
  world.pass(1);
  EXPECT_EQ(world.record(Tick{}, "mallory"), "not_the_keeper");
  EXPECT_EQ(phase(), Phase::kExpired);
  EXPECT_EQ(world.contract(contract).ended_because, "deadline");
  EXPECT_EQ(decide(world.allow(contract)), "not_submitted");
}

TEST_F(Apply, ADecisionOrResultAtTheDeadlineComesTooLate) {
  world.pass(60 * kMinute);
  EXPECT_EQ(decide(world.allow(contract)), "not_submitted");
  EXPECT_EQ(phase(), Phase::kExpired);

  contract = world.order("lab", {first}, 200);
  run();
  world.pass(60 * kMinute);
  EXPECT_EQ(world.record(world.result(contract), "trainer"), "not_running");
  EXPECT_EQ(phase(), Phase::kRefunded);
  EXPECT_EQ(world.balance("lab"), 1000);
  EXPECT_EQ(budget(first).committed, (Charges{1, 10, 20, 30, 40, 50, 60, 70}));
}

TEST_F(Apply, ADeadlineBeforeTheStartFreesMoneyAndBudget) {
  escrow();
  world.pass(60 * kMinute);
  EXPECT_EQ(world.record(world.start(contract), "keeper"), "not_escrowed");
  EXPECT_EQ(phase(), Phase::kRefunded);
  EXPECT_EQ(world.balance("lab"), 1000);
  EXPECT_EQ(budget(first).reserved, Charges{});
  EXPECT_EQ(budget(first).committed, Charges{});
}

// --- obstacle ------------------------------------------------------------------------------

TEST_F(Apply, TheKeeperMayAskTheObstacleFirstAndIsAnsweredAsApplyWill) {
  EXPECT_FALSE(obstacle(world.state(), world.allow(contract)));
  auto decision = world.allow(contract);
  decision.contract = ContractId(digest_named("x"));
  EXPECT_EQ(obstacle(world.state(), decision)->code, "unknown_contract");
  decision = world.allow(contract);
  decision.grants[0].price = -1;  // never parsed, so asked here
  EXPECT_EQ(obstacle(world.state(), decision)->code, "overflow");
  decision = world.allow(contract);
  decision.grants[0].charges.fill(1000);
  auto found = obstacle(world.state(), decision);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->code, "budget_exhausted");
  EXPECT_EQ(found->dataset, to_hex(first));
  EXPECT_EQ(found->got, "300");
  EXPECT_EQ(found->need, "1000");
  contract = world.order("pauper", {first}, 200);
  found = obstacle(world.state(), world.allow(contract));
  EXPECT_EQ(found->code, "unfunded");
  EXPECT_EQ(found->got, "0");
  EXPECT_EQ(found->need, "100");
}

TEST_F(Apply, AdmissionAgreesWithTheBudgetOfPolicyPrivacy) {
  // Both over a grid of caps, spendings and charges at two orders, others dead.
  const int64_t values[] = {0, 1, 99, 100, 101, kMaxJsonInteger - 1, kMaxJsonInteger};
  int admitted = 0;
  for (int64_t cap : {int64_t{-1}, int64_t{0}, int64_t{100}, kMaxJsonInteger}) {
    auto offer = world.offer("grid " + std::to_string(cap), 0);
    offer.manifest.budget_caps.fill(-1);
    offer.manifest.budget_caps[3] = cap;
    ASSERT_EQ(world.record(offer, "hospital"), "");
    auto id = dataset_id(offer.manifest);
    for (int64_t first_charge : values) {
      for (int64_t second_charge : values) {
        // On copies: neither contract is ever recorded for real.
        World trial;
        ASSERT_EQ(trial.record(offer, "hospital"), "");
        Charges spent{}, charge{};
        spent[3] = first_charge;
        charge[3] = second_charge;
        auto one = trial.order("lab", {id}, 0);
        auto decision = trial.allow(one);
        decision.grants[0].charges = spent;
        bool fits = policy::admits(offer.manifest.budget_caps, Charges{}, spent);
        ASSERT_EQ(trial.record(decision, "keeper"), fits ? "" : "budget_exhausted");
        if (!fits) continue;
        auto two = trial.order("lab", {id}, 0);
        decision = trial.allow(two);
        decision.grants[0].charges = charge;
        fits = policy::admits(offer.manifest.budget_caps, spent, charge);
        admitted += fits;
        EXPECT_EQ(trial.record(decision, "keeper"), fits ? "" : "budget_exhausted")
            << cap << " " << first_charge << " " << second_charge;
      }
    }
  }
  EXPECT_GT(admitted, 5);
}

}  // namespace
}  // namespace souk::contracts
