// Who is an enclave of this market. Evidence binds SHA-256 of a structured claims
// object; appraisal compares the claims with what genesis accepts and what the
// asker expects. Pure: no clock, no files, no network. trainer/SPEC.md, Attestation.
#pragma once

#include <optional>
#include <string>

#include "contracts/lifecycle/market_state.h"
#include "contracts/records/records.h"
#include "ledger/crypto/sign.h"

namespace souk::trainer {

// What an enclave says of itself, in the canonical JSON that evidence binds.
struct Claims {
  std::string role;      // "keeper" or "trainer"
  PublicKey signing;     // keeper: record key; trainer: receipt key
  SealingKey kem;        // secrets are wrapped to it
  std::string market;    // hex
  std::string contract;  // hex, or "" for a keeper
  std::string nonce;     // 64 hex: the asker's challenge; zeros when nobody asked
  std::string boot;      // 32 hex, random at each start
  Digest measurement{};  // SHA-256 of the program
  std::string sandbox;   // policy/jail's report, or "none"
  friend bool operator==(const Claims&, const Claims&) = default;
};
Json to_json(const Claims& claims);
Result<Claims> claims_from_json(const Json& json);

// Kind "insecure-sim": the signature of a software platform key. It protects
// against everyone but root of the machine that holds the key, and says so in
// its name. Genesis must list the platform key under this kind by name.
inline constexpr const char* kInsecureSim = "insecure-sim";
contracts::Evidence simulate_evidence(const ledger::SigningKey& platform, const Claims& claims);

struct Expected {
  const contracts::Genesis& genesis;
  MarketId market;
  std::string role;
  std::optional<std::string> nonce = std::nullopt;
  std::optional<ContractId> contract = std::nullopt;
};

// Only appraise() makes one: to hold one is to know this code runs there with these keys.
class AppraisedEnclave {
 public:
  const Claims& claims() const { return claims_; }
  const Digest& evidence_digest() const { return evidence_digest_; }
  // True for a simulated enclave: every report that mentions it must say so.
  bool insecure() const { return true; }

 private:
  friend Result<AppraisedEnclave> appraise(const contracts::Evidence&, const Expected&);
  AppraisedEnclave(Claims claims, Digest digest)
      : claims_(std::move(claims)), evidence_digest_(digest) {}

  Claims claims_;
  Digest evidence_digest_;
};

// kUnauthentic names the first check that failed: kind, root, signature,
// measurement, role, market, nonce, contract, sandbox.
Result<AppraisedEnclave> appraise(const contracts::Evidence& evidence, const Expected& expected);

// The Appraiser that contracts/lifecycle asks.
Result<contracts::AppraisedKeys> appraise_for_market(const contracts::Evidence& evidence,
                                                     const contracts::Genesis& genesis,
                                                     const MarketId& market,
                                                     const std::string& role);

}  // namespace souk::trainer
