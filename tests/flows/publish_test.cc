// Publishing while strangers erase what they offered: each erasure takes the keeper's key away.
#include "market_api/client/publish.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/support/live_market.h"

namespace souk::flows {
namespace {

using market::Home;
using market::Identity;
using market::MarketLine;
using market::MarketView;

constexpr int kPublishes = 4;
constexpr auto kBetweenErasures = std::chrono::milliseconds(90);

// Somebody without a penny who offers and erases a tiny dataset, again and again, until told to
// stop. The keeper is asked for evidence each time, so that it takes its next key at once.
class Eraser {
 public:
  Eraser(const std::string& url, const MarketId& market)
      : line_(MarketLine::open(url).take()), view_(MarketView::open(market, "").take()) {
    thread_ = std::thread([this] {
      while (!stop_) {
        auto done = once();
        if (done) ++erased_;
        std::this_thread::sleep_for(kBetweenErasures);
      }
    });
  }
  ~Eraser() {
    stop_ = true;
    thread_.join();
  }
  int erased() const { return erased_; }

 private:
  Status once() {
    TRY(line_.keeper(std::string(64, '0')));
    TRY(view_.sync(line_));
    auto offered = offer_of(who_, {}, view_.market(), *view_.state().keeper(), to_bytes("rows"), 2);
    TRY(line_.upload(offered.offer.manifest.ciphertext, offered.file, {}));
    TRY(line_.record(contracts::sign_record(offered.offer, who_.key, view_.market())));
    TRY(line_.record(
        contracts::sign_record(contracts::DatasetErase{offered.id}, who_.key, view_.market())));
    TRY(line_.keeper(std::string(64, '0')));
    return Done{};
  }

  Party who_{"stranger"};
  MarketLine line_;
  MarketView view_;
  std::atomic<bool> stop_{false};
  std::atomic<int> erased_{0};
  std::thread thread_;
};

trainer::Dataset rows() {
  trainer::Dataset dataset;
  dataset.features = std::vector<uint8_t>(64 * 4, 7);
  dataset.labels.resize(64);
  dataset.labels[1] = 1;
  dataset.schema.feature_shape = {4};
  dataset.schema.label_name = "kind";
  dataset.schema.classes = {"a", "b"};
  return dataset;
}

TEST(PublishFlow, SucceedsWhileAStrangerErasesAsFastAsItCan) {
  ASSERT_FALSE(program("soukd").empty()) << "expected soukd in $SOUK_BIN";
  LiveMarket live;
  auto started = live.start();
  ASSERT_TRUE(started) << started.error().expected();
  ASSERT_TRUE(live.sync());
  TempFolder folder;
  Home home(folder.file("home"));
  auto north =
      home.create("north", {live.url(), live.market(), live.state().genesis()->ledger_key});
  ASSERT_TRUE(north) << north.error().expected();
  auto line = MarketLine::open(live.url()).take();
  auto view = MarketView::open(live.market(), "").take();

  std::vector<DatasetId> published;
  {
    Eraser first(live.url(), live.market()), second(live.url(), live.market());
    while (first.erased() < 3) std::this_thread::sleep_for(kBetweenErasures);
    for (int i = 0; i < kPublishes; ++i) {
      for (int before = first.erased(); first.erased() < before + 2;)
        std::this_thread::sleep_for(kBetweenErasures);
      market::Offer offer{"rows " + std::to_string(i),
                          "north",
                          "return {allow = true}",
                          Json::Object{},
                          5,
                          1'000'000,
                          10'000'000,
                          "",
                          1,
                          {}};
      auto done = market::publish(rows(), offer, *north, line, view, {});
      ASSERT_TRUE(done) << done.error().expected();
      published.push_back(done->dataset);
    }
    EXPECT_GT(second.erased(), kPublishes) << "nothing was in the way";
  }
  ASSERT_TRUE(live.sync());
  for (const auto& id : published) {
    const auto* dataset = live.state().dataset(id);
    ASSERT_TRUE(dataset);
    EXPECT_FALSE(dataset->erased);
  }
  // Nobody's offer was recorded in vain: a look before the entry is enough, mostly.
  EXPECT_LE(live.state().voids().size(), 2u);
  live.kill_host();
  EXPECT_EQ(live.audit(), "");
}

}  // namespace
}  // namespace souk::flows
