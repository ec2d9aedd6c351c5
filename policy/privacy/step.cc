#include "policy/privacy/step.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace souk::policy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Spacing 1 for |k| <= fine, growing by a share `growth` of k beyond.
std::vector<int64_t> graded(int64_t first, int64_t last, int64_t fine, double growth) {
  auto beyond = [&](int64_t limit) {
    std::vector<int64_t> out;
    for (int64_t k = fine; k < limit;) {
      k = std::min(limit,
                   k + std::max<int64_t>(1, static_cast<int64_t>(growth * static_cast<double>(k))));
      out.push_back(k);
    }
    return out;
  };
  std::vector<int64_t> points;
  auto below = beyond(-first);
  for (auto k = below.rbegin(); k != below.rend(); ++k) {
    if (-*k < std::min(last, -fine)) points.push_back(-*k);
  }
  for (int64_t k = std::max(first, -fine); k <= std::min(last, fine); ++k) points.push_back(k);
  for (int64_t k : beyond(last)) {
    if (points.empty() || k > points.back()) points.push_back(k);
  }
  return points;
}

// Mass on some outcomes, and how far off its relative rounding may be.
struct Cell {
  double p = 0, q = 0, error = 0;
  void add(const Cell& other) {
    p += other.p;
    q += other.q;
    error = std::max(error, other.error);
  }
  Cell part(double share) const { return {share * p, share * q, error}; }
  double least() const { return p * (1 - error); }
  double most() const { return p * (1 + error); }
  // P beyond ratio * Q, from below: not negative only if the loss is at least log ratio.
  double over(double ratio) const { return p * (1 - error) - ratio * q * (1 + error); }
  double loss() const { return std::log(p / q); }
};

constexpr double kAtomError = 2e-15;
constexpr double kOverlap = 1e-9;  // of a loss: no place is found less exactly

// Outcomes of one part of a pair, by their loss.
class GaussianOutcomes {
 public:
  // Those of a stretch that is wider by `overlap`.
  GaussianOutcomes(double weight, const GaussianPart& part, const Stretch& of, double overlap)
      : weight_(weight), part_(part) {
    near_.x = part.lowest_outcome();
    if (std::isfinite(of.above)) first_ = place(of.above * (1 - overlap));
    if (std::isfinite(of.upto)) last_ = place(of.upto * (1 + overlap));
    near_.x = part.lowest_outcome();
  }

  double lowest_loss() const { return part_.lowest_loss(); }
  double highest_loss() const { return part_.highest_loss(); }
  // Places of losses asked for in ascending order are found fastest.
  double place(double loss) { return part_.where_loss_is(loss, near_); }
  Cell between(double from, double to) const {
    from = std::max(from, first_), to = std::min(to, last_);
    if (!(from < to) || from > part_.highest_outcome() || to < part_.lowest_outcome()) return {};
    Masses masses = part_.between(from, to);
    return {weight_ * masses.p, weight_ * masses.q, masses.error};
  }

 private:
  double weight_;
  const GaussianPart& part_;
  Mixture::Place near_;
  double first_ = -kInfinity, last_ = kInfinity;
};

class LaplaceOutcomes {
 public:
  explicit LaplaceOutcomes(const LaplacePart& part) : part_(part) {}
  double lowest_loss() const { return -kInfinity; }  // not aligned with the grid
  double highest_loss() const { return kInfinity; }
  double place(double loss) const { return std::clamp(loss, -part_.edge, part_.edge); }
  Cell between(double from, double to) const {
    if (!(from < to)) return {};
    Masses masses = part_.between(from, to);
    return {masses.p, masses.q, kAtomError};
  }

 private:
  const LaplacePart& part_;
};

