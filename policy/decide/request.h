// What a policy is asked: three JSON values of integers and texts whose shape is
// checked before any policy runs. policy/SPEC.md, Request.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "contracts/training/spec.h"
#include "ledger/base/clock.h"
#include "ledger/base/named.h"
#include "ledger/base/result.h"
#include "ledger/codec/json.h"

namespace souk::policy {

struct CredentialFact {
  std::string type;
  PublicKey issuer;
  TimeMs expires_ms = 0;
};

struct RequestFacts {
  ContractId id;
  PublicKey consumer;
  std::string purpose;
  std::string region;  // may be empty
  int64_t payment_minor = 0;
  std::string currency;
  uint64_t rows_total = 0;  // over all datasets of the contract
  uint32_t datasets = 1;
  size_t member = 0;  // which of them the policy is about: where the spec has a pool, epsilon,
                      // noise, clip and epochs of the request are those of its rows
  // Of all datasets of the contract; providers and ids sorted, each once.
  std::vector<PublicKey> providers;
  std::vector<DatasetId> dataset_ids;
  std::vector<std::string> dataset_names;
  std::vector<CredentialFact> credentials;
};

struct DatasetFacts {
  DatasetId id;
  std::string name;
  PublicKey provider;
  std::string provider_name;
  uint64_t rows = 0;
  int64_t price_minor = 0;
  int64_t budget_epsilon_micro = 0;
  int64_t budget_delta_pico = 0;
  int64_t user_cap = 1;  // rows of one person at most
};

// What a dataset has answered to one consumer, or for one purpose, so far: the
// contracts that run or ran on it, each at the epsilon it was granted.
struct UsageFacts {
  int64_t spent_epsilon_micro = 0;
  int64_t runs = 0;
  TimeMs last_run_ms = 0;  // ledger time of the latest one's start; 0: none
};

struct ContextFacts {
  TimeMs now_ms = 0;  // ledger time
  int64_t spent_epsilon_micro = 0;
  int64_t runs = 0;
  int64_t head = 0;     // ledger size the question was asked at
  UsageFacts consumer;  // of the consumer who asks, with this dataset
  UsageFacts purpose;   // of the purpose asked for, with this dataset
};

// "logreg" (one linear layer and nothing else to train), "mlp", or "cnn" (any convolution).
std::string algorithm_name(const contracts::TrainingSpec& spec);

// The spec must have passed check_spec; otherwise kMalformed.
Result<Json> build_request(const contracts::TrainingSpec& spec, const RequestFacts& facts);
Json build_dataset(const DatasetFacts& facts);
Json build_context(const ContextFacts& facts);

// By the table of policy/decide/schema.h. kMalformed names the field and what was expected.
// The keeper gives every field, the optional ones too.
Status validate_request(const Json& request);
Status validate_dataset(const Json& dataset);
Status validate_context(const Json& ctx);

}  // namespace souk::policy
