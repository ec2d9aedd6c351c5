// One provider, one lab, one contract on a LiveMarket, as steps that may be repeated
// until they are acknowledged: what a client does that keeps what it signed.
#pragma once

#include "tests/support/live_market.h"

namespace souk::flows {

inline constexpr const char* kNoisyPolicy =
    "return {allow = request.dp.enabled, obligations = {min_noise_micro = 1000000}}";

class LiveStory {
 public:
  enum class Step {
    kFounded,
    kHalfUploaded,
    kUploaded,
    kOffered,
    kDeposited,
    kSubmitted,
    kDecided,
    kRunning,
    kEnded
  };
  static const char* name_of(Step step);

  // `plain`: the provider's safetensors, of `rows` rows and `features` features.
  LiveStory(LiveMarket& market, Bytes plain, uint32_t rows, uint32_t features, uint32_t steps);

  // Does what is needed to be just past this step; earlier steps must have been done.
  Status do_step(Step step);
  // All steps from here to the end, through whatever has been done before.
  Status finish();
  // Settled and paid and readable, or refunded: empty, or what is wrong.
  std::string verdict();

  uint32_t hidden = 0;  // units of two hidden layers, for a model of some size
  Party provider{"north"};
  Party lab{"lab"};
  const Offered& offered() const { return *offered_; }
  const ContractId& contract() const { return contract_; }
  // What the one dataset was asked for.
  contracts::Charges granted() const {
    return market_.state().contract(contract_)->decision->grants.front().charges;
  }
  // How often another process took the run up.
  uint32_t taken_up() const {
    const auto& resume = market_.state().contract(contract_)->resume;
    return resume ? resume->attempt : 0;
  }
  contracts::Phase phase() const { return market_.state().contract(contract_)->phase; }

 private:
  Status offer();
  Status submit();

  LiveMarket& market_;
  Bytes plain_;
  uint32_t rows_, features_, steps_;
  std::optional<Offered> offered_;
  std::optional<ledger::Envelope> offer_, deposit_, submit_;
  ContractId contract_;
};

}  // namespace souk::flows
