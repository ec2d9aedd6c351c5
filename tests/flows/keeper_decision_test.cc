// What the keeper allows: what every policy and a trainer can bear.
#include <set>

#include "ledger/crypto/hash.h"
#include "tests/flows/keeper_flow.h"
#include "trainer/decision/decision.h"

namespace souk::flows {
namespace {

// ---- quotes and policies ------------------------------------------------------------

TEST_F(KeeperFlow, AQuoteIsTheDecision) {
  auto friendly = market.publish(market.providers[0]);
  auto dear = market.publish(market.providers[1], {.policy = "return {allow = true, price = 700}"});
  auto strict = market.publish(
      market.providers[2],
      {.policy = "return {allow = request.purpose == 'teaching', reasons = {{code = 'purpose', "
                 "message = 'teaching only', "
                 "path = 'request.purpose', got = request.purpose, need = 'teaching'}}}"});
  market.deposit(market.lab.account(), 900);
  const std::vector<std::vector<DatasetId>> choices = {
      {friendly.id}, {friendly.id, dear.id}, {strict.id}, {friendly.id, strict.id, dear.id}};
  for (const auto& choice : choices) {
    auto submit = market.contract(choice);
    market.follow();
    auto quoted = market.keeper().ask(Kind::kQuote,
                                      Json::Object{{"consumer", market.lab.account()},
                                                   {"submit", contracts::members_json(submit)}});
    auto body = trainer::expect(quoted, Kind::kDecision);
    ASSERT_TRUE(body) << kind_and_body(quoted);
    ContractId id = market.submit(submit);
    ASSERT_TRUE(market.record(Kind::kDecide, id));
    Json decided = contracts::members_json(*market.state().contract(id)->decision);
    Json quote = *body->find("decision");
    for (const char* member : {"allow", "status", "reasons", "obligations", "price", "grants"}) {
      EXPECT_EQ(canonical(*quote.find(member)), canonical(*decided.find(member))) << member;
    }
  }
}

TEST_F(KeeperFlow, AQuoteChangesNothing) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 1000);
  market.follow();
  Json submit = contracts::members_json(market.contract({dataset.id}));
  Json ask = Json::Object{{"consumer", market.lab.account()}, {"submit", submit}};
  auto first = market.keeper().ask(Kind::kQuote, ask);
  auto second = market.keeper().ask(Kind::kQuote, ask);
  ASSERT_EQ(first.kind, Kind::kDecision);
  EXPECT_EQ(first.body, second.body);
  EXPECT_EQ(market.state().balance(market.lab.account()), 1000);
}

TEST_F(KeeperFlow, AQuoteForAnEmptyPurseNamesThePriceAndTheContractIsUnfunded) {
  auto dataset = market.publish(market.providers[0]);
  market.follow();
  auto quoted = market.keeper().ask(
      Kind::kQuote,
      Json::Object{{"consumer", market.lab.account()},
                   {"submit", contracts::members_json(market.contract({dataset.id}))}});
  auto body = trainer::expect(quoted, Kind::kDecision);
  ASSERT_TRUE(body);
  EXPECT_EQ(*body->find("decision")->find("allow")->boolean(), true);
  EXPECT_GT(*body->find("decision")->find("price")->integer(), 0);
  ContractId id = market.submit(market.contract({dataset.id}));
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.state().contract(id)->decision->status, "unfunded");
}

