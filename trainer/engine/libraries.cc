// What the libraries underneath are told once, whatever the environment says.
#include <algorithm>
#include <mutex>

#include <dnnl.h>

#include "trainer/engine/engine.h"
#include "trainer/engine/network_state.h"
#include "trainer/engine/simd.h"

// libgomp, which oneDNN was built with; declared here because <omp.h> needs -fopenmp.
extern "C" void omp_set_num_threads(int);

namespace souk::trainer {

void stay_on_this_thread() {
  omp_set_num_threads(1);
}

void configure_libraries() {
  static std::once_flag once;
  std::call_once(once, [] {
    // Whatever ONEDNN_* or DNNL_* said. The instruction set and the hints can be set before
    // first use only; a process that used oneDNN before keeps its own choice.
    (void)dnnl_set_max_cpu_isa(isa_limit() < Isa::kAvx512 ? dnnl_cpu_isa_avx2 : dnnl_cpu_isa_all);
    (void)dnnl_set_cpu_isa_hints(dnnl_cpu_isa_no_hints);
    (void)dnnl_set_default_fpmath_mode(dnnl_fpmath_mode_strict);
    (void)dnnl_set_verbose(0);
    (void)dnnl_set_jit_dump(0);
    (void)dnnl_set_jit_profiling_flags(DNNL_JIT_PROFILE_NONE);
    (void)dnnl_set_primitive_cache_capacity(1024);
  });
}

bool has_bf16() {
  configure_libraries();
  const auto isa = dnnl_get_effective_cpu_isa();
  return (isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
}

std::string isa_name() {
  configure_libraries();
  switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_avx512_core_amx:
      return "AVX512-AMX";
    case dnnl_cpu_isa_avx512_core_bf16:
      return "AVX512-BF16";
    case dnnl_cpu_isa_avx512_core_vnni:
      return "AVX512-VNNI";
    case dnnl_cpu_isa_avx512_core:
      return "AVX512";
    case dnnl_cpu_isa_avx2_vnni:
      return "AVX2-VNNI";
    case dnnl_cpu_isa_avx2:
      return "AVX2";
    case dnnl_cpu_isa_avx:
      return "AVX";
    case dnnl_cpu_isa_sse41:
      return "SSE4.1";
    default:
      return "plain";
  }
}

void limit_to_avx2() {
  isa_limit() = Isa::kAvx2;
}

}  // namespace souk::trainer
