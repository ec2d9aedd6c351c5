// Dominating pairs: for one step of a mechanism and one direction of adjacency, the two
// distributions (P, Q) whose composition bounds every pair of neighbouring datasets
// (Zhu, Dong, Wang 2022, 2106.08567). policy/SPEC.md, Privacy, has the table.
#pragma once

#include <span>
#include <vector>

#include "policy/privacy/mechanism.h"

namespace souk::policy {

enum class Direction : uint8_t { kRemove, kAdd };

// Mass that a distribution pair puts on some outcomes.
struct Masses {
  double p = 0, q = 0;
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
  double loss(double x) const;
  // Where the loss reaches `value`: -infinity below its range, +infinity above.
  // `guess` starts the search.
  double where_loss_is(double value, double guess = 0) const;
  double lowest_loss() const;   // infimum
  double highest_loss() const;  // supremum
  // Of (from, to], each accurate to a relative 1e-14.
  Masses between(double from, double to) const;
  double p_density(double x) const;
  // log of Q's density.
  double log_q_density(double x) const;
  // P/Q - 1, accurate where it is near zero.
  double excess_ratio(double x) const;
  // Outside of these, both have less than 1e-300 of mass.
  double lowest_outcome() const;
  double highest_outcome() const;
  // How steeply P, and e^epsilon Q where P does not dwarf it, change between the two places:
  // deviations from the farthest mean of a term that can be seen there.
  double steepness(double from, double to, double epsilon) const;
  // x, or the next place above it from which P can be seen: between means far apart there is none.
  double next_seen(double x) const;

 private:
  double log_ratio(std::span<const Term> terms,
                   double x) const;  // log of mixture over N(0, sigma^2)
  double slope(double x) const;

  double sigma_;
  std::vector<Term> p_, q_;
  bool sampled_ = false;   // P or Q is plain: two terms against one
  bool mirrored_ = false;  // two terms against their mirror image
};

// Part of a pair: Laplace noise; two atoms at +-edge and a body between them.
struct LaplacePart {
  double edge;                                   // sensitivity / b
  Masses between(double from, double to) const;  // losses strictly inside
};

// Outcomes of one loss.
struct Atom {
  double loss;
  Masses masses;
};

// A pair: outcomes fall into part i with probability weight, visibly, the same under P and Q.
struct LossPair {
  struct Gaussian {
    double weight;
    GaussianPart part;
  };
  std::vector<Gaussian> gaussians;
  std::vector<LaplacePart> laplaces;  // of weight 1
  std::vector<Atom> atoms;

  double highest_loss() const;
  double lowest_loss() const;
  // Deviation of one step's loss, about: the scale of the grid.
  double spread = 0;
  // How far losses of a usual step reach: finely spaced up to there.
  double reach = 0;
};

// Of a mechanism that spends something: q > 0.
LossPair dominating_pair(const Mechanism& mechanism, Adjacency adjacency, Direction direction);

// Exact delta(epsilon) of one step, to a relative 1e-12: no cancellation, by quadrature of
// the positive integrand (1 - e^{eps - L}) dP.
double hockey_stick(const LossPair& pair, double epsilon);

// Renyi divergence of order alpha > 1 of one step, to a relative 1e-10.
double renyi_divergence(const LossPair& pair, double alpha);

}  // namespace souk::policy
