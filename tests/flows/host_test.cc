// What the market's host does when one of its parts fails: the rest goes on. Its enclave is the
// real one behind a relay that lies when it is told to (tests/support/lying_relay.cc).
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <thread>

#include "ledger/store/store.h"
#include "market_api/verbs/files.h"
#include "market_api/verbs/market.h"
#include "tests/support/live_market.h"
#include "trainer/data/table.h"

namespace souk::market {
namespace {

using contracts::Phase;
using flows::Offered;
using flows::Party;
using trainer::Kind;

Bytes rows() {
  trainer::Dataset dataset;
  dataset.labels.resize(40);
  std::vector<float> features(80);
  for (size_t row = 0; row < 40; ++row) {
    dataset.labels[row] = static_cast<int64_t>(row % 2);
    features[2 * row] = row % 2 ? 1.0F : -1.0F;
  }
  dataset.features = std::move(features);
  dataset.schema.feature_shape = {2};
  dataset.schema.feature_names = {"feature 0", "feature 1"};
  dataset.schema.label_name = "kind";
  dataset.schema.classes = {"benign", "malignant"};
  return trainer::dataset_to_safetensors(dataset).take();
}

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
    auto offered =
        flows::offer_of(provider, options, market->id(), *market->state().keeper(), rows(), 2);
    EXPECT_TRUE(market->blobs().put(offered.file));
    record(contracts::sign_record(offered.offer, provider.key, market->id()));
    return offered.id;
  }
  void offer_and_fund() {
    dataset = offer();
    record(contracts::sign_record(contracts::Deposit{lab.account(), 10'000}, treasury.key,
                                  market->id()));
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

TEST_F(HostFlow, AContractTheKeeperRefusesToDecideHoldsUpNoOther) {
  one_of_three_cannot_be_decided("refuse-");
}

TEST_F(HostFlow, AContractTheKeeperDiesOfHoldsUpNoOther) {
  one_of_three_cannot_be_decided("die-at-");
}

// It ends as the ledger says, whatever its keeper does: expired, and refused unjudged.
TEST_F(HostFlow, AContractThatIsNeverDecidedIsAskedAboutEverMoreSeldomAndExpires) {
  flows::ManualClock manual;
  manual.advance(clock.now() - manual.now());
  auto opened = Market::open(config(relay), manual);
  ASSERT_TRUE(opened) << opened.error().expected();
  market = std::move(*opened);
  offer_and_fund();
  auto envelope = contract();
  ContractId id = contracts::contract_id(envelope.payload);
  lie("refuse-" + to_hex(id));
  auto asked = [&] {
    std::ifstream in(folder.file("asked"));
    size_t count = 0;
    for (std::string line; std::getline(in, line);) count += line == to_hex(id);
    return count;
  };
  record(envelope);
  std::this_thread::sleep_for(std::chrono::seconds(5));
  EXPECT_GE(asked(), 2U);
  EXPECT_LE(asked(), 6U);  // at 0, 0, 0.5, 1.5 and 3.5 s
  EXPECT_EQ(phase(envelope), Phase::kSubmitted);
  manual.advance(TimeMs{2} * 3'600'000);
  for (int i = 0; i < 3000 && phase(envelope) == Phase::kSubmitted; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(phase(envelope), Phase::kExpired);
  EXPECT_EQ(market->state().balance(lab.account()), 10'000);
  be_honest("refuse-" + to_hex(id));
  for (int i = 0; i < 6000 && !market->state().contract(id)->decision; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  auto state = market->state();
  ASSERT_TRUE(state.contract(id)->decision);
  const auto& decision = *state.contract(id)->decision;
  EXPECT_EQ(decision.status, "expired");
  ASSERT_EQ(decision.reasons.array()->size(), 1U) << canonical(decision.reasons);
  EXPECT_TRUE(decision.inputs.find("policies")->array()->empty()) << "no policy was asked";
  EXPECT_EQ(state.balance(lab.account()), 10'000);
  EXPECT_EQ(state.dataset(dataset)->budget.reserved, contracts::Charges{});
}

// ---- ciphertext that is not there -----------------------------------------------------

TEST_F(HostFlow, AContractOnADatasetWhoseBlobIsLostCutOrAlteredIsRefusedBeforeAnythingIsReserved) {
  open();
  offer_and_fund();
  std::string blob = blob_file(dataset);
  Bytes whole = read_file(blob).take();
  auto write = [&](ByteView bytes) {
    std::ofstream(blob, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  };
  Bytes altered = whole;
  altered[altered.size() / 2] ^= 1;
  std::vector<std::function<void()>> losses = {
      [&] { std::filesystem::remove(blob); },
      [&] { write(ByteView(whole).first(whole.size() - 1)); }, [&] { write(altered); }};
  for (const auto& lose : losses) {
    lose();
    auto envelope = contract();
    record(envelope);
    EXPECT_EQ(phase_in_the_end(envelope), Phase::kRefused);
    auto state = market->state();
    const auto& refused = *state.contract(contracts::contract_id(envelope.payload));
    const Json& reason = refused.decision->reasons.array()->front();
    EXPECT_EQ(*reason.find("code")->string(), "ciphertext_missing");
    EXPECT_EQ(*reason.find("provider")->string(), provider.name);
    EXPECT_EQ(*reason.find("dataset")->string(), state.dataset(dataset)->manifest.name);
    EXPECT_EQ(state.dataset(dataset)->budget.reserved, contracts::Charges{});
    EXPECT_EQ(state.dataset(dataset)->budget.committed, contracts::Charges{});
    EXPECT_EQ(state.balance(lab.account()), 10'000);
  }
  write(whole);
  auto envelope = contract();
  record(envelope);
  EXPECT_EQ(phase_in_the_end(envelope), Phase::kSettled);
}

TEST_F(HostFlow, ABlobThatVanishesWhileItsContractWaitsEndsItUnderItsOwnNameAndCostsNothing) {
  open();
  offer_and_fund();
  DatasetId lost = offer();
  auto long_one = contract(20'000);
  record(long_one);  // keeps the trainer busy
  for (int i = 0; i < 6000 && phase(long_one) != Phase::kRunning; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_EQ(phase(long_one), Phase::kRunning);
  auto waiting = contract_on({lost});
  record(waiting);
  ContractId id = contracts::contract_id(waiting.payload);
  for (int i = 0; i < 6000 && phase(waiting) == Phase::kSubmitted; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_EQ(phase(waiting), Phase::kEscrowed);
  std::filesystem::remove(blob_file(lost));
  EXPECT_EQ(phase_in_the_end(long_one), Phase::kSettled);
  EXPECT_EQ(phase_in_the_end(waiting), Phase::kRefunded);
  auto state = market->state();
  EXPECT_EQ(state.contract(id)->ended_because, "ciphertext_missing");
  EXPECT_EQ(state.contract(id)->ended_by_dataset, lost);
  EXPECT_EQ(state.dataset(lost)->budget.reserved, contracts::Charges{});
  EXPECT_EQ(state.dataset(lost)->budget.committed, contracts::Charges{});
  EXPECT_EQ(state.escrow_total(), 0);
}

TEST_F(HostFlow, AnErasureEndsAJobThatRunsOnTheDatasetAndThereIsNoModel) {
  open();
  offer_and_fund();
  auto envelope = contract(40'000);
  record(envelope);
  for (int i = 0; i < 6000 && phase(envelope) != Phase::kRunning; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_EQ(phase(envelope), Phase::kRunning);
  auto reserved = market->state().dataset(dataset)->budget.reserved;
  record(contracts::sign_record(contracts::DatasetErase{dataset}, provider.key, market->id()));
  for (int i = 0; i < 6000 && phase(envelope) != Phase::kRefunded; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  auto state = market->state();
  const auto& ended = *state.contract(contracts::contract_id(envelope.payload));
  EXPECT_EQ(ended.phase, Phase::kRefunded);
  EXPECT_EQ(ended.ended_because, "dataset_erased");
  EXPECT_FALSE(ended.result);
  ASSERT_TRUE(ended.stop);
  EXPECT_LT(state.dataset(dataset)->budget.committed[0], reserved[0]);
  EXPECT_EQ(state.balance(lab.account()), 10'000);
  EXPECT_FALSE(std::filesystem::exists(blob_file(dataset)));
  // Its key is gone, so nobody has a use for its bytes any more.
  const auto& manifest = state.dataset(dataset)->manifest;
  auto again = market->begin_upload(manifest.ciphertext, static_cast<uint64_t>(manifest.size));
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), Code::kRefused);
  EXPECT_TRUE(market->begin_upload(Digest{1}, 100));
}

TEST_F(HostFlow, AKeeperThatRefusesToBeginIsDroppedAndTheNextOneServes) {
  a_failed_start_is_followed_by_a_good_one("refuse-begin-once");
}

TEST_F(HostFlow, AKeeperThatRefusesToBootIsDroppedAndTheNextOneServes) {
  a_failed_start_is_followed_by_a_good_one("refuse-boot-once");
}

TEST_F(HostFlow, AKeeperThatDiesAtItsStartIsDroppedAndTheNextOneServes) {
  a_failed_start_is_followed_by_a_good_one("die-once");
}

TEST_F(HostFlow, AKeeperThatDiesAndAnotherThatDoesNotBootOnlyDelayADecision) {
  open();
  offer_and_fund();
  lie("die-once");
  lie("refuse-boot-once");
  auto envelope = contract();
  record(envelope);
  EXPECT_EQ(phase_in_the_end(envelope), Phase::kSettled);
  EXPECT_FALSE(std::filesystem::exists(folder.file("die-once")));
  EXPECT_FALSE(std::filesystem::exists(folder.file("refuse-boot-once")));
}

TEST_F(HostFlow, AMarketWhoseKeeperDoesNotBootDoesNotOpen) {
  lie("refuse-boot-once");
  auto opened = Market::open(config(relay), clock);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), Code::kRefused);
  open();
}

}  // namespace
}  // namespace souk::market