// What stands against the contract as a whole stands there once for each of its datasets.
TEST_F(KeeperFlow, EveryReasonNamesProviderAndDatasetAndSaysWhatIsWrong) {
  std::vector<DatasetId> datasets = {market.publish(market.providers[0]).id,
                                     market.publish(market.providers[1], {.price = 70}).id};
  market.deposit(market.lab.account(), 169);
  auto told = [&](const contracts::ContractSubmit& submit, const std::string& code,
                  const std::string& message) {
    ContractId id = market.submit(submit);
    EXPECT_TRUE(market.record(Kind::kDecide, id));
    EXPECT_EQ(market.phase(id), Phase::kRefused);
    const auto& reasons = *market.state().contract(id)->decision->reasons.array();
    ASSERT_EQ(reasons.size(), submit.datasets.size()) << canonical(Json(reasons));
    for (size_t i = 0; i < reasons.size(); ++i) {
      const auto& manifest = market.state().dataset(submit.datasets[i])->manifest;
      EXPECT_EQ(*reasons[i].find("code")->string(), code);
      EXPECT_EQ(*reasons[i].find("provider")->string(), manifest.provider_name);
      EXPECT_EQ(*reasons[i].find("dataset")->string(), manifest.name);
      EXPECT_NE(reasons[i].find("message")->string()->find(message), std::string::npos)
          << canonical(reasons[i]);
    }
  };
  auto submit = market.contract(datasets);
  told(submit, "unfunded", "the account has 169, the prices of the datasets come to 170");
  submit.offered = 169;
  told(submit, "price", "the contract offers 169, the prices of its datasets come to 170");
  submit = market.contract(datasets);
  submit.recipient = trainer::recipient_text(SealingKey{});  // of low order
  told(submit, "wrong_recipient", "recipient");
  submit = market.contract(datasets);
  submit.spec.privacy->epsilon_micro = 1;
  told(submit, "epsilon_understated", "the run spends more");
  submit = market.contract(datasets);
  submit.spec.initial = ledger::sha256(as_bytes("weights"));
  Digest nobody{};
  nobody.fill(7);
  submit.initial_jobs = {ContractId(nobody)};
  told(submit, "unknown_parent", "nothing can start from this model");
  submit = market.contract(datasets);
  submit.credentials = {"none", "neither"};
  submit.offered = 170;
  market.deposit(market.lab.account(), 1);
  ContractId id = market.submit(submit);
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.phase(id), Phase::kEscrowed);
  const auto& ignored = *market.state().contract(id)->decision->reasons.array();
  ASSERT_EQ(ignored.size(), 2U) << canonical(Json(ignored));
  EXPECT_EQ(*ignored[1].find("provider")->string(), market.providers[1].name);
  EXPECT_EQ(ignored[1].find("message")->string()->rfind("2 of 2 credentials", 0), 0U);
}

TEST_F(KeeperFlow, APolicyThatFailsInAnyWayDenies) {
  EXPECT_EQ(deny_of("error('no')"), "error");
  EXPECT_EQ(deny_of("return true"), "error");
  EXPECT_EQ(deny_of("return {allow = 'true'}"), "error");
  EXPECT_EQ(deny_of("return {allow = 1}"), "error");
  EXPECT_EQ(deny_of("return {}"), "error");
  EXPECT_EQ(deny_of(""), "error");
  EXPECT_EQ(deny_of("return {allow = true, obligations = {no_such_duty = 1}}"), "error");
  EXPECT_EQ(deny_of("return {allow = true, price = -1}"), "error");
  EXPECT_EQ(deny_of("return {allow = request.no_such_member}"), "error");
  EXPECT_EQ(deny_of("while true do end"), "limit");
  EXPECT_EQ(deny_of("local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end"), "limit");
  EXPECT_EQ(deny_of("this is not lua"), "publish_rejected");
}

// A text that answers nobody is none; the keeper tells its host, whoever wrote the offer.
TEST_F(KeeperFlow, TriesPoliciesAndRefusesThoseThatAnswerNobody) {
  auto tried = [&](const std::string& source) {
    return market.keeper().ask(Kind::kTryPolicy,
                               Json::Object{{"source", source}, {"parameters", Json::Object{}}});
  };
  for (const char* good : {"return {allow = true}", "return {allow = false, reason = 'no'}",
                           "return function(request) return {allow = request.dp.enabled} end",
                           // One of the two is answered: it has its reasons.
                           "return {allow = request.dp.enabled or nil + 1}"}) {
    EXPECT_EQ(tried(good).kind, Kind::kDone) << good << kind_and_body(tried(good));
  }
  for (const char* bad : {"", "return 5", "while true do end",
                          "local t = {} while true do t[#t + 1] = string.rep('x', 65536) end",
                          "error('never')", "return {allow = 1}"}) {
    auto answer = tried(bad);
    EXPECT_EQ(refused(answer), Code::kRefused) << bad;
    EXPECT_TRUE(refusal_message(answer).starts_with("publish_rejected")) << refusal_message(answer);
  }
}

