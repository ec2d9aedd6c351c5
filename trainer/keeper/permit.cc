#include "trainer/keeper/permit.h"

#include <algorithm>

namespace souk::trainer {

Result<Permit> permit(const contracts::MarketState& state, const ContractId& id) {
  const auto* contract = state.contract(id);
  if (!contract) return Error(Code::kNotFound, "expected this contract on the ledger");
  if (contract->phase != contracts::Phase::kEscrowed || !contract->decision ||
      !contract->decision->allow || contract->start) {
    return Error(Code::kRefused, std::string("expected an escrowed contract, this one is ") +
                                     contracts::phase_name(contract->phase));
  }
  return Permit(id, contract->decision_hash);
}

Result<contracts::Wrap> release_key(const Permit& permit, const AppraisedEnclave& trainer,
                                    const contracts::MarketState& state, const DatasetId& id,
                                    const ledger::KemKey& keeper_kem) {
  const auto* contract = state.contract(permit.contract());
  const auto* dataset = state.dataset(id);
  if (!contract || !dataset) return Error(Code::kNotFound, "expected contract and dataset");
  const auto& inputs = contract->submit.datasets;
  if (std::find(inputs.begin(), inputs.end(), id) == inputs.end()) {
    return Error(Code::kRefused, "expected a dataset of the permitted contract");
  }
  if (dataset->revoked) return Error(Code::kRefused, "expected a dataset that is not revoked");
  auto info = contracts::dataset_wrap_info(state.market(), id, dataset->provider,
                                           contracts::policy_hash(dataset->manifest.policy),
                                           dataset->keeper_evidence);
  auto file_key = ledger::hpke_open(keeper_kem, as_bytes(info), {}, dataset->wrap);
  if (!file_key) return std::move(file_key).take_error().within("wrap of dataset " + to_hex(id));
  auto out_info = contracts::trainer_wrap_info(state.market(), permit.contract(), id,
                                               trainer.evidence_digest());
  auto sealed = ledger::hpke_seal(trainer.claims().kem, as_bytes(out_info), {}, *file_key);
  for (auto& byte : *file_key) *const_cast<volatile uint8_t*>(&byte) = 0;
  if (!sealed) return std::move(sealed).take_error();
  return contracts::Wrap{id, std::move(*sealed)};
}

}  // namespace souk::trainer
