#include "contracts/lifecycle/follower.h"

#include "ledger/entry/leaf.h"

namespace souk::contracts {

Result<Follower> Follower::pin(ByteView genesis_leaf, std::optional<MarketId> expected,
                               Appraiser appraiser) {
  auto leaf = TRY(ledger::decode_leaf(genesis_leaf));
  auto signed_entry = TRY(ledger::SignedEntry::decode(leaf.envelope));
  auto entry = TRY(ledger::authenticate(std::move(signed_entry)));
  auto record = TRY(record_of(entry));
  auto* genesis = std::get_if<Genesis>(&record);
  if (leaf.seq != 0 || !genesis) {
    return Error(Code::kMalformed, "expected the genesis entry at seq 0");
  }
  MarketId market = market_id(entry.payload());
  if (expected && *expected != market) {
    return Error(Code::kUnauthentic, "expected the genesis of market " + to_hex(*expected) +
                                         ", this is " + to_hex(market));
  }
  auto key = TRY(ledger::NoteKey::parse(genesis->ledger_key));
  if (key.public_key() != entry.author() || key.name() != genesis->origin) {
    return Error(Code::kUnauthentic, "expected genesis signed by the ledger key it names");
  }
  return Follower(*genesis, market, std::move(key), appraiser);
}

Status Follower::add(ByteView leaf_bytes) {
  return reader_.add(leaf_bytes);
}

Result<std::vector<uint64_t>> Follower::confirm(std::string_view note) {
  auto recorded = reader_.confirm(note);
  if (!recorded) {
    reader_.discard_pending();
    return std::move(recorded).take_error();
  }
  std::vector<uint64_t> folded;
  for (const auto& entry : *recorded) {
    state_ = apply(std::move(state_), entry);
    folded.push_back(entry.seq());
  }
  return folded;
}

}  // namespace souk::contracts
