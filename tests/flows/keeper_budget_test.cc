// What the keeper allows: what every budget can bear, and what judging a contract may cost.
#include <chrono>
#include <cstdlib>

#include "policy/privacy/accountant.h"
#include "policy/privacy/budget.h"
#include "tests/flows/keeper_flow.h"

namespace souk::flows {
namespace {

// ---- what a decision may cost ---------------------------------------------------------

// For persons of many rows under noise far below them each look at the loss is dear. Counted, not
// timed: refused at the same place on every machine, and long before the host gives a keeper up.
TEST_F(KeeperFlow, AContractThatIsTooCostlyToJudgeIsDeniedByItsCode) {
  auto persons = market.publish(market.providers[0], {.user_cap = 128});
  // A pool, of which each part is judged for itself.
  std::vector<DatasetId> ten;
  for (int64_t cap = 7; cap <= 16; ++cap)
    ten.push_back(market.publish(market.providers[cap % 2 == 0 ? 0 : 1], {.user_cap = cap}).id);
  market.deposit(market.lab.account(), 1000);
  constexpr int64_t kMostClaimed = 1'000'000'000'000;
  struct Costly {
    double noise;
    uint64_t rate;
    uint32_t steps;
    int64_t delta_pico;
    uint32_t user_cap;
    const char* code;
  };
  // One step that has a bound without a grid; many; and, of a pool of ten, one that takes long.
  const Costly one_step{0.001, uint64_t{1} << 63, 1, 1, 128, "epsilon_understated"},
      steps{0.0865, uint64_t{1} << 51, 400'000, 100'000, 128, "epsilon_understated"},
      part{0.05, uint64_t{1} << 51, 1, 100'000, 16, "too_costly"};
  for (const auto& [run, datasets] : {std::pair{one_step, std::vector{persons.id}},
                                      {steps, std::vector{persons.id}},
                                      {part, ten}}) {
    auto submit = market.contract(datasets);
    auto& spec = submit.spec;
    spec.steps = run.steps;
    spec.learning_rate = {{run.steps, 0.5}};
    spec.sampling_threshold = run.rate;
    spec.privacy->noise_multiplier = run.noise;
    spec.privacy->delta_pico = run.delta_pico;
    spec.privacy->epsilon_micro = kMostClaimed;
    spec.privacy->user_cap = run.user_cap;
    for (size_t i = 0; datasets.size() > 1 && i < datasets.size(); ++i)
      spec.privacy->pool.push_back({1 - 0.05 * static_cast<double>(i), kMostClaimed, run.rate});
    ASSERT_TRUE(contracts::check_spec(spec)) << contracts::check_spec(spec).error().expected();
    market.follow();
    auto began = std::chrono::steady_clock::now();
    auto quoted = market.keeper().ask(Kind::kQuote,
                                      Json::Object{{"consumer", market.lab.account()},
                                                   {"submit", contracts::members_json(submit)}});
    std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    auto body = trainer::expect(quoted, Kind::kDecision);
    ASSERT_TRUE(body) << kind_and_body(quoted);
    const auto& reasons = *body->find("decision")->find("reasons")->array();
    ASSERT_FALSE(reasons.empty());
    EXPECT_EQ(*reasons[0].find("code")->string(), run.code) << canonical(Json(reasons));
    EXPECT_LT(took.count(), 30) << "under any load; without a bound, minutes";
  }
  // What promises something is judged.
  auto submit = market.contract({persons.id});
  submit.spec.privacy->user_cap = 128;
  submit.spec.privacy->epsilon_micro = kMostClaimed;
  ContractId id = market.submit(submit);
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_NE(*market.state().contract(id)->decision->reasons.array()->front().find("code")->string(),
            "too_costly");
}

TEST_F(KeeperFlow, AnUnderstatedEpsilonIsDenied) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 1000);
  auto submit = market.contract({dataset.id});
  submit.spec.privacy->epsilon_micro -= 1001;  // one millionth below what the accountant finds
  ContractId id = market.submit(submit);
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.phase(id), Phase::kRefused);
  expect_no_key(id);
}

TEST_F(KeeperFlow, ADeltaAboveTheBudgetsIsDenied) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 1000);
  auto submit = market.contract({dataset.id});
  submit.spec.privacy->delta_pico =
      market.state().dataset(dataset.id)->manifest.budget_delta_pico + 1;
  ContractId id = market.submit(submit);
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.state().contract(id)->decision->status, "denied");
}

