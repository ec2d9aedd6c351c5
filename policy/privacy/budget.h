// The privacy budget of one dataset across contracts: a Renyi filter over a mixture of
// orders. It stays sound when a later contract is chosen after earlier models were seen,
// which composition of loss distributions does not. policy/SPEC.md, Privacy, Filter.
//
// Integers only, so that every auditor adds up the same numbers.
#pragma once

#include <array>
#include <cstdint>

#include "policy/privacy/accountant.h"

namespace souk::policy {

inline constexpr std::array<uint32_t, 8> kOrders = {2, 3, 4, 6, 8, 12, 16, 24};

// Nano-units of Renyi divergence, one for each order. At most kChargeCeiling.
using Charges = std::array<int64_t, 8>;
inline constexpr int64_t kChargeCeiling = (int64_t{1} << 53) - 1;

// What `event` costs at each order, rounded up.
Charges charges_for(const Event& event);

// What a dataset with budget (epsilon, delta) can bear at each order, rounded down; each
// order owns delta / 8. -1 where an order is dead: it admits nothing, not even zero.
Charges caps_for(int64_t epsilon_micro, int64_t delta_pico);

// Order by order, saturating at kChargeCeiling. Negative charges are a bug.
Charges add(const Charges& a, const Charges& b);

// Whether at least one order has room: spent + charge <= cap. `committed_plus_reserved`
// is the sum of all that ran and all that may still run. A saturated sum never fits.
bool admits(const Charges& caps, const Charges& committed_plus_reserved, const Charges& charge);

}  // namespace souk::policy
