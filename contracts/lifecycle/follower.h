// Follows one ledger from its genesis: bytes in, market state out. Keeper,
// trainer, client and auditor use this and nothing else to learn what is so.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "contracts/lifecycle/market_state.h"
#include "ledger/proof/quorum.h"
#include "ledger/proof/recorded.h"

namespace souk::contracts {

class Follower {
 public:
  // `genesis_leaf` is leaf 0. kUnauthentic when it is not the genesis of
  // `expected`, kMalformed when it is no genesis at all, or its witness policy is none.
  static Result<Follower> pin(ByteView genesis_leaf, std::optional<MarketId> expected,
                              Appraiser appraiser);

  // The next leaf, from seq 0 on. Errors as ledger::ChainReader::add.
  Status add(ByteView leaf_bytes);
  // Folds the added leaves into state(), if `note` is the log's checkpoint of
  // exactly them; else drops them. Answers the seqs folded.
  Result<std::vector<uint64_t>> confirm(std::string_view note);
  void discard_pending() { reader_.discard_pending(); }

  // Whether the quorum that genesis asks for has cosigned this note, whatever else it is:
  // the quorum's time, nullopt when genesis asks for none, kUnauthentic when it has not.
  Result<std::optional<TimeMs>> witnessed(std::string_view note) const;
  // The witnesses of the market; nullopt when it has none.
  const std::optional<ledger::WitnessQuorum>& quorum() const { return quorum_; }

  const MarketState& state() const { return state_; }
  const Genesis& genesis() const { return genesis_; }
  const MarketId& market() const { return market_; }
  const ledger::NoteKey& ledger_key() const { return key_; }

  // Of all that was added, pending included.
  uint64_t size() const { return reader_.size(); }
  Digest root() const { return reader_.root(); }
  TimeMs last_time() const { return reader_.last_time(); }
  uint64_t confirmed_size() const { return reader_.confirmed_size(); }
  Digest confirmed_root() const { return reader_.confirmed_root(); }

 private:
  Follower(Genesis genesis, MarketId market, ledger::NoteKey key, Appraiser appraiser)
      : genesis_(std::move(genesis)),
        market_(market),
        key_(std::move(key)),
        reader_(ledger::ChainReader::start(genesis_.origin, key_)),
        state_(appraiser) {}

  Genesis genesis_;
  MarketId market_;
  ledger::NoteKey key_;
  std::optional<ledger::WitnessQuorum> quorum_;
  ledger::ChainReader reader_;
  MarketState state_;
};

}  // namespace souk::contracts
