// dataset.erase: a tombstone on the ledger, and a keeper that can no longer open what it
// names, whatever a host restores.
#include "ledger/crypto/hash.h"
#include "ledger/entry/leaf.h"
#include "tests/flows/keeper_flow.h"
#include "trainer/keeper/sealed_state.h"
#include "trainer/keeper/vault.h"
#include "trainer/session/sealing.h"
#include "trainer/wire/pieces.h"

namespace souk::flows {
namespace {

class ErasureFlow : public KeeperFlow {
 protected:
  void erase(const Offered& dataset, const Party& provider) {
    auto seq = market.append(
        contracts::sign_record(contracts::DatasetErase{dataset.id}, provider.key, market.market()));
    ASSERT_EQ(market.void_of(seq), "");
  }
  // What soukd does when the keeper asks for another boot.
  void boot_if_wanted() {
    market.follow();
    auto answer = market.keeper().confirm(market.history().checkpoint);
    auto body = trainer::expect(answer, Kind::kConfirmed);
    ASSERT_TRUE(body);
    if (*body->find("boot")->boolean()) {
      ASSERT_TRUE(market.record(Kind::kBoot, Json::Object{}));
    }
  }
};

TEST_F(ErasureFlow, OnlyItsProviderErasesADatasetAndOnlyOnce) {
  auto dataset = market.publish(market.providers[0]);
  auto sent = [&](const Party& who, const DatasetId& id) {
    return market.void_of(market.append(
        contracts::sign_record(contracts::DatasetErase{id}, who.key, market.market())));
  };
  EXPECT_EQ(sent(market.providers[1], dataset.id), "not_the_provider");
  EXPECT_EQ(sent(market.treasury, dataset.id), "not_the_provider");
  EXPECT_EQ(sent(market.providers[0], DatasetId{}), "unknown_dataset");
  EXPECT_EQ(sent(market.providers[0], dataset.id), "");
  EXPECT_EQ(sent(market.providers[0], dataset.id), "erased");
  const auto& state = *market.state().dataset(dataset.id);
  EXPECT_TRUE(state.erased);
  EXPECT_TRUE(state.revoked);
  EXPECT_TRUE(state.wrap.empty());
  // And nobody brings the same dataset again.
  auto again = market.append(
      contracts::sign_record(dataset.offer, market.providers[0].key, market.market()));
  EXPECT_EQ(market.void_of(again), "already_offered");
}

TEST_F(ErasureFlow, NoKeyLeavesAfterTheTombstoneThoughTheContractWasAllowed) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  auto nonce = market.challenge(id);
  erase(dataset, market.providers[0]);
  market.follow();
  EXPECT_EQ(market.phase(id), Phase::kRefunded);
  StandIn trainer = market.stand_in(id, nonce);
  EXPECT_EQ(refused(market.start_frame(id, trainer.evidence)), Code::kRefused);
  market.deposit(market.lab.account(), 1000);
  ContractId later = market.submit(market.contract({dataset.id}));
  ASSERT_TRUE(market.record(Kind::kDecide, later));
  EXPECT_EQ(market.phase(later), Phase::kRefused);
}

TEST_F(ErasureFlow, AnOldSealedStateDoesNotBringItBack) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  Bytes before = market.keeper().sealed();
  erase(dataset, market.providers[0]);
  boot_if_wanted();
  auto old = market.new_keeper(before);  // it still has the old keys
  ASSERT_EQ(old->follow(market.history()).kind, Kind::kConfirmed);
  EXPECT_EQ(refused(old->about(Kind::kChallenge, id)), Code::kRefused);
  StandIn trainer = market.stand_in(id, std::string(64, '0'));
  auto start =
      old->ask(Kind::kStart,
               Json::Object{{"contract", id}, {"evidence", contracts::to_json(trainer.evidence)}});
  EXPECT_EQ(refused(start), Code::kRefused);
}

// ---- a sealed state that is larger than any message -----------------------------------

