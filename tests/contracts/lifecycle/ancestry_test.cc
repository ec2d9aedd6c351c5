// What a contract starts from: named, betrayed by the bytes, through generations.
#include "contracts/lifecycle/ancestry.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/contracts/market_world.h"

namespace souk::contracts {
namespace {

class AncestryTest : public ::testing::Test {
 protected:
  AncestryTest() {
    world.fund("lab", 5000);
    north = world.publish("hospital", "north", 40);
    south = world.publish("clinic", "south", 40);
  }

  ContractSubmit starting(const DatasetId& dataset, const std::string& weights,
                          std::vector<ContractId> jobs = {}) const {
    auto submit = world.submit({dataset}, 100);
    submit.spec.initial = digest_named(weights);
    submit.initial_jobs = std::move(jobs);
    return submit;
  }
  ContractId order(const ContractSubmit& submit) {
    auto envelope = sign_record(submit, key_named("lab"), world.market());
    EXPECT_EQ(world.record(envelope), "");
    return contract_id(envelope.payload);
  }
  // Trained to its end, with this model.
  ContractId done(const ContractSubmit& submit, const std::string& model) {
    ContractId id = order(submit);
    EXPECT_EQ(world.record(world.allow(id), "keeper"), "");
    EXPECT_EQ(world.record(world.start(id), "keeper"), "");
    auto result = world.result(id);
    result.model = digest_named(model);
    EXPECT_EQ(world.record(result, "trainer"), "");
    return id;
  }
  std::string obstacle_of(const ContractSubmit& submit) const {
    auto found = ancestry_of(world.state(), submit, kNotRecorded).obstacle;
    return found ? found->code : "";
  }
  std::string change(const ContractId& job, PolicyChange::Move move) {
    return world.record(
        PolicyChange{world.contract(job).submit.datasets[0], world.contract(job).policies[0], move},
        "hospital");
  }

