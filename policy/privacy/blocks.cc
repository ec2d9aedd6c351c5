#include "policy/privacy/blocks.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "policy/privacy/coarser.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kUnit = 0x1p-53;
constexpr double kMostPoints = size_t{1} << 16;  // of a block, about
constexpr double kMostOfAll = size_t{1} << 20;   // of the first blocks of all kinds
constexpr double kMany = 1e8;                    // steps, of which the first blocks may be larger
constexpr double kVeryMany = 1e11;               // steps
constexpr double kUsualWidth = 20;               // of a window, in deviations
constexpr double kLeastRatio = 3;                // of a coarse grid over a fine one
constexpr double kMostRest = 4;                  // steps that are left over and make up no block
constexpr int kMostDepth = 12;                   // of blocks within blocks
constexpr double kMostTilted =
    1;  // what a tilt may be between points: beyond, they lie too far apart

// So many blocks, or up to a quarter more, that hardly any of `count` steps are left over: alone on
// a coarse grid these are dear.
double even_split(double count, double blocks) {
  const auto left = [count](double by) { return count - std::floor(count / by) * by; };
  double best = blocks;
  for (int i = 1; i <= 256 && i <= 0.25 * blocks && left(best) > 0; ++i) {
    if (left(blocks + i) < left(best)) best = blocks + i;
  }
  return best;
}

// Variance of the upper losses under the tilt.
double variance_of(const Unit& unit, double grid) {
  const auto& [at, upper, lower] = unit.step;
  WorkBudget::pay(at.size() / 4);
  double mean = 0, square = 0;
  for (size_t k = 0; k < at.size(); ++k) mean += upper[k] * static_cast<double>(at[k]);
  for (size_t k = 0; k < at.size(); ++k) {
    const double off = static_cast<double>(at[k]) - mean;
    square += upper[k] * off * off;
  }
  return square * grid * grid;
}

// What is so far rounded down that it counts for less than nothing counts for nothing: a
// composition without it costs no more than one with it.
void forget(Unit& unit) {
  if (unit.lower.log_moment >= 0) return;
  auto& [at, upper, lower] = unit.step;
  auto zero = std::lower_bound(at.begin(), at.end(), 0);
  if (zero == at.end() || *zero != 0) {
    const auto place = zero - at.begin();
    at.insert(zero, 0);
    upper.insert(upper.begin() + place, 0.0);
    lower.insert(lower.begin() + place, 0.0);
    zero = at.begin() + place;
  }
  std::fill(lower.begin(), lower.end(), 0.0);
  lower[static_cast<size_t>(zero - at.begin())] = 1;
  unit.lower = {};
  unit.loss_error = 0;
}

}  // namespace

struct Blocks::Composed {
  struct Side {
    double start = 0;       // the loss of the first mass
    double log_moment = 0;  // as Unit::Side
    std::vector<double> mass;
  };
  double grid = 0;
  Side upper, lower;
  double log_finite = 0, loss_error = 0, loss_scale = 0, relative = 0, error = 0, shrink = 0;
};

Extent::Extent(double deviation, double c) {
  for (double deviations : {0.3, 1.5, 4.0, 6.5}) reaches_.push_back(deviations / deviation);
  for (double share : {0.15, 0.4, 1.0, 2.5, 6.0, 15.0, 40.0, 100.0}) {
    if (share * c < reaches_[3]) reaches_.push_back(share * c);
  }
  for (Logs* logs : {&upper_, &lower_}) {
    logs->above.resize(reaches_.size());
    logs->below.resize(reaches_.size());
  }
}

