// A run whose trainer has died, taken up by another process from the state it left: to the same
// bits, once, and from the newest state; or not at all.
#include <chrono>

#include "ledger/crypto/hash.h"
#include "tests/flows/trainer_flow.h"
#include "tests/support/must.h"
#include "trainer/session/kept_run.h"
#include "trainer/session/sealing.h"
#include "trainer/session/two_slots.h"

namespace souk::flows {
namespace {

using Shared = std::vector<uint8_t>;
constexpr uint32_t kSteps = 40;

class TakenUpFlow : public TrainerFlow {
 protected:
  TakenUpFlow() {
    auto submit = market.contract({north.id, east.id});
    submit.spec = private_spec(2, kSteps, 2);
    submit.spec.optimizer.momentum = 0.9;
    submit.offered = 10'000;
    market.deposit(market.lab.account(), 10'000);
    id = market.submit(submit);
    CHECK(market.record(Kind::kDecide, id));
    CHECK(market.phase(id) == Phase::kEscrowed);
  }

  // A trainer with a state of its own, started on the ledger and shown it.
  std::unique_ptr<TrainerThread> begun() {
    auto trainer = std::make_unique<TrainerThread>(market.self(), shared);
    auto evidence = market.prepare(*trainer, id, market.challenge(id));
    CHECK(evidence);
    market.append(envelope_in(market.start_frame(id, *evidence)).take());
    at_start = market.history();
    auto shown = market.show(*trainer, at_start);
    CHECK(shown && shown->kind == Kind::kConfirmed);
    return trainer;
  }
  void load(TrainerLine& trainer) {
    for (const Offered* dataset : {&north, &east}) {
      auto loaded = market.send_dataset(trainer, dataset->id, dataset->file);
      ASSERT_TRUE(loaded);
      ASSERT_EQ(loaded->kind, Kind::kDone) << kind_and_body(*loaded);
    }
  }
  // Trains to the end on this ledger; `at_report` is called with the number of each report.
  Result<contracts::JobResult> train(TrainerLine& trainer, const History& history,
                                     const std::function<bool(int)>& at_report = {}) {
    TRY(trainer.send(trainer::frame(Kind::kTrain, Json::Object{})));
    for (int report = 1;;) {
      auto message = TRY(trainer.receive());
      if (message.kind == Kind::kBytes) continue;
      if (message.kind == Kind::kProgress) {
        if (at_report && !at_report(report++)) return Error(Code::kTryAgain, "left there");
        auto shown = TRY(market.show_more(trainer, history));
        TRY(trainer::expect(shown, Kind::kConfirmed));
        continue;
      }
      auto envelope = TRY(envelope_in(message));
      auto record = TRY(contracts::record_of(authentic(envelope)));
      return std::get<contracts::JobResult>(record);
    }
  }
  // Longer than a trainer waits before it keeps its state again.
  static void let_it_keep() { std::this_thread::sleep_for(std::chrono::milliseconds(60)); }

  // The whole run, and what a host saw in the shared file on the way.
  contracts::JobResult undisturbed() {
    auto trainer = begun();
    states.push_back(shared);
    load(*trainer);
    auto result = train(*trainer, at_start, [&](int) {
      states.push_back(shared);
      let_it_keep();
      return true;
    });
    CHECK(result);
    return *result;
  }

  Result<Frame> ask_to_take_up(TrainerLine& trainer, const ContractId& contract) {
    return trainer.ask(trainer::frame(
        Kind::kTakeUp,
        Json::Object{{"genesis", to_base64(at_start.leaves[0])}, {"contract", contract}}));
  }
  // Up to the job.resume that it wants recorded.
  Result<ledger::Envelope> resume_of(TrainerLine& trainer, const History& history) {
    auto evidence = TRY(ask_to_take_up(trainer, id));
    TRY(trainer::expect(evidence, Kind::kEvidence));
    auto shown = TRY(market.show(trainer, history));
    TRY(trainer::expect(shown, Kind::kResumed));
    return envelope_in(shown);
  }
  contracts::JobResume record_in(const ledger::Envelope& envelope) {
    return std::get<contracts::JobResume>(must(contracts::record_of(authentic(envelope))));
  }
  History with(const History& base, const ledger::Envelope& next) {
    auto envelopes = market.envelopes();
    envelopes.resize(base.size());
    envelopes.push_back(envelope_bytes(next));
    return market.rewrite(envelopes);
  }
  // The code with which it refuses to take the run up from these bytes on this ledger.
  std::optional<Code> refusal(Shared& bytes, const History& history,
                              const trainer::EnclaveSelf& self) {
    TrainerThread trainer(self, bytes);
    auto answer = ask_to_take_up(trainer, id);
    CHECK(answer);
    if (answer->kind == Kind::kEvidence) {
      answer = market.show(trainer, history);
      CHECK(answer);
    }
    auto code = refused(*answer);
    if (code) {
      EXPECT_EQ(refusal_message(*answer), "");
      EXPECT_FALSE(trainer.finish());
    }
    return code;
  }
  std::optional<Code> refusal(Shared bytes) {
    return refusal(bytes, market.history(), market.self());
  }
  trainer::TwoSlots slots(Shared& bytes) {
    return {bytes, trainer::sealing_key(market.self(), "souk/training-seal/v1\n" + to_hex(id)),
            to_hex(market.market()) + to_hex(id)};
  }

  ContractId id;
  Shared shared = Shared(400'000);
  std::vector<Shared> states;
  History at_start;
};

TEST_F(TakenUpFlow, WhoeverTakesItUpFromAnyStateEndsWithTheSameModel) {
  auto whole = undisturbed();
  ASSERT_EQ(states.size(), 21U);
  std::set<uint32_t> from;
  for (size_t i = 0; i < states.size(); i += 4) {
    SCOPED_TRACE("state " + std::to_string(i));
    Shared left = states[i];
    TrainerThread trainer(market.self(), left);
    auto resume = resume_of(trainer, at_start);
    ASSERT_TRUE(resume) << resume.error().expected();
    EXPECT_EQ(record_in(*resume).attempt, 1U);
    from.insert(record_in(*resume).steps);
    // A ledger of its own for each: on one only the first would go on.
    auto history = with(at_start, *resume);
    ASSERT_EQ(market.fold(history).contract(id)->resume, record_in(*resume));
    auto confirmed = market.show_more(trainer, history);
    ASSERT_TRUE(confirmed);
    ASSERT_EQ(confirmed->kind, Kind::kConfirmed) << kind_and_body(*confirmed);
    load(trainer);
    auto result = train(trainer, history);
    ASSERT_TRUE(result) << result.error().expected();
    EXPECT_EQ(result->model, whole.model);
    EXPECT_EQ(result->audit, whole.audit);
    EXPECT_EQ(result->steps, whole.steps);
    EXPECT_EQ(result->epsilon_micro, whole.epsilon_micro);
    EXPECT_NE(result->payload, whole.payload) << "encrypted anew";
  }
  EXPECT_EQ(*from.begin(), 0U);
  EXPECT_GE(*from.rbegin(), 20U);
  EXPECT_GE(from.size(), 3U) << "the states are hardly different: the test shows nothing";
}

TEST_F(TakenUpFlow, ARunThatLosesItsTrainerTwiceSettlesAndIsChargedOnce) {
  {
    auto trainer = begun();
    load(*trainer);
    EXPECT_FALSE(train(*trainer, at_start, [&](int report) {
      let_it_keep();
      return report < 5;
    }));
  }
  uint32_t steps = 0;
  for (uint32_t attempt : {1U, 2U, 3U}) {
    TrainerThread trainer(market.self(), shared);
    auto resume = resume_of(trainer, market.history());
    ASSERT_TRUE(resume) << resume.error().expected();
    EXPECT_EQ(record_in(*resume).attempt, attempt);
    EXPECT_GE(record_in(*resume).steps, steps);
    steps = record_in(*resume).steps;
    ASSERT_EQ(market.void_of(market.append(*resume)), "");
    auto confirmed = market.show_more(trainer, market.history());
    ASSERT_TRUE(confirmed);
    ASSERT_EQ(confirmed->kind, Kind::kConfirmed) << kind_and_body(*confirmed);
    load(trainer);
    if (attempt < 3) {
      EXPECT_FALSE(train(trainer, market.history(), [&](int report) {
        let_it_keep();
        return report < 5;
      }));
      continue;
    }
    auto delivery = market.train(trainer);
    ASSERT_TRUE(delivery) << delivery.error().expected();
    ASSERT_EQ(market.void_of(market.append(delivery->result)), "");
  }
  EXPECT_GE(steps, 4U);
  EXPECT_EQ(market.phase(id), Phase::kSettled);
  const auto& budget = market.state().dataset(north.id)->budget;
  EXPECT_EQ(budget.committed, market.state().contract(id)->decision->grants[0].charges);
  EXPECT_EQ(budget.reserved, contracts::Charges{});
}

TEST_F(TakenUpFlow, NobodyGoesOnFromBeforeWhereTheLedgerSaysAnotherWentOn) {
  auto whole = undisturbed();
  Shared newest = states.back(), middle = states[10];
  TrainerThread first(market.self(), newest);
  auto resume = resume_of(first, market.history());
  ASSERT_TRUE(resume);
  const Shared announced = newest;  // sealed as the next attempt's, not recorded yet
  ASSERT_EQ(market.void_of(market.append(*resume)), "");
  // The same state again, and older ones: their attempt is over.
  EXPECT_EQ(refusal(states.back()), Code::kConflict);
  EXPECT_EQ(refusal(middle), Code::kConflict);
  EXPECT_EQ(refusal(states.front()), Code::kConflict);
  // As the next attempt's, but from further back.
  {
    Shared bent = middle;
    auto slot = slots(bent);
    auto kept = must(trainer::kept_run_from(must(slot.read())));
    kept.attempt = 1;
    slot.write(trainer::to_bytes(kept, 0, SecretAccess{}));
    EXPECT_EQ(refusal(bent), Code::kConflict);
  }
  // Two copies of one state: the ledger takes one of them.
  Shared one = announced, two = announced;
  TrainerThread second(market.self(), one), third(market.self(), two);
  auto second_resume = resume_of(second, market.history());
  auto third_resume = resume_of(third, market.history());
  ASSERT_TRUE(second_resume && third_resume);
  EXPECT_EQ(market.void_of(market.append(*third_resume)), "");
  EXPECT_EQ(market.void_of(market.append(*second_resume)), "taken_up");
  for (TrainerThread* late : {&first, &second}) {
    auto answer = market.show_more(*late, market.history());
    ASSERT_TRUE(answer);
    EXPECT_EQ(refused(*answer), Code::kConflict) << kind_and_body(*answer);
  }
  auto confirmed = market.show_more(third, market.history());
  ASSERT_TRUE(confirmed);
  ASSERT_EQ(confirmed->kind, Kind::kConfirmed);
  load(third);
  auto result = train(third, market.history());
  ASSERT_TRUE(result) << result.error().expected();
  EXPECT_EQ(result->model, whole.model);
}

TEST_F(TakenUpFlow, TheFormerProcessEndsOnceItSeesThatAnotherGoesOn) {
  auto former = begun();
  load(*former);
  ASSERT_TRUE(former->send(trainer::frame(Kind::kTrain, Json::Object{})));
  auto report = former->receive();
  ASSERT_TRUE(report);
  ASSERT_EQ(report->kind, Kind::kProgress);
  Shared copy = shared;
  TrainerThread other(market.self(), copy);
  auto resume = resume_of(other, market.history());
  ASSERT_TRUE(resume);
  ASSERT_EQ(market.void_of(market.append(*resume)), "");
  auto answer = market.show_more(*former, market.history());
  ASSERT_TRUE(answer);
  EXPECT_EQ(refused(*answer), Code::kConflict) << kind_and_body(*answer);
  EXPECT_FALSE(former->finish());
}

TEST_F(TakenUpFlow, WhatIsNotThisRunsStateHereIsRefused) {
  undisturbed();
  const Shared left = states.back();
  // Another contract, another program, another platform, nothing, zeros.
  {
    Shared copy = left;
    TrainerThread trainer(market.self(), copy);
    auto answer = ask_to_take_up(trainer, market.escrowed({north.id}));
    ASSERT_TRUE(answer);
    EXPECT_EQ(refused(*answer), Code::kUnauthentic);
  }
  auto other = market.self().measurement;
  other[0] ^= 1;
  Shared copy = left;
  EXPECT_EQ(refusal(copy, market.history(), market.another_self(market.platform(), other)),
            Code::kUnauthentic);
  auto platform = ledger::SigningKey::generate();
  EXPECT_EQ(
      refusal(copy, market.history(), market.another_self(platform, market.self().measurement)),
      Code::kUnauthentic);
  EXPECT_EQ(refusal(Shared{}), Code::kNotFound);
  EXPECT_EQ(refusal(Shared(10)), Code::kUnauthentic);
  EXPECT_EQ(refusal(Shared(400'000)), Code::kUnauthentic);
  Shared all_ones(400'000, 0xff);
  EXPECT_EQ(refusal(all_ones), Code::kUnauthentic);
  // Another kind of machine, and another sandbox than the evidence says.
  auto bent = [&](const std::function<void(trainer::KeptRun&)>& bend) {
    Shared bytes = left;
    auto slot = slots(bytes);
    auto kept = must(trainer::kept_run_from(must(slot.read())));
    bend(kept);
    slot.write(trainer::to_bytes(kept, 0, SecretAccess{}));
    return refusal(bytes);
  };
  EXPECT_EQ(bent([](trainer::KeptRun& run) { run.machine += "'"; }), Code::kRefused);
  EXPECT_EQ(bent([&](trainer::KeptRun& run) {
              auto claims = must(trainer::claims_from_json(*parse_canonical(run.evidence.claims)));
              claims.sandbox += ",more";
              run.evidence = trainer::simulate_evidence(market.platform(), claims);
            }),
            Code::kRefused);
  EXPECT_EQ(bent([](trainer::KeptRun& run) { run.kem = ledger::KemKey::generate(); }),
            Code::kRefused);
  EXPECT_EQ(bent([](trainer::KeptRun&) {}), std::nullopt) << "the bending itself is harmless";
}

TEST_F(TakenUpFlow, AnOlderLedgerAndAnotherOneAreRefused) {
  undisturbed();
  Shared copy = states.back();
  EXPECT_EQ(refusal(copy, market.prefix(at_start.size() - 1), market.self()), Code::kUnauthentic);
  auto envelopes = market.envelopes();
  std::swap(envelopes[2], envelopes[3]);
  EXPECT_EQ(refusal(copy, market.rewrite(envelopes), market.self()), Code::kUnauthentic);
  EXPECT_EQ(refusal(copy, market.history(), market.self()), std::nullopt);
}

TEST_F(TakenUpFlow, ATornStateIsTheOneBeforeIt) {
  auto whole = undisturbed();
  Shared torn = states[12];
  const auto before = must(trainer::kept_run_from(must(slots(torn).read())));
  // The newer of the two, in whichever half it is.
  auto half_of = [&](size_t half) {
    return torn.begin() + static_cast<ptrdiff_t>(half * torn.size() / 2);
  };
  auto sequence = [&](size_t half) {
    uint64_t number = 0;
    for (int i = 7; i >= 0; --i) number = number << 8 | half_of(half)[i];
    return number;
  };
  const size_t newer = sequence(0) > sequence(1) ? 0 : 1;
  half_of(newer)[100] ^= 1;
  const auto kept = must(trainer::kept_run_from(must(slots(torn).read())));
  EXPECT_LT(kept.steps, before.steps);
  TrainerThread trainer(market.self(), torn);
  auto resume = resume_of(trainer, at_start);
  ASSERT_TRUE(resume) << resume.error().expected();
  EXPECT_EQ(record_in(*resume).steps, kept.steps - kept.steps % 2) << "of 40 in 20 reports";
  auto history = with(at_start, *resume);
  ASSERT_TRUE(market.show_more(trainer, history));
  load(trainer);
  auto result = train(trainer, history);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->model, whole.model);
  half_of(1 - newer)[100] ^= 1;
  half_of(newer)[200] ^= 1;
  EXPECT_EQ(refusal(torn), Code::kUnauthentic);
}

// What was begun before it nobody counted: it signs no job.stop, and the maximum is committed.
TEST_F(TakenUpFlow, OneThatTookItUpGivesNothingBack) {
  {
    auto trainer = begun();
    load(*trainer);
    EXPECT_FALSE(train(*trainer, at_start, [&](int report) { return report < 3; }));
  }
  auto reserved = market.state().dataset(north.id)->budget.reserved;
  TrainerThread trainer(market.self(), shared);
  auto resume = resume_of(trainer, market.history());
  ASSERT_TRUE(resume);
  ASSERT_EQ(market.void_of(market.append(*resume)), "");
  ASSERT_TRUE(market.show_more(trainer, market.history()));
  {
    // A dataset that is not brought.
    Shared copy = shared;
    TrainerThread another(market.self(), copy);
    auto again = resume_of(another, market.history());
    ASSERT_TRUE(again);
    auto history = with(market.history(), *again);
    ASSERT_TRUE(market.show_more(another, history));
    auto answer = another.ask(trainer::frame(Kind::kMissing, Json::Object{{"dataset", north.id}}));
    ASSERT_TRUE(answer);
    EXPECT_TRUE(refused(*answer)) << kind_and_body(*answer);
  }
  load(trainer);
  ASSERT_TRUE(trainer.send(trainer::frame(Kind::kTrain, Json::Object{})));
  auto report = trainer.receive();
  ASSERT_TRUE(report);
  ASSERT_EQ(report->kind, Kind::kProgress);
  market.append(contracts::sign_record(contracts::DatasetErase{north.id}, market.providers[0].key,
                                       market.market()));
  EXPECT_EQ(market.phase(id), Phase::kStopping);
  auto answer = market.show_more(trainer, market.history());
  ASSERT_TRUE(answer);
  EXPECT_TRUE(refused(*answer)) << kind_and_body(*answer);
  EXPECT_EQ(refusal(shared), Code::kRefused) << "nor is what is stopping taken up";
  Json dead = Json::Object{{"contract", id}, {"reason", "trainer_died"}};
  ASSERT_TRUE(market.record(Kind::kAbort, dead));
  EXPECT_EQ(market.phase(id), Phase::kRefunded);
  EXPECT_EQ(market.state().dataset(north.id)->budget.committed, reserved);
}

TEST_F(TakenUpFlow, AHostWithoutRoomForAStateHasARunAllTheSame) {
  shared = Shared(1500);
  auto whole = undisturbed();
  EXPECT_EQ(whole.steps, kSteps);
  EXPECT_EQ(refusal(states.back()), Code::kUnauthentic);
}

}  // namespace
}  // namespace souk::flows
