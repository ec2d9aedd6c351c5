// Whose contract is next, where all wait for one keeper and one trainer. Consumers take turns:
// whoever was served least recently is next, and what one consumer has recorded is served in that
// order. What pays comes before what pays nothing. Names play no part: whoever signs a contract
// chooses its id. Pure functions of the recorded state, but for the Rota.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "contracts/lifecycle/market_state.h"

namespace souk::market {

// When consumers had their last turn, counted in entries of the ledger. The ledger tells of turns
// that something came of; here are the others too: what fails would else be next again. One thread.
class Rota {
 public:
  // A turn begins now, at this size of the ledger.
  void took(const PublicKey& consumer, uint64_t size);
  uint64_t last(const PublicKey& consumer) const;  // 0: none

 private:
  std::map<PublicKey, uint64_t> last_;
  uint64_t newest_ = 0;
};

// Contracts without a decision, the next one first: offers that the consumer's balance covers,
// then the others, and behind them what has expired.
std::vector<const contracts::Contract*> to_decide(const contracts::MarketState& state,
                                                  const Rota& rota);
// Escrowed contracts, the next one first: those that have paid, then the others.
std::vector<const contracts::Contract*> to_train(const contracts::MarketState& state,
                                                 const Rota& rota);

// Whether another consumer's contract waits in escrow and has paid more than this run.
bool pays_less_than_another(const contracts::MarketState& state, const contracts::Contract& run);

// Contracts that may wait for a decision though nothing is known to pay for them: of one key, and
// of all keys that have no money here, neither free nor in escrow.
inline constexpr size_t kUnpaidOfOne = 16, kUnpaidOfAll = 64;
// The same of a key that has money here.
inline constexpr size_t kUnpaidOfFunded = 256;

// Whether one more may be recorded. kTryAgain: too many wait already.
Status room_to_wait(const contracts::MarketState& state, const PublicKey& consumer,
                    const contracts::ContractSubmit& submit);

}  // namespace souk::market
