#include "trainer/engine/gemm.h"

#include <dnnl.h>
#include <dnnl.hpp>

#include "trainer/engine/narrow_product.h"
#include "trainer/engine/simd.h"

namespace souk::trainer {

void library_gemm(char op_a, char op_b, uint64_t m, uint64_t n, uint64_t k, const float* a,
                  uint64_t lda, const float* b, uint64_t ldb, kernels::Onto onto, float* c,
                  uint64_t ldc) {
  auto d = [](uint64_t v) { return static_cast<dnnl_dim_t>(v); };
  const float beta = onto == kernels::Onto::kAdd ? 1.0F : 0.0F;
  auto status =
      dnnl_sgemm(op_a, op_b, d(m), d(n), d(k), 1.0F, a, d(lda), b, d(ldb), beta, c, d(ldc));
  if (status != dnnl_success) throw dnnl::error(status, "sgemm");
}

bool adds_as_a_whole(uint64_t m, uint64_t n, uint64_t k) {
  constexpr uint64_t kBlock = 384;
  return isa_of_this_cpu() == Isa::kAvx512 && m > 1 && n > 1 && k <= kBlock;
}

void gemm(char op_a, char op_b, uint64_t m, uint64_t n, uint64_t k, const float* a, uint64_t lda,
          const float* b, uint64_t ldb, kernels::Onto onto, float* c, uint64_t ldc) {
  if (!narrow_product(op_a, op_b, m, n, k, a, lda, b, ldb, onto, c, ldc))
    library_gemm(op_a, op_b, m, n, k, a, lda, b, ldb, onto, c, ldc);
}

}  // namespace souk::trainer
