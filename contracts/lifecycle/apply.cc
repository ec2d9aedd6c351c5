// The fold. Each `on` reads like its paragraph of contracts/SPEC.md: first every
// reason to be void, then the effect, which cannot fail.
#include <algorithm>

#include "contracts/lifecycle/ancestry.h"
#include "contracts/lifecycle/budget.h"

namespace souk::contracts {

constexpr size_t kMaxPolicyVersions = 256;  // of one dataset

class Folding {
 public:
  using Void = std::optional<std::string>;  // the code of why there is no effect

  // `entry` as the next one of the state's ledger.
  Folding(MarketState& state, const ledger::AuthenticEntry& entry, TimeMs time)
      : state_(state), entry_(entry), time_(time), seq_(state.size()) {}

  Void run() {
    state_.time_ = std::max(state_.time_, time_);
    sweep();
    auto why = fold();
    if (why) state_.voids_.emplace(seq_, *why);
    return why;
  }

  // Roots are kept only as far back as a decision yet to come may point.
  void remember_head(const Digest& leaf_hash) {
    state_.tree_.append(leaf_hash);
    if (state_.undecided_.empty()) {
      state_.heads_.clear();
      return;
    }
    state_.heads_.emplace(state_.tree_.size(), state_.tree_.root());
    auto oldest = state_.heads_.upper_bound(*state_.undecided_.begin());
    state_.heads_.erase(state_.heads_.begin(), oldest);
  }

 private:
  static constexpr auto kEffect = std::nullopt;

  // Every open contract whose deadline has come leaves its phase by itself.
  void sweep() {
    std::vector<ContractId> due;
    for (const auto& [deadline, id] : state_.open_) {
      if (deadline > state_.time_) break;
      due.push_back(id);
    }
    std::sort(due.begin(), due.end());
    for (const auto& id : due) {
      Contract& contract = state_.contracts_.at(id);
      contract.ended_because = "deadline";
      switch (contract.phase) {
        case Phase::kSubmitted:
          // It may still be refused, so that this attempt too leaves its decision.
          state_.open_.erase({contract.deadline, contract.id});
          contract.phase = Phase::kExpired;
          break;
        case Phase::kEscrowed:
          give_back(contract);
          free_reservation(contract);
          end(contract, Phase::kRefunded);
          break;
        case Phase::kRunning:
        case Phase::kStopping:
          give_back(contract);
          commit_reservation(contract);  // what ran may have seen everything
          end(contract, Phase::kRefunded);
          break;
        case Phase::kRefused:
        case Phase::kSettled:
        case Phase::kRefunded:
        case Phase::kExpired:
          CHECK(false);  // end() takes final contracts off the list
      }
    }
  }

  Void fold() {
    if (seq_ != 0) {
      if (!state_.genesis_) return "no_genesis";
      if (entry_.market() != to_hex(state_.market_)) return "other_market";
    }
    // A void entry uses its nonce up too: nobody can bring it again on a better day.
    if (!state_.nonces_.emplace(entry_.author(), entry_.nonce()).second) return "replayed";
    auto record = record_of(entry_);
    if (!record) return "malformed";
    if (seq_ == 0 && !std::holds_alternative<Genesis>(*record)) return "no_genesis";
    return std::visit([this](auto& known) { return on(known); }, *record);
  }

  Void on(Genesis& genesis) {
    if (seq_ != 0) return "second_genesis";
    if (!entry_.market().empty()) return "other_market";
    auto key = ledger::NoteKey::parse(genesis.ledger_key);
    if (!key || key->name() != genesis.origin || key->public_key() != entry_.author()) {
      return "not_the_ledger";
    }
    state_.market_ = MarketId(entry_.payload_hash());
    state_.genesis_ = std::move(genesis);
    return kEffect;
  }

  Void on(KeeperBoot& boot) {
    auto keys = appraise(boot.evidence, "keeper");
    if (!keys) return "unappraised";
    if (keys->signing != entry_.author() || keys->kem != boot.kem) return "wrong_keys";
    Digest digest = evidence_digest(boot.evidence);
    // Nobody holds the old KEM key any more: an offer wrapped to it could not be opened.
    if (state_.keeper_ && state_.keeper_->kem != boot.kem) state_.keeper_evidence_.clear();
    state_.keeper_evidence_.insert(digest);
    state_.keeper_ = Keeper{entry_.author(), boot.kem, digest, std::move(boot.evidence), seq_};
    return kEffect;
  }

