// What an entry posts: money, and the privacy that is reserved and committed.
#include "contracts/lifecycle/budget.h"
#include "contracts/lifecycle/folding.h"

namespace souk::contracts {

void Folding::pay(const PublicKey& to, Minor amount) {
  Account& account = state_.accounts_[to];
  account.balance += amount;
  account.changed = seq_;
}

void Folding::give_back(Contract& contract) {
  pay(contract.consumer, contract.escrow);
  contract.escrow = 0;
}

void Folding::end(Contract& contract, Phase phase) {
  state_.open_.erase({contract.deadline, contract.id});
  state_.undecided_.erase(contract.submit_seq);
  contract.phase = phase;
}

// A grant is posted to the dataset, to its consumer and to its purpose alike.
template <class Post>
void Folding::post(const Contract& contract, const Grant& grant, Post to) {
  Dataset& dataset = *find(grant.dataset);
  to(static_cast<Spending&>(dataset.budget));
  to(dataset.consumers[contract.consumer]);
  to(dataset.purposes[contract.submit.purpose]);
  dataset.changed = seq_;
}

void Folding::reserve(const Contract& contract) {
  for (const auto& grant : contract.decision->grants) {
    post(contract, grant, [&](Spending& spending) {
      spending.holders.insert(contract.id);
      hold(spending, grant);
    });
  }
}

void Folding::free_reservation(const Contract& contract) {
  for (const auto& grant : contract.decision->grants) {
    post(contract, grant, [&](Spending& spending) {
      spending.holders.erase(contract.id);
      sum_holders(spending, grant.dataset);
    });
  }
}

void Folding::commit_reservation(const Contract& contract) {
  free_reservation(contract);
  commit(contract, contract.decision->grants);
}

void Folding::commit(const Contract& contract, const std::vector<Grant>& grants) {
  for (const auto& grant : grants) {
    post(contract, grant, [&](Spending& spending) {
      spending.committed = saturating_sum(spending.committed, grant.charges);
      spending.epsilon_micro_committed =
          saturating_sum(spending.epsilon_micro_committed, grant.epsilon_micro);
      ++spending.runs;
    });
  }
}

void Folding::hold(Spending& spending, const Grant& grant) {
  spending.reserved = saturating_sum(spending.reserved, grant.charges);
  spending.epsilon_micro_reserved =
      saturating_sum(spending.epsilon_micro_reserved, grant.epsilon_micro);
}

// Saturated sums cannot be subtracted from: what is held is added up afresh.
void Folding::sum_holders(Spending& spending, const DatasetId& dataset) {
  spending.reserved = Charges{};
  spending.epsilon_micro_reserved = 0;
  for (const auto& holder : spending.holders) {
    for (const auto& grant : state_.contract(holder)->decision->grants) {
      if (grant.dataset == dataset) hold(spending, grant);
    }
  }
}

}  // namespace souk::contracts