TEST_F(KeeperFlow, AFloodOfReasonsStillFitsIntoOneEntry) {
  std::vector<DatasetId> datasets;
  for (int flood = 0; flood < 8; ++flood) {
    datasets.push_back(market
                           .publish(market.providers[0],
                                    {.policy = "local all = {} for i = 1, 14 do all[i] = {code = "
                                               "'why', message = ('\"'):rep(1000)} end "
                                               "return {allow = false, reasons = all}"})
                           .id);
  }
  auto last =
      market.publish(market.providers[1], {.policy = "return {allow = false, reason = 'short'}"});
  datasets.push_back(last.id);
  ContractId id = market.submit(market.contract(datasets));
  market.follow();
  auto envelope = envelope_in(market.keeper().about(Kind::kDecide, id));
  ASSERT_TRUE(envelope);
  EXPECT_TRUE(ledger::SignedEntry::decode(envelope_bytes(*envelope)));
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.state().contract(id)->ended_because, "denied");
  // One provider's flood leaves room for what the next one has to say.
  std::string reasons = canonical(market.state().contract(id)->decision->reasons);
  EXPECT_NE(reasons.find("\"why\""), std::string::npos);
  EXPECT_NE(reasons.find("short"), std::string::npos);
}

TEST_F(KeeperFlow, AQuotaCountsRunsThatAreAllowedAndHaveNotEnded) {
  auto dataset = market.publish(
      market.providers[0], {.policy = "return {allow = ctx.runs < 1, reason = 'one run only'}"});
  market.deposit(market.lab.account(), 1000);
  ContractId first = market.submit(market.contract({dataset.id}));
  ContractId second = market.submit(market.contract({dataset.id}));
  ASSERT_TRUE(market.record(Kind::kDecide, first));
  EXPECT_EQ(market.phase(first), Phase::kEscrowed);
  ASSERT_TRUE(market.record(Kind::kDecide, second));
  EXPECT_EQ(market.phase(second), Phase::kRefused);
}

TEST_F(KeeperFlow, AFreePriceIsFree) {
  auto dataset =
      market.publish(market.providers[0], {.policy = "return {allow = true, price = 0}"});
  ContractId id = market.submit(market.contract({dataset.id}));
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.phase(id), Phase::kEscrowed);
  EXPECT_EQ(market.state().contract(id)->escrow, 0);
}

TEST_F(KeeperFlow, ARunWeakerThanThePolicyObligesIsDenied) {
  EXPECT_EQ(deny_of("return {allow = true, obligations = {min_noise_micro = 2000001}}"), "denied");
  EXPECT_EQ(deny_of("return {allow = true, obligations = {max_steps = 3}}"), "denied");
  EXPECT_EQ(deny_of("return {allow = true, obligations = {max_parameters = 5}}"), "denied");
  EXPECT_EQ(deny_of("return {allow = true, obligations = {allowed_algorithms = {'cnn'}}}"),
            "denied");
  EXPECT_EQ(deny_of("return {allow = true, obligations = {max_epsilon_micro = 1}}"), "denied");
  EXPECT_EQ(deny_of("return {allow = true, obligations = {max_delta_pico = 1}}"), "denied");
}

TEST_F(KeeperFlow, ARunWithoutPrivacyNeedsEveryProvidersWaiver) {
  const char* waiver = "return {allow = true, obligations = {waive_privacy = true}}";
  auto open = market.publish(market.providers[0], {.policy = waiver});
  auto closed = market.publish(market.providers[1], {.policy = "return {allow = true}"});
  market.deposit(market.lab.account(), 1000);
  auto submit = market.contract({open.id, closed.id});
  submit.spec.privacy.reset();
  ContractId both = market.submit(submit);
  ASSERT_TRUE(market.record(Kind::kDecide, both));
  EXPECT_EQ(market.phase(both), Phase::kRefused);
  submit.datasets = {open.id};
  ContractId one = market.submit(submit);
  ASSERT_TRUE(market.record(Kind::kDecide, one));
  EXPECT_EQ(market.phase(one), Phase::kEscrowed);
  EXPECT_TRUE(market.state().contract(one)->decision->grants.front().waived);
}

