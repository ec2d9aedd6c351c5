#include "trainer/audit/membership.h"

#include <cmath>
#include <variant>
#include <vector>

#include "trainer/engine/loss.h"
#include "trainer/engine/sampling.h"

namespace souk::trainer {
namespace {

// Some rows of a dataset, copied.
struct Half {
  std::vector<float> floats;
  std::vector<uint8_t> bytes;
  std::vector<int64_t> labels;
};

Half half_of(const Examples& data, const std::vector<uint64_t>& rows) {
  Half half;
  const uint64_t all = data.labels.size();
  for (uint64_t row : rows) half.labels.push_back(data.labels[row]);
  std::visit(
      [&](auto values) {
        const uint64_t each = values.size() / all;
        auto copy = [&](auto& to) {
          to.reserve(each * rows.size());
          for (uint64_t row : rows) {
            auto from = values.subspan(row * each, each);
            to.insert(to.end(), from.begin(), from.end());
          }
        };
        if constexpr (sizeof(values[0]) == 1) {
          copy(half.bytes);
        } else {
          copy(half.floats);
        }
      },
      data.features);
  return half;
}

// The logit of the probability that exp(-loss) is.
double confidence(double loss) {
  loss = std::max(loss, 1e-12);
  return loss > 30 ? -loss : -std::log(std::expm1(loss));
}

struct Gaussian {
  double count = 0, mean = 0, square = 0;
  void add(double x) {
    ++count;
    const double off = x - mean;
    mean += off / count;
    square += off * (x - mean);
  }
};

}  // namespace

Result<OneRunFigures> membership_inference(const contracts::TrainingSpec& spec, Examples data,
                                           uint32_t shadows, const NoiseRoot& seed,
                                           Workers& workers, const Model* initial,
                                           const std::function<void(uint32_t models)>& trained) {
  const uint64_t rows = data.labels.size();
  if (shadows < 2 || shadows > 256)
    return Error(Code::kMalformed, "membership: expected 2 to 256 shadow models");
  if (rows < 16) return Error(Code::kMalformed, "membership: expected at least 16 rows");
  std::vector<Gaussian> with(rows), without(rows);
  std::vector<double> scores(rows);
  std::vector<uint8_t> inside(rows, 0);
  std::vector<double> confidences(rows);
  for (uint32_t model = 0; model <= shadows; ++model) {
    std::vector<uint64_t> members;
    poisson_batch(derive_key(seed, "membership-coins", model), rows, uint64_t{1} << 63, members);
    if (members.empty()) return Error(Code::kTryAgain, "membership: expected some row to be in");
    std::vector<uint8_t> in(rows, 0);
    for (uint64_t row : members) in[row] = 1;
    const Half half = half_of(data, members);
    Examples examples{half.bytes.empty() ? Features(std::span<const float>(half.floats))
                                         : Features(std::span<const uint8_t>(half.bytes)),
                      half.labels};
    auto run = TRY(TrainingRun::create(spec, examples, derive_key(seed, "membership-root", model),
                                       workers, initial));
    TRY(run.run_to_end());
    auto learned = TRY(run.finish());
    auto outputs = TRY(predict(spec, learned, data.features, rows, workers));
    const size_t each = outputs.size() / rows;
    for (uint64_t row = 0; row < rows; ++row) {
      std::span<const float> own(outputs.data() + row * each, each);
      confidences[row] = confidence(loss_of(spec.loss, own, data.labels[row], 1, nullptr));
    }
    if (model < shadows) {
      for (uint64_t row = 0; row < rows; ++row)
        (in[row] != 0 ? with : without)[row].add(confidences[row]);
    } else {
      inside = std::move(in);
    }
    trained(model + 1);
  }
  // One variance for each side, over all rows: few shadows cannot say more.
  double in_square = 0, in_freedom = 0, out_square = 0, out_freedom = 0;
  for (uint64_t row = 0; row < rows; ++row) {
    in_square += with[row].square;
    in_freedom += std::max(0.0, with[row].count - 1);
    out_square += without[row].square;
    out_freedom += std::max(0.0, without[row].count - 1);
  }
  const double in_variance = std::max(1e-12, in_square / std::max(1.0, in_freedom)),
               out_variance = std::max(1e-12, out_square / std::max(1.0, out_freedom));
  for (uint64_t row = 0; row < rows; ++row) {
    // Without a model of one side there is no ratio.
    if (with[row].count < 1 || without[row].count < 1) continue;
    const double a = confidences[row] - with[row].mean, b = confidences[row] - without[row].mean;
    scores[row] = 0.5 * (b * b / out_variance - a * a / in_variance);
  }
  return one_run_figures(scores, inside, static_cast<double>(spec.privacy->delta_pico) * 1e-12);
}

}  // namespace souk::trainer
