// Who needs a blob: the ledger names it as a dataset's ciphertext, as weights that a contract
// starts from, as the payload of a model. An index by digest beside MarketState, which alone says
// what of it still holds; so nothing is taken back here, and no look-up reads the whole market.
#pragma once

#include <map>
#include <set>

#include "contracts/lifecycle/market_state.h"

namespace souk::market {

// What the first bytes of a blob say. No file is both: age begins with its name, weights
// (safetensors) with a length, and a model's payload with a nonce.
enum class BlobKind : uint8_t { kAgeFile, kOther };

class BlobUses {
 public:
  explicit BlobUses(const contracts::MarketState& state);
  // Another leaf of the ledger, also before it is folded, or one that has no effect.
  void add(ByteView leaf);

  // Whether a dataset that is not erased, and another provider's, has this ciphertext.
  bool offered_by_another(const contracts::MarketState& state, const Digest& ciphertext,
                          const PublicKey& author) const;
  // Whether anything on the ledger stands on this blob: a dataset that is not erased, the payload
  // of a model that is not destroyed, or a contract that may yet start from it or be checked
  // against it. Weights are no age file: a contract that names a dataset's ciphertext for its
  // weights keeps it from nobody. The payload of a destroyed model nobody needs; its weights only
  // contracts that started from the same bytes before it was made, and so are not its children.
  bool needed(const contracts::MarketState& state, const Digest& blob, BlobKind kind) const;

  // All that is needed, if it is of the right kind.
  static std::set<Digest> all_needed(const contracts::MarketState& state);

 private:
  template <class Id>
  using Index = std::map<Digest, std::set<Id>>;

  void add(const contracts::ContractSubmit& submit, const ContractId& id);
  void add(const contracts::JobResult& result);

  Index<DatasetId> ciphertexts_;
  Index<ContractId> initial_;
  Index<ContractId> payloads_;
};

}  // namespace souk::market
