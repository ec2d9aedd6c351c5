#include "trainer/engine/network.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <optional>

#include <dnnl.h>
#include <dnnl.hpp>

#include "trainer/engine/chacha.h"
#include "trainer/engine/kernels.h"

// libgomp, which oneDNN was built with; declared here because <omp.h> needs -fopenmp.
extern "C" void omp_set_num_threads(int);

namespace souk::trainer {
namespace {

using kernels::Onto;
using Md = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;
constexpr auto kF32 = dnnl::memory::data_type::f32;
constexpr uint64_t kMaxFloats = uint64_t{1} << 33;  // of activations, for one worker

class Floats {
 public:
  explicit Floats(uint64_t count = 0)
      : data_(static_cast<float*>(std::aligned_alloc(64, (count * sizeof(float) + 127) / 64 * 64))), size_(count) {
    if (!data_) throw std::bad_alloc();
    std::memset(data_.get(), 0, count * sizeof(float));
  }
  float* data() const { return data_.get(); }
  uint64_t size() const { return size_; }

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float, Free> data_;
  uint64_t size_;
};

// OpenMP keeps its thread count per calling thread; the price is a store.
void stay_on_this_thread() { omp_set_num_threads(1); }

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

void check_dnnl(dnnl_status_t status) {
  if (status != dnnl_success) throw dnnl::error(status, "sgemm");
}

// C = op(A) op(B) (+ C), row major.
void gemm(char ta, char tb, uint64_t m, uint64_t n, uint64_t k, const float* a, uint64_t lda, const float* b, uint64_t ldb,
          Onto onto, float* c, uint64_t ldc) {
  auto d = [](uint64_t v) { return static_cast<dnnl_dim_t>(v); };
  check_dnnl(dnnl_sgemm(ta, tb, d(m), d(n), d(k), 1.0F, a, d(lda), b, d(ldb), onto == Onto::kAdd ? 1.0F : 0.0F, c, d(ldc)));
}

// The primitives of one convolution; shared by all workers, scratch is the worker's.
struct Convolution {
  dnnl::convolution_forward forward;
  dnnl::convolution_backward_data backward_data;
  dnnl::convolution_backward_weights backward_weights;  // for the shard, or for one example
  Md source, target, row_source, row_target;            // channels last
  Md plain, bias;                                       // weights as the model has them
  Md weights, weights_back, weights_gradient;           // as the primitives want them
  dnnl::memory forward_weights, backward_weights_memory;  // reordered by set_parameters
  dnnl::reorder gradient_to_plain;
  size_t scratch = 0;  // bytes, the most any of them needs
};

struct Worker {
  std::vector<Floats> values, gradients;         // one for each layer
  std::vector<std::vector<uint32_t>> winners;    // max pool
  std::vector<Floats> extras;                    // group norm moments, dropout factors, conv gradient in blocked form
  Floats spare;                                  // a gradient that must be added to another
  Floats scratch;
  std::optional<dnnl::stream> stream;
};

}  // namespace

struct Network::State {
  Graph graph;
  uint32_t shard = 0;
  Gradients gradients = Gradients::kNone;
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  std::vector<std::optional<Convolution>> convolutions;
  std::vector<std::vector<Onto>> onto;  // how layer i's backward meets the gradient of each input
  std::vector<Worker> workers;
  std::span<const float> parameters;

