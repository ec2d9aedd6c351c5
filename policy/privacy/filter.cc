#include "policy/privacy/filter.h"

#include <algorithm>
#include <cmath>

#include "policy/privacy/bounds.h"
#include "policy/privacy/budget.h"
#include "policy/privacy/closed_form.h"
#include "policy/privacy/renyi.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

constexpr uint64_t kMost = uint64_t{1} << 53;
constexpr uint64_t kMostUnits =
    400'000'000;  // of counting by pld-static, and those of 40 questions

// Contracts let in at one order; kMost and more means without end.
uint64_t admitted_at(std::span<const Mechanism> stream, double order, double budget) {
  if (!(budget > 0)) return 0;
  std::vector<double> costs;
  double cycle = 0;
  for (const auto& contract : stream) {
    costs.push_back(static_cast<double>(contract.steps) *
                    renyi_of_step(contract, Adjacency::kAddRemove, order));
    cycle += costs.back();
  }
  if (!(cycle > 0)) return kMost;
  // Whole rounds first, short of the last two, so that rounding decides nothing.
  double rounds = std::floor(budget / cycle) - 2;
  if (rounds * static_cast<double>(stream.size()) >= static_cast<double>(kMost)) return kMost;
  rounds = std::isfinite(rounds) ? std::max(0.0, rounds) : 0;
  double spent = rounds * cycle;
  uint64_t count = static_cast<uint64_t>(rounds) * stream.size();
  for (size_t i = 0; spent + costs[i] <= budget; i = (i + 1) % costs.size()) {
    spent += costs[i];
    ++count;
  }
  return count;
}

// What `count` contracts of the stream cost, all chosen beforehand: the logarithm of epsilon's
// upper bound over the budget's, kept finite. Not positive: they are proven to stay within it.
double excess_of(std::span<const Mechanism> stream, uint64_t count, double epsilon, double delta) {
  constexpr double kFar = 60;
  std::vector<Mechanism> run;
  for (size_t i = 0; i < stream.size(); ++i) {
    const uint64_t times = count / stream.size() + (i < count % stream.size() ? 1 : 0);
    if (times == 0 || stream[i].steps == 0) continue;
    run.push_back(stream[i]);
    run.back().steps *= times;
  }
  const auto live = normalised(run);
  if (live.empty()) return -kFar;
  const Bounds rough = rough_epsilon(live, Adjacency::kAddRemove, Direction::kRemove, delta);
  if (rough.lower > epsilon) return std::clamp(std::log(rough.lower / epsilon), 1e-9, kFar);
  // Not of `live`: all Gaussians as one may have less noise than a mechanism may be asked with.
  const auto answer = epsilon_bounds_around(run, Adjacency::kAddRemove, epsilon, delta);
  CHECK(answer);  // its arguments were checked
  const Bounds bounds = *answer;
  const double upper = std::min(bounds.upper, rough.upper);
  return std::clamp(upper <= epsilon ? std::min(0.0, std::log(upper / epsilon))
                                     : std::max(1e-12, std::log(upper / epsilon)),
                    -kFar, kFar);
}

// How many contracts are proven to stay within the budget; kMost: without end.
Result<uint64_t> admitted_statically(std::span<const Mechanism> stream, double epsilon,
                                     double delta) {
  // More than 2^53 steps of one kind are not counted: they are without end.
  uint64_t longest = 1;
  for (const auto& contract : stream) longest = std::max(longest, contract.steps);
  const uint64_t most = kMost / longest / (stream.size() + 1);
  if (most < 1) {
    return Error(Code::kMalformed,
                 "pld-static: expected contracts of fewer steps: 2^53 of all of them together");
  }
  uint64_t low = 0, high = 1;  // `low` stays within, `high` does not
  double low_excess = 0, high_excess = 0;
  const uint64_t units = kMostUnits + 40 * question_units(stream.size());
  const bool done = WorkBudget::within(units, [&] {
    while ((high_excess = excess_of(stream, high, epsilon, delta)) <= 0) {
      low = high, low_excess = high_excess;
      if (high == most) {
        high = kMost;
        return;
      }
      // Epsilon grows with the root of a count at least, but for its start.
      const double factor = std::clamp(std::exp(-1.7 * low_excess), 1.01, 256.0);
      high = std::min(most, static_cast<uint64_t>(static_cast<double>(high) * factor) + 1);
    }
    // Regula falsi (Illinois) on logarithms.
    double low_weight = low_excess, high_weight = high_excess;
    int side = 0;
    // Of counts in the millions bounds tell no more apart.
    for (int i = 0; high - low > 1 + low / 1'000'000; ++i) {
      double t = low > 0 ? low_weight / (low_weight - high_weight) : 0.5;
      if (i > 24 || !(t >= 0 && t <= 1)) t = 0.5;
      const double from = std::log(std::max<double>(0.5, static_cast<double>(low))),
                   to = std::log(static_cast<double>(high));
      const uint64_t at = std::clamp(static_cast<uint64_t>(std::exp(from + t * (to - from)) + 0.5),
                                     low + 1, high - 1);
      const double excess = excess_of(stream, at, epsilon, delta);
      if (excess <= 0) {
        low = at, low_weight = excess;
        if (side == 1) high_weight *= 0.5;
        side = 1;
      } else {
        high = at, high_weight = excess;
        if (side == -1) low_weight *= 0.5;
        side = -1;
      }
    }
  });
  if (!done) {
    return Error(Code::kMalformed,
                 "pld-static: this budget admits so much of this stream that counting it takes too "
                 "long: expected a smaller budget or larger contracts");
  }
  return high >= kMost ? kMost : low;
}

}  // namespace

