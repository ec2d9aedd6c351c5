// A disk whose every sync lasts at least a given time, in the whole process: the limit and what
// is measured against it wait alike. A virtual disk may answer a sync from its host's memory,
// forty times faster than a disk that keeps what it acknowledged; there the processor, not the
// disk, is the limit of an append.
#pragma once

namespace souk::ledger::bench {

// Milliseconds; 0 for the disk as it is.
void make_syncs_last(double ms);

}  // namespace souk::ledger::bench
