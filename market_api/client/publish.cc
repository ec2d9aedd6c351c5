#include "market_api/client/publish.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "contracts/lifecycle/void_words.h"
#include "ledger/crypto/hash.h"
#include "ledger/crypto/hpke.h"
#include "ledger/crypto/kdf.h"
#include "ledger/crypto/random.h"
#include "market_api/client/local_files.h"
#include "policy/privacy/budget.h"

namespace souk::market {

namespace {

// What an offer becomes whose keeper has forgotten the key it is wrapped to: each erasure of
// anybody's dataset makes it take another.
constexpr const char* kForgottenKey = "unknown_keeper_evidence";
constexpr int kAttempts = 8;

// Of random length, so that two who are in each other's way do not stay there.
void pause_after(int attempt) {
  auto random = ledger::random_array<2>();
  int longest_ms = 50 << std::min(attempt, 5);
  int ms = 10 + (random[0] * 256 + random[1]) % longest_ms;
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

}  // namespace

Result<trainer::AppraisedEnclave> appraise_keeper(MarketLine& line, MarketView& view) {
  if (!view.state().keeper())
    return Error(Code::kTryAgain, "the market has no appraised keeper on its ledger yet");
  for (int attempt = 0;; ++attempt) {
    auto nonce = ledger::random_array<32>();
    std::string nonce_hex = to_hex(ByteView(nonce));
    auto evidence = TRY(line.keeper(nonce_hex));
    auto enclave =
        TRY(trainer::appraise(evidence, trainer::Expected{view.follower().genesis(), view.market(),
                                                          "keeper", nonce_hex}));
    auto recorded = [&] {
      const auto& keeper = view.state().keeper();
      return enclave.claims().signing == keeper->key && enclave.claims().kem == keeper->kem;
    };
    if (recorded()) return enclave;
    // It may have taken new keys since this view was brought up to date, and again since.
    Digest before = view.state().keeper()->evidence;
    TRY(view.sync(line));
    if (recorded()) return enclave;
    if (view.state().keeper()->evidence == before || attempt + 1 == kAttempts) {
      return Error(Code::kUnauthentic,
                   "evidence: expected the keys of the keeper that the ledger records");
    }
    pause_after(attempt);
  }
}

namespace {

// Says of two tables that they are the same, and to nobody without the provider's key anything
// about one.
std::string tag_of_rows(ByteView plain, const ledger::SigningKey& key) {
  auto seed = key.seed(SecretAccess{});
  auto secret = ledger::hkdf(seed.bytes(SecretAccess{}), {}, as_bytes("souk offered rows"), 32);
  return to_hex(ByteView(ledger::hmac_sha256(secret, ledger::sha256(plain))));
}

std::string offered_path(const Identity& identity, const std::string& tag) {
  return identity.directory() + "/offered/" + tag;
}

bool on_offer(const contracts::Dataset& dataset) {
  return !dataset.revoked && !dataset.erased;
}

std::optional<DatasetId> offered_as(const MarketView& view, const PublicKey& provider,
                                    const std::string& name) {
  for (const auto& [id, dataset] : view.state().datasets()) {
    if (dataset.provider == provider && dataset.manifest.name == name && on_offer(dataset))
      return id;
  }
  return std::nullopt;
}

std::optional<DatasetId> offered_before(const MarketView& view, const Identity& identity,
                                        const std::string& tag) {
  auto kept = load_file(offered_path(identity, tag), 65);
  if (!kept) return std::nullopt;
  auto id = named_from_hex<DatasetId>(as_text(*kept).substr(0, 64));
  const contracts::Dataset* dataset = id ? view.state().dataset(*id) : nullptr;
  return dataset && on_offer(*dataset) ? std::optional(*id) : std::nullopt;
}

// One dataset on its way to the ledger: what of it does not depend on the keeper's key.
class Offering {
 public:
  Offering(const contracts::Manifest& manifest, const trainer::FileKey& file_key,
           const Identity& identity, MarketLine& line, MarketView& view)
      : manifest_(manifest),
        file_key_(file_key),
        identity_(identity),
        line_(line),
        view_(view),
        id_(contracts::dataset_id(manifest)) {}

