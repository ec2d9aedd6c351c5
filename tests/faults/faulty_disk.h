// A disk that fails on purpose: a SQLite VFS over the real one, through which every
// connection of this process goes. It knows what was written since the last sync and so
// what a power loss may take away.
#pragma once

#include <cstdint>
#include <string>

namespace souk::faults {

enum class Fault {
  kNone,
  kFails,           // the operation reports an error and did not happen
  kFull,            // a write has no room: half of it happens. Other operations fail
  kFailsPersisted,  // it reports an error and did happen
  kPowerLoss,       // nothing after this happens, and nothing unsynced is left
  kPowerLossTorn,   // the same, but any of the unsynced writes may have reached the disk
};

// Becomes the default VFS, once.
void install();
// Forgets the past: files are as they lie, and what is there is durable.
void begin();
// From now on the `at`-th write, truncation, sync or deletion, counted from 1, has this fault.
void arm(Fault fault, uint64_t at, uint64_t seed);
// From now until begin(), syncs are acknowledged and do nothing: a disk that lies.
void lie();
// Whether that operation was reached.
bool struck();
// After every connection has been closed: files become what the power loss left of them.
// Operations succeed again.
void repair();

}  // namespace souk::faults
