// The market as this person has verified it: every leaf from genesis on, chained,
// signed, and under a checkpoint of the pinned ledger key. What the host says
// about the market is not asked for. Where a tlog-policy is pinned, its quorum of witnesses
// must have cosigned the checkpoint too: then host and log together cannot show two people
// two ledgers.
//
// Kept under IDENTITY/ledger, so that a ledger that was once seen cannot be
// exchanged later:
//   leaves      length (4 bytes, big endian) | leaf, one after another
//   checkpoint  the highest checkpoint seen, a signed note; leaves past it are ignored
//   evidence-*  two checkpoints that one ledger cannot both have signed
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "contracts/lifecycle/follower.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/proof/quorum.h"
#include "market_api/client/market_line.h"

namespace souk::market {

class MarketView {
 public:
  // Nothing known but whom to believe; `directory` empty: keep nothing on disk. With a
  // quorum no checkpoint is believed that it has not cosigned: the line must ask for those.
  static Result<MarketView> open(const MarketId& market, std::string directory,
                                 std::optional<ledger::WitnessQuorum> quorum = std::nullopt);

  // Reads the ledger up to the host's newest checkpoint. kUnauthentic: what the host
  // shows is not the ledger seen before ("rolled back or forked", the message
  // names the evidence file), not this market's, or not signed. The view is
  // unchanged then.
  Status sync(MarketLine& line);

  // Whether the ledger here holds what another copy of it had when it saw this checkpoint; one that
  // the log did not sign says nothing. kUnauthentic, with the evidence kept, as for sync().
  Status agrees_with(MarketLine& line, const std::string& seen);

  const MarketId& market() const { return market_; }
  bool empty() const { return !follower_; }
  // These CHECK that there is something: after a good sync() there is.
  const contracts::MarketState& state() const;
  const contracts::Follower& follower() const;
  const std::vector<Bytes>& leaves() const { return leaves_; }
  const std::string& checkpoint() const { return checkpoint_; }

  // C2SP tlog-proof of an entry under checkpoint(). kNotFound past the end.
  Result<std::string> prove(uint64_t seq) const;

  // What would have no effect on the ledger as it is known here is not sent: kConflict with the
  // code of why.
  Status foresee(const ledger::Envelope& envelope) const;
  // Records it and reads the ledger up to it. An error after the market took it says that it is
  // recorded, and where.
  Result<Recorded> record(MarketLine& line, const ledger::Envelope& envelope);

 private:
  MarketView(const MarketId& market, std::string directory,
             std::optional<ledger::WitnessQuorum> quorum)
      : market_(market), directory_(std::move(directory)), quorum_(std::move(quorum)) {}
  Status load();
  Status fetch(MarketLine& line);
  Status take(const ServedPage& page);
  Status save(size_t known);
  Result<ledger::Checkpoint> believed(const std::string& note, const ledger::NoteKey& key) const;
  Error caught(const std::string& served, const std::string& why) const;
  Error caught(const std::string& seen, const std::string& served, const std::string& why) const;

  MarketId market_;
  std::string directory_;
  std::optional<ledger::WitnessQuorum> quorum_;
  std::optional<contracts::Follower> follower_;
  std::vector<Bytes> leaves_;  // those the follower has confirmed, and those pending
  std::string checkpoint_;
};

}  // namespace souk::market
