#include "market_api/client/receipt.h"

#include <algorithm>
#include <set>

#include "ledger/crypto/hash.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/proof/tlog_proof.h"
#include "policy/decide/obligations.h"
#include "trainer/attest/appraisal.h"

namespace souk::market {
namespace {

constexpr std::string_view kFormat = "souk-receipt/1";

Json to_json(const ProvenLeaf& proven) {
  return Json::Object{{"leaf", to_base64(proven.leaf)}, {"proof", proven.proof}};
}

Json to_json(const std::vector<ProvenLeaf>& all) {
  Json::Array array;
  for (const auto& proven : all) array.push_back(to_json(proven));
  return array;
}

Result<ProvenLeaf> proven_from_json(const Json& json, const std::string& what) {
  auto fields = TRY(Fields::of(json, what));
  ProvenLeaf proven;
  proven.leaf = TRY(fields.base64("leaf"));
  proven.proof = TRY(fields.text("proof", 1 << 20));
  TRY(fields.done());
  return proven;
}

Result<std::vector<ProvenLeaf>> all_from_json(Fields& fields, const std::string& name) {
  const Json::Array* array = TRY(fields.array(name));
  std::vector<ProvenLeaf> all;
  for (const Json& item : *array) {
    all.push_back(TRY(proven_from_json(item, "receipt." + name)));
  }
  return all;
}

Result<ProvenLeaf> one_from_json(Fields& fields, const std::string& name) {
  const Json* json = TRY(fields.any(name));
  return proven_from_json(*json, "receipt." + name);
}

Error wrong(const std::string& expected) {
  return Error(Code::kUnauthentic, "expected " + expected);
}

// The record of an entry that is in the ledger, under the one checkpoint. Not inside
// Verification: clang 14 loses the initialisers of a member template.
template <class Record>
struct Known {
  Record record;
  PublicKey author;
  Digest payload_hash{};
  uint64_t seq = 0;
  TimeMs time = 0;
};

// Goes through the sections in the order of the story; section_ is where it stands.
class Verification {
 public:
  Verification(const Receipt& receipt, ReceiptReport& report)
      : receipt_(receipt), report_(report) {}

  Status run(std::optional<MarketId> pinned) {
    TRY(read_market(pinned));
    TRY(read_keepers());
    TRY(read_contract());
    TRY(read_datasets());
    TRY(read_decision());
    TRY(read_start());
    return read_result();
  }
  const std::string& section() const { return section_; }

 private:
  template <class Record>
  Result<Known<Record>> read(const ProvenLeaf& proven) {
    auto proof = TRY(ledger::parse_tlog_proof(proven.proof));
    if (proof.checkpoint != checkpoint_note_) return wrong("every proof under the same checkpoint");
    auto recorded = TRY(ledger::confirm_one(proven.leaf, proven.proof, *key_, genesis_.origin));
    std::string market = std::is_same_v<Record, contracts::Genesis> ? "" : to_hex(receipt_.market);
    if (recorded.entry().market() != market) return wrong("an entry of this market");
    auto record = TRY(contracts::record_of(recorded.entry()));
    auto* wanted = std::get_if<Record>(&record);
    if (!wanted) return wrong(std::string("an entry of type ") + Record::kType);
    return Known<Record>{std::move(*wanted), recorded.entry().author(),
                         recorded.entry().payload_hash(), recorded.seq(), recorded.time()};
  }

  Status read_market(const std::optional<MarketId>& pinned) {
    section_ = "market";
    if (pinned && *pinned != receipt_.market) {
      return wrong("market " + to_hex(*pinned) + ", this receipt is of " + to_hex(receipt_.market));
    }
    section_ = "genesis";
    auto leaf = TRY(ledger::decode_leaf(receipt_.genesis.leaf));
    auto signed_entry = TRY(ledger::SignedEntry::decode(leaf.envelope));
    auto entry = TRY(ledger::authenticate(std::move(signed_entry)));
    auto record = TRY(contracts::record_of(entry));
    auto* genesis = std::get_if<contracts::Genesis>(&record);
    if (!genesis || leaf.seq != 0) return wrong("the genesis entry at seq 0");
    if (contracts::market_id(entry.payload()) != receipt_.market) {
      return wrong("the genesis whose SHA-256 is the market id");
    }
    genesis_ = *genesis;
    key_ = TRY(ledger::NoteKey::parse(genesis_.ledger_key));
    if (key_->public_key() != entry.author() || key_->name() != genesis_.origin) {
      return wrong("genesis signed by the ledger key it names");
    }
    auto proof = TRY(ledger::parse_tlog_proof(receipt_.genesis.proof));
    section_ = "checkpoint";
    checkpoint_note_ = proof.checkpoint;
    auto checkpoint = TRY(ledger::open_checkpoint(checkpoint_note_, *key_));
    report_.checkpoint_size = checkpoint.size;
    report_.checkpoint_root = checkpoint.root;
    report_.currency = genesis_.currency;
    section_ = "genesis";
    TRY(read<contracts::Genesis>(receipt_.genesis));
    return Done{};
  }

