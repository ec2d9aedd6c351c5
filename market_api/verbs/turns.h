// Who is served next by something that serves one at a time: by rank, then in the order of coming.
// Each rank waits in a bounded number, and for a bounded time.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <mutex>
#include <utility>

#include "ledger/base/result.h"

namespace souk::market {

// What the ledger waits for; what participants wait for; what anybody may ask, for nothing.
enum class Rank : uint8_t { kLedger, kParticipant, kQuestion };

class Turns {
 public:
  struct Queue {
    size_t most;  // that wait at once
    std::chrono::milliseconds longest;
  };
  using Queues = std::array<Queue, 3>;  // by rank
  // Together the last two hold up fewer threads than the server has (transport/server.h).
  static constexpr Queues kUsual = {{{64, std::chrono::minutes(10)},
                                     {8, std::chrono::seconds(60)},
                                     {3, std::chrono::seconds(20)}}};

  explicit Turns(const Queues& queues = kUsual) : queues_(queues) {}
  Turns(const Turns&) = delete;
  Turns& operator=(const Turns&) = delete;

  // Held to the end of its life.
  class Turn {
   public:
    Turn(Turn&& other) noexcept : turns_(std::exchange(other.turns_, nullptr)) {}
    Turn& operator=(Turn&&) = delete;
    ~Turn() {
      if (turns_) turns_->end();
    }

   private:
    friend class Turns;
    explicit Turn(Turns& turns) : turns_(&turns) {}
    Turns* turns_;
  };

  // Waits for it. kTryAgain: too many of this rank wait already, or it took too long.
  Result<Turn> take(Rank rank) {
    const auto at = static_cast<size_t>(rank);
    std::unique_lock lock(mutex_);
    auto& line = lines_[at];
    if (busy_ && line.size() >= queues_[at].most) return too_many();
    auto self = line.insert(line.end(), 0);
    auto is_next = [&] {
      for (size_t before = 0; before < at; ++before) {
        if (!lines_[before].empty()) return false;
      }
      return !busy_ && self == line.begin();
    };
    bool served = changed_.wait_for(lock, queues_[at].longest, is_next);
    line.erase(self);
    if (!served) {
      changed_.notify_all();
      return too_many();
    }
    busy_ = true;
    return Turn(*this);
  }

 private:
  static Error too_many() {
    return Error(Code::kTryAgain, "the keeper has too much to answer: expected fewer questions");
  }
  void end() {
    {
      std::lock_guard lock(mutex_);
      busy_ = false;
    }
    changed_.notify_all();
  }

  const Queues queues_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool busy_ = false;                     // Guarded by mutex_.
  std::array<std::list<char>, 3> lines_;  // Guarded by mutex_. Who waits, in order.
};

}  // namespace souk::market
