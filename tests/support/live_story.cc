#include "tests/support/live_story.h"

#include "ledger/crypto/hash.h"

namespace souk::flows {

using contracts::Phase;

const char* LiveStory::name_of(Step step) {
  switch (step) {
    case Step::kFounded:
      return "founded";
    case Step::kHalfUploaded:
      return "half uploaded";
    case Step::kUploaded:
      return "uploaded";
    case Step::kOffered:
      return "offered";
    case Step::kDeposited:
      return "deposited";
    case Step::kSubmitted:
      return "submitted";
    case Step::kDecided:
      return "decided";
    case Step::kRunning:
      return "running";
    case Step::kEnded:
      return "ended";
  }
  return "?";
}

LiveStory::LiveStory(LiveMarket& market, Bytes plain, uint32_t rows, uint32_t features,
                     uint32_t steps)
    : market_(market), plain_(std::move(plain)), rows_(rows), features_(features), steps_(steps) {}

Status LiveStory::offer() {
  if (offered_) return Done{};
  TRY(market_.sync());
  if (!market_.state().keeper()) return Error(Code::kTryAgain, "expected a keeper");
  OfferOptions options;
  options.policy = kNoisyPolicy;
  options.rows = rows_;
  options.budget_epsilon_micro = 100'000'000;
  offered_ =
      offer_of(provider, options, market_.market(), *market_.state().keeper(), plain_, features_);
  offer_ = contracts::sign_record(offered_->offer, provider.key, market_.market());
  return Done{};
}

Status LiveStory::submit() {
  if (submit_) return Done{};
  contracts::ContractSubmit submit;
  submit.spec = private_spec(features_, steps_, 20);
  if (hidden > 0) {
    contracts::Node layer = submit.spec.model.front();
    layer.units = hidden;
    submit.spec.model.insert(submit.spec.model.begin(), 2, layer);
  }
  submit.datasets = {offered_->id};
  submit.purpose = "research";
  submit.offered = 1000;
  submit.deadline_minutes = 60;
  submit.recipient = lab.recipient();
  submit_ = contracts::sign_record(submit, lab.key, market_.market());
  contract_ = contracts::contract_id(submit_->payload);
  return Done{};
}

Status LiveStory::do_step(Step step) {
  switch (step) {
    case Step::kFounded:
      return market_.sync();
    case Step::kHalfUploaded:
      TRY(offer());
      return market_.upload(offered_->file, offered_->file.size() / 2);
    case Step::kUploaded:
      return market_.upload(offered_->file, offered_->file.size());
    case Step::kOffered:
      return market_.record(*offer_);
    case Step::kDeposited:
      if (!deposit_) {
        deposit_ = contracts::sign_record(contracts::Deposit{lab.account(), 1000},
                                          market_.treasury.key, market_.market());
      }
      return market_.record(*deposit_);
    case Step::kSubmitted:
      TRY(submit());
      return market_.record(*submit_);
    case Step::kDecided:
      TRY(market_.phase_after(contract_, {Phase::kSubmitted}));
      return Done{};
    case Step::kRunning:
      TRY(market_.phase_after(contract_, {Phase::kSubmitted, Phase::kEscrowed}));
      return Done{};
    case Step::kEnded:
      TRY(market_.phase_after(contract_, {Phase::kSubmitted, Phase::kEscrowed, Phase::kRunning}));
      return Done{};
  }
  return Done{};
}

Status LiveStory::finish() {
  for (Step step : {Step::kFounded, Step::kHalfUploaded, Step::kUploaded, Step::kOffered,
                    Step::kDeposited, Step::kSubmitted, Step::kEnded}) {
    auto done = do_step(step);
    if (!done) return std::move(done).take_error().within(name_of(step));
  }
  return Done{};
}

std::string LiveStory::verdict() {
  auto synced = market_.sync();
  if (!synced) return synced.error().expected();
  const auto& state = market_.state();
  if (state.escrow_total() != 0) return "escrow is not empty";
  switch (phase()) {
    case Phase::kSettled: {
      if (state.balance(lab.account()) != 900) return "the lab was not charged its price";
      if (state.balance(provider.account()) != 100) return "the provider was not paid";
      auto file = market_.model_file(contract_);
      if (!file) return "model: " + file.error().expected();
      auto model = trainer::decrypt_file(*file, lab.age);
      if (!model) return "model: " + model.error().expected();
      if (ledger::sha256(*model) != state.contract(contract_)->result->model)
        return "another model than recorded";
      return "";
    }
    case Phase::kRefunded:
      if (state.balance(lab.account()) != 1000) return "the money did not return";
      if (state.balance(provider.account()) != 0) return "a provider was paid for nothing";
      return "";
    case Phase::kSubmitted:
    case Phase::kRefused:
    case Phase::kEscrowed:
    case Phase::kRunning:
    case Phase::kStopping:
    case Phase::kExpired:
      break;
  }
  return std::string("ended as ") + contracts::phase_name(phase()) + ": " +
         canonical(contracts::members_json(*state.contract(contract_)->decision));
}

}  // namespace souk::flows
