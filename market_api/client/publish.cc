#include "market_api/client/publish.h"

#include "ledger/crypto/hash.h"
#include "ledger/crypto/hpke.h"
#include "ledger/crypto/random.h"
#include "policy/privacy/budget.h"

namespace souk::market {

Result<trainer::AppraisedEnclave> appraise_keeper(MarketLine& line, MarketView& view) {
  if (!view.state().keeper())
    return Error(Code::kTryAgain, "the market has no appraised keeper on its ledger yet");
  auto nonce = ledger::random_array<32>();
  std::string nonce_hex = to_hex(ByteView(nonce));
  auto evidence = TRY(line.keeper(nonce_hex));
  auto enclave = TRY(trainer::appraise(
      evidence, trainer::Expected{view.follower().genesis(), view.market(), "keeper", nonce_hex}));
  auto recorded = [&] {
    const auto& keeper = view.state().keeper();
    return enclave.claims().signing == keeper->key && enclave.claims().kem == keeper->kem;
  };
  // It may have started anew, under new keys, since this view was brought up to date.
  if (!recorded()) TRY(view.sync(line));
  if (!recorded()) {
    return Error(Code::kUnauthentic,
                 "evidence: expected the keys of the keeper that the ledger records");
  }
  return enclave;
}

Result<Published> publish(const trainer::Dataset& dataset, const Offer& offer,
                          const Identity& identity, MarketLine& line, MarketView& view,
                          const Progress& progress) {
  auto plain = TRY(trainer::dataset_to_safetensors(dataset));
  auto file_key = trainer::FileKey::random();
  SealingKey own = identity.age().recipient();
  Bytes file = TRY(trainer::make_header(file_key, std::span(&own, 1)));
  append(file, trainer::encrypt_payload(file_key, plain));

  contracts::Manifest manifest;
  manifest.name = offer.name;
  manifest.provider_name = offer.provider_name;
  manifest.rows = static_cast<int64_t>(dataset.rows());
  for (uint64_t dimension : dataset.schema.feature_shape) {
    manifest.feature_shape.push_back(static_cast<uint32_t>(dimension));
  }
  manifest.feature_names = dataset.schema.feature_names;
  manifest.categories = offer.categories;
  manifest.class_names = dataset.schema.classes;
  manifest.label = dataset.schema.label_name;
  manifest.ciphertext = ledger::sha256(file);
  manifest.size = static_cast<int64_t>(file.size());
  manifest.policy = offer.policy;
  manifest.policy_engine = offer.policy_engine;
  manifest.user_cap = offer.user_cap;
  manifest.price = offer.price;
  manifest.budget_epsilon_micro = offer.budget_epsilon_micro;
  manifest.budget_delta_pico = offer.budget_delta_pico;
  manifest.budget_caps = policy::caps_for(offer.budget_epsilon_micro, offer.budget_delta_pico);
  auto salt = ledger::random_array<16>();
  manifest.salt = to_hex(ByteView(salt));
  DatasetId id = contracts::dataset_id(manifest);

  TRY(view.sync(line));
  auto keeper = TRY(appraise_keeper(line, view));
  contracts::DatasetOffer record;
  record.manifest = manifest;
  // The recorded boot: the keeper finds it on the ledger again after a restart.
  record.keeper_evidence = view.state().keeper()->evidence;
  std::string info =
      contracts::dataset_wrap_info(view.market(), id, identity.account(),
                                   contracts::policy_hash(manifest.policy), record.keeper_evidence);
  record.wrap = TRY(ledger::hpke_seal(keeper.claims().kem, as_bytes(info), {},
                                      ByteView(file_key.bytes(SecretAccess{}))));

  // What the ledger would refuse is refused before anything leaves.
  auto envelope = contracts::sign_record(record, identity.key(), view.market());
  std::string entry = canonical(ledger::to_json(envelope));
  auto signed_entry = ledger::SignedEntry::decode(as_bytes(entry));
  if (!signed_entry) return std::move(signed_entry).take_error().within("offer");
  auto read =
      contracts::members_from_json(contracts::DatasetOffer::kType, contracts::members_json(record));
  if (!read) return std::move(read).take_error().within("offer");
  TRY(view.foresee(envelope));
  TRY(line.upload(manifest.ciphertext, file, progress));
  auto recorded = TRY(line.record(envelope));
  TRY(view.sync(line));
  const contracts::Dataset* offered = view.state().dataset(id);
  if (!offered) {
    auto why = view.state().voids().find(recorded.seq);
    return Error(Code::kConflict,
                 "the offer was recorded without effect: " +
                     (why == view.state().voids().end() ? "it is not on the ledger" : why->second));
  }
  return Published{id, offered->seq, manifest.ciphertext, manifest.rows};
}

}  // namespace souk::market
