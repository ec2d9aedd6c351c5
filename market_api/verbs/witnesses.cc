// The witnesses of a market: whom genesis names, where they are reached, and what is
// acknowledged when.
#include <map>
#include <set>

#include "ledger/proof/quorum.h"
#include "ledger/proof/tlog_proof.h"
#include "market_api/verbs/evidence.h"
#include "market_api/verbs/files.h"
#include "market_api/verbs/market.h"
#include "market_api/verbs/witnesses.h"

namespace souk::market {
Status check_witness_policy(const std::string& text) {
  if (text.size() > contracts::kMaxWitnessPolicyBytes) {
    return Error(Code::kMalformed, "witness policy: expected at most 16 KiB");
  }
  auto quorum = TRY(ledger::WitnessQuorum::parse(text));
  bool meets = TRY(quorum.intersects());
  if (!meets) {
    return Error(Code::kRefused, "witness policy: expected every two quorums to share a witness");
  }
  std::set<std::string> reachable;
  for (const auto& member : quorum.members()) {
    if (!member.url.empty()) reachable.insert(member.name);
  }
  if (quorum.needed() && !quorum.satisfied_by(reachable)) {
    return Error(Code::kRefused, "witness policy: expected a quorum of witnesses with addresses");
  }
  return Done{};
}

// What genesis names, with the addresses that the operator gives now.
Status Market::connect_witnesses(const ConnectWitness& connect) {
  auto quorum = follower_->quorum();
  std::map<std::string, std::string> addresses;
  if (!config_.witness_policy.empty()) {
    auto given = TRY(ledger::WitnessQuorum::parse(config_.witness_policy));
    if (!quorum && given.needed()) {
      return Error(Code::kRefused, "this market was founded without witnesses and stays so");
    }
    for (const auto& member : given.members()) addresses[member.key.vkey()] = member.url;
  }
  if (!quorum) return Done{};
  if (!connect) return Error(Code::kRefused, "expected a way to this market's witnesses");
  std::vector<ledger::WitnessFeeder::Peer> peers;
  for (auto member : quorum->members()) {
    if (auto it = addresses.find(member.key.vkey()); it != addresses.end()) member.url = it->second;
    if (member.url.empty()) continue;
    auto exchange = TRY(connect(member.url));
    peers.push_back({std::move(member), std::move(exchange)});
  }
  const std::string& directory = config_.directory;
  const std::string state = directory + "/witnessed.state";
  auto saved = file_exists(state) ? TRY(read_file(state)) : Bytes{};
  ledger::WitnessFeeder::Hooks hooks;
  hooks.keep_evidence = [directory](const std::string& json) {
    return keep_evidence(directory, json);
  };
  hooks.keep_state = [state](ByteView bytes) {
    auto kept = write_file(state, bytes);
    (void)kept;  // a hint: the witnesses know themselves how far they are
  };
  witnesses_ =
      ledger::WitnessFeeder::start(*ledger_, *quorum, std::move(peers), std::move(hooks), saved);
  return Done{};
}

Result<ledger::Receipt> Market::witnessed_receipt(uint64_t seq, int64_t wait_ms) {
  if (!witnesses_) {
    return Error(Code::kRefused, "this market has no witnesses: expected ack=local");
  }
  auto waited = witnesses_->wait_for(seq + 1, -1, wait_ms);
  if (!waited) {
    return Error(waited.error().code(),
                 "entry " + std::to_string(seq) +
                     " is recorded, and not witnessed yet: " + waited.error().expected());
  }
  ledger::TlogProof proof{.index = seq, .path = {}, .checkpoint = waited->note};
  proof.path = TRY(ledger_->inclusion(seq, waited->size));
  auto receipt = TRY(ledger_->prove(seq));
  receipt.checkpoint = waited->note;
  receipt.tlog_proof = proof.text();
  return receipt;
}

Result<ledger::Receipt> Market::prove(uint64_t seq, Acknowledgement level) {
  auto receipt = TRY(ledger_->prove(seq));
  if (level == Acknowledgement::kLocal) return receipt;
  return witnessed_receipt(seq, 0);
}

}  // namespace souk::market
