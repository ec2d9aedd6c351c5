#include "market_api/client/evaluate.h"

#include <algorithm>
#include <cmath>
#include <thread>

#include "market_api/client/local_rows.h"
#include "trainer/engine/engine.h"

namespace souk::market {
namespace {

using Loss = contracts::TrainingSpec::Loss;

double logistic(double x) {
  return 1 / (1 + std::exp(-x));
}

// Probabilities of one row from its logits.
void softmax(std::span<const float> logits, std::vector<double>& out) {
  double top = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  size_t first = out.size();
  double sum = 0;
  for (float logit : logits) {
    out.push_back(std::exp(static_cast<double>(logit) - top));
    sum += out.back();
  }
  for (size_t i = first; i < out.size(); ++i) out[i] /= sum;
}

}  // namespace

uint64_t Predictions::right(std::span<const int64_t> truth) const {
  uint64_t count = 0;
  for (size_t row = 0; row < labels.size() && row < truth.size(); ++row) {
    if (labels[row] == truth[row]) ++count;
  }
  return count;
}

Result<Predictions> predict_rows(const StoredModel& stored, const trainer::Dataset& rows,
                                 unsigned threads) {
  contracts::TrainingSpec spec = stored.notes.spec;
  spec.dtype = contracts::TrainingSpec::Dtype::kF32;
  uint64_t wanted = 1;
  for (uint32_t side : spec.input_shape) wanted *= side;
  if (rows.feature_count() != wanted) {
    return Error(Code::kMalformed, "data: expected " + std::to_string(wanted) +
                                       " features in each row, found " +
                                       std::to_string(rows.feature_count()));
  }
  auto workers = TRY(trainer::Workers::start(
      threads > 0 ? threads : std::max(1U, std::thread::hardware_concurrency())));
  auto logits = TRY(trainer::predict(spec, stored.model, features_of(rows), rows.rows(), *workers));
  Predictions out;
  out.rows = rows.rows();
  const size_t outputs = out.rows == 0 ? 1 : logits.size() / out.rows;
  out.are_probabilities = spec.loss != Loss::kMse;
  out.width = static_cast<uint32_t>(outputs == 1 && spec.loss == Loss::kBce ? 2 : outputs);
  for (size_t row = 0; row < out.rows; ++row) {
    std::span<const float> own(logits.data() + row * outputs, outputs);
    if (!std::all_of(own.begin(), own.end(), [](float v) { return std::isfinite(v); })) {
      return Error(Code::kMalformed, "model: expected finite outputs, found others for row " +
                                         std::to_string(row) +
                                         ": its weights, or the row's numbers, are too large");
    }
    out.labels.push_back(trainer::predicted_class(spec, own));
    if (spec.loss == Loss::kSoftmaxCrossEntropy) {
      softmax(own, out.numbers);
    } else if (spec.loss == Loss::kMse) {
      out.numbers.insert(out.numbers.end(), own.begin(), own.end());
    } else if (outputs == 1) {
      double p = logistic(static_cast<double>(own[0]));
      out.numbers.insert(out.numbers.end(), {1 - p, p});
    } else {
      for (float logit : own) out.numbers.push_back(logistic(static_cast<double>(logit)));
    }
  }
  return out;
}

}  // namespace souk::market
