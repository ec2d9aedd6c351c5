// The holder of dataset keys. It follows the whole ledger itself and answers the
// host's questions from what it has confirmed there, never from what the host says.
// trainer/SPEC.md, Keeper.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "contracts/lifecycle/follower.h"
#include "ledger/crypto/sign.h"
#include "trainer/decision/decision.h"
#include "trainer/keeper/freshness.h"
#include "trainer/keeper/vault.h"
#include "trainer/session/session.h"
#include "trainer/wire/messages.h"

namespace souk::trainer {

class Keeper {
 public:
  // `self` is borrowed. `evaluate` runs a policy in the jail.
  Keeper(const EnclaveSelf& self, EvaluatePolicy evaluate, LocalTime local_time = boot_time());

  // One request, one answer. Refusals change nothing.
  Frame answer(const Frame& request);

  // Answers until the channel closes.
  Status serve(class Channel& channel);

 private:
  // What survives a restart, sealed to platform and measurement.
  struct Memory {
    uint64_t size = 0;  // highest confirmed
    Digest root{};
    // job.starts signed and perhaps not yet recorded: never a second one.
    std::map<ContractId, std::string> starts;
  };

  Result<Frame> handle(const Frame& request);
  Result<Frame> begin(const Json& body);
  Result<Frame> leaves(const Json& body);
  Status add_leaves(const Json& body);
  Result<Frame> confirm(const Json& body);
  Result<Frame> attest(const Json& body);
  Result<Frame> boot(const Json& body);
  Result<Frame> decide(const Json& body);
  Result<Frame> quote(const Json& body);
  Result<Frame> challenge(const Json& body);
  Result<Frame> start(const Json& body);
  Result<Frame> abort_job(const Json& body);
  Result<Frame> tick(const Json& body);
  Result<Frame> release(const Json& body);
  Result<Frame> try_policy(const Json& body);
  Result<Frame> sealed_piece(const Json& body);
  Result<Frame> take_piece(const Bytes& piece);

  contracts::Evidence evidence(const SealingKey& kem, const std::string& nonce) const;
  Status ready() const;
  Status serving() const;
  Status fresh() const;
  Status in_time(const ContractId& id) const;
  void notice_boots(std::optional<TimeMs> witnessed);
  DecisionTime decision_time() const;
  Frame envelope(const ledger::Envelope& envelope);
  Json::Object sealed(Json::Object with);
  Status unseal(const std::vector<Bytes>& pieces);

  const EnclaveSelf& self_;
  EvaluatePolicy evaluate_;
  std::string boot_;
  ledger::SigningKey key_;
  Vault vault_;
  std::optional<contracts::Follower> follower_;
  Memory memory_;
  std::map<ContractId, std::string> challenges_;
  std::vector<Bytes> sealed_;    // the newest sealing, for who asks for its pieces
  std::vector<Bytes> restored_;  // brought before kBegin

  // Of this process alone.
  LocalTime local_time_;
  std::map<Digest, int64_t> own_boots_;  // evidence digest -> local time it was made
  bool booted_ = false;                  // one of them is confirmed
  bool superseded_ = false;              // and after it a boot of somebody else's
  Freshness freshness_;
};

}  // namespace souk::trainer
