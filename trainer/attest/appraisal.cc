#include "trainer/attest/appraisal.h"

#include "ledger/crypto/hash.h"

namespace souk::trainer {
namespace {

constexpr std::string_view kSimContext = "souk/insecure-sim/v1\n";

Bytes sim_message(const std::string& claims) {
  Bytes message = to_bytes(kSimContext);
  Digest digest = ledger::sha256(as_bytes(claims));
  append(message, ByteView(digest));
  return message;
}

Error no(const std::string& expected) {
  return Error(Code::kUnauthentic, "evidence: " + expected);
}

// Sanitizer builds run unconfined and say so; only they accept each other.
bool sandbox_acceptable(const std::string& sandbox) {
#ifdef SOUK_SANITIZED
  return !sandbox.empty();
#else
  return !sandbox.empty() && sandbox.rfind("none", 0) != 0;
#endif
}

}  // namespace

Json to_json(const Claims& claims) {
  return Json::Object{
      {"profile", "souk-enclave/1"}, {"role", claims.role},     {"signing", claims.signing},
      {"kem", claims.kem},           {"market", claims.market}, {"contract", claims.contract},
      {"nonce", claims.nonce},       {"boot", claims.boot},     {"measurement", claims.measurement},
      {"sandbox", claims.sandbox}};
}

Result<Claims> claims_from_json(const Json& json) {
  auto fields = TRY(Fields::of(json, "claims"));
  auto profile = TRY(fields.text("profile"));
  if (profile != "souk-enclave/1") {
    return Error(Code::kMalformed, "claims.profile: expected souk-enclave/1");
  }
  Claims claims;
  claims.role = TRY(fields.text("role", 16));
  claims.signing = TRY(fields.named<PublicKey>("signing"));
  claims.kem = TRY(fields.named<SealingKey>("kem"));
  claims.market = TRY(fields.text("market", 64));
  claims.contract = TRY(fields.text("contract", 64));
  claims.nonce = TRY(fields.text("nonce", 64));
  claims.boot = TRY(fields.text("boot", 32));
  claims.measurement = TRY(fields.digest("measurement"));
  claims.sandbox = TRY(fields.text("sandbox", 512));
  TRY(fields.done());
  return claims;
}

contracts::Evidence simulate_evidence(const ledger::SigningKey& platform, const Claims& claims) {
  contracts::Evidence evidence;
  evidence.kind = kInsecureSim;
  evidence.claims = canonical(to_json(claims));
  PublicKey key = platform.public_key();
  Signature signature = platform.sign(sim_message(evidence.claims));
  append(evidence.proof, ByteView(key.value()));
  append(evidence.proof, ByteView(signature.value()));
  return evidence;
}

Result<AppraisedEnclave> appraise(const contracts::Evidence& evidence, const Expected& expected) {
  if (evidence.kind != kInsecureSim) return no("expected a kind this build verifies");
  if (evidence.proof.size() != 96) return no("expected a 96-byte insecure-sim proof");
  PublicKey root(*fixed<32>(ByteView(evidence.proof).first(32)));
  Signature signature(*fixed<64>(ByteView(evidence.proof).last(64)));
  bool accepted = false;
  for (const auto& candidate : expected.genesis.evidence_roots) {
    if (candidate.kind == evidence.kind && candidate.key == root) accepted = true;
  }
  if (!accepted) return no("expected a root that genesis names");
  if (!ledger::verify(root, sim_message(evidence.claims), signature)) {
    return no("expected the platform's signature over the claims");
  }
  auto json = parse_canonical(evidence.claims);
  if (!json) return no("expected canonical claims");
  auto claims = claims_from_json(*json);
  if (!claims) return no(claims.error().expected());

  bool measured = false;
  for (const auto& measurement : expected.genesis.measurements) {
    if (measurement == claims->measurement) measured = true;
  }
  if (!measured) return no("expected a measurement that genesis names");
  if (claims->role != expected.role) return no("expected the role " + expected.role);
  if (claims->market != to_hex(expected.market)) return no("expected this market");
  if (expected.nonce && claims->nonce != *expected.nonce) return no("expected the fresh nonce");
  if (expected.contract && claims->contract != to_hex(*expected.contract)) {
    return no("expected this contract");
  }
  if (!sandbox_acceptable(claims->sandbox)) return no("expected a confined process");
  Digest digest = contracts::evidence_digest(evidence);
  return AppraisedEnclave(std::move(*claims), digest);
}

Result<contracts::AppraisedKeys> appraise_for_market(const contracts::Evidence& evidence,
                                                     const contracts::Genesis& genesis,
                                                     const MarketId& market,
                                                     const std::string& role) {
  auto enclave = TRY(appraise(evidence, Expected{genesis, market, role}));
  return contracts::AppraisedKeys{enclave.claims().signing, enclave.claims().kem};
}

}  // namespace souk::trainer
