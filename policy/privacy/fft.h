// The discrete Fourier transform of a power-of-two length, real and imaginary parts apart.
// Debian's FFTW is under the GPL and its kissfft is single precision, hence our own.
#pragma once

#include <cstddef>
#include <vector>

namespace souk::policy {

// forward(): X[k] = sum x[j] e^{-2 pi i jk/n}, left in bit-reversed order. inverse() takes
// that order back to x, times n. Each value of either is right to error_units(n) * 2^-53 *
// (sum of the absolute values of its input), and their Euclidean norm to error_units(n) *
// 2^-53 of itself (Higham, Accuracy and Stability, 2nd ed., Theorem 24.2).
class Transform {
 public:
  explicit Transform(size_t n);  // a power of two, 2 ... 2^26
  size_t size() const { return n_; }
  void forward(double* re, double* im) const { down(re, im, n_); }
  void inverse(double* re, double* im) const { up(re, im, n_); }

  // e^{-2 pi i k / n}, each part right to 3 * 2^-53, up to k = n / 4 relatively. k < n.
  void root(size_t k, double* re, double* im) const {
    const size_t half = n_ / 2;
    const double sign = k < half ? 1 : -1;
    const size_t at = half + (k < half ? k : k - half);
    *re = sign * cos_[at];
    *im = -sign * sin_[at];
  }

  // Where the order of forward() keeps X[-k], given where it keeps X[k].
  static size_t mirror(size_t place);
  // Which X the order of forward() keeps at a place.
  size_t frequency(size_t place) const;
  // A butterfly with a rounded root adds at most 8 units to each of log2(n) levels.
  static double error_units(size_t n);

 private:
  void down(double* re, double* im, size_t n) const;
  void up(double* re, double* im, size_t n) const;
  size_t n_;
  std::vector<double> cos_, sin_;  // roots of length m from m / 2 on
};

}  // namespace souk::policy
