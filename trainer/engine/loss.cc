#include "trainer/engine/loss.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "ledger/base/result.h"

namespace souk::trainer {

using Loss = contracts::TrainingSpec::Loss;

namespace {

double softmax_cross_entropy(std::span<const float> outputs, size_t target, double share,
                             float* gradient) {
  constexpr size_t kRemembered = 64;
  std::array<double, kRemembered> exponentials;
  const double top = *std::max_element(outputs.begin(), outputs.end());
  double sum = 0;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const double own = std::exp(outputs[i] - top);
    if (i < kRemembered) exponentials[i] = own;
    sum += own;
  }
  for (size_t i = 0; gradient && i < outputs.size(); ++i) {
    const double own = i < kRemembered ? exponentials[i] : std::exp(outputs[i] - top);
    gradient[i] = static_cast<float>(share * (own / sum - (i == target ? 1.0 : 0.0)));
  }
  return std::log(sum) + top - outputs[target];
}

// What output i should be: the label's own number where there is one output, else one-hot.
double wanted(std::span<const float> outputs, int64_t label, size_t i) {
  if (outputs.size() == 1) return static_cast<double>(label);
  return static_cast<size_t>(label) == i ? 1 : 0;
}

}  // namespace

double loss_of(Loss loss, std::span<const float> outputs, int64_t label, double share,
               float* gradient) {
  if (loss == Loss::kSoftmaxCrossEntropy) {
    return softmax_cross_entropy(outputs, static_cast<size_t>(label), share, gradient);
  }
  const double each = 1.0 / static_cast<double>(outputs.size());
  double sum = 0;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const double z = outputs[i], y = wanted(outputs, label, i);
    double slope = 0;
    if (loss == Loss::kBce) {
      sum += std::max(z, 0.0) - z * y + std::log1p(std::exp(-std::abs(z)));
      slope = 1 / (1 + std::exp(-z)) - y;
    } else {
      sum += (z - y) * (z - y);
      slope = 2 * (z - y);
    }
    if (gradient) gradient[i] = static_cast<float>(share * each * slope);
  }
  return sum * each;
}

int64_t class_of(Loss loss, std::span<const float> outputs, uint32_t classes) {
  if (outputs.size() > 1) return std::max_element(outputs.begin(), outputs.end()) - outputs.begin();
  if (loss == Loss::kBce) return outputs[0] > 0 ? 1 : 0;
  const double nearest = std::nearbyint(static_cast<double>(outputs[0]));
  if (!(nearest > 0)) return 0;
  return static_cast<int64_t>(std::min(nearest, static_cast<double>(classes - 1)));
}

}  // namespace souk::trainer
