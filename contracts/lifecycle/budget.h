// Inside contracts/lifecycle: sums of privacy charges that stop at a ceiling.
// The same arithmetic as policy/privacy/budget.h; tests compare the two.
#pragma once

#include <algorithm>

#include "contracts/lifecycle/market_state.h"

namespace souk::contracts {

// Both in 0 ... kMaxJsonInteger, and so is the sum.
inline int64_t saturating_sum(int64_t a, int64_t b) {
  return std::min(a + b, kMaxJsonInteger);
}

inline Charges saturating_sum(const Charges& a, const Charges& b) {
  Charges out{};
  for (size_t order = 0; order < out.size(); ++order) {
    out[order] = saturating_sum(a[order], b[order]);
  }
  return out;
}

// Whether one order bears all that ran, all that may still run, and `charges`. A sum
// that has reached the ceiling fits nowhere.
inline bool has_room(const Charges& caps, const Spending& spent, const Charges& charges) {
  Charges sum = saturating_sum(saturating_sum(spent.committed, spent.reserved), charges);
  for (size_t order = 0; order < sum.size(); ++order) {
    if (sum[order] < kMaxJsonInteger && sum[order] <= caps[order]) return true;
  }
  return false;
}

}  // namespace souk::contracts
