// A step allocates nothing: memory is planned when the run is created. Every way into the heap is
// counted here by who called it; what oneDNN and its OpenMP take for themselves is not ours.
#include <gtest/gtest.h>
#include <link.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

#include "tests/trainer/engine/support.h"
#include "trainer/engine/engine.h"

#if !defined(SOUK_SANITIZED) && defined(__GLIBC__)
#define SOUK_COUNTS_ALLOCATIONS 1
#endif

#ifdef SOUK_COUNTS_ALLOCATIONS

namespace {

struct Range {
  uintptr_t first = 0, last = 0;
};
// Written before counting begins.
std::array<Range, 16> libraries;
size_t library_count = 0;

std::atomic<bool> counting{false};
std::atomic<uint64_t> ours{0}, of_libraries{0};

int note_library(dl_phdr_info* info, size_t, void*) {
  const char* name = info->dlpi_name;
  if (!name || (!std::strstr(name, "libdnnl") && !std::strstr(name, "libgomp"))) return 0;
  for (int i = 0; i < info->dlpi_phnum && library_count < libraries.size(); ++i) {
    const auto& part = info->dlpi_phdr[i];
    if (part.p_type != PT_LOAD) continue;
    const uintptr_t first = info->dlpi_addr + part.p_vaddr;
    libraries[library_count++] = {first, first + part.p_memsz};
  }
  return 0;
}

void note(void* caller) {
  if (!counting.load(std::memory_order_relaxed)) return;
  const auto at = reinterpret_cast<uintptr_t>(caller);
  for (size_t i = 0; i < library_count; ++i) {
    if (at >= libraries[i].first && at < libraries[i].last) {
      ++of_libraries;
      return;
    }
  }
  ++ours;
}

}  // namespace

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t size) {
  note(__builtin_return_address(0));
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  note(__builtin_return_address(0));
  return __libc_calloc(count, size);
}
void* realloc(void* old, size_t size) {
  note(__builtin_return_address(0));
  return __libc_realloc(old, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  note(__builtin_return_address(0));
  return __libc_memalign(alignment, size);
}
void* memalign(size_t alignment, size_t size) {
  note(__builtin_return_address(0));
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** out, size_t alignment, size_t size) {
  note(__builtin_return_address(0));
  *out = __libc_memalign(alignment, size);
  return *out ? 0 : ENOMEM;
}
}

// The library's own would hide who asked.
void* operator new(size_t size) {
  note(__builtin_return_address(0));
  if (void* p = __libc_malloc(size ? size : 1)) return p;
  throw std::bad_alloc();
}
void* operator new[](size_t size) {
  note(__builtin_return_address(0));
  if (void* p = __libc_malloc(size ? size : 1)) return p;
  throw std::bad_alloc();
}
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  note(__builtin_return_address(0));
  return __libc_malloc(size ? size : 1);
}
void* operator new[](size_t size, const std::nothrow_t&) noexcept {
  note(__builtin_return_address(0));
  return __libc_malloc(size ? size : 1);
}
void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete[](void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, size_t) noexcept {
  std::free(p);
}
void operator delete[](void* p, size_t) noexcept {
  std::free(p);
}

#endif

namespace souk::trainer {
namespace {

#ifdef SOUK_COUNTS_ALLOCATIONS

using contracts::Optimizer;
using contracts::TrainingSpec;
using Op = contracts::Node::Op;

struct Heap {
  uint64_t ours = 0, libraries = 0;
};

template <class Function>
Heap heap_of(const Function& function) {
  if (library_count == 0) dl_iterate_phdr(note_library, nullptr);
  ::ours = ::of_libraries = 0;
  ::counting = true;
  function();
  ::counting = false;
  return {::ours, ::of_libraries};
}

// After a few steps, in which libraries do what they do once.
Heap heap_of_a_step(const TrainingSpec& spec, const testing::Data& data, unsigned threads) {
  auto workers = Workers::start(threads).take();
  auto run = TrainingRun::create(spec, data.examples(), testing::root_of(1), *workers);
  CHECK(run);
  constexpr uint32_t kFirst = 4;
  while (run->steps_done() < kFirst) CHECK(run->step());
  return heap_of([&] {
    while (run->steps_done() < run->steps_total()) CHECK(run->step());
  });
}

TrainingSpec long_run(TrainingSpec spec) {
  spec.steps = 10;
  spec.learning_rate = {{10, 0.01}};
  return spec;
}

TEST(Allocation, IsNoticedWhereThereIsSome) {
  const auto heap = heap_of([] {
    std::vector<int> some(100);
    void* more = std::malloc(10);
    asm volatile("" : : "r"(some.data()), "r"(more) : "memory");
    std::free(more);
  });
  EXPECT_EQ(heap.ours, 2U);
}

TEST(Allocation, AStepOfEveryLayerTakesNone) {
  auto data = testing::random_data(40, 3 * 9 * 8, 3, 1);
  for (bool privately : {false, true}) {
    for (unsigned threads : {1U, 2U}) {
      auto spec = long_run(testing::every_layer_spec());
      spec.batch = 20;  // five shards: several waves
      if (privately) testing::make_private(spec, 0.5, 1, 1);
      EXPECT_EQ(heap_of_a_step(spec, data, threads).ours, 0U) << privately << threads;
    }
  }
}

TEST(Allocation, NeitherDoOptimisersViewsAndRunningMeans) {
  auto data = testing::random_data(40, 3 * 9 * 8, 3, 1);
  for (bool privately : {false, true}) {
    auto spec = long_run(testing::every_layer_spec());
    spec.model[0].standardize = true;
    spec.optimizer.kind = Optimizer::Kind::kAdam;
    spec.optimizer.weight_decay = 0.01;
    spec.ema = 0.99;
    spec.accumulate = 2;
    spec.augmentation.flip = true;
    spec.augmentation.crop = 2;
    spec.augmentation.multiplicity = 2;
    if (privately) testing::make_private(spec, 0.3, 1, 1);
    EXPECT_EQ(heap_of_a_step(spec, data, 2).ours, 0U) << privately;
  }
}

TEST(Allocation, NorDoEmbeddingsAndBatchNorms) {
  auto table = testing::mixed_columns_data(40, 2);
  for (bool privately : {false, true}) {
    auto spec = long_run(testing::mixed_columns_spec());
    if (privately) testing::make_private(spec, 0.3, 1, 1);
    EXPECT_EQ(heap_of_a_step(spec, table, 2).ours, 0U) << privately;
  }
  auto spec = long_run(testing::plain_spec(
      {4, 8, 8}, 2,
      {testing::convolution(8, 3, 1, 1), testing::layer(Op::kBatchNorm), testing::layer(Op::kRelu),
       testing::layer(Op::kFlatten), testing::linear(2)},
      10, 0.01));
  EXPECT_EQ(heap_of_a_step(spec, testing::random_data(40, 256, 2, 3), 2).ours, 0U);
}

#else

TEST(Allocation, IsCountedWithoutSanitizersOnly) {
  GTEST_SKIP() << "sanitizers have a heap of their own";
}

#endif

}  // namespace
}  // namespace souk::trainer
