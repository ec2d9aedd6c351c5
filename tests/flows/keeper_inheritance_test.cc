// What a model owes, every model owes that starts from it. policy/SPEC.md, Derived models.
#include "ledger/crypto/hash.h"
#include "tests/flows/keeper_flow.h"

namespace souk::flows {
namespace {

using contracts::ContractDecision;
using contracts::ContractSubmit;

class Inheritance : public KeeperFlow {
 protected:
  Inheritance() { market.deposit(market.lab.account(), 100'000); }

  ContractSubmit starting(const std::vector<DatasetId>& datasets, const std::string& weights,
                          std::vector<ContractId> jobs = {}) const {
    auto submit = market.contract(datasets);
    submit.spec.initial = ledger::sha256(as_bytes(weights));
    submit.initial_jobs = std::move(jobs);
    return submit;
  }
  ContractId decided(const ContractSubmit& submit) {
    ContractId id = market.submit(submit);
    EXPECT_TRUE(market.record(Kind::kDecide, id));
    return id;
  }
  // Trained to its end; its model is these bytes.
  ContractId settled(const ContractSubmit& submit, const std::string& model) {
    ContractId id = decided(submit);
    CHECK(market.phase(id) == Phase::kEscrowed);
    StandIn trainer = market.started(id);
    market.append(contracts::sign_record(
        market.result_of(id, to_bytes("header of " + model), to_bytes(model)), trainer.signing,
        market.market()));
    CHECK(market.phase(id) == Phase::kSettled);
    return id;
  }
  const ContractDecision& decision(const ContractId& id) {
    return *market.state().contract(id)->decision;
  }
  std::string code(const ContractId& id) {
    const auto& reasons = *decision(id).reasons.array();
    return reasons.empty() ? "" : *reasons.front().find("code")->string();
  }
  std::string obligations(const ContractId& id) { return canonical(decision(id).obligations); }
  const Json::Array& inherited(const ContractId& id, const std::string& what) {
    return *decision(id).inputs.find("inherited")->find(what)->array();
  }
  std::string move(const Offered& offered, contracts::PolicyChange::Move move) {
    const auto& versions = market.state().dataset(offered.id)->policies;
    return market.void_of(market.append(
        contracts::sign_record(contracts::PolicyChange{offered.id, versions.begin()->first, move},
                               market.providers[0].key, market.market())));
  }
};

TEST_F(Inheritance, ObligationsHoldForTheChildWhateverItDeclares) {
  auto parent = market.publish(
      market.providers[0],
      {.policy = "return {allow = true, obligations = {max_steps = 4, attribution = {'North'}, "
                 "max_retention_days = 30}}"});
  auto own = market.publish(market.providers[1]);
  ContractId job = settled(market.contract({parent.id}), "model");
  for (const auto& jobs : {std::vector<ContractId>{}, std::vector<ContractId>{job}}) {
    ContractId child = decided(starting({own.id}, "model", jobs));
    ASSERT_EQ(market.phase(child), Phase::kEscrowed) << code(child);
    EXPECT_EQ(
        obligations(child),
        R"({"attribution":["North"],"max_retention_days":30,"max_steps":4,"min_noise_micro":1000000})");
    ASSERT_EQ(inherited(child, "jobs").size(), 1u);
    EXPECT_EQ(inherited(child, "jobs")[0], Json(job));
    EXPECT_EQ(decision(child).price, 100);  // nobody is paid for rows that are not read
    EXPECT_EQ(decision(child).grants.size(), 1u);
    // The trainer is told, and refuses a run that is weaker.
    market.started(child);
    EXPECT_EQ(canonical(market.state().contract(child)->start->obligations), obligations(child));

    auto longer = starting({own.id}, "model", jobs);
    longer.spec = private_spec(2, 5, 2);
    longer.spec.initial = ledger::sha256(as_bytes("model"));
    ContractId refused = decided(longer);
    EXPECT_EQ(market.phase(refused), Phase::kRefused);
    EXPECT_EQ(code(refused), "obligation_not_met");
    expect_no_key(refused);
  }
  // Its grandchildren too, through a model that obliged to nothing itself.
  ContractId child = settled(starting({own.id}, "model"), "second");
  ContractId grandchild = decided(starting({own.id}, "second"));
  EXPECT_EQ(inherited(grandchild, "jobs").size(), 2u);
  EXPECT_EQ(obligations(grandchild), obligations(child));
}

TEST_F(Inheritance, AModelOfOtherColumnsIsNoneToStartFrom) {
  auto columns = [&](size_t provider, const std::vector<std::string>& names) {
    return market.publish(market.providers[provider], {.feature_names = names}).id;
  };
  DatasetId parent = columns(0, {"marker", "weight"}), alike = columns(1, {"marker", "weight"}),
            turned = columns(2, {"weight", "marker"}), silent = columns(2, {});
  settled(market.contract({parent}), "model");
  ContractId refused = decided(starting({turned}, "model"));
  EXPECT_EQ(market.phase(refused), Phase::kRefused);
  EXPECT_EQ(code(refused), "different_features");
  const Json& why = decision(refused).reasons.array()->front();
  const auto& manifest = market.state().dataset(turned)->manifest;
  EXPECT_EQ(*why.find("provider")->string(), manifest.provider_name);
  EXPECT_EQ(*why.find("dataset")->string(), manifest.name);
  EXPECT_EQ(*why.find("path")->string(), "request.initial_jobs");
  EXPECT_EQ(*why.find("got")->string(), "weight");
  EXPECT_EQ(market.phase(decided(starting({alike}, "model"))), Phase::kEscrowed);
  // Where one of them names none, nobody knows, as with weights of a stranger.
  EXPECT_EQ(market.phase(decided(starting({silent}, "model"))), Phase::kEscrowed);
  EXPECT_EQ(market.phase(decided(starting({turned}, "of a stranger"))), Phase::kEscrowed);
}

TEST_F(Inheritance, PoliciesAreAskedAboutModelsThatStartFromTheirRows) {
  auto parent = market.publish(
      market.providers[0],
      {.policy = "return {allow = request.purpose == 'research', reasons = {{code = 'purpose', "
                 "message = 'research only'}}, obligations = {embargo_until = 5}, price = 300}"});
  auto own = market.publish(market.providers[1]);
  settled(market.contract({parent.id}), "model");
  auto other = starting({own.id}, "model");
  other.purpose = "advertising";
  ContractId refused = decided(other);
  EXPECT_EQ(market.phase(refused), Phase::kRefused);
  EXPECT_EQ(code(refused), "purpose");
  ASSERT_EQ(inherited(refused, "policies").size(), 1u);
  EXPECT_EQ(*inherited(refused, "policies")[0].find("status")->string(), "denied");
  expect_no_key(refused);

  // Where its rows are read again, it is asked once, and paid.
  ContractId both = decided(starting({own.id, parent.id}, "model"));
  ASSERT_EQ(market.phase(both), Phase::kEscrowed) << code(both);
  EXPECT_TRUE(inherited(both, "policies").empty());
  EXPECT_EQ(decision(both).price, 400);

  // The version that the parent was allowed under goes on answering, until it is revoked.
  ASSERT_EQ(move(parent, contracts::PolicyChange::Move::kDeprecate), "");
  ContractId after = decided(starting({own.id}, "model"));
  EXPECT_EQ(market.phase(after), Phase::kEscrowed) << code(after);
  ASSERT_EQ(move(parent, contracts::PolicyChange::Move::kRevokeNoNew), "");
  ContractId late = decided(starting({own.id}, "model"));
  EXPECT_EQ(market.phase(late), Phase::kRefused);
  EXPECT_EQ(code(late), "policy_revoked");
}

TEST_F(Inheritance, ARevocationEndsWhatWasAllowedToStartFromTheirRows) {
  auto parent = market.publish(market.providers[0]);
  auto own = market.publish(market.providers[1]);
  settled(market.contract({parent.id}), "model");
  ContractId child = settled(starting({own.id}, "model"), "second");
  ContractId waiting = decided(starting({own.id}, "model"));
  ContractId running = decided(starting({own.id}, "second"));
  StandIn trainer = market.started(running);
  ASSERT_EQ(market.phase(waiting), Phase::kEscrowed);

  ASSERT_EQ(move(parent, contracts::PolicyChange::Move::kRevokeStop), "");
  market.follow();
  EXPECT_EQ(market.phase(waiting), Phase::kRefunded);
  EXPECT_TRUE(refused(market.keeper().about(Kind::kChallenge, waiting)));
  EXPECT_EQ(market.phase(running), Phase::kStopping);
  auto late =
      contracts::sign_record(market.result_of(running, to_bytes("a header"), to_bytes("third")),
                             trainer.signing, market.market());
  EXPECT_EQ(market.void_of(market.append(late)), "not_running");
  market.follow();
  EXPECT_FALSE(refused(market.keeper().about(Kind::kRelease, child)));

  ASSERT_EQ(move(parent, contracts::PolicyChange::Move::kRevokeDestroy), "");
  market.follow();
  EXPECT_EQ(refused(market.keeper().about(Kind::kRelease, child)), Code::kRefused);
  ContractId after = decided(starting({own.id}, "second"));
  EXPECT_EQ(code(after), "parent_destroyed");
}

TEST_F(Inheritance, EachSideSeesWhoseRowsAreInTheModel) {
  auto first = market.publish(
      market.providers[0],
      {.policy = "return {allow = not contains(request.dataset_names, 'x'), obligations = "
                 "{min_co_providers = 1}}"});
  auto second = market.publish(market.providers[1]);
  settled(market.contract({first.id, second.id}), "model");
  const std::string name = market.state().dataset(first.id)->manifest.name;
  auto apart = market.publish(
      market.providers[2],
      {.policy = "return {allow = not contains(request.dataset_ids, '" + to_hex(first.id) +
                 "'), reasons = {{code = 'incompatible', message = 'could be linked'}}}"});
  ContractId linked = decided(starting({apart.id}, "model"));
  EXPECT_EQ(code(linked), "incompatible");
  EXPECT_EQ(market.phase(decided(starting({apart.id}, "of a stranger"))), Phase::kEscrowed);
  // The crowd that the first asked for is in the model still.
  auto lone = market.publish(market.providers[2]);
  ContractId child = decided(starting({lone.id}, "model"));
  EXPECT_EQ(market.phase(child), Phase::kEscrowed) << canonical(decision(child).reasons);
  // And is no crowd for the rows that are read now.
  auto shy =
      market.publish(market.providers[2],
                     {.policy = "return {allow = true, obligations = {min_co_providers = 1}}"});
  EXPECT_EQ(market.phase(decided(starting({shy.id}, "model"))), Phase::kRefused);
}

TEST_F(Inheritance, PrivacyIsWaivedOnlyIfAllWhoseRowsAreInTheModelWaiveIt) {
  auto strict = market.publish(market.providers[0]);
  auto open =
      market.publish(market.providers[1],
                     {.policy = "return {allow = true, obligations = {waive_privacy = true}}"});
  auto without = [&](ContractSubmit submit) {
    submit.spec.privacy.reset();
    return submit;
  };
  settled(market.contract({strict.id}), "private");
  settled(without(market.contract({open.id})), "public");
  EXPECT_EQ(market.phase(decided(without(starting({open.id}, "public")))), Phase::kEscrowed);
  ContractId refused = decided(without(starting({open.id}, "private")));
  EXPECT_EQ(market.phase(refused), Phase::kRefused);
  EXPECT_EQ(code(refused), "obligation_not_met");
  EXPECT_EQ(market.phase(decided(starting({open.id}, "private"))), Phase::kEscrowed);
}

TEST_F(Inheritance, AStrangersWeightsAreDeclaredSoAndNamedJobsMustBeThere) {
  auto own = market.publish(market.providers[0]);
  ContractId stranger = decided(starting({own.id}, "of a stranger"));
  EXPECT_EQ(market.phase(stranger), Phase::kEscrowed);
  EXPECT_TRUE(inherited(stranger, "jobs").empty());
  ContractId unfounded =
      decided(starting({own.id}, "of a stranger", {ContractId(ledger::sha256(as_bytes("x")))}));
  EXPECT_EQ(code(unfounded), "unknown_parent");
  ContractId early = decided(starting({own.id}, "of a stranger", {stranger}));
  EXPECT_EQ(code(early), "parent_not_settled");
  EXPECT_EQ(decision(decided(market.contract({own.id}))).inputs.find("inherited"), nullptr);
}

}  // namespace
}  // namespace souk::flows
