// The host's line to the keeper: starts the process, feeds it the ledger, carries
// questions and keeps its sealed state. What it cannot do is decide.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "ledger/sequencer/sequencer.h"
#include "ledger/witness/feeder.h"
#include "market_api/verbs/turns.h"
#include "trainer/host/process.h"

namespace souk::market {

class KeeperLink {
 public:
  struct Config {
    std::string program;       // souk-enclave
    std::string platform_key;  // file of the simulated platform's seed
    std::string sealed;        // file for the keeper's sealed state
  };
  // With `witnesses` (which must outlive it) the keeper is shown witnessed checkpoints only.
  KeeperLink(Config config, ledger::Sequencer& ledger, ledger::WitnessFeeder* witnesses = nullptr)
      : config_(std::move(config)), ledger_(ledger), witnesses_(witnesses) {}

  // Makes sure a keeper runs, has followed the ledger to its end and has its boot
  // entry recorded; then asks. kTryAgain when the keeper died: the next call starts a
  // new one. kUnauthentic, and the keeper is stopped, once a witness has caught a rollback.
  // One request at a time, by rank: kTryAgain also where too many of this rank wait.
  Result<trainer::Frame> ask(const trainer::Frame& request, Rank rank = Rank::kLedger);
  // Asks for an envelope and has it recorded; answers its seq. Where `append` refuses it, the
  // keeper has signed for nothing, and may be asked again. No other envelope of the keeper comes
  // between.
  using Append = std::function<Result<ledger::Receipt>(ledger::AuthenticEntry)>;
  Result<uint64_t> record(const trainer::Frame& request, const Append& append);
  // The same, recorded whatever the ledger says by then.
  Result<uint64_t> record(const trainer::Frame& request);
  // Ends the keeper's process.
  void stop();

 private:
  // What follows is for whoever has the turn.
  Status ensure();
  Status start();
  Status feed();
  Status feed_once();
  Result<std::string> checkpoint() const;
  Result<trainer::Frame> talk(const trainer::Frame& request);
  Result<uint64_t> keep(const trainer::Frame& answer, const Append& append);
  Status keep_sealed(Fields& answer);
  Result<std::string> restore_sealed();

  const Config config_;
  ledger::Sequencer& ledger_;
  ledger::WitnessFeeder* const witnesses_;
  const Append appending_ = [this](ledger::AuthenticEntry entry) {
    return ledger_.append(std::move(entry));
  };
  Turns turns_;
  // Of whoever has the turn.
  std::unique_ptr<trainer::EnclaveProcess> process_;
  uint64_t fed_ = 0;
  std::string fed_note_;
  bool wants_boot_ = false;  // the keeper has erased something and takes another key
  std::chrono::steady_clock::time_point next_key_;  // not before
};

}  // namespace souk::market