// Started, it would fail, the budget be spent and the money go back.
TEST_F(KeeperFlow, ARunThatNoTrainerCouldDoIsDenied) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 1000);
  auto why = [&](const contracts::ContractSubmit& submit) {
    ContractId id = market.submit(submit);
    EXPECT_TRUE(market.record(Kind::kDecide, id));
    EXPECT_EQ(market.phase(id), Phase::kRefused);
    return *market.state().contract(id)->decision->reasons.array()->front().find("code")->string();
  };
  auto submit = market.contract({dataset.id});
  submit.spec.input_shape = {3};
  EXPECT_EQ(why(submit), "wrong_shape");
  submit = market.contract({dataset.id});
  submit.spec.classes = 3;
  submit.spec.model.back().units = 3;
  EXPECT_EQ(why(submit), "wrong_classes");
  submit = market.contract({dataset.id});
  submit.recipient = trainer::recipient_text(SealingKey{});  // of low order
  EXPECT_EQ(why(submit), "wrong_recipient");
  submit = market.contract({dataset.id});
  char& last = submit.recipient.back();
  last = last == 'q' ? 'p' : 'q';  // the checksum does not hold
  EXPECT_EQ(why(submit), "wrong_recipient");
  EXPECT_EQ(market.state().dataset(dataset.id)->budget.committed, contracts::Charges{});
  EXPECT_EQ(market.state().dataset(dataset.id)->budget.reserved, contracts::Charges{});
}

TEST_F(KeeperFlow, MoreNoiseThanTheGeneratorCoversIsDenied) {
  auto dataset = market.publish(market.providers[0]);
  market.deposit(market.lab.account(), 1000);
  auto submit = market.contract({dataset.id});
  contracts::Node wide = submit.spec.model.front();
  wide.units = 300;
  submit.spec.model.insert(submit.spec.model.begin(), {wide, wide});
  submit.spec.steps = 1'000'000;
  submit.spec.learning_rate = {{submit.spec.steps, 0.5}};
  auto shape = contracts::check_spec(submit.spec);
  ASSERT_TRUE(shape) << shape.error().expected();
  ASSERT_GT(static_cast<double>(shape->parameters) * 1e6, 3e10);
  ContractId id = market.submit(submit);
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.phase(id), Phase::kRefused);
  const Json& reason = market.state().contract(id)->decision->reasons.array()->front();
  EXPECT_EQ(*reason.find("code")->string(), "too_much_noise") << canonical(reason);
  EXPECT_EQ(*reason.find("path")->string(), "request.steps");
  EXPECT_EQ(*reason.find("got")->string(), "1000000");
  EXPECT_FALSE(reason.find("need")->string()->empty());
  expect_no_key(id);
  // The same network for fewer steps is not denied for it.
  submit.spec.steps = 100'000;
  submit.spec.learning_rate = {{submit.spec.steps, 0.5}};
  id = market.submit(submit);
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  std::string reasons = canonical(market.state().contract(id)->decision->reasons);
  EXPECT_EQ(reasons.find("too_much_noise"), std::string::npos) << reasons;
}

TEST_F(KeeperFlow, DatasetsWhoseClassesDifferAreDeniedTogether) {
  auto named = [&](size_t provider, const std::vector<std::string>& classes) {
    auto offered = market.make_offer(market.providers[provider]);
    offered.offer.manifest.class_names = classes;
    auto seq = market.append(
        contracts::sign_record(offered.offer, market.providers[provider].key, market.market()));
    EXPECT_EQ(market.void_of(seq), "");
    return contracts::dataset_id(offered.offer.manifest);
  };
  market.deposit(market.lab.account(), 1000);
  DatasetId first = named(0, {"benign", "malignant"});
  DatasetId renamed = named(1, {"B", "M"});
  DatasetId swapped = named(2, {"malignant", "benign"});
  DatasetId silent = named(1, {});
  ContractId id = market.submit(market.contract({first, silent, renamed, swapped}));
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.phase(id), Phase::kRefused);
  const auto& reasons = *market.state().contract(id)->decision->reasons.array();
  ASSERT_EQ(reasons.size(), 2U) << canonical(Json(reasons));
  const char* said[] = {"B, M", "malignant, benign"};
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(*reasons[i].find("code")->string(), "wrong_classes");
    EXPECT_EQ(*reasons[i].find("provider")->string(), market.providers[i + 1].name);
    EXPECT_EQ(*reasons[i].find("path")->string(), "request.datasets");
    EXPECT_EQ(*reasons[i].find("got")->string(), said[i]);
    EXPECT_EQ(reasons[i].find("need")->string()->rfind("benign, malignant, as in ", 0), 0U);
  }
  expect_no_key(id);
  // Names of any length leave room for the decision in one entry.
  std::vector<std::string> long_names = {std::string(256, 'a'), std::string(256, 'b')};
  id = market.submit(market.contract({first, named(1, long_names)}));
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.phase(id), Phase::kRefused);
}

