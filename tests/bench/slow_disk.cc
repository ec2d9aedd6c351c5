#include "tests/bench/slow_disk.h"

#include <dlfcn.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace souk::ledger::bench {
namespace {

std::atomic<int64_t> at_least_ns = 0;

int lasting(const char* name, int fd) {
  using Sync = int (*)(int);
  auto start = std::chrono::steady_clock::now();
  auto real = reinterpret_cast<Sync>(::dlsym(RTLD_NEXT, name));
  int answer = real(fd);
  int64_t least = at_least_ns;
  if (least > 0 && fd >= 0) {
    std::this_thread::sleep_until(start + std::chrono::nanoseconds(least));
  }
  return answer;
}

}  // namespace

void make_syncs_last(double ms) {
  at_least_ns = static_cast<int64_t>(ms * 1e6);
}

}  // namespace souk::ledger::bench

// In place of the C library's, for SQLite too.
extern "C" int fdatasync(int fd) {
  return souk::ledger::bench::lasting("fdatasync", fd);
}
extern "C" int fsync(int fd) {
  return souk::ledger::bench::lasting("fsync", fd);
}