class LargeStateFlow : public ErasureFlow {
 protected:
  // What the keeper sealed, with so much more in it that it takes a dozen pieces.
  Bytes enlarged(ByteView sealed) {
    auto key = trainer::sealing_key(market.self(), trainer::kKeeperSeal);
    std::string context = to_hex(market.market());
    auto plain = trainer::open_state(key, context, trainer::split_pieces(sealed).take()).take();
    auto json = parse_canonical(as_text(plain), 1 << 24).take();
    auto& headers = *(*(*json.object())["vault"].object())["headers"].object();
    std::string header = to_base64(Bytes(240, 0x61));
    for (uint32_t i = 0; i < 30'000; ++i) {
      auto name = ledger::sha256(as_bytes("contract " + std::to_string(i)));
      headers[to_hex(ByteView(name))] = header;
    }
    auto text = canonical(json);
    EXPECT_GT(text.size(), size_t{10} << 20);
    Bytes file;
    for (const auto& piece : trainer::seal_state(key, context, as_bytes(text))) {
      append(file, trainer::framed_piece(piece));
    }
    return file;
  }
};

TEST_F(LargeStateFlow, GoesThroughRestartsAndErasuresPieceByPiece) {
  auto kept = market.publish(market.providers[0]);
  auto doomed = market.publish(market.providers[1]);
  market.follow();
  Bytes large = enlarged(market.keeper().sealed());
  auto keeper = market.new_keeper(large);
  ASSERT_EQ(keeper->follow(market.history()).kind, Kind::kConfirmed);
  EXPECT_GT(keeper->sealed().size(), size_t{10} << 20);
  auto again = market.new_keeper(keeper->sealed());
  erase(doomed, market.providers[1]);
  ASSERT_EQ(again->follow(market.history()).kind, Kind::kConfirmed);
  EXPECT_GT(again->sealed().size(), size_t{10} << 20);
  auto boot = again->ask(Kind::kBoot, Json::Object{});
  ASSERT_EQ(boot.kind, Kind::kEnvelope);
  EXPECT_EQ(market.void_of(market.append(envelope_in(boot).take())), "");
  ASSERT_EQ(again->follow(market.history()).kind, Kind::kConfirmed);
  // Of another sealing no piece is taken, and none of its own is left out or elsewhere.
  auto pieces = trainer::split_pieces(again->sealed()).take();
  auto before = trainer::split_pieces(large).take();
  ASSERT_GT(pieces.size(), 10U);
  auto refuses = [&](const char* what, std::vector<Bytes> lie) {
    Bytes file;
    for (const auto& piece : lie) append(file, trainer::framed_piece(piece));
    auto other = market.try_keeper(file);
    EXPECT_TRUE(refused(other)) << what << kind_and_body(other);
  };
  auto lie = pieces;
  lie.pop_back();
  refuses("the last is missing", lie);
  lie = pieces;
  lie.erase(lie.begin() + 4);
  refuses("one is missing", lie);
  lie = pieces;
  std::swap(lie[2], lie[3]);
  refuses("two have changed places", lie);
  lie = pieces;
  lie[5] = before[5];
  refuses("one is an older one", lie);
  lie = pieces;
  lie.push_back(lie.back());
  refuses("one is there twice", lie);
  lie = pieces;
  lie[7].back() ^= 1;
  refuses("a bit of one", lie);
}

// An older ledger beside the newer sealed state is refused as every older ledger is.
TEST_F(ErasureFlow, AnOldLedgerDoesNotBringItBack) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  History before = market.history();
  erase(dataset, market.providers[0]);
  market.follow();
  auto keeper = market.new_keeper(market.keeper().sealed());
  EXPECT_EQ(refused(keeper->follow(before)), Code::kUnauthentic);
  expect_no_key(*keeper, id, Code::kNotFound);
}

