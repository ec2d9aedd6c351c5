// Tails of the binomial distribution, right to ten digits also where n is 2^53.
#pragma once

#include <cstdint>
#include <vector>

namespace souk::policy {

// Pr[Bin(n, q) >= k], 0 <= q <= 1. By Loader's deviance form (Fast and Accurate Computation of
// Binomial Probabilities, 2000), in which nothing large cancels.
double binomial_at_least(uint64_t n, double q, uint64_t k);

// Pr[Bin(n, q) = j] for j = 0 ... n, n <= 4096, 0 < q <= 1, each right to a relative 1e-15 where a
// double holds it whole. By the ratios of neighbours, outwards from the greatest.
std::vector<double> binomial_masses(uint32_t n, double q);

}  // namespace souk::policy
