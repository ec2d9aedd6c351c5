#include "tests/support/offers.h"

#include "ledger/crypto/hash.h"
#include "ledger/crypto/hpke.h"
#include "ledger/crypto/random.h"
#include "policy/privacy/accountant.h"
#include "policy/privacy/budget.h"
#include "tests/support/must.h"

namespace souk::flows {

trainer::Dataset two_classes(uint32_t rows, uint64_t salt) {
  trainer::Dataset dataset;
  std::vector<float> features;
  for (uint32_t row = 0; row < rows; ++row) {
    int64_t label = row % 2;
    features.push_back((label == 1 ? 1.0F : -1.0F) +
                       0.4F * static_cast<float>(row) / static_cast<float>(rows));
    features.push_back(static_cast<float>(salt % 97) / 97.0F);
    dataset.labels.push_back(label);
  }
  dataset.features = std::move(features);
  dataset.schema.feature_shape = {2};
  dataset.schema.feature_names = {"feature 0", "feature 1"};
  dataset.schema.label_name = "kind";
  dataset.schema.classes = {"benign", "malignant"};
  return dataset;
}

Bytes rows_file(uint32_t rows, uint64_t salt) {
  return must(trainer::dataset_to_safetensors(two_classes(rows, salt)));
}

Offered offer_of(const Party& provider, const OfferOptions& options, const MarketId& market,
                 const contracts::Keeper& keeper, ByteView plain, uint32_t features) {
  auto file_key = trainer::FileKey::random();
  SealingKey own = provider.age.recipient();
  Bytes file = must(trainer::make_header(file_key, std::span(&own, 1)));
  append(file, trainer::encrypt_payload(file_key, plain));

  contracts::Manifest manifest;
  manifest.name = "cells of " + provider.name;
  manifest.provider_name = provider.name;
  manifest.rows = options.rows;
  manifest.feature_shape = {features};
  for (uint32_t i = 0; i < features; ++i)
    manifest.feature_names.push_back("feature " + std::to_string(i));
  if (options.feature_names) manifest.feature_names = *options.feature_names;
  if (options.name_classes) manifest.class_names = {"benign", "malignant"};
  manifest.label = "kind";
  manifest.ciphertext = ledger::sha256(file);
  manifest.size = static_cast<int64_t>(file.size());
  manifest.policy = options.policy;
  manifest.policy_engine = options.policy_engine;
  manifest.price = options.price;
  manifest.user_cap = options.user_cap;
  manifest.budget_epsilon_micro = options.budget_epsilon_micro;
  manifest.budget_delta_pico = options.budget_delta_pico;
  manifest.budget_caps = policy::caps_for(options.budget_epsilon_micro, options.budget_delta_pico);
  manifest.salt = to_hex(ByteView(ledger::random_array<16>()));

  contracts::DatasetOffer offer;
  offer.manifest = manifest;
  offer.keeper_evidence = keeper.evidence;
  DatasetId id = contracts::dataset_id(manifest);
  std::string info =
      contracts::dataset_wrap_info(market, id, provider.account(),
                                   contracts::policy_hash(manifest.policy), offer.keeper_evidence);
  offer.wrap =
      must(ledger::hpke_seal(keeper.kem, as_bytes(info), {}, file_key.bytes(SecretAccess{})));
  return {id, std::move(offer), std::move(file), std::move(file_key)};
}

contracts::TrainingSpec private_spec(uint32_t features, uint32_t steps, double noise) {
  contracts::TrainingSpec spec;
  spec.input_shape = {features};
  spec.classes = 2;
  contracts::Node linear;
  linear.op = contracts::Node::Op::kLinear;
  linear.units = 2;
  spec.model = {linear};
  spec.steps = steps;
  spec.batch = 8;
  spec.sampling_threshold = uint64_t{1} << 61;  // q = 1/8
  spec.learning_rate = {{steps, 0.5}};
  contracts::PrivacySpec privacy;
  privacy.clip = 1;
  privacy.noise_multiplier = noise;
  privacy.delta_pico = 10'000'000;
  policy::Event event{policy::rate_from_threshold(spec.sampling_threshold), noise, steps};
  privacy.epsilon_micro = policy::epsilon_micro_up(must(policy::epsilon_upper(event, 1e-5))) + 1000;
  spec.privacy = privacy;
  CHECK(contracts::check_spec(spec));
  return spec;
}

contracts::TrainingSpec pooled_spec() {
  auto spec = private_spec(2, 40, 2);
  spec.privacy->pool = {{1, spec.privacy->epsilon_micro, spec.sampling_threshold},
                        {0.25, spec.privacy->epsilon_micro / 2, uint64_t{1} << 58}};
  CHECK(contracts::check_spec(spec));
  return spec;
}

}  // namespace souk::flows