void Extent::add(const std::vector<double>& masses, const std::vector<int64_t>& at, double grid,
                 double offset, double count, Logs& logs) const {
  WorkBudget::pay(2 * reaches_.size() * masses.size());
  for (size_t i = 0; i < reaches_.size(); ++i) {
    // log of sum of mass e^{h x}, the masses adding up to 1: neither overflows nor cancels.
    auto log_moment = [&](double h) {
      const double ends[2] = {h * (static_cast<double>(at.front()) * grid + offset),
                              h * (static_cast<double>(at.back()) * grid + offset)};
      const double top = std::max(ends[0], ends[1]) < 500 ? 0 : std::max(ends[0], ends[1]);
      double sum = 0, total = 0;
      for (size_t k = 0; k < masses.size(); ++k) {
        const double exponent = h * (static_cast<double>(at[k]) * grid + offset);
        sum += masses[k] * (top == 0 ? std::expm1(exponent) : std::exp(exponent - top));
        total += masses[k];
      }
      return top == 0 ? std::log1p(sum + (total - 1)) : top + std::log(sum);
    };
    logs.above[i] += count * log_moment(reaches_[i]);
    logs.below[i] += count * log_moment(-reaches_[i]);
  }
}

void Extent::add(const Unit& unit, double grid, double count) {
  add(unit.step.upper, unit.step.at, grid, unit.upper.offset, count, upper_);
  add(unit.step.lower, unit.step.at, grid, unit.lower.offset, count, lower_);
}

Window Extent::window(const Logs& logs, double log_tail) const {
  Window w{-kInfinity, kInfinity};
  for (size_t i = 0; i < reaches_.size(); ++i) {
    w.high = std::min(w.high, (logs.above[i] - log_tail) / reaches_[i]);
    w.low = std::max(w.low, -(logs.below[i] - log_tail) / reaches_[i]);
  }
  return w;
}

const Transform& Blocks::transform(size_t n) {
  auto& kept = transforms_[n];
  if (!kept) kept = std::make_unique<Transform>(n);
  return *kept;
}

Unit Blocks::direct(size_t kind, double grid, double c) const {
  const StepLoss step = make_(kind, grid);
  const double log_upper = moment_of(step.upper, c), log_lower = moment_of(step.lower, c);
  Unit out{tilted(step, c, log_upper, log_lower),
           {step.upper.offset, log_upper},
           {step.lower.offset, log_lower}};
  out.log_finite = std::log1p(-step.infinite);
  out.loss_error = step.loss_error;
  for (size_t k = 0; k < step.at.size(); ++k)
    out.loss_scale += step.upper.mass[k] * std::abs(step.upper.loss[k]);
  out.relative = 16 * kUnit;
  if (!cut_) forget(out);
  return out;
}

// A step with all places of the grid between its ends. Nothing where these are too many.
std::optional<Blocks::Composed> Blocks::stretched(const Unit& unit, double grid) {
  const auto& at = unit.step.at;
  const int64_t from = at.front(), size = at.back() - from + 1;
  if (size > static_cast<int64_t>(kMostOfAll)) return std::nullopt;
  WorkBudget::pay(static_cast<uint64_t>(size) / 4);
  Composed out;
  out.grid = grid;
  auto side = [&](const Unit::Side& one, const std::vector<double>& mass) {
    Composed::Side all{static_cast<double>(from) * grid + one.offset, one.log_moment,
                       std::vector<double>(static_cast<size_t>(size))};
    for (size_t k = 0; k < at.size(); ++k) all.mass[static_cast<size_t>(at[k] - from)] = mass[k];
    return all;
  };
  out.upper = side(unit.upper, unit.step.upper);
  out.lower = side(unit.lower, unit.step.lower);
  out.log_finite = unit.log_finite;
  out.loss_error = unit.loss_error;
  out.loss_scale = unit.loss_scale;
  out.relative = unit.relative;
  return out;
}

