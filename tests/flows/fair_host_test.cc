// Who gets the keeper and the trainer, and for how long, when there is more to do than they can.
#include <algorithm>
#include <array>

#include "tests/flows/host_flow.h"

namespace souk::market {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Steady = std::chrono::steady_clock;

class FairHostFlow : public HostFlow {
 protected:
  void open_with(MarketConfig with, Clock& time) {
    auto opened = Market::open(std::move(with), time);
    ASSERT_TRUE(opened) << opened.error().expected();
    market = std::move(*opened);
  }
  // A dataset of whoever signs, at this price.
  DatasetId offer_by(const Party& who, contracts::Minor price) {
    flows::OfferOptions options;
    options.policy = "return {allow = true, obligations = {min_noise_micro = 100000}}";
    options.price = price;
    options.budget_epsilon_micro = 500'000'000;
    auto offered = flows::offer_of(who, options, market->id(), *market->state().keeper(),
                                   flows::rows_file(40), 2);
    EXPECT_TRUE(market->blobs().put(offered.file));
    record(contracts::sign_record(offered.offer, who.key, market->id()));
    return offered.id;
  }
  ledger::Envelope contract_of(const Party& who, const DatasetId& of,
                               const contracts::TrainingSpec& spec,
                               contracts::Minor offered) const {
    contracts::ContractSubmit submit;
    submit.spec = spec;
    submit.datasets = {of};
    submit.purpose = "research";
    submit.offered = offered;
    submit.deadline_minutes = 60;
    submit.recipient = who.recipient();
    return contracts::sign_record(submit, who.key, market->id());
  }
  // Minutes of work: 2,500 steps between two reports, each of some milliseconds.
  static contracts::TrainingSpec long_spec() {
    auto spec = flows::private_spec(2, 50'000, 40);
    contracts::Node wide = spec.model.front(), bend;
    wide.units = 600;
    bend.op = contracts::Node::Op::kTanh;
    spec.model = {wide, bend, wide, bend, spec.model.front()};
    CHECK(contracts::check_spec(spec));
    return spec;
  }
  // Long to account for, and refused in the end.
  static contracts::TrainingSpec heavy_spec() {
    auto spec = flows::private_spec(2, 4, 2);
    spec.steps = 1'000'000;
    spec.learning_rate = {{spec.steps, 0.5}};
    spec.privacy->noise_multiplier = 0.5;
    spec.sampling_threshold = ~uint64_t{0};
    return spec;
  }
  static ContractId id_of(const ledger::Envelope& envelope) {
    return contracts::contract_id(envelope.payload);
  }
  template <class Condition>
  static bool within(milliseconds time, Condition condition) {
    for (auto end = Steady::now() + time; Steady::now() < end;) {
      if (condition()) return true;
      std::this_thread::sleep_for(milliseconds(10));
    }
    return condition();
  }
  bool comes_to(const ledger::Envelope& envelope, Phase wanted, milliseconds time = seconds(60)) {
    return within(time,
                  [&] {
                    Phase now = phase(envelope);
                    return now == wanted || now == Phase::kRefused;
                  }) &&
           phase(envelope) == wanted;
  }
  // Why it was refused, for the message of a test that expected otherwise.
  std::string reasons(const ledger::Envelope& envelope) {
    auto state = market->state();
    const auto& decision = state.contract(id_of(envelope))->decision;
    return decision ? canonical(decision->reasons) : "undecided";
  }
  std::string detail(const ledger::Envelope& envelope) {
    return market->progress(id_of(envelope)).detail;
  }
  std::vector<std::string> asked() const {
    std::vector<std::string> out;
    std::ifstream in(folder.file("asked"));
    for (std::string line; std::getline(in, line);) out.push_back(line);
    return out;
  }
};

TEST_F(FairHostFlow, ARunEndsAtItsDeadlineThoughItsTrainerHasNothingToSayYet) {
  flows::ManualClock manual;
  manual.advance(clock.now() - manual.now());
  open_with(config(relay), manual);
  offer_and_fund();
  auto envelope = contract_of(lab, dataset, long_spec(), 1000);
  record(envelope);
  ASSERT_TRUE(comes_to(envelope, Phase::kRunning)) << reasons(envelope);
  std::this_thread::sleep_for(milliseconds(500));
  pid_t trainer = relays().back();
  ASSERT_EQ(kill(trainer, 0), 0);
  EXPECT_EQ(detail(envelope), "started") << "a report came: the test shows nothing";
  EXPECT_EQ(states_left(), 1U);

  manual.advance(TimeMs{61} * 60'000);
  auto at = Steady::now();
  EXPECT_TRUE(within(seconds(10), [&] { return kill(trainer, 0) == -1; }));
  EXPECT_LT(Steady::now() - at, seconds(3));
  ASSERT_TRUE(comes_to(envelope, Phase::kRefunded));
  EXPECT_EQ(market->state().contract(id_of(envelope))->ended_because, "deadline");
  EXPECT_EQ(market->state().balance(lab.account()), 10'000);
  EXPECT_TRUE(within(seconds(5), [&] {
    return detail(envelope) == "job ended: its deadline has passed";
  })) << detail(envelope);
  EXPECT_EQ(states_left(), 0U);
  // The trainer's place is free.
  auto next = contract();
  record(next);
  EXPECT_EQ(phase_in_the_end(next), Phase::kSettled);
}

TEST_F(FairHostFlow, AnErasureEndsARunBetweenTwoStepsAndTheRestIsGivenBack) {
  open();
  offer_and_fund();
  auto envelope = contract_of(lab, dataset, long_spec(), 1000);
  record(envelope);
  ASSERT_TRUE(comes_to(envelope, Phase::kRunning)) << reasons(envelope);
  std::this_thread::sleep_for(milliseconds(500));
  EXPECT_EQ(detail(envelope), "started") << "a report came: the test shows nothing";
  auto reserved = market->state().dataset(dataset)->budget.reserved;
  record(contracts::sign_record(contracts::DatasetErase{dataset}, provider.key, market->id()));
  auto at = Steady::now();
  ASSERT_TRUE(comes_to(envelope, Phase::kRefunded));
  EXPECT_LT(Steady::now() - at, seconds(4));
  auto state = market->state();
  const auto& ended = *state.contract(id_of(envelope));
  ASSERT_TRUE(ended.stop) << "the trainer has signed how far it came";
  EXPECT_LT(ended.stop->steps, ended.submit.spec.steps / 20);
  EXPECT_LT(state.dataset(dataset)->budget.committed[0], reserved[0]);
  EXPECT_TRUE(within(seconds(5), [&] { return states_left() == 0; }));
  EXPECT_TRUE(within(seconds(5), [&] { return detail(envelope).starts_with("stopped: "); }))
      << detail(envelope);
}

// Its trainer dies after the erasure is recorded and before it has said how far it came.
TEST_F(FairHostFlow, WhatARunLeftThatEndedWithoutItsTrainerIsGoneToo) {
  open();
  offer_and_fund();
  auto envelope = contract_of(lab, dataset, long_spec(), 1000);
  record(envelope);
  ASSERT_TRUE(comes_to(envelope, Phase::kRunning)) << reasons(envelope);
  std::this_thread::sleep_for(milliseconds(300));
  pid_t trainer = relays().back();
  ASSERT_EQ(kill(trainer, SIGSTOP), 0);
  record(contracts::sign_record(contracts::DatasetErase{dataset}, provider.key, market->id()));
  std::this_thread::sleep_for(milliseconds(400));
  ASSERT_EQ(kill(trainer, SIGKILL), 0);
  ASSERT_TRUE(comes_to(envelope, Phase::kRefunded));
  EXPECT_TRUE(within(seconds(5), [&] { return states_left() == 0; }));
  EXPECT_FALSE(market->state().contract(id_of(envelope))->resume);
}

// Every trainer of it dies before it has come further than another: taken up eight times, ever more
// seldom, and then no more. Others go on.
TEST_F(FairHostFlow, ARunThatComesNoFurtherIsGivenUpAndItsMaximumIsCommitted) {
  open();
  offer_and_fund();
  auto envelope = contract_of(lab, dataset, long_spec(), 1000);
  record(envelope);
  ASSERT_TRUE(comes_to(envelope, Phase::kRunning)) << reasons(envelope);
  const auto reserved = market->state().dataset(dataset)->budget.reserved;
  EXPECT_TRUE(within(seconds(100), [&] {
    // The keeper has a relay too, the first.
    if (relays().size() > 1 && kill(relays().back(), 0) == 0) {
      std::this_thread::sleep_for(milliseconds(100));
      kill(relays().back(), SIGKILL);
    }
    return phase(envelope) != Phase::kRunning;
  }));
  EXPECT_EQ(phase(envelope), Phase::kRefunded);
  auto state = market->state();
  const auto& ended = *state.contract(id_of(envelope));
  EXPECT_EQ(ended.ended_because, "trainer_died");
  EXPECT_EQ(state.dataset(dataset)->budget.committed, reserved);
  EXPECT_EQ(states_left(), 0U);
  if (ended.resume) {
    EXPECT_LE(ended.resume->attempt, 8U);
  }
  auto next = contract();
  record(next);
  EXPECT_EQ(phase_in_the_end(next), Phase::kSettled);
}

TEST_F(FairHostFlow, ALongRunThatPaysNothingGivesWayToAPaidContractAndSaysWhy) {
  auto with = config(relay);
  with.longest_run = seconds(2);
  open_with(std::move(with), clock);
  offer_and_fund();
  Party stranger{"stranger"};
  DatasetId free = offer_by(stranger, 0);
  auto hog = contract_of(stranger, free, long_spec(), 0);
  auto another = contract_of(stranger, free, long_spec(), 0);
  record(hog);
  ASSERT_TRUE(comes_to(hog, Phase::kRunning)) << reasons(hog);
  record(another);
  ASSERT_TRUE(comes_to(another, Phase::kEscrowed));
  EXPECT_EQ(detail(another), "waits for a trainer");
  std::this_thread::sleep_for(seconds(3));
  EXPECT_EQ(phase(hog), Phase::kRunning) << "as long as nobody waits who has paid";
  auto reserved = market->state().contract(id_of(hog))->decision->grants.front().epsilon_micro;

  auto paid = contract();
  record(paid);
  ASSERT_TRUE(comes_to(paid, Phase::kSettled, seconds(20)));
  ASSERT_EQ(phase(hog), Phase::kRefunded);
  auto state = market->state();
  EXPECT_EQ(state.contract(id_of(hog))->ended_because, "trainer_died");
  EXPECT_EQ(state.dataset(free)->budget.epsilon_micro_committed, reserved);
  EXPECT_NE(detail(hog).find("it gave way"), std::string::npos) << detail(hog);
  EXPECT_EQ(detail(paid), "settled");
}

TEST_F(FairHostFlow, APaidContractIsDecidedBeforeAFloodOfHeavyOnesThatPayNothing) {
  open();
  offer_and_fund();
  std::array<Party, 3> strangers = {Party{"first"}, Party{"second"}, Party{"third"}};
  std::vector<ledger::Envelope> flood;
  for (const auto& stranger : strangers) {
    DatasetId free = offer_by(stranger, 0);
    for (int i = 0; i < 14; ++i) flood.push_back(contract_of(stranger, free, heavy_spec(), 0));
  }
  lie("slow-decisions");  // however fast this machine is
  for (const auto& envelope : flood) record(envelope);
  const size_t recorded = asked().size();
  ASSERT_TRUE(within(seconds(20), [&] { return asked().size() >= recorded + 7; }));
  auto paid = contract();
  record(paid);
  size_t before = asked().size();
  ASSERT_LT(before, flood.size() - 4) << "the flood is over: the test shows nothing";
  ASSERT_TRUE(within(seconds(60), [&] { return phase(paid) != Phase::kSubmitted; }));
  auto all = asked();
  auto place = std::find(all.begin(), all.end(), to_hex(id_of(paid))) - all.begin();
  EXPECT_LE(place, static_cast<ptrdiff_t>(before) + 2);
  be_honest("slow-decisions");
  EXPECT_TRUE(comes_to(paid, Phase::kSettled));
  // And the strangers take turns among themselves.
  std::vector<const Party*> served;
  auto state = market->state();
  for (size_t i = recorded + 1; i < before; ++i) {
    const auto* contract = state.contract(*named_from_hex<ContractId>(all[i]));
    for (const auto& stranger : strangers) {
      if (contract->consumer == stranger.account()) served.push_back(&stranger);
    }
  }
  ASSERT_GE(served.size(), 5U);
  for (size_t i = 3; i < served.size(); ++i) EXPECT_EQ(served[i], served[i - 3]);
}

TEST_F(FairHostFlow, FewContractsOfAKeyWithoutMoneyMayWaitAndManyOfOneThatHasSome) {
  open();
  offer_and_fund();
  Party stranger{"stranger"};
  auto spec = flows::private_spec(2, 4, 2);
  std::vector<ledger::Envelope> undecided;
  for (size_t i = 0; i <= kUnpaidOfOne; ++i) {
    undecided.push_back(contract_of(stranger, dataset, spec, 1000));
    lie("refuse-" + to_hex(id_of(undecided.back())));
  }
  for (size_t i = 0; i < kUnpaidOfOne; ++i) record(undecided[i]);
  auto more = market->record(flows::envelope_bytes(undecided.back()));
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().code(), Code::kTryAgain);
  EXPECT_FALSE(market->state().contract(id_of(undecided.back())));
  record(undecided.front());  // sent again: it has its place
  for (int i = 0; i < 64; ++i) record(contract_of(lab, dataset, spec, 1000));
}

TEST_F(FairHostFlow, WhatAJobWaitedForIsNotSaidOfItOnceItHasCome) {
  open();
  offer_and_fund();
  auto first = contract_of(lab, dataset, long_spec(), 1000);
  record(first);  // keeps the trainer
  ASSERT_TRUE(comes_to(first, Phase::kRunning)) << reasons(first);
  auto second = contract();
  lie("refuse-" + to_hex(id_of(second)));
  record(second);
  ASSERT_TRUE(within(seconds(20), [&] { return detail(second).starts_with("decision waits: "); }));
  be_honest("refuse-" + to_hex(id_of(second)));
  ASSERT_TRUE(comes_to(second, Phase::kEscrowed));
  EXPECT_EQ(detail(second), "waits for a trainer");
}

}  // namespace
}  // namespace souk::market
