#include "policy/privacy/quadrature.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace souk::policy {
namespace {

double normal_below(double z) {
  return 0.5 * std::erfc(-z / std::numbers::sqrt2);
}

}  // namespace

double mills(double z) {
  if (z < 4) {
    return 0.5 * std::erfc(z / std::numbers::sqrt2) * std::sqrt(2 * std::numbers::pi) *
           std::exp(0.5 * z * z);
  }
  if (z > 1e8) return 1 / z;
  // k terms leave about e^{-2 z sqrt(2 k)} of it.
  double value = z;
  for (int k = 12 + static_cast<int>(600 / (z * z)); k > 0; --k) value = z + k / value;
  return 1 / value;
}

double normal_density(double z) {
  return 0.3989422804014327 * std::exp(-0.5 * z * z);
}

// The rule of n nodes leaves width^(2n+1) (n!)^4 / ((2n+1) (2n)!^3) times a 2n-th derivative, which
// is He_2n(z) times the density: of four nodes width^8 He_8 / 1.78e9 of the mass, |He_8| <= 105 for
// |z| <= 1 and below z^8 from there on; of eight width^16 He_16 / 5.9e22, |He_16| <= 2.03e6 near
// zero. So below 2e-15 each, where the density changes by no more than the products below say.
// Where they end, the two tails differ by a factor of three and more or lie around zero.
double normal_between(double from, double to, double width) {
  const double middle = 0.5 * (from + to), half = 0.5 * width,
               far = std::max({1.0, std::abs(from), std::abs(to)});
  if (width * far < 0.2 && width < 0.11)
    return integral_around(kRule4, middle, half, normal_density);
  if (width * far < 2.5 && width < 1.2)
    return integral_around(kRule8, middle, half, normal_density);
  return to <= 0 ? normal_below(to) - normal_below(from) : normal_below(-from) - normal_below(-to);
}

}  // namespace souk::policy
