// For steps that an honest process takes: what fails there is a fault of the test.
#pragma once

#include <cstdio>

#include "ledger/base/result.h"

namespace souk::flows {

template <class T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "an honest step failed: %s: %s\n", code_name(result.error().code()),
                 result.error().expected().c_str());
  }
  CHECK(result);
  return std::move(result).take();
}

}  // namespace souk::flows
