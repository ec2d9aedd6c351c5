#include "trainer/engine/workers.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace souk::trainer {

struct Workers::State {
  std::vector<std::thread> threads;  // set once in start()

  std::mutex mutex;
  std::condition_variable work, done;
  uint64_t round = 0;           // guarded by mutex
  unsigned busy = 0;            // guarded by mutex
  bool stopping = false;        // guarded by mutex
  const AnyJob* job = nullptr;  // written under mutex while nobody is busy
  size_t count = 0;             // likewise
  std::atomic<size_t> next{0};

  void take_jobs(unsigned worker) {
    for (size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) (*job)(i, worker);
  }

  void serve(unsigned worker) {
    uint64_t seen = 0;
    for (;;) {
      std::unique_lock lock(mutex);
      work.wait(lock, [&] { return stopping || round != seen; });
      if (stopping) return;
      seen = round;
      lock.unlock();
      take_jobs(worker);
      lock.lock();
      if (--busy == 0) done.notify_one();
    }
  }

  void stop() {
    {
      std::lock_guard lock(mutex);
      stopping = true;
    }
    work.notify_all();
    for (auto& thread : threads) thread.join();
    threads.clear();
  }
};

Result<std::unique_ptr<Workers>> Workers::start(unsigned threads) {
  if (threads < 1 || threads > 1024)
    return Error(Code::kMalformed, "workers: expected 1 to 1024 threads");
  auto state = std::make_unique<State>();
  State* shared = state.get();
  for (unsigned worker = 1; worker < threads; ++worker) {
    try {
      state->threads.emplace_back([shared, worker] { shared->serve(worker); });
    } catch (const std::system_error&) {
      state->stop();
      return Error(Code::kExhausted, "workers: the system gave fewer threads than asked for");
    }
  }
  return std::unique_ptr<Workers>(new Workers(std::move(state)));
}

Workers::Workers(std::unique_ptr<State> state) : state_(std::move(state)) {}
Workers::~Workers() {
  state_->stop();
}

unsigned Workers::threads() const {
  return static_cast<unsigned>(state_->threads.size()) + 1;
}

void Workers::run_any(size_t count, const AnyJob& job) {
  State& s = *state_;
  if (s.threads.empty() || count <= 1) {
    for (size_t i = 0; i < count; ++i) job(i, 0);
    return;
  }
  {
    std::lock_guard lock(s.mutex);
    s.job = &job;
    s.count = count;
    s.next = 0;
    s.busy = static_cast<unsigned>(s.threads.size());
    ++s.round;
  }
  s.work.notify_all();
  s.take_jobs(0);
  std::unique_lock lock(s.mutex);
  s.done.wait(lock, [&] { return s.busy == 0; });
}

}  // namespace souk::trainer