TEST_F(ErasureFlow, EverythingElseGoesOnUnderTheNewKey) {
  auto erased = market.publish(market.providers[0]);
  auto kept = market.publish(market.providers[1]);
  ContractId settled = market.escrowed({kept.id});
  StandIn first = market.started(settled);
  Bytes header = to_bytes("header");
  market.append(contracts::sign_record(market.result_of(settled, header, to_bytes("payload")),
                                       first.signing, market.market()));
  ContractId running = market.escrowed({kept.id});
  StandIn second = market.started(running);
  auto late = market.result_of(running, to_bytes("late"), to_bytes("payload"));
  SealingKey old_kem = market.state().keeper()->kem;

  erase(erased, market.providers[0]);
  market.follow();
  boot_if_wanted();
  EXPECT_NE(market.state().keeper()->kem, old_kem);
  EXPECT_EQ(market.keeper().about(Kind::kRelease, settled).body, header);
  market.append(contracts::sign_record(late, second.signing, market.market()));
  market.follow();
  EXPECT_EQ(to_text(market.keeper().about(Kind::kRelease, running).body), "late");
  market.restart_keeper();
  EXPECT_EQ(market.keeper().about(Kind::kRelease, settled).body, header);
  EXPECT_EQ(to_text(market.keeper().about(Kind::kRelease, running).body), "late");
  market.started(market.escrowed({kept.id}));  // its key was kept
  auto fresh = market.publish(market.providers[2]);
  market.started(market.escrowed({fresh.id}));
}

TEST_F(ErasureFlow, AnOfferWrappedToAForgottenKeyIsVoid) {
  auto erased = market.publish(market.providers[0]);
  auto late = market.make_offer(market.providers[1]);
  erase(erased, market.providers[0]);
  market.follow();
  boot_if_wanted();
  auto seq =
      market.append(contracts::sign_record(late.offer, market.providers[1].key, market.market()));
  EXPECT_EQ(market.void_of(seq), "unknown_keeper_evidence");
}

// ---- salts: what binds the ledger to the rows says nothing about them ---------------------

bool holds(ByteView haystack, ByteView needle) {
  auto is_in = [&](const std::string& text) {
    return as_text(haystack).find(text) != std::string_view::npos;
  };
  return is_in(to_text(needle)) || is_in(to_hex(needle)) || is_in(to_base64(needle));
}

// SPEC of age: a line "--- MAC" ends the header, and the 16 bytes behind it salt the key of
// the payload. They lie in the blob and nowhere else, and are gone with it.
TEST_F(ErasureFlow, TheSaltOfTheRowsIsInTheBlobAlone) {
  auto doomed = market.publish(market.providers[0]);
  auto header_end = as_text(doomed.file).find("\n--- ");
  ASSERT_NE(header_end, std::string_view::npos);
  size_t payload = as_text(doomed.file).find('\n', header_end + 1) + 1;
  auto salt = ByteView(doomed.file).subspan(payload, 16);
  ASSERT_TRUE(holds(doomed.file, salt));
  erase(doomed, market.providers[0]);
  boot_if_wanted();
  for (const auto& bytes : market.history().leaves) {
    auto leaf = ledger::decode_leaf(bytes).take();
    auto entry = ledger::SignedEntry::decode(leaf.envelope).take();
    auto said = ledger::authenticate(std::move(entry)).take();
    EXPECT_FALSE(holds(said.payload(), salt)) << "entry " << leaf.seq;
  }
}

// Who knows the rows, or guesses them, finds nothing on the ledger to compare them with: the
// same rows under the same name, offered twice, have nothing in common but what is public.
TEST_F(ErasureFlow, TheSameRowsTwiceHaveNothingInCommonOnTheLedger) {
  auto first = market.make_offer(market.providers[0], {.rows_number = 7});
  auto second = market.make_offer(market.providers[0], {.rows_number = 7});
  EXPECT_NE(first.offer.manifest.ciphertext, second.offer.manifest.ciphertext);
  EXPECT_NE(first.offer.manifest.salt, second.offer.manifest.salt);
  EXPECT_NE(first.offer.wrap, second.offer.wrap);
  EXPECT_NE(first.id, second.id);
  second.offer.manifest.ciphertext = first.offer.manifest.ciphertext;
  second.offer.manifest.salt = first.offer.manifest.salt;
  EXPECT_EQ(contracts::dataset_id(first.offer.manifest),
            contracts::dataset_id(second.offer.manifest));
}

// ---- the vault itself: what is forgotten is nowhere in it ----------------------------