  Convolution make_convolution(const Layer& layer, bool needs_input_gradient);
  Worker make_worker(size_t scratch_bytes, uint64_t spare) const;
  void run_convolution(const dnnl::primitive& primitive, Worker& w, std::unordered_map<int, dnnl::memory> args) const;
  void forward_layer(Worker& w, uint32_t index, const Secret<32>* dropout, uint32_t first) const;
  void backward_layer(Worker& w, uint32_t index) const;
  void convolution_weights(Worker& w, uint32_t index, const Md& x_md, float* x, const Md& dy_md, float* dy, float* dweight,
                           float* dbias) const;
  dnnl::memory wrap(const Md& md, const float* data) const {
    return {md, engine, const_cast<float*>(data)};
  }
};

void configure_libraries() {
  static std::once_flag once;
  std::call_once(once, [] {
    // Whatever ONEDNN_* or DNNL_* said. The instruction set and the hints can be set before
    // first use only; a process that used oneDNN before keeps its own choice.
    (void)dnnl_set_max_cpu_isa(dnnl_cpu_isa_all);
    (void)dnnl_set_cpu_isa_hints(dnnl_cpu_isa_no_hints);
    (void)dnnl_set_default_fpmath_mode(dnnl_fpmath_mode_strict);
    (void)dnnl_set_verbose(0);
    (void)dnnl_set_jit_dump(0);
    (void)dnnl_set_jit_profiling_flags(DNNL_JIT_PROFILE_NONE);
    (void)dnnl_set_primitive_cache_capacity(1024);
  });
}

Convolution Network::State::make_convolution(const Layer& layer, bool needs_input_gradient) {
  using D = dnnl::memory::dims;
  using Prop = dnnl::prop_kind;
  const auto algorithm = dnnl::algorithm::convolution_direct;
  const Node& node = layer.node;
  const int64_t groups = node.groups, in = layer.in.channels, out = layer.out.channels, kernel = node.kernel;
  const D strides{node.stride, node.stride}, padding{node.padding, node.padding};
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);

  Convolution c;
  auto images = [&](int64_t rows, const Shape3& shape) {
    return Md(D{rows, shape.channels, shape.height, shape.width}, kF32, Tag::nhwc);
  };
  c.source = images(shard, layer.in);
  c.target = images(shard, layer.out);
  c.row_source = images(1, layer.in);
  c.row_target = images(1, layer.out);
  const D dims = groups == 1 ? D{out, in, kernel, kernel} : D{groups, out / groups, in / groups, kernel, kernel};
  c.plain = Md(dims, kF32, groups == 1 ? Tag::oihw : Tag::goihw);
  const Md any(dims, kF32, Tag::any);
  c.bias = Md(D{out}, kF32, Tag::a);
  const bool bias = layer.bias_count > 0;

  auto forward_of = [&](const Md& source, const Md& target) {
    return bias ? dnnl::convolution_forward::primitive_desc(
                      {Prop::forward_training, algorithm, source, any, c.bias, target, strides, padding, padding}, attr, engine)
                : dnnl::convolution_forward::primitive_desc(
                      {Prop::forward_training, algorithm, source, any, target, strides, padding, padding}, attr, engine);
  };
  auto forward_pd = forward_of(c.source, c.target);
  c.forward = dnnl::convolution_forward(forward_pd);
  c.weights = forward_pd.weights_desc();
  c.forward_weights = dnnl::memory(c.weights, engine);
  c.scratch = forward_pd.scratchpad_desc().get_size();

  if (gradients != Gradients::kNone && needs_input_gradient) {
    dnnl::convolution_backward_data::primitive_desc pd({algorithm, c.source, any, c.target, strides, padding, padding}, attr,
                                                       engine, forward_pd);
    c.backward_data = dnnl::convolution_backward_data(pd);
    c.weights_back = pd.weights_desc();
    c.backward_weights_memory = dnnl::memory(c.weights_back, engine);
    c.scratch = std::max(c.scratch, pd.scratchpad_desc().get_size());
  }
  if (gradients != Gradients::kNone) {
    bool one = gradients == Gradients::kPerExample;
    const Md& source = one ? c.row_source : c.source;
    const Md& target = one ? c.row_target : c.target;
    auto hint = one ? forward_of(source, target) : forward_pd;
    auto pd = bias ? dnnl::convolution_backward_weights::primitive_desc(
                         {algorithm, source, any, c.bias, target, strides, padding, padding}, attr, engine, hint)
                   : dnnl::convolution_backward_weights::primitive_desc(
                         {algorithm, source, any, target, strides, padding, padding}, attr, engine, hint);
    c.backward_weights = dnnl::convolution_backward_weights(pd);
    c.weights_gradient = pd.diff_weights_desc();
    c.scratch = std::max(c.scratch, pd.scratchpad_desc().get_size());
    dnnl::reorder::primitive_desc reorder(engine, c.weights_gradient, engine, c.plain, attr);
    c.gradient_to_plain = dnnl::reorder(reorder);
    c.scratch = std::max(c.scratch, reorder.scratchpad_desc().get_size());
  }
  return c;
}

