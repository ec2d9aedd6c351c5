// What this machine can do by itself: the limits that the ledger is measured against.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace souk::ledger::bench {

using Steady = std::chrono::steady_clock;

struct Options {
  bool json = false;
  std::string dir;
  double seconds = 3;
  uint64_t entries = 50'000;
  std::string only;
  std::string keep;  // a folder where the long ledger is, or is made, and stays
};

double since(Steady::time_point start);

// Calls of `work` a second, for about `seconds`.
template <class Work>
double rate(double seconds, uint64_t step, Work work) {
  auto start = Steady::now();
  uint64_t done = 0;
  while (since(start) < seconds) {
    for (uint64_t i = 0; i < step; ++i) work(done + i);
    done += step;
  }
  return static_cast<double>(done) / since(start);
}

// Of this process, all threads: what a busy machine gives to others is not in it.
double processor_seconds();

// The faster of two ways: onto the end of a file, where each sync also records its new
// length, and over blocks that are there already. A limit that can be passed is none.
double fdatasync_rate(const Options& options);

// In a second of all cores at once, and in a second of one core's time.
struct Rate {
  double all = 0;
  double by_processor = 0;
};
Rate mean(const Rate& a, const Rate& b);

// libsodium's verifications of a message of 400 bytes.
Rate verify_rate(double seconds);

// SHA-256 of 65 bytes, by one core.
double node_hash_limit(double seconds);

// Leaves of so many bytes into a bare SQLite table, `batch` of them a transaction.
Rate sqlite_rate(const Options& options, size_t leaf_bytes, uint64_t batch);

}  // namespace souk::ledger::bench
