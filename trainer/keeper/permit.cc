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
                                    const Vault& vault) {
  const auto* contract = state.contract(permit.contract());
  const auto* dataset = state.dataset(id);
  if (!contract || !dataset) return Error(Code::kNotFound, "expected contract and dataset");
  const auto& inputs = contract->submit.datasets;
  if (std::find(inputs.begin(), inputs.end(), id) == inputs.end()) {
    return Error(Code::kRefused, "expected a dataset of the permitted contract");
  }
  if (dataset->revoked) return Error(Code::kRefused, "expected a dataset that is not revoked");
  auto file_key = vault.dataset_key(state, *dataset);
  if (!file_key) return std::move(file_key).take_error().within("wrap of dataset " + to_hex(id));
  auto out_info = contracts::trainer_wrap_info(state.market(), permit.contract(), id,
                                               trainer.evidence_digest());
  auto sealed = ledger::hpke_seal(trainer.claims().kem, as_bytes(out_info), {},
                                  ByteView(file_key->bytes(SecretAccess{})));
  if (!sealed) return std::move(sealed).take_error();
  return contracts::Wrap{id, std::move(*sealed)};
}

}  // namespace souk::trainer
