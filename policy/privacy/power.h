// High powers of a complex number that is not known exactly: a spectrum raised to a count of
// steps, with all that can be wrong with it.
#pragma once

namespace souk::policy {

// A power of the spectrum below this is dropped.
inline constexpr double kNegligible = 1e-40;
// Powers up to this are products; higher ones take a logarithm and a sine.
inline constexpr double kMostMultiplied = 256;

// z^count; how large it is at most and how wrong, where z is wrong by `error`.
struct Power {
  double re = 0, im = 0, most = 0, error = 0;
};
// A z below `least` has a negligible power.
Power power(double re, double im, double count, double error, double least);

// (1 + z)^count, where z is wrong by `error`: of a high power only what is near 1 is left, and
// there nothing is lost.
Power power_near_one(double re, double im, double count, double error, double least);

}  // namespace souk::policy
