#include "trainer/audit/one_run.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "ledger/base/result.h"
#include "policy/privacy/bounds.h"

namespace souk::trainer {
namespace {

// Pr[Bin(n, p) = 0 ... n], from its mode outwards: nothing underflows that counts.
std::vector<double> binomial(uint64_t n, double p) {
  std::vector<double> mass(n + 1, 0.0);
  const auto mode = std::min(n, static_cast<uint64_t>(static_cast<double>(n + 1) * p));
  const double odds = p / (1 - p);
  mass[mode] = 1;
  for (uint64_t k = mode; k < n; ++k)
    mass[k + 1] = mass[k] * odds * static_cast<double>(n - k) / static_cast<double>(k + 1);
  for (uint64_t k = mode; k > 0; --k)
    mass[k - 1] = mass[k] / odds * static_cast<double>(k) / static_cast<double>(n - k + 1);
  const double sum = std::accumulate(mass.begin(), mass.end(), 0.0);
  for (double& m : mass) m /= sum;
  return mass;
}

double mean_of(std::span<const double> scores, std::span<const uint8_t> inside, bool in,
               double& variance, double& count) {
  double mean = 0, square = 0;
  count = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    if ((inside[i] != 0) != in) continue;
    ++count;
    const double off = scores[i] - mean;
    mean += off / count;
    square += off * (scores[i] - mean);
  }
  variance = count > 1 ? square / (count - 1) : 0;
  return mean;
}

double gaussian_epsilon(double distance, double delta) {
  if (!(distance > 0)) return 0;
  if (!std::isfinite(distance)) return INFINITY;
  policy::Mechanism gauss;
  gauss.kind = policy::Mechanism::Kind::kGaussian;
  gauss.scale = 1 / distance;
  auto bounds = policy::epsilon_bounds(std::span(&gauss, 1), policy::Adjacency::kAddRemove, delta,
                                       policy::Effort::kUsual);
  return bounds ? bounds->worst().upper : INFINITY;
}

}  // namespace

double chance_of_guessing(uint64_t examples, uint64_t guesses, uint64_t right, double epsilon,
                          double delta) {
  CHECK(right <= guesses && guesses <= examples);
  if (right == 0) return 1;
  const auto mass = binomial(guesses, 1 / (1 + std::exp(-epsilon)));
  double beta = 0;
  for (uint64_t k = guesses + 1; k-- > right;) beta += mass[k];
  // The most that delta can add: alpha = max over i of Pr[right - i <= W < right] / i.
  double alpha = 0, sum = 0;
  for (uint64_t i = 1; i <= right; ++i) {
    sum += mass[right - i];
    alpha = std::max(alpha, sum / static_cast<double>(i));
  }
  // Sums of at most 4096 positive doubles, each right to 1e-12 of itself.
  return std::min(1.0, (beta + 2 * static_cast<double>(examples) * delta * alpha) * (1 + 1e-9));
}

OneRunFigures one_run_figures(std::span<const double> scores, std::span<const uint8_t> inside,
                              double delta) {
  CHECK(scores.size() == inside.size());
  OneRunFigures out;
  const size_t m = scores.size();
  out.examples = m;
  if (m < 2) return out;
  std::vector<size_t> order(m);
  std::iota(order.begin(), order.end(), size_t{0});
  // Equal scores by their number, which is no hint about the coin.
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return scores[a] > scores[b]; });

  // A few numbers of guesses, named beforehand, share the error.
  std::vector<uint64_t> sides;
  for (uint64_t k = m / 2; k >= 4 && sides.size() < 8; k /= 2) sides.push_back(k);
  for (uint64_t side : sides) {
    uint64_t right = 0;
    for (uint64_t i = 0; i < side; ++i)
      right += (inside[order[i]] != 0 ? 1U : 0U) + (inside[order[m - 1 - i]] == 0 ? 1U : 0U);
    const double error = kAuditError / static_cast<double>(sides.size());
    auto contradicted = [&](double epsilon) {
      return chance_of_guessing(m, 2 * side, right, epsilon, delta) < error;
    };
    if (!contradicted(out.epsilon_lower)) continue;
    double low = out.epsilon_lower, high = 40;
    for (int i = 0; i < 40; ++i) {
      const double middle = 0.5 * (low + high);
      (contradicted(middle) ? low : high) = middle;
    }
    out.epsilon_lower = low;
    out.guesses = 2 * side;
    out.right = right;
  }

  double in_variance = 0, out_variance = 0, in_count = 0, out_count = 0;
  const double in_mean = mean_of(scores, inside, true, in_variance, in_count),
               out_mean = mean_of(scores, inside, false, out_variance, out_count);
  if (in_count < 1 || out_count < 1) return out;
  const double spread = std::sqrt(0.5 * (in_variance + out_variance));
  double distance = in_mean - out_mean;
  if (distance > 0) distance = spread > 0 ? distance / spread : INFINITY;
  out.epsilon_gdp = gaussian_epsilon(distance, delta);

  // From the highest score down: pairs that are in the right order, ties counted half.
  double above = 0, pairs = 0, recognised = 0;
  for (size_t i = 0; i < m;) {
    size_t end = i;
    double ins = 0, outs = 0;
    for (; end < m && scores[order[end]] == scores[order[i]]; ++end)
      ++(inside[order[end]] != 0 ? ins : outs);
    pairs += outs * (above + 0.5 * ins);
    above += ins;
    i = end;
    // False alarms so far: at most one in a hundred.
    if (static_cast<double>(i) - above <= 0.01 * out_count) recognised = above;
  }
  out.auc = pairs / (in_count * out_count);
  out.recognised_at_1_percent = recognised / in_count;
  return out;
}

OneRunFigures one_run_figures(const Canaries& canaries, double delta) {
  return one_run_figures(canaries.scores(), canaries.inside(), delta);
}

}  // namespace souk::trainer