  Status read_keepers() {
    section_ = "keeper_boots";
    if (receipt_.keeper_boots.empty()) return wrong("the boot of the keeper that decided");
    for (const auto& proven : receipt_.keeper_boots) {
      auto boot = TRY(read<contracts::KeeperBoot>(proven));
      auto keys = TRY(
          trainer::appraise_for_market(boot.record.evidence, genesis_, receipt_.market, "keeper"));
      if (keys.signing != boot.author || keys.kem != boot.record.kem) {
        return wrong("evidence for the keys of this keeper");
      }
      keepers_.push_back({boot.author, boot.seq});
    }
    return Done{};
  }

  bool appraised_keeper_before(const PublicKey& author, uint64_t seq) const {
    return std::any_of(keepers_.begin(), keepers_.end(), [&](const auto& keeper) {
      return keeper.first == author && keeper.second < seq;
    });
  }

  // What stands in the ledger at or after the deadline has no effect there: the money
  // has gone back by then.
  template <class Record>
  bool in_time(const Known<Record>& known) const {
    return known.time - contract_->time < contract_->record.deadline_minutes * 60'000;
  }

  Status read_contract() {
    section_ = "contract";
    contract_ = TRY(read<contracts::ContractSubmit>(receipt_.contract));
    id_ = ContractId(contract_->payload_hash);
    spec_ = ledger::sha256(as_bytes(canonical(contracts::to_json(contract_->record.spec))));
    report_.contract = id_;
    report_.consumer = contract_->author;
    return Done{};
  }

  Status read_datasets() {
    section_ = "datasets";
    const auto& wanted = contract_->record.datasets;
    if (receipt_.datasets.size() != wanted.size())
      return wrong("one offer for each dataset of the contract");
    for (size_t i = 0; i < wanted.size(); ++i) {
      auto offer = TRY(read<contracts::DatasetOffer>(receipt_.datasets[i]));
      if (contracts::dataset_id(offer.record.manifest) != wanted[i]) {
        return wrong("the offers of the contract's datasets, in its order");
      }
      if (offer.seq > contract_->seq) return wrong("offers older than the contract");
      report_.inputs.push_back(offer.record.manifest.provider_name + " · " +
                               offer.record.manifest.name);
      manifests_.push_back(std::move(offer.record.manifest));
    }
    return Done{};
  }

  Status read_decision() {
    section_ = "decision";
    decision_ = TRY(read<contracts::ContractDecision>(receipt_.decision));
    const auto& decision = decision_->record;
    if (!appraised_keeper_before(decision_->author, decision_->seq)) {
      return wrong("a decision of an appraised keeper");
    }
    if (decision_->seq < contract_->seq) return wrong("a decision after the contract");
    if (!in_time(*decision_)) return wrong("a decision before the contract's deadline");
    if (decision.contract != id_) return wrong("the decision on this contract");
    if (!decision.allow) return wrong("a decision that allows");
    if (decision.grants.size() != manifests_.size()) return wrong("one grant for each dataset");
    contracts::Minor sum = 0;
    for (size_t i = 0; i < manifests_.size(); ++i) {
      if (decision.grants[i].dataset != contract_->record.datasets[i]) {
        return wrong("grants for the contract's datasets, in its order");
      }
      if (decision.grants[i].waived == contract_->record.spec.privacy.has_value()) {
        return wrong("a waiver where the contract has no privacy, and nowhere else");
      }
      if (decision.grants[i].price > decision.price - sum)
        return wrong("grants that add up to the price");
      sum += decision.grants[i].price;
    }
    if (sum != decision.price) return wrong("grants that add up to the price");
    if (decision.price > contract_->record.offered) return wrong("a price within the offer");
    auto obligations = TRY(policy::obligations_from_json(decision.obligations));
    TRY(policy::check_obligations(contract_->record.spec, obligations));
    for (size_t i = 0; i < decision.grants.size(); ++i) {
      if (!decision.grants[i].obligations) continue;
      auto own = TRY(policy::obligations_from_json(*decision.grants[i].obligations));
      TRY(policy::check_obligations(contract_->record.spec, own, i));
    }
    report_.price = decision.price;
    return Done{};
  }

