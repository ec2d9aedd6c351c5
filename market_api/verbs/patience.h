// When something that failed may be tried again: at once, then half a second later, then twice
// as late each time, up to a minute. One thread.
#pragma once

#include <algorithm>
#include <chrono>
#include <map>

#include "ledger/base/named.h"

namespace souk::market {

class Patience {
 public:
  int failures(const ContractId& id) const {
    auto it = waits_.find(id);
    return it == waits_.end() ? 0 : it->second.failures;
  }
  bool due(const ContractId& id) const {
    auto it = waits_.find(id);
    return it == waits_.end() || Steady::now() >= it->second.until;
  }
  void failed(const ContractId& id) {
    Wait& wait = waits_[id];
    int doublings = std::min(wait.failures++, 8) - 1;
    auto delay = std::chrono::milliseconds(doublings < 0 ? 0 : 500 << doublings);
    wait.until = Steady::now() + std::min(delay, kLongest);
  }
  void succeeded(const ContractId& id) { waits_.erase(id); }

 private:
  using Steady = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kLongest{60'000};
  struct Wait {
    int failures = 0;
    Steady::time_point until;
  };
  std::map<ContractId, Wait> waits_;
};

}  // namespace souk::market
