#include "trainer/keeper/vault.h"

#include <algorithm>

namespace souk::trainer {
namespace {

using contracts::Contract;
using contracts::Dataset;
using contracts::MarketState;
using contracts::Phase;

Result<Secret<16>> open_wrap(const ledger::KemKey& kem, const MarketState& state,
                             const Dataset& dataset) {
  auto info = contracts::dataset_wrap_info(state.market(), dataset.id, dataset.provider,
                                           contracts::policy_hash(dataset.manifest.policy),
                                           dataset.keeper_evidence);
  auto plain = TRY(ledger::hpke_open(kem, as_bytes(info), {}, dataset.wrap));
  if (plain.size() != 16) return Error(Code::kMalformed, "expected a wrapped file key");
  auto key = Secret<16>::copy_of(std::span<const uint8_t, 16>(plain.data(), 16));
  for (auto& byte : plain) *const_cast<volatile uint8_t*>(&byte) = 0;
  return key;
}

Result<Bytes> open_header(const ledger::KemKey& kem, const MarketState& state,
                          const Contract& contract) {
  if (!contract.result) return Error(Code::kNotFound, "expected the result of this contract");
  auto info = contracts::header_wrap_info(state.market(), contract.id);
  return ledger::hpke_open(kem, as_bytes(info), {}, contract.result->sealed_header);
}

bool final_phase(const Contract& contract) {
  return contract.phase != Phase::kSubmitted && contract.phase != Phase::kEscrowed &&
         contract.phase != Phase::kRunning;
}

Result<ledger::KemKey> kem_of(const Json& json) {
  if (!json.string()) return Error(Code::kMalformed, "vault: expected a key");
  auto bytes = TRY(from_hex(*json.string()));
  return ledger::KemKey::from_bytes(bytes);
}

std::string hex_of(const ledger::KemKey& kem, SecretAccess access) {
  auto secret = kem.secret(access);
  return to_hex(ByteView(secret.bytes(access)));
}

}  // namespace

void Vault::follow(const MarketState& state) {
  bool unforgotten = false;
  for (const auto& [id, dataset] : state.datasets()) {
    if (!dataset.erased || erased_.count(id) != 0) continue;
    keys_.erase(id);
    unforgotten = true;
  }
  for (auto it = headers_.begin(); it != headers_.end();) {
    const Contract* contract = state.contract(it->first);
    it = contract && contract->destroyed ? headers_.erase(it) : std::next(it);
  }
  if (unforgotten && !next_) next_ = ledger::KemKey::generate();
  if (next_ && state.keeper() && state.keeper()->kem == next_->public_key()) exchange_keys(state);
  retire(state);
}

// What only the old key opens and is still owed to somebody is taken out; then it goes.
void Vault::exchange_keys(const MarketState& state) {
  for (const auto& [id, dataset] : state.datasets()) {
    if (dataset.erased) {
      erased_.insert(id);
      keys_.erase(id);
      continue;
    }
    if (keys_.count(id) != 0) continue;
    auto key = open_wrap(kem_, state, dataset);
    if (key) keys_.emplace(id, std::move(*key));
  }
  std::set<ContractId> jobs;
  for (const auto& [id, contract] : state.contracts()) {
    if (contract.phase == Phase::kRunning) jobs.insert(id);
    if (contract.phase != Phase::kSettled || contract.destroyed || headers_.count(id) != 0)
      continue;
    auto header = open_header(kem_, state, contract);
    if (header) headers_.emplace(id, std::move(*header));
  }
  if (!jobs.empty()) {
    // It would open the erased wraps too; so it outlives them by these jobs and no more.
    retiring_.push_back({std::move(kem_), std::move(jobs)});
  }
  kem_ = std::move(*next_);
  next_.reset();
}

void Vault::retire(const MarketState& state) {
  for (auto& old : retiring_) {
    for (auto it = old.jobs.begin(); it != old.jobs.end();) {
      const Contract* contract = state.contract(*it);
      if (contract && !final_phase(*contract)) {
        ++it;
        continue;
      }
      if (contract && contract->phase == Phase::kSettled) {
        auto header = open_header(old.kem, state, *contract);
        if (header) headers_.emplace(*it, std::move(*header));
      }
      it = old.jobs.erase(it);
    }
  }
  std::erase_if(retiring_, [](const Retiring& old) { return old.jobs.empty(); });
}

Result<Secret<16>> Vault::dataset_key(const MarketState& state, const Dataset& dataset) const {
  if (dataset.erased) return Error(Code::kRefused, "expected a dataset that is not erased");
  if (auto it = keys_.find(dataset.id); it != keys_.end()) {
    return it->second.clone(SecretAccess{});
  }
  return open_wrap(kem_, state, dataset);
}

Result<Bytes> Vault::header(const MarketState& state, const Contract& contract) const {
  if (auto it = headers_.find(contract.id); it != headers_.end()) return it->second;
  return open_header(kem_, state, contract);
}

Json Vault::to_json(SecretAccess access) const {
  Json::Array erased;
  for (const auto& id : erased_) erased.push_back(Json(id));
  Json::Object keys;
  for (const auto& [id, key] : keys_) keys[to_hex(id)] = to_hex(ByteView(key.bytes(access)));
  Json::Object headers;
  for (const auto& [id, header] : headers_) headers[to_hex(id)] = to_base64(header);
  Json::Array retiring;
  for (const auto& old : retiring_) {
    Json::Array jobs;
    for (const auto& job : old.jobs) jobs.push_back(Json(job));
    retiring.push_back(Json::Object{{"jobs", std::move(jobs)}, {"kem", hex_of(old.kem, access)}});
  }
  return Json::Object{{"erased", std::move(erased)},
                      {"headers", std::move(headers)},
                      {"kem", hex_of(kem_, access)},
                      {"keys", std::move(keys)},
                      {"next", next_ ? Json(hex_of(*next_, access)) : Json()},
                      {"retiring", std::move(retiring)}};
}

Result<Vault> Vault::from_json(const Json& json) {
  constexpr size_t kMany = size_t{1} << 20;
  auto fields = TRY(Fields::of(json, "vault"));
  const Json* kem = TRY(fields.any("kem"));
  Vault out(TRY(kem_of(*kem)));
  const Json* next = TRY(fields.any("next"));
  if (!next->is_null()) out.next_ = TRY(kem_of(*next));
  const auto* erased = TRY(fields.array("erased", kMany));
  for (const auto& id : *erased) {
    if (!id.string()) return Error(Code::kMalformed, "vault.erased: expected ids");
    out.erased_.insert(TRY(named_from_hex<DatasetId>(*id.string())));
  }
  const Json* keys = TRY(fields.any("keys"));
  const Json* headers = TRY(fields.any("headers"));
  const auto* retiring = TRY(fields.array("retiring", kMany));
  TRY(fields.done());
  if (!keys->object() || !headers->object()) {
    return Error(Code::kMalformed, "vault: expected objects of keys and headers");
  }
  for (const auto& [id, key] : *keys->object()) {
    if (!key.string()) return Error(Code::kMalformed, "vault.keys: expected texts");
    auto bytes = TRY(from_hex(*key.string()));
    auto fixed_bytes = TRY(fixed<16>(bytes));
    out.keys_.emplace(TRY(named_from_hex<DatasetId>(id)), Secret<16>::copy_of(fixed_bytes));
  }
  for (const auto& [id, header] : *headers->object()) {
    if (!header.string()) return Error(Code::kMalformed, "vault.headers: expected texts");
    out.headers_.emplace(TRY(named_from_hex<ContractId>(id)), TRY(from_base64(*header.string())));
  }
  for (const auto& item : *retiring) {
    auto old = TRY(Fields::of(item, "vault.retiring"));
    const Json* old_kem = TRY(old.any("kem"));
    const auto* ids = TRY(old.array("jobs", kMany));
    TRY(old.done());
    std::set<ContractId> jobs;
    for (const auto& id : *ids) {
      if (!id.string()) return Error(Code::kMalformed, "vault.retiring: expected ids");
      jobs.insert(TRY(named_from_hex<ContractId>(*id.string())));
    }
    out.retiring_.push_back({TRY(kem_of(*old_kem)), std::move(jobs)});
  }
  return out;
}

}  // namespace souk::trainer
