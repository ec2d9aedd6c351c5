// The keeper's KEM keys, and the erasing of datasets. A wrap stays on the ledger for
// ever, so to erase one is to forget the KEM key that opens it: the keeper takes a new
// one, keeps the keys of all other datasets and the headers of settled jobs, which the
// old one opened, and forgets the old. trainer/SPEC.md, Erasure.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "contracts/lifecycle/market_state.h"
#include "ledger/crypto/hpke.h"

namespace souk::trainer {

class Vault {
 public:
  Vault() : kem_(ledger::KemKey::generate()) {}

  // What wraps and headers are sealed to now: the key of the newest recorded boot.
  SealingKey kem() const { return kem_.public_key(); }
  // What the next boot announces: another key while an erasure waits for it.
  SealingKey boot_kem() const { return next_ ? next_->public_key() : kem(); }
  bool wants_boot() const { return next_.has_value(); }

  // After each confirmation: sees new tombstones, and exchanges keys once the boot that
  // announces the new one is recorded. The old one stays until the jobs that were running
  // then have ended, for their headers; no longer than their deadlines.
  void follow(const contracts::MarketState& state);

  // The file key of a dataset on offer. kRefused when it is erased, kUnauthentic when its
  // wrap is not for this keeper.
  Result<Secret<16>> dataset_key(const contracts::MarketState& state,
                                 const contracts::Dataset& dataset) const;
  // The age header of a settled contract.
  Result<Bytes> header(const contracts::MarketState& state,
                       const contracts::Contract& contract) const;

  Json to_json(SecretAccess access) const;
  static Result<Vault> from_json(const Json& json);

 private:
  struct Retiring {
    ledger::KemKey kem;
    std::set<ContractId> jobs;  // that may still bring a header sealed to it
  };

  explicit Vault(ledger::KemKey kem) : kem_(std::move(kem)) {}
  void exchange_keys(const contracts::MarketState& state);
  void retire(const contracts::MarketState& state);

  ledger::KemKey kem_;
  std::optional<ledger::KemKey> next_;
  std::set<DatasetId> erased_;            // whose wraps no key of ours opens
  std::map<DatasetId, Secret<16>> keys_;  // of wraps to keys that are gone
  std::map<ContractId, Bytes> headers_;   // likewise
  std::vector<Retiring> retiring_;
};

}  // namespace souk::trainer