std::optional<Blocks::Composed> Blocks::composed(const std::vector<Part>& parts, double grid,
                                                 double c, double log_tail) {
  double variance = 0;
  for (const auto& [unit, count] : parts) variance += count * variance_of(unit, grid);
  if (!(variance > 0) || !std::isfinite(variance)) return std::nullopt;
  Extent extent(std::sqrt(variance), c);
  for (const auto& [unit, count] : parts) extent.add(unit, grid, count);
  const Window upper = extent.upper(log_tail), lower = extent.lower(log_tail);
  const double span = std::max(upper.width(), lower.width()) / grid + 4;
  if (!(span >= 4 && span <= 2 * kMostOfAll)) return std::nullopt;
  const size_t n = std::bit_ceil(std::max<size_t>(64, static_cast<size_t>(span)));
  Composed out;
  out.grid = grid;
  Circle circle(transform(n), parts.size() == 1);
  double shifts[2] = {0, 0};
  for (const auto& [unit, count] : parts) {
    circle.multiply(unit.step, count, powers_);
    shifts[0] += count * unit.upper.offset;
    shifts[1] += count * unit.lower.offset;
    out.upper.log_moment += count * unit.upper.log_moment;
    out.lower.log_moment += count * unit.lower.log_moment;
    out.log_finite += count * unit.log_finite;
    out.loss_error += count * unit.loss_error;
    out.loss_scale += count * unit.loss_scale;
    out.relative += count * unit.relative;
    out.error += count * unit.error;
    out.shrink += count * unit.shrink;
  }
  const double size = std::abs(upper.low) + std::abs(upper.high);
  out.loss_scale += size;
  out.relative += 8 * kUnit * (std::abs(out.upper.log_moment) + c * size);
  Circle::Masses masses = std::move(circle).composed();
  // What lies outside is missing there, and too much where it is.
  out.error += masses.error + 4 * std::exp(log_tail);
  auto cut = [&](std::vector<double>& from, double low, double shift, Composed::Side& side) {
    const double first = std::floor((low - shift) / grid) - 1;
    if (!(std::abs(first) < 0x1p52)) return false;
    Circle::turn(from, static_cast<int64_t>(first));
    side.mass = std::move(from);
    side.start = first * grid + shift;
    return true;
  };
  if (!cut(masses.upper, upper.low, shifts[0], out.upper) ||
      !cut(masses.lower, lower.low, shifts[1], out.lower))
    return std::nullopt;
  return out;
}

std::optional<Unit> Blocks::moved(Composed&& block, int64_t ratio, double c) const {
  const double coarse = static_cast<double>(ratio) * block.grid;
  if (!(c * coarse <= kMostTilted)) return std::nullopt;
  const auto many = static_cast<size_t>(ratio);
  const size_t masses = block.upper.mass.size() + block.lower.mass.size();
  WorkBudget::pay(4 * std::min(many, masses) + masses / 4);
  const double origin = origin_of(block.lower.mass, block.lower.start, block.grid, coarse, c);
  const Places above(block.upper.start, block.grid, many, 0),
      around(block.lower.start - origin, block.grid, many, (many - 1) / 2);
  if (!above.counted() || !around.counted()) return std::nullopt;
  const Moved upper = split(block.upper.mass, above, c), lower = merge(block.lower.mass, around, c);
  if (!(upper.sum > 0) || !(lower.sum > 0)) return std::nullopt;
  // Of the lower one the first mass is a point below.
  const int64_t from_upper = above.first(), from_lower = around.first() - 1;
  const int64_t from = std::min(from_upper, from_lower);
  const int64_t to = std::max(from_upper + static_cast<int64_t>(upper.mass.size()),
                              from_lower + static_cast<int64_t>(lower.mass.size()));
  if (to - from > int64_t{1} << 24) return std::nullopt;
  const auto size = static_cast<size_t>(to - from);
  Unit out;
  out.step.at.resize(size);
  out.step.upper.assign(size, 0.0);
  out.step.lower.assign(size, 0.0);
  for (size_t k = 0; k < size; ++k) out.step.at[k] = from + static_cast<int64_t>(k);
  for (size_t k = 0; k < upper.mass.size(); ++k)
    out.step.upper[k + static_cast<size_t>(from_upper - from)] = upper.mass[k] / upper.sum;
  for (size_t k = 0; k < lower.mass.size(); ++k)
    out.step.lower[k + static_cast<size_t>(from_lower - from)] = lower.mass[k] / lower.sum;
  out.upper = {0, block.upper.log_moment + std::log(upper.sum)};
  out.lower = {origin, block.lower.log_moment + std::log(lower.sum)};
  out.log_finite = block.log_finite;
  out.loss_error = block.loss_error;
  out.loss_scale = block.loss_scale;
  out.relative = block.relative + 2 * rounding_of(many);
  out.error = block.error;
  out.shrink = block.shrink + std::max({0.0, -std::log(upper.sum), -std::log(lower.sum)});
  if (!cut_) forget(out);
  return out;
}