  Status read_start() {
    section_ = "start";
    start_ = TRY(read<contracts::JobStart>(receipt_.start));
    const auto& start = start_->record;
    if (!appraised_keeper_before(start_->author, start_->seq))
      return wrong("a start by an appraised keeper");
    if (start_->seq < decision_->seq) return wrong("a start after the decision");
    if (!in_time(*start_)) return wrong("a start before the contract's deadline");
    if (start.contract != id_) return wrong("the start of this contract");
    if (start.decision != decision_->payload_hash)
      return wrong("the start that this decision allows");
    if (start.spec != spec_) return wrong("the contract's specification");
    if (start.recipient != contract_->record.recipient) return wrong("the contract's recipient");
    if (start.obligations != decision_->record.obligations)
      return wrong("the decision's obligations");
    if (start.inputs.size() != manifests_.size()) return wrong("one input for each dataset");
    for (size_t i = 0; i < manifests_.size(); ++i) {
      contracts::JobStart::Input input{contract_->record.datasets[i], manifests_[i].ciphertext,
                                       manifests_[i].size, manifests_[i].rows};
      if (start.inputs[i] != input) return wrong("inputs as the providers offered them");
    }
    auto enclave = TRY(trainer::appraise(
        start.trainer, trainer::Expected{genesis_, receipt_.market, "trainer", std::nullopt, id_}));
    if (enclave.claims().signing != start.receipt_key ||
        enclave.claims().kem != start.trainer_kem) {
      return wrong("evidence for the keys of this trainer");
    }
    report_.evidence_kind = start.trainer.kind;
    return Done{};
  }

  Status read_result() {
    section_ = "result";
    auto known = TRY(read<contracts::JobResult>(receipt_.result));
    const auto& result = known.record;
    const auto& spec = contract_->record.spec;
    if (known.author != start_->record.receipt_key)
      return wrong("a result signed by the started trainer");
    if (known.seq < start_->seq) return wrong("a result after the start");
    if (!in_time(known)) return wrong("a result before the contract's deadline");
    if (result.contract != id_) return wrong("the result of this contract");
    if (result.job_start != start_->payload_hash) return wrong("the result of this start");
    if (result.spec != spec_) return wrong("the contract's specification");
    if (result.trainer_evidence != contracts::evidence_digest(start_->record.trainer)) {
      return wrong("the started trainer's evidence");
    }
    if (result.steps != spec.steps) return wrong("all steps of the specification");
    if (spec.privacy && (result.epsilon_micro > spec.privacy->epsilon_micro ||
                         result.delta_pico != spec.privacy->delta_pico)) {
      return wrong("no more privacy spent than the contract claims");
    }
    if (!spec.privacy && (result.epsilon_micro != 0 || result.delta_pico != 0)) {
      return wrong("no privacy claimed where it is waived");
    }
    // Where a policy asks for an audit, it is there; and what it proves may not pass the claim.
    auto obligations = TRY(policy::obligations_from_json(decision_->record.obligations));
    const bool audited = obligations.audit && spec.privacy;
    if (result.audit.has_value() != audited)
      return wrong(audited ? "the audit that the obligations ask for"
                           : "no audit, which nobody asked for");
    if (result.audit && result.audit->epsilon_lower_micro > result.epsilon_micro)
      return wrong("an audited lower bound of epsilon that is not above the claimed epsilon");
    report_.result = result;
    report_.spec = spec;
    report_.datasets = contract_->record.datasets;
    report_.first_manifest = manifests_.front();
    return Done{};
  }

  const Receipt& receipt_;
  ReceiptReport& report_;
  std::string section_;

