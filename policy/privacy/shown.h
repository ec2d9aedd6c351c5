// Proven bounds as people read them: rounded away from what they bound.
#pragma once

#include <string>

namespace souk::policy {

// All of it: the shortest that reads as the same number again. What a bound was asked for is shown
// so, beside the bound: another number would make it false.
std::string as_it_is(double value);
// To the nearest, as %g does.
std::string digits(double value, int significant = 6);
// A number that something is at most, in so many significant digits: rounded up, but for the last
// roundings of a double.
std::string digits_up(double value, int significant = 4);
// One that something is at least: rounded down.
std::string digits_down(double value, int significant = 4);

}  // namespace souk::policy
