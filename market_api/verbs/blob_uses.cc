#include "market_api/verbs/blob_uses.h"

#include <algorithm>

#include "ledger/entry/entry.h"

namespace souk::market {
namespace {

using contracts::Contract;
using contracts::MarketState;
using contracts::Phase;

bool starts_from_its_weights(const Contract& contract) {
  bool ended = contract.phase == Phase::kRefused || contract.phase == Phase::kRefunded ||
               contract.phase == Phase::kExpired;
  return contract.submit.spec.initial && !ended && !contract.destroyed;
}

template <class Index, class Holds>
bool any_of(const Index& index, const Digest& blob, Holds holds) {
  auto found = index.find(blob);
  return found != index.end() && std::any_of(found->second.begin(), found->second.end(), holds);
}

}  // namespace

BlobUses::BlobUses(const MarketState& state) {
  for (const auto& [id, dataset] : state.datasets())
    ciphertexts_[dataset.manifest.ciphertext].insert(id);
  for (const auto& [id, contract] : state.contracts()) {
    add(contract.submit, id);
    if (contract.result) add(*contract.result);
  }
}

void BlobUses::add(ByteView leaf) {
  auto read = ledger::read_leaf(leaf);
  if (!read) return;
  const Json* type = read->envelope().find("payloadType");
  bool names_blobs = type && type->string() &&
                     (*type->string() == contracts::DatasetOffer::kType ||
                      *type->string() == contracts::ContractSubmit::kType ||
                      *type->string() == contracts::JobResult::kType);
  if (!names_blobs) return;
  auto signed_entry = ledger::SignedEntry::decode(std::move(*read));
  if (!signed_entry) return;
  auto entry = ledger::authenticate(std::move(*signed_entry));
  if (!entry) return;
  auto record = contracts::record_of(*entry);
  if (!record) return;
  if (auto* offer = std::get_if<contracts::DatasetOffer>(&*record))
    ciphertexts_[offer->manifest.ciphertext].insert(contracts::dataset_id(offer->manifest));
  if (auto* submit = std::get_if<contracts::ContractSubmit>(&*record))
    add(*submit, ContractId(entry->payload_hash()));
  if (auto* result = std::get_if<contracts::JobResult>(&*record)) add(*result);
}

void BlobUses::add(const contracts::ContractSubmit& submit, const ContractId& id) {
  if (submit.spec.initial) initial_[*submit.spec.initial].insert(id);
}

void BlobUses::add(const contracts::JobResult& result) {
  payloads_[result.payload].insert(result.contract);
}

bool BlobUses::offered_by_another(const MarketState& state, const Digest& ciphertext,
                                  const PublicKey& author) const {
  return any_of(ciphertexts_, ciphertext, [&](const DatasetId& id) {
    const auto* dataset = state.dataset(id);
    return dataset && !dataset->erased && dataset->provider != author;
  });
}

bool BlobUses::needed(const MarketState& state, const Digest& blob, BlobKind kind) const {
  // A result without effect is not in the state, or is another one there.
  auto is_payload = [&](const Contract& contract) {
    return contract.result && contract.result->payload == blob;
  };
  if (any_of(payloads_, blob, [&](const ContractId& id) {
        const auto* contract = state.contract(id);
        return contract && contract->destroyed && is_payload(*contract);
      })) {
    return false;
  }
  if (any_of(payloads_, blob, [&](const ContractId& id) {
        const auto* contract = state.contract(id);
        return contract && is_payload(*contract);
      })) {
    return true;
  }
  if (any_of(ciphertexts_, blob, [&](const DatasetId& id) {
        const auto* dataset = state.dataset(id);
        return dataset && !dataset->erased;
      })) {
    return true;
  }
  return kind == BlobKind::kOther && any_of(initial_, blob, [&](const ContractId& id) {
           const auto* contract = state.contract(id);
           return contract && starts_from_its_weights(*contract);
         });
}

std::set<Digest> BlobUses::all_needed(const MarketState& state) {
  std::set<Digest> out;
  for (const auto& [id, dataset] : state.datasets()) {
    if (!dataset.erased) out.insert(dataset.manifest.ciphertext);
  }
  for (const auto& [id, contract] : state.contracts()) {
    if (starts_from_its_weights(contract)) out.insert(*contract.submit.spec.initial);
    if (contract.result && !contract.destroyed) out.insert(contract.result->payload);
  }
  return out;
}

}  // namespace souk::market
