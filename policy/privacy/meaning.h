// What (epsilon, delta) means to somebody whose record is in the data: limits on every
// attacker, whatever it knows and computes. Kairouz, Oh, Viswanath 2015 (1311.0776), section 2;
// Wasserman and Zhou 2010. 0 <= epsilon, 0 <= delta < 1, or CHECK.
#pragma once

namespace souk::policy {

// Of those whose record was used, how many can be recognised at most by a test that wrongly
// accuses a share `false_alarms` of those whose record was not.
double most_recognised(double epsilon, double delta, double false_alarms);

// How sure an attacker can become at most that a record was used, having held it likely with
// probability `prior` before: except with probability delta.
double most_certainty(double epsilon, double prior);

// The most that a fair-coin guess "in or out" can be right, over one half: 0 ... 1/2.
double most_advantage(double epsilon, double delta);

}  // namespace souk::policy