Worker Network::State::make_worker(size_t scratch_bytes, uint64_t spare) const {
  Worker w;
  for (size_t i = 0; i < graph.layers.size(); ++i) {
    const Layer& layer = graph.layers[i];
    const uint64_t count = layer.out.count() * shard;
    bool back = gradients != Gradients::kNone && layer.depends_on_parameters;
    uint64_t extra = 0;
    switch (layer.node.op) {
      case Node::Op::kGroupNorm: extra = uint64_t{2} * layer.node.groups * shard; break;
      case Node::Op::kDropout: extra = count; break;
      case Node::Op::kConv2d:
        if (i > 0 && gradients != Gradients::kNone) extra = convolutions[i]->weights_gradient.get_size() / sizeof(float) + 16;
        break;
      default: break;
    }
    if (i == 0) extra = 0;
    w.values.emplace_back(count);
    w.gradients.emplace_back(back ? count : 0);
    w.extras.emplace_back(extra);
    w.winners.emplace_back(i > 0 && layer.node.op == Node::Op::kMaxPool ? count : 0);
  }
  w.spare = Floats(spare);
  w.scratch = Floats(scratch_bytes / sizeof(float) + 16);
  w.stream.emplace(engine);
  return w;
}

Result<std::unique_ptr<Network>> Network::compile(const Graph& graph, uint32_t shard, unsigned workers, Gradients gradients) {
  configure_libraries();
  uint64_t floats = 0;
  for (const Layer& layer : graph.layers) floats += layer.out.count() * shard * 3;
  if (floats > kMaxFloats) return Error(Code::kExhausted, "expected the activations of one shard to stay below 32 GiB");
  auto state = std::make_unique<State>();
  State& s = *state;
  s.graph = graph;
  s.shard = shard;
  s.gradients = gradients;
  TRY(at_the_door([&] {
    size_t scratch = 0;
    uint64_t spare = 0;
    s.convolutions.resize(graph.layers.size());
    s.onto.resize(graph.layers.size());
    for (size_t i = 1; i < graph.layers.size(); ++i) {
      const Layer& layer = graph.layers[i];
      if (layer.node.op != Node::Op::kConv2d) continue;
      s.convolutions[i] = s.make_convolution(layer, graph.layers[layer.inputs[0]].depends_on_parameters);
      scratch = std::max(scratch, s.convolutions[i]->scratch);
    }
    // The last layer to read a value is the first to write its gradient.
    std::vector<bool> written(graph.layers.size(), false);
    for (size_t i = graph.layers.size() - 1; i >= 1; --i) {
      for (uint32_t input : graph.layers[i].inputs) {
        s.onto[i].push_back(written[input] ? Onto::kAdd : Onto::kWrite);
        if (written[input] && s.convolutions[i]) spare = std::max(spare, graph.layers[input].out.count() * shard);
        written[input] = true;
      }
    }
    for (unsigned worker = 0; worker < workers; ++worker) s.workers.push_back(s.make_worker(scratch, spare));
  }));
  return std::unique_ptr<Network>(new Network(std::move(state)));
}

Network::Network(std::unique_ptr<State> state) : state_(std::move(state)) {}
Network::~Network() = default;

uint32_t Network::shard() const { return state_->shard; }
float* Network::input(unsigned worker) { return state_->workers[worker].values.front().data(); }
const float* Network::logits(unsigned worker) const { return state_->workers[worker].values.back().data(); }
float* Network::logits_gradient(unsigned worker) { return state_->workers[worker].gradients.back().data(); }

