// Convolutions of 3 x 3 windows, stride 1, by Winograd's minimal filtering F(4 x 4, 3 x 3) (Lavin
// and Gray 2015, arXiv:1509.09308): a quarter of the products. Images are cut into tiles of 4 x 4
// pixels, each transformed with its neighbours to 36 numbers for each channel, which meet 36
// matrices of transformed weights and are transformed back. A tile's result depends on its own
// image alone.
#pragma once

#include <cstdint>
#include <vector>

#include <dnnl.hpp>

#include "trainer/engine/graph.h"

namespace souk::trainer {

class Winograd {
 public:
  // Whether this layer takes less time so; false on CPUs without AVX-512, and with bf16 on those
  // with AMX, where it was not measured.
  static bool suits(const Layer& layer, bool bf16);

  enum class Way : uint8_t { kForward, kBackward };  // from x to y, or from dy to dx
  // For runs of `rows` or `small_rows` images; `bf16`: which come in bf16, and so do both sides of
  // the products. Throws dnnl::error.
  Winograd(const dnnl::engine& engine, const Layer& layer, Way way, uint32_t rows,
           uint32_t small_rows, bool bf16);

  // From the model's weights; for all threads, between passes.
  void set_weights(dnnl::stream& stream, const float* weights);
  size_t scratch_bytes() const;

  // What is added to each channel and done after it; forward only.
  struct End {
    const float* bias = nullptr;
    bool rectify = false;
    float slope = 0;
  };
  // Memory of one thread.
  class Runner {
   public:
    Runner(const dnnl::engine& engine, const Winograd& of);
    // `rows` images, channels last.
    void run(dnnl::stream& stream, uint32_t rows, const void* from, const End& end, float* to,
             void* scratch);

   private:
    const Winograd& of_;
    struct Memories {
      dnnl::memory spread, products, scratch;
    };
    std::vector<Memories> memories_;  // one for each chunk
  };

 private:
  // Tiles at once: 36 matrices of tiles x in, and those of tiles x out that they become.
  struct Chunk {
    uint64_t tiles = 0;
    dnnl::memory::desc spread, products;
    dnnl::matmul product;
    dnnl::memory::desc scratch;
  };
  // Tiles [first, last) of the images; `place`: from one of the 36 to the next.
  template <class Number>
  void spread(const Number* images, uint64_t first, uint64_t last, uint64_t place,
              Number* tiles) const;
  bool narrow_products(uint64_t tiles, const void* spread, void* products) const;
  void gather(const float* products, uint64_t first, uint64_t last, uint64_t place, const End& end,
              float* images) const;

  Way way_;
  bool bf16_;
  uint32_t height_, width_, down_, right_;  // of an image, in pixels and in tiles
  uint32_t in_, out_;                       // channels
  dnnl::memory weights_;                    // 36 x in x out
  dnnl::memory product_weights_;            // the same as the products take them
  dnnl::reorder to_product_;                // of bf16
  std::vector<Chunk> chunks_;               // of many tiles, and of few
};

}  // namespace souk::trainer
