// Host and consumer together, before the contract is settled: all they hold does not
// open the model. Afterwards the consumer opens it alone.
#include <gtest/gtest.h>

#include <algorithm>

#include "ledger/crypto/hash.h"
#include "ledger/entry/leaf.h"
#include "tests/support/market_fixture.h"

namespace souk::flows {
namespace {

using contracts::Phase;
using trainer::Kind;

class Collusion : public ::testing::Test {
 protected:
  Collusion() : dataset(market.publish(market.providers[0])), id(market.escrowed({dataset.id})) {
    trainer = std::make_unique<TrainerThread>(market.self());
    auto evidence = market.prepare(*trainer, id, market.challenge(id)).take();
    market.append(envelope_in(market.start_frame(id, evidence)).take());
    CHECK(market.show(*trainer, market.history())->kind == Kind::kConfirmed);
    CHECK(market.send_dataset(*trainer, dataset.id, dataset.file)->kind == Kind::kDone);
    delivery = market.train(*trainer).take();
    CHECK(trainer->finish());
    result =
        std::get<contracts::JobResult>(contracts::record_of(authentic(delivery.result)).take());
  }

  // Everything in the host's hands, also as it reads after taking base64 apart.
  std::vector<Bytes> held() {
    std::vector<Bytes> out = {delivery.payload, delivery.result.payload, result.sealed_header,
                              market.keeper().sealed(), dataset.file};
    for (const auto& frame : trainer->heard()) out.push_back(frame.body);
    for (const auto& leaf : market.history().leaves) {
      out.push_back(leaf);
      auto envelope = ledger::envelope_from_json(
          *parse_canonical(as_text(ledger::decode_leaf(leaf)->envelope)));
      out.push_back(envelope->payload);
    }
    const auto& start = *market.state().contract(id)->start;
    for (const auto& wrap : start.wraps) out.push_back(wrap.sealed);
    out.push_back(market.state().dataset(dataset.id)->wrap);
    return out;
  }

  bool opens_with(ByteView header) {
    Bytes file(header.begin(), header.end());
    append(file, delivery.payload);
    return bool(trainer::decrypt_file(file, market.lab.age));
  }

  MarketFixture market;
  Offered dataset;
  ContractId id;
  std::unique_ptr<TrainerThread> trainer;
  Delivery delivery;
  contracts::JobResult result;
};

TEST_F(Collusion, NothingTheyHoldIsAHeaderForTheConsumer) {
  const std::string start = "age-encryption.org/v1";
  size_t found = 0;
  for (const auto& bytes : held()) {
    EXPECT_FALSE(opens_with(bytes));
    auto at = bytes.begin();
    while ((at = std::search(at, bytes.end(), start.begin(), start.end())) != bytes.end()) {
      ByteView rest(bytes.data() + (at - bytes.begin()), static_cast<size_t>(bytes.end() - at));
      auto length = trainer::find_header_length(rest);
      if (length) {
        ++found;
        EXPECT_FALSE(trainer::open_header(rest.first(*length), market.lab.age));
      }
      ++at;
    }
  }
  EXPECT_EQ(found, 1U);  // that of the dataset, for its provider
}

TEST_F(Collusion, NoSixteenBytesTheyHoldAreTheFileKey) {
  for (const auto& bytes : held()) {
    for (size_t at = 0; at + 16 <= bytes.size(); ++at) {
      auto key = trainer::FileKey::copy_of(fixed<16>(ByteView(bytes).subspan(at, 16)).take());
      ASSERT_FALSE(trainer::decrypt_payload(key, delivery.payload));
    }
  }
}

TEST_F(Collusion, TheSealedHeaderOpensForNoKeyOfTheirs) {
  std::string info = contracts::header_wrap_info(market.market(), id);
  auto scalar = market.lab.age.key().secret(SecretAccess{});
  auto platform = market.platform().seed(SecretAccess{});
  auto signing = market.lab.key.seed(SecretAccess{});
  for (const auto* secret : {&scalar, &platform, &signing}) {
    auto key = ledger::KemKey::from_bytes(secret->bytes(SecretAccess{}));
    ASSERT_TRUE(key);
    EXPECT_FALSE(ledger::hpke_open(*key, as_bytes(info), {}, result.sealed_header));
  }
}

TEST_F(Collusion, TheKeeperKeepsTheHeaderUntilTheResultIsRecorded) {
  market.follow();
  EXPECT_EQ(refused(market.keeper().about(Kind::kRelease, id)), Code::kConflict);
  market.restart_keeper();
  EXPECT_EQ(refused(market.keeper().about(Kind::kRelease, id)), Code::kConflict);

  market.append(delivery.result);
  market.follow();
  EXPECT_EQ(market.phase(id), Phase::kSettled);
  EXPECT_EQ(market.state().balance(market.providers[0].account()), 100);
  auto header = market.keeper().about(Kind::kRelease, id);
  ASSERT_EQ(header.kind, Kind::kBytes) << kind_and_body(header);
  Bytes file = header.body;
  append(file, delivery.payload);
  auto model = trainer::decrypt_file(file, market.lab.age);
  ASSERT_TRUE(model);
  EXPECT_EQ(ledger::sha256(*model), result.model);
}

TEST_F(Collusion, AResultHeldBackUntilTheRefundOpensNothing) {
  market.clock().advance(TimeMs{61} * 60'000);
  ASSERT_TRUE(market.record(Kind::kTick, Json::Object{}));
  EXPECT_EQ(market.phase(id), Phase::kRefunded);
  EXPECT_EQ(market.void_of(market.append(delivery.result)), "not_running");
  market.follow();
  EXPECT_EQ(refused(market.keeper().about(Kind::kRelease, id)), Code::kConflict);
}

TEST_F(Collusion, AHeaderMovedToAContractOfTheirOwnStaysShut) {
  // They run a second, cheap contract with a stand-in for its result: its trainer key is
  // not theirs, so no result of theirs counts.
  ContractId cheap = market.escrowed({dataset.id});
  market.started(cheap);
  auto moved = result;
  moved.contract = cheap;
  moved.job_start = market.state().contract(cheap)->start_hash;
  moved.trainer_evidence =
      contracts::evidence_digest(market.state().contract(cheap)->start->trainer);
  EXPECT_EQ(
      market.void_of(market.append(contracts::sign_record(moved, market.lab.key, market.market()))),
      "not_the_trainer");
  market.follow();
  EXPECT_EQ(refused(market.keeper().about(Kind::kRelease, cheap)), Code::kConflict);
}

}  // namespace
}  // namespace souk::flows
