// The receipt of one job: one file that proves, offline, that this model came out
// of this contract on these datasets by an appraised trainer, as the ledger
// records it. Format: market_api/SPEC.md, Receipt.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "contracts/records/records.h"
#include "market_api/client/market_view.h"

namespace souk::market {

// One ledger entry with its proof. Nothing is verified.
struct ProvenLeaf {
  Bytes leaf;
  std::string proof;  // C2SP tlog-proof
  friend bool operator==(const ProvenLeaf&, const ProvenLeaf&) = default;
};

struct Receipt {
  MarketId market;
  ProvenLeaf genesis;
  std::vector<ProvenLeaf> keeper_boots;  // of the keepers that signed decision and start
  std::vector<ProvenLeaf> datasets;      // the offer of each input, in the contract's order
  ProvenLeaf contract, decision, start, result;
  friend bool operator==(const Receipt&, const Receipt&) = default;
};

inline constexpr size_t kMaxReceiptBytes = size_t{64} << 20;

// Canonical JSON and a newline.
std::string receipt_text(const Receipt& receipt);
Result<Receipt> parse_receipt(std::string_view text);

// From the verified ledger. kConflict when the contract has no result yet.
Result<Receipt> make_receipt(const MarketView& view, const ContractId& contract);

struct ReceiptReport {
  bool ok = false;
  std::string section;  // the first that fails: "market", "genesis", "keeper_boots", ...
  std::string reason;
  bool market_from_file = false;  // nobody said which market: its id was believed
  MarketId market;

  // Filled when ok.
  ContractId contract;
  PublicKey consumer;
  contracts::JobResult result;
  std::optional<contracts::TrainingSpec> spec;        // of the contract
  std::vector<DatasetId> datasets;                    // of the contract, in its order
  std::optional<contracts::Manifest> first_manifest;  // of the first of them
  contracts::Minor price = 0;
  std::string currency;
  std::vector<std::string> inputs;  // "provider · dataset", one per dataset
  uint64_t checkpoint_size = 0;
  Digest checkpoint_root{};
  std::string evidence_kind;
};

// Every entry is in the ledger under one checkpoint signed by the key that genesis
// names, genesis is the market's, keeper and trainer evidence appraises, and
// the records agree with each other, and none is at or after the contract's
// deadline. Whether the job was aborted before its result was recorded, only the whole
// ledger tells. That the other entries took effect is the word
// of the appraised keeper, who signed the start.
ReceiptReport verify_receipt(const Receipt& receipt, std::optional<MarketId> pinned);

}  // namespace souk::market
