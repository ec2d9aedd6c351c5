// Dominating pairs: for one step of a mechanism and one direction of adjacency, the two
// distributions (P, Q) whose composition bounds every pair of neighbouring datasets
// (Zhu, Dong, Wang 2022, 2106.08567). policy/SPEC.md, Privacy, has the table.
#pragma once

#include <vector>

#include "policy/privacy/gaussian.h"
#include "policy/privacy/mechanism.h"

namespace souk::policy {

enum class Direction : uint8_t { kRemove, kAdd };

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

}  // namespace souk::policy
