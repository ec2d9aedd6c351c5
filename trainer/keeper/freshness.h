// How old a keeper's view of the ledger may be. It has no clock that a host could not
// set; it compares the witnesses' times with a local clock that only runs.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>

#include "ledger/base/clock.h"

namespace souk::trainer {

// Milliseconds of a clock that never stops or goes back while the process lives, stopped
// or not; its zero means nothing.
using LocalTime = std::function<int64_t()>;
LocalTime boot_time();  // CLOCK_BOOTTIME

// Keys and results leave only on a view younger than this.
inline constexpr int64_t kLeaseMs = 60'000;
// A ledger may not say it is later than the witnesses say, by more than this.
inline constexpr TimeMs kMaxAheadMs = 120'000;

class Freshness {
 public:
  // A quorum cosigned, at `witnessed`, a tree with something in it that did not exist
  // before `asked`. So local time minus witnesses' time is at least what these two say;
  // witnesses tell whole seconds.
  void anchor(int64_t asked, TimeMs witnessed) {
    int64_t offset = asked - witnessed - 1000;
    offset_ = std::max(offset_.value_or(offset), offset);
  }
  // A quorum stood behind the view at this time.
  void saw(TimeMs witnessed) { newest_ = std::max(newest_, witnessed); }

  TimeMs witnessed() const { return newest_; }
  // Never less than the age is; false before the first anchor.
  bool younger_than(int64_t limit_ms, int64_t now) const {
    return offset_ && now - newest_ - *offset_ <= limit_ms;
  }

 private:
  TimeMs newest_ = 0;
  std::optional<int64_t> offset_;
};

}  // namespace souk::trainer