// Otherwise it would learn from one provider's weights as if they were the other's markers.
TEST_F(KeeperFlow, DatasetsWhoseColumnsDifferAreDeniedBeforeMoneyMoves) {
  auto columns = [&](size_t provider, const std::vector<std::string>& names) {
    return market.publish(market.providers[provider], {.feature_names = names}).id;
  };
  market.deposit(market.lab.account(), 1000);
  DatasetId first = columns(0, {"marker", "weight"}), alike = columns(1, {"marker", "weight"}),
            turned = columns(2, {"weight", "marker"}),
            foreign = columns(1, {"marker", "shoe size"}), silent = columns(2, {});
  ContractId id = market.submit(market.contract({first, alike, turned, foreign, silent}));
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.phase(id), Phase::kRefused);
  EXPECT_EQ(market.state().balance(market.lab.account()), 1000);
  const auto& reasons = *market.state().contract(id)->decision->reasons.array();
  ASSERT_EQ(reasons.size(), 3U) << canonical(Json(reasons));
  const std::string name = market.state().dataset(first)->manifest.name;
  struct Told {
    DatasetId dataset;
    std::string column, got, need;
  };
  const Told told[] = {{turned, "column 1 ", "weight", "marker, as in " + name},
                       {foreign, "column 2 ", "shoe size", "weight, as in " + name},
                       {silent, "column 1 ", "no name", "marker, as in " + name}};
  for (size_t i = 0; i < 3; ++i) {
    const auto& manifest = market.state().dataset(told[i].dataset)->manifest;
    auto says = [&](const char* member) { return *reasons[i].find(member)->string(); };
    EXPECT_EQ(says("code"), "different_features");
    EXPECT_EQ(says("provider"), manifest.provider_name);
    EXPECT_EQ(says("dataset"), manifest.name);
    EXPECT_EQ(says("path"), "request.datasets");
    EXPECT_EQ(says("got"), told[i].got);
    EXPECT_EQ(says("need"), told[i].need);
    EXPECT_NE(says("message").find(told[i].column), std::string::npos) << says("message");
  }
  expect_no_key(id);
  id = market.submit(market.contract({first, alike}));
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.phase(id), Phase::kEscrowed);
  // Images name no columns, and need not.
  id = market.submit(market.contract({silent, columns(0, {})}));
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.phase(id), Phase::kEscrowed);
}

// Numbers that stand for categories mean the same in all rows of a run, named classes or none.
TEST_F(KeeperFlow, DatasetsWhoseCategoriesDifferAreDeniedAlsoWhereNoClassesAreNamed) {
  auto numbered = [&](size_t provider, const std::vector<std::string>& values) {
    auto offered = market.make_offer(market.providers[provider]);
    offered.offer.manifest.class_names = {};
    offered.offer.manifest.categories = {{offered.offer.manifest.feature_names.front(), values}};
    auto seq = market.append(
        contracts::sign_record(offered.offer, market.providers[provider].key, market.market()));
    EXPECT_EQ(market.void_of(seq), "");
    return contracts::dataset_id(offered.offer.manifest);
  };
  market.deposit(market.lab.account(), 1000);
  DatasetId first = numbered(0, {"never", "often"}), alike = numbered(1, {"never", "often"}),
            swapped = numbered(2, {"often", "never"});
  ContractId id = market.submit(market.contract({first, alike, swapped}));
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.phase(id), Phase::kRefused);
  const auto& reasons = *market.state().contract(id)->decision->reasons.array();
  ASSERT_EQ(reasons.size(), 1U) << canonical(Json(reasons));
  EXPECT_EQ(*reasons[0].find("code")->string(), "different_categories");
  EXPECT_EQ(*reasons[0].find("provider")->string(), market.providers[2].name);
  id = market.submit(market.contract({first, alike}));
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  EXPECT_EQ(market.phase(id), Phase::kEscrowed);
}

// ---- withdrawn datasets --------------------------------------------------------------

TEST_F(KeeperFlow, NoKeyOfARevokedDataset) {
  auto dataset = market.publish(market.providers[0]);
  ContractId id = market.escrowed({dataset.id});
  auto nonce = market.challenge(id);
  market.append(contracts::sign_record(contracts::DatasetRevoke{dataset.id},
                                       market.providers[0].key, market.market()));
  market.follow();
  StandIn enclave = market.stand_in(id, nonce);
  auto answer = market.start_frame(id, enclave.evidence);
  EXPECT_EQ(refused(answer), Code::kRefused) << kind_and_body(answer);
  EXPECT_EQ(market.phase(id), Phase::kRefunded);
}

