// Inside contracts/lifecycle: one apply() at work.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "contracts/lifecycle/market_state.h"

namespace souk::contracts {

class Folding {
 public:
  using Void = std::optional<std::string>;  // the code of why there is no effect

  // `entry` as the next one of the state's ledger.
  Folding(MarketState& state, const ledger::AuthenticEntry& entry, TimeMs time)
      : state_(state), entry_(entry), time_(time), seq_(state.size()) {}

  Void run();
  void remember_head(const Digest& leaf_hash);

 private:
  static constexpr auto kEffect = std::nullopt;

  // apply.cc
  void sweep();
  Void fold();
  Void on(Genesis& genesis);
  Void on(KeeperBoot& boot);
  Void on(const Deposit& deposit);
  Void on(const Tick& tick);
  bool by_keeper() const { return state_.keeper_ && entry_.author() == state_.keeper_->key; }
  std::optional<AppraisedKeys> appraise(const Evidence& evidence, const char* role) const;

  // offers.cc
  Void on(DatasetOffer& offer);
  Void on(const DatasetRevoke& revoke);
  Void on(const DatasetErase& erase);
  Void on(PolicyPublish& publish);
  Void on(const PolicyChange& change);
  void withdraw(const PolicyChange& change);
  void withdraw(const DatasetId& dataset, const char* why, bool stops);
  bool withdraw_from(Contract& contract, const char* why, bool stops);
  static bool allowed_under(const Contract& contract, const PolicyChange& change);

  // jobs.cc
  Void on(ContractSubmit& submit);
  Void on(ContractDecision& decision);
  Void on(JobStart& start);
  Void on(JobResult& result);
  Void on(JobResume& resume);
  Void on(JobStop& stop);
  Void on(JobAbort& abort);
  Void head_void(const Contract& contract, const ContractDecision& decision) const;
  Void inputs_void(const Contract& contract, const JobStart& start) const;
  static bool names(const Contract& contract, const DatasetId& dataset);

  // postings.cc
  void pay(const PublicKey& to, Minor amount);
  void give_back(Contract& contract);
  void end(Contract& contract, Phase phase);
  template <class Post>
  void post(const Contract& contract, const Grant& grant, Post to);
  void reserve(const Contract& contract);
  void free_reservation(const Contract& contract);
  void commit_reservation(const Contract& contract);
  void commit(const Contract& contract, const std::vector<Grant>& grants);
  static void hold(Spending& spending, const Grant& grant);
  void sum_holders(Spending& spending, const DatasetId& dataset);

  // To be changed; nullptr: unknown.
  Dataset* find(const DatasetId& id) { return state_.datasets_.change(id); }
  Contract* find(const ContractId& id) { return state_.contracts_.change(id); }

  MarketState& state_;
  const ledger::AuthenticEntry& entry_;
  const TimeMs time_;
  const uint64_t seq_;
};

}  // namespace souk::contracts