TEST_F(KeeperFlow, ABudgetIsSpentByReservationsAlready) {
  // Room for one run, not for two at once.
  auto submit = market.contract({});
  int64_t one_run = submit.spec.privacy->epsilon_micro;
  auto dataset = market.publish(market.providers[0], {.budget_epsilon_micro = one_run * 3 / 2});
  market.deposit(market.lab.account(), 100'000);
  submit.datasets = {dataset.id};
  // All stay escrowed: nothing has run when the budget is gone.
  size_t allowed = 0;
  ContractId last;
  while (true) {
    last = market.submit(submit);
    ASSERT_TRUE(market.record(Kind::kDecide, last));
    if (market.phase(last) != Phase::kEscrowed) break;
    ++allowed;
    ASSERT_LT(allowed, 100U);
  }
  EXPECT_GE(allowed, 1U);
  EXPECT_EQ(market.state().contract(last)->ended_because, "budget_exhausted");
  expect_no_key(last);

  // The refusal says whose budget, in one measure: what is asked for is more than is left of it.
  const auto& reasons = *market.state().contract(last)->decision->reasons.array();
  ASSERT_EQ(reasons.size(), 2U);
  const Json& reason = reasons.front();
  EXPECT_EQ(*reason.find("code")->string(), "budget_exhausted");
  EXPECT_EQ(*reason.find("provider")->string(), market.providers[0].name);
  EXPECT_EQ(*reason.find("dataset")->string(), dataset.offer.manifest.name);
  const std::string at_most = "at most ";
  const std::string asked = *reason.find("got")->string(), left = *reason.find("need")->string();
  ASSERT_EQ(left.rfind(at_most, 0), 0U) << left;
  EXPECT_GT(std::stoll(asked), std::stoll(left.substr(at_most.size())));
  const std::string said = *reason.find("message")->string();
  EXPECT_NE(said.find(asked + " millionths of certified epsilon"), std::string::npos) << said;
  EXPECT_NE(said.find(left.substr(at_most.size()) + " of " +
                      std::to_string(dataset.offer.manifest.budget_epsilon_micro) + " are left"),
            std::string::npos)
      << said;
  EXPECT_NE(said.find("(composed exactly, the dataset's runs so far cost "), std::string::npos)
      << said;
  // And how much noise would still be let in.
  EXPECT_EQ(*reasons[1].find("code")->string(), "more_noise");
  const std::string need = *reasons[1].find("need")->string();
  ASSERT_EQ(need.rfind(at_most, 0), 0U) << need;
  int64_t room = std::stoll(need.substr(at_most.size()));
  EXPECT_GT(room, 0);
  EXPECT_LT(room, one_run);
  auto quieter = submit;
  policy::Event event{policy::rate_from_threshold(quieter.spec.sampling_threshold), 0,
                      quieter.spec.steps};
  for (bool fits : {true, false}) {
    double epsilon = static_cast<double>(room) * (fits ? 0.99 : 1.01) * 1e-6;
    auto noise = policy::calibrate_noise(epsilon, 1e-5, event.q, event.steps);
    ASSERT_TRUE(noise);
    quieter.spec.privacy->noise_multiplier = *noise;
    quieter.spec.privacy->epsilon_micro = policy::epsilon_micro_up(epsilon);
    market.follow();
    auto quote = market.keeper().ask(Kind::kQuote,
                                     Json::Object{{"consumer", market.lab.account()},
                                                  {"submit", contracts::members_json(quieter)}});
    ASSERT_EQ(quote.kind, Kind::kDecision) << kind_and_body(quote);
    auto body = trainer::expect(quote, Kind::kDecision);
    ASSERT_TRUE(body);
    EXPECT_EQ(*body->find("decision")->find("allow")->boolean(), fits) << canonical(*body);
  }
}

// ---- a pool ---------------------------------------------------------------------------

TEST_F(KeeperFlow, ARefusalTellsOfTheRunsThatCountAgainstTheBudgetItNames) {
  const int64_t one_run = market.contract({}).spec.privacy->epsilon_micro;
  const std::string own = std::to_string(one_run * 3 / 2);
  Party rival{"rival"};
  // Of so many equal runs, composed exactly, in millionths.
  auto cost = [&](uint64_t runs) {
    const auto spec = market.contract({}).spec;
    policy::Event event{policy::rate_from_threshold(spec.sampling_threshold),
                        spec.privacy->noise_multiplier, spec.steps * runs};
    return policy::epsilon_upper(event, 1e-5).take() * 1e6;
  };
  // Runs until one is refused, whose refusal names `code` and, after `words`, what they cost.
  auto expect_told = [&](const DatasetId& dataset, const std::string& purpose,
                         const std::string& code, const std::string& words) {
    uint64_t runs = 0;
    auto submit = market.contract({dataset});
    submit.purpose = purpose;
    ContractId last = market.submit(submit);
    ASSERT_TRUE(market.record(Kind::kDecide, last));
    while (market.phase(last) == Phase::kEscrowed) {
      ASSERT_LT(++runs, 20U);
      last = market.submit(submit);
      ASSERT_TRUE(market.record(Kind::kDecide, last));
    }
    ASSERT_GT(runs, 0U);
    const Json reason = market.state().contract(last)->decision->reasons.array()->front();
    EXPECT_EQ(*reason.find("code")->string(), code);
    const std::string said = *reason.find("message")->string();
    const size_t at = said.find(words);
    ASSERT_NE(at, std::string::npos) << said;
    const double told = std::strtod(said.c_str() + at + words.size(), nullptr);
    EXPECT_NEAR(told, cost(runs), 0.01 * cost(runs)) << runs << " runs: " << said;
  };
  auto publish = [&](const std::string& obligation) {
    return market
        .publish(market.providers[0], {.policy = "return {allow = true, obligations = {" +
                                                 obligation + " = " + own + "}}"})
        .id;
  };
  for (const auto* party : {&market.lab, &rival}) market.deposit(party->account(), 100'000);
  // Others, whose runs are none of the second's, spend first.
  const DatasetId by_consumer = publish("consumer_epsilon_micro");
  for (int i = 0; i < 2; ++i) {
    expect_told(by_consumer, "research", "consumer_budget_exhausted",
                "(composed exactly, this consumer's runs so far cost ");
    std::swap(market.lab, rival);
  }
  const DatasetId by_purpose = publish("purpose_epsilon_micro");
  for (const char* purpose : {"triage", "research"}) {
    expect_told(by_purpose, purpose, "purpose_budget_exhausted",
                "(composed exactly, this purpose's runs so far cost ");
  }
}

TEST_F(KeeperFlow, APoolChargesEachProviderItsOwnRateAndNoise) {
  auto north = market.publish(market.providers[0]), east = market.publish(market.providers[1]);
  market.deposit(market.lab.account(), 1000);
  auto submit = market.contract({north.id, east.id});
  submit.spec = pooled_spec();
  ContractId id = market.submit(submit);
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  const auto& decision = *market.state().contract(id)->decision;
  ASSERT_TRUE(decision.allow) << canonical(contracts::members_json(decision));
  const auto& spec = submit.spec;
  // (q_i, sigma C / C_i, T), as anybody can compute it from the contract alone.
  const policy::Event own[] = {
      {policy::rate_from_threshold(spec.sampling_threshold), 2, spec.steps},
      {policy::rate_from_threshold(uint64_t{1} << 58), 2 / 0.25, spec.steps}};
  for (size_t i = 0; i < 2; ++i) {
    auto charges = policy::charges_for(own[i]);
    for (size_t order = 0; order < charges.size(); ++order)
      EXPECT_NEAR(static_cast<double>(decision.grants[i].charges[order]),
                  static_cast<double>(charges[order]), 2)
          << i;
    EXPECT_NEAR(static_cast<double>(decision.grants[i].epsilon_micro),
                1e6 * *policy::epsilon_upper(own[i], 1e-5), 2);
  }
  EXPECT_LT(decision.grants[1].charges[0], decision.grants[0].charges[0] / 100);
  EXPECT_EQ(market.state().dataset(north.id)->budget.reserved, decision.grants[0].charges);
  EXPECT_EQ(market.state().dataset(east.id)->budget.reserved, decision.grants[1].charges);
}

TEST_F(KeeperFlow, APolicyIsAskedAndKeptAboutItsOwnPartOfThePool) {
  // The first is content with the contract's noise; the second wants four times that, and less
  // epsilon, and has both: of its own rows.
  auto spec = pooled_spec();
  const std::string half = std::to_string(spec.privacy->epsilon_micro / 2);
  auto north = market.publish(market.providers[0]);
  auto strict = [&](const std::string& noise, const std::string& epsilon) {
    return market.publish(
        market.providers[1],
        {.policy = "return {allow = request.dp.clip_micro == 250000, obligations = {"
                   "min_noise_micro = " +
                   noise + ", max_epsilon_micro = " + epsilon + "}}"});
  };
  const DatasetId kept = strict("7999999", half).id, louder = strict("8000001", half).id,
                  tighter = strict("1", std::to_string(spec.privacy->epsilon_micro / 2 - 1)).id;
  for (const auto& east : {kept, louder, tighter}) {
    const bool allowed = east == kept;
    market.deposit(market.lab.account(), 1000);
    auto submit = market.contract({north.id, east});
    submit.spec = spec;
    ContractId id = market.submit(submit);
    ASSERT_TRUE(market.record(Kind::kDecide, id));
    const auto& decision = *market.state().contract(id)->decision;
    EXPECT_EQ(decision.allow, allowed) << canonical(contracts::members_json(decision));
    if (!allowed) {
      EXPECT_EQ(market.state().dataset(east)->budget.reserved, contracts::Charges{});
      continue;
    }
    ASSERT_TRUE(decision.grants[0].obligations && decision.grants[1].obligations);
    EXPECT_EQ(*decision.grants[1].obligations->find("min_noise_micro")->integer(), 7999999);
    EXPECT_EQ(*decision.grants[0].obligations->find("min_noise_micro")->integer(), 1000000);
    EXPECT_EQ(decision.obligations.find("min_noise_micro"), nullptr);
    EXPECT_EQ(*decision.obligations.find("max_steps")->integer(), 100);
  }
}

TEST_F(KeeperFlow, APoolWhoseSecondBudgetHasNoRoomTouchesNoBudget) {
  auto north = market.publish(market.providers[0]);
  auto poor = market.publish(market.providers[1], {.budget_epsilon_micro = 1'500'000});
  market.deposit(market.lab.account(), 10'000);
  auto submit = market.contract({north.id, poor.id});
  // As loud as the first, it is too dear for the second's budget; as quiet as it was, it is not.
  for (bool loud : {true, false}) {
    submit.spec = pooled_spec();
    auto& pool = submit.spec.privacy->pool;
    if (loud) pool[1] = {0.9, pool[0].epsilon_micro, pool[0].sampling_threshold};
    ContractId id = market.submit(submit);
    ASSERT_TRUE(market.record(Kind::kDecide, id));
    const auto& decision = *market.state().contract(id)->decision;
    EXPECT_EQ(decision.status, loud ? "budget_exhausted" : "allowed")
        << canonical(contracts::members_json(decision));
    EXPECT_EQ(market.state().dataset(north.id)->budget.reserved == contracts::Charges{}, loud);
    EXPECT_EQ(market.state().dataset(poor.id)->budget.reserved == contracts::Charges{}, loud);
  }
}

TEST_F(KeeperFlow, APoolForAnotherNumberOfDatasetsOrWithAnUnderstatedPartIsRefused) {
  auto north = market.publish(market.providers[0]), east = market.publish(market.providers[1]);
  market.deposit(market.lab.account(), 1000);
  market.follow();
  auto ask = [&](const contracts::ContractSubmit& submit) {
    return market.keeper().ask(Kind::kQuote,
                               Json::Object{{"consumer", market.lab.account()},
                                            {"submit", contracts::members_json(submit)}});
  };
  auto one = market.contract({north.id});
  one.spec = pooled_spec();
  EXPECT_EQ(refused(ask(one)), Code::kMalformed);
  auto understated = market.contract({north.id, east.id});
  understated.spec = pooled_spec();
  understated.spec.privacy->pool[1].epsilon_micro = 1000;
  auto answer = ask(understated);
  auto body = trainer::expect(answer, Kind::kDecision);
  ASSERT_TRUE(body) << kind_and_body(answer);
  const Json& reason = body->find("decision")->find("reasons")->array()->front();
  EXPECT_EQ(*reason.find("code")->string(), "epsilon_understated");
  EXPECT_EQ(*reason.find("dataset")->string(), east.offer.manifest.name);
}

}  // namespace
}  // namespace souk::flows
