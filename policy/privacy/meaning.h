// What (epsilon, delta) means to somebody whose record is in the data: limits on every
// attacker, whatever it knows and computes. Kairouz, Oh, Viswanath 2015 (1311.0776), section 2;
// Wasserman and Zhou 2010. 0 <= epsilon, 0 <= delta < 1, or CHECK.
#pragma once

namespace souk::policy {

// Of those whose record was used, how many can be recognised at most by a test that wrongly
// accuses a share `false_alarms` of those whose record was not.
double most_recognised(double epsilon, double delta, double false_alarms);

// How sure an attacker is that a record was used (or that it was not), having held it likely with
// probability `prior` before, once its odds have grown e^loss-fold. Where delta is 0 no loss is
// above epsilon; where it is not, odds may grow without limit: see rarely_passed.
double certainty_after(double loss, double prior);

// How likely the loss L of what is released, as an attacker sees it, passes epsilon + excess at
// most, excess > 0: delta / (1 - e^-excess), or 1. Since delta >= E[(1 - e^(epsilon - L))+] >=
// (1 - e^-excess) Pr[L > epsilon + excess] where the record was used; where it was not, a loss
// above c is e^c times rarer still. Randomised response at epsilon + excess comes as near as one
// likes. With excess 0 there is no such limit but 1: delta alone does not say how often epsilon is
// passed.
double rarely_passed(double delta, double excess);

// The most that a fair-coin guess "in or out" can be right, over one half: 0 ... 1/2.
double most_advantage(double epsilon, double delta);

}  // namespace souk::policy