Status Network::set_parameters(std::span<const float> parameters) {
  State& s = *state_;
  CHECK(parameters.size() == s.graph.parameters);
  s.parameters = parameters;
  return at_the_door([&] {
    dnnl::stream stream(s.engine);
    for (size_t i = 1; i < s.graph.layers.size(); ++i) {
      if (!s.convolutions[i]) continue;
      Convolution& c = *s.convolutions[i];
      auto plain = s.wrap(c.plain, parameters.data() + s.graph.layers[i].weight_at);
      dnnl::reorder(plain, c.forward_weights).execute(stream, plain, c.forward_weights);
      if (c.backward_data) dnnl::reorder(plain, c.backward_weights_memory).execute(stream, plain, c.backward_weights_memory);
    }
    stream.wait();
  });
}

void Network::State::run_convolution(const dnnl::primitive& primitive, Worker& w,
                                     std::unordered_map<int, dnnl::memory> args) const {
  Md scratch(dnnl::memory::dims{static_cast<int64_t>(w.scratch.size() * sizeof(float))}, dnnl::memory::data_type::u8, Tag::a);
  args.emplace(DNNL_ARG_SCRATCHPAD, wrap(scratch, w.scratch.data()));
  primitive.execute(*w.stream, args);
  w.stream->wait();
}

void Network::State::forward_layer(Worker& w, uint32_t index, const Secret<32>* dropout, uint32_t first) const {
  const Layer& layer = graph.layers[index];
  const float* x = w.values[layer.inputs[0]].data();
  float* y = w.values[index].data();
  const float* weight = parameters.data() + layer.weight_at;
  const float* bias = parameters.data() + layer.bias_at;
  const uint64_t in = layer.in.count(), out = layer.out.count(), count = out * shard;
  switch (layer.node.op) {
    case Node::Op::kLinear:
      gemm('N', 'T', shard, out, in, x, in, weight, in, Onto::kWrite, y, out);
      if (layer.bias_count > 0) {
        for (uint32_t row = 0; row < shard; ++row) kernels::copy(bias, y + row * out, out, Onto::kAdd);
      }
      return;
    case Node::Op::kConv2d: {
      const Convolution& c = *convolutions[index];
      std::unordered_map<int, dnnl::memory> args{{DNNL_ARG_SRC, wrap(c.source, x)},
                                                 {DNNL_ARG_WEIGHTS, c.forward_weights},
                                                 {DNNL_ARG_DST, wrap(c.target, y)}};
      if (layer.bias_count > 0) args.emplace(DNNL_ARG_BIAS, wrap(c.bias, bias));
      return run_convolution(c.forward, w, std::move(args));
    }
    case Node::Op::kMaxPool: return kernels::max_pool(layer, shard, x, y, w.winners[index].data());
    case Node::Op::kAvgPool: return kernels::average_pool(layer, shard, x, y);
    case Node::Op::kGlobalAvgPool: return kernels::global_average_pool(layer, shard, x, y);
    case Node::Op::kFlatten: return kernels::flatten(layer, shard, x, y);
    case Node::Op::kGroupNorm: return kernels::group_norm(layer, shard, x, weight, bias, y, w.extras[index].data());
    case Node::Op::kDropout: {
      float* factors = w.extras[index].data();
      if (!dropout) {
        std::fill_n(factors, count, 1.0F);
        return kernels::copy(x, y, count, Onto::kWrite);
      }
      for (uint32_t row = 0; row < shard; ++row) {
        ChaCha20 random(dropout->bytes(SecretAccess()), (uint64_t{index} << 32) | (first + row));
        kernels::dropout_factors(layer, random, factors + row * out);
      }
      return kernels::multiply(x, factors, y, count, Onto::kWrite);
    }
    case Node::Op::kAdd: return kernels::add(x, w.values[layer.inputs[1]].data(), y, count);
    case Node::Op::kConcat: {
      uint32_t channel = 0;
      for (uint32_t input : layer.inputs) {
        const Shape3& part = graph.layers[input].out;
        kernels::into_channels(part, layer.out, channel, shard, w.values[input].data(), y);
        channel += part.channels;
      }
      return;
    }
    default: return kernels::activate(layer.node, x, y, count);
  }
}

