// What an entry costs the fold of a market that has N datasets, accounts and contracts: how long
// the same entry takes to be authenticated (the limit), to be folded while somebody holds a copy of
// the state, and to be tried before it is recorded. Medians, in microseconds of CPU time.
//   market_bench [N...]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "ledger/entry/envelope.h"
#include "tests/contracts/market_world.h"

namespace souk::contracts {
namespace {

double cpu_us() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return 1e6 * static_cast<double>(now.tv_sec) + 1e-3 * static_cast<double>(now.tv_nsec);
}

double median_of(int repetitions, const std::function<void()>& work) {
  std::vector<double> us;
  for (int i = 0; i < repetitions; ++i) {
    double start = cpu_us();
    work();
    us.push_back(cpu_us() - start);
  }
  std::sort(us.begin(), us.end());
  return us[us.size() / 2];
}

void run(int datasets) {
  World world;
  std::vector<ledger::RecordedEntry> offers;
  for (int i = 0; i < datasets; ++i) {
    const std::string name = std::to_string(i);
    DatasetId id = world.publish("provider " + name, name, 0);
    ContractId order = world.order("consumer " + name, {id}, 0);
    if (!world.record(world.deny(order), "keeper").empty()) std::abort();
  }
  constexpr int kTimes = 200;
  MarketState state = world.state();
  for (int i = 0; i < kTimes; ++i) {
    const std::string name = "new " + std::to_string(i);
    world.append(sign_record(world.offer(name, 0), key_named(name), world.market(), {}));
  }
  auto entries = world.confirm();
  size_t at = 0;
  const auto& bytes = world.leaves();
  double limit = median_of(kTimes, [&] {
    const Bytes& leaf = bytes[bytes.size() - 1 - at++ % kTimes];
    auto entry =
        ledger::authenticate(*ledger::SignedEntry::decode(ledger::decode_leaf(leaf)->envelope));
    if (!entry) std::abort();
  });
  at = 0;
  double tried = median_of(kTimes, [&] {
    if (would_be_void(state, entries[at++].entry(), entries[0].time())) std::abort();
  });
  at = 0;
  MarketState held = state;
  double folded = median_of(kTimes, [&] {
    held = state;
    state = apply(std::move(state), entries[at++]);
  });
  std::printf(
      "%9d datasets and contracts: authenticated %7.1f us   tried %9.1f us, %8.2f times   folded "
      "beside a copy %9.1f us, %8.2f times\n",
      datasets, limit, tried, tried / limit, folded, folded / limit);
}

}  // namespace
}  // namespace souk::contracts

int main(int argc, char** argv) {
  std::vector<int> sizes;
  for (int i = 1; i < argc; ++i) sizes.push_back(std::atoi(argv[i]));
  if (sizes.empty()) sizes = {10, 1'000, 10'000};
  for (int size : sizes) souk::contracts::run(size);
}
