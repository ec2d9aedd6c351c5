#include <algorithm>
#include <cmath>

#include "contracts/training/vocabulary.h"
#include "policy/lua/contract_parts.h"

namespace souk::policy {
namespace {

using contracts::Optimizer;
using contracts::TrainingSpec;

__extension__ typedef unsigned __int128 Wide;

Result<contracts::Augmentation> read_augmentation(Table& train) {
  contracts::Augmentation augmentation;
  const Json* value = train.find("augment");
  if (!value) return augmentation;
  auto table = TRY(Table::of(*value, "train.augment"));
  augmentation.flip = TRY(table.boolean("flip", false));
  augmentation.crop = static_cast<uint32_t>(TRY(table.whole("crop", 0, 64, 0)));
  augmentation.multiplicity = static_cast<uint32_t>(TRY(table.whole("multiplicity", 1, 64, 1)));
  TRY(table.done());
  return augmentation;
}

Result<int64_t> read_epsilon(Table& table, std::optional<int64_t> otherwise) {
  const Json* epsilon = table.find("epsilon");
  const Json* micro = table.find("epsilon_micro");
  if (!epsilon && !micro && otherwise) return *otherwise;
  if ((epsilon != nullptr) == (micro != nullptr))
    return wrong(table.place("epsilon"), "either epsilon or epsilon_micro");
  if (epsilon)
    return scaled(*epsilon, 1e6, contracts::kMaxEpsilonMicro, "millionth", table.place("epsilon"));
  return table.whole("epsilon_micro", 1, contracts::kMaxEpsilonMicro);
}

// How each dataset takes part: what is left out is the contract's.
Status read_pool(const Json& value, const std::vector<uint64_t>& rows,
                 contracts::PrivacySpec& privacy, uint64_t& threshold) {
  if (!value.array() || value.array()->size() != rows.size())
    return wrong("privacy.pool", "a list with a table for each of the " +
                                     std::to_string(rows.size()) + " datasets, in their order");
  const contracts::PoolMember whole{privacy.clip, privacy.epsilon_micro, threshold};
  contracts::PoolMember most{0, 0, 0};
  std::vector<contracts::PoolMember> pool;
  for (size_t i = 0; i < rows.size(); ++i) {
    auto table = TRY(Table::of((*value.array())[i], "privacy.pool[" + std::to_string(i + 1) + "]"));
    contracts::PoolMember member = whole;
    member.clip = TRY(table.real("clip", whole.clip));
    member.epsilon_micro = TRY(read_epsilon(table, whole.epsilon_micro));
    const Json* rate = table.find("rate");
    if (rate && table.find("batch"))
      return wrong(table.place("rate"), "either rate or batch, the rows of it that a step expects");
    if (rate) {
      const double q = TRY(real_of(*rate, table.place("rate")));
      if (!(q >= 0x1p-60 && q <= 1)) return wrong(table.place("rate"), "a number from 0 to 1");
      member.sampling_threshold = q == 1 ? UINT64_MAX : static_cast<uint64_t>(std::ldexp(q, 64));
    } else if (table.find("batch")) {
      const auto batch = TRY(table.whole("batch", 1, static_cast<int64_t>(rows[i])));
      member.sampling_threshold = poisson_threshold(batch, rows[i]);
    }
    TRY(table.done());
    most.clip = std::max(most.clip, member.clip);
    most.epsilon_micro = std::max(most.epsilon_micro, member.epsilon_micro);
    most.sampling_threshold = std::max(most.sampling_threshold, member.sampling_threshold);
    pool.push_back(member);
  }
  if (most.clip != whole.clip || most.epsilon_micro != whole.epsilon_micro) {
    return wrong("privacy.pool",
                 "the largest clip and epsilon of the datasets to be the contract's");
  }
  threshold = most.sampling_threshold;
  const bool alike =
      std::all_of(pool.begin(), pool.end(), [&](const auto& member) { return member == most; });
  if (!alike) privacy.pool = std::move(pool);
  return Done{};
}

}  // namespace

Result<int64_t> read_batch(Table& train, uint64_t rows) {
  int64_t batch = TRY(train.whole("batch", 1, 65536));
  if (static_cast<uint64_t>(batch) > rows)
    return wrong("train.batch", "at most the " + std::to_string(rows) + " rows of the datasets");
  return batch;
}

Result<uint32_t> read_steps(Table& train, uint64_t rows, int64_t batch) {
  const Json* steps = train.find("steps");
  const Json* epochs = train.find("epochs");
  if ((steps != nullptr) == (epochs != nullptr)) return wrong("train", "either steps or epochs");
  if (steps) {
    int64_t count = TRY(train.whole("steps", 1, 1'000'000));
    return static_cast<uint32_t>(count);
  }
  double passes = TRY(real_of(*epochs, "train.epochs"));
  if (!(passes > 0 && passes <= 1e6)) return wrong("train.epochs", "more than 0, at most 1000000");
  double count = std::ceil(passes * static_cast<double>(rows) / static_cast<double>(batch));
  if (count > 1e6) return wrong("train.epochs", "at most 1000000 steps in all");
  return static_cast<uint32_t>(std::max(count, 1.0));
}

Result<Optimizer> read_optimizer(const Json* value) {
  Optimizer optimizer;
  if (!value) return optimizer;
  auto table = TRY(Table::of(*value, "train.optimizer"));
  auto kind = table.text("kind");
  if (!kind || (*kind != "sgd" && *kind != "adam"))
    return wrong("train.optimizer", "sgd{...}, adam{...} or adamw{...}");
  optimizer.weight_decay = TRY(table.real("weight_decay", 0));
  auto decay = TRY(table.text("decay", "decoupled"));
  auto way = contracts::decay_from_name(decay);
  if (!way) return wrong("train.optimizer.decay", "\"decoupled\" or \"coupled\"");
  optimizer.decay = *way;
  if (*kind == "sgd") {
    optimizer.momentum = TRY(table.real("momentum", 0));
    optimizer.nesterov = TRY(table.boolean("nesterov", false));
  } else {
    optimizer.kind = Optimizer::Kind::kAdam;
    optimizer.beta1 = TRY(table.real("beta1", optimizer.beta1));
    optimizer.beta2 = TRY(table.real("beta2", optimizer.beta2));
    optimizer.epsilon = TRY(table.real("epsilon", optimizer.epsilon));
  }
  table.find("lr");
  TRY(table.done());
  return optimizer;
}

Result<std::vector<TrainingSpec::Rate>> read_rates(Table& train, const Json* optimizer,
                                                   uint32_t steps) {
  const Json* own = train.find("learning_rate");
  const Json* inside = optimizer ? optimizer->find("lr") : nullptr;
  if (own && inside)
    return wrong("train.learning_rate", "one learning rate, here or as the optimizer's lr");
  const Json* value = own ? own : inside;
  const std::string place = inside ? "train.optimizer.lr" : "train.learning_rate";
  if (!value) return wrong(place, "a number or a function of the step");
  std::vector<TrainingSpec::Rate> rates;
  if (!value->array()) {
    double rate = TRY(real_of(*value, place));
    rates.push_back({steps, rate});
    return rates;
  }
  for (const Json& item : *value->array()) {
    auto run = TRY(Table::of(item, place));
    int64_t length = TRY(run.whole("steps", 1, 1'000'000));
    const Json* number = TRY(run.need("value", "a number"));
    double rate = TRY(real_of(*number, run.place("value")));
    TRY(run.done());
    rates.push_back({static_cast<uint32_t>(length), rate});
  }
  return rates;
}

Result<std::vector<double>> read_constants(const Json* value, const std::string& place) {
  std::vector<double> out;
  if (!value) return out;
  if (!value->array()) {
    double number = TRY(real_of(*value, place));
    out.push_back(number);
    return out;
  }
  for (size_t i = 0; i < value->array()->size(); ++i) {
    double number = TRY(real_of((*value->array())[i], place + "[" + std::to_string(i + 1) + "]"));
    out.push_back(number);
  }
  return out;
}

Result<Privacy> read_privacy(const Json& value, TrainingSpec& spec,
                             const std::vector<uint64_t>& rows, const Calibrate& calibrate) {
  auto table = TRY(Table::of(value, "privacy"));
  Privacy privacy;
  auto& own = privacy.spec;
  own.epsilon_micro = TRY(read_epsilon(table, std::nullopt));
  const Json* delta = TRY(table.need("delta", "a number such as \"1e-5\""));
  own.delta_pico = TRY(scaled(*delta, 1e12, contracts::kMaxDeltaPico, "1e-12", "privacy.delta"));
  own.clip = TRY(table.real("clip", 1.0));
  auto clipping = TRY(table.text("clipping", "flat"));
  auto way = contracts::clipping_from_name(clipping);
  if (!way) return wrong("privacy.clipping", "\"flat\", \"per_layer\" or \"automatic\"");
  own.clipping = *way;
  if (table.find("user_cap")) {
    auto cap = TRY(table.whole("user_cap", 1, contracts::kMaxUserCap));
    own.user_cap = static_cast<uint32_t>(cap);
  }
  if (const Json* pool = table.find("pool"); pool && !rows.empty())
    TRY(read_pool(*pool, rows, own, spec.sampling_threshold));
  const Json* noise = table.find("noise_multiplier");
  TRY(table.done());
  if (noise) {
    own.noise_multiplier = TRY(real_of(*noise, "privacy.noise_multiplier"));
    return privacy;
  }
  if (!calibrate) return wrong("privacy.noise_multiplier", "a number");
  // What the dataset that needs most needs, in units of the contract's clipping norm.
  spec.privacy = own;
  double least = 0;
  for (size_t i = 0; i < std::max<size_t>(1, own.pool.size()); ++i) {
    const auto member = contracts::member_of(spec, i);
    double q = std::ldexp(static_cast<double>(member.sampling_threshold), -64);
    double needed =
        TRY(calibrate(static_cast<double>(member.epsilon_micro) / 1e6,
                      static_cast<double>(own.delta_pico) / 1e12, q, spec.steps, own.user_cap));
    const double part = member.clip / own.clip;
    least = std::max(least, part == 1 ? needed : needed * part * (1 + 1e-14));
  }
  // Up to whole millionths, the unit policies are asked in.
  own.noise_multiplier = std::ceil(least * 1e6) / 1e6;
  privacy.calibrated = true;
  return privacy;
}

// Loss, precision, and how gradients become updates.
Status read_arithmetic(Table& train, TrainingSpec& spec) {
  auto loss = TRY(train.text("loss", "softmax_cross_entropy"));
  auto known_loss = contracts::loss_from_name(loss);
  if (!known_loss) return wrong("train.loss", "\"softmax_cross_entropy\", \"bce\" or \"mse\"");
  spec.loss = *known_loss;
  auto dtype = TRY(train.text("dtype", "f32"));
  auto known_dtype = contracts::dtype_from_name(dtype);
  if (!known_dtype) return wrong("train.dtype", "\"f32\" or \"bf16\"");
  spec.dtype = *known_dtype;
  spec.accumulate = static_cast<uint32_t>(TRY(train.whole("accumulate", 1, 1'000'000, 1)));
  spec.ema = TRY(train.real("ema", 0));
  if (train.find("micro_batch") && train.find("shard"))
    return wrong("train.micro_batch", "micro_batch or shard, which is the same");
  const char* shard = train.find("micro_batch") ? "micro_batch" : "shard";
  spec.shard = static_cast<uint32_t>(TRY(train.whole(shard, 1, 4096, spec.shard)));
  spec.augmentation = TRY(read_augmentation(train));
  return Done{};
}

uint64_t poisson_threshold(int64_t batch, uint64_t rows) {
  if (static_cast<uint64_t>(batch) >= rows) return UINT64_MAX;
  return static_cast<uint64_t>((static_cast<Wide>(static_cast<uint64_t>(batch)) << 64) / rows);
}

}  // namespace souk::policy