void Network::State::backward_layer(Worker& w, uint32_t index) const {
  const Layer& layer = graph.layers[index];
  const float* x = w.values[layer.inputs[0]].data();
  const float* dy = w.gradients[index].data();
  float* dx = w.gradients[layer.inputs[0]].data();
  const float* weight = parameters.data() + layer.weight_at;
  const uint64_t in = layer.in.count(), out = layer.out.count(), count = out * shard;
  const Onto first = onto[index][0];
  auto wanted = [&](uint32_t input) { return graph.layers[input].depends_on_parameters; };
  if (layer.inputs.size() == 1 && !wanted(layer.inputs[0])) return;
  switch (layer.node.op) {
    case Node::Op::kLinear: return gemm('N', 'N', shard, in, out, dy, out, weight, in, first, dx, in);
    case Node::Op::kConv2d: {
      const Convolution& c = *convolutions[index];
      float* target = first == Onto::kAdd ? w.spare.data() : dx;
      run_convolution(c.backward_data, w,
                      {{DNNL_ARG_DIFF_DST, wrap(c.target, dy)},
                       {DNNL_ARG_WEIGHTS, c.backward_weights_memory},
                       {DNNL_ARG_DIFF_SRC, wrap(c.source, target)}});
      if (first == Onto::kAdd) kernels::copy(target, dx, in * shard, Onto::kAdd);
      return;
    }
    case Node::Op::kMaxPool: return kernels::max_pool_backward(layer, shard, w.winners[index].data(), dy, dx, first);
    case Node::Op::kAvgPool: return kernels::average_pool_backward(layer, shard, dy, dx, first);
    case Node::Op::kGlobalAvgPool: return kernels::global_average_pool_backward(layer, shard, dy, dx, first);
    case Node::Op::kFlatten: return kernels::flatten_backward(layer, shard, dy, dx, first);
    case Node::Op::kGroupNorm:
      return kernels::group_norm_backward(layer, shard, x, weight, w.extras[index].data(), dy, dx, first);
    case Node::Op::kDropout: return kernels::multiply(dy, w.extras[index].data(), dx, count, first);
    case Node::Op::kAdd:
      for (size_t i = 0; i < layer.inputs.size(); ++i) {
        if (wanted(layer.inputs[i])) kernels::copy(dy, w.gradients[layer.inputs[i]].data(), count, onto[index][i]);
      }
      return;
    case Node::Op::kConcat: {
      uint32_t channel = 0;
      for (size_t i = 0; i < layer.inputs.size(); ++i) {
        const Shape3& part = graph.layers[layer.inputs[i]].out;
        if (wanted(layer.inputs[i])) {
          kernels::from_channels(part, layer.out, channel, shard, dy, w.gradients[layer.inputs[i]].data(), onto[index][i]);
        }
        channel += part.channels;
      }
      return;
    }
    default: return kernels::activate_backward(layer.node, x, w.values[index].data(), dy, dx, count, first);
  }
}

Status Network::forward(unsigned worker, const Secret<32>* dropout, uint32_t first) {
  const State& s = *state_;
  return at_the_door([&] {
    for (uint32_t i = 1; i < s.graph.layers.size(); ++i) s.forward_layer(state_->workers[worker], i, dropout, first);
  });
}

Status Network::backward(unsigned worker) {
  const State& s = *state_;
  CHECK(s.gradients != Gradients::kNone);
  return at_the_door([&] {
    for (auto i = static_cast<uint32_t>(s.graph.layers.size() - 1); i >= 1; --i) s.backward_layer(state_->workers[worker], i);
  });
}

