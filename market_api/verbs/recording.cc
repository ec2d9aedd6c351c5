// What participants record, and the blobs that go with it: which come and which go.
#include <algorithm>

#include "contracts/lifecycle/ancestry.h"
#include "contracts/lifecycle/void_words.h"
#include "ledger/crypto/hash.h"
#include "market_api/verbs/market.h"
#include "market_api/verbs/order.h"
#include "market_api/verbs/witnesses.h"
#include "trainer/data/age.h"
#include "trainer/weights/initial_weights.h"

namespace souk::market {
namespace {

bool from_participants(const contracts::Record& record) {
  return std::holds_alternative<contracts::Deposit>(record) ||
         std::holds_alternative<contracts::DatasetOffer>(record) ||
         std::holds_alternative<contracts::DatasetRevoke>(record) ||
         std::holds_alternative<contracts::DatasetErase>(record) ||
         std::holds_alternative<contracts::PolicyPublish>(record) ||
         std::holds_alternative<contracts::PolicyChange>(record) ||
         std::holds_alternative<contracts::ContractSubmit>(record);
}

}  // namespace

BlobKind Market::kind_of(const Digest& blob) const {
  auto size = blobs_->size(blob);
  if (!size) return BlobKind::kOther;
  auto start = blobs_->read(blob, 0, std::min<uint64_t>(*size, trainer::kMaxAgeHeaderBytes));
  return start && trainer::find_header_length(*start) ? BlobKind::kAgeFile : BlobKind::kOther;
}

// A stranger who names another's bytes could erase them, or keep them from being erased.
Status Market::check_ciphertext(const contracts::Manifest& manifest, const PublicKey& author) {
  {
    std::lock_guard lock(follow_mutex_);
    if (uses_->offered_by_another(follower_->state(), manifest.ciphertext, author)) {
      return Error(Code::kRefused,
                   "expected a ciphertext of your own: another provider's dataset names this one");
    }
  }
  auto size = blobs_->size(manifest.ciphertext);
  if (!size || *size != static_cast<uint64_t>(manifest.size))
    return Error(Code::kNotFound, "expected the ciphertext of this offer to be uploaded first");
  if (kind_of(manifest.ciphertext) == BlobKind::kAgeFile) return Done{};
  return Error(Code::kRefused, "expected an age file for the ciphertext of a dataset");
}

// A trainer would refuse them once the run is started, and the datasets' privacy budgets would be
// spent for nothing, at no price.
Status Market::check_weights(const contracts::TrainingSpec& spec) {
  if (!spec.initial || !contracts::check_spec(spec)) return Done{};  // or the keeper refuses it
  auto size = blobs_->size(*spec.initial);
  if (!size) {
    return Error(Code::kNotFound,
                 "expected the initial weights of this contract to be uploaded first");
  }
  if (*size > trainer::kMaxInitialBytes)
    return Error(Code::kMalformed, "initial weights: expected at most 256 MiB");
  auto turn = weights_turns_.take(Rank::kParticipant);
  if (!turn) {
    return Error(Code::kTryAgain,
                 "expected fewer contracts with initial weights at once; nothing was recorded, "
                 "send it again");
  }
  auto bytes = TRY(blobs_->read(*spec.initial, 0, *size));
  auto file = trainer::SafeTensors::read(bytes);
  if (!file) return std::move(file).take_error().within("initial weights");
  TRY(trainer::initial_weights(spec, *file));  // a blob has the digest that it is called by
  return Done{};
}

// Guarded by follow_mutex_, so that nothing comes to need it meanwhile.
void Market::erase_unneeded(const Digest& blob) {
  if (!blobs_->has(blob) || uses_->needed(follower_->state(), blob, kind_of(blob))) return;
  auto gone = blobs_->erase(blob);
  (void)gone;  // tried again at the next start
}

// The blob goes when the tombstone is on the disk. A crash between the two: the next start
// does it.
void Market::erase_dataset(const DatasetId& id) {
  std::lock_guard lock(follow_mutex_);
  const auto* dataset = follower_->state().dataset(id);
  if (dataset && dataset->erased) erase_unneeded(dataset->manifest.ciphertext);
}

void Market::erase_destroyed() {
  std::lock_guard lock(follow_mutex_);
  for (const auto& [id, contract] : follower_->state().contracts()) {
    if (!contract.destroyed || !contract.result || !models_erased_.insert(id).second) continue;
    erase_unneeded(contract.result->payload);
    // And what somebody who had it brought back as initial weights.
    if (const Digest* made = contracts::made_by(contract)) erase_unneeded(*made);
  }
}

void Market::erase_all() {
  erase_destroyed();
  std::lock_guard lock(follow_mutex_);
  for (const auto& [id, dataset] : follower_->state().datasets()) {
    if (dataset.erased) erase_unneeded(dataset.manifest.ciphertext);
  }
}

// Uploads that came to nothing: what neither a dataset nor a contract of the ledger names.
void Market::sweep_blobs() {
  blobs_->sweep(BlobUses::all_needed(state()));
}

// What anybody may send leaves room for what ends what is under way, and for what makes room.
Status Market::room_for(const contracts::Record& record) const {
  auto* change = std::get_if<contracts::PolicyChange>(&record);
  using Move = contracts::PolicyChange::Move;
  bool adds = std::holds_alternative<contracts::DatasetOffer>(record) ||
              std::holds_alternative<contracts::PolicyPublish>(record) ||
              std::holds_alternative<contracts::ContractSubmit>(record) ||
              (change && (change->move == Move::kActivate || change->move == Move::kDeprecate));
  if (!adds) return Done{};
  return blobs_->room(Writer::kEntry, kMaxRecordBytes);
}

// A policy that answers nobody is not offered: the keeper tries it, in its jail.
Status Market::try_policy(const contracts::Record& record) {
  Json::Object asked;
  if (auto* offer = std::get_if<contracts::DatasetOffer>(&record)) {
    asked = {{"parameters", offer->manifest.policy_parameters}, {"source", offer->manifest.policy}};
  } else if (auto* publish = std::get_if<contracts::PolicyPublish>(&record)) {
    asked = {{"parameters", publish->parameters}, {"source", publish->source}};
  } else {
    return Done{};
  }
  auto answer = TRY(keeper_->ask(trainer::frame(trainer::Kind::kTryPolicy, std::move(asked)),
                                 Rank::kParticipant));
  TRY(trainer::expect(answer, trainer::Kind::kDone));
  return Done{};
}

Result<ledger::Receipt> Market::record(ByteView envelope, Acknowledgement wanted) {
  if (wanted == Acknowledgement::kWitnessed && !witnesses_) {
    return Error(Code::kRefused, "this market has no witnesses: expected ack=local");
  }
  auto signed_entry = TRY(ledger::SignedEntry::decode(envelope));
  auto entry = TRY(ledger::authenticate(std::move(signed_entry)));
  auto record = TRY(contracts::record_of(entry));
  if (!from_participants(record)) {
    return Error(Code::kRefused,
                 "expected a deposit, an offer, a policy, a revocation or a contract");
  }
  if (auto* offer = std::get_if<contracts::DatasetOffer>(&record)) {
    TRY(check_ciphertext(offer->manifest, entry.author()));
  }
  if (auto* submit = std::get_if<contracts::ContractSubmit>(&record)) {
    if (submit->spec.initial && !blobs_->has(*submit->spec.initial))
      return Error(Code::kNotFound,
                   "expected the initial weights of this contract to be uploaded first");
  }
  // What is sent again has its place already, and its effect or none.
  auto without_effect = contracts::would_be_void(state(), entry, clock_.now());
  if (without_effect && *without_effect == "other_market") {
    return Error(Code::kRefused, "expected a record of this market, it names another");
  }
  auto in_vain = [](const std::string& why) {
    return Error(Code::kConflict, "nothing was recorded, it would be without effect: " +
                                      contracts::words_of_void(why));
  };
  if (without_effect && *without_effect != "replayed") return in_vain(*without_effect);
  if (!without_effect) TRY(room_for(record));
  if (auto* submit = std::get_if<contracts::ContractSubmit>(&record); submit && !without_effect) {
    TRY(room_to_wait(state(), entry.author(), *submit));
    TRY(check_weights(submit->spec));
  }
  TRY(try_policy(record));
  if (std::holds_alternative<contracts::DatasetOffer>(record) && !without_effect) {
    // The keeper may just have taken another key, and forgotten the one this is wrapped to.
    without_effect = contracts::would_be_void(state(), entry, clock_.now());
    if (without_effect && *without_effect != "replayed") return in_vain(*without_effect);
  }
  // No sweep takes what is named in a moment.
  if (auto* offer = std::get_if<contracts::DatasetOffer>(&record))
    TRY(blobs_->touch(offer->manifest.ciphertext));
  if (auto* submit = std::get_if<contracts::ContractSubmit>(&record);
      submit && submit->spec.initial)
    TRY(blobs_->touch(*submit->spec.initial));
  auto receipt = TRY(entrance_->append(std::move(entry)));
  wake();
  TRY(follow());
  {
    std::lock_guard lock(follow_mutex_);
    const auto& voids = follower_->state().voids();
    if (auto it = voids.find(receipt.seq); it != voids.end()) {
      return Error(Code::kConflict, "recorded as entry " + std::to_string(receipt.seq) +
                                        " without effect: " + contracts::words_of_void(it->second));
    }
  }
  auto* change = std::get_if<contracts::PolicyChange>(&record);
  if (change && change->move == contracts::PolicyChange::Move::kRevokeDestroy) erase_destroyed();
  if (auto* erase = std::get_if<contracts::DatasetErase>(&record)) erase_dataset(erase->dataset);
  if (wanted == Acknowledgement::kWitnessed) return witnessed_receipt(receipt.seq, kWitnessWaitMs);
  return receipt;
}

std::vector<DatasetId> Market::unavailable(const contracts::MarketState& state,
                                           const std::vector<DatasetId>& datasets) const {
  constexpr uint64_t kSoonHashed = uint64_t{16} << 20;
  std::vector<DatasetId> out;
  for (const auto& id : datasets) {
    const auto* dataset = state.dataset(id);
    if (!dataset || dataset->revoked) continue;  // refused for that
    const auto& manifest = dataset->manifest;
    auto size = blobs_->size(manifest.ciphertext);
    bool whole = size && *size == static_cast<uint64_t>(manifest.size);
    if (whole && *size <= kSoonHashed) {
      auto bytes = blobs_->read(manifest.ciphertext, 0, *size);
      whole = bytes && ledger::sha256(*bytes) == manifest.ciphertext;
    }
    if (!whole) out.push_back(id);
  }
  return out;
}

}  // namespace souk::market
