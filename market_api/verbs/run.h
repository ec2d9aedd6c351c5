// What the threads that look after one run know of it.
#pragma once

#include <atomic>
#include <chrono>
#include <optional>

#include "market_api/verbs/market.h"

namespace souk::market {

inline constexpr int kLookMs = 200;  // how often it is looked whether a run goes on

struct Market::Run {
  using Steady = std::chrono::steady_clock;
  ContractId id;
  Steady::time_point begun;                          // its first process here
  std::optional<Steady::time_point> withdrawn = {};  // Owned by the guard.
  std::atomic<bool> trains = false;                  // it has all its data
};

}  // namespace souk::market
