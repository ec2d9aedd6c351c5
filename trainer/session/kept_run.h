// What of a run outlives its process, under the seal of this program on this platform: the keys
// that job.start names, the root of all its randomness, where and on what ledger it stood, and what
// its steps have made. trainer/SPEC.md, Taken up again.
#pragma once

#include <optional>
#include <string>

#include "contracts/records/records.h"
#include "ledger/crypto/hpke.h"
#include "ledger/crypto/sign.h"
#include "trainer/engine/engine.h"

namespace souk::trainer {

struct KeptRun {
  ledger::SigningKey receipt_key = ledger::SigningKey::generate();
  ledger::KemKey kem = ledger::KemKey::generate();
  NoiseRoot root = NoiseRoot::random();
  contracts::Evidence evidence;  // of the process that job.start names
  uint32_t attempt = 0;          // how often the run had been taken up, this time included
  std::string machine;           // machine_class()
  uint64_t ledger_size = 0;      // the newest that was confirmed
  Digest ledger_root{};
  uint32_t steps = 0;  // done in `state`
  Bytes state;         // TrainingRun::append_state(); empty before the first step
};

// With room for `more` behind it, so that no secret stays behind where a vector grew.
Bytes to_bytes(const KeptRun& run, uint64_t more, SecretAccess access);
// kMalformed where to_bytes() has not made it.
Result<KeptRun> kept_run_from(ByteView bytes);

}  // namespace souk::trainer
