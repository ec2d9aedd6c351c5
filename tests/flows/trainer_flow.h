// A market whose host shows its trainer what it must refuse.
#pragma once

#include <gtest/gtest.h>

#include "tests/support/market_fixture.h"

namespace souk::flows {

using contracts::Phase;
using trainer::Frame;
using trainer::Kind;

// A keeper that the market appraised and that signs whatever a test wants: what the
// trainer refuses here it refuses even from a keeper.
class SigningHand {
 public:
  explicit SigningHand(MarketFixture& market) : market_(market) {
    auto claims = market.trainer_claims(keys_, ContractId{}, std::string(64, '0'));
    claims.role = "keeper";
    claims.contract = "";
    contracts::KeeperBoot boot{keys_.kem.public_key(),
                               trainer::simulate_evidence(market.platform(), claims)};
    auto seq = market.append(contracts::sign_record(boot, keys_.signing, market.market()));
    CHECK(market.void_of(seq).empty());
  }

  ContractId escrowed(const contracts::ContractSubmit& submit, const Json& obligations) {
    ContractId id = market_.submit(submit);
    const auto& state = market_.state();
    contracts::ContractDecision decision;
    decision.contract = id;
    decision.allow = true;
    decision.status = "allowed";
    decision.obligations = obligations;
    decision.head_size = state.size();
    decision.head_root = state.root();
    for (const auto& dataset : submit.datasets) {
      contracts::Grant grant;
      grant.dataset = dataset;
      grant.waived = !submit.spec.privacy;
      decision.grants.push_back(grant);
    }
    auto seq = market_.append(contracts::sign_record(decision, keys_.signing, market_.market()));
    CHECK(market_.void_of(seq).empty());
    return id;
  }

  // The job.start that an honest keeper would sign, to be bent.
  contracts::JobStart start(const ContractId& id, const contracts::Evidence& evidence,
                            const std::vector<const Offered*>& datasets) {
    const auto& contract = *market_.state().contract(id);
    auto claims = trainer::claims_from_json(*parse_canonical(evidence.claims)).take();
    contracts::JobStart out;
    out.contract = id;
    out.decision = contract.decision_hash;
    out.trainer = evidence;
    out.receipt_key = claims.signing;
    out.trainer_kem = claims.kem;
    out.spec = contract.spec_hash;
    out.recipient = contract.submit.recipient;
    out.obligations = contract.decision->obligations;
    for (const auto* dataset : datasets) {
      const auto& manifest = dataset->offer.manifest;
      out.inputs.push_back({dataset->id, manifest.ciphertext, manifest.size, manifest.rows});
      out.wraps.push_back(wrap(id, evidence, dataset->id, dataset->file_key));
    }
    return out;
  }

  contracts::Wrap wrap(const ContractId& id, const contracts::Evidence& evidence,
                       const DatasetId& dataset, const trainer::FileKey& key) {
    auto claims = trainer::claims_from_json(*parse_canonical(evidence.claims)).take();
    std::string info = contracts::trainer_wrap_info(market_.market(), id, dataset,
                                                    contracts::evidence_digest(evidence));
    return {dataset,
            ledger::hpke_seal(claims.kem, as_bytes(info), {}, key.bytes(SecretAccess{})).take()};
  }

  // Answers why it is void; empty when it is not.
  std::string record(const contracts::JobStart& start) {
    return market_.void_of(
        market_.append(contracts::sign_record(start, keys_.signing, market_.market())));
  }

 private:
  MarketFixture& market_;
  StandIn keys_;
};

class TrainerFlow : public ::testing::Test {
 protected:
  TrainerFlow()
      : north(market.publish(market.providers[0])), east(market.publish(market.providers[1])) {}

  // A trainer of this contract with a job.start recorded for it by the real keeper.
  std::unique_ptr<TrainerThread> started(const ContractId& id) {
    auto trainer = std::make_unique<TrainerThread>(market.self());
    auto evidence = market.prepare(*trainer, id, market.challenge(id));
    CHECK(evidence);
    market.append(envelope_in(market.start_frame(id, *evidence)).take());
    CHECK(market.phase(id) == Phase::kRunning);
    return trainer;
  }
  std::unique_ptr<TrainerThread> prepared(const ContractId& id, contracts::Evidence& evidence) {
    auto trainer = std::make_unique<TrainerThread>(market.self());
    evidence = market.prepare(*trainer, id, std::string(64, '7')).take();
    return trainer;
  }

  // The trainer said a code and nothing else, and is gone.
  void expect_refused(TrainerThread& trainer, const Result<Frame>& answer,
                      std::optional<Code> code = std::nullopt) {
    ASSERT_TRUE(answer) << answer.error().expected();
    ASSERT_TRUE(refused(*answer)) << kind_and_body(*answer);
    if (code) {
      EXPECT_EQ(refused(*answer), code);
    }
    EXPECT_EQ(refusal_message(*answer), "");
    EXPECT_FALSE(trainer.finish());
    for (const auto& frame : trainer.heard()) {
      EXPECT_TRUE(frame.kind == Kind::kEvidence || frame.kind == Kind::kDone ||
                  frame.kind == Kind::kConfirmed || frame.kind == Kind::kRefused)
          << kind_and_body(frame);
    }
  }
  // The trainer signed that it has begun nothing; the money and the reservation are back.
  void expect_unbegun(TrainerThread& trainer, const ContractId& id, const Result<Frame>& answer,
                      std::optional<DatasetId> missing = std::nullopt) {
    ASSERT_TRUE(answer) << answer.error().expected();
    ASSERT_EQ(answer->kind, Kind::kStopped) << kind_and_body(*answer);
    EXPECT_TRUE(trainer.finish());
    auto balance = market.state().balance(market.lab.account());
    auto price = market.state().contract(id)->escrow;
    EXPECT_EQ(market.void_of(market.append(envelope_in(*answer).take())), "");
    const auto& contract = *market.state().contract(id);
    EXPECT_EQ(contract.phase, Phase::kRefunded);
    EXPECT_EQ(contract.ended_because, "ciphertext_missing");
    EXPECT_EQ(contract.ended_by_dataset, missing.value_or(north.id));
    EXPECT_EQ(market.state().balance(market.lab.account()), balance + price);
    for (const auto& dataset : contract.submit.datasets) {
      EXPECT_EQ(market.state().dataset(dataset)->budget.reserved, contracts::Charges{});
      EXPECT_EQ(market.state().dataset(dataset)->budget.committed, contracts::Charges{});
    }
    for (const auto& frame : trainer.heard()) EXPECT_NE(frame.kind, Kind::kResult);
  }
  // The whole ledger, then the first dataset: where a trainer without work says so.
  void expect_no_work(TrainerThread& trainer, std::optional<Code> code = Code::kRefused) {
    auto shown = market.show(trainer, market.history());
    ASSERT_TRUE(shown);
    ASSERT_EQ(shown->kind, Kind::kConfirmed) << kind_and_body(*shown);
    expect_refused(trainer, market.send_dataset(trainer, north.id, north.file), code);
  }

  MarketFixture market;
  Offered north, east;
};

}  // namespace souk::flows
