// One convolution on oneDNN: its primitives, shared by all workers and fixed when the network is
// compiled; forward and towards the input by way of Winograd's transform where that is faster.
// Layout channels last. Scratch memory belongs to whoever runs it: a primitive with a
// scratchpad of its own, run by two threads, gives wrong norms now and then.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include <dnnl.hpp>

#include "trainer/engine/graph.h"
#include "trainer/engine/winograd.h"

namespace souk::trainer {

// What a convolution is compiled for.
struct ConvolutionPlan {
  uint32_t rows = 1;        // views of a full shard
  uint32_t small_rows = 1;  // and of the pieces a last, smaller shard is made of
  uint32_t example_rows =
      0;  // views of one example: for gradients of single examples; 0 if none are asked
  uint32_t chunk_rows = 0;  // views whose gradients one call sums, in ghost clipping; 0 if unused
  bool training = false;
  bool batch_gradient = false;
  bool needs_input_gradient = false;
  bool bf16 = false;     // inputs of the products; outputs and weight gradients are f32
  bool rectify = false;  // after the convolution: max(x, slope * x)
  float slope = 0;
};

class Convolution {
 public:
  // Throws dnnl::error.
  Convolution(const dnnl::engine& engine, const Layer& layer, const ConvolutionPlan& plan);

  // Memory of one thread, none of it the convolution's.
  class Runner {
   public:
    Runner(const dnnl::engine& engine, const Convolution& of);

    // x: rows views, f32 or bf16 as planned; y, dy, dx likewise `rows` views.
    void forward(dnnl::stream& stream, uint32_t rows, const void* x, const float* bias, float* y,
                 void* scratch);
    void backward_data(dnnl::stream& stream, uint32_t rows, const void* dy, float* dx,
                       void* scratch);
    // Of all `rows` views together, in the primitive's own layout; `rows` is one of the plan's.
    void weights(dnnl::stream& stream, uint32_t rows, const void* x, const void* dy, float* blocked,
                 float* dbias, void* scratch);
    // From the primitive's layout, which may be padded, to the model's.
    void to_plain(dnnl::stream& stream, float* blocked, float* plain);

   private:
    void run(dnnl::stream& stream, const dnnl::primitive& primitive, dnnl_exec_arg_t* args,
             int count);

    const Convolution& of_;
    struct Memories {
      dnnl::memory source, target;  // of forward and of gradients of weights
      dnnl::memory source_gradient, target_gradient;
      dnnl::memory scratch_forward, scratch_data, scratch_weights;
    };
    std::vector<Memories> memories_;  // one for each tile
    dnnl::memory bias_, bias_gradient_, blocked_, plain_;
    std::optional<Winograd::Runner> forward_tiles_, data_tiles_;
  };

  // From the model's weights; for all threads, between passes.
  void set_weights(dnnl::stream& stream, const float* weights);

  size_t scratch_bytes() const { return scratch_; }
  // Numbers in the primitive's layout of a weight gradient.
  uint64_t blocked_count() const { return blocked_.get_size() / sizeof(float); }
  // Calls run(first, rows) for pieces of `rows` views that have primitives; the last may reach
  // beyond `rows`, never beyond the full shard.
  template <class Run>
  void in_tiles(uint32_t rows, const Run& run) const {
    if (rows + small_ > full_) return run(uint32_t{0}, full_);
    for (uint32_t first = 0; first < rows; first += small_) run(first, small_);
  }

 private:
  struct Tile {
    uint32_t rows = 0;
    dnnl::memory::desc source, target, source_gradient, target_gradient;
    dnnl::convolution_forward forward;
    dnnl::convolution_backward_data data;
    dnnl::convolution_backward_weights weights;
    dnnl::memory::desc scratch_forward, scratch_data, scratch_weights;
  };
  const Tile& tile(uint32_t rows) const { return tiles_[tile_index(rows)]; }
  size_t tile_index(uint32_t rows) const;
  void add_tile(const dnnl::engine& engine, const Layer& layer, const ConvolutionPlan& plan,
                uint32_t rows, bool passes, bool weights);

  uint32_t full_ = 0, small_ = 0;
  bool has_bias_ = false;
  Winograd::End end_;                                   // without the bias
  std::optional<Winograd> forward_tiles_, data_tiles_;  // in place of those primitives
  std::vector<Tile> tiles_;
  dnnl::memory::desc plain_, bias_, forward_layout_, data_layout_, blocked_;
  dnnl::memory forward_weights_, data_weights_, plain_weights_;
  dnnl::reorder to_forward_, to_data_, to_plain_;
  size_t scratch_ = 0;
};

}  // namespace souk::trainer