  // Wrapped to the keeper there is now, signed, and foreseen to have its effect.
  Result<ledger::Envelope> sign() {
    auto keeper = TRY(appraise_keeper(line_, view_));
    contracts::DatasetOffer record;
    record.manifest = manifest_;
    // The recorded boot: the keeper finds it on the ledger again after a restart.
    record.keeper_evidence = view_.state().keeper()->evidence;
    std::string info = contracts::dataset_wrap_info(view_.market(), id_, identity_.account(),
                                                    contracts::policy_hash(manifest_.policy),
                                                    record.keeper_evidence);
    record.wrap = TRY(ledger::hpke_seal(keeper.claims().kem, as_bytes(info), {},
                                        ByteView(file_key_.bytes(SecretAccess{}))));
    auto envelope = contracts::sign_record(record, identity_.key(), view_.market());
    std::string entry = canonical(ledger::to_json(envelope));
    auto signed_entry = ledger::SignedEntry::decode(as_bytes(entry));
    if (!signed_entry) return std::move(signed_entry).take_error().within("offer");
    auto read = contracts::members_from_json(contracts::DatasetOffer::kType,
                                             contracts::members_json(record));
    if (!read) return std::move(read).take_error().within("offer");
    TRY(view_.foresee(envelope));
    return envelope;
  }

  // The place of the offer on the ledger. The keeper may take another key between the wrap and the
  // entry: then it is wrapped anew, a bounded number of times.
  Result<uint64_t> record() {
    for (int attempt = 0;; ++attempt) {
      auto seq = record_once();
      bool forgotten = !seq && seq.error().expected().find(kForgottenKey) != std::string::npos;
      if (!forgotten) return seq;
      if (attempt + 1 == kAttempts) {
        return Error(Code::kTryAgain,
                     "the keeper took another key " + std::to_string(kAttempts) +
                         " times while this offer was on its way to the ledger, as it does when "
                         "datasets are erased; the dataset is not on offer");
      }
      pause_after(attempt);
    }
  }

 private:
  Result<uint64_t> record_once() {
    TRY(view_.sync(line_));
    if (const auto* offered = view_.state().dataset(id_))
      return offered->seq;  // its answer was lost
    auto envelope = TRY(sign());
    auto recorded = TRY(view_.record(line_, envelope));
    if (const auto* offered = view_.state().dataset(id_)) return offered->seq;
    auto why = view_.state().voids().find(recorded.seq);
    return Error(Code::kConflict,
                 "the offer was recorded without effect: " +
                     (why == view_.state().voids().end() ? "it is not on the ledger"
                                                         : contracts::words_of_void(why->second)));
  }

  const contracts::Manifest& manifest_;
  const trainer::FileKey& file_key_;
  const Identity& identity_;
  MarketLine& line_;
  MarketView& view_;
  const DatasetId id_;
};

}  // namespace

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
  manifest.policy_parameters = offer.policy_parameters;
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
  const std::string tag = tag_of_rows(plain, identity.key());
  auto same_name = offered_as(view, identity.account(), offer.name);
  auto same_rows = offered_before(view, identity, tag);
  Offering offering(manifest, file_key, identity, line, view);
  TRY(offering.sign());  // what would be refused is refused before anything leaves
  TRY(line.upload(manifest.ciphertext, file, progress));
  auto seq = TRY(offering.record());
  // Only a later warning is lost where it cannot be kept.
  auto kept = make_directory(identity.directory() + "/offered");
  if (kept)
    kept = save_file(offered_path(identity, tag), as_bytes(to_hex(id) + "\n"), FileMode::kPrivate);
  (void)kept;
  return Published{id, seq, manifest.ciphertext, manifest.rows, same_name, same_rows};
}

}  // namespace souk::market
