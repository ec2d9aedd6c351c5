// What a contract starts from: named, betrayed by the bytes, through generations.
#include "contracts/lifecycle/ancestry.h"

#include <gtest/gtest.h>

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
    auto found = ancestry_of(world.state(), submit).obstacle;
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
  EXPECT_TRUE(ancestry_of(world.state(), submit).jobs.empty());
  EXPECT_EQ(obstacle_of(submit), "");
  EXPECT_EQ(learned_from(world.state(), submit), std::set<DatasetId>{north});
}

TEST_F(AncestryTest, AModelOfTheMarketIsKnownByItsBytesWhateverIsDeclared) {
  auto first = done(world.submit({north}, 100), "first");
  auto silent = starting(south, "first");
  EXPECT_EQ(ancestry_of(world.state(), silent).jobs, std::set<ContractId>{first});
  EXPECT_EQ(learned_from(world.state(), silent), (std::set<DatasetId>{north, south}));
  auto honest = starting(south, "first", {first});
  EXPECT_EQ(ancestry_of(world.state(), honest).jobs, std::set<ContractId>{first});
  auto other = done(world.submit({south}, 100), "other");
  auto wrong = starting(south, "first", {other});  // names one job and brings another's
  EXPECT_EQ(ancestry_of(world.state(), wrong).jobs, (std::set<ContractId>{first, other}));
  EXPECT_TRUE(ancestry_of(world.state(), starting(south, "of a stranger")).jobs.empty());
}

TEST_F(AncestryTest, GenerationsAddUp) {
  auto first = done(world.submit({north}, 100), "first");
  auto second = done(starting(south, "first"), "second");
  // Trained on at home, so that nobody knows the bytes: it names the job it knows of.
  auto third = starting(south, "changed", {second});
  EXPECT_EQ(ancestry_of(world.state(), third).jobs, (std::set<ContractId>{first, second}));
  EXPECT_EQ(learned_from(world.state(), third), (std::set<DatasetId>{north, south}));
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
