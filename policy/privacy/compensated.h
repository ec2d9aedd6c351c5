// Kahan's compensated sums, side by side: n terms are added up to within (2 + n 2^-53) 2^-53 of the
// sum of their absolute values (Higham, Accuracy and Stability, 2nd ed., (4.8)).
#pragma once

#include <cstddef>

namespace souk::policy {

template <size_t kMany>
struct CompensatedSums {
  double value[kMany] = {}, rest[kMany] = {};
  void add(const double (&terms)[kMany]) {
    for (size_t j = 0; j < kMany; ++j) {
      const double y = terms[j] - rest[j], t = value[j] + y;
      rest[j] = (t - value[j]) - y;
      value[j] = t;
    }
  }
};

}  // namespace souk::policy
