// Bad input over HTTP: one problem document with a code and a sentence, and nothing
// left behind.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <thread>
#include <vector>

#include "ledger/crypto/hash.h"
#include "ledger/crypto/random.h"
#include "tests/support/live_story.h"

namespace souk::flows {
namespace {

namespace fs = std::filesystem;

class HttpFlow : public ::testing::Test {
 protected:
  void SetUp() override {
    if (program("soukd").empty() || program("souk-enclave").empty()) {
      FAIL() << "expected soukd and souk-enclave in $SOUK_BIN";
    }
    auto started = market.start();
    ASSERT_TRUE(started) << started.error().expected();
    ASSERT_TRUE(market.sync());
    size = market.state().size();
  }
  void TearDown() override {
    if (!market.running()) return;
    // Whatever was refused, the market serves and its ledger is whole.
    auto health = market.get("/healthz");
    EXPECT_TRUE(health) << health.error().expected();
    EXPECT_TRUE(market.sync());
    market.kill_host();
    EXPECT_EQ(market.audit(), "");
  }

  void expect_problem(const std::string& method, const std::string& path, ByteView body, int status,
                      const std::string& code) {
    SCOPED_TRACE(method + " " + path + " " +
                 std::string(as_text(body.first(std::min<size_t>(body.size(), 200)))));
    auto response = market.http(method, path, body);
    ASSERT_TRUE(response) << response.error().expected();
    EXPECT_EQ(response->status, status) << as_text(response->body);
    EXPECT_EQ(response->content_type, "application/problem+json");
    auto json = parse_json(as_text(response->body));
    ASSERT_TRUE(json) << as_text(response->body);
    for (const char* member : {"code", "detail", "title", "type"}) {
      ASSERT_TRUE(json->find(member) && json->find(member)->string()) << member;
    }
    EXPECT_EQ(*json->find("code")->string(), code) << *json->find("detail")->string();
    EXPECT_FALSE(json->find("detail")->string()->empty());
    EXPECT_EQ(*json->find("status")->integer(), status);
  }
  void expect_problem(const std::string& method, const std::string& path, const std::string& body,
                      int status, const std::string& code) {
    expect_problem(method, path, as_bytes(body), status, code);
  }
  void expect_nothing_recorded() {
    ASSERT_TRUE(market.sync());
    EXPECT_EQ(market.state().size(), size);
  }
  size_t files() const {
    size_t count = 0;
    for (const auto& entry : fs::recursive_directory_iterator(market.data() + "/blobs")) {
      if (entry.is_regular_file() && entry.path().filename() != "lock") ++count;
    }
    return count;
  }
  std::string text_of(const ledger::Envelope& envelope) {
    return canonical(ledger::to_json(envelope));
  }
  Offered small_offer(const Party& by) {
    return offer_of(by, {}, market.market(), *market.state().keeper(), to_bytes("rows"), 2);
  }

