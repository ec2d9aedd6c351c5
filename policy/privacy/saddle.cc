#include "policy/privacy/saddle.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "policy/privacy/moments.h"
#include "policy/privacy/quadrature.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kUnit = 0x1p-53;
constexpr double kOfEquals = 0.4748, kOfOthers = 0.56;  // Berry, Esseen
constexpr double kMomentError = 1e-9;                   // relative, of log_moment()
constexpr double kNormalError = 1e-13;  // relative, of normal_rise, for each square of a deviation
constexpr double kNear = 2e-4;          // from normal: nearer is not worth while

// Of one step of a kind, so that in all steps of all kinds no more is cut off than `rare`.
double rare_of(const Run& run, size_t i, double rare) {
  return rare / run.counts[i] / static_cast<double>(run.mechanisms.size());
}

// E[e^{-t (Z + a)}; Z > -a] of a standard normal Z.
double normal_rise(double a, double t) {
  if (t < a) return std::exp(t * (0.5 * t - a)) * 0.5 * std::erfc((t - a) / std::numbers::sqrt2);
  return std::exp(-0.5 * a * a) / std::sqrt(2 * std::numbers::pi) * mills(t - a);
}

}  // namespace

TiltedPairs::TiltedPairs(const Run& run, double rare) : run_(run) {
  for (size_t i = 0; i < run.mechanisms.size(); ++i) kept_.push_back(run.pair(i));
  for (size_t i = 0; i < kept_.size(); ++i)
    pairs_.emplace_back(kept_[i], rare_of(run, i, rare), run.cut(i));
}

double TiltedPairs::log_moment(double c) const {
  double sum = 0;
  for (size_t i = 0; i < pairs_.size(); ++i) sum += run_.counts[i] * pairs_[i].log_moment(c);
  return sum;
}

Tilt tilt_for(const Run& run, std::optional<double> epsilon, double delta, double rare) {
  const TiltedPairs pairs(run, rare);
  return {best_tilt([&](double c) { return pairs.log_moment(c); }, epsilon, std::log(delta)), rare};
}

std::optional<TiltedRun> TiltedRun::of(const Run& run, const Tilt& tilt) {
  TiltedRun out;
  out.c_ = tilt.c;
  for (size_t i = 0; i < run.mechanisms.size(); ++i) {
    auto looked_at = [&](const LossPair& pair) {
      return TiltedPair(pair, rare_of(run, i, tilt.rare), run.cut(i)).loss(tilt.c);
    };
    const auto loss = run.many() ? looked_at(run.pair(i)) : looked_at(run.kept[i]);
    if (!loss) return std::nullopt;
    out.kinds_.push_back({i, run.counts[i], *loss});
  }
  std::stable_sort(out.kinds_.begin(), out.kinds_.end(),
                   [](const Kind& a, const Kind& b) { return a.loudness() > b.loudness(); });
  const Sum all = out.sum(0);
  if (!std::isfinite(all.log_moment) || !(all.deviation > 0) || !std::isfinite(all.apart))
    return std::nullopt;
  return out;
}

TiltedRun::Sum TiltedRun::sum(size_t loud) const {
  Sum out;
  double variance = 0, third = 0, size = 0;
  for (size_t i = loud; i < kinds_.size(); ++i) {
    const auto& [index, count, loss] = kinds_[i];
    out.log_moment += count * loss.log_moment;
    out.log_kept += count * std::log1p(-loss.cut_off);
    out.mean += count * loss.mean;
    variance += count * loss.variance;
    third += count * loss.third;
    size += count * loss.size;
  }
  out.deviation = std::sqrt(variance);
  // A normal one whose mean or deviation is a little off is no farther away than that.
  out.apart = (kinds_.size() == loud + 1 ? kOfEquals : kOfOthers) * third /
                  (variance * out.deviation) * (1 + 1e-9) +
              kTiltedError * size / out.deviation + kTiltedError;
  return out;
}

size_t TiltedRun::loudest(size_t most) const {
  most = std::min(most, kinds_.size() - 1);
  double least = kInfinity;
  for (size_t loud = 0; loud <= most; ++loud) least = std::min(least, sum(loud).apart);
  size_t loud = 0;
  while (loud < most && sum(loud).apart > std::max(kNear, 1.3 * least)) ++loud;
  return loud;
}

std::vector<size_t> TiltedRun::order() const {
  std::vector<size_t> out;
  for (const Kind& kind : kinds_) out.push_back(kind.index);
  return out;
}

double SaddlePoint::log_scale(double epsilon, double sign) const {
  const double error = kMomentError * std::abs(sum_.log_moment) +
                       8 * kUnit * (std::abs(sum_.log_moment) + std::abs(c_ * epsilon) + 1);
  return sum_.log_moment - c_ * epsilon + sign * error;
}

double SaddlePoint::log_delta_most(double epsilon) const {
  return log_scale(epsilon, 1) + log_most(c_);
}

