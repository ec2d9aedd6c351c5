// The last two rungs of the ladder: a Permit says that policy, privacy budget and
// payment of a contract stand on the ledger; only with one, and with an appraised
// trainer, does a dataset key leave the keeper, wrapped to that trainer.
#pragma once

#include "contracts/lifecycle/market_state.h"
#include "trainer/attest/appraisal.h"
#include "trainer/keeper/vault.h"

namespace souk::trainer {

class Permit {
 public:
  const ContractId& contract() const { return contract_; }
  const Digest& decision() const { return decision_; }

 private:
  friend Result<Permit> permit(const contracts::MarketState& state, const ContractId& contract);
  Permit(ContractId contract, Digest decision) : contract_(contract), decision_(decision) {}
  ContractId contract_;
  Digest decision_;
};

// From recorded state alone: the contract is escrowed, by an allowing decision that
// `apply` found valid, and no job.start of it is recorded. kRefused otherwise.
Result<Permit> permit(const contracts::MarketState& state, const ContractId& contract);

// The dataset's file key, from the provider's wrap to the trainer's. kRefused when the
// dataset is not part of the permitted contract, or revoked since.
Result<contracts::Wrap> release_key(const Permit& permit, const AppraisedEnclave& trainer,
                                    const contracts::MarketState& state, const DatasetId& dataset,
                                    const Vault& vault);

}  // namespace souk::trainer
