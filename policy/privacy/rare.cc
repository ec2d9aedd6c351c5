#include "policy/privacy/rare.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "policy/privacy/moments.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kUnit = 0x1p-53;
constexpr double kGrowth = 4e-3;      // of the places of one rare loss
constexpr double kMostRare = 20;      // losses of a kind in a run
constexpr double kMostOfStep = 1e-2;  // of a step's outcomes
constexpr double kMostSums = 6;       // rare losses in a run that are looked at, of few
constexpr double kMostWeight = 8;     // of each, where more of them are bounded
constexpr size_t kAtOnce = 8;         // sums
constexpr double kOutward = 1e-8;     // of a loss: places are found more exactly

// P-mass of greater losses, and how much more it is than Q's: from above, both.
struct Above {
  double p = 0, more = 0;
};
Above mass_above(const LossPair& pair, double loss) {
  Above out;
  for (const auto& [weight, part] : pair.gaussians) {
    const Masses masses = part.between(part.where_loss_is(loss * (1 - kOutward)), kInfinity);
    out.p += weight * masses.p * (1 + masses.error) * (1 + 1e-14);
    out.more += weight * (masses.p - masses.q + (masses.p + masses.q) * (masses.error + 1e-14));
  }
  return out;
}

// What is left of a step's spread.
double spread_below(const LossPair& pair, double loss, double spread) {
  const StepLoss step =
      discretise(pair, 1, {0.05 * std::min(loss, spread), 0.05, loss, {.upto = loss}});
  double square = 0;
  for (size_t k = 0; k < step.at.size(); ++k)
    square += step.upper.mass[k] * step.upper.loss[k] * step.upper.loss[k];
  return std::min(spread, std::sqrt(square));
}

// Of two that begin with 1, as far as they reach.
std::vector<double> convolved(const std::vector<double>& a, const std::vector<double>& b) {
  WorkBudget::pay(a.size() * a.size() / 16);
  std::vector<double> out(a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == 0) continue;
    for (size_t k = 0; i + k < out.size(); ++k) out[i + k] += a[i] * b[k];
  }
  return out;
}

// (1 + sum of mass[i] z^at[i])^count, its first coefficients, by the recurrence for powers of a
// power series (Miller; as Panjer 1981 has it for a binomial number of claims): its terms are
// positive while there are more steps than a sum can have of them. `kAtOnce` coefficients at a
// time, which is no more than the least of `at`, do not stand on one another; each adds up its
// terms in their order.
template <size_t kAtOnce>
std::vector<double> raised(const std::vector<size_t>& at, const std::vector<double>& mass,
                           double count, size_t points) {
  std::vector<double> rise(mass.size()), padded(2 * kAtOnce + points);
  for (size_t i = 0; i < mass.size(); ++i)
    rise[i] = (count + 1) * static_cast<double>(at[i]) * mass[i];
  double* const sums = padded.data() + kAtOnce;  // before the first they are nothing
  sums[0] = 1;
  for (size_t s = 1; s < points; s += kAtOnce) {
    double share[kAtOnce], sum[kAtOnce] = {};
    for (size_t j = 0; j < kAtOnce; ++j) share[j] = 1 / static_cast<double>(s + j);
    for (size_t i = 0; i < at.size() && at[i] < s + kAtOnce; ++i) {
      const double* const before = sums + s - at[i];
      for (size_t j = 0; j < kAtOnce; ++j) sum[j] += (rise[i] * share[j] - mass[i]) * before[j];
    }
    std::copy(sum, sum + kAtOnce, sums + s);
  }
  return {sums, sums + points};
}

}  // namespace

Run cut_at(const Run& run, double loss, double fewest) {
  Run out = run;
  out.cuts.assign(run.mechanisms.size(), kInfinity);
  for (size_t i = 0; i < run.mechanisms.size(); ++i) {
    const LossPair pair = run.pair(i);
    if (!pair.atoms.empty() || !pair.laplaces.empty() || run.counts[i] < fewest ||
        !(pair.highest_loss() > loss))
      continue;
    const double above = mass_above(pair, loss).p;
    if (!(above > 0 && above < kMostOfStep && run.counts[i] * above <= kMostRare)) continue;
    out.cuts[i] = loss;
    out.spreads[i] = spread_below(pair, loss, run.spreads[i]);
  }
  return out;
}

