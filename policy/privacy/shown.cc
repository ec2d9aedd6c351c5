#include "policy/privacy/shown.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace souk::policy {
namespace {

// What one unit of the last of so many digits of a positive number is worth.
double last_place(double value, int significant) {
  return std::pow(10, std::floor(std::log10(value)) + 1 - significant);
}

}  // namespace

std::string as_it_is(double value) {
  char text[40];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

std::string digits(double value, int significant) {
  char text[40];
  std::snprintf(text, sizeof text, "%.*g", significant, value);
  return text;
}

std::string digits_up(double value, int significant) {
  std::string text = digits(value, significant);
  const double shown = std::strtod(text.c_str(), nullptr);
  if (!(shown < value * (1 - 1e-14))) return text;
  return digits(shown + last_place(value, significant), significant);
}

std::string digits_down(double value, int significant) {
  std::string text = digits(value, significant);
  const double shown = std::strtod(text.c_str(), nullptr);
  if (!(shown > value * (1 + 1e-14))) return text;
  return digits(shown - last_place(value, significant), significant);
}

}  // namespace souk::policy
