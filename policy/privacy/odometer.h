// What has been spent of a budget, in epsilon, for people. Admission never looks here: it adds
// up charges (budget.h). policy/SPEC.md, Privacy, Odometer.
#pragma once

#include <span>

#include "policy/privacy/budget.h"

namespace souk::policy {

struct Odometer {
  // Exact composition of what ran, if all of it had been chosen before the first ran.
  double exact = 0;
  // What the filter certifies for what was let in, whoever chose it when: the least over the
  // orders of charge + log((a-1)/a) - (log(delta/8) + log a)/(a-1). Infinite if it saturated.
  double certified = 0;
};

// Odometer::certified alone, without composing anything: 0 for no charges. delta in (0, 1).
double certified_epsilon(const Charges& charges, double delta);

// `runs`: the events behind `charges`, which are their sum. kMalformed: delta out of range.
Result<Odometer> odometer(std::span<const Event> runs, const Charges& charges, int64_t delta_pico);

}  // namespace souk::policy
