// What accounting may cost: counted in units, never timed, so that every machine gives up at the
// same place and a decision replays. A unit is about one exponential, some ten nanoseconds.
#pragma once

#include <algorithm>
#include <cstdint>

namespace souk::policy {

// Of one question about a list of so many different mechanisms, in one direction. Of many, each of
// which is composed by itself, more for each.
inline constexpr uint64_t question_units(size_t kinds) {
  return 150'000'000 + (kinds > 64 ? 3'000'000 : 1'000'000) * uint64_t{kinds};
}

class WorkBudget {
 public:
  explicit WorkBudget(uint64_t units) : left_(units) {}
  WorkBudget(const WorkBudget&) = delete;
  WorkBudget& operator=(const WorkBudget&) = delete;

  // Runs `work` at this budget's cost. False where it was given up in the middle, the units being
  // used up; nothing of what it was to give is to be used then.
  template <class Work>
  bool run(Work&& work) {
    const Charging charging(this);
    try {
      work();
      return true;
    } catch (const UsedUp&) {
      return false;
    }
  }
  bool used_up() const { return left_ == 0; }
  uint64_t left() const { return left_; }

  // By what accounts, before it does so much. Free outside of run().
  static void pay(uint64_t units) {
    if (current_) current_->take(units);
  }
  // Runs `work` at no more than `units` of the budget that is being used, if one is. False where it
  // was given up since these ended; where that budget ended, it is given up as a whole.
  template <class Work>
  static bool within(uint64_t units, Work&& work) {
    const uint64_t all = current_ ? current_->left_ : UINT64_MAX;
    WorkBudget part(std::min(units, all));
    const bool done = part.run(work);
    pay(done || units < all ? std::min(units, all) - part.left_ : UINT64_MAX);
    return done;
  }

 private:
  struct UsedUp {};
  class Charging {
   public:
    explicit Charging(WorkBudget* budget) : before_(current_) { current_ = budget; }
    ~Charging() { current_ = before_; }
    Charging(const Charging&) = delete;
    Charging& operator=(const Charging&) = delete;

   private:
    WorkBudget* const before_;
  };

  void take(uint64_t units) {
    if (units > left_) {
      left_ = 0;
      throw UsedUp{};
    }
    left_ -= units;
  }

  uint64_t left_;
  static inline thread_local WorkBudget* current_ = nullptr;
};

}  // namespace souk::policy
