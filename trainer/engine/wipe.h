// Erases memory that held something derived from a key or from the data.
#pragma once

#include <cstddef>
#include <cstring>

namespace souk::trainer {

inline void wipe(void* memory, size_t size) {
  if (size == 0) return;  // memory of nothing may be null
  std::memset(memory, 0, size);
  __asm__ __volatile__("" : : "r"(memory) : "memory");  // the compiler must not drop the store
}

}  // namespace souk::trainer
