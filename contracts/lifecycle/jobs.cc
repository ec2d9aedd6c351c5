// The fold of a contract's life: submitted, decided, started, ended.
#include <algorithm>

#include "contracts/lifecycle/ancestry.h"
#include "contracts/lifecycle/folding.h"

namespace souk::contracts {

Folding::Void Folding::on(ContractSubmit& submit) {
  for (const auto& id : submit.datasets) {
    if (!state_.dataset(id)) return "unknown_dataset";
  }
  TimeMs lifetime = submit.deadline_minutes * 60'000;
  if (state_.time_ > kMaxJsonInteger - lifetime) return "overflow";
  Contract contract;
  contract.id = ContractId(entry_.payload_hash());
  contract.consumer = entry_.author();
  contract.spec_hash = spec_hash(submit.spec);
  contract.submit = std::move(submit);
  contract.deadline = state_.time_ + lifetime;
  contract.submit_seq = seq_;
  state_.open_.emplace(contract.deadline, contract.id);
  state_.undecided_.insert(seq_);
  const ContractId id = contract.id;
  state_.contracts_.emplace(id, std::move(contract));
  return kEffect;
}

Folding::Void Folding::on(ContractDecision& decision) {
  if (!by_keeper()) return "not_the_keeper";
  Contract* contract = find(decision.contract);
  if (!contract) return "unknown_contract";
  bool late = contract->phase == Phase::kExpired && !contract->decision;
  if (contract->phase != Phase::kSubmitted && !late) return "not_submitted";
  if (auto why = head_void(*contract, decision)) return why;
  if (decision.allow) {
    if (auto found = obstacle(state_, decision)) return found->code;
  }

  state_.undecided_.erase(contract->submit_seq);
  contract->decision_hash = entry_.payload_hash();
  contract->decision_seq = seq_;
  contract->decision_time = state_.time_;
  contract->decision = std::move(decision);
  if (late) return kEffect;
  if (!contract->decision->allow) {
    contract->ended_because = contract->decision->status;
    end(*contract, Phase::kRefused);
    return kEffect;
  }
  for (size_t i = 0; i < contract->submit.datasets.size(); ++i) {
    contract->policies.push_back(
        policy_for(*state_.dataset(contract->submit.datasets[i]), contract->submit, i).version);
  }
  contract->escrow = contract->decision->price;
  Account& consumer = state_.accounts_[contract->consumer];
  consumer.balance -= contract->escrow;
  consumer.changed = seq_;
  reserve(*contract);
  contract->phase = Phase::kEscrowed;
  return kEffect;
}

Folding::Void Folding::on(JobStart& start) {
  if (!by_keeper()) return "not_the_keeper";
  Contract* contract = find(start.contract);
  if (!contract) return "unknown_contract";
  if (contract->phase != Phase::kEscrowed) return "not_escrowed";
  if (start.decision != contract->decision_hash) return "wrong_decision";
  if (start.spec != contract->spec_hash) return "wrong_spec";
  if (start.recipient != contract->submit.recipient) return "wrong_recipient";
  if (start.obligations != contract->decision->obligations) return "wrong_obligations";
  if (auto why = inputs_void(*contract, start)) return why;
  auto keys = appraise(start.trainer, "trainer");
  if (!keys) return "unappraised";
  if (keys->signing != start.receipt_key || keys->kem != start.trainer_kem) return "wrong_keys";

  contract->start_hash = entry_.payload_hash();
  contract->start_seq = seq_;
  contract->start_time = state_.time_;
  contract->keeper_kem = state_.keeper_->kem;
  contract->start = std::move(start);
  contract->phase = Phase::kRunning;
  return kEffect;
}

// Of one state only one process goes on, and none from before where an earlier one went on.
Folding::Void Folding::on(JobResume& resume) {
  Contract* contract = find(resume.contract);
  if (!contract) return "unknown_contract";
  if (contract->phase != Phase::kRunning) return "not_running";
  if (entry_.author() != contract->start->receipt_key) return "not_the_trainer";
  if (resume.job_start != contract->start_hash) return "wrong_start";
  const uint32_t before = contract->resume ? contract->resume->attempt : 0;
  if (resume.attempt - 1 != before) return "taken_up";
  if (resume.steps > contract->submit.spec.steps) return "too_many_steps";
  if (contract->resume && resume.steps < contract->resume->steps) return "went_back";
  contract->resume = std::move(resume);
  return kEffect;
}

Folding::Void Folding::on(JobResult& result) {
  Contract* contract = find(result.contract);
  if (!contract) return "unknown_contract";
  if (contract->phase != Phase::kRunning) return "not_running";
  if (entry_.author() != contract->start->receipt_key) return "not_the_trainer";
  if (result.job_start != contract->start_hash) return "wrong_start";
  if (result.spec != contract->spec_hash) return "wrong_spec";
  if (result.trainer_evidence != evidence_digest(contract->start->trainer)) return "wrong_evidence";
  if (result.steps > contract->submit.spec.steps) return "too_many_steps";

  for (const auto& [provider, amount] : payouts(state_, *contract)) pay(provider, amount);
  contract->escrow = 0;
  commit_reservation(*contract);
  contract->result_seq = seq_;
  contract->result = std::move(result);
  end(*contract, Phase::kSettled);
  return kEffect;
}

// The steps that were never begun are given back: the moment of stopping came from the
// ledger, and the trainer counts what it has begun. One that took the run up cannot know what was
// begun before it, so then nothing is given back.
Folding::Void Folding::on(JobStop& stop) {
  Contract* contract = find(stop.contract);
  if (!contract) return "unknown_contract";
  bool unbegun = contract->phase == Phase::kRunning && stop.missing;
  if (contract->phase != Phase::kStopping && !unbegun) return "not_stopping";
  if (entry_.author() != contract->start->receipt_key) return "not_the_trainer";
  if (stop.job_start != contract->start_hash) return "wrong_start";
  if (contract->resume) return "taken_up";
  if (stop.steps > contract->submit.spec.steps) return "too_many_steps";
  if (stop.missing) {
    if (!names(*contract, *stop.missing)) return "wrong_dataset";
    if (stop.steps != 0) return "too_many_steps";
  }
  const auto& grants = contract->decision->grants;
  bool one_each = stop.spent.size() == grants.size();
  for (size_t i = 0; one_each && i < grants.size(); ++i) {
    one_each = stop.spent[i].dataset == grants[i].dataset;
  }
  if (!one_each) return "wrong_grants";
  std::vector<Grant> spent = grants;
  for (size_t i = 0; i < grants.size(); ++i) {
    if (stop.spent[i].epsilon_micro > grants[i].epsilon_micro) return "over_reserved";
    bool spent_something = stop.spent[i].charges != Charges{} || stop.spent[i].epsilon_micro != 0;
    if (stop.missing && spent_something) return "over_reserved";
    for (size_t order = 0; order < grants[i].charges.size(); ++order) {
      if (stop.spent[i].charges[order] > grants[i].charges[order]) return "over_reserved";
    }
    spent[i].charges = stop.spent[i].charges;
    spent[i].epsilon_micro = stop.spent[i].epsilon_micro;
  }

  if (unbegun) {
    give_back(*contract);
    contract->ended_because = "ciphertext_missing";
    contract->ended_by_dataset = stop.missing;
  }
  free_reservation(*contract);
  if (!stop.missing) commit(*contract, spent);  // without a step there was no run
  contract->stop = std::move(stop);
  end(*contract, Phase::kRefunded);
  return kEffect;
}

Folding::Void Folding::on(JobAbort& abort) {
  if (!by_keeper()) return "not_the_keeper";
  Contract* contract = find(abort.contract);
  if (!contract) return "unknown_contract";
  bool started = contract->phase == Phase::kRunning || contract->phase == Phase::kStopping;
  if (!started && contract->phase != Phase::kEscrowed) return "not_escrowed";
  if (abort.dataset && !names(*contract, *abort.dataset)) return "wrong_dataset";

  give_back(*contract);
  if (started) {
    commit_reservation(*contract);
  } else {
    free_reservation(*contract);
  }
  // One that was withdrawn ended for that reason, whoever signed how far it had come.
  if (contract->phase != Phase::kStopping) {
    contract->ended_because = std::move(abort.reason);
    contract->ended_by_dataset = abort.dataset;
  }
  end(*contract, Phase::kRefunded);
  return kEffect;
}

// A decision stands on the ledger it names: a prefix of this one, long enough to
// hold the contract, with nothing after it that touches what the decision read.
Folding::Void Folding::head_void(const Contract& contract, const ContractDecision& decision) const {
  uint64_t size = decision.head_size;
  if (size > seq_) return "wrong_head";
  if (size <= contract.submit_seq) return "stale";
  if (state_.heads_.at(size) != decision.head_root) return "wrong_head";
  if (state_.keeper_->seq >= size) return "stale";
  const Account* consumer = state_.accounts_.get(contract.consumer);
  if (consumer && consumer->changed >= size) return "stale";
  for (const auto& id : learned_from(state_, contract.submit, contract.submit_seq)) {
    if (state_.dataset(id)->changed >= size) return "stale";
  }
  return std::nullopt;
}

// Inputs and wraps: exactly the contract's datasets, in its order.
Folding::Void Folding::inputs_void(const Contract& contract, const JobStart& start) const {
  const auto& wanted = contract.submit.datasets;
  if (start.inputs.size() != wanted.size()) return "wrong_inputs";
  if (start.wraps.size() != wanted.size()) return "wrong_wraps";
  for (size_t i = 0; i < wanted.size(); ++i) {
    const Dataset& dataset = *state_.dataset(wanted[i]);
    const Manifest& manifest = dataset.manifest;
    JobStart::Input expected{wanted[i], manifest.ciphertext, manifest.size, manifest.rows};
    if (start.inputs[i] != expected) return "wrong_inputs";
    if (start.wraps[i].dataset != wanted[i]) return "wrong_wraps";
    if (dataset.revoked) return "revoked";  // allowed once, but its key was not yet out
  }
  return std::nullopt;
}

bool Folding::names(const Contract& contract, const DatasetId& dataset) {
  const auto& wanted = contract.submit.datasets;
  return std::find(wanted.begin(), wanted.end(), dataset) != wanted.end();
}

}  // namespace souk::contracts
