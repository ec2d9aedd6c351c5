#include "policy/privacy/power.h"

#include <algorithm>
#include <cmath>

namespace souk::policy {
namespace {

constexpr double kUnit = 0x1p-53;

}  // namespace

Power power(double re, double im, double count, double error, double least) {
  const double size = std::sqrt(re * re + im * im);
  if (count == 1) return {re, im, size + error, error + 4 * kUnit * size};
  if (count <= kMostMultiplied && count == std::floor(count)) {
    // By squares: fewer than `count` products, each right to 4 units; of the powers themselves too.
    Power out{1, 0, 1, 0};
    const double most = size + error;
    double x = re, y = im, w = most;
    for (auto left = static_cast<unsigned>(count);;) {
      if (left & 1) {
        const double r = out.re * x - out.im * y;
        out.im = out.re * y + out.im * x, out.re = r, out.most *= w;
      }
      if ((left >>= 1) == 0) break;
      const double r = x * x - y * y;
      y = 2 * x * y, x = r, w *= w;
    }
    if (out.most < kNegligible) return {0, 0, 2 * kNegligible, 2 * kNegligible};
    out.most *= 1 + count * 8 * kUnit;
    // (size + error)^count less size^count is at most count * error of the (count - 1)th power.
    out.error = out.most * (count * error / most + count * 16 * kUnit);
    return out;
  }
  auto raised = [&](double value) { return value > 0 ? std::exp(count * std::log(value)) : 0; };
  Power out;
  if (size + error < least) return {0, 0, kNegligible, kNegligible};
  out.most = raised(size + error);
  double length = raised(size), angle = count * std::atan2(im, re);
  out.re = length * std::cos(angle);
  out.im = length * std::sin(angle);
  out.error =
      error < 1e-3 * size ? length * std::expm1(count * std::log1p(error / size)) : out.most;
  out.error += out.most * count * 16 * kUnit;  // logarithm, arc tangent and the rest
  return out;
}

Power power_near_one(double re, double im, double count, double error, double least) {
  const double rise = 2 * re + re * re + im * im;  // of the size squared
  if (!(rise > -0.5)) return power(1 + re, im, count, error + 2 * kUnit, least);
  const double log_size = 0.5 * std::log1p(rise), turn = std::atan2(im, 1 + re);
  const double length = std::exp(count * log_size), angle = count * turn;
  Power out{length * std::cos(angle), length * std::sin(angle), 0, 0};
  // Of the logarithm: z's own error, what `rise` cancels, and roundings.
  const double off =
      count *
      (2 * error +
       8 * kUnit * (std::abs(re) + re * re + im * im + std::abs(log_size) + std::abs(turn)));
  out.error = length * (std::expm1(std::min(off, 700.0)) + 16 * kUnit);
  out.most = length + out.error;
  return out;
}

}  // namespace souk::policy
