// A server that answers whatever it likes: after every lie the client says no and knows
// exactly what it knew before.
#include <gtest/gtest.h>

#include <functional>

#include "market_api/client/market_view.h"
#include "market_api/transport/server.h"
#include "tests/support/market_fixture.h"

namespace souk::market {
namespace {

using flows::History;
using flows::MarketFixture;
using flows::TempFolder;

// An honest page, for a lie to change.
struct Page {
  uint64_t from = 0;
  Json::Object json;
};

Page honest_page(const History& history, uint64_t from) {
  Json::Array leaves;
  for (uint64_t seq = from; seq < history.size(); ++seq) {
    leaves.push_back(to_base64(history.leaves[static_cast<size_t>(seq)]));
  }
  return {from, Json::Object{{"size", history.size()},
                             {"checkpoint", history.checkpoint},
                             {"leaves", std::move(leaves)}}};
}

class LyingServer {
 public:
  using Lie = std::function<Response(Page)>;
  explicit LyingServer(const History& history) : history_(history) {
    server_ = HttpServer::start("127.0.0.1", 0, [this](const Request& request) {
                if (request.path != "/v1/entries") {
                  return problem(Error(Code::kNotFound, "expected a known path"));
                }
                return lie_(honest_page(history_, std::stoull(request.query.at("from"))));
              }).take();
  }
  void tell(Lie lie) { lie_ = std::move(lie); }
  MarketLine line() const {
    return MarketLine::open("http://127.0.0.1:" + std::to_string(server_->port())).take();
  }

 private:
  const History history_;
  Lie lie_;
  std::unique_ptr<HttpServer> server_;
};

Response as_it_is(const Page& page) {
  return json_response(200, Json(page.json));
}
Json::Array& leaves_of(Page& page) {
  return *page.json["leaves"].array();
}

TEST(MaliciousServer, EveryLieIsRefusedAndNothingOfItIsKept) {
  MarketFixture market;
  for (int i = 1; i <= 4; ++i) market.deposit(market.lab.account(), i);
  const History history = market.history();
  const History shorter = market.prefix(history.size() - 2);
  MarketFixture other;

  struct Case {
    const char* name;
    LyingServer::Lie lie;
  };
  const std::vector<Case> lies = {
      {"the last leaf is held back",
       [](Page p) {
         auto& l = leaves_of(p);
         if (!l.empty()) l.pop_back();
         return as_it_is(p);
       }},
      {"a leaf is missing in the middle",
       [](Page p) {
         auto& l = leaves_of(p);
         if (l.size() > 2) l.erase(l.begin() + 1);
         return as_it_is(p);
       }},
      {"one leaf too many",
       [](Page p) {
         auto& l = leaves_of(p);
         l.push_back(l.empty() ? Json("AA==") : l.back());
         return as_it_is(p);
       }},
      {"two leaves exchanged",
       [](Page p) {
         auto& l = leaves_of(p);
         if (l.size() > 2) std::swap(l[1], l[2]);
         return as_it_is(p);
       }},
      {"a larger size than the checkpoint's",
       [&](Page p) {
         p.json["size"] = history.size() + 1;
         return as_it_is(p);
       }},
      {"a smaller size than the checkpoint's",
       [&](Page p) {
         p.json["size"] = history.size() - 1;
         return as_it_is(p);
       }},
      {"a stale checkpoint over all leaves",
       [&](Page p) {
         p.json["checkpoint"] = shorter.checkpoint;
         return as_it_is(p);
       }},
      {"another market's checkpoint",
       [&](Page p) {
         p.json["checkpoint"] = other.history().checkpoint;
         return as_it_is(p);
       }},
      {"another market's leaves",
       [&](Page p) { return as_it_is(honest_page(other.history(), p.from)); }},
      {"a checkpoint without a signature",
       [](Page p) {
         auto note = *p.json["checkpoint"].string();
         p.json["checkpoint"] = note.substr(0, note.find("\n\n") + 2);
         return as_it_is(p);
       }},
      {"a checkpoint that is a megabyte of signatures",
       [](Page p) {
         auto note = *p.json["checkpoint"].string();
         for (int i = 0; i < 20'000; ++i)
           note += "\xe2\x80\x94 grease AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
         p.json["checkpoint"] = note;
         return as_it_is(p);
       }},
      {"an oversized leaf",
       [](Page p) {
         leaves_of(p).front() = to_base64(Bytes(1 << 20, 'x'));
         return as_it_is(p);
       }},
      {"no base64",
       [](Page p) {
         leaves_of(p).front() = "?";
         return as_it_is(p);
       }},
      {"numbers for leaves",
       [](Page p) {
         leaves_of(p).front() = 7;
         return as_it_is(p);
       }},
      {"no leaves for ever",
       [](Page p) {
         p.json["leaves"] = Json::Array{};
         return as_it_is(p);
       }},
      {"no JSON",
       [](Page) {
         Response r;
         r.content_type = "application/json";
         r.body = to_bytes("{");
         return r;
       }},
      {"nothing", [](Page) { return Response{}; }},
      {"a redirection",
       [](Page) {
         Response r;
         r.status = 302;
         r.headers["Location"] = "http://127.0.0.1:9/";
         return r;
       }},
      {"an answer of 70 MB",
       [](Page) {
         Response r;
         r.content_type = "application/json";
         r.body = Bytes(size_t{70} << 20, ' ');
         return r;
       }},
      {"an error that is a success",
       [](Page) {
         return json_response(500, Json::Object{{"ok", true}});
       }},
  };
  for (const auto& lie : lies) {
    SCOPED_TRACE(lie.name);
    TempFolder folder;
    LyingServer server(history);
    auto line = server.line();
    // A client that knows nothing yet, and one that has seen the ledger before.
    auto fresh = MarketView::open(market.market(), folder.file("fresh")).take();
    auto seen = MarketView::open(market.market(), folder.file("seen")).take();
    server.tell([&](Page p) { return as_it_is(honest_page(shorter, p.from)); });
    ASSERT_TRUE(seen.sync(line));
    server.tell(lie.lie);
    EXPECT_FALSE(fresh.sync(line));
    EXPECT_TRUE(fresh.leaves().empty());
    auto synced = seen.sync(line);
    EXPECT_TRUE(!synced || seen.leaves() == history.leaves);
    if (!synced) {
      EXPECT_EQ(seen.leaves(), shorter.leaves);
    }
    // And the truth is still believed.
    server.tell(as_it_is);
    EXPECT_TRUE(fresh.sync(line));
    EXPECT_EQ(fresh.leaves(), history.leaves);
  }
}

}  // namespace
}  // namespace souk::market
