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
  Follower out(*genesis, market, std::move(key), appraiser);
  if (!genesis->witness_policy.empty()) {
    auto quorum = TRY(ledger::WitnessQuorum::parse(genesis->witness_policy));
    if (quorum.needed()) out.quorum_ = std::move(quorum);
  }
  return out;
}

Result<std::optional<TimeMs>> Follower::witnessed(std::string_view note) const {
  if (!quorum_) return std::optional<TimeMs>();
  auto parsed = TRY(ledger::parse_note(note));
  auto seconds = TRY(quorum_->witnessed_at(parsed));
  if (seconds > static_cast<uint64_t>(kMaxJsonInteger / 1000)) {
    return Error(Code::kUnauthentic, "checkpoint: expected a time of this age from its witnesses");
  }
  return std::optional<TimeMs>(static_cast<TimeMs>(seconds) * 1000);
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