// Every KEM key that a vault's sealed form holds.
std::vector<ledger::KemKey> kems_in(const Json& vault) {
  std::vector<ledger::KemKey> out;
  auto add = [&](const Json* key) {
    if (key && key->string()) {
      out.push_back(ledger::KemKey::from_bytes(from_hex(*key->string()).take()).take());
    }
  };
  add(vault.find("kem"));
  add(vault.find("next"));
  for (const auto& old : *vault.find("retiring")->array()) add(old.find("kem"));
  return out;
}

TEST_F(ErasureFlow, TheVaultKeepsNothingThatOpensAnErasedWrap) {
  trainer::Vault vault;
  auto signing = ledger::SigningKey::generate();
  auto boot = [&](const SealingKey& kem) {
    StandIn keys;
    auto claims = market.trainer_claims(keys, ContractId{}, std::string(64, '0'));
    claims.role = "keeper";
    claims.contract = "";
    claims.signing = signing.public_key();
    claims.kem = kem;
    contracts::KeeperBoot record{kem, trainer::simulate_evidence(market.platform(), claims)};
    EXPECT_EQ(
        market.void_of(market.append(contracts::sign_record(record, signing, market.market()))),
        "");
  };
  boot(vault.kem());
  auto doomed = market.publish(market.providers[0]);
  auto kept = market.publish(market.providers[1]);
  auto info = [&](const Offered& offered, const Party& provider) {
    return contracts::dataset_wrap_info(market.market(), offered.id, provider.account(),
                                        contracts::policy_hash(offered.offer.manifest.policy),
                                        offered.offer.keeper_evidence);
  };
  auto opens = [&](const Offered& offered, const Party& provider) {
    for (const auto& kem : kems_in(vault.to_json(SecretAccess{}))) {
      if (ledger::hpke_open(kem, as_bytes(info(offered, provider)), {}, offered.offer.wrap)) {
        return true;
      }
    }
    return false;
  };
  vault.follow(market.state());
  EXPECT_FALSE(vault.wants_boot());
  EXPECT_TRUE(opens(doomed, market.providers[0]));

  erase(doomed, market.providers[0]);
  vault.follow(market.state());
  EXPECT_TRUE(vault.wants_boot());
  EXPECT_FALSE(vault.dataset_key(market.state(), *market.state().dataset(doomed.id)));
  auto restored = trainer::Vault::from_json(vault.to_json(SecretAccess{}));  // a restart between
  ASSERT_TRUE(restored);
  vault = std::move(*restored);
  boot(vault.boot_kem());
  vault.follow(market.state());
  EXPECT_FALSE(vault.wants_boot());
  EXPECT_FALSE(opens(doomed, market.providers[0]));
  auto text = canonical(vault.to_json(SecretAccess{}));
  auto file_key = doomed.file_key.bytes(SecretAccess{});
  EXPECT_EQ(text.find(to_hex(ByteView(file_key))), std::string::npos);
  EXPECT_FALSE(vault.dataset_key(market.state(), *market.state().dataset(doomed.id)));
  auto key = vault.dataset_key(market.state(), *market.state().dataset(kept.id));
  ASSERT_TRUE(key);
  EXPECT_EQ(to_hex(ByteView(key->bytes(SecretAccess{}))),
            to_hex(ByteView(kept.file_key.bytes(SecretAccess{}))));
}

TEST_F(ErasureFlow, TheOldKeyOutlivesItsDatasetsOnlyByTheJobsThatRan) {
  // The keeper of the market runs a job while something is erased: its sealed state then
  // holds the old key until the job ends, and the next confirmation drops it.
  auto doomed = market.publish(market.providers[0]);
  auto kept = market.publish(market.providers[1]);
  ContractId id = market.escrowed({kept.id});
  market.started(id);
  erase(doomed, market.providers[0]);
  market.follow();
  boot_if_wanted();
  size_t while_running = market.keeper().sealed().size();
  ASSERT_TRUE(
      market.record(Kind::kAbort, Json::Object{{"contract", id}, {"reason", "trainer_died"}}));
  EXPECT_LT(market.keeper().sealed().size(), while_running);
}

}  // namespace
}  // namespace souk::flows
