// A fixed set of threads. Start it before lock-down: afterwards no thread can be made.
#pragma once

#include <cstddef>
#include <memory>

#include "ledger/base/result.h"

namespace souk::trainer {

class Workers {
 public:
  // `threads` >= 1 counts the caller, who works too. kExhausted if the system refuses.
  static Result<std::unique_ptr<Workers>> start(unsigned threads);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  unsigned threads() const;

  // job(index, worker) once for every index < count, worker < threads(); returns when all
  // are done. Which worker gets which index is chance, so a job's result must not depend
  // on it. Jobs do not throw. One caller at a time. Allocates nothing.
  template <class Job>
  void run(size_t count, const Job& job) {
    run_any(count, {&job, [](const void* self, size_t index, unsigned worker) {
                      (*static_cast<const Job*>(self))(index, worker);
                    }});
  }

 private:
  // A borrowed callable.
  struct AnyJob {
    const void* self;
    void (*call)(const void* self, size_t index, unsigned worker);
    void operator()(size_t index, unsigned worker) const { call(self, index, worker); }
  };
  void run_any(size_t count, const AnyJob& job);

  struct State;
  explicit Workers(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace souk::trainer