  LiveMarket market;
  Party provider{"north"};
  Party lab{"lab"};
  uint64_t size = 0;
};

TEST_F(HttpFlow, UnknownPathsAndMethods) {
  for (const char* path :
       {"/", "/v1", "/v1/", "/v2/market", "/v1/nothing", "/v1/market/x", "/v1/jobs",
        "/v1/uploads/x/y/z", "/v1/../etc/passwd", "/v1/blobs/../../ledger.db"}) {
    auto response = market.http("GET", path);
    ASSERT_TRUE(response) << path;
    EXPECT_GE(response->status, 400) << path;
    EXPECT_LT(response->status, 500) << path;
  }
  expect_problem("GET", "/v1/nothing", "", 404, "not_found");
  expect_problem("POST", "/v1/market", "{}", 404, "not_found");
  expect_problem("PUT", "/v1/entries", "{}", 404, "not_found");
  expect_problem("GET", "/v1/jobs/zz", "", 400, "malformed");
  expect_problem("GET", "/v1/jobs/" + std::string(64, 'A'), "", 400, "malformed");
  expect_problem("GET", "/v1/jobs/" + std::string(64, '0'), "", 404, "not_found");
  expect_problem("GET", "/v1/jobs/" + std::string(64, '0') + "/header", "", 404, "not_found");
  expect_problem("GET", "/v1/blobs/" + std::string(64, '0'), "", 404, "not_found");
}

TEST_F(HttpFlow, NumbersThatAreNone) {
  for (const char* query :
       {"from=-1", "from=x", "from=", "from=99999999999999999999", "from=0&max=1.5"}) {
    expect_problem("GET", std::string("/v1/entries?") + query, "", 400, "malformed");
  }
  for (const char* query : {"", "?seq=", "?seq=one", "?seq=0&seq=1"}) {
    expect_problem("GET", std::string("/v1/proof") + query, "", 400, "malformed");
  }
  expect_problem("GET", "/v1/proof?seq=18446744073709551615", "", 404, "not_found");
  expect_problem("GET", "/v1/consistency?old=5&new=1", "", 400, "malformed");
  expect_problem("GET", "/v1/consistency?old=0&new=1", "", 400, "malformed");
  expect_problem("GET", "/v1/consistency?old=1&new=18446744073709551615", "", 400, "malformed");
  for (const char* nonce : {"", "?nonce=", "?nonce=zz", "?nonce=00"}) {
    expect_problem("GET", std::string("/v1/keeper") + nonce, "", 400, "malformed");
  }
  auto past = market.get("/v1/entries?from=18446744073709551615");
  ASSERT_TRUE(past);
  EXPECT_TRUE(past->find("leaves")->array()->empty());
}

TEST_F(HttpFlow, EntriesThatAreNone) {
  auto deposit = contracts::sign_record(contracts::Deposit{lab.account(), 5}, market.treasury.key,
                                        market.market());
  std::string good = text_of(deposit);
  const std::vector<std::string> lies = {"",
                                         "{",
                                         "[]",
                                         "null",
                                         "{}",
                                         "not json",
                                         good + " ",
                                         " " + good,
                                         good.substr(0, good.size() - 1),
                                         std::string(70'000, '{'),
                                         std::string(70'000, 'x'),
                                         "{\"payload\":\"\"}"};
  for (const auto& lie : lies) expect_problem("POST", "/v1/entries", lie, 400, "malformed");

  auto forged = deposit;
  forged.signatures[0].sig = lab.key.sign(as_bytes("something else"));
  expect_problem("POST", "/v1/entries", text_of(forged), 401, "unauthentic");
  auto changed = deposit;
  changed.payload_type = contracts::DatasetRevoke::kType;
  expect_problem("POST", "/v1/entries", text_of(changed), 401, "unauthentic");
  expect_nothing_recorded();
  EXPECT_EQ(market.state().minted(), 0);
}

TEST_F(HttpFlow, RecordsThatAreNotForParticipants) {
  contracts::Tick tick;
  expect_problem("POST", "/v1/entries",
                 text_of(contracts::sign_record(tick, lab.key, market.market())), 403, "refused");
  contracts::JobAbort abort;
  abort.contract = ContractId(ledger::sha256(as_bytes("c")));
  abort.reason = "trainer_died";
  expect_problem("POST", "/v1/entries",
                 text_of(contracts::sign_record(abort, lab.key, market.market())), 403, "refused");
  // A record of another market; a payload with a member too many.
  MarketId other(ledger::sha256(as_bytes("another market")));
  auto foreign =
      contracts::sign_record(contracts::Deposit{lab.account(), 5}, market.treasury.key, other);
  expect_problem("POST", "/v1/entries", text_of(foreign), 403, "refused");
  Json::Object body =
      *parse_canonical(as_text(contracts::payload_of(
                           contracts::Deposit{lab.account(), 5}, market.treasury.account(),
                           to_hex(market.market()), contracts::fresh_nonce())))
           ->object();
  body["bonus"] = 1;
  auto extra = ledger::sign_envelope(market.treasury.key, contracts::Deposit::kType,
                                     to_bytes(canonical(body)));
  expect_problem("POST", "/v1/entries", text_of(extra), 400, "malformed");
  expect_nothing_recorded();
}

TEST_F(HttpFlow, AnOfferWithoutItsBlobIsNotRecorded) {
  auto offered = small_offer(provider);
  auto envelope = contracts::sign_record(offered.offer, provider.key, market.market());
  expect_problem("POST", "/v1/entries", text_of(envelope), 404, "not_found");
  ASSERT_TRUE(market.upload(offered.file, offered.file.size() / 2));
  expect_problem("POST", "/v1/entries", text_of(envelope), 404, "not_found");
  expect_nothing_recorded();
  // A manifest that lies about the size of a blob that is here.
  ASSERT_TRUE(market.upload(offered.file, offered.file.size()));
  auto lie = offered.offer;
  lie.manifest.size += 1;
  expect_problem("POST", "/v1/entries",
                 text_of(contracts::sign_record(lie, provider.key, market.market())), 404,
                 "not_found");
  expect_nothing_recorded();
  EXPECT_TRUE(market.record(envelope));
}

TEST_F(HttpFlow, AnEntryWithoutEffectSaysWhyAndIsNotRecorded) {
  contracts::Deposit deposit{lab.account(), 1000};
  expect_problem("POST", "/v1/entries",
                 text_of(contracts::sign_record(deposit, lab.key, market.market())), 409,
                 "conflict");
  contracts::DatasetRevoke revoke{DatasetId(ledger::sha256(as_bytes("none")))};
  expect_problem("POST", "/v1/entries",
                 text_of(contracts::sign_record(revoke, lab.key, market.market())), 409,
                 "conflict");
  expect_nothing_recorded();
  EXPECT_EQ(market.state().minted(), 0);
  // The same nonce for other words.
  auto nonce = contracts::fresh_nonce();
  auto first = contracts::sign_record(contracts::Deposit{lab.account(), 1}, market.treasury.key,
                                      market.market(), nonce);
  auto second = contracts::sign_record(contracts::Deposit{lab.account(), 2}, market.treasury.key,
                                       market.market(), nonce);
  ASSERT_TRUE(market.record(first));
  ASSERT_TRUE(market.record(first));
  expect_problem("POST", "/v1/entries", text_of(second), 409, "conflict");
  ASSERT_TRUE(market.sync());
  EXPECT_EQ(market.state().balance(lab.account()), 1);
}

TEST_F(HttpFlow, AnotherProvidersCiphertextIsNotOfferedAsOnesOwn) {
  auto offered = small_offer(provider);
  ASSERT_TRUE(market.upload(offered.file, offered.file.size()));
  ASSERT_TRUE(market.record(contracts::sign_record(offered.offer, provider.key, market.market())));
  ASSERT_TRUE(market.sync());
  auto recorded = market.state().size();
  auto stolen = offered.offer;
  stolen.manifest.name = "mine";
  stolen.manifest.salt = std::string(32, '5');
  expect_problem("POST", "/v1/entries",
                 text_of(contracts::sign_record(stolen, lab.key, market.market())), 403, "refused");
  ASSERT_TRUE(market.sync());
  EXPECT_EQ(market.state().size(), recorded);
  // Its owner may offer it twice.
  EXPECT_TRUE(market.record(contracts::sign_record(stolen, provider.key, market.market())));
}

TEST_F(HttpFlow, BytesThatAreNoAgeFileAreNotOfferedAsADataset) {
  auto offered = small_offer(provider);
  for (const Bytes& bytes : {to_bytes("x"), to_bytes("age-encryption.org/v1\n"), Bytes(5000, 7),
                             Bytes(offered.file.begin(), offered.file.begin() + 60)}) {
    auto offer = offered.offer;
    offer.manifest.ciphertext = ledger::sha256(bytes);
    offer.manifest.size = static_cast<int64_t>(bytes.size());
    ASSERT_TRUE(market.upload(bytes, bytes.size()));
    expect_problem("POST", "/v1/entries",
                   text_of(contracts::sign_record(offer, provider.key, market.market())), 403,
                   "refused");
  }
  expect_nothing_recorded();
}

// Made by hand: the client would not have sent them.
TEST_F(HttpFlow, APolicyThatAnswersNobodyIsNotRecorded) {
  auto offered = small_offer(provider);
  ASSERT_TRUE(market.upload(offered.file, offered.file.size()));
  for (const char* policy : {"", "return 5", "while true do end",
                             "local t = {} while true do t[#t + 1] = string.rep('x', 65536) end"}) {
    SCOPED_TRACE(policy);
    auto offer = offered.offer;
    offer.manifest.policy = policy;
    expect_problem("POST", "/v1/entries",
                   text_of(contracts::sign_record(offer, provider.key, market.market())), 403,
                   "refused");
  }
  expect_nothing_recorded();
  ASSERT_TRUE(market.record(contracts::sign_record(offered.offer, provider.key, market.market())));
  contracts::PolicyPublish publish{.dataset = offered.id,
                                   .source = "error('never')",
                                   .parameters = Json::Object{},
                                   .engine = ""};
  expect_problem("POST", "/v1/entries",
                 text_of(contracts::sign_record(publish, provider.key, market.market())), 403,
                 "refused");
  EXPECT_TRUE(market.record(contracts::sign_record(
      contracts::PolicyPublish{offered.id, "return {allow = false}", Json::Object{}, ""},
      provider.key, market.market())));
}

TEST_F(HttpFlow, UploadsThatAreNone) {
  const std::string digest(64, '0');
  const std::vector<std::string> bodies = {
      "{",
      "{}",
      "[1]",
      std::string("{\"digest\":\"zz\",\"size\":1}"),
      "{\"digest\":\"" + digest + "\"}",
      "{\"digest\":\"" + digest + "\",\"size\":0}",
      "{\"digest\":\"" + digest + "\",\"size\":-1}",
      "{\"digest\":\"" + digest + "\",\"size\":1.5}",
      "{\"digest\":\"" + digest + "\",\"size\":9007199254740991}",
      "{\"digest\":\"" + digest + "\",\"size\":1,\"more\":1}"};
  for (const auto& body : bodies) {
    expect_problem("POST", "/v1/uploads", body, 400, "malformed");
  }
  expect_problem("PUT", "/v1/uploads/" + digest + ".9?offset=0", "x", 404, "not_found");
  expect_problem("POST", "/v1/uploads/" + digest + ".9/commit", "", 404, "not_found");
  expect_problem("PUT", "/v1/uploads/" + digest + "?offset=0", "x", 400, "malformed");
  expect_problem("PUT", "/v1/uploads/zz?offset=0", "x", 400, "malformed");
  expect_problem("PUT", "/v1/uploads/" + digest, "x", 400, "malformed");
  EXPECT_EQ(files(), 0U);
}

TEST_F(HttpFlow, UploadsThatGoWrong) {
  Bytes file = to_bytes("sixteen bytes ok");
  std::string id = to_hex(ByteView(ledger::sha256(file)));
  // A stranger who announces another size for this digest comes first, and is in nobody's way.
  Json stranger = Json::Object{{"digest", id}, {"size", 17}};
  ASSERT_TRUE(market.json("POST", "/v1/uploads", stranger));
  ASSERT_TRUE(market.upload(file, 8));
  std::string put = "/v1/uploads/" + id + ".16";
  expect_problem("PUT", put + "?offset=9", "x", 409, "conflict");      // a hole
  expect_problem("PUT", put + "?offset=0", "other", 409, "conflict");  // other bytes than before
  expect_problem("PUT", put + "?offset=8", "nine bytes!", 403,
                 "refused");                                     // past the announced size
  expect_problem("POST", put + "/commit", "", 409, "conflict");  // bytes are missing
  EXPECT_TRUE(market.upload(file, file.size()));
  expect_problem("POST", "/v1/uploads", "{\"digest\":\"" + id + "\",\"size\":17}", 409, "conflict");

  // Bytes that have another digest: refused, forgotten.
  Bytes lie = to_bytes("what was promised");
  std::string promised = to_hex(ByteView(ledger::sha256(lie)));
  ASSERT_TRUE(
      market.json("POST", "/v1/uploads", Json::Object{{"digest", promised}, {"size", lie.size()}}));
  lie[0] ^= 1;
  std::string upload = "/v1/uploads/" + promised + "." + std::to_string(lie.size());
  ASSERT_EQ(market.http("PUT", upload + "?offset=0", lie)->status, 200);
  expect_problem("POST", upload + "/commit", "", 401, "unauthentic");
  expect_problem("GET", "/v1/blobs/" + promised, "", 404, "not_found");
  EXPECT_EQ(files(), 2U);  // the one good blob, and the stranger's empty upload
}

TEST_F(HttpFlow, AnOfferIsMadeAmongMoreUploadsThanThereAreThatNobodyFinishes) {
  auto begin = [&] {
    auto digest = ledger::random_array<32>();
    auto begun = market.json("POST", "/v1/uploads",
                             Json::Object{{"digest", to_hex(ByteView(digest))}, {"size", 1}});
    ASSERT_TRUE(begun) << begun.error().expected();
  };
  for (int i = 0; i < 1100; ++i) begin();
  EXPECT_EQ(files(), 1024U);
  auto offered = small_offer(provider);
  ASSERT_TRUE(market.upload(offered.file, offered.file.size() / 2));
  for (int i = 0; i < 100; ++i) begin();
  ASSERT_TRUE(market.upload(offered.file, offered.file.size()));
  EXPECT_TRUE(market.record(contracts::sign_record(offered.offer, provider.key, market.market())));
}

TEST_F(HttpFlow, PiecesThatAreTooLarge) {
  Bytes file((9 << 20), 0x5a);
  std::string id = to_hex(ByteView(ledger::sha256(file)));
  ASSERT_TRUE(
      market.json("POST", "/v1/uploads", Json::Object{{"digest", id}, {"size", file.size()}}));
  std::string upload = "/v1/uploads/" + id + "." + std::to_string(file.size());
  auto response = market.http("PUT", upload + "?offset=0", file);
  if (response) {
    EXPECT_GE(response->status, 400);
    EXPECT_LT(response->status, 500);
  }
  auto begun =
      market.json("POST", "/v1/uploads", Json::Object{{"digest", id}, {"size", file.size()}});
  ASSERT_TRUE(begun);
  EXPECT_EQ(*begun->find("offset")->integer(), 0);
  auto huge = market.http("POST", "/v1/entries", Bytes(size_t{20} << 20, '{'));
  if (huge) {
    EXPECT_GE(huge->status, 400);
    EXPECT_LT(huge->status, 500);
  }
}

TEST_F(HttpFlow, QuotesThatAreNone) {
  const std::string key(64, '0');
  const std::vector<std::string> bodies = {
      "{",
      "{}",
      "[]",
      "{\"consumer\":\"" + key + "\"}",
      "{\"consumer\":\"zz\",\"submit\":{}}",
      "{\"consumer\":\"" + key + "\",\"submit\":{}}",
      "{\"consumer\":\"" + key + "\",\"submit\":[]}",
      "{\"consumer\":\"" + key + "\",\"submit\":{\"spec\":1}}",
      "{\"consumer\":\"" + key + "\",\"submit\":{},\"more\":1}"};
  for (const auto& body : bodies) {
    expect_problem("POST", "/v1/quotes", body, 400, "malformed");
  }
  // Deeper and larger than any contract.
  std::string deep = "{\"consumer\":\"" + key + "\",\"submit\":" + std::string(5000, '[') +
                     std::string(5000, ']') + "}";
  expect_problem("POST", "/v1/quotes", deep, 400, "malformed");
  for (size_t megabytes : {size_t{1}, size_t{5}, size_t{12}}) {
    std::string large = "{\"consumer\":\"" + key + "\",\"submit\":{\"purpose\":\"" +
                        std::string(megabytes << 20, 'x') + "\"}}";
    expect_problem("POST", "/v1/quotes", large, 400, "malformed");
  }
  expect_nothing_recorded();
}

// Who asks without end, for nothing, is told to come back, and holds up no contract.
TEST_F(HttpFlow, AFloodOfDearQuotesIsTurnedAwayAndHoldsUpNoDecision) {
  // A pool of ten datasets, of people with ever more rows: each part is judged for itself.
  std::vector<DatasetId> persons;
  for (int64_t cap = 7; cap <= 16; ++cap) {
    auto rows = offer_of(provider, {.user_cap = cap}, market.market(), *market.state().keeper(),
                         to_bytes("rows of persons " + std::to_string(cap)), 2);
    ASSERT_TRUE(market.upload(rows.file, rows.file.size()));
    ASSERT_TRUE(market.record(contracts::sign_record(rows.offer, provider.key, market.market())));
    persons.push_back(rows.id);
  }
  contracts::ContractSubmit dear;
  dear.spec = private_spec(2, 1, 2);
  dear.spec.steps = 1;
  dear.spec.learning_rate = {{1, 0.5}};
  dear.spec.sampling_threshold = uint64_t{1} << 51;
  dear.spec.privacy->noise_multiplier = 0.05;
  dear.spec.privacy->delta_pico = 100'000;
  dear.spec.privacy->user_cap = 16;
  dear.spec.privacy->epsilon_micro = 1'000'000'000'000;
  for (size_t i = 0; i < persons.size(); ++i) {
    dear.spec.privacy->pool.push_back({1 - 0.05 * static_cast<double>(i),
                                       dear.spec.privacy->epsilon_micro,
                                       dear.spec.sampling_threshold});
  }
  dear.datasets = persons;
  dear.purpose = "research";
  dear.offered = 1000;
  dear.deadline_minutes = 60;
  dear.recipient = lab.recipient();
  const std::string body = canonical(
      Json::Object{{"consumer", lab.account()}, {"submit", contracts::members_json(dear)}});
  std::atomic<bool> over = false;
  std::atomic<int> answered = 0, turned_away = 0, wrong = 0;
  std::vector<std::thread> askers;
  for (int i = 0; i < 12; ++i) {
    askers.emplace_back([&] {
      auto client = market::HttpClient::open(market.url());
      while (!over) {
        auto answer = client->send("POST", "/v1/quotes", as_bytes(body), "application/json");
        if (answer && answer->status == 200 &&
            as_text(answer->body).find("too_costly") != std::string_view::npos) {
          ++answered;
        } else if (answer && answer->status == 503 && answer->headers.count("retry-after") == 1) {
          ++turned_away;
          std::this_thread::sleep_for(std::chrono::milliseconds(50));
        } else {
          ++wrong;
        }
      }
    });
  }
  for (int i = 0; i < 3000 && turned_away == 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  // A contract is as cheap to make; one that is paid for goes first.
  auto submit = contracts::sign_record(dear, lab.key, market.market());
  ASSERT_TRUE(market.record(submit));
  int before = answered;
  auto phase =
      market.phase_after(contracts::contract_id(submit.payload), {contracts::Phase::kSubmitted});
  int between = answered - before;
  over = true;
  for (auto& asker : askers) asker.join();
  ASSERT_TRUE(phase) << phase.error().expected();
  EXPECT_EQ(*phase, contracts::Phase::kRefused);
  EXPECT_LE(between, 2) << "only the one that was under way";
  EXPECT_GT(turned_away, 0);
  EXPECT_GT(answered, 0);
  EXPECT_EQ(wrong, 0);
}

TEST_F(HttpFlow, BlobRanges) {
  Bytes file = to_bytes("sixteen bytes ok");
  std::string path = "/v1/blobs/" + to_hex(ByteView(ledger::sha256(file)));
  ASSERT_TRUE(market.upload(file, file.size()));
  EXPECT_EQ(market.http("GET", path)->body, file);
  EXPECT_EQ(market.http("GET", path + "?offset=8&length=5")->body, to_bytes("bytes"));
  EXPECT_EQ(market.http("GET", path + "?offset=14&length=99")->body, to_bytes("ok"));
  EXPECT_TRUE(market.http("GET", path + "?offset=16")->body.empty());
  EXPECT_EQ(market.http("GET", path + "?offset=1&length=18446744073709551615")->body.size(), 15U);
  expect_problem("GET", path + "?offset=17", "", 400, "malformed");
  expect_problem("GET", path + "?offset=x", "", 400, "malformed");
}

}  // namespace
}  // namespace souk::flows