  Void on(const Deposit& deposit) {
    if (entry_.author() != state_.genesis_->treasury) return "not_the_treasury";
    // Every balance is part of what was minted: this bound is the bound of all sums.
    if (deposit.minor > kMaxJsonInteger - state_.minted_) return "overflow";
    state_.minted_ += deposit.minor;
    pay(deposit.account, deposit.minor);
    return kEffect;
  }

  Void on(DatasetOffer& offer) {
    if (state_.keeper_evidence_.count(offer.keeper_evidence) == 0) return "unknown_keeper_evidence";
    DatasetId id = dataset_id(offer.manifest);
    if (state_.dataset(id)) return "already_offered";
    Dataset dataset;
    dataset.id = id;
    dataset.provider = entry_.author();
    dataset.budget.caps = offer.manifest.budget_caps;
    dataset.manifest = std::move(offer.manifest);
    dataset.wrap = std::move(offer.wrap);
    dataset.keeper_evidence = offer.keeper_evidence;
    PolicyVersion first{dataset.manifest.policy,        Json::Object{},
                        dataset.manifest.policy_engine, PolicyVersion::Standing::kActive,
                        PolicyChange::Move::kActivate,  seq_};
    dataset.policies.emplace(policy_version(first.source, first.parameters, first.engine),
                             std::move(first));
    dataset.seq = seq_;
    dataset.changed = seq_;
    state_.datasets_.emplace(id, std::move(dataset));
    return kEffect;
  }

  Void on(const DatasetRevoke& revoke) {
    auto it = state_.datasets_.find(revoke.dataset);
    if (it == state_.datasets_.end()) return "unknown_dataset";
    if (it->second.provider != entry_.author()) return "not_the_provider";
    if (it->second.revoked) return "revoked";
    it->second.revoked = true;
    it->second.changed = seq_;
    withdraw(revoke.dataset, "dataset_revoked", false);
    return kEffect;
  }

  Void on(const DatasetErase& erase) {
    auto it = state_.datasets_.find(erase.dataset);
    if (it == state_.datasets_.end()) return "unknown_dataset";
    Dataset& dataset = it->second;
    if (dataset.provider != entry_.author()) return "not_the_provider";
    if (dataset.erased) return "erased";
    dataset.revoked = true;
    dataset.erased = true;
    dataset.wrap.clear();
    dataset.changed = seq_;
    withdraw(erase.dataset, "dataset_erased", true);
    return kEffect;
  }

  Void on(PolicyPublish& publish) {
    auto it = state_.datasets_.find(publish.dataset);
    if (it == state_.datasets_.end()) return "unknown_dataset";
    Dataset& dataset = it->second;
    if (dataset.provider != entry_.author()) return "not_the_provider";
    if (dataset.revoked) return "revoked";
    if (dataset.policies.size() >= kMaxPolicyVersions) return "too_many";
    Digest version = policy_version(publish.source, publish.parameters, publish.engine);
    if (dataset.policies.count(version) != 0) return "already_published";
    dataset.policies.emplace(
        version, PolicyVersion{std::move(publish.source), std::move(publish.parameters),
                               std::move(publish.engine), PolicyVersion::Standing::kPublished,
                               PolicyChange::Move::kActivate, seq_});
    dataset.changed = seq_;
    return kEffect;
  }

  Void on(const PolicyChange& change) {
    using Standing = PolicyVersion::Standing;
    auto it = state_.datasets_.find(change.dataset);
    if (it == state_.datasets_.end()) return "unknown_dataset";
    Dataset& dataset = it->second;
    if (dataset.provider != entry_.author()) return "not_the_provider";
    auto found = dataset.policies.find(change.version);
    if (found == dataset.policies.end()) return "policy_unknown";
    PolicyVersion& policy = found->second;
    // A revocation may only become stronger; moves are in that order.
    if (policy.standing == Standing::kRevoked && change.move <= policy.last_move)
      return "policy_revoked";
    switch (change.move) {
      case PolicyChange::Move::kActivate:
        if (policy.standing == Standing::kActive) return "policy_active";
        for (auto& [version, other] : dataset.policies) {
          if (other.standing == Standing::kActive) other.standing = Standing::kDeprecated;
        }
        policy.standing = Standing::kActive;
        break;
      case PolicyChange::Move::kDeprecate:
        if (policy.standing != Standing::kActive) return "policy_not_active";
        policy.standing = Standing::kDeprecated;
        break;
      default:
        policy.standing = Standing::kRevoked;
        withdraw(change);
    }
    policy.last_move = change.move;
    dataset.changed = seq_;
    return kEffect;
  }

