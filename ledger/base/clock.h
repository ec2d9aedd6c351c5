// Time as an argument: main builds a clock and hands it over.
#pragma once

#include <chrono>
#include <cstdint>

namespace souk {

// Milliseconds since 1970-01-01 UTC.
using TimeMs = int64_t;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimeMs now() = 0;
};

class SystemClock final : public Clock {
 public:
  TimeMs now() override {
    using std::chrono::duration_cast;
    return duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  }
};

}  // namespace souk