// The reasons of a decision on a contract that names only this dataset.
class WithdrawnFlow : public KeeperFlow {
 protected:
  const Json& first_reason(const DatasetId& dataset, const Json& told = Json()) {
    market.deposit(market.lab.account(), 1000);
    auto reserved = market.state().dataset(dataset)->budget.reserved;
    auto escrow = market.state().escrow_total();
    ContractId id = market.submit(market.contract({dataset}));
    Json body = Json::Object{{"contract", id}};
    if (told.array()) (*body.object())["unavailable"] = told;
    EXPECT_TRUE(market.record(Kind::kDecide, body));
    EXPECT_EQ(market.phase(id), Phase::kRefused);
    EXPECT_EQ(market.state().dataset(dataset)->budget.reserved, reserved);
    EXPECT_EQ(market.state().escrow_total(), escrow);
    decided = id;
    return market.state().contract(id)->decision->reasons.array()->front();
  }
  static std::string member(const Json& reason, const char* name) {
    return *reason.find(name)->string();
  }
  void expect_named(const Json& reason, const Offered& dataset) {
    EXPECT_EQ(member(reason, "provider"), market.providers[0].name);
    EXPECT_EQ(member(reason, "dataset"), dataset.offer.manifest.name);
  }
  ContractId decided;
};

TEST_F(WithdrawnFlow, ARevokedOrErasedDatasetIsNamedWithItsProvider) {
  auto revoked = market.publish(market.providers[0]);
  market.append(contracts::sign_record(contracts::DatasetRevoke{revoked.id},
                                       market.providers[0].key, market.market()));
  const Json& first = first_reason(revoked.id);
  EXPECT_EQ(member(first, "code"), "revoked");
  expect_named(first, revoked);
  auto erased = market.publish(market.providers[0], {.rows = 41});
  market.append(contracts::sign_record(contracts::DatasetErase{erased.id}, market.providers[0].key,
                                       market.market()));
  const Json& second = first_reason(erased.id);
  EXPECT_EQ(member(second, "code"), "erased");
  expect_named(second, erased);
}

TEST_F(WithdrawnFlow, AContractWhoseCiphertextTheHostHasNotIsRefusedAndReservesNothing) {
  auto dataset = market.publish(market.providers[0]);
  const Json& reason = first_reason(dataset.id, Json::Array{Json(dataset.id)});
  EXPECT_EQ(member(reason, "code"), "ciphertext_missing");
  expect_named(reason, dataset);
  // What the keeper was told is part of what it decided on: an auditor is told it too.
  auto told = trainer::unavailable_in(*market.state().contract(decided)->decision);
  EXPECT_EQ(told, std::set<DatasetId>{dataset.id});
  // A dataset that is none of the contract's is nobody's concern.
  auto other = market.publish(market.providers[1]);
  ContractId id = market.submit(market.contract({other.id}));
  ASSERT_TRUE(market.record(
      Kind::kDecide,
      Json::Object{{"contract", id}, {"unavailable", Json::Array{Json(dataset.id)}}}));
  EXPECT_EQ(market.phase(id), Phase::kEscrowed);
}

// ctx.consumer.last_run: ledger time of the start, and of the decision as long as that waits.
TEST_F(WithdrawnFlow, TheLastRunIsWhenItStartedByTheLedger) {
  auto dataset = market.publish(
      market.providers[0],
      {.policy = "if ctx.consumer.runs == 0 then return {allow = true} end "
                 "return {allow = false, reason = 'last ' .. tostring(ctx.consumer.last_run)}"});
  auto last_run = [&] { return member(first_reason(dataset.id), "message"); };
  ContractId id = market.submit(market.contract({dataset.id}));
  market.deposit(market.lab.account(), 1000);
  market.clock().advance(60'000);
  ASSERT_TRUE(market.record(Kind::kDecide, id));
  ASSERT_EQ(market.phase(id), Phase::kEscrowed);
  auto decided_at = market.state().contract(id)->decision_time;
  EXPECT_EQ(decided_at, market.clock().now());
  market.clock().advance(60'000);
  EXPECT_EQ(last_run(), "last " + std::to_string(decided_at));
  market.started(id);
  auto started_at = market.state().contract(id)->start_time;
  EXPECT_GE(started_at, decided_at + 60'000);
  market.clock().advance(60'000);
  EXPECT_EQ(last_run(), "last " + std::to_string(started_at));
}

}  // namespace
}  // namespace souk::flows