// f falls from positive to negative in [low, high].
template <class F>
double root(F&& f, double low, double high) {
  for (int i = 0; i < 60 && high - low > 1e-15 * (std::abs(low) + std::abs(high)); ++i) {
    double middle = 0.5 * (low + high);
    (f(middle) > 0 ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

// The same where f is dear: secants (Illinois), and a half now and then. To `enough` of f or place.
template <class F>
double root(F&& f, double low, double high, double enough) {
  double at_low = f(low), at_high = f(high), x = low;
  int side = 0;
  for (int i = 1; i < 60 && high - low > enough; ++i) {
    x = i % 4 == 0 ? 0.5 * (low + high) : low + (high - low) * at_low / (at_low - at_high);
    if (!(x > low && x < high)) x = 0.5 * (low + high);
    const double value = f(x);
    if (std::abs(value) <= enough) break;
    const bool rises = value > 0;
    (rises ? low : high) = x;
    (rises ? at_low : at_high) = value;
    if (side == (rises ? 1 : -1)) (rises ? at_high : at_low) *= 0.5;
    side = rises ? 1 : -1;
  }
  return x;
}

class Gridding {
 public:
  Gridding(const LossPair& pair, const Resolution& resolution, StepLoss& step)
      : grid_(resolution.grid), of_(resolution.of), step_(step), n_(step.at.size()), last_(n_ - 1) {
    if (std::isfinite(of_.above)) {
      step_.upper.offset = -resolution.lowered;
    } else {
      align(pair);
    }
    for (auto* side : {&step.upper, &step.lower}) {
      side->loss.resize(n_);
      side->mass.assign(n_, 0.0);
      for (size_t i = 0; i < n_; ++i)
        side->loss[i] = static_cast<double>(step.at[i]) * grid_ + side->offset;
    }
    for (const auto& [weight, part] : pair.gaussians) {
      spread(GaussianOutcomes(weight, part, of_, kOverlap));
      merge(GaussianOutcomes(weight, part, of_, -kOverlap));
      // Only the first part was aligned.
      first_ = 0, last_ = n_ - 1, downwards_ = false;
    }
    for (const auto& laplace : pair.laplaces) {
      spread(LaplaceOutcomes(laplace));
      merge(LaplaceOutcomes(laplace));
    }
    for (const auto& atom : pair.atoms) spread(atom);
    if (pair.atoms.size() == 2) merge(pair.atoms[0]);
    // Above all: what the Q-mass bears at the highest loss, the rest infinite.
    double borne = above_.q * std::exp(std::min(step.upper.loss[n_ - 1], 700.0));
    double finite = std::min(above_.most(), borne);
    step.upper.mass[n_ - 1] += finite;
    step.infinite = above_.most() - finite;
    if (step.infinite < 1e-13 * finite) step.infinite = 0;  // rounding of one and the same mass
    for (double& mass : step.lower.mass) mass = std::max(0.0, mass);
  }

 private:
  // Where most of the mass lies at an end of the support, the end (upper) or the first cell
  // (lower) is put on a point: every step's loss is there, so it must not be moved.
  void align(const LossPair& pair) {
    if (pair.gaussians.empty() || !pair.atoms.empty()) return;
    const auto& [weight, part] = pair.gaussians[0];
    GaussianOutcomes outcomes(weight, part, of_, -kOverlap);
    double low = outcomes.lowest_loss(), high = outcomes.highest_loss();
    if (std::isfinite(low)) {
      step_.upper.offset = low - std::floor(low / grid_) * grid_;
      auto beyond = [&](double edge) {
        Cell cell = outcomes.between(-kInfinity, outcomes.place(edge));
        return cell.p > 0 && cell.q > 0 ? cell.loss() - (edge - 0.5 * grid_) : 1.0;
      };
      const double edge = part.many() ? root(beyond, low, low + 4 * grid_, 1e-12 * grid_)
                                      : root(beyond, low, low + 4 * grid_);
      double point = edge - 0.5 * grid_;
      // Where hardly anything lies above that could be exchanged, a little low, so that rounding
      // cannot put the cell below its point.
      const Cell cell = outcomes.between(-kInfinity, outcomes.place(edge)),
                 rest = outcomes.between(outcomes.place(edge), kInfinity);
      if (rest.p < 1e-6 && cell.p > 0 && cell.q > 0)
        point = std::min(point, cell.loss() - 3 * cell.error);
      step_.lower.offset = point - std::floor(point / grid_) * grid_;
      first_ = place_of(std::floor(point / grid_));
    } else if (std::isfinite(high)) {
      step_.upper.offset = high - std::ceil(high / grid_) * grid_;
      auto beyond = [&](double edge) {
        Cell cell = outcomes.between(outcomes.place(edge), kInfinity);
        return cell.p > 0 && cell.q > 0 ? cell.loss() - (edge + 0.5 * grid_) : -1.0;
      };
      edge_ = part.many() ? root(beyond, high - 4 * grid_, high, 1e-12 * grid_)
                          : root(beyond, high - 4 * grid_, high);
      // A little low, so that rounding cannot put the cell below its point.
      const Cell cell = outcomes.between(outcomes.place(edge_), kInfinity);
      const double point =
          (cell.p > 0 && cell.q > 0 ? cell.loss() : edge_ + 0.5 * grid_) - 3 * cell.error;
      step_.lower.offset = point - std::ceil(point / grid_) * grid_;
      last_ = place_of(std::ceil(point / grid_));
      downwards_ = true;
    }
  }

  // The point at k * grid + offset.
  size_t place_of(double k) const {
    auto at = std::lower_bound(step_.at.begin(), step_.at.end(), static_cast<int64_t>(k)) -
              step_.at.begin();
    return std::min(static_cast<size_t>(at), n_ - 1);
  }

  template <class Outcomes>
  void spread(Outcomes outcomes) {
    const auto& loss = step_.upper.loss;
    double x = outcomes.place(loss[0]);
    step_.upper.mass[0] += outcomes.between(-kInfinity, x).most();
    for (size_t i = 0; i + 1 < n_; ++i) {
      double next = std::max(x, outcomes.place(loss[i + 1]));
      Cell mass = outcomes.between(x, next);
      if (mass.p > 0) split(i, mass);
      x = next;
    }
    above_.add(outcomes.between(x, kInfinity));
  }

  void spread(const Atom& atom) {
    const auto& loss = step_.upper.loss;
    Cell mass{atom.masses.p, atom.masses.q, kAtomError};
    auto next = std::upper_bound(loss.begin(), loss.end(), atom.loss) - loss.begin();
    auto i = static_cast<size_t>(next - 1);
    if (next == 0) {
      step_.upper.mass[0] += mass.most();
    } else if (i + 1 < n_) {
      split(i, mass);
    } else if (atom.loss > loss[i] * (1 + 1e-12)) {
      above_.add(mass);
    } else {
      step_.upper.mass[i] += mass.most();
    }
  }

  // Mass with losses between points i and i + 1, rounding errors to the higher loss.
  void split(size_t i, const Cell& mass) {
    const auto& loss = step_.upper.loss;
    double p = mass.most(), width = loss[i + 1] - loss[i];
    double up =
        (p - mass.q * (1 - mass.error) * std::exp(std::min(loss[i], 700.0))) / -std::expm1(-width);
    up = std::clamp(up, 0.0, p);
    step_.upper.mass[i + 1] += up;
    step_.upper.mass[i] += p - up;
  }

  // Cells around the points; the first that has one and the last reach to the ends.
  template <class Outcomes>
  void merge(Outcomes outcomes) {
    const auto& loss = step_.lower.loss;
    std::vector<Cell> cells(n_);
    double x = -kInfinity;
    for (size_t i = first_; i <= last_; ++i) {
      auto border = [&] {
        return downwards_ && i + 1 == last_ ? edge_ : 0.5 * (loss[i] + loss[i + 1]);
      };
      double next = i < last_ ? std::max(x, outcomes.place(border())) : kInfinity;
      cells[i] = outcomes.between(x, next);
      x = next;
    }
    if (downwards_) {
      for (size_t i = n_; i-- > 0;)
        settle(cells, i, i > 0 ? &cells[i - 1] : nullptr, i + 1 < n_ ? &cells[i + 1] : nullptr);
    } else {
      for (size_t i = 0; i < n_; ++i)
        settle(cells, i, i + 1 < n_ ? &cells[i + 1] : nullptr, i > 0 ? &cells[i - 1] : nullptr);
    }
    for (size_t i = 0; i < n_; ++i) step_.lower.mass[i] += cells[i].least();
  }

  // Brings cell i to its point with some of `fresh`, not settled yet, or of `settled`; one of
  // them lies above it, the other below.
  void settle(std::vector<Cell>& cells, size_t i, Cell* fresh, Cell* settled) {
    Cell& cell = cells[i];
    if (!(cell.p > 0)) return;
    const double ratio = std::exp(step_.lower.loss[i]), over = cell.over(ratio);
    if (over == 0) return;
    for (Cell* other : {fresh, settled}) {
      if (!other || !(other->p > 0) || !std::isfinite(over)) continue;
      // Exact as to the sign that matters: the result must not fall below the point.
      double theirs = other->over(ratio);
      if ((over < 0) == (theirs < 0)) continue;
      double share = -over / theirs * (over < 0 ? 1 + 1e-13 : 1 - 1e-13);
      if (!(share > 0 && share <= (other == fresh ? 0.95 : 0.5))) continue;
      cell.add(other->part(share));
      *other = other->part(1 - share);
      return;
    }
    if (over > 0) return;  // rounded down to the point
    if (i > 0 && downwards_) {
      // Told apart no more from the cell below, which is settled next.
      cells[i - 1].add(cell);
    } else if (i > 0) {
      // Rounded down by a whole point, out of the way of the others.
      step_.lower.mass[i - 1] += cell.least();
    }
    cell = {};
  }

  // Two atoms at +-loss that mirror each other: labels are swapped now and then, so that the
  // losses are points.
  void merge(const Atom& atom) {
    const auto& loss = step_.lower.loss;
    double edge = std::abs(atom.loss);
    double point = std::floor(edge / grid_ * (1 + 4e-15)) * grid_;
    double high = std::max(atom.masses.p, atom.masses.q),
           low = std::min(atom.masses.p, atom.masses.q);
    double ratio = std::exp(point);
    double share = std::clamp((high - ratio * low) / ((high - low) * (1 + ratio)), 0.0, 0.5);
    auto put = [&](double at, double mass) {
      auto next = std::upper_bound(loss.begin(), loss.end(), at + 0.25 * grid_) - loss.begin();
      if (next > 0) step_.lower.mass[static_cast<size_t>(next - 1)] += mass * (1 - kAtomError);
    };
    if (high > low) {
      put(point, (1 - share) * high + share * low);
      put(-point, share * high + (1 - share) * low);
    }
    step_.loss_error = 1e-14 * std::max(1.0, edge);
  }

  double grid_;
  Stretch of_;
  StepLoss& step_;
  size_t n_;
  size_t first_ = 0, last_;  // points that have a cell of the lower distribution
  bool downwards_ = false;
  double edge_ = 0;  // with downwards_: where the highest cell begins
  Cell above_;
};

}  // namespace

StepLoss discretise(const LossPair& pair, double count, const Resolution& resolution) {
  const double grid = resolution.grid, highest = resolution.highest;
  double low = kInfinity, high = -kInfinity;
  for (const auto& gaussian : pair.gaussians) {
    const auto& part = gaussian.part;
    low = std::min(low, std::max(part.lowest_loss(), part.loss(part.lowest_outcome())));
    high = std::max(high, std::min(part.highest_loss(), part.loss(part.highest_outcome())));
  }
  for (const auto& laplace : pair.laplaces)
    low = std::min(low, -laplace.edge), high = std::max(high, laplace.edge);
  for (const auto& atom : pair.atoms)
    low = std::min(low, atom.loss), high = std::max(high, atom.loss);
  low = std::max(low, resolution.of.above);
  high = std::max(std::min({high, highest, resolution.of.upto}), grid);
  // Far below zero a loss costs nothing, wherever it is put.
  low = std::max(low, -1e3 - 10 * std::max(1.0, highest));
  double fine = std::clamp(std::max(pair.reach / grid + 40, 3 * pair.spread / grid), 40.0, 5000.0);
  StepLoss step;
  step.count = count;
  step.at = graded(static_cast<int64_t>(std::floor(low / grid)) - 1,
                   static_cast<int64_t>(std::ceil(high / grid)) + 1, static_cast<int64_t>(fine),
                   resolution.growth);
  // Atoms lie between two points next to each other, however far out.
  for (const auto& atom : pair.atoms) {
    const double place = std::floor(std::abs(atom.loss) / grid * (1 + 4e-15));
    for (double k : {place, place + 1, -place, -place - 1}) {
      if (!(k > static_cast<double>(step.at.front()) && k < static_cast<double>(step.at.back())))
        continue;
      const auto point = static_cast<int64_t>(k);
      const auto next = std::lower_bound(step.at.begin(), step.at.end(), point);
      if (*next != point) step.at.insert(next, point);
    }
  }
  Gridding(pair, resolution, step);
  return step;
}

void trim(StepLoss& step, double above, double below) {
  auto &upper = step.upper.mass, &lower = step.lower.mass;
  size_t first = 0, last = step.at.size() - 1;
  for (double rare = 0; last > 0 && (rare += upper[last]) < above; --last) {
    step.infinite += upper[last];
    lower[last - 1] += lower[last];
  }
  for (double rare = 0; first < last && (rare += upper[first]) < below; ++first)
    upper[first + 1] += upper[first];
  auto cut = [&](auto& values) {
    values.erase(values.begin() + static_cast<ptrdiff_t>(last) + 1, values.end());
    values.erase(values.begin(), values.begin() + static_cast<ptrdiff_t>(first));
  };
  cut(step.at);
  for (auto* side : {&step.upper, &step.lower}) cut(side->loss), cut(side->mass);
}

}  // namespace souk::policy
