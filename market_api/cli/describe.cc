#include "market_api/cli/describe.h"

#include "ledger/codec/json.h"
#include "market_api/cli/answer.h"

namespace souk::market {
namespace {

std::string brief(const ContractId& id) {
  return short_hex(to_hex(id));
}
std::string brief(const DatasetId& id) {
  return short_hex(to_hex(id));
}

struct Summary {
  const Digest& payload_hash;

  std::string operator()(const contracts::Genesis& r) const {
    return r.origin + ", currency " + r.currency + ", treasury " + short_hex(to_hex(r.treasury));
  }
  std::string operator()(const contracts::KeeperBoot& r) const {
    return "keys certified by " + r.evidence.kind;
  }
  std::string operator()(const contracts::Deposit& r) const {
    return std::to_string(r.minor) + " to " + short_hex(to_hex(r.account));
  }
  std::string operator()(const contracts::DatasetOffer& r) const {
    return brief(contracts::dataset_id(r.manifest)) + " " + r.manifest.name + " of " +
           r.manifest.provider_name + ", " + std::to_string(r.manifest.rows) + " rows, price " +
           std::to_string(r.manifest.price);
  }
  std::string operator()(const contracts::DatasetRevoke& r) const { return brief(r.dataset); }
  std::string operator()(const contracts::DatasetErase& r) const { return brief(r.dataset); }
  std::string operator()(const contracts::PolicyPublish& r) const {
    return brief(r.dataset) + " version " +
           short_hex(to_hex(ByteView(contracts::policy_version(r.source, r.parameters, r.engine))));
  }
  std::string operator()(const contracts::PolicyChange& r) const {
    return brief(r.dataset) + " " + contracts::move_name(r.move) + " " +
           short_hex(to_hex(ByteView(r.version)));
  }
  std::string operator()(const contracts::ContractSubmit& r) const {
    return brief(ContractId(payload_hash)) + " " + r.purpose + ", " +
           std::to_string(r.datasets.size()) + " datasets, " + std::to_string(r.spec.steps) +
           " steps, offers " + std::to_string(r.offered);
  }
  std::string operator()(const contracts::ContractDecision& r) const {
    return brief(r.contract) + " " + r.status +
           (r.allow ? ", price " + std::to_string(r.price) : "");
  }
  std::string operator()(const contracts::JobStart& r) const { return brief(r.contract); }
  std::string operator()(const contracts::JobResume& r) const {
    return brief(r.contract) + " taken up at step " + std::to_string(r.steps) + ", attempt " +
           std::to_string(r.attempt);
  }
  std::string operator()(const contracts::JobResult& r) const {
    return brief(r.contract) + " " + std::to_string(r.steps) + " steps, epsilon " +
           millionths_text(r.epsilon_micro);
  }
  std::string operator()(const contracts::JobStop& r) const {
    return brief(r.contract) + " after " + std::to_string(r.steps) + " steps";
  }
  std::string operator()(const contracts::JobAbort& r) const {
    return brief(r.contract) + " " + r.reason;
  }
  std::string operator()(const contracts::Tick&) const { return ""; }
};

}  // namespace

std::string entry_kind(const std::string& payload_type) {
  if (payload_type == contracts::JobResult::kType) return "job.result";
  constexpr std::string_view kPrefix = "application/vnd.souk.", kSuffix = "+json";
  std::string_view kind = payload_type;
  if (kind.size() <= kPrefix.size() + kSuffix.size() || kind.substr(0, kPrefix.size()) != kPrefix) {
    return payload_type;
  }
  kind.remove_prefix(kPrefix.size());
  kind.remove_suffix(kSuffix.size());
  std::string name(kind);
  if (size_t dash = name.find('-'); dash != std::string::npos) name[dash] = '.';
  return name;
}

std::string entry_summary(const contracts::Record& record, const Digest& payload_hash) {
  return std::visit(Summary{payload_hash}, record);
}

}  // namespace souk::market