std::vector<Blocks::Part> Blocks::parts(size_t kind, double grid, double c, double log_tail) {
  return parts(kind, kinds_[kind].count, 1, grid, {c, log_tail}, 0);
}

// `count` steps, of which there will be `times` as many.
std::vector<Blocks::Part> Blocks::parts(size_t kind, double count, double times, double grid,
                                        const Tilt& tilt, int depth) {
  const double finest = fineness_ * kinds_[kind].spread;
  // As many steps as are as smooth on this grid as one on the finest.
  const double smooth = grid * grid / (finest * finest);
  if (!(smooth >= kLeastRatio * kLeastRatio) || depth == kMostDepth)
    return {{direct(kind, grid, tilt.c), count}};
  const double blocks = even_split(count, std::ceil(count / smooth)),
               each = std::floor(count / blocks), rest = count - blocks * each;
  std::vector<Part> out;
  auto add = [&](double steps, double number) {
    auto unit = block(kind, steps, times * number, grid, tilt, depth);
    if (unit) out.push_back({std::move(*unit), number});
    return unit.has_value();
  };
  if (!add(each, blocks)) {
    loose_ = true;
    return {{direct(kind, grid, tilt.c), count}};
  }
  if (rest > kMostRest) {
    for (auto& part : parts(kind, rest, times, grid, tilt, depth + 1))
      out.push_back(std::move(part));
  } else if (rest > 0 && !add(1, rest)) {
    out.push_back({direct(kind, grid, tilt.c), rest});
  }
  return out;
}

// `count` steps as one, on a grid on which a step alone cannot be told from none. Nothing where its
// rare losses leave no room for usual ones.
std::optional<Unit> Blocks::block(size_t kind, double count, double times, double grid,
                                  const Tilt& tilt, int depth) {
  const double finest = fineness_ * kinds_[kind].spread, c = tilt.c;
  const auto odd = [](double ratio) { return 2 * std::floor(0.5 * (ratio - 1)) + 1; };  // centred
  if (count < 2) {
    const double ratio = odd(grid / finest);
    if (!(ratio >= kLeastRatio && ratio < 0x1p24)) return std::nullopt;
    auto alone = stretched(direct(kind, grid / ratio, c), grid / ratio);
    if (!alone) return std::nullopt;
    return moved(std::move(*alone), static_cast<int64_t>(ratio), c);
  }
  const double log_tail = tilt.log_tail - std::log(times) - 1;
  const Unit step = direct(kind, finest, c);
  Extent extent(std::sqrt(count * variance_of(step, finest)), c);
  extent.add(step, finest, count);
  const double width =
      std::max(extent.upper(log_tail).width(), extent.lower(log_tail).width()) * 1.02;
  // The larger the first blocks, the less of their errors there is in all.
  const double usual = kinds_[kind].count > kVeryMany ? 4 * kMostPoints : kMostPoints,
               levels =
                   std::ceil(std::log(count) / (2 * std::log(usual * fineness_ / kUsualWidth)));
  // Blocks of blocks, of about as many each; the first, of few kinds, as large as it takes.
  const double most = levels > 1 || kinds_[kind].count < kMany
                          ? usual
                          : std::max(usual, kMostOfAll / static_cast<double>(kinds_.size()));
  double inner = std::max(finest, width / most);
  if (inner > finest && levels > 1)
    inner = std::max(inner, finest * std::pow(count, 0.5 - 0.5 / levels));
  const double ratio = odd(grid / inner);
  if (!(ratio >= kLeastRatio && ratio < 0x1p24)) return std::nullopt;
  inner = grid / ratio;
  const auto made_of = parts(kind, count, times, inner, tilt, depth + 1);
  if (loose_ && kinds_.size() == 1) return std::nullopt;
  auto whole = composed(made_of, inner, c, log_tail);
  if (!whole) return std::nullopt;
  return moved(std::move(*whole), static_cast<int64_t>(ratio), c);
}

}  // namespace souk::policy