  // What the revocation of a version does to the contracts that were allowed under it, and to
  // those that start from a model of theirs. Money returns. Before the start nothing was opened
  // and the reservation is free again; a run that is to stop holds it until its trainer says how
  // far it came.
  void withdraw(const PolicyChange& change) {
    const bool stops = change.move != PolicyChange::Move::kRevokeNoNew;
    std::set<ContractId> under;
    for (const auto& [id, contract] : state_.contracts_) {
      if (allowed_under(contract, change)) under.insert(id);
    }
    under.merge(descendants_of(state_, under));
    for (const auto& id : under) {
      Contract& contract = state_.contracts_.at(id);
      if (contract.policies.empty()) continue;  // not allowed yet, and will not be
      if (change.move == PolicyChange::Move::kRevokeDestroy) contract.destroyed = true;
      withdraw_from(contract, "policy_revoked", stops);
    }
  }

  // A revoked dataset is for no new run, an erased one for none: the same for contracts.
  void withdraw(const DatasetId& dataset, const char* why, bool stops) {
    for (auto& [id, contract] : state_.contracts_) {
      if (names(contract, dataset) && withdraw_from(contract, why, stops)) {
        contract.ended_by_dataset = dataset;
      }
    }
  }

  bool withdraw_from(Contract& contract, const char* why, bool stops) {
    bool waits = contract.phase == Phase::kEscrowed;
    if (!waits && !(contract.phase == Phase::kRunning && stops)) return false;
    give_back(contract);
    contract.ended_because = why;
    if (waits) {
      free_reservation(contract);
      end(contract, Phase::kRefunded);
    } else {
      contract.phase = Phase::kStopping;
    }
    return true;
  }

  static bool allowed_under(const Contract& contract, const PolicyChange& change) {
    for (size_t i = 0; i < contract.policies.size(); ++i) {
      bool same = contract.policies[i] == change.version;
      if (same && contract.submit.datasets[i] == change.dataset) return true;
    }
    return false;
  }

  Void on(ContractSubmit& submit) {
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
    state_.contracts_.emplace(contract.id, std::move(contract));
    return kEffect;
  }