void Network::State::convolution_weights(Worker& w, uint32_t index, const Md& x_md, float* x, const Md& dy_md, float* dy,
                                         float* dweight, float* dbias) const {
  const Convolution& c = *convolutions[index];
  auto blocked = wrap(c.weights_gradient, w.extras[index].data());
  std::unordered_map<int, dnnl::memory> args{
      {DNNL_ARG_SRC, wrap(x_md, x)}, {DNNL_ARG_DIFF_DST, wrap(dy_md, dy)}, {DNNL_ARG_DIFF_WEIGHTS, blocked}};
  if (graph.layers[index].bias_count > 0) args.emplace(DNNL_ARG_DIFF_BIAS, wrap(c.bias, dbias));
  run_convolution(c.backward_weights, w, std::move(args));
  // Blocked forms pad channels; the plain form has the model's weights and nothing else.
  run_convolution(c.gradient_to_plain, w, {{DNNL_ARG_FROM, blocked}, {DNNL_ARG_TO, wrap(c.plain, dweight)}});
}

Status Network::batch_gradient(unsigned worker, std::span<float> out) {
  const State& s = *state_;
  CHECK(s.gradients == Gradients::kBatch && out.size() == s.graph.parameters);
  return at_the_door([&] {
    Worker& w = state_->workers[worker];
    for (uint32_t i = 1; i < s.graph.layers.size(); ++i) {
      const Layer& layer = s.graph.layers[i];
      if (layer.weight_count == 0) continue;
      float* x = w.values[layer.inputs[0]].data();
      float* dy = w.gradients[i].data();
      float* dweight = out.data() + layer.weight_at;
      float* dbias = out.data() + layer.bias_at;
      const uint64_t in_count = layer.in.count(), out_count = layer.out.count();
      if (layer.node.op == Node::Op::kConv2d) {
        const Convolution& c = *s.convolutions[i];
        s.convolution_weights(w, i, c.source, x, c.target, dy, dweight, dbias);
      } else if (layer.node.op == Node::Op::kLinear) {
        gemm('T', 'N', out_count, in_count, s.shard, dy, out_count, x, in_count, Onto::kWrite, dweight, in_count);
        std::fill_n(dbias, layer.bias_count, 0.0F);
        for (uint32_t row = 0; row < s.shard; ++row) kernels::copy(dy + row * out_count, dbias, layer.bias_count, Onto::kAdd);
      } else {
        std::fill_n(dweight, layer.weight_count, 0.0F);
        std::fill_n(dbias, layer.bias_count, 0.0F);
        for (uint32_t row = 0; row < s.shard; ++row) {
          kernels::group_norm_parameters(layer, x + row * in_count, w.extras[i].data() + row * 2 * layer.node.groups,
                                         dy + row * out_count, dweight, dbias);
        }
      }
    }
  });
}

Status Network::example_gradient(unsigned worker, uint32_t row, std::span<float> out) {
  const State& s = *state_;
  CHECK(s.gradients == Gradients::kPerExample && out.size() == s.graph.parameters && row < s.shard);
  return at_the_door([&] {
    Worker& w = state_->workers[worker];
    for (uint32_t i = 1; i < s.graph.layers.size(); ++i) {
      const Layer& layer = s.graph.layers[i];
      if (layer.weight_count == 0) continue;
      const uint64_t in_count = layer.in.count(), out_count = layer.out.count();
      float* x = w.values[layer.inputs[0]].data() + row * in_count;
      float* dy = w.gradients[i].data() + row * out_count;
      float* dweight = out.data() + layer.weight_at;
      float* dbias = out.data() + layer.bias_at;
      if (layer.node.op == Node::Op::kConv2d) {
        const Convolution& c = *s.convolutions[i];
        s.convolution_weights(w, i, c.row_source, x, c.row_target, dy, dweight, dbias);
      } else if (layer.node.op == Node::Op::kLinear) {
        for (uint64_t o = 0; o < out_count; ++o) {
          const float d = dy[o];
          for (uint64_t k = 0; k < in_count; ++k) dweight[o * in_count + k] = d * x[k];
        }
        std::copy_n(dy, layer.bias_count, dbias);
      } else {
        std::fill_n(dweight, layer.weight_count, 0.0F);
        std::fill_n(dbias, layer.bias_count, 0.0F);
        kernels::group_norm_parameters(layer, x, w.extras[i].data() + row * 2 * layer.node.groups, dy, dweight, dbias);
      }
    }
  });
}

}  // namespace souk::trainer
