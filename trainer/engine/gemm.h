// Matrix products of single-precision numbers on the calling thread.
#pragma once

#include <cstdint>

#include "trainer/engine/kernels.h"

namespace souk::trainer {

// C = op(A) op(B) (+ C), row major; op is 'N' or 'T'; op(A) is m x k. Throws dnnl::error.
void gemm(char op_a, char op_b, uint64_t m, uint64_t n, uint64_t k, const float* a, uint64_t lda,
          const float* b, uint64_t ldb, kernels::Onto onto, float* c, uint64_t ldc);
// Whether gemm() with Onto::kAdd gives C, to the bit, what its sum written elsewhere and then added
// would: this CPU's products do, where they have so few terms that their sum is made in one block.
bool adds_as_a_whole(uint64_t m, uint64_t n, uint64_t k);
// The same by oneDNN alone, whatever the shape.
void library_gemm(char op_a, char op_b, uint64_t m, uint64_t n, uint64_t k, const float* a,
                  uint64_t lda, const float* b, uint64_t ldb, kernels::Onto onto, float* c,
                  uint64_t ldc);

}  // namespace souk::trainer
