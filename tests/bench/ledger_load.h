// Ledgers to measure, and what clients do to them.
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>

#include "ledger/sequencer/sequencer.h"
#include "tests/bench/ledger_limits.h"
#include "tests/ledger/ledger_fixture.h"

namespace souk::ledger::bench {

// One file in a folder of its own, gone with it.
struct Ledger {
  std::filesystem::path folder;
  SystemClock clock;
  std::unique_ptr<Sequencer> sequencer;

  Ledger(const Options& options, const std::string& name);
  ~Ledger();
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;
  std::string path() const { return (folder / "ledger.db").string(); }
  void start(LedgerStore store);
};

// What a client sends: enough and never twice.
class Entries {
 public:
  explicit Entries(uint64_t first) : next_(first) {}
  AuthenticEntry take() { return test::entry(next_++); }
  Bytes take_envelope() { return test::envelope_of(test::key_of(2), test::market(), next_++); }

 private:
  std::atomic<uint64_t> next_;
};

// Durable appends a second of so many clients, each waiting for its answer.
double append_rate(Ledger& ledger, Entries& entries, double seconds, unsigned clients);

struct Took {
  double wall = 0;       // seconds
  double processor = 0;  // of all threads
};

// Entries that are verified already, as many as the queue takes.
Took saturated_rate(Ledger& ledger, Entries& entries, uint64_t count);
// The same from the bytes that come over the network: read and verified by all cores.
Took signed_rate(Ledger& ledger, Entries& entries, uint64_t count);

// A ledger file of `count` entries without the time that real signatures take: all but
// the first bear a signature that does not hold.
void make_long_file(const std::string& path, uint64_t count);

// Milliseconds from nothing to the first verified proof; the best of several, because
// others' work is not ours.
double cold_start_ms(const std::string& path, uint64_t seq);

// Of the file and its write-ahead log.
uint64_t bytes_of(const std::string& path);

}  // namespace souk::ledger::bench
