#include "market_api/verbs/order.h"

#include <algorithm>
#include <set>
#include <tuple>

namespace souk::market {
namespace {

using contracts::Contract;
using contracts::MarketState;
using contracts::Minor;
using contracts::Phase;

struct Place {
  int rank;  // the lowest first
  uint64_t served, recorded;
  const Contract* contract;
  bool operator<(const Place& other) const {
    return std::tie(rank, served, recorded) < std::tie(other.rank, other.served, other.recorded);
  }
};

std::vector<const Contract*> in_order(std::vector<Place> places) {
  std::sort(places.begin(), places.end());
  std::vector<const Contract*> out;
  for (const auto& place : places) out.push_back(place.contract);
  return out;
}

// Of each consumer, the newest entry that served it.
std::map<PublicKey, uint64_t> turns_on(const MarketState& state, uint64_t Contract::*served) {
  std::map<PublicKey, uint64_t> out;
  for (const auto& [id, contract] : state.contracts()) {
    uint64_t& last = out[contract.consumer];
    last = std::max(last, contract.*served);
  }
  return out;
}

}  // namespace

void Rota::took(const PublicKey& consumer, uint64_t size) {
  newest_ = std::max(newest_ + 1, size);
  last_[consumer] = newest_;
}

uint64_t Rota::last(const PublicKey& consumer) const {
  auto it = last_.find(consumer);
  return it == last_.end() ? 0 : it->second;
}

std::vector<const Contract*> to_decide(const MarketState& state, const Rota& rota) {
  constexpr int kPays = 0, kFree = 1, kExpired = 2;
  auto turns = turns_on(state, &Contract::decision_seq);
  std::vector<Place> places;
  for (const auto& [id, contract] : state.contracts()) {
    bool late = contract.phase == Phase::kExpired && !contract.decision;
    if (contract.phase != Phase::kSubmitted && !late) continue;
    Minor offered = contract.submit.offered;
    bool pays = offered > 0 && state.balance(contract.consumer) >= offered;
    int rank = late ? kExpired : pays ? kPays : kFree;
    uint64_t served = std::max(turns[contract.consumer], rota.last(contract.consumer));
    places.push_back({rank, served, contract.submit_seq, &contract});
  }
  return in_order(std::move(places));
}

std::vector<const Contract*> to_train(const MarketState& state, const Rota& rota) {
  auto turns = turns_on(state, &Contract::start_seq);
  std::vector<Place> places;
  for (const auto& [id, contract] : state.contracts()) {
    if (contract.phase != Phase::kEscrowed) continue;
    uint64_t served = std::max(turns[contract.consumer], rota.last(contract.consumer));
    places.push_back({contract.escrow > 0 ? 0 : 1, served, contract.submit_seq, &contract});
  }
  return in_order(std::move(places));
}

bool pays_less_than_another(const MarketState& state, const Contract& run) {
  return std::any_of(state.contracts().begin(), state.contracts().end(), [&](const auto& item) {
    const Contract& other = item.second;
    return other.phase == Phase::kEscrowed && other.consumer != run.consumer &&
           other.escrow > run.escrow;
  });
}

Status room_to_wait(const MarketState& state, const PublicKey& consumer,
                    const contracts::ContractSubmit& submit) {
  std::set<PublicKey> in_escrow;
  std::map<PublicKey, std::map<uint64_t, Minor>> waiting;  // offers in the order of recording
  for (const auto& [id, contract] : state.contracts()) {
    if (contract.escrow > 0) in_escrow.insert(contract.consumer);
    if (contract.phase == Phase::kSubmitted)
      waiting[contract.consumer].emplace(contract.submit_seq, contract.submit.offered);
  }
  auto funded = [&](const PublicKey& key) {
    return state.balance(key) > 0 || in_escrow.count(key) != 0;
  };
  // What the balance does not cover, each offer beside those before it.
  size_t of_one = 0, of_all = 0;
  Minor left = state.balance(consumer);
  for (const auto& [key, offers] : waiting) {
    Minor free = state.balance(key);
    size_t unpaid = 0;
    for (const auto& [seq, offered] : offers) {
      bool covered = offered > 0 && offered <= free;
      if (covered) free -= offered;
      unpaid += !covered;
    }
    if (key == consumer) {
      of_one = unpaid;
      left = free;
    }
    if (!funded(key)) of_all += unpaid;
  }
  if (submit.offered > 0 && submit.offered <= left) return Done{};
  if (of_one >= (funded(consumer) ? kUnpaidOfFunded : kUnpaidOfOne)) {
    return Error(Code::kTryAgain,
                 "expected fewer contracts of one consumer, that its balance does not cover, to "
                 "wait for a decision: " +
                     std::to_string(of_one) + " do");
  }
  if (!funded(consumer) && of_all >= kUnpaidOfAll) {
    return Error(Code::kTryAgain,
                 "expected fewer contracts of consumers without money to wait for a decision: " +
                     std::to_string(of_all) + " do; one that a balance covers need not wait");
  }
  return Done{};
}

}  // namespace souk::market