  World world;
  DatasetId north, south;
};

TEST_F(AncestryTest, ARunFromTheSeedHasNoAncestors) {
  auto submit = world.submit({north}, 100);
  submit.initial_jobs = {ContractId(digest_named("nobody"))};  // without weights it says nothing
  EXPECT_TRUE(ancestry_of(world.state(), submit, kNotRecorded).jobs.empty());
  EXPECT_EQ(obstacle_of(submit), "");
  EXPECT_EQ(learned_from(world.state(), submit, kNotRecorded), std::set<DatasetId>{north});
}

TEST_F(AncestryTest, AModelOfTheMarketIsKnownByItsBytesWhateverIsDeclared) {
  auto first = done(world.submit({north}, 100), "first");
  auto silent = starting(south, "first");
  EXPECT_EQ(ancestry_of(world.state(), silent, kNotRecorded).jobs, std::set<ContractId>{first});
  EXPECT_EQ(learned_from(world.state(), silent, kNotRecorded), (std::set<DatasetId>{north, south}));
  auto honest = starting(south, "first", {first});
  EXPECT_EQ(ancestry_of(world.state(), honest, kNotRecorded).jobs, std::set<ContractId>{first});
  auto other = done(world.submit({south}, 100), "other");
  auto wrong = starting(south, "first", {other});  // names one job and brings another's
  EXPECT_EQ(ancestry_of(world.state(), wrong, kNotRecorded).jobs,
            (std::set<ContractId>{first, other}));
  EXPECT_TRUE(
      ancestry_of(world.state(), starting(south, "of a stranger"), kNotRecorded).jobs.empty());
}

// Or a stranger whose own run ends in somebody's weights could destroy what others made of them.
TEST_F(AncestryTest, BytesThatALaterJobArrivesAtMakeItNobodysParent) {
  auto before = done(starting(south, "public"), "mine");
  auto waiting = order(starting(south, "public"));
  auto late = done(world.submit({north}, 100), "public");
  EXPECT_TRUE(descendants_of(world.state(), {late}).empty());
  for (const auto& id : {before, waiting}) {
    const auto& contract = world.contract(id);
    EXPECT_TRUE(ancestry_of(world.state(), contract.submit, contract.submit_seq).jobs.empty());
  }
  ASSERT_EQ(change(late, PolicyChange::Move::kRevokeDestroy), "");
  EXPECT_FALSE(world.contract(before).destroyed);
  // Who asks now is told.
  EXPECT_EQ(ancestry_of(world.state(), starting(south, "public"), kNotRecorded).jobs,
            std::set<ContractId>{late});
}

TEST_F(AncestryTest, GenerationsAddUp) {
  auto first = done(world.submit({north}, 100), "first");
  auto second = done(starting(south, "first"), "second");
  // Trained on at home, so that nobody knows the bytes: it names the job it knows of.
  auto third = starting(south, "changed", {second});
  EXPECT_EQ(ancestry_of(world.state(), third, kNotRecorded).jobs,
            (std::set<ContractId>{first, second}));
  EXPECT_EQ(learned_from(world.state(), third, kNotRecorded), (std::set<DatasetId>{north, south}));
  EXPECT_EQ(world.replay(3), world.state());
}

TEST_F(AncestryTest, NothingStartsFromWhatIsUnknownUnfinishedOrDestroyed) {
  EXPECT_EQ(obstacle_of(starting(south, "x", {ContractId(digest_named("x"))})), "unknown_parent");
  auto waiting = order(world.submit({north}, 100));
  EXPECT_EQ(obstacle_of(starting(south, "x", {waiting})), "parent_not_settled");
  auto first = done(world.submit({north}, 100), "first");
  auto second = done(starting(south, "first"), "second");
  EXPECT_EQ(obstacle_of(starting(south, "second")), "");
  ASSERT_EQ(change(first, PolicyChange::Move::kRevokeDestroy), "");
  EXPECT_EQ(obstacle_of(starting(south, "first")), "parent_destroyed");
  EXPECT_EQ(obstacle_of(starting(south, "second")), "parent_destroyed");
  EXPECT_EQ(obstacle_of(starting(south, "second", {second})), "parent_destroyed");
}

TEST_F(AncestryTest, ADecisionMadeBeforeAnAncestorsPolicyMovedIsStale) {
  auto first = done(world.submit({north}, 100), "first");
  auto child = order(starting(south, "first"));
  auto decision = world.allow(child);
  ASSERT_EQ(change(first, PolicyChange::Move::kDeprecate), "");
  EXPECT_EQ(world.record(decision, "keeper"), "stale");
  EXPECT_EQ(world.record(world.allow(child), "keeper"), "");
}

// As for a job that names the dataset: policy_versions_test.cc.
TEST_F(AncestryTest, ARevokedPolicyReachesEveryRunThatStartsFromWhatWasLearnedUnderIt) {
  using Move = PolicyChange::Move;
  for (Move move : {Move::kRevokeNoNew, Move::kRevokeStop, Move::kRevokeDestroy}) {
    const std::string tag = move_name(move);
    north = world.publish("hospital", "north of " + tag, 40);
    south = world.publish("clinic", "south of " + tag, 40);
    auto first = done(world.submit({north}, 100), "first " + tag);
    auto second = done(starting(south, "first " + tag), "second " + tag);
    // Allowed by its bytes and by name, one and two generations on; and one of no such parent.
    auto waiting = order(starting(south, "first " + tag));
    auto running = order(starting(south, "second " + tag));
    auto named = order(starting(south, "changed " + tag, {second}));
    auto asked = order(starting(south, "second " + tag));
    auto apart = order(starting(south, "of a stranger"));
    for (const auto& id : {waiting, running, named, apart}) {
      ASSERT_EQ(world.record(world.allow(id), "keeper"), "");
    }
    for (const auto& id : {running, named, apart}) {
      ASSERT_EQ(world.record(world.start(id), "keeper"), "");
    }
    const Minor paid = world.balance("lab");
    const auto holders = world.state().dataset(south)->budget.holders.size();
    const auto others = world.state().dataset(south)->budget.committed;
    const auto mine = world.contract(running).decision->grants[0].charges;
    ASSERT_EQ(change(first, move), "");

    EXPECT_EQ(world.contract(waiting).phase, Phase::kRefunded);
    EXPECT_EQ(world.contract(waiting).ended_because, "policy_revoked");
    EXPECT_EQ(world.contract(asked).phase, Phase::kSubmitted);
    EXPECT_EQ(world.contract(apart).phase, Phase::kRunning);
    const bool stops = move != Move::kRevokeNoNew;
    EXPECT_EQ(world.balance("lab"), paid + (stops ? 120 : 40));
    EXPECT_EQ(world.state().dataset(south)->budget.holders.size(), holders - 1);
    for (const auto& id : {running, named}) {
      EXPECT_EQ(world.contract(id).phase, stops ? Phase::kStopping : Phase::kRunning);
      EXPECT_EQ(world.contract(id).ended_because, stops ? "policy_revoked" : "");
    }
    // What was done is taken back by destruction alone, and what is nobody's child by nothing.
    const bool destroys = move == Move::kRevokeDestroy;
    for (const auto& id : {first, second, running, named, waiting}) {
      EXPECT_EQ(world.contract(id).destroyed, destroys) << tag;
    }
    for (const auto& id : {asked, apart}) EXPECT_FALSE(world.contract(id).destroyed);
    EXPECT_EQ(world.contract(second).phase, Phase::kSettled);

    if (!stops) {
      EXPECT_EQ(world.record(world.result(running), "trainer"), "");
      continue;
    }
    // Too late for a result; the steps that were not begun are free again.
    EXPECT_EQ(world.record(world.result(running), "trainer"), "not_running");
    ASSERT_EQ(world.record(world.stop(running, 4), "trainer"), "");
    EXPECT_EQ(world.contract(running).phase, Phase::kRefunded);
    const auto& budget = world.state().dataset(south)->budget;
    EXPECT_EQ(budget.committed[7], others[7] + mine[7] * 4 / 10);
    EXPECT_EQ(world.state().dataset(north)->budget.holders.size(), 0U);
  }
  EXPECT_EQ(world.replay(3), world.state());
}

TEST_F(AncestryTest, AStrongerRevocationFindsWhatAWeakerOneLetEnd) {
  auto first = done(world.submit({north}, 100), "first");
  auto child = order(starting(south, "first"));
  ASSERT_EQ(world.record(world.allow(child), "keeper"), "");
  ASSERT_EQ(world.record(world.start(child), "keeper"), "");
  ASSERT_EQ(change(first, PolicyChange::Move::kRevokeNoNew), "");
  EXPECT_EQ(world.contract(child).phase, Phase::kRunning);
  ASSERT_EQ(change(first, PolicyChange::Move::kRevokeStop), "");
  EXPECT_EQ(world.contract(child).phase, Phase::kStopping);
  ASSERT_EQ(world.record(world.stop(child, 0), "trainer"), "");
  ASSERT_EQ(change(first, PolicyChange::Move::kRevokeDestroy), "");
  EXPECT_TRUE(world.contract(child).destroyed);
  EXPECT_EQ(world.contract(child).phase, Phase::kRefunded);
}

TEST_F(AncestryTest, NobodyOwesAJobThatGaveBackTheWeightsItStartedFrom) {
  auto first = done(world.submit({north}, 100), "first");
  auto idle = done(starting(north, "first"), "first");  // at a learning rate of nothing
  auto child = order(starting(south, "first"));
  EXPECT_EQ(ancestry_of(world.state(), starting(south, "first"), kNotRecorded).jobs,
            std::set<ContractId>{first});
  EXPECT_EQ(descendants_of(world.state(), {idle}), std::set<ContractId>{});
  EXPECT_EQ(descendants_of(world.state(), {first}), (std::set<ContractId>{idle, child}));
  auto named = starting(south, "first", {idle});  // who says so does
  EXPECT_EQ(ancestry_of(world.state(), named, kNotRecorded).jobs,
            (std::set<ContractId>{first, idle}));
}

TEST_F(AncestryTest, DescendantsAreTheAncestorsSeenFromTheOtherEnd) {
  std::mt19937_64 random(5);
  std::vector<ContractId> jobs;
  std::vector<std::string> models{"of a stranger"};
  for (int i = 0; i < 40; ++i) {
    south = world.publish("clinic", "south " + std::to_string(i), 40);
    auto submit = world.submit({south}, 0);
    if (random() % 4 != 0) {
      std::set<ContractId> named;
      while (!jobs.empty() && random() % 3 == 0) named.insert(jobs[random() % jobs.size()]);
      submit = starting(south, models[random() % models.size()], {named.begin(), named.end()});
    }
    submit.offered = 100;
    if (random() % 5 == 0) {
      order(submit);  // never trained: no model of it
      continue;
    }
    models.push_back("model " + std::to_string(random() % 30));  // some come out twice
    world.fund("lab", 40);
    jobs.push_back(done(submit, models.back()));
  }
  size_t found = 0;
  for (const auto& root : jobs) {
    auto below = descendants_of(world.state(), {root});
    found += below.size();
    for (const auto& [id, contract] : world.state().contracts()) {
      EXPECT_EQ(below.count(id),
                ancestry_of(world.state(), contract.submit, contract.submit_seq).jobs.count(root));
    }
  }
  EXPECT_GT(found, 40U);
}

TEST_F(AncestryTest, TheRecordSaysWhereWeightsComeFromAndNothingElseDoes) {
  auto job = ContractId(digest_named("job"));
  for (const auto& jobs : {std::vector<ContractId>{}, std::vector<ContractId>{job}}) {
    auto submit = starting(south, "weights", jobs);
    auto read = members_from_json(ContractSubmit::kType, members_json(submit));
    ASSERT_TRUE(read) << read.error().expected();
    EXPECT_EQ(std::get<ContractSubmit>(*read), submit);
  }
  auto refused = [&](const ContractSubmit& submit, auto change) {
    Json json = members_json(submit);
    change(*json.object());
    return !members_from_json(ContractSubmit::kType, json);
  };
  auto weights = starting(south, "weights", {job});
  EXPECT_TRUE(refused(weights, [](Json::Object& all) { all.erase("initial_jobs"); }));
  EXPECT_TRUE(refused(weights, [&](Json::Object& all) {
    all["initial_jobs"] = Json::Array{job, job};
  }));
  EXPECT_TRUE(refused(weights, [](Json::Object& all) { all["initial_jobs"] = "none"; }));
  EXPECT_TRUE(refused(weights, [](Json::Object& all) {
    all["initial_jobs"] = Json::Array(17, Json(std::string(64, 'a')));
  }));
  EXPECT_TRUE(refused(world.submit({south}, 1),
                      [](Json::Object& all) { all["initial_jobs"] = Json::Array{}; }));
}

}  // namespace
}  // namespace souk::contracts
