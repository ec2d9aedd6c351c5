// The products of large linear layers on their way forward. oneDNN packs the weights anew for every
// shard; here the examples are packed, which are fewer, and weights are read as they lie.
#pragma once

#include <cstdint>

namespace souk::trainer {

// Whether wide_product() takes a layer of these sizes on this CPU: AVX-512, and nothing small.
bool suits_wide_product(uint64_t rows, uint64_t in, uint64_t out);

// Numbers that wide_product() works in, aligned to 64 bytes.
uint64_t room_of_wide_product();

// y = x W^T + bias, row major, W being out x in: to the bit what oneDNN 2.6 gives for the product
// on one thread, with the bias added to that. `bias` may be null.
void wide_product(uint64_t rows, uint64_t in, uint64_t out, const float* x, const float* weights,
                  const float* bias, float* y, float* room);

}  // namespace souk::trainer
