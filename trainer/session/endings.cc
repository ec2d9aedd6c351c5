#include "trainer/session/endings.h"

#include <algorithm>

#include "ledger/crypto/hash.h"
#include "ledger/crypto/hpke.h"
#include "policy/privacy/budget.h"
#include "policy/privacy/run.h"
#include "trainer/data/safetensors.h"

namespace souk::trainer {
namespace {

constexpr size_t kMaxEmbeddedSpec = 256 << 10;  // of the header's 1 MiB

}  // namespace

contracts::JobStop stop_after(const contracts::MarketState& state,
                              const contracts::Contract& contract, uint32_t steps) {
  const auto& spec = contract.submit.spec;
  contracts::JobStop stop;
  stop.contract = contract.id;
  stop.job_start = contract.start_hash;
  stop.steps = steps;
  const auto& grants = contract.decision->grants;
  for (size_t i = 0; i < grants.size(); ++i) {
    const auto& grant = grants[i];
    contracts::JobStop::Spent spent{grant.dataset};
    if (!grant.waived && steps > 0) {
      const auto& manifest = state.dataset(grant.dataset)->manifest;
      spent.charges = policy::charges_for(
          policy::event_of_run(spec, i, steps, static_cast<uint32_t>(manifest.user_cap)));
      auto epsilon = policy::epsilon_of_run(spec, i, steps);
      spent.epsilon_micro = epsilon
                                ? std::min(policy::epsilon_micro_up(*epsilon), grant.epsilon_micro)
                                : grant.epsilon_micro;
      for (size_t order = 0; order < spent.charges.size(); ++order) {
        spent.charges[order] = std::min(spent.charges[order], grant.charges[order]);
      }
    }
    stop.spent.push_back(spent);
  }
  return stop;
}

Result<Package> package_model(const MarketId& market, const contracts::Contract& contract,
                              const SealingKey& recipient, const Model& model,
                              int64_t epsilon_micro,
                              const std::optional<contracts::JobAudit>& audit) {
  const auto& spec = contract.submit.spec;
  std::vector<Tensor> tensors;
  for (const auto& tensor : model.tensors) {
    TensorShape shape;
    for (int64_t side : tensor.shape) shape.push_back(static_cast<uint64_t>(side));
    tensors.push_back({tensor.name, Dtype::kF32, shape,
                       ByteView(reinterpret_cast<const uint8_t*>(tensor.values.data()),
                                tensor.values.size() * sizeof(float))});
  }
  TensorMetadata metadata{{"contract", to_hex(contract.id)}};
  // So that the file can be used alone. A specification of many constants stays outside.
  std::string text = canonical(contracts::to_json(spec));
  if (text.size() <= kMaxEmbeddedSpec) metadata.emplace("spec", std::move(text));
  auto plain = TRY(write_safetensors(tensors, metadata));
  auto file_key = FileKey::random();
  auto header = TRY(make_header(file_key, std::span(&recipient, 1)));
  Package out;
  out.payload = encrypt_payload(file_key, plain);

  contracts::JobResult& result = out.result;
  result.contract = contract.id;
  result.job_start = contract.start_hash;
  result.model = ledger::sha256(plain);
  result.payload = ledger::sha256(out.payload);
  result.payload_size = static_cast<int64_t>(out.payload.size());
  result.header = header_digest(header);
  result.steps = spec.steps;
  result.epsilon_micro = epsilon_micro;
  result.delta_pico = spec.privacy ? spec.privacy->delta_pico : 0;
  result.audit = audit;
  result.spec = contract.start->spec;
  result.trainer_evidence = contracts::evidence_digest(contract.start->trainer);
  auto info = contracts::header_wrap_info(market, contract.id);
  result.sealed_header = TRY(ledger::hpke_seal(contract.keeper_kem, as_bytes(info), {}, header));
  return out;
}

}  // namespace souk::trainer
