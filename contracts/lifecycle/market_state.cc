#include "contracts/lifecycle/market_state.h"

namespace souk::contracts {

const char* phase_name(Phase phase) {
  switch (phase) {
    case Phase::kSubmitted:
      return "submitted";
    case Phase::kRefused:
      return "refused";
    case Phase::kEscrowed:
      return "escrowed";
    case Phase::kRunning:
      return "running";
    case Phase::kSettled:
      return "settled";
    case Phase::kRefunded:
      return "refunded";
    case Phase::kExpired:
      return "expired";
  }
  return "unknown";
}

Minor MarketState::balance(const PublicKey& account) const {
  auto it = accounts_.find(account);
  return it == accounts_.end() ? 0 : it->second.balance;
}

Minor MarketState::escrow_total() const {
  Minor total = 0;
  for (const auto& [id, contract] : contracts_) total += contract.escrow;
  return total;
}

const Dataset* MarketState::dataset(const DatasetId& id) const {
  auto it = datasets_.find(id);
  return it == datasets_.end() ? nullptr : &it->second;
}

const Contract* MarketState::contract(const ContractId& id) const {
  auto it = contracts_.find(id);
  return it == contracts_.end() ? nullptr : &it->second;
}

}  // namespace souk::contracts
