#include "trainer/attest/appraisal.h"

#include <gtest/gtest.h>

#include "ledger/crypto/hash.h"

namespace souk::trainer {
namespace {

class Appraisal : public ::testing::Test {
 protected:
  Appraisal() {
    genesis.evidence_roots.push_back({kInsecureSim, platform.public_key()});
    genesis.measurements.push_back(ledger::sha256(as_bytes("the program")));
    claims.role = "trainer";
    claims.signing = PublicKey(ledger::sha256(as_bytes("signing")));
    claims.kem = SealingKey(ledger::sha256(as_bytes("kem")));
    claims.market = to_hex(market);
    claims.contract = to_hex(contract);
    claims.nonce = std::string(64, 'a');
    claims.boot = std::string(32, 'b');
    claims.measurement = genesis.measurements.front();
    claims.sandbox = "seccomp";
  }

  Expected expected() const { return {genesis, market, "trainer", std::string(64, 'a'), contract}; }

  // Why `evidence` is not accepted; empty when it is.
  std::string why(const contracts::Evidence& evidence) const {
    auto out = appraise(evidence, expected());
    if (out) return "";
    EXPECT_EQ(out.error().code(), Code::kUnauthentic);
    return out.error().expected();
  }
  std::string why() const { return why(simulate_evidence(platform, claims)); }