// Of g(x) = e^{-c x} (1 - e^{-x}) above 0, x being how far the sum lies above epsilon, whose
// greatest value is c^c / (1 + c)^{1 + c}: its mean changes by no more than twice that, times how
// far the distribution function of the sum is from the one it is taken for.
SaddlePoint::Given SaddlePoint::given(double epsilon) const {
  const double deviation = sum_.deviation, a = (sum_.mean - epsilon) / deviation,
               u = (1 + c_) * deviation;
  const double more = normal_rise(a, c_ * deviation), less = normal_rise(a, u);
  return {std::max(0.0, more - less), 2 * std::exp(log_most(c_)) * sum_.apart +
                                          (more + less) * kNormalError * (1 + a * a + u * u)};
}

double SaddlePoint::delta_upper(double epsilon) const {
  const auto [value, wrong] = given(epsilon);
  const double most = std::min(std::log(value + wrong), log_most(c_));
  return std::exp(std::min(0.0, log_scale(epsilon, 1) + most));
}

double SaddlePoint::delta_lower(double epsilon) const {
  const auto [value, wrong] = given(epsilon);
  if (!(value > wrong)) return 0;
  return std::exp(std::min(0.0, log_scale(epsilon, -1) + std::log(value - wrong)));
}

template <class Visit>
void QuietAndLoud::near(double epsilon, Visit&& visit) const {
  const auto next =
      std::lower_bound(quiet_.begin(), quiet_.end(), epsilon,
                       [](const SaddlePoint& point, double value) { return point.mean() < value; });
  const auto first = next - std::min<ptrdiff_t>(2, next - quiet_.begin()),
             last = next + std::min<ptrdiff_t>(2, quiet_.end() - next);
  for (auto point = first; point != last; ++point) visit(*point);
}

// What masses of the loud ones that are wrong in all by so much may add or take: each unit of them
// is worth no more than Chernoff's bound.
double QuietAndLoud::errors(double epsilon) const {
  return loud_->upper().eta *
         std::exp(std::min(300.0, loud_->upper().log_scale + same_.log_delta_most(epsilon)));
}

// The mean over the masses of the loud ones, as they are, of what is left at `epsilon` less each.
template <class Left>
double QuietAndLoud::mean(const ComposedLoss::Side& side, double epsilon, Left&& left) const {
  WorkBudget::pay(20 * side.mass.size());
  double sum = 0;
  for (size_t k = 0; k < side.mass.size(); ++k) {
    if (!(side.mass[k] > 0)) continue;
    const double x = side.start + static_cast<double>(k) * loud_->grid();
    sum += left(epsilon - x) * side.mass[k] * std::exp(side.log_scale - loud_->tilt() * x);
  }
  return sum;
}

double QuietAndLoud::upper(double epsilon) const {
  if (!loud_) return std::min(1.0, same_.delta_upper(epsilon) + same_.cut_off());
  const double at = epsilon - loud_->slack();
  double cut_off = 0;
  for (const auto& point : quiet_) cut_off = std::max(cut_off, point.cut_off());
  const double sum = mean(loud_->upper(), at, [&](double rest) {
    double best = 1;
    near(rest, [&](const SaddlePoint& point) { best = std::min(best, point.delta_upper(rest)); });
    return best;
  });
  return std::min(1.0, sum * (1 + loud_->upper().inflation) * (1 + 1e-12) + errors(at) +
                           loud_->infinite() + cut_off);
}

double QuietAndLoud::lower(double epsilon) const {
  if (!loud_) return same_.delta_lower(epsilon);
  const double at = epsilon + loud_->slack() + loud_->loss_error();
  const double sum = mean(loud_->lower(), at, [&](double rest) {
    double best = 0;
    near(rest, [&](const SaddlePoint& point) { best = std::max(best, point.delta_lower(rest)); });
    return best;
  });
  return std::max(0.0, sum * (1 - loud_->lower().inflation) * (1 - 1e-12) - errors(at));
}

Bounds QuietAndLoud::epsilon(double delta) const {
  Bounds out{0, kInfinity};
  const double c = same_.tilt();
  const double moment = same_.log_delta_most(0) + (loud_ ? loud_->upper().log_scale : 0);
  // Chernoff's, and what is cut off, or lies in errors, is to leave something of delta.
  double low = 0, high = std::max(0.0, (moment + 1 - std::log(delta)) / c) * (1 + 1e-6) + 1e-9;
  auto too_much = [&](double epsilon) { return upper(epsilon) > delta; };
  auto proven = [&](double epsilon) { return lower(epsilon) > delta; };
  if (!std::isfinite(high) || too_much(high)) return out;
  if (!too_much(0)) return {0, 0};
  const double exactly = loud_ ? 1e-7 : 1e-13;
  auto halve = [&](auto&& below) {
    for (int i = 0; i < 100 && high - low > exactly * high; ++i) {
      const double middle = 0.5 * (low + high);
      (below(middle) ? low : high) = middle;
    }
  };
  halve(too_much);
  out.upper = high;
  // From there down, since far below the errors drown what is proven.
  for (double step = std::max(1e-4 / c, 1e-5 * high); step < high; step *= 2) {
    low = out.upper - step;
    if (!proven(low)) continue;
    halve(proven);
    out.lower = low;
    break;
  }
  return out;
}

}  // namespace souk::policy
