// What the market asks of its keeper from more than one thread.
#pragma once

#include <string>

#include "trainer/wire/messages.h"

namespace souk::market {

// The end of a contract that no trainer brings to one.
inline trainer::Frame abort_of(const ContractId& contract, const char* reason = "trainer_died",
                               const std::string& dataset = "") {
  Json::Object body{{"contract", contract}, {"reason", reason}};
  if (!dataset.empty()) body["dataset"] = dataset;
  return trainer::frame(trainer::Kind::kAbort, std::move(body));
}

}  // namespace souk::market
