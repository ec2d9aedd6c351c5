// Small products of matrices: those of a classifier's last layer, of ghost norms on small maps, of
// Winograd's tiles with 16 channels. oneDNN compiles all sixteen of its kernels when it first meets
// a product with a side of 510 or less, which takes as long as half of a small job's start.
#pragma once

#include <cstdint>

#include "trainer/engine/kernels.h"

namespace souk::trainer {

// As gemm(): C = op(A) op(B) (+ C), to the bit what oneDNN 2.6 gives for it on one thread. False,
// with nothing done, for shapes that are not small and CPUs without AVX-512.
bool narrow_product(char op_a, char op_b, uint64_t m, uint64_t n, uint64_t k, const float* a,
                    uint64_t lda, const float* b, uint64_t ldb, kernels::Onto onto, float* c,
                    uint64_t ldc);

}  // namespace souk::trainer