RareLosses::RareLosses(const Run& cut, double grid, size_t points, double highest)
    : grid_(grid), points_(points) {
  std::vector<Kind> kinds;
  double losses = 0;  // in a run, about
  for (size_t i = 0; i < cut.mechanisms.size(); ++i) {
    if (!std::isfinite(cut.cut(i))) continue;
    kinds.push_back(look_at(cut, i, highest));
    for (const double mass : kinds.back().upper) losses += kinds.back().count * mass;
  }
  upper_ = sums_of(kinds, &Kind::upper, 1);
  lower_ = sums_of(kinds, &Kind::lower, 1);
  // A place of a sum rounds with every loss in it, and with every term.
  size_t terms = 8;
  for (const Kind& kind : kinds) terms += kind.at.size() + points + 8;
  inflation_ = 4 * kUnit * (static_cast<double>(points / std::max<size_t>(least_, 1)) + 1) *
               static_cast<double>(terms);
  // Sums of more losses than that are at most z^-(most + 1) of those in which each counts z times.
  most_rare_ = std::ceil(kMostSums + 4 * losses);
  const double z = std::clamp(0.5 * most_rare_ / losses, 1.5, kMostWeight);
  const auto more = sums_of(kinds, &Kind::lower, z);
  const double share = std::pow(z, -most_rare_ - 1) * (1 + inflation_) * (1 + 1e-12);
  for (size_t k = 0; k < points; ++k)
    lower_[k] = std::max(0.0, lower_[k] * (1 - inflation_) - share * more[k]);
  infinite_ = (infinite_ + std::exp(log_beyond(kinds))) * (1 + 1e-6);
}

RareLosses::Kind RareLosses::look_at(const Run& cut, size_t i, double highest) {
  const LossPair pair = cut.pair(i);
  const auto [above, more] = mass_above(pair, cut.cut(i));
  // -log(P(A) / Q(A)), at most, of the outcomes A that are left.
  const double lowered = std::max(0.0, more) / (1 - above);
  const StepLoss step =
      discretise(pair, cut.counts[i], {grid_, kGrowth, highest, {.above = cut.cut(i)}, lowered});
  Kind kind{cut.counts[i], {}, {}, {}};
  for (size_t k = 0; k < step.at.size(); ++k) {
    if (!(step.upper.mass[k] > 0) && !(step.lower.mass[k] > 0)) continue;
    // Upper losses may be raised to the first place, lower ones are nothing below it.
    const auto at = static_cast<size_t>(std::max<int64_t>(step.at[k], 1));
    kind.at.push_back(at);
    kind.upper.push_back(step.upper.mass[k] / (1 - above) * (1 + 4 * kUnit));
    kind.lower.push_back(step.at[k] < 1 ? 0 : step.lower.mass[k]);
    if (least_ == 0 || at < least_) least_ = at;
  }
  infinite_ += cut.counts[i] * step.infinite / (1 - above);
  log_left_ += std::log1p(-above);
  lowered_ += lowered;
  return kind;
}

// (1 + times sum of masses z^at)^count of all kinds.
std::vector<double> RareLosses::sums_of(const std::vector<Kind>& kinds,
                                        std::vector<double> Kind::*side, double times) const {
  std::vector<double> all;
  for (const Kind& kind : kinds) {
    WorkBudget::pay(points_ * kind.at.size() / 16);
    std::vector<double> mass = kind.*side;
    for (double& one : mass) one *= times;
    std::vector<double> sums = least_ >= kAtOnce
                                   ? raised<kAtOnce>(kind.at, mass, kind.count, points_)
                                   : raised<1>(kind.at, mass, kind.count, points_);
    all = all.empty() ? std::move(sums) : convolved(sums, all);
  }
  return all;
}

// Chernoff, of sums that leave the grid.
double RareLosses::log_beyond(const std::vector<Kind>& kinds) const {
  const auto end = static_cast<double>(points_);
  auto log_moment = [&](double log_t) {
    const double t = std::exp(log_t) / end;
    double out = 0;
    for (const Kind& kind : kinds) {
      WorkBudget::pay(kind.at.size());
      double sum = 0;
      for (size_t i = 0; i < kind.at.size(); ++i)
        sum += kind.upper[i] * std::exp(std::min(700.0, t * static_cast<double>(kind.at[i])));
      out += kind.count * std::log1p(sum);
    }
    return out - t * end;
  };
  const double best = argmin(log_moment, std::log(0.1), std::log(700.0), 0.05);
  return std::min(0.0, log_moment(best) + 1e-9);
}

}  // namespace souk::policy
