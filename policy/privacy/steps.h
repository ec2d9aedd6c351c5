// The steps of a run, discretised. policy/SPEC.md, Privacy, Accountant.
#pragma once

#include <functional>
#include <vector>

#include "policy/privacy/step.h"

namespace souk::policy {

// The different steps of a run, as they are looked at. Of very many, those beyond kMostKept points
// are made anew each time they are asked for.
class Steps {
 public:
  static constexpr size_t kMostKept = 500'000;  // points: 20 MB

  Steps(size_t size, std::function<StepLoss(size_t)> make) : size_(size), make_(std::move(make)) {}

  size_t size() const { return size_; }
  // Calls visit(i, step) for each of them.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (size_t i = 0; i < size_; ++i) {
      if (i < kept_.size()) {
        visit(i, kept_[i]);
        continue;
      }
      StepLoss step = make_(i);
      if (i == kept_.size() && points_ + step.at.size() <= kMostKept) {
        points_ += step.at.size();
        kept_.push_back(std::move(step));
        visit(i, kept_.back());
      } else {
        visit(i, step);
      }
    }
  }

 private:
  size_t size_;
  std::function<StepLoss(size_t)> make_;
  mutable std::vector<StepLoss> kept_;  // the first of them
  mutable size_t points_ = 0;
};

}  // namespace souk::policy
