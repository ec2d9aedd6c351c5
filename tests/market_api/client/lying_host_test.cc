// Publishing and receiving against a host that lies: one clear sentence, and nothing left behind.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>

#include "ledger/crypto/hash.h"
#include "market_api/client/publish.h"
#include "market_api/client/receive.h"
#include "market_api/client/stored_model.h"
#include "tests/market_api/client/market_server.h"

namespace souk::market {
namespace {

using flows::MarketFixture;
using flows::TempFolder;

constexpr uint64_t kNoSuchByte = uint64_t{1} << 40;

Response no_answer() {
  return problem(Error(Code::kTryAgain, "not now"));
}

// ---- publish ----------------------------------------------------------------------------

class LyingHostPublish : public ::testing::Test {
 protected:
  LyingHostPublish() : server(market), line(server.line()), north(server.join("north")) {
    view.emplace(MarketView::open(market.market(), "").take());
  }

  // More than two of the pieces an upload is sent in.
  static trainer::Dataset rows() {
    trainer::Dataset dataset;
    constexpr size_t kRows = 9 << 10, kFeatures = 1 << 10;
    dataset.features = std::vector<uint8_t>(kRows * kFeatures, 7);
    dataset.labels.resize(kRows);
    dataset.labels[1] = 1;
    dataset.schema.feature_shape = {kFeatures};
    dataset.schema.label_name = "kind";
    dataset.schema.classes = {"a", "b"};
    return dataset;
  }
  Result<Published> publish() {
    Offer offer{
        "rows", "north", "return {allow = true}", Json::Object{}, 5, 1'000'000, 10'000'000, "",
        1,      {}};
    return market::publish(rows(), offer, north, line, *view, {});
  }
  void expect_refused(Code code, const std::string& clue) {
    auto published = publish();
    ASSERT_FALSE(published);
    EXPECT_EQ(published.error().code(), code) << published.error().expected();
    EXPECT_NE(published.error().expected().find(clue), std::string::npos)
        << published.error().expected();
    EXPECT_TRUE(market.state().datasets().empty()) << "an offer was recorded";
  }
  static bool is_piece(const Request& request) { return request.method == "PUT"; }
  static bool is_begin(const Request& request) { return request.path == "/v1/uploads"; }
  static bool is_commit(const Request& request) {
    return request.path.find("/commit") != std::string::npos;
  }

