// Steps composed on a circle: losses wrap around after so many points of a grid. Two distributions
// travel at once, the upper one in the real part of a transform and the lower one in the imaginary.
// policy/SPEC.md, Privacy, Accountant.
#pragma once

#include <cstdint>
#include <vector>

#include "policy/privacy/fft.h"
#include "policy/privacy/step.h"

namespace souk::policy {

// A step as it is composed: its masses times e^{c loss}, over their moments at c, so that those of
// each side add up to 1. Upper and lower masses lie at the same places of the grid.
struct TiltedStep {
  std::vector<int64_t> at;
  std::vector<double> upper, lower;
};

// log_upper, log_lower: the logs of the moments at c (moment_of).
TiltedStep tilted(const StepLoss& step, double c, double log_upper, double log_lower);

class Circle {
 public:
  // Place 0 is loss 0, but for the offsets of the steps. `alone`: one kind of step, and no other.
  // The transform outlives the circle.
  Circle(const Transform& transform, bool alone);

  // Of what the powers of a spectrum are taken: as the transform has it, so that its error grows
  // with the count; or, of what survives the power, summed afresh; or this less 1, so that the
  // error grows with the root of the count.
  enum class Powers : uint8_t { kTransformed, kWhole, kLessOne };
  // `count` times that step.
  void multiply(const TiltedStep& step, double count, Powers powers);

  struct Masses {
    std::vector<double> upper, lower;  // not negative; from place 0 on
    double error = 0;                  // of all of either together, by roundings
  };
  // Ends it.
  Masses composed() &&;
  // Turns masses so that the one at `first` comes first.
  static void turn(std::vector<double>& masses, int64_t first);

 private:
  // Both spectra are Hermitian: half of each is kept, at the places p <= mirror(p).
  struct Half {
    std::vector<double> re, im;
  };
  template <class Visit>
  void for_each_pair(Visit&& visit) const;
  void put(size_t p, size_t m, double ur, double ui, double vr, double vi, double erring);

  const Transform& transform_;
  const size_t n_;
  const double units_;  // of an error of the transform
  // Of one kind of step alone the spectra go where its transform was.
  const size_t half_;
  std::vector<double> re_, im_;
  Half upper_, lower_;
  std::vector<double> error_;  // of the larger of the two
  double error_square_ = 0, size_square_ = 0;
};

}  // namespace souk::policy