  contracts::Genesis genesis_;
  std::optional<ledger::NoteKey> key_;
  std::string checkpoint_note_;
  std::vector<std::pair<PublicKey, uint64_t>> keepers_;
  std::optional<Known<contracts::ContractSubmit>> contract_;
  ContractId id_;
  Digest spec_{};
  std::vector<contracts::Manifest> manifests_;
  std::optional<Known<contracts::ContractDecision>> decision_;
  std::optional<Known<contracts::JobStart>> start_;
};

}  // namespace

std::string receipt_text(const Receipt& receipt) {
  Json json = Json::Object{{"format", kFormat},
                           {"market", receipt.market},
                           {"genesis", to_json(receipt.genesis)},
                           {"keeper_boots", to_json(receipt.keeper_boots)},
                           {"datasets", to_json(receipt.datasets)},
                           {"contract", to_json(receipt.contract)},
                           {"decision", to_json(receipt.decision)},
                           {"start", to_json(receipt.start)},
                           {"result", to_json(receipt.result)}};
  return canonical(json) + "\n";
}

Result<Receipt> parse_receipt(std::string_view text) {
  if (text.empty() || text.back() != '\n') {
    return Error(Code::kMalformed, "receipt: expected canonical JSON and a newline");
  }
  text.remove_suffix(1);
  auto json = parse_canonical(text, kMaxReceiptBytes);
  if (!json) return std::move(json).take_error().within("receipt");
  auto fields = TRY(Fields::of(*json, "receipt"));
  auto format = TRY(fields.text("format"));
  if (format != kFormat) {
    return Error(Code::kMalformed, "receipt.format: expected " + std::string(kFormat));
  }
  Receipt receipt;
  receipt.market = TRY(fields.named<MarketId>("market"));
  receipt.genesis = TRY(one_from_json(fields, "genesis"));
  receipt.keeper_boots = TRY(all_from_json(fields, "keeper_boots"));
  receipt.datasets = TRY(all_from_json(fields, "datasets"));
  receipt.contract = TRY(one_from_json(fields, "contract"));
  receipt.decision = TRY(one_from_json(fields, "decision"));
  receipt.start = TRY(one_from_json(fields, "start"));
  receipt.result = TRY(one_from_json(fields, "result"));
  TRY(fields.done());
  return receipt;
}

Result<Receipt> make_receipt(const MarketView& view, const ContractId& contract_id) {
  const auto& state = view.state();
  const contracts::Contract* contract = state.contract(contract_id);
  if (!contract) return Error(Code::kNotFound, "no job " + to_hex(contract_id));
  if (contract->phase != contracts::Phase::kSettled || !contract->result) {
    return Error(Code::kConflict, std::string("the job is ") +
                                      contracts::phase_name(contract->phase) +
                                      "; a receipt exists once it is settled");
  }
  auto proven = [&](uint64_t seq) -> Result<ProvenLeaf> {
    auto proof = TRY(view.prove(seq));
    return ProvenLeaf{view.leaves()[seq], std::move(proof)};
  };
  auto author_of = [&](uint64_t seq) -> Result<PublicKey> {
    auto leaf = TRY(ledger::decode_leaf(view.leaves()[seq]));
    auto entry = TRY(ledger::SignedEntry::decode(leaf.envelope));
    auto authentic = TRY(ledger::authenticate(std::move(entry)));
    return authentic.author();
  };
  // The newest appraised boot of a key before `seq`.
  auto boot_before = [&](uint64_t seq) -> Result<uint64_t> {
    auto author = TRY(author_of(seq));
    for (uint64_t at = seq; at-- > 0;) {
      auto leaf = TRY(ledger::decode_leaf(view.leaves()[at]));
      auto entry = TRY(ledger::SignedEntry::decode(leaf.envelope));
      auto authentic = TRY(ledger::authenticate(std::move(entry)));
      bool boot = authentic.payload_type() == contracts::KeeperBoot::kType;
      if (boot && authentic.author() == author && state.voids().count(at) == 0) return at;
    }
    return Error(Code::kBroken, "no boot of the keeper that signed entry " + std::to_string(seq));
  };

  Receipt receipt;
  receipt.market = view.market();
  receipt.genesis = TRY(proven(0));
  std::set<uint64_t> boots;
  boots.insert(TRY(boot_before(contract->decision_seq)));
  boots.insert(TRY(boot_before(contract->start_seq)));
  for (uint64_t seq : boots) receipt.keeper_boots.push_back(TRY(proven(seq)));
  for (const auto& id : contract->submit.datasets) {
    const contracts::Dataset* dataset = state.dataset(id);
    if (!dataset) return Error(Code::kBroken, "a settled job whose dataset is not on the ledger");
    receipt.datasets.push_back(TRY(proven(dataset->seq)));
  }
  receipt.contract = TRY(proven(contract->submit_seq));
  receipt.decision = TRY(proven(contract->decision_seq));
  receipt.start = TRY(proven(contract->start_seq));
  receipt.result = TRY(proven(contract->result_seq));
  return receipt;
}

ReceiptReport verify_receipt(const Receipt& receipt, std::optional<MarketId> pinned) {
  ReceiptReport report;
  report.market = receipt.market;
  report.market_from_file = !pinned;
  Verification verification(receipt, report);
  auto verified = verification.run(pinned);
  report.ok = bool(verified);
  if (!verified) {
    report.section = verification.section();
    report.reason = verified.error().expected();
  }
  return report;
}

}  // namespace souk::market