  Void on(ContractDecision& decision) {
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

  Void on(JobStart& start) {
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
    contract->start = std::move(start);
    contract->phase = Phase::kRunning;
    return kEffect;
  }

  Void on(JobResult& result) {
    Contract* contract = find(result.contract);
    if (!contract) return "unknown_contract";
    if (contract->phase != Phase::kRunning) return "not_running";
    if (entry_.author() != contract->start->receipt_key) return "not_the_trainer";
    if (result.job_start != contract->start_hash) return "wrong_start";
    if (result.spec != contract->spec_hash) return "wrong_spec";
    if (result.trainer_evidence != evidence_digest(contract->start->trainer))
      return "wrong_evidence";
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
  // ledger, the trainer counts what it has begun, and nothing of the run outlives it.
  Void on(JobStop& stop) {
    Contract* contract = find(stop.contract);
    if (!contract) return "unknown_contract";
    bool unbegun = contract->phase == Phase::kRunning && stop.missing;
    if (contract->phase != Phase::kStopping && !unbegun) return "not_stopping";
    if (entry_.author() != contract->start->receipt_key) return "not_the_trainer";
    if (stop.job_start != contract->start_hash) return "wrong_start";
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

  Void on(JobAbort& abort) {
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

  Void on(const Tick&) {
    if (!by_keeper()) return "not_the_keeper";
    return kEffect;  // the sweep has been
  }

  // A decision stands on the ledger it names: a prefix of this one, long enough to
  // hold the contract, with nothing after it that touches what the decision read.
  Void head_void(const Contract& contract, const ContractDecision& decision) const {
    uint64_t size = decision.head_size;
    if (size > seq_) return "wrong_head";
    if (size <= contract.submit_seq) return "stale";
    if (state_.heads_.at(size) != decision.head_root) return "wrong_head";
    if (state_.keeper_->seq >= size) return "stale";
    if (auto it = state_.accounts_.find(contract.consumer); it != state_.accounts_.end()) {
      if (it->second.changed >= size) return "stale";
    }
    for (const auto& id : learned_from(state_, contract.submit)) {
      if (state_.dataset(id)->changed >= size) return "stale";
    }
    return std::nullopt;
  }

  // Inputs and wraps: exactly the contract's datasets, in its order.
  Void inputs_void(const Contract& contract, const JobStart& start) const {
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

  static bool names(const Contract& contract, const DatasetId& dataset) {
    const auto& wanted = contract.submit.datasets;
    return std::find(wanted.begin(), wanted.end(), dataset) != wanted.end();
  }

  bool by_keeper() const { return state_.keeper_ && entry_.author() == state_.keeper_->key; }

  std::optional<AppraisedKeys> appraise(const Evidence& evidence, const char* role) const {
    if (!state_.appraiser_) return std::nullopt;
    auto keys = state_.appraiser_(evidence, *state_.genesis_, state_.market_, role);
    if (!keys) return std::nullopt;
    return *keys;
  }

  Contract* find(const ContractId& id) {
    auto it = state_.contracts_.find(id);
    return it == state_.contracts_.end() ? nullptr : &it->second;
  }

  void pay(const PublicKey& to, Minor amount) {
    Account& account = state_.accounts_[to];
    account.balance += amount;
    account.changed = seq_;
  }

  void give_back(Contract& contract) {
    pay(contract.consumer, contract.escrow);
    contract.escrow = 0;
  }

  void end(Contract& contract, Phase phase) {
    state_.open_.erase({contract.deadline, contract.id});
    state_.undecided_.erase(contract.submit_seq);
    contract.phase = phase;
  }

  // A grant is posted to the dataset, to its consumer and to its purpose alike.
  template <class Post>
  void post(const Contract& contract, const Grant& grant, Post to) {
    Dataset& dataset = state_.datasets_.at(grant.dataset);
    to(static_cast<Spending&>(dataset.budget));
    to(dataset.consumers[contract.consumer]);
    to(dataset.purposes[contract.submit.purpose]);
    dataset.changed = seq_;
  }

  void reserve(const Contract& contract) {
    for (const auto& grant : contract.decision->grants) {
      post(contract, grant, [&](Spending& spending) {
        spending.holders.insert(contract.id);
        hold(spending, grant);
      });
    }
  }

  void free_reservation(const Contract& contract) {
    for (const auto& grant : contract.decision->grants) {
      post(contract, grant, [&](Spending& spending) {
        spending.holders.erase(contract.id);
        sum_holders(spending, grant.dataset);
      });
    }
  }

  void commit_reservation(const Contract& contract) {
    free_reservation(contract);
    commit(contract, contract.decision->grants);
  }

  void commit(const Contract& contract, const std::vector<Grant>& grants) {
    for (const auto& grant : grants) {
      post(contract, grant, [&](Spending& spending) {
        spending.committed = saturating_sum(spending.committed, grant.charges);
        spending.epsilon_micro_committed =
            saturating_sum(spending.epsilon_micro_committed, grant.epsilon_micro);
        ++spending.runs;
      });
    }
  }

  static void hold(Spending& spending, const Grant& grant) {
    spending.reserved = saturating_sum(spending.reserved, grant.charges);
    spending.epsilon_micro_reserved =
        saturating_sum(spending.epsilon_micro_reserved, grant.epsilon_micro);
  }

  // Saturated sums cannot be subtracted from: what is held is added up afresh.
  void sum_holders(Spending& spending, const DatasetId& dataset) {
    spending.reserved = Charges{};
    spending.epsilon_micro_reserved = 0;
    for (const auto& holder : spending.holders) {
      for (const auto& grant : state_.contracts_.at(holder).decision->grants) {
        if (grant.dataset == dataset) hold(spending, grant);
      }
    }
  }

  MarketState& state_;
  const ledger::AuthenticEntry& entry_;
  const TimeMs time_;
  const uint64_t seq_;
};

MarketState apply(MarketState state, const ledger::RecordedEntry& entry) {
  CHECK(entry.seq() == state.size());
  Folding folding(state, entry.entry(), entry.time());
  folding.run();
  folding.remember_head(entry.leaf_hash());
  return state;
}

std::optional<std::string> would_be_void(MarketState state, const ledger::AuthenticEntry& entry,
                                         TimeMs now) {
  return Folding(state, entry, now).run();
}

}  // namespace souk::contracts
