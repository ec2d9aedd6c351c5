// What network.cc, network_plan.cc and network_gradients.cc share. For these alone.
#pragma once

#include <cstdlib>
#include <cstring>
#include <new>

#include "trainer/engine/convolution.h"
#include "trainer/engine/ghost.h"
#include "trainer/engine/kernels.h"
#include "trainer/engine/network.h"
#include "trainer/engine/scattering.h"

namespace souk::trainer {

// Aligned memory for numbers of one kind, zero at first.
template <class Number>
class Buffer {
 public:
  explicit Buffer(uint64_t count = 0)
      : data_(
            static_cast<Number*>(std::aligned_alloc(64, (count * sizeof(Number) + 127) / 64 * 64))),
        size_(count) {
    if (!data_) throw std::bad_alloc();
    std::memset(static_cast<void*>(data_.get()), 0, count * sizeof(Number));
  }
  Number* data() const { return data_.get(); }
  uint64_t size() const { return size_; }

 private:
  struct Free {
    void operator()(Number* p) const { std::free(p); }
  };
  std::unique_ptr<Number, Free> data_;
  uint64_t size_;
};
using Floats = Buffer<float>;

// What compile() decided about one layer.
struct LayerPlan {
  uint32_t value_root = 0;  // the layer whose buffers this layer's values and gradients are in
  bool done_elsewhere =
      false;  // its forward and, if in_place_end, its backward happen in another layer's call
  std::vector<kernels::Onto> onto;  // how the backward meets the gradient of each input
  std::vector<bool> waits;          // of a sum: that input's gradient is left to another layer,
  std::vector<uint32_t>
      deferred;  // this one: sums whose gradient joins that of inputs[0] after this layer's
  std::optional<uint32_t>
      norm;              // of a sum: the group norm that runs at its place and adds the other input
  bool rectify = false;  // of a group norm: a rectifier is part of it
  float slope = 0;       // of that rectifier
  // Of a group norm or a maximum: the rectifier whose backward happens in this layer's call.
  std::optional<uint32_t> undoes;
  bool undone_elsewhere = false;  // of that rectifier
};

// Owned by one worker at a time.
struct NetworkWorker {
  std::vector<Floats> value_buffers, gradient_buffers;  // by value_root; empty for the others
  std::vector<float*> values, gradients;    // one for each layer; null where there is none
  std::vector<Floats> extras;               // moments of norms, dropout factors
  std::vector<Floats> own;                  // parameter gradients of single examples
  std::vector<Floats> own_bias;             // of convolutions
  std::vector<Buffer<uint16_t>> x16, dy16;  // bf16 copies for convolutions
  std::vector<std::optional<Convolution::Runner>> runners;
  Floats spare;    // a gradient that must be added to another
  Floats blocked;  // a weight gradient in the primitive's layout
  Floats partial;  // the same, of one chunk
  Floats spare_bias;
  Floats fresh;         // a layer's gradient that must be added to another shard's
  Floats products;      // what wide products work in
  Floats images;        // what a scattering works in
  Buffer<double> sums;  // of tables
  Buffer<uint8_t> scratch;
  GhostScratch ghost;
  kernels::NormScratch norm_scratch;
  std::optional<dnnl::stream> stream;
  ExampleNorms norms;
  Network::Pass pass;
  uint32_t rows = 0;  // that the pass runs: its examples' views, rounded up to what has primitives
};

struct Network::State {
  Graph graph;
  NetworkSettings settings;
  uint32_t small_rows = 1;
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  std::vector<LayerPlan> plans;
  std::vector<std::optional<Convolution>> convolutions;
  std::vector<std::optional<Scattering>> scatterings;
  std::vector<LayerStrategy> strategies;  // of trained layers, by group
  std::vector<NetworkWorker> workers;
  std::span<const float> numbers;
  std::vector<float>
      standardized;  // weights as used, at their places; empty if no layer asks for it
  std::vector<float>
      deviations;  // inverse deviation of each unit of a standardised layer, at weight_at + unit

  uint32_t all_rows() const { return settings.shard * settings.views; }
  // Whether a pass computes this layer.
  bool runs(uint32_t layer) const { return layer > settings.first && layer <= settings.last; }
  bool per_example() const { return settings.gradients == Gradients::kPerExample; }
  const float* weights(const Layer& layer) const {
    return (layer.node.standardize ? standardized.data() : numbers.data()) + layer.weight_at;
  }
  const float* bias(const Layer& layer) const { return numbers.data() + layer.bias_at; }

  // network_plan.cc
  void plan();
  void build();
  NetworkWorker make_worker() const;

  // network.cc
  void standardize();
  void forward_layer(NetworkWorker& w, uint32_t index) const;
  void backward_layer(NetworkWorker& w, uint32_t index, float* gradient, kernels::Onto onto) const;
  void backward_all(NetworkWorker& w, float* gradient, kernels::Onto onto) const;

  // network_gradients.cc
  // Turns gradients of standardised weights into gradients of the weights, in place.
  void through_standardization(const Layer& layer, float* gradient) const;
  void table_gradient(NetworkWorker& w, uint32_t index, uint64_t first, uint64_t last,
                      float* dweight) const;
  Measured ghost_norm_of_bf16(NetworkWorker& w, uint32_t index, uint64_t row) const;
  void batch_gradient(NetworkWorker& w, uint32_t index, float* gradient, kernels::Onto onto) const;
  void write_batch_gradient(NetworkWorker& w, uint32_t index, float* dweight) const;
  void example_norms(NetworkWorker& w, uint32_t index) const;
  void example_weights(NetworkWorker& w, uint32_t index, uint32_t example, float* dweight,
                       float* dbias) const;
  void layer_sum(NetworkWorker& w, uint32_t index, const float* factors,
                 std::span<const uint8_t> present, float* sum) const;
  const void* convolution_input(NetworkWorker& w, uint32_t index, uint64_t row) const;
  const void* convolution_gradient(NetworkWorker& w, uint32_t index, uint64_t row) const;
};

// Of a rectifier: what negative numbers are multiplied by.
inline float slope_of(const Node& node) {
  return node.op == Node::Op::kLeakyRelu ? static_cast<float>(node.slope) : 0.0F;
}

// OpenMP keeps its thread count per calling thread; the price is a store.
void stay_on_this_thread();

// Runs `function`, which may throw what oneDNN and memory throw, on one OpenMP thread.
template <class Function>
Status at_the_door(const Function& function) {
  try {
    stay_on_this_thread();
    function();
    return Done{};
  } catch (const dnnl::error&) {
    return Error(Code::kBroken, "oneDNN: expected every primitive of the model to compile and run");
  } catch (const std::bad_alloc&) {
    return Error(Code::kExhausted, "expected enough memory for the activations of one shard");
  }
}

}  // namespace souk::trainer
