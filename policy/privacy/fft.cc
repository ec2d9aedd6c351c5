#include "policy/privacy/fft.h"

#include <bit>
#include <cmath>
#include <numbers>

#include "ledger/base/result.h"

namespace souk::policy {

Transform::Transform(size_t n) : n_(n), cos_(n), sin_(n) {
  CHECK(std::has_single_bit(n) && n >= 2 && n <= (size_t{1} << 26));
  const size_t half = n / 2;
  for (size_t k = 0; k < half; ++k) {
    double angle = 2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(n);
    cos_[half + k] = std::cos(angle);
    sin_[half + k] = std::sin(angle);
  }
  for (size_t m = half / 2; m >= 1; m /= 2) {
    for (size_t k = 0; k < m; ++k) {
      cos_[m + k] = cos_[2 * m + 2 * k];
      sin_[m + k] = sin_[2 * m + 2 * k];
    }
  }
}

// Decimation in frequency, depth first, so that small pieces stay in the cache.
void Transform::down(double* re, double* im, size_t n) const {
  const size_t half = n / 2;
  const double *c = cos_.data() + half, *s = sin_.data() + half;
  double *re2 = re + half, *im2 = im + half;
  for (size_t k = 0; k < half; ++k) {
    double ar = re[k], ai = im[k], br = re2[k], bi = im2[k];
    re[k] = ar + br;
    im[k] = ai + bi;
    double dr = ar - br, di = ai - bi;
    re2[k] = dr * c[k] + di * s[k];
    im2[k] = di * c[k] - dr * s[k];
  }
  if (half == 1) return;
  down(re, im, half);
  down(re2, im2, half);
}

void Transform::up(double* re, double* im, size_t n) const {
  const size_t half = n / 2;
  double *re2 = re + half, *im2 = im + half;
  if (half > 1) {
    up(re, im, half);
    up(re2, im2, half);
  }
  const double *c = cos_.data() + half, *s = sin_.data() + half;
  for (size_t k = 0; k < half; ++k) {
    double br = re2[k] * c[k] - im2[k] * s[k], bi = im2[k] * c[k] + re2[k] * s[k];
    double ar = re[k], ai = im[k];
    re[k] = ar + br;
    im[k] = ai + bi;
    re2[k] = ar - br;
    im2[k] = ai - bi;
  }
}

size_t Transform::frequency(size_t place) const {
  size_t out = 0;
  for (size_t bit = 1; bit < n_; bit <<= 1, place >>= 1) out = (out << 1) | (place & 1);
  return out;
}

size_t Transform::mirror(size_t place) {
  if (place < 2) return place;
  // Within each block that starts at a power of two, the order is reversed.
  size_t block = std::bit_floor(place);
  return 3 * block - 1 - place;
}

double Transform::error_units(size_t n) {
  return 8.0 * (static_cast<double>(std::bit_width(n)) + 1);
}

}  // namespace souk::policy