  ledger::SigningKey platform = ledger::SigningKey::generate();
  contracts::Genesis genesis;
  MarketId market{ledger::sha256(as_bytes("market"))};
  ContractId contract{ledger::sha256(as_bytes("contract"))};
  Claims claims;
};

TEST_F(Appraisal, AcceptsWhatGenesisNamesAndTheAskerExpects) {
  auto evidence = simulate_evidence(platform, claims);
  auto out = appraise(evidence, expected());
  ASSERT_TRUE(out);
  EXPECT_EQ(out->claims(), claims);
  EXPECT_EQ(out->evidence_digest(), contracts::evidence_digest(evidence));
  EXPECT_TRUE(out->insecure());
}

TEST_F(Appraisal, RefusesAnotherKindUnderTheSameBytes) {
  auto evidence = simulate_evidence(platform, claims);
  for (const char* kind : {"", "tdx", "sev-snp", "tpm2", "INSECURE-SIM", "insecure-sim "}) {
    evidence.kind = kind;
    EXPECT_NE(why(evidence), "") << kind;
  }
}

TEST_F(Appraisal, RefusesARootThatIsNotInGenesis) {
  EXPECT_NE(why(simulate_evidence(ledger::SigningKey::generate(), claims)), "");
}

TEST_F(Appraisal, RefusesARootThatGenesisNamesUnderAnotherKind) {
  genesis.evidence_roots.front().kind = "tpm2";
  EXPECT_NE(why(), "");
}

TEST_F(Appraisal, RefusesEveryFlippedBitOfTheProof) {
  const auto good = simulate_evidence(platform, claims);
  for (size_t bit = 0; bit < good.proof.size() * 8; ++bit) {
    auto evidence = good;
    evidence.proof[bit / 8] = static_cast<uint8_t>(evidence.proof[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_NE(why(evidence), "") << bit;
  }
}

TEST_F(Appraisal, RefusesAProofOneByteShorterOrLonger) {
  auto evidence = simulate_evidence(platform, claims);
  evidence.proof.push_back(0);
  EXPECT_NE(why(evidence), "");
  evidence.proof.resize(95);
  EXPECT_NE(why(evidence), "");
  evidence.proof.clear();
  EXPECT_NE(why(evidence), "");
}

TEST_F(Appraisal, RefusesEveryChangedByteOfTheClaims) {
  const auto good = simulate_evidence(platform, claims);
  for (size_t at = 0; at < good.claims.size(); ++at) {
    auto evidence = good;
    evidence.claims[at] = static_cast<char>(evidence.claims[at] ^ 1);
    EXPECT_NE(why(evidence), "") << at;
  }
}

TEST_F(Appraisal, RefusesSignedClaimsThatAreNotOurs) {
  auto sign = [&](const std::string& text) {
    // What simulate_evidence does, over a text that no Claims would write.
    contracts::Evidence evidence{kInsecureSim, text, {}};
    Bytes message = to_bytes("souk/insecure-sim/v1\n");
    append(message, ByteView(ledger::sha256(as_bytes(text))));
    append(evidence.proof, ByteView(platform.public_key().value()));
    append(evidence.proof, ByteView(platform.sign(message).value()));
    return evidence;
  };
  Json::Object good = *to_json(claims).object();
  ASSERT_EQ(why(sign(canonical(good))), "");
  EXPECT_NE(why(sign(canonical(good) + " ")), "");
  EXPECT_NE(why(sign("")), "");
  for (const auto& [name, value] : good) {
    Json::Object without = good;
    without.erase(name);
    EXPECT_NE(why(sign(canonical(without))), "") << name;
  }
  Json::Object more = good;
  more["debug"] = true;
  EXPECT_NE(why(sign(canonical(more))), "");
  Json::Object newer = good;
  newer["profile"] = "souk-enclave/2";
  EXPECT_NE(why(sign(canonical(newer))), "");
}

TEST_F(Appraisal, RefusesAnotherMeasurement) {
  claims.measurement[31] ^= 1;
  EXPECT_NE(why(), "");
}

TEST_F(Appraisal, RefusesEverythingWhenGenesisNamesNoMeasurement) {
  genesis.measurements.clear();
  EXPECT_NE(why(), "");
}

TEST_F(Appraisal, AcceptsAnyOfTheMeasurementsOfGenesis) {
  genesis.measurements.insert(genesis.measurements.begin(),
                              ledger::sha256(as_bytes("older program")));
  EXPECT_EQ(why(), "");
}

TEST_F(Appraisal, RefusesTheOtherRole) {
  claims.role = "keeper";
  EXPECT_NE(why(), "");
}

TEST_F(Appraisal, RefusesAnotherMarket) {
  claims.market = std::string(64, '0');
  EXPECT_NE(why(), "");
}

TEST_F(Appraisal, RefusesAnOlderNonce) {
  claims.nonce = std::string(63, 'a') + "b";
  EXPECT_NE(why(), "");
  claims.nonce = "";
  EXPECT_NE(why(), "");
}

TEST_F(Appraisal, RefusesAnotherContractOrNone) {
  claims.contract = std::string(64, '0');
  EXPECT_NE(why(), "");
  claims.contract = "";
  EXPECT_NE(why(), "");
}

TEST_F(Appraisal, RefusesASandboxThatSaysNothing) {
  claims.sandbox = "";
  EXPECT_NE(why(), "");
}

#ifndef SOUK_SANITIZED
TEST_F(Appraisal, RefusesAProcessThatRunsUnconfined) {
  for (const char* sandbox : {"none", "none (sanitizer)", "none,landlock"}) {
    claims.sandbox = sandbox;
    EXPECT_NE(why(), "") << sandbox;
  }
}
#endif

TEST_F(Appraisal, AsksForNonceAndContractOnlyWhereTheyAreExpected) {
  claims.nonce = std::string(64, '0');
  claims.contract = "";
  claims.role = "keeper";
  auto evidence = simulate_evidence(platform, claims);
  EXPECT_TRUE(appraise(evidence, Expected{genesis, market, "keeper"}));
  auto keys = appraise_for_market(evidence, genesis, market, "keeper");
  ASSERT_TRUE(keys);
  EXPECT_EQ(keys->signing, claims.signing);
  EXPECT_EQ(keys->kem, claims.kem);
  EXPECT_FALSE(appraise_for_market(evidence, genesis, market, "trainer"));
}

TEST_F(Appraisal, ClaimsComeBackAsTheyWere) {
  auto back = claims_from_json(to_json(claims));
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, claims);
}

}  // namespace
}  // namespace souk::trainer
