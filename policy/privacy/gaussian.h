// Pairs of Gaussian mixtures, and what is asked of them: losses, where these are, masses between.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "policy/privacy/mixture.h"

namespace souk::policy {

inline constexpr double kFarthest = 38;  // deviations: beyond, a normal tail is below 1e-315

// Mass that a distribution pair puts on some outcomes, and how far off either may be, relatively,
// where that is known.
struct Masses {
  double p = 0, q = 0, error = 0;
};

// Part of a pair: Gaussian mixtures of one deviation on a line on which log dP/dQ rises.
// Means of P are >= 0, means of Q <= 0; weights of each add up to 1.
class GaussianPart {
 public:
  struct Term {
    double weight, mean;
  };
  GaussianPart(double sigma, std::vector<Term> p, std::vector<Term> q);

  double sigma() const { return sigma_; }
  size_t terms() const { return p_.size() + q_.size(); }
  // Whether one of the two has many terms, and pays for itself wherever it is evaluated.
  bool many() const { return many_p_ || many_q_; }
  double loss(double x) const;
  // Where the loss reaches `value`: -infinity below its range, +infinity above.
  // `near` starts the search, best from the place that was found before.
  double where_loss_is(double value, Mixture::Place& near) const;
  double where_loss_is(double value) const {
    Mixture::Place near;
    return where_loss_is(value, near);
  }
  double lowest_loss() const { return lowest_loss_; }    // infimum
  double highest_loss() const { return highest_loss_; }  // supremum
  // Of (from, to].
  Masses between(double from, double to) const;
  double p_density(double x) const;
  // The loss and the log of Q's density.
  struct Logs {
    double loss, q_density;
  };
  Logs logs(double x) const;
  // P/Q - 1, accurate where it is near zero.
  double excess_ratio(double x) const;
  // Outside of these, both have less than 1e-300 of mass.
  double lowest_outcome() const { return lowest_outcome_; }
  double highest_outcome() const { return highest_outcome_; }
  // How steeply P, and e^epsilon Q where P does not dwarf it, change between the two places:
  // deviations from the farthest mean of a term that can be seen there.
  double steepness(double from, double to, double epsilon) const;
  // x, or the next place above it from which P can be seen: between means far apart there is none.
  double next_seen(double x) const;

 private:
  // log of P and of Q over N(0, sigma^2), with two derivatives in x where one has many terms.
  struct Both {
    Mixture::Ratio p, q;
  };
  Both both(double x) const;
  double log_ratio(std::span<const Term> terms, double x) const;
  double slope(double x) const;
  double searched(double value, Mixture::Place& near) const;

  double sigma_;
  std::vector<Term> p_, q_;
  std::vector<double> p_logs_, q_logs_;     // of their weights
  std::optional<Mixture> many_p_, many_q_;  // of three terms or more; Q's is turned round
  double lowest_loss_, highest_loss_, lowest_outcome_, highest_outcome_;
  double first_loss_ = 0, last_loss_ = 0;  // at these two outcomes
  bool sampled_ = false;                   // P or Q is plain: two terms against one
  bool mirrored_ = false;                  // two terms against their mirror image
};

}  // namespace souk::policy
