// A market of real processes under a fresh folder: soukd and the enclaves it starts,
// spoken to over HTTP. Keeps every body that crossed, and every acknowledgement.
#pragma once

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "contracts/lifecycle/follower.h"
#include "market_api/transport/client.h"
#include "tests/support/market_fixture.h"

namespace souk::flows {

// $SOUK_BIN/name, or "" when it has not been built.
std::string program(const std::string& name);

class LiveMarket {
 public:
  LiveMarket();
  ~LiveMarket();  // kills what runs
  LiveMarket(const LiveMarket&) = delete;
  LiveMarket& operator=(const LiveMarket&) = delete;

  Party treasury{"treasury"};

  // Starts soukd on the folder; an error when it ends, or is silent for a minute.
  Status start();
  // Starts it and does not wait.
  void launch();
  Status wait_until_it_serves();
  void kill_host();    // kill -9, and its enclaves are gone when this returns
  Status stop_host();  // SIGTERM; an error unless it ends with status 0
  void forget_host();  // one whose end somebody else has waited for
  // kill -9 of the enclave in this role; false when none runs.
  bool kill_enclave(const std::string& role);
  std::vector<pid_t> enclaves(const std::string& role) const;
  // kill -9 of what an enclave in this role has forked, and not of itself; false when there is
  // none.
  bool kill_helpers(const std::string& role);
  bool running() const { return host_ > 0; }
  pid_t host() const { return host_; }

  std::string data() const { return folder_.file("market"); }
  std::string logs() const { return folder_.file("logs"); }
  const std::string& url() const { return url_; }

  // ---- HTTP. kTryAgain when there is no answer.
  Result<market::Response> http(const std::string& method, const std::string& path,
                                ByteView body = {});
  Result<Json> json(const std::string& method, const std::string& path, const Json& body);
  Result<Json> get(const std::string& path);
  // Every body sent and received.
  const std::vector<Bytes>& bodies() const { return bodies_; }

  // ---- what is so, verified from genesis on
  Status sync();
  const contracts::MarketState& state() const { return follower_->state(); }
  const MarketId& market() const { return follower_->market(); }

  // ---- steps of the story; each may be repeated until it is acknowledged
  Status upload(ByteView file, size_t until);  // the first `until` bytes; all: commits too
  Status record(const ledger::Envelope& envelope);
  // The phase of a contract once it has left those in `waiting`; an error after a minute.
  Result<contracts::Phase> phase_after(const ContractId& contract,
                                       const std::vector<contracts::Phase>& waiting);
  Result<Bytes> model_file(const ContractId& contract);  // header and payload

  // What was acknowledged: seq -> leaf hash. Empty, or what is missing now.
  std::string missing();
  // Reads the ledger file as an auditor, with the host dead. Empty, or what is wrong.
  std::string audit() const;

 private:
  TempFolder folder_;
  pid_t host_ = 0;
  std::string url_;
  std::optional<market::HttpClient> client_;
  std::optional<contracts::Follower> follower_;
  std::optional<MarketId> pinned_;
  std::vector<Bytes> bodies_;
  std::map<uint64_t, std::string> acknowledged_;
};

}  // namespace souk::flows
