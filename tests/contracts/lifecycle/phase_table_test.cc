// The table of contracts/SPEC.md, "Phases": every phase against every record.
#include <gtest/gtest.h>

#include "tests/contracts/market_world.h"

namespace souk::contracts {
namespace {

constexpr Phase kPhases[] = {Phase::kSubmitted, Phase::kRefused, Phase::kEscrowed,
                             Phase::kRunning,   Phase::kSettled, Phase::kRefunded,
                             Phase::kExpired,   Phase::kStopping};

// A world whose one contract is in the wanted phase.
struct InPhase {
  World world;
  DatasetId dataset = world.publish("hospital", "first", 100);
  ContractId contract;

  explicit InPhase(Phase phase) {
    world.fund("lab", 1000);
    contract = world.order("lab", {dataset}, 200);
    switch (phase) {
      case Phase::kSubmitted:
        break;
      case Phase::kRefused:
        did(world.deny(contract), "keeper");
        break;
      case Phase::kEscrowed:
        did(world.allow(contract), "keeper");
        break;
      case Phase::kRunning:
        run();
        break;
      case Phase::kSettled:
        run();
        did(world.result(contract), "trainer");
        break;
      case Phase::kRefunded:
        run();
        did(JobAbort{contract, "trainer_died"}, "keeper");
        break;
      case Phase::kExpired:
        world.pass(3'600'000);
        did(Tick{}, "keeper");
        break;
      case Phase::kStopping:
        run();
        did(PolicyChange{dataset, version(), PolicyChange::Move::kRevokeStop}, "hospital");
        break;
    }
    CHECK(world.contract(contract).phase == phase);
  }
  void did(const Record& record, const char* author) {
    CHECK(world.record(record, author).empty());
  }
  Digest version() const { return world.state().dataset(dataset)->policies.begin()->first; }
  void run() {
    did(world.allow(contract), "keeper");
    did(world.start(contract), "keeper");
  }
};

enum class Act {
  kAllow,
  kDeny,
  kStart,
  kResume,
  kResult,
  kRevokeStop,
  kRevokeDataset,
  kEraseDataset,
  kStop,
  kStopUnbegun,
  kAbort,
  kDeadline
};

struct Cell {
  std::string why;  // the void code, or ""
  Phase then;
};

// The table, written a second time.
Cell expected(Phase phase, Act act) {
  switch (act) {
    case Act::kAllow:
      if (phase == Phase::kSubmitted) return {"", Phase::kEscrowed};
      if (phase == Phase::kExpired) return {"expired", phase};
      return {"not_submitted", phase};
    case Act::kDeny:
      if (phase == Phase::kSubmitted) return {"", Phase::kRefused};
      if (phase == Phase::kExpired) return {"", phase};
      return {"not_submitted", phase};
    case Act::kStart:
      if (phase == Phase::kEscrowed) return {"", Phase::kRunning};
      return {"not_escrowed", phase};
    case Act::kResume:
      return {phase == Phase::kRunning ? "" : "not_running", phase};
    case Act::kResult:
      if (phase == Phase::kRunning) return {"", Phase::kSettled};
      return {"not_running", phase};
    case Act::kRevokeStop:
      if (phase == Phase::kStopping) return {"policy_revoked", phase};
      if (phase == Phase::kEscrowed) return {"", Phase::kRefunded};
      if (phase == Phase::kRunning) return {"", Phase::kStopping};
      return {"", phase};
    case Act::kRevokeDataset:
      if (phase == Phase::kEscrowed) return {"", Phase::kRefunded};
      return {"", phase};
    case Act::kEraseDataset:
      if (phase == Phase::kEscrowed) return {"", Phase::kRefunded};
      if (phase == Phase::kRunning) return {"", Phase::kStopping};
      return {"", phase};
    case Act::kStop:
      if (phase == Phase::kStopping) return {"", Phase::kRefunded};
      return {"not_stopping", phase};
    case Act::kStopUnbegun:
      if (phase == Phase::kRunning || phase == Phase::kStopping) return {"", Phase::kRefunded};
      return {"not_stopping", phase};
    case Act::kAbort:
      if (phase == Phase::kEscrowed || phase == Phase::kRunning || phase == Phase::kStopping) {
        return {"", Phase::kRefunded};
      }
      return {"not_escrowed", phase};
    case Act::kDeadline:
      if (phase == Phase::kSubmitted) return {"", Phase::kExpired};
      if (phase == Phase::kEscrowed || phase == Phase::kRunning || phase == Phase::kStopping) {
        return {"", Phase::kRefunded};
      }
      return {"", phase};
  }
  return {"", phase};
}

std::string perform(InPhase& at, Act act) {
  World& world = at.world;
  switch (act) {
    case Act::kAllow:
      return world.record(world.allow(at.contract), "keeper");
    case Act::kDeny:
      return world.record(world.deny(at.contract), "keeper");
    case Act::kStart:
      return world.record(world.start(at.contract), "keeper");
    case Act::kResume:
      return world.record(world.resume(at.contract, 1), "trainer");
    case Act::kResult:
      return world.record(world.result(at.contract), "trainer");
    case Act::kRevokeStop:
      return world.record(PolicyChange{at.dataset, at.version(), PolicyChange::Move::kRevokeStop},
                          "hospital");
    case Act::kRevokeDataset:
      return world.record(DatasetRevoke{at.dataset}, "hospital");
    case Act::kEraseDataset:
      return world.record(DatasetErase{at.dataset}, "hospital");
    case Act::kStop:
      return world.record(world.stop(at.contract, 5), "trainer");
    case Act::kStopUnbegun: {
      auto stop = world.stop(at.contract, 0);
      stop.missing = at.dataset;
      return world.record(stop, "trainer");
    }
    case Act::kAbort:
      return world.record(JobAbort{at.contract, "trainer_died"}, "keeper");
    case Act::kDeadline:
      world.pass(3'600'000);
      return world.record(Tick{}, "keeper");
  }
  return "";
}

TEST(PhaseTable, EveryRecordAboutAContractHasItsEffectInItsPhaseAndIsVoidInEveryOther) {
  for (Phase phase : kPhases) {
    for (Act act : {Act::kAllow, Act::kDeny, Act::kStart, Act::kResume, Act::kResult,
                    Act::kRevokeStop, Act::kRevokeDataset, Act::kEraseDataset, Act::kStop,
                    Act::kStopUnbegun, Act::kAbort, Act::kDeadline}) {
      SCOPED_TRACE(std::string(phase_name(phase)) + " act " +
                   std::to_string(static_cast<int>(act)));
      InPhase at(phase);
      MarketState before = at.world.state();
      std::string why = perform(at, act);
      Cell cell = expected(phase, act);
      const Contract& contract = at.world.contract(at.contract);
      EXPECT_EQ(why, cell.why);
      EXPECT_EQ(contract.phase, cell.then);

      bool holds_money = cell.then == Phase::kEscrowed || cell.then == Phase::kRunning;
      EXPECT_EQ(contract.escrow, holds_money ? 100 : 0);
      EXPECT_EQ(at.world.balance("hospital"), cell.then == Phase::kSettled ? 100 : 0);
      bool lab_paid = holds_money || cell.then == Phase::kSettled;
      EXPECT_EQ(at.world.balance("lab"), lab_paid ? 900 : 1000);
      const Budget& budget = at.world.state().dataset(at.dataset)->budget;
      bool holds_budget = holds_money || cell.then == Phase::kStopping;
      EXPECT_EQ(budget.reserved != Charges{}, holds_budget);
      bool ran = phase == Phase::kRunning || phase == Phase::kSettled ||
                 phase == Phase::kRefunded || phase == Phase::kStopping;
      bool unbegun = act == Act::kStopUnbegun && why.empty();
      EXPECT_EQ(budget.committed != Charges{}, ran && !holds_budget && !unbegun);

      if (cell.then != phase) continue;
      EXPECT_EQ(at.world.state().accounts(), before.accounts());
      bool of_the_dataset =
          act == Act::kRevokeStop || act == Act::kRevokeDataset || act == Act::kEraseDataset;
      if (of_the_dataset && why.empty()) continue;  // and not of the contract
      EXPECT_EQ(at.world.state().datasets(), before.datasets());
      // The one decision of an expired contract, and who goes on with a run.
      if ((act == Act::kDeny || act == Act::kResume) && why.empty()) continue;
      EXPECT_EQ(at.world.state().contracts(), before.contracts());
    }
  }
}

TEST(PhaseTable, EveryOtherRecordLeavesTheContractAlone) {
  for (Phase phase : kPhases) {
    SCOPED_TRACE(phase_name(phase));
    InPhase at(phase);
    World& world = at.world;
    const Contract before = world.contract(at.contract);

    EXPECT_EQ(world.record(Tick{}, "keeper"), "");
    world.fund("rival", 5);
    EXPECT_EQ(world.balance("rival"), 5);
    world.publish("clinic", "second", 5);
    EXPECT_EQ(world.state().datasets().size(), 2u);
    world.order("rival", {at.dataset}, 5);
    EXPECT_EQ(world.state().contracts().size(), 2u);
    EXPECT_EQ(world.record(world.boot("keeper"), "keeper"), "");
    if (phase != Phase::kEscrowed) {
      EXPECT_EQ(world.record(DatasetRevoke{at.dataset}, "hospital"), "");
      EXPECT_TRUE(world.state().dataset(at.dataset)->revoked);
    }
    auto again = payload_of(world.genesis(), key_named("log").public_key(), to_hex(world.market()),
                            fresh_nonce());
    EXPECT_EQ(world.record(ledger::sign_envelope(key_named("log"), Genesis::kType, again)),
              "second_genesis");

    EXPECT_EQ(world.contract(at.contract), before);
  }
}

}  // namespace
}  // namespace souk::contracts
