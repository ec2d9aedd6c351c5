#include "trainer/engine/run_state.h"

#include <cpuid.h>
#include <gnu/libc-version.h>

#include <cstring>

#include <dnnl.h>

#include "trainer/engine/engine.h"
#include "trainer/engine/simd.h"

namespace souk::trainer {
namespace {

constexpr size_t kStepsBytes = 8;

// The four words of a CPUID leaf, as 32 hex digits; empty where the CPU has none.
std::string leaf(unsigned number, unsigned sub, unsigned keep_eax = ~0U, unsigned keep_ebx = ~0U) {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(number, sub, &eax, &ebx, &ecx, &edx) == 0) return "";
  Bytes out;
  for (unsigned word : {eax & keep_eax, ebx & keep_ebx, ecx, edx}) {
    for (unsigned shift = 0; shift < 32; shift += 8)
      out.push_back(static_cast<uint8_t>(word >> shift));
  }
  return to_hex(out);
}

// Sizes of the caches, by the leaf of this vendor; which cores share one is left out.
std::string caches() {
  constexpr unsigned kIntel = 4, kAmd = 0x8000001d, kTypeAndLevel = 0xff;
  std::string out;
  for (unsigned number : {kIntel, kAmd}) {
    for (unsigned sub = 0; sub < 4; ++sub) out += leaf(number, sub, kTypeAndLevel);
  }
  return out;
}

}  // namespace

uint64_t length_of(const RunState& state) {
  uint64_t length = kStepsBytes + state.scores.size_bytes();
  for (const auto& list : state.numbers) length += list.size_bytes();
  return length;
}

void append_state(Bytes& out, const RunState& state) {
  const size_t before = out.size();
  out.resize(before + length_of(state));
  uint8_t* to = out.data() + before;
  const uint64_t steps = state.steps;
  auto put = [&](const void* from, size_t size) {
    if (size > 0) std::memcpy(to, from, size);
    to += size;
  };
  put(&steps, kStepsBytes);
  for (const auto& list : state.numbers) put(list.data(), list.size_bytes());
  put(state.scores.data(), state.scores.size_bytes());
}

Status read_into(RunState& state, ByteView bytes) {
  if (bytes.size() != length_of(state))
    return Error(Code::kMalformed, "training state: expected one of this specification");
  const uint8_t* from = bytes.data();
  uint64_t steps = 0;
  auto take = [&](void* to, size_t size) {
    if (size > 0) std::memcpy(to, from, size);
    from += size;
  };
  take(&steps, kStepsBytes);
  if (steps > UINT32_MAX)
    return Error(Code::kMalformed, "training state: expected a number of steps");
  state.steps = static_cast<uint32_t>(steps);
  for (const auto& list : state.numbers) take(list.data(), list.size_bytes());
  take(state.scores.data(), state.scores.size_bytes());
  return Done{};
}

std::string machine_class() {
  // Leaf 1 without the number of this core; what the system has switched on decides as much.
  constexpr unsigned kWithoutCore = 0x0000ffff;
  const dnnl_version_t* dnnl = dnnl_version();
  std::string out =
      isa_name() + " lanes " + std::to_string(static_cast<unsigned>(isa_of_this_cpu())) + " cpu " +
      leaf(0, 0) + leaf(1, 0, ~0U, kWithoutCore) + leaf(7, 0) + " caches " + caches() + " dnnl " +
      std::to_string(dnnl->major) + "." + std::to_string(dnnl->minor) + "." +
      std::to_string(dnnl->patch) + " " + dnnl->hash + " libc " + gnu_get_libc_version();
  return out;
}

}  // namespace souk::trainer