  MarketFixture market;
  MarketServer server;
  MarketLine line;
  Identity north;
  std::optional<MarketView> view;
};

TEST_F(LyingHostPublish, AnHonestHostGetsItAll) {
  auto published = publish();
  ASSERT_TRUE(published) << published.error().expected();
  ASSERT_TRUE(market.state().dataset(published->dataset));
  auto size = server.blobs().size(published->ciphertext);
  ASSERT_TRUE(size);
  auto file = server.blobs().read(published->ciphertext, 0, *size);
  auto plain = trainer::decrypt_file(*file, north.age());
  ASSERT_TRUE(plain) << plain.error().expected();
}

TEST_F(LyingHostPublish, WhatTheLedgerWouldRefuseIsNotUploaded) {
  int uploads = 0;
  server.lie([&](const Request& request, Response&) { uploads += is_begin(request); });
  const Offer good{
      "rows", "north", "return {allow = true}", Json::Object{}, 5, 1'000'000, 10'000'000, "",
      1,      {}};
  std::vector<Offer> bad(4, good);
  bad[0].name = "two\nlines";
  bad[1].name = std::string(257, 'x');
  bad[2].provider_name = "";
  bad[3].policy = std::string(40'000, ' ');
  for (const Offer& offer : bad) {
    auto published = market::publish(rows(), offer, north, line, *view, {});
    ASSERT_FALSE(published);
    EXPECT_EQ(published.error().code(), Code::kMalformed) << published.error().expected();
  }
  EXPECT_EQ(uploads, 0);
}

TEST_F(LyingHostPublish, AnInterruptedUploadGoesOnWhereTheHostStopped) {
  int pieces = 0, lost = 0;
  server.instead([&](const Request& request) -> std::optional<Response> {
    if (!is_piece(request)) return std::nullopt;
    ++pieces;
    // The second piece is lost on the way twice.
    if (pieces == 2 || pieces == 3) return ++lost, no_answer();
    return std::nullopt;
  });
  auto published = publish();
  ASSERT_TRUE(published) << published.error().expected();
  EXPECT_EQ(lost, 2);
  EXPECT_EQ(pieces, 5);  // three, and two of them again
}

TEST_F(LyingHostPublish, AnOutageOfSecondsIsWaitedOutAndTold) {
  using Clock = std::chrono::steady_clock;
  std::optional<Clock::time_point> began;
  int pieces = 0;
  std::vector<std::string> told;
  line.wait_out(MarketLine::kPatience, [&](const std::string& why) { told.push_back(why); });
  // From the second piece on nobody answers anything for a while, not even where to go on.
  server.instead([&](const Request& request) -> std::optional<Response> {
    if (is_piece(request) && ++pieces == 2) began = Clock::now();
    bool away = began && Clock::now() - *began < std::chrono::seconds(2);
    return away ? std::optional(no_answer()) : std::nullopt;
  });
  auto published = publish();
  ASSERT_TRUE(published) << published.error().expected();
  EXPECT_EQ(pieces, 4);  // three, and one of them again
  ASSERT_GE(told.size(), 2u);
  EXPECT_EQ(told.front(), "no answer yet, trying for 60 s more");
}

TEST_F(LyingHostPublish, AnOutageAtTheLastAnswerIsWaitedOutToo) {
  int commits = 0;
  server.lie([&](const Request& request, Response& answer) {
    if (is_commit(request) && ++commits <= 2) answer = no_answer();  // kept, and not said
  });
  ASSERT_TRUE(publish());
  EXPECT_EQ(commits, 3);
}

TEST_F(LyingHostPublish, AnAnswerThatGotLostCostsNoPieceTwice) {
  int pieces = 0;
  server.lie([&](const Request& request, Response& answer) {
    if (is_piece(request) && ++pieces == 2) answer = no_answer();  // taken, and not said
  });
  ASSERT_TRUE(publish());
  EXPECT_EQ(pieces, 3);
}

TEST_F(LyingHostPublish, AHostThatTakesNothingIsNotAskedForEver) {
  line.wait_out(std::chrono::seconds(2));
  int pieces = 0;
  server.instead([&](const Request& request) -> std::optional<Response> {
    if (!is_piece(request)) return std::nullopt;
    ++pieces;
    return no_answer();
  });
  expect_refused(Code::kTryAgain, "not now");
  EXPECT_LT(pieces, 10);
}

TEST_F(LyingHostPublish, AHostThatForgetsAgainAndAgainIsNotFedForEver) {
  line.wait_out(std::chrono::seconds(2));
  int pieces = 0;
  server.instead([&](const Request& request) -> std::optional<Response> {
    if (is_begin(request)) {
      return json_response(200, Json::Object{{"offset", 0}, {"upload", "x"}});
    }
    if (!is_piece(request)) return std::nullopt;
    if (++pieces % 2 == 0) return no_answer();
    return json_response(200, Json::Object{{"offset", request.body.size()}});
  });
  expect_refused(Code::kTryAgain, "not now");
  EXPECT_LT(pieces, 20);
}

TEST_F(LyingHostPublish, AWrongOffsetIsRefused) {
  for (const Json& offset : {Json(kNoSuchByte), Json(int64_t{-1}), Json("0"), Json(nullptr)}) {
    server.lie([&](const Request& request, Response& answer) {
      if (is_begin(request)) {
        answer = json_response(200, Json::Object{{"offset", offset}, {"upload", "x"}});
      }
    });
    expect_refused(Code::kRefused, "offset");
  }
  for (int64_t offset : {int64_t{0}, int64_t{1}, int64_t{-5}, int64_t{kNoSuchByte}}) {
    server.lie([&](const Request& request, Response& answer) {
      if (is_piece(request)) answer = json_response(200, Json::Object{{"offset", offset}});
    });
    expect_refused(Code::kRefused, offset < 0 ? "offset" : "it says " + std::to_string(offset));
  }
}

TEST_F(LyingHostPublish, AHostThatSkipsAheadCannotFinishWhatItDoesNotHave) {
  // It claims the first bytes, then says it kept the whole.
  server.lie([&](const Request& request, Response& answer) {
    if (is_begin(request)) {
      auto body = parse_json(as_text(answer.body)).take();
      (*body.object())["offset"] = 5;
      answer = json_response(200, body);
    }
  });
  expect_refused(Code::kConflict, "offset 0");
}

TEST_F(LyingHostPublish, AnotherDigestKeptIsRefused) {
  server.lie([&](const Request& request, Response& answer) {
    if (is_commit(request)) {
      answer = json_response(201, Json::Object{{"digest", ledger::sha256(to_bytes("other"))}});
    }
  });
  expect_refused(Code::kRefused, "to keep");
  server.lie([&](const Request& request, Response& answer) {
    if (is_commit(request)) answer = json_response(201, Json::Object{{"ok", true}});
  });
  expect_refused(Code::kRefused, "digest");
}

TEST_F(LyingHostPublish, WhatAStrangerBeganUnderThisDigestDelaysItOnce) {
  // Knowing the digest beforehand, somebody has filled the upload with rubbish.
  bool squatted = false;
  server.instead([&](const Request& request) -> std::optional<Response> {
    if (!is_begin(request) || squatted) return std::nullopt;
    squatted = true;
    auto body = parse_json(as_text(request.body)).take();
    auto fields = Fields::of(body, "upload").take();
    Digest digest = fields.digest("digest").take();
    auto size = static_cast<uint64_t>(fields.integer("size").take());
    auto upload = server.blobs().begin(digest, size);
    EXPECT_TRUE(server.blobs().write(*upload, 0, Bytes(static_cast<size_t>(size), 'x')));
    return std::nullopt;
  });
  auto published = publish();
  ASSERT_TRUE(published) << published.error().expected();
  EXPECT_TRUE(squatted);
}

TEST_F(LyingHostPublish, AnOldLedgerIsRefusedBeforeAnythingIsSent) {
  market.deposit(market.lab.account(), 70);
  ASSERT_TRUE(view->sync(line));
  server.show_old(market.history().size() - 1);
  int uploads = 0;
  server.lie([&](const Request& request, Response&) { uploads += is_begin(request); });
  expect_refused(Code::kUnauthentic, "rolled back or forked");
  EXPECT_EQ(uploads, 0);
}

TEST_F(LyingHostPublish, EvidenceThatIsNotFreshGetsNoKey) {
  auto old = market.state().keeper()->evidence_record;
  server.lie([&](const Request& request, Response& answer) {
    if (request.path == "/v1/keeper") {
      answer = json_response(200, Json::Object{{"evidence", contracts::to_json(old)}});
    }
  });
  expect_refused(Code::kUnauthentic, "nonce");
  // Of an enclave that is not the one on the ledger.
  auto fake = market.stand_in(ContractId(), std::string(64, '0'));
  server.lie([&](const Request& request, Response& answer) {
    if (request.path != "/v1/keeper") return;
    auto claims = market.trainer_claims(fake, ContractId(), request.query.at("nonce"));
    claims.role = "keeper";
    claims.contract = "";
    auto evidence = trainer::simulate_evidence(market.platform(), claims);
    answer = json_response(200, Json::Object{{"evidence", contracts::to_json(evidence)}});
  });
  expect_refused(Code::kUnauthentic, "the keeper that the ledger records");
}

// A stranger's erasure comes just before each of the first `times` offers.
class PublishBesideErasures : public LyingHostPublish {
 protected:
  void erase_before_offers(int times) {
    for (int i = 0; i < times; ++i) doomed.push_back(market.publish(market.providers[0]));
    view.emplace(MarketView::open(market.market(), "").take());
    server.instead([this](const Request& request) -> std::optional<Response> {
      if (request.method != "POST" || request.path != "/v1/entries") return std::nullopt;
      ++offers;
      if (doomed.empty()) return std::nullopt;
      contracts::DatasetErase erase{doomed.back().id};
      doomed.pop_back();
      market.append(contracts::sign_record(erase, market.providers[0].key, market.market()));
      market.follow();
      CHECK(market.record(trainer::Kind::kBoot, Json::Object{}));
      market.follow();
      return std::nullopt;
    });
  }
  std::vector<flows::Offered> doomed;
  int offers = 0;
};

TEST_F(PublishBesideErasures, AnOfferWhoseKeeperForgotItsKeyIsWrappedAnew) {
  erase_before_offers(3);
  auto published = publish();
  ASSERT_TRUE(published) << published.error().expected();
  EXPECT_EQ(offers, 4);
  const auto* dataset = market.state().dataset(published->dataset);
  ASSERT_TRUE(dataset);
  EXPECT_EQ(dataset->keeper_evidence, market.state().keeper()->evidence);
}

TEST_F(PublishBesideErasures, AKeeperThatForgetsEveryKeyIsNotWrappedToForEver) {
  erase_before_offers(12);
  int pieces = 0;
  server.lie([&](const Request& request, Response&) { pieces += is_piece(request); });
  auto published = publish();
  ASSERT_FALSE(published);
  EXPECT_EQ(published.error().code(), Code::kTryAgain) << published.error().expected();
  EXPECT_NE(published.error().expected().find("not on offer"), std::string::npos)
      << published.error().expected();
  EXPECT_EQ(offers, 8);
  EXPECT_EQ(pieces, 3);  // the rows travel once
}

TEST_F(LyingHostPublish, AnOfferThatWasNotRecordedIsNotSaidToBe) {
  server.instead([&](const Request& request) -> std::optional<Response> {
    if (request.method != "POST" || request.path != "/v1/entries") return std::nullopt;
    return json_response(201, Json::Object{{"seq", 2}, {"leaf_hash", Digest{}}});
  });
  expect_refused(Code::kConflict, "not on the ledger");
}

TEST_F(LyingHostPublish, AnswersOfSomethingElseAreNobodysMistake) {
  for (const char* body : {"", "[]", "{}", "{\"size\":\"x\"}", "<html>"}) {
    server.instead([&](const Request&) -> std::optional<Response> {
      Response response;
      response.content_type = "application/json";
      response.body = to_bytes(body);
      return response;
    });
    auto published = publish();
    ASSERT_FALSE(published);
    EXPECT_EQ(published.error().code(), Code::kRefused) << body << published.error().expected();
  }
}

// ---- receive ----------------------------------------------------------------------------

class LyingHostReceive : public ::testing::Test {
 protected:
  LyingHostReceive() : server(market), line(server.line()), lab(server.join("lab")) {
    view.emplace(MarketView::open(market.market(), folder.file("ledger")).take());
    // The lab of the fixture is this identity, as far as models go to it.
    market.lab.age = trainer::AgeIdentity::from_text(lab.age().text(SecretAccess{})).take();
    auto dataset = market.publish(market.providers[0]);
    one = settled(dataset.id, 1);
    two = settled(dataset.id, 2);
  }

  // A model of the fixture's specification; `mark` is its first weight.
  Bytes model_with(float mark) const {
    StoredModel stored;
    stored.notes.spec = market.spec();
    stored.model = trainer::initial_model(stored.notes.spec).take();
    stored.model.tensors.front().values.front() = mark;
    return model_to_safetensors(stored).take();
  }
  ContractId settled(const DatasetId& dataset, float mark) {
    Bytes model = model_with(mark);
    ContractId id = market.escrowed({dataset});
    auto trainer = market.started(id);
    auto key = trainer::FileKey::random();
    SealingKey recipient = lab.age().recipient();
    Bytes header = trainer::make_header(key, std::span(&recipient, 1)).take();
    Bytes payload = trainer::encrypt_payload(key, model);
    CHECK(server.blobs().put(payload));
    auto result = market.result_of(id, header, payload);
    result.model = ledger::sha256(model);
    result.delta_pico = market.spec().privacy->delta_pico;
    market.append(contracts::sign_record(result, trainer.signing, market.market()));
    market.follow();
    CHECK(market.phase(id) == contracts::Phase::kSettled);
    return id;
  }

  Result<Received> receive() {
    return receive_model(one, folder.file("out"), lab, line, *view, {});
  }
  void expect_refused(Code code, const std::string& clue) {
    auto received = receive();
    ASSERT_FALSE(received);
    EXPECT_EQ(received.error().code(), code) << received.error().expected();
    EXPECT_NE(received.error().expected().find(clue), std::string::npos)
        << received.error().expected();
    EXPECT_FALSE(path_exists(folder.file("out"))) << "something was left behind";
  }
  static bool is_header(const Request& request) {
    return request.path.find("/header") != std::string::npos;
  }
  static bool is_blob(const Request& request) { return request.path.rfind("/v1/blobs/", 0) == 0; }
  Bytes blob_of(const ContractId& id) {
    const auto& result = *market.state().contract(id)->result;
    return server.blobs()
        .read(result.payload, 0, static_cast<uint64_t>(result.payload_size))
        .take();
  }
  std::string text_in(const std::string& name) {
    return to_text(load_file(folder.file("out/" + name), 1 << 20).take());
  }

  MarketFixture market;
  MarketServer server;
  MarketLine line;
  Identity lab;
  TempFolder folder;
  std::optional<MarketView> view;
  ContractId one, two;
};

TEST_F(LyingHostReceive, AnHonestHostDeliversEverything) {
  auto received = receive();
  ASSERT_TRUE(received) << received.error().expected();
  EXPECT_EQ(list_directory(folder.file("out")),
            (std::vector<std::string>{"MODEL_CARD.md", "model.onnx", "model.safetensors",
                                      "receipt.json", "spec.json"}));
  EXPECT_EQ(text_in("model.safetensors"), to_text(model_with(1)));
}

TEST_F(LyingHostReceive, TheHeaderOfAnotherContractIsRefused) {
  server.lie([&](const Request& request, Response& answer) {
    if (is_header(request)) answer.body = market.keeper().about(trainer::Kind::kRelease, two).body;
  });
  expect_refused(Code::kUnauthentic, "header: expected the one that job.result names");
}

TEST_F(LyingHostReceive, AChangedOrShortenedHeaderIsRefused) {
  for (int change = 0; change < 3; ++change) {
    server.lie([&](const Request& request, Response& answer) {
      if (!is_header(request)) return;
      if (change == 0) answer.body.pop_back();
      if (change == 1) answer.body[answer.body.size() / 2] ^= 1;
      if (change == 2) answer.body.clear();
    });
    expect_refused(Code::kUnauthentic, "header: expected the one that job.result names");
  }
}

TEST_F(LyingHostReceive, TruncatedAndPaddedCiphertextIsRefused) {
  for (int change = 0; change < 3; ++change) {
    server.lie([&](const Request& request, Response& answer) {
      if (!is_blob(request)) return;
      if (change == 0) answer.body.pop_back();
      if (change == 1) answer.body.push_back(0);
      if (change == 2) answer.body.clear();
    });
    expect_refused(Code::kRefused, "blob: expected");
  }
}

TEST_F(LyingHostReceive, OtherCiphertextIsRefused) {
  server.lie([&](const Request& request, Response& answer) {
    if (is_blob(request)) answer.body = blob_of(two);
  });
  ASSERT_EQ(blob_of(one).size(), blob_of(two).size());
  expect_refused(Code::kUnauthentic, "payload: expected the one that job.result names");
  server.lie([&](const Request& request, Response& answer) {
    if (is_blob(request)) answer.body.back() ^= 1;
  });
  expect_refused(Code::kUnauthentic, "payload: expected the one that job.result names");
}

TEST_F(LyingHostReceive, CiphertextThatIsGoneIsSaidToBeGone) {
  ASSERT_TRUE(server.blobs().erase(market.state().contract(one)->result->payload));
  expect_refused(Code::kNotFound, "blob");
}

TEST_F(LyingHostReceive, AnOldLedgerIsRefused) {
  ASSERT_TRUE(view->sync(line));
  server.show_old(market.history().size() - 1);
  expect_refused(Code::kUnauthentic, "rolled back or forked");
  // To somebody who has seen nothing the job is still running: no model, no receipt.
  view.emplace(MarketView::open(market.market(), "").take());
  server.show_old(market.state().contract(one)->result_seq);
  expect_refused(Code::kConflict, "running");
}

TEST_F(LyingHostReceive, ADownloadThatIsInterruptedGoesOn) {
  int failures = 0;
  server.instead([&](const Request& request) -> std::optional<Response> {
    if (!is_blob(request) || failures == 2) return std::nullopt;
    return ++failures, no_answer();
  });
  ASSERT_TRUE(receive());
  EXPECT_EQ(failures, 2);
}

TEST_F(LyingHostReceive, AModelOfAnotherLabIsNotOpened) {
  Identity stranger = server.join("stranger");
  auto received = receive_model(one, folder.file("out"), stranger, line, *view, {});
  ASSERT_FALSE(received);
  EXPECT_EQ(received.error().code(), Code::kRefused);
  EXPECT_FALSE(path_exists(folder.file("out")));
}

TEST_F(LyingHostReceive, AFolderThatCannotBeIsAMistakeOfWhoeverNamedIt) {
  ASSERT_TRUE(save_file(folder.file("out"), as_bytes("a file"), FileMode::kShared));
  auto received = receive();
  ASSERT_FALSE(received);
  EXPECT_EQ(received.error().code(), Code::kMalformed) << received.error().expected();
  EXPECT_NE(received.error().expected().find(folder.file("out")), std::string::npos);
  EXPECT_EQ(to_text(load_file(folder.file("out"), 100).take()), "a file");
}

TEST_F(LyingHostReceive, NamesThatOthersChoseAreWordsOnTheCard) {
  flows::Party provider{"[free money](https://evil.example) | <script>alert(1)</script> # `x`"};
  auto dataset = market.publish(provider);
  one = settled(dataset.id, 3);
  ASSERT_TRUE(receive());
  std::string card = text_in("MODEL_CARD.md");
  EXPECT_NE(card.find("| \\[free money\\]\\(https\\:\\/\\/evil.example\\) \\| \\<script\\>alert"),
            std::string::npos)
      << card;
  for (const char* markup : {"[free", "](", "<script", "https:", "`x", "| <", "# \\"}) {
    for (size_t at = card.find(markup); at != std::string::npos; at = card.find(markup, at + 1)) {
      EXPECT_TRUE(at > 0 && card[at - 1] == '\\') << markup << "\n" << card;
    }
  }
}

}  // namespace
}  // namespace souk::market
