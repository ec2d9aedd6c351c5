// Every attempt leaves exactly one decision, however many come between.
#include <atomic>

#include "tests/flows/host_flow.h"

namespace souk::market {
namespace {

class OneDecision : public HostFlow {
 protected:
  // Entries of decisions, by the contract that they speak of.
  std::map<ContractId, int> decisions() {
    std::map<ContractId, int> out;
    auto leaves = market->ledger().leaves(0, market->ledger().size()).take();
    for (const auto& bytes : leaves) {
      auto entry = ledger::SignedEntry::decode(ledger::decode_leaf(bytes)->envelope);
      auto record = contracts::record_of(*ledger::authenticate(std::move(*entry)));
      auto* decision = std::get_if<contracts::ContractDecision>(&*record);
      if (decision) ++out[decision->contract];
    }
    return out;
  }
  bool all_decided(const std::vector<ledger::Envelope>& all) {
    for (int i = 0; i < 6000; ++i) {
      auto state = market->state();
      bool done = std::all_of(all.begin(), all.end(), [&](const auto& envelope) {
        return state.contract(contracts::contract_id(envelope.payload))->decision.has_value();
      });
      if (done) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
};

TEST_F(OneDecision, ManyAtOnceOnSharedDatasetsLeaveOneEntryEachAndNothingVoid) {
  open();
  offer_and_fund();
  std::vector<DatasetId> shared = {dataset, offer()};
  constexpr size_t kClients = 8, kRounds = 4;
  std::vector<ledger::Envelope> all;
  for (size_t i = 0; i < kClients * kRounds; ++i) all.push_back(contract_on(shared));

  for (size_t round = 0; round < kRounds; ++round) {
    std::atomic<bool> over = false;
    // What moves the account that every decision reads.
    std::thread bank([&] {
      while (!over) {
        record(contracts::sign_record(contracts::Deposit{lab.account(), 1}, treasury.key,
                                      market->id()));
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
    });
    std::vector<std::thread> clients;
    for (size_t i = 0; i < kClients; ++i) {
      clients.emplace_back([&, i] { record(all[round * kClients + i]); });
    }
    for (auto& client : clients) client.join();
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    over = true;
    bank.join();
  }
  ASSERT_TRUE(all_decided(all));
  auto entries = decisions();
  EXPECT_EQ(entries.size(), all.size());
  for (const auto& [id, count] : entries) EXPECT_EQ(count, 1) << to_hex(id);
  auto state = market->state();
  for (const auto& [seq, why] : state.voids())
    ADD_FAILURE() << "entry " << seq << " is void: " << why;
}

}  // namespace
}  // namespace souk::market
