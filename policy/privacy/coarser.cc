#include "policy/privacy/coarser.h"

namespace souk::policy {
namespace {

constexpr double kUnit = 0x1p-53;

// Outcomes that are merged: all as if tilted at the cell's point y. `over`: P - e^y Q, negative
// where the cell's loss lies below its point; what that may be wrong by.
struct Cell {
  double p = 0, over = 0, wrong = 0;
  double least_over() const { return over - wrong; }
  Cell part(double share) const { return {share * p, share * over, share * wrong}; }
  void add(const Cell& other) {
    p += other.p;
    over += other.over;
    wrong += other.wrong;
  }
};

}  // namespace

double rounding_of(size_t terms) {
  return 1e-14 + 2 * kUnit * static_cast<double>(terms);
}

Moved split(const std::vector<double>& mass, const Places& places, double c) {
  const double coarse = places.coarse();
  // What goes down, what goes up, tilted where it arrives.
  std::vector<double> down(places.different(mass.size())), up(down.size());
  for (size_t i = 0; i < down.size(); ++i) {
    const double off = places.off(places.place_of(i, mass.size())),
                 rest = std::max(0.0, coarse - off);
    up[i] = std::expm1(-off) / std::expm1(-coarse) * std::exp(c * rest);
    down[i] = std::exp(-off) * std::expm1(-rest) / std::expm1(-coarse) * std::exp(-c * off);
  }
  Moved out;
  out.mass.assign(places.point(mass.size() - 1) + 2, 0.0);
  for (size_t k = 0; k < mass.size(); ++k) {
    const size_t point = places.point(k), place = places.index(k, mass.size());
    out.mass[point] += mass[k] * down[place];
    out.mass[point + 1] += mass[k] * up[place];
  }
  for (double value : out.mass) out.sum += value;
  return out;
}

Moved merge(const std::vector<double>& mass, const Places& places, double c) {
  const double coarse = places.coarse(), certain = rounding_of(places.ratio());
  std::vector<double> own(places.different(mass.size())), over(own.size());
  for (size_t i = 0; i < own.size(); ++i) {
    const double off = places.off(places.place_of(i, mass.size()));
    own[i] = std::exp(-c * off);
    over[i] = own[i] * -std::expm1(-off);
  }
  std::vector<Cell> cells(places.point(mass.size() - 1) + 1);
  for (size_t k = 0; k < mass.size(); ++k) {
    Cell& cell = cells[places.point(k)];
    const size_t i = places.index(k, mass.size());
    cell.p += mass[k] * own[i];
    cell.over += mass[k] * over[i];
    cell.wrong += certain * mass[k] * std::abs(over[i]);
  }
  // What a cell `points` above this one is to it.
  auto seen = [&](const Cell& cell, int points) {
    const double off = points * coarse, factor = std::exp(-c * off), less = std::exp(-off);
    Cell out{factor * cell.p, factor * (cell.p * -std::expm1(-off) + less * cell.over),
             factor * less * cell.wrong};
    out.wrong += certain * std::abs(out.over);
    return out;
  };
  Moved out;
  out.mass.assign(cells.size() + 1, 0.0);  // the first for what is rounded down from cell 0
  for (size_t j = 0; j < cells.size(); ++j) {
    Cell& cell = cells[j];
    if (!(cell.p > 0)) continue;
    bool settled = cell.least_over() >= 0 && !(cell.over > 0);
    for (const bool above : {true, false}) {
      if (settled || (above ? j + 1 == cells.size() : j == 0)) continue;
      Cell& other = cells[above ? j + 1 : j - 1];
      if (!(other.p > 0)) continue;
      const Cell theirs = seen(other, above ? 1 : -1);
      const double needed = cell.least_over();
      if (needed < 0) {
        // Some of what lies above, so that it is not below its point.
        const double share = -needed / theirs.least_over() * (1 + certain);
        if (!above || !(theirs.least_over() > 0) || !(share > 0 && share <= 0.95)) continue;
        cell.add(theirs.part(share));
        other = other.part(1 - share);
      } else {
        // Some of what lies below, so that less is rounded down.
        const double share = needed / (theirs.wrong - theirs.over) * (1 - certain);
        if (above || !(theirs.over < 0) || !(share > 0 && share <= 0.5)) continue;
        cell.add(theirs.part(share));
        other = other.part(1 - share);
      }
      settled = true;
    }
    if (!settled && cell.least_over() < 0) {
      // Rounded down by a whole point, out of the way of the others.
      out.mass[j] += cell.p * std::exp(-c * coarse);
      cell = {};
    }
  }
  for (size_t j = 0; j < cells.size(); ++j) out.mass[j + 1] += cells[j].p;
  for (double value : out.mass) out.sum += value;
  return out;
}

double origin_of(const std::vector<double>& mass, double start, double grid, double coarse,
                 double c) {
  double p = 0, over = 0;
  for (size_t k = 0; k < mass.size(); ++k) {
    const double loss = start + static_cast<double>(k) * grid;
    if (!(mass[k] > 0) || std::abs(loss) > 0.5 * coarse) continue;
    const double own = mass[k] * std::exp(-c * loss);
    p += own;
    over += own * -std::expm1(-loss);
  }
  if (!(p > 0)) return 0;
  const double loss = -std::log1p(-over / p) - 1e-12 * coarse;
  return loss < 0 && loss > -0.5 * coarse ? loss : 0;
}

}  // namespace souk::policy
