// The fold: time, then the entry. Each `on` reads like its paragraph of contracts/SPEC.md: first
// every reason to be void, then the effect, which cannot fail.
#include <algorithm>

#include "contracts/lifecycle/folding.h"

namespace souk::contracts {

Folding::Void Folding::run() {
  state_.time_ = std::max(state_.time_, time_);
  sweep();
  auto why = fold();
  if (why) state_.voids_.emplace(seq_, *why);
  return why;
}

// Roots are kept only as far back as a decision yet to come may point.
void Folding::remember_head(const Digest& leaf_hash) {
  state_.tree_.append(leaf_hash);
  if (state_.undecided_.empty()) {
    state_.heads_.clear();
    return;
  }
  state_.heads_.emplace(state_.tree_.size(), state_.tree_.root());
  auto oldest = state_.heads_.upper_bound(*state_.undecided_.begin());
  state_.heads_.erase(state_.heads_.begin(), oldest);
}

// Every open contract whose deadline has come leaves its phase by itself.
void Folding::sweep() {
  std::vector<ContractId> due;
  for (const auto& [deadline, id] : state_.open_) {
    if (deadline > state_.time_) break;
    due.push_back(id);
  }
  std::sort(due.begin(), due.end());
  for (const auto& id : due) {
    Contract& contract = *find(id);
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

Folding::Void Folding::fold() {
  if (seq_ != 0) {
    if (!state_.genesis_) return "no_genesis";
    if (entry_.market() != to_hex(state_.market_)) return "other_market";
  }
  // A void entry uses its nonce up too: nobody can bring it again on a better day.
  if (!state_.nonces_.emplace({entry_.author(), entry_.nonce()}, {})) return "replayed";
  auto record = record_of(entry_);
  if (!record) return "malformed";
  if (seq_ == 0 && !std::holds_alternative<Genesis>(*record)) return "no_genesis";
  return std::visit([this](auto& known) { return on(known); }, *record);
}

Folding::Void Folding::on(Genesis& genesis) {
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

Folding::Void Folding::on(KeeperBoot& boot) {
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

Folding::Void Folding::on(const Deposit& deposit) {
  if (entry_.author() != state_.genesis_->treasury) return "not_the_treasury";
  // Every balance is part of what was minted: this bound is the bound of all sums.
  if (deposit.minor > kMaxJsonInteger - state_.minted_) return "overflow";
  state_.minted_ += deposit.minor;
  pay(deposit.account, deposit.minor);
  return kEffect;
}

Folding::Void Folding::on(const Tick&) {
  if (!by_keeper()) return "not_the_keeper";
  return kEffect;  // the sweep has been
}

std::optional<AppraisedKeys> Folding::appraise(const Evidence& evidence, const char* role) const {
  if (!state_.appraiser_) return std::nullopt;
  auto keys = state_.appraiser_(evidence, *state_.genesis_, state_.market_, role);
  if (!keys) return std::nullopt;
  return *keys;
}

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
