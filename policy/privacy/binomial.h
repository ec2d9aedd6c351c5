// Tails of the binomial distribution, right to ten digits also where n is 2^53.
#pragma once

#include <cstdint>

namespace souk::policy {

// Pr[Bin(n, q) >= k], 0 <= q <= 1. By Loader's deviance form (Fast and Accurate Computation of
// Binomial Probabilities, 2000), in which nothing large cancels.
double binomial_at_least(uint64_t n, double q, uint64_t k);

}  // namespace souk::policy