double renyi_budget(double epsilon, double delta, double order) {
  return epsilon - std::log1p(-1 / order) + (std::log(delta) + std::log(order)) / (order - 1);
}

Result<FilterRule> parse_rule(std::string_view text) {
  if (text == "renyi-mixture8" || text == "renyi_mixture8")
    return FilterRule{FilterRule::Kind::kRenyiMixture, 0};
  if (text == "pld-static" || text == "pld_static")
    return FilterRule{FilterRule::Kind::kPldStatic, 0};
  if (text.substr(0, 6) == "renyi:") {
    double order = TRY(parse_number(text.substr(6), "rule"));
    if (order > 1 && order <= 4096) return FilterRule{FilterRule::Kind::kRenyi, order};
  }
  return Error(Code::kMalformed,
               "rule: expected renyi:ORDER with 1 < ORDER <= 4096, renyi-mixture8 or pld-static");
}

Result<std::vector<Mechanism>> parse_stream(std::string_view text) {
  std::vector<Mechanism> stream;
  while (!text.empty()) {
    auto end = text.find(';');
    auto contract = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    auto first = contract.find(','), second = contract.find(',', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos ||
        stream.size() == 4096) {
      return Error(
          Code::kMalformed,
          "stream: expected q,sigma,T of each contract, such as 0.01,4,600, at most 4096 of "
          "them between semicolons");
    }
    Mechanism mechanism;
    mechanism.q = TRY(parse_number(contract.substr(0, first), "stream: q"));
    mechanism.scale =
        TRY(parse_number(contract.substr(first + 1, second - first - 1), "stream: sigma"));
    mechanism.steps = TRY(parse_count(contract.substr(second + 1), "stream: T"));
    TRY(check(mechanism));
    stream.push_back(mechanism);
  }
  if (stream.empty())
    return Error(Code::kMalformed, "stream: expected at least one contract q,sigma,T");
  return stream;
}

Result<std::optional<uint64_t>> admitted(std::span<const Mechanism> stream, const FilterRule& rule,
                                         double epsilon, double delta) {
  if (!(epsilon > 0 && std::isfinite(epsilon)))
    return Error(Code::kMalformed, "epsilon: expected a positive number");
  TRY(check_delta(delta));
  if (stream.empty()) return Error(Code::kMalformed, "stream: expected at least one contract");
  TRY(check(stream));
  uint64_t count = 0;
  switch (rule.kind) {
    case FilterRule::Kind::kRenyi:
      count = admitted_at(stream, rule.order, renyi_budget(epsilon, delta, rule.order));
      break;
    case FilterRule::Kind::kRenyiMixture:
      // A contract enters while one order has room, and every order counts all that entered.
      for (uint32_t order : kOrders) {
        double share = delta / static_cast<double>(kOrders.size());
        count = std::max(count, admitted_at(stream, order, renyi_budget(epsilon, share, order)));
      }
      break;
    case FilterRule::Kind::kPldStatic:
      count = normalised(stream).empty() ? kMost : TRY(admitted_statically(stream, epsilon, delta));
      break;
  }
  if (count >= kMost) return std::optional<uint64_t>();
  return std::optional<uint64_t>(count);
}

}  // namespace souk::policy
