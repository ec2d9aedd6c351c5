// What the parties of a market bring: keys, rows, offers of them, and what is to be trained.
#pragma once

#include <optional>
#include <string>

#include "contracts/lifecycle/market_state.h"
#include "ledger/crypto/sign.h"
#include "trainer/data/age.h"
#include "trainer/data/table.h"

namespace souk::flows {

// Provider, consumer, treasury: whoever signs.
struct Party {
  std::string name;
  ledger::SigningKey key = ledger::SigningKey::generate();
  trainer::AgeIdentity age = trainer::AgeIdentity::generate();
  PublicKey account() const { return key.public_key(); }
  std::string recipient() const { return trainer::recipient_text(age.recipient()); }
};

// Rows of two features and two classes, apart along the first; another salt, other rows.
trainer::Dataset two_classes(uint32_t rows, uint64_t salt = 0);
// The same as their provider encrypts them: safetensors.
Bytes rows_file(uint32_t rows, uint64_t salt = 0);

// A dataset as its provider knows it.
struct Offered {
  DatasetId id;
  contracts::DatasetOffer offer;
  Bytes file;  // age
  trainer::FileKey file_key;
};

inline constexpr const char* kFriendlyPolicy =
    "return {allow = true, obligations = {min_noise_micro = 1000000, max_steps = 100}}";

struct OfferOptions {
  std::string policy = kFriendlyPolicy;
  contracts::Minor price = 100;
  int64_t budget_epsilon_micro = 10'000'000;
  int64_t budget_delta_pico = 10'000'000;
  uint32_t rows = 40;
  int64_t user_cap = 1;
  std::optional<uint64_t> rows_number = {};  // the same rows for the same number; else any
  bool name_classes = true;
  std::string policy_engine = {};                              // as in a manifest
  std::optional<std::vector<std::string>> feature_names = {};  // else feature 0, feature 1, ...
};

// `plain` encrypted, its key wrapped to this keeper, under a manifest of a dataset of
// two classes and this many features.
Offered offer_of(const Party& provider, const OfferOptions& options, const MarketId& market,
                 const contracts::Keeper& keeper, ByteView plain, uint32_t features);
// One linear layer, DP-SGD with noise multiplier `noise`; its epsilon claimed as it is.
contracts::TrainingSpec private_spec(uint32_t features, uint32_t steps, double noise);

// The same for two datasets: the second is drawn less often, and clipped to a quarter of the norm.
contracts::TrainingSpec pooled_spec();

}  // namespace souk::flows
