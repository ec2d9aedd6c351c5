// The market's host in this process, its enclaves behind a relay that lies when it is told to.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "ledger/store/store.h"
#include "market_api/verbs/files.h"
#include "market_api/verbs/market.h"
#include "tests/support/live_market.h"

namespace souk::market {

using contracts::Phase;
using flows::Offered;
using flows::Party;
using trainer::Kind;

class HostFlow : public ::testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    enclave = flows::program("souk-enclave");
    std::string lying = flows::program("souk-lying-relay");
    ASSERT_FALSE(enclave.empty() || lying.empty()) << "expected both in $SOUK_BIN";
    // Genesis names the real program; what runs later is the relay before it.
    auto founded = Market::open(config(enclave, treasury.account()), clock);
    ASSERT_TRUE(founded) << founded.error().expected();
    relay = folder.file("relay");
    std::ofstream(relay) << "#!/bin/sh\nexec '" << lying << "' \"$1\" '" << folder.path() << "'\n";
    ASSERT_EQ(chmod(relay.c_str(), 0700), 0);
  }
  MarketConfig config(const std::string& program,
                      std::optional<PublicKey> operator_key = std::nullopt) const {
    MarketConfig out;
    out.directory = folder.file("market");
    out.enclave_program = program;
    out.program_is_the_enclave = program == enclave;
    out.treasury = operator_key;
    return out;
  }
  void lie(const std::string& name) { std::ofstream(folder.file(name)) << "\n"; }
  void be_honest(const std::string& name) { std::filesystem::remove(folder.file(name)); }

  std::vector<pid_t> relays() const {
    std::vector<pid_t> pids;
    std::ifstream in(folder.file("started"));
    for (pid_t pid = 0; in >> pid;) pids.push_back(pid);
    return pids;
  }

  void open() {
    auto opened = Market::open(config(relay), clock);
    ASSERT_TRUE(opened) << opened.error().expected();
    market = std::move(*opened);
  }
  void record(const ledger::Envelope& envelope) {
    auto recorded = market->record(flows::envelope_bytes(envelope));
    ASSERT_TRUE(recorded) << recorded.error().expected();
  }
  DatasetId offer() {
    flows::OfferOptions options;
    options.policy = "return {allow = true, obligations = {min_noise_micro = 1000000}}";
    options.budget_epsilon_micro = 500'000'000;
    auto offered = flows::offer_of(provider, options, market->id(), *market->state().keeper(),
                                   flows::rows_file(40), 2);
    EXPECT_TRUE(market->blobs().put(offered.file));
    record(contracts::sign_record(offered.offer, provider.key, market->id()));
    return offered.id;
  }
  void offer_and_fund() {
    dataset = offer();
    record(contracts::sign_record(contracts::Deposit{lab.account(), 10'000}, treasury.key,
                                  market->id()));
  }
  // Of runs that could be taken up.
  size_t states_left() const {
    size_t count = 0;
    std::error_code none;
    for (const auto& item : std::filesystem::directory_iterator(folder.file("market/runs"), none))
      count += item.is_regular_file() ? 1 : 0;
    return count;
  }
  std::string blob_file(const DatasetId& id) {
    auto state = market->state();
    return folder.file("market/blobs/blob/" +
                       to_hex(ByteView(state.dataset(id)->manifest.ciphertext)));
  }
  ledger::Envelope contract(uint32_t steps = 4) const {
    return contract_on({dataset}, steps, steps > 1000 ? 20 : 2);
  }
  ledger::Envelope contract_on(const std::vector<DatasetId>& datasets, uint32_t steps = 4,
                               double noise = 2) const {
    contracts::ContractSubmit submit;
    submit.spec = flows::private_spec(2, steps, noise);
    submit.datasets = datasets;
    submit.purpose = "research";
    submit.offered = 1000;
    submit.deadline_minutes = 60;
    submit.recipient = lab.recipient();
    return contracts::sign_record(submit, lab.key, market->id());
  }
  Phase phase(const ledger::Envelope& envelope) {
    return market->state().contract(contracts::contract_id(envelope.payload))->phase;
  }
  // The phase it comes to rest in, or the one it is in after a minute.
  Phase phase_in_the_end(const ledger::Envelope& envelope) {
    Phase now = phase(envelope);
    for (int i = 0; i < 6000; ++i, now = phase(envelope)) {
      if (now != Phase::kSubmitted && now != Phase::kEscrowed && now != Phase::kRunning) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return now;
  }
  size_t boots() {
    size_t count = 0;
    auto leaves = market->ledger().leaves(0, market->ledger().size()).take();
    for (const auto& bytes : leaves) {
      auto entry = ledger::SignedEntry::decode(ledger::decode_leaf(bytes)->envelope);
      if (ledger::authenticate(std::move(*entry))->payload_type() == contracts::KeeperBoot::kType) {
        ++count;
      }
    }
    return count;
  }

  // Three contracts, of which the keeper cannot decide the one that is asked about first.
  void one_of_three_cannot_be_decided(const std::string& how) {
    open();
    offer_and_fund();
    std::vector<ledger::Envelope> all = {contract(), contract(), contract()};
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
      return contracts::contract_id(a.payload) < contracts::contract_id(b.payload);
    });
    ContractId stuck = contracts::contract_id(all[0].payload);
    lie(how + to_hex(stuck));
    for (const auto& envelope : all) record(envelope);
    EXPECT_EQ(phase_in_the_end(all[1]), Phase::kSettled);
    EXPECT_EQ(phase_in_the_end(all[2]), Phase::kSettled);
    EXPECT_EQ(phase(all[0]), Phase::kSubmitted);
    EXPECT_EQ(market->progress(stuck).detail.rfind("decision waits: ", 0), 0U)
        << market->progress(stuck).detail;
    // It is asked about ever more seldom: each time might cost a keeper and an entry.
    size_t before = boots();
    std::this_thread::sleep_for(std::chrono::seconds(2));
    EXPECT_LE(boots(), before + 3);
    EXPECT_LE(relays().size(), 12U);
    be_honest(how + to_hex(stuck));
    EXPECT_EQ(phase_in_the_end(all[0]), Phase::kSettled);
  }

  // A keeper that fails in this way is gone, and the next call has another one.
  void a_failed_start_is_followed_by_a_good_one(const std::string& failure) {
    auto ledger = open_ledger();
    KeeperLink link(
        {relay, folder.file("market/platform.key"), folder.file("market/keeper.sealed")}, *ledger);
    auto attest = trainer::frame(Kind::kAttest, Json::Object{{"nonce", std::string(64, '0')}});
    lie(failure);
    auto failed = link.ask(attest);
    ASSERT_FALSE(failed);
    EXPECT_FALSE(failed.error().expected().empty());
    ASSERT_EQ(relays().size(), 1U);
    EXPECT_EQ(kill(relays().front(), 0), -1) << "the failed keeper still runs";

    auto good = link.ask(attest);
    ASSERT_TRUE(good) << good.error().expected();
    EXPECT_EQ(good->kind, Kind::kEvidence);
    EXPECT_EQ(relays().size(), 2U);
    EXPECT_TRUE(link.record(trainer::frame(Kind::kTick, Json::Object{})));
    EXPECT_EQ(relays().size(), 2U) << "the good one stays";
  }
  std::unique_ptr<ledger::Sequencer> open_ledger() {
    auto seed = read_file(folder.file("market/ledger.key"), 32);
    auto store = ledger::LedgerStore::open(folder.file("market/ledger.db"));
    auto genesis = store->leaf(0);
    auto follower = contracts::Follower::pin(*genesis, std::nullopt, &trainer::appraise_for_market);
    return ledger::Sequencer::start(std::move(*store), ledger::SigningKey::from_seed(*seed).take(),
                                    follower->genesis().origin, clock)
        .take();
  }

  flows::TempFolder folder;
  SystemClock clock;
  Party treasury{"treasury"}, provider{"north"}, lab{"lab"};
  std::string enclave, relay;
  std::unique_ptr<Market> market;
  DatasetId dataset;
};

}  // namespace souk::market
