#include "contracts/records/records.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include "ledger/crypto/hash.h"
#include "tests/contracts/market_world.h"

namespace souk::contracts {
namespace {

struct Sample {
  const char* name;
  Record record;
};

// One of each record, every member away from its default.
std::vector<Sample> samples() {
  World world;
  auto dataset = world.publish("hospital", "first", 100);
  auto contract = world.order("lab", {dataset}, 200);
  world.fund("lab", 500);
  auto submit = world.submit({dataset}, 5);
  submit.credentials = {"{}", "{\"a\":1}"};
  auto decision = world.allow(contract);
  decision.reasons = Json::Array{Json::Object{{"code", "ok"}, {"got", 1}}};
  decision.inputs = Json::Object{{"gas", 12}};
  CHECK(world.record(decision, "keeper").empty());
  auto start = world.start(contract);
  CHECK(world.record(start, "keeper").empty());
  return {
      {"genesis", world.genesis()},
      {"keeper.boot", world.boot("keeper")},
      {"treasury.deposit", Deposit{key_named("lab").public_key(), 12}},
      {"dataset.offer", world.offer("x", 3)},
      {"dataset.revoke", DatasetRevoke{dataset}},
      {"dataset.erase", DatasetErase{dataset}},
      {"policy.publish",
       PolicyPublish{dataset, "return {allow = true}", Json::Object{{"least", 2}}, "engine"}},
      {"policy.change", PolicyChange{dataset, digest_named("v"), PolicyChange::Move::kRevokeStop}},
      {"contract.submit", submit},
      {"contract.decision", decision},
      {"job.start", start},
      {"job.resume", world.resume(contract, 2)},
      {"job.result", world.result(contract)},
      {"job.stop", world.stop(contract, 3)},
      {"job.abort", JobAbort{contract, "trainer_died"}},
      {"tick", Tick{}}};
}

std::string type_of(const Record& record) {
  return std::visit([](const auto& known) { return std::string(known.kType); }, record);
}

Result<Record> read_back(const std::string& type, const Json& body) {
  auto envelope = ledger::sign_envelope(key_named("author"), type, to_bytes(canonical(body)));
  auto bytes = canonical(to_json(envelope));
  auto signed_entry = TRY(ledger::SignedEntry::decode(as_bytes(bytes)));
  auto entry = TRY(ledger::authenticate(std::move(signed_entry)));
  return record_of(entry);
}

Json body_of(const Record& record) {
  bool genesis = std::holds_alternative<Genesis>(record);
  auto payload =
      payload_of(record, key_named("author").public_key(),
                 genesis ? "" : to_hex(MarketId(digest_named("market"))), std::string(32, '1'));
  return *parse_canonical(as_text(payload));
}

// The object that holds the record's own members.
Json::Object& members_of(Json& body) {
  auto& object = *body.object();
  auto predicate = object.find("predicate");
  return predicate == object.end() ? object : *predicate->second.object();
}

TEST(Records, EachIsReadBackAsItWasWritten) {
  for (const auto& [name, record] : samples()) {
    SCOPED_TRACE(name);
    auto back = read_back(type_of(record), body_of(record));
    ASSERT_TRUE(back) << back.error().expected();
    EXPECT_EQ(*back, record);
    auto unsigned_back = members_from_json(type_of(record), members_json(record));
    ASSERT_TRUE(unsigned_back) << unsigned_back.error().expected();
    EXPECT_EQ(*unsigned_back, record);
  }
}

TEST(Records, OneMemberMoreOrLessOrOfAnotherKindIsRefused) {
  for (const auto& [name, record] : samples()) {
    SCOPED_TRACE(name);
    const Json body = body_of(record);
    Json more = body;
    members_of(more)["surplus"] = 1;
    EXPECT_FALSE(read_back(type_of(record), more));
    EXPECT_FALSE(members_from_json(type_of(record), Json::Array{}));

    Json copy = body;
    for (const auto& [member, value] : members_of(copy)) {
      Json less = body;
      members_of(less).erase(member);
      EXPECT_FALSE(read_back(type_of(record), less)) << member << " missing";
      Json other = body;
      members_of(other)[member] = Json(nullptr);
      EXPECT_FALSE(read_back(type_of(record), other)) << member << " null";
    }
  }
}

TEST(Records, APayloadTypeNobodyKnowsIsRefused) {
  EXPECT_FALSE(read_back("application/vnd.souk.mint+json", body_of(Tick{})));
  // A body under another record's type does not pass for that record.
  EXPECT_FALSE(read_back(Tick::kType, body_of(DatasetRevoke{})));
  EXPECT_FALSE(read_back(DatasetRevoke::kType, body_of(Tick{})));
}

TEST(Records, AReceiptIsAnInTotoStatementAboutThePayloadAndTheModel) {
  JobResult result;
  for (const auto& [name, record] : samples()) {
    if (auto* found = std::get_if<JobResult>(&record)) result = *found;
  }
  const Json body = body_of(result);
  EXPECT_EQ(*body.find("_type")->string(), "https://in-toto.io/Statement/v1");
  EXPECT_EQ(*body.find("predicateType")->string(), "urn:souk:job-result:v1");
  const auto& subjects = *body.find("subject")->array();
  ASSERT_EQ(subjects.size(), 2u);
  EXPECT_EQ(*subjects[0].find("digest")->find("sha256")->string(),
            to_hex(ByteView(result.payload)));
  EXPECT_EQ(*subjects[1].find("digest")->find("sha256")->string(), to_hex(ByteView(result.model)));

  auto refuses = [&](auto&& change) {
    Json lie = body;
    change(*lie.object());
    return !read_back(JobResult::kType, lie);
  };
  EXPECT_TRUE(refuses([](auto& o) { o["_type"] = "https://in-toto.io/Statement/v0.1"; }));
  EXPECT_TRUE(refuses([](auto& o) { o["predicateType"] = "urn:souk:job-result:v2"; }));
  EXPECT_TRUE(refuses([](auto& o) { o["extra"] = 1; }));
  EXPECT_TRUE(refuses([](auto& o) { o["subject"].array()->pop_back(); }));
  EXPECT_TRUE(refuses([](auto& o) {
    auto& subject = *o["subject"].array();
    std::swap(subject[0], subject[1]);
  }));
  EXPECT_TRUE(refuses(
      [](auto& o) { (*o["predicate"].object())["model"] = digest_named("another model"); }));
}

TEST(Records, NumbersOutsideTheirRangeAreRefused) {
  struct Lie {
    const char* type;
    const char* member;
    Json value;
  };
  const Lie lies[] = {
      {Deposit::kType, "minor", 0},
      {Deposit::kType, "minor", "12"},
      {ContractSubmit::kType, "offered", -1},
      {ContractSubmit::kType, "deadline_minutes", 0},
      {ContractSubmit::kType, "deadline_minutes", kMaxDeadlineMinutes + 1},
      {ContractSubmit::kType, "purpose", "bell \x07"},
      {ContractSubmit::kType, "purpose", "next line \xc2\x85"},
      {ContractSubmit::kType, "purpose", std::string(257, 'x')},
      {ContractDecision::kType, "price", -1},
      {ContractDecision::kType, "head_size", -1},
      {ContractDecision::kType, "reasons", Json::Object{}},
      {ContractDecision::kType, "obligations", Json::Array{}},
      {JobResult::kType, "steps", int64_t{1} << 32},
      {JobResult::kType, "payload_size", 0},
      {JobResult::kType, "delta_pico", 1'000'000'000'001},
      {JobResult::kType, "sealed_header", to_base64(Bytes(48, 1))},
      {JobResult::kType, "sealed_header", to_base64(Bytes(4097, 1))},
      {JobStart::kType, "inputs", Json::Array{}},
      {Genesis::kType, "currency", "eur"},
      {Genesis::kType, "currency", "EU"},
      {Genesis::kType, "evidence_roots", Json::Array{}},
      {DatasetOffer::kType, "wrap", to_base64(Bytes(48, 1))},
  };
  auto all = samples();
  for (const auto& lie : lies) {
    SCOPED_TRACE(std::string(lie.type) + " " + lie.member + " " + canonical(lie.value));
    for (const auto& [name, record] : all) {
      if (type_of(record) != lie.type) continue;
      Json body = body_of(record);
      members_of(body)[lie.member] = lie.value;
      EXPECT_FALSE(read_back(lie.type, body));
    }
  }
}

TEST(Manifest, EveryMemberIsPartOfTheDatasetsName) {
  Manifest manifest = sample_manifest("first", 100);
  manifest.categories[manifest.feature_names.front()] = {"north", "south"};
  manifest.policy_parameters = Json::Object{{"most", 5}};
  const DatasetId id = dataset_id(manifest);
  EXPECT_EQ(id.value(), ledger::sha256(as_bytes(canonical(to_json(manifest)))));
  auto json = to_json(manifest);
  for (const auto& [member, value] : *json.object()) {
    Json other = json;
    auto& changed = (*other.object())[member];
    if (auto* text = value.string()) {
      std::string next = *text;
      next.back() = next.back() == '1' ? '2' : '1';
      changed = next;
    } else if (auto* number = value.integer()) {
      changed = *number + 1;
    } else if (member == "feature_shape") {
      changed = Json::Array{1, 2};
    } else if (member == "policy_parameters") {
      (*changed.object())["most"] = 6;
    } else if (member == "categories") {
      (*changed.object())[manifest.feature_names.front()] = Json::Array{"south", "north"};
    } else {
      changed.array()->back() = changed.array()->back().integer() ? Json(7) : Json("other");
    }
    auto back = manifest_from_json(other);
    ASSERT_TRUE(back) << member << ": " << back.error().expected();
    EXPECT_NE(dataset_id(*back), id) << member;
  }
}

TEST(Manifest, ImpossibleOnesAreRefused) {
  auto refuses = [](auto&& change) {
    Manifest manifest = sample_manifest("first", 100);
    change(manifest);
    return !manifest_from_json(to_json(manifest));
  };
  EXPECT_FALSE(refuses([](Manifest&) {}));
  EXPECT_TRUE(refuses([](Manifest& m) { m.name.clear(); }));
  EXPECT_TRUE(refuses([](Manifest& m) { m.name = "\x1b[31mred"; }));
  EXPECT_TRUE(refuses([](Manifest& m) { m.rows = 0; }));
  EXPECT_TRUE(refuses([](Manifest& m) { m.rows = (int64_t{1} << 31) + 1; }));
  EXPECT_TRUE(refuses([](Manifest& m) { m.feature_shape.clear(); }));
  EXPECT_TRUE(refuses([](Manifest& m) { m.feature_shape = {0}; }));
  EXPECT_TRUE(refuses([](Manifest& m) { m.feature_names.pop_back(); }));
  EXPECT_TRUE(refuses([](Manifest& m) {
    m.feature_names.clear();
    m.feature_shape = {4096, 4097};
  }));
  EXPECT_FALSE(refuses([](Manifest& m) {
    m.feature_names.clear();
    m.feature_shape = {4096, 4096};
  }));
  EXPECT_FALSE(refuses([](Manifest& m) { m.categories[m.feature_names.back()] = {"a", "b"}; }));
  EXPECT_TRUE(refuses([](Manifest& m) { m.categories["no such column"] = {"a"}; }));
  EXPECT_TRUE(refuses([](Manifest& m) { m.categories[m.feature_names.back()] = {}; }));
  EXPECT_TRUE(refuses([](Manifest& m) { m.categories[m.feature_names.back()] = {"a", "a"}; }));
  EXPECT_TRUE(refuses([](Manifest& m) { m.categories[m.feature_names.back()] = {"\x1b[31m"}; }));
  EXPECT_TRUE(refuses([](Manifest& m) {
    for (int i = 0; i <= 4096; ++i)
      m.categories[m.feature_names.back()].push_back(std::to_string(i));
  }));
  EXPECT_TRUE(refuses([](Manifest& m) { m.policy_parameters = Json::Array{1}; }));
  EXPECT_TRUE(refuses([](Manifest& m) {
    m.policy_parameters = Json::Object{{"a", std::string(8192, 'x')}};
  }));
  auto empty = to_json(sample_manifest("first", 100));
  (*empty.object())["policy_parameters"] = Json::Object{};
  EXPECT_FALSE(manifest_from_json(empty)) << "one manifest has one text";
  EXPECT_TRUE(refuses([](Manifest& m) { m.size = 0; }));
  EXPECT_TRUE(refuses([](Manifest& m) { m.price = -1; }));
  EXPECT_TRUE(refuses([](Manifest& m) { m.policy.assign(kMaxPolicyBytes + 1, 'x'); }));
  EXPECT_FALSE(refuses([](Manifest& m) { m.policy.assign(kMaxPolicyBytes, 'x'); }));
  EXPECT_TRUE(refuses([](Manifest& m) { m.budget_caps[7] = -2; }));
  EXPECT_TRUE(refuses([](Manifest& m) { m.budget_epsilon_micro = -1; }));
  EXPECT_TRUE(refuses([](Manifest& m) { m.salt.pop_back(); }));
  EXPECT_TRUE(refuses([](Manifest& m) { m.salt[0] = 'G'; }));
}

TEST(Wraps, EachInfoNamesItsPurposeAndEverythingItBinds) {
  MarketId market(digest_named("m")), other_market(digest_named("m2"));
  DatasetId dataset(digest_named("d"));
  ContractId contract(digest_named("c"));
  PublicKey provider(digest_named("key"));
  Digest policy = digest_named("p"), evidence = digest_named("e");
  std::set<std::string> infos = {
      dataset_wrap_info(market, dataset, provider, policy, evidence),
      dataset_wrap_info(other_market, dataset, provider, policy, evidence),
      dataset_wrap_info(market, DatasetId(policy), provider, policy, evidence),
      dataset_wrap_info(market, dataset, PublicKey(policy), policy, evidence),
      dataset_wrap_info(market, dataset, provider, evidence, evidence),
      dataset_wrap_info(market, dataset, provider, policy, policy),
      trainer_wrap_info(market, contract, dataset, evidence),
      trainer_wrap_info(other_market, contract, dataset, evidence),
      trainer_wrap_info(market, ContractId(policy), dataset, evidence),
      trainer_wrap_info(market, contract, DatasetId(policy), evidence),
      trainer_wrap_info(market, contract, dataset, policy),
      header_wrap_info(market, contract),
      header_wrap_info(other_market, contract),
      header_wrap_info(market, ContractId(policy)),
  };
  EXPECT_EQ(infos.size(), 14u);
  EXPECT_EQ(header_wrap_info(MarketId{}, ContractId{}),
            "{\"contract\":\"" + std::string(64, '0') + "\",\"market\":\"" + std::string(64, '0') +
                "\",\"purpose\":\"urn:souk:wrap:header:v1\"}");
}

TEST(Evidence, ItsDigestCoversEveryMember) {
  Evidence evidence = evidence_for("keeper", "keeper");
  auto back = evidence_from_json(to_json(evidence));
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, evidence);
  Evidence kind = evidence, claims = evidence, proof = evidence;
  kind.kind += "x";
  claims.claims += " ";
  proof.proof[0] ^= 1;
  std::set<Digest> digests = {evidence_digest(evidence), evidence_digest(kind),
                              evidence_digest(claims), evidence_digest(proof)};
  EXPECT_EQ(digests.size(), 4u);
}

TEST(Credentials, OneIsBelievedFromItsIssuerInItsMarketOnly) {
  MarketId market(digest_named("m"));
  auto issuer = key_named("issuer");
  Credential credential{key_named("lab").public_key(), "ethics-board", 1'800'000'000'000};
  auto text = canonical(to_json(sign_credential(credential, issuer, market)));
  auto verified = verify_credential(text, market);
  ASSERT_TRUE(verified);
  EXPECT_EQ(verified->issuer, issuer.public_key());
  EXPECT_EQ(verified->credential, credential);

  EXPECT_FALSE(verify_credential(text, MarketId(digest_named("m2"))));
  EXPECT_FALSE(verify_credential(text + " ", market));
  auto envelope = sign_credential(credential, issuer, market);
  envelope.signatures[0].sig = key_named("mallory").sign(envelope.payload);
  EXPECT_FALSE(verify_credential(canonical(to_json(envelope)), market));
  auto deposit = sign_record(Deposit{credential.subject, 5}, issuer, market);
  EXPECT_FALSE(verify_credential(canonical(to_json(deposit)), market));
}

// Against bytes another implementation made from contracts/SPEC.md.
TEST(Vectors, NamesInfosAndPayloadsAreThoseOfTheSpecification) {
  const char* root = std::getenv("SOUK_SOURCE");
  std::ifstream file(std::string(root ? root : ".") + "/tests/vectors/contracts_names.json");
  std::stringstream text;
  text << file.rdbuf();
  auto vectors = parse_json(text.str());
  ASSERT_TRUE(vectors);
  auto at = [&](const char* name) { return *vectors->find(name)->string(); };
  auto digest = [&](const char* name) { return *fixed<32>(*from_hex(at(name))); };

  auto manifest = manifest_from_json(*vectors->find("manifest"));
  ASSERT_TRUE(manifest);
  EXPECT_EQ(to_hex(dataset_id(*manifest)), at("dataset_id"));
  EXPECT_EQ(to_hex(policy_hash(manifest->policy)), at("policy_hash"));
  auto evidence = evidence_from_json(*vectors->find("evidence"));
  ASSERT_TRUE(evidence);
  EXPECT_EQ(to_hex(evidence_digest(*evidence)), at("evidence_digest"));

  MarketId market(digest("market"));
  ContractId contract(digest("contract"));
  DatasetId dataset(digest("dataset_id"));
  Digest proof = digest("evidence_digest");
  EXPECT_EQ(dataset_wrap_info(market, dataset, PublicKey(digest("provider")), digest("policy_hash"),
                              proof),
            at("dataset_wrap_info"));
  EXPECT_EQ(trainer_wrap_info(market, contract, dataset, proof), at("trainer_wrap_info"));
  EXPECT_EQ(header_wrap_info(market, contract), at("header_wrap_info"));

  PublicKey author(digest("author"));
  Digest account_bytes;
  account_bytes.fill(0x1f);
  PublicKey account(account_bytes);
  EXPECT_EQ(as_text(payload_of(Deposit{account, 100'000}, author, to_hex(market), at("nonce"))),
            at("deposit_payload"));

  // The receipt is read from those bytes, and written as the same.
  auto statement = parse_canonical(at("job_result_payload"));
  ASSERT_TRUE(statement);
  Json members = *statement->find("predicate");
  for (const char* common : {"author", "market", "nonce"}) members.object()->erase(common);
  auto result = members_from_json(JobResult::kType, members);
  ASSERT_TRUE(result) << result.error().expected();
  EXPECT_EQ(as_text(payload_of(*result, author, to_hex(market), at("nonce"))),
            at("job_result_payload"));
}

TEST(Nonces, AreThirtyTwoHexDigitsAndFresh) {
  auto one = fresh_nonce();
  EXPECT_EQ(one.size(), 32u);
  EXPECT_TRUE(from_hex(one));
  EXPECT_NE(one, fresh_nonce());
}

}  // namespace
}  // namespace souk::contracts
