// What a public key must be before anything is entrusted to it.
#pragma once

#include "ledger/base/named.h"

namespace souk::ledger {

// Whether somebody may hold the private half: a canonical point of the group that Ed25519 signs in
// (RFC 8032, 5.1), and not of small order.
bool is_public_key(const PublicKey& key);
// A point of small order, all zeros among them: careless verifiers take many signatures for its
// own, verify() takes none.
bool is_weak_key(const PublicKey& key);

}  // namespace souk::ledger
