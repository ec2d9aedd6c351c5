// The log's side of the witness protocol: brings every checkpoint that is committed to
// the witnesses of a policy, and knows up to where a quorum of them stands behind the
// ledger. What a witness says that an honest log cannot explain stops it for good.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ledger/proof/quorum.h"
#include "ledger/sequencer/sequencer.h"
#include "ledger/witness/witness.h"

namespace souk::ledger {

// A checkpoint of the log with the cosignatures of a quorum.
struct Witnessed {
  uint64_t size = 0;
  std::string note;     // empty before the first
  CosignTime time = 0;  // WitnessQuorum::witnessed_at
};

// All functions may be called from any thread.
class WitnessFeeder {
 public:
  // One request to one witness: method, path below its prefix, body. Called from one thread
  // a witness. An error means no answer.
  using Exchange = std::function<Result<WitnessAnswer>(
      const std::string& method, const std::string& path, const std::string& body)>;
  struct Peer {
    WitnessQuorum::Member witness;
    Exchange exchange;
  };
  struct Hooks {
    // Keeps a JSON text as evidence and answers where.
    std::function<std::string(const std::string& json)> keep_evidence;
    // Keeps what `saved` gives back at the next start: the newest witnessed checkpoint, and
    // how far each witness had come. Losing it is safe.
    std::function<void(ByteView state)> keep_state;
  };

  // The sequencer must outlive it. `saved` may be empty; a damaged one is as good as empty.
  static std::unique_ptr<WitnessFeeder> start(Sequencer& ledger, WitnessQuorum quorum,
                                              std::vector<Peer> peers, Hooks hooks, ByteView saved);
  ~WitnessFeeder();
  WitnessFeeder(const WitnessFeeder&) = delete;
  WitnessFeeder& operator=(const WitnessFeeder&) = delete;

  // Entries were committed: go on with the newest checkpoint.
  void kick();

  // A witnessed checkpoint of at least this size, cosigned less than `max_age_ms` ago; a
  // negative age asks for none. kTryAgain when there is none within `wait_ms`, and says what
  // the witnesses said. kUnauthentic once halted.
  Result<Witnessed> wait_for(uint64_t size, int64_t max_age_ms, int64_t wait_ms);

  Witnessed newest() const;
  // kUnauthentic when a witness knows a larger tree or another one: this ledger was rolled
  // back or forked. Names the evidence.
  Status halted() const;
  // What each witness answered last that was no cosignature; "" when it has nothing to say.
  std::vector<std::string> troubles() const;

 private:
  struct Impl;
  explicit WitnessFeeder(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace souk::ledger
