// Private to this room: the one door to cpprestsdk.
#pragma once

#define _TURN_OFF_PLATFORM_STRING  // its U() macro breaks Boost's headers
#include <cpprest/http_client.h>
#include <cpprest/http_listener.h>
#include <pplx/threadpool.h>

#include <algorithm>
#include <mutex>
#include <thread>

namespace souk::market {

// Must come before anything else of cpprestsdk. Its threads only carry bytes; nothing of
// ours ever blocks on them.
inline void start_pplx_threads() {
  static std::once_flag once;
  std::call_once(once, [] {
    try {
      crossplat::threadpool::initialize_with_threads(
          std::max<size_t>(4, 2 * std::thread::hardware_concurrency()));
    } catch (const std::exception&) {
      // Somebody else started the pool with its own size: also good.
    }
  });
}

// A task whose exception nobody looks at ends the process; so every one ends here.
template <class Then>
void observe(const pplx::task<void>& task, Then then) {
  task.then([then](const pplx::task<void>& finished) {
    try {
      finished.get();
    } catch (...) {
      // The other side went away. There is nobody left to tell.
    }
    then();
  });
}

}  // namespace souk::market
