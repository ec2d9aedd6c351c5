#include "ledger/audit/pipeline.h"

#include <condition_variable>
#include <mutex>
#include <thread>

#include "ledger/entry/leaf.h"

namespace souk::ledger {
namespace {

constexpr size_t kChunk = 256;

std::vector<CheckedLeaf> check(std::vector<Bytes> leaves) {
  std::vector<CheckedLeaf> out;
  out.reserve(leaves.size());
  for (auto& bytes : leaves) {
    auto prepared = PreparedLeaf::of(bytes);
    auto hash = prepared ? prepared->hash() : leaf_hash(bytes);
    out.push_back({std::move(bytes), hash, std::move(prepared)});
  }
  return out;
}

}  // namespace

struct LeafPipeline::Workers {
  using Task = std::packaged_task<std::vector<CheckedLeaf>()>;

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Task> tasks;  // Guarded by mutex.
  bool stopping = false;   // Guarded by mutex.
  std::vector<std::thread> threads;

  explicit Workers(unsigned count) {
    for (unsigned i = 0; i < count; ++i) threads.emplace_back([this] { run(); });
  }
  ~Workers() {
    {
      std::lock_guard lock(mutex);
      stopping = true;
      tasks.clear();
    }
    changed.notify_all();
    for (auto& thread : threads) thread.join();
  }
  void run() {
    while (true) {
      Task task;
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return stopping || !tasks.empty(); });
        if (tasks.empty()) return;
        task = std::move(tasks.front());
        tasks.pop_front();
      }
      task();
    }
  }
};

LeafPipeline::LeafPipeline(unsigned threads, Visit visit)
    : visit_(std::move(visit)),
      in_flight_(size_t{4} * threads),
      workers_(std::make_unique<Workers>(threads)) {}

LeafPipeline::~LeafPipeline() = default;

Status LeafPipeline::push(Bytes leaf) {
  chunk_.push_back(std::move(leaf));
  if (chunk_.size() < kChunk) return Done{};
  return submit();
}

Status LeafPipeline::submit() {
  Workers::Task task(
      [leaves = std::exchange(chunk_, {})]() mutable { return check(std::move(leaves)); });
  pending_.push_back(task.get_future());
  {
    std::lock_guard lock(workers_->mutex);
    workers_->tasks.push_back(std::move(task));
  }
  workers_->changed.notify_one();
  if (pending_.size() <= in_flight_) return Done{};
  return take_oldest();
}

Status LeafPipeline::take_oldest() {
  auto leaves = pending_.front().get();
  pending_.pop_front();
  for (auto& leaf : leaves) TRY(visit_(visited_++, std::move(leaf)));
  return Done{};
}

Status LeafPipeline::finish() {
  if (!chunk_.empty()) TRY(submit());
  while (!pending_.empty()) TRY(take_oldest());
  return Done{};
}

}  // namespace souk::ledger
