// One training job: the life of a trainer process after lock-down. It believes the
// ledger it is shown only as far as genesis, checkpoint, chain and signatures bear,
// opens nothing before it has found its own job.start there, and says nothing about
// the data but steps and epsilon. trainer/SPEC.md, Trainer session.
#pragma once

#include <span>
#include <string>

#include "contracts/lifecycle/follower.h"
#include "ledger/crypto/hpke.h"
#include "ledger/crypto/sign.h"
#include "trainer/attest/appraisal.h"
#include "trainer/engine/workers.h"
#include "trainer/pipe/channel.h"

namespace souk::trainer {

// What an enclave process knows of itself before the first outside byte.
struct EnclaveSelf {
  ledger::SigningKey platform;  // of the simulated platform
  Digest measurement{};
  std::string sandbox;
};

// Speaks on `channel` until the job is done or refused. The answer is for the exit
// status only; the host has been told a code. `shared`: where the run's sealed state outlives this
// process, memory of the host's; empty where the host keeps none.
Status run_trainer(Channel& channel, const EnclaveSelf& self, Workers& workers,
                   std::span<uint8_t> shared = {});

}  // namespace souk::trainer
