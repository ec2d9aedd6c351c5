// The market's way into its ledger. What participants and trainers sign goes in side by side, so
// that it shares its fsyncs. What is only good as long as nothing comes between goes in alone: it
// is looked at when every entry before it has its place, and the next one waits until it has its
// own.
#pragma once

#include <functional>
#include <mutex>
#include <shared_mutex>

#include "ledger/sequencer/sequencer.h"

namespace souk::market {

// Any thread.
class Entrance {
 public:
  // Of everything that is recorded from then on; the ledger must outlive it.
  explicit Entrance(ledger::Sequencer& ledger) : ledger_(ledger) {}

  // As Sequencer::append.
  Result<ledger::Receipt> append(ledger::AuthenticEntry entry) {
    std::unique_lock door(door_);
    std::shared_lock room(room_);
    door.unlock();
    return ledger_.append(std::move(entry));
  }

  // The same when `look` finds nothing against it, else its error and nothing is recorded. While it
  // looks the ledger does not grow. `look` must not append.
  using Look = std::function<Status(const ledger::AuthenticEntry&)>;
  Result<ledger::Receipt> append_alone(ledger::AuthenticEntry entry, const Look& look) {
    std::lock_guard door(door_);  // whoever comes now is behind us
    std::lock_guard room(room_);
    TRY(look(entry));
    return ledger_.append(std::move(entry));
  }

 private:
  ledger::Sequencer& ledger_;
  std::mutex door_;         // taken before room_
  std::shared_mutex room_;  // held until the entry is on the disk
};

}  // namespace souk::market
