// Genesis, keeper, treasury, datasets, and what every entry must be.
#include "ledger/proof/tlog_proof.h"
#include "tests/contracts/lifecycle/apply_fixture.h"

namespace souk::contracts {
namespace {

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
  EXPECT_EQ(forged.voids(),
            (std::map<uint64_t, std::string>{{0, "not_the_ledger"}, {1, "no_genesis"}}));
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
  // Nobody holds the older keeper's KEM key any more.
  auto offer = world.offer("late", 1);
  offer.keeper_evidence = evidence_digest(evidence_for("keeper", "keeper"));
  EXPECT_EQ(world.record(offer, "hospital"), "unknown_keeper_evidence");
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
  ledger::Leaf leaf{hashes.size(), hashes.back(), world.now(),
                    to_bytes(canonical(to_json(envelope)))};
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

TEST_F(Apply, OnlyItsProviderErasesADatasetAndOnlyOnce) {
  EXPECT_EQ(world.record(DatasetErase{first}, "clinic"), "not_the_provider");
  EXPECT_EQ(world.record(DatasetErase{first}, "keeper"), "not_the_provider");
  EXPECT_EQ(world.record(DatasetErase{DatasetId(digest_named("x"))}, "clinic"), "unknown_dataset");
  EXPECT_EQ(world.record(DatasetErase{first}, "hospital"), "");
  EXPECT_EQ(world.record(DatasetErase{first}, "hospital"), "erased");
  EXPECT_EQ(world.record(DatasetRevoke{first}, "hospital"), "revoked");
  EXPECT_TRUE(world.state().dataset(first)->wrap.empty());
  EXPECT_EQ(decide(world.allow(contract)), "revoked");
}

TEST_F(Apply, ARevokedDatasetIsNotOpenedThoughItsContractWasAllowed) {
  escrow();
  auto start = world.start(contract);
  ASSERT_EQ(world.record(DatasetRevoke{second}, "clinic"), "");
  EXPECT_EQ(world.record(start, "keeper"), "not_escrowed");
  EXPECT_EQ(phase(), Phase::kRefunded);
  EXPECT_EQ(world.contract(contract).ended_because, "dataset_revoked");
  EXPECT_EQ(world.contract(contract).ended_by_dataset, second);
  EXPECT_EQ(world.balance("lab"), 1000);
  EXPECT_EQ(budget(first).reserved, Charges{});
}

TEST_F(Apply, AnErasedDatasetStopsItsRunAndNoResultSettlesAfterwards) {
  run();
  auto result = world.result(contract);
  ASSERT_EQ(world.record(DatasetErase{second}, "clinic"), "");
  EXPECT_EQ(phase(), Phase::kStopping);
  EXPECT_EQ(world.balance("lab"), 1000);
  EXPECT_EQ(world.record(result, "trainer"), "not_running");
  ASSERT_EQ(world.record(world.stop(contract, 1), "trainer"), "");
  EXPECT_EQ(phase(), Phase::kRefunded);
  EXPECT_EQ(world.contract(contract).ended_because, "dataset_erased");
  EXPECT_EQ(world.contract(contract).ended_by_dataset, second);
  EXPECT_EQ(budget(first).reserved, Charges{});
  EXPECT_NE(budget(first).committed, Charges{});
}

// One process after another goes on with a run, none from before where the last one went on; and
// what was begun in between is not given back.
TEST_F(Apply, ARunIsTakenUpByOneProcessAtATimeAndNeverFromFurtherBack) {
  run();
  auto resume = world.resume(contract, 3);
  EXPECT_EQ(world.record(resume, "keeper"), "not_the_trainer");
  auto wrong = resume;
  wrong.job_start[3] ^= 1;
  EXPECT_EQ(world.record(wrong, "trainer"), "wrong_start");
  wrong = resume;
  wrong.attempt = 2;
  EXPECT_EQ(world.record(wrong, "trainer"), "taken_up");
  wrong = resume;
  wrong.steps = world.contract(contract).submit.spec.steps + 1;
  EXPECT_EQ(world.record(wrong, "trainer"), "too_many_steps");
  EXPECT_FALSE(world.contract(contract).resume);
  ASSERT_EQ(world.record(resume, "trainer"), "");
  EXPECT_EQ(phase(), Phase::kRunning);
  EXPECT_EQ(world.contract(contract).resume, resume);
  EXPECT_EQ(world.record(resume, "trainer"), "taken_up");
  EXPECT_EQ(world.record(world.resume(contract, 2), "trainer"), "went_back");
  ASSERT_EQ(world.record(world.resume(contract, 3), "trainer"), "");
  EXPECT_EQ(world.contract(contract).resume->attempt, 2U);
  auto unbegun = world.stop(contract, 0);
  unbegun.missing = second;
  EXPECT_EQ(world.record(unbegun, "trainer"), "taken_up");
  auto reserved = budget(first).reserved;
  ASSERT_EQ(world.record(DatasetErase{second}, "clinic"), "");
  EXPECT_EQ(world.record(world.resume(contract, 3), "trainer"), "not_running");
  EXPECT_EQ(world.record(world.stop(contract, 3), "trainer"), "taken_up");
  ASSERT_EQ(world.record(JobAbort{contract, "trainer_died"}, "keeper"), "");
  EXPECT_EQ(budget(first).committed, reserved);
}

// A trainer that was not brought a ciphertext has begun no step: it can say that and no more.
TEST_F(Apply, ARunWithoutACiphertextCostsNothingIfItsTrainerSaysSo) {
  run();
  auto stop = world.stop(contract, 0);
  EXPECT_EQ(world.record(stop, "trainer"), "not_stopping");  // names none
  stop.missing = DatasetId(digest_named("another"));
  EXPECT_EQ(world.record(stop, "trainer"), "wrong_dataset");
  stop.missing = second;
  EXPECT_EQ(world.record(stop, "keeper"), "not_the_trainer");
  auto begun = stop;
  begun.steps = 1;
  EXPECT_EQ(world.record(begun, "trainer"), "too_many_steps");
  auto spent = stop;
  spent.spent[0].charges[3] = 1;
  EXPECT_EQ(world.record(spent, "trainer"), "over_reserved");
  EXPECT_EQ(phase(), Phase::kRunning);
  ASSERT_EQ(world.record(stop, "trainer"), "");
  EXPECT_EQ(phase(), Phase::kRefunded);
  EXPECT_EQ(world.contract(contract).ended_because, "ciphertext_missing");
  EXPECT_EQ(world.contract(contract).ended_by_dataset, second);
  EXPECT_EQ(world.balance("lab"), 1000);
  for (const auto& id : {first, second}) {
    EXPECT_EQ(budget(id).reserved, Charges{});
    EXPECT_EQ(budget(id).committed, Charges{});
    EXPECT_EQ(budget(id).runs, 0);
  }
  EXPECT_EQ(world.record(world.result(contract), "trainer"), "not_running");
}

TEST_F(Apply, AnAbortMayNameADatasetOfItsContract) {
  escrow();
  JobAbort abort{contract, "ciphertext_missing", DatasetId(digest_named("another"))};
  EXPECT_EQ(world.record(abort, "keeper"), "wrong_dataset");
  abort.dataset = first;
  ASSERT_EQ(world.record(abort, "keeper"), "");
  EXPECT_EQ(world.contract(contract).ended_by_dataset, first);
  EXPECT_EQ(budget(first).reserved, Charges{});
}

TEST_F(Apply, WhatWouldBeVoidIsKnownBeforeAndAsRecorded) {
  auto sent = [&](const Record& record, const char* author) {
    auto envelope = sign_record(record, key_named(author), world.market());
    auto text = canonical(ledger::to_json(envelope));
    auto entry = ledger::authenticate(ledger::SignedEntry::decode(as_bytes(text)).take()).take();
    auto before = world.state();
    auto foreseen = would_be_void(world.state(), entry, world.state().time());
    EXPECT_EQ(world.state(), before);
    EXPECT_EQ(foreseen.value_or(""), world.record(envelope));
    return foreseen.value_or("");
  };
  EXPECT_EQ(sent(Deposit{key_named("lab").public_key(), 5}, "lab"), "not_the_treasury");
  EXPECT_EQ(sent(Deposit{key_named("lab").public_key(), 5}, "treasury"), "");
  EXPECT_EQ(sent(DatasetRevoke{first}, "clinic"), "not_the_provider");
  EXPECT_EQ(sent(DatasetRevoke{first}, "hospital"), "");
  EXPECT_EQ(sent(DatasetRevoke{first}, "hospital"), "revoked");
}

TEST_F(Apply, ARevocationDuringARunStopsNothingThatWasReleased) {
  run();
  ASSERT_EQ(world.record(DatasetRevoke{second}, "clinic"), "");
  EXPECT_EQ(world.record(world.result(contract), "trainer"), "");
  EXPECT_EQ(phase(), Phase::kSettled);
}

}  // namespace
}  // namespace souk::contracts
