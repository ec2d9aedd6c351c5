// Vectors that begin with a cache line: no access of 64 bytes, in step with that, crosses two.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace souk::trainer {

template <class Number>
struct LineAllocator {
  using value_type = Number;
  static constexpr std::align_val_t kLine{64};

  LineAllocator() = default;
  template <class Other>
  explicit LineAllocator(const LineAllocator<Other>&) {}

  Number* allocate(size_t count) {
    return static_cast<Number*>(::operator new(count * sizeof(Number), kLine));
  }
  void deallocate(Number* numbers, size_t) { ::operator delete(numbers, kLine); }
  bool operator==(const LineAllocator&) const = default;
};

template <class Number>
using Lines = std::vector<Number, LineAllocator<Number>>;

}  // namespace souk::trainer
