// The REST surface of soukd: one function from request to response. Contract:
// market_api/SPEC.md.
#pragma once

#include "market_api/transport/message.h"
#include "market_api/verbs/market.h"

namespace souk::market {

Response route(Market& market, const Request& request);

}  // namespace souk::market
