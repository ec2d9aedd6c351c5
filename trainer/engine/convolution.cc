#include "trainer/engine/convolution.h"

#include <algorithm>

#include "ledger/base/result.h"

namespace souk::trainer {
namespace {

using Md = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;
using Type = dnnl::memory::data_type;
using Dims = dnnl::memory::dims;
using Prop = dnnl::prop_kind;
constexpr auto kDirect = dnnl::algorithm::convolution_direct;

dnnl::primitive_attr own_scratch() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

void check(dnnl_status_t status) {
  if (status != dnnl_success) throw dnnl::error(status, "convolution");
}

void point(const dnnl::memory& memory, const void* data) {
  check(dnnl_memory_set_data_handle(memory.get(), const_cast<void*>(data)));
}

dnnl::memory empty_memory(const Md& md, const dnnl::engine& engine) {
  return {md, engine, DNNL_MEMORY_NONE};
}

}  // namespace

Convolution::Convolution(const dnnl::engine& engine, const Layer& layer,
                         const ConvolutionPlan& plan)
    : full_(plan.rows), small_(plan.small_rows), has_bias_(layer.bias_count > 0) {
  const int64_t groups = layer.node.groups, in = layer.in.channels, out = layer.out.channels,
                kernel = layer.node.kernel;
  const Dims dims = groups == 1 ? Dims{out, in, kernel, kernel}
                                : Dims{groups, out / groups, in / groups, kernel, kernel};
  plain_ = Md(dims, Type::f32, groups == 1 ? Tag::oihw : Tag::goihw);
  bias_ = Md(Dims{out}, Type::f32, Tag::a);
  end_ = {nullptr, plan.rectify, plan.slope};
  if (Winograd::suits(layer, plan.bf16)) {
    forward_tiles_.emplace(engine, layer, Winograd::Way::kForward, plan.rows, plan.small_rows,
                           plan.bf16);
    scratch_ = forward_tiles_->scratch_bytes();
    if (plan.training && plan.needs_input_gradient) {
      data_tiles_.emplace(engine, layer, Winograd::Way::kBackward, plan.rows, plan.small_rows,
                          plan.bf16);
      scratch_ = std::max(scratch_, data_tiles_->scratch_bytes());
    }
  }
  // The first tile decides the layouts of weights; the others take them over.
  add_tile(engine, layer, plan, plan.rows, true, plan.batch_gradient);
  if (plan.small_rows != plan.rows)
    add_tile(engine, layer, plan, plan.small_rows, true, plan.batch_gradient);
  for (uint32_t rows : {plan.chunk_rows, plan.example_rows}) {
    if (rows > 0) add_tile(engine, layer, plan, rows, false, true);
  }
  plain_weights_ = empty_memory(plain_, engine);
  if (forward_layout_.get_size() > 0) {
    forward_weights_ = dnnl::memory(forward_layout_, engine);
    to_forward_ =
        dnnl::reorder(dnnl::reorder::primitive_desc(engine, plain_, engine, forward_layout_));
  }
  if (data_layout_.get_size() > 0) {
    data_weights_ = dnnl::memory(data_layout_, engine);
    to_data_ = dnnl::reorder(dnnl::reorder::primitive_desc(engine, plain_, engine, data_layout_));
  }
  if (blocked_.get_size() > 0)
    to_plain_ = dnnl::reorder(dnnl::reorder::primitive_desc(engine, blocked_, engine, plain_));
}

size_t Convolution::tile_index(uint32_t rows) const {
  for (size_t i = 0; i < tiles_.size(); ++i) {
    if (tiles_[i].rows == rows) return i;
  }
  CHECK(false);
  return 0;
}

void Convolution::add_tile(const dnnl::engine& engine, const Layer& layer,
                           const ConvolutionPlan& plan, uint32_t rows, bool passes, bool weights) {
  const Node& node = layer.node;
  const Dims strides{node.stride, node.stride}, padding{node.padding, node.padding};
  const Type type = plan.bf16 ? Type::bf16 : Type::f32;
  auto images = [&](const Shape3& shape, Type of) {
    return Md(Dims{rows, shape.channels, shape.height, shape.width}, of, Tag::nhwc);
  };
  const Md any(plain_.dims(), type, Tag::any), any_gradient(plain_.dims(), Type::f32, Tag::any);
  auto existing =
      std::find_if(tiles_.begin(), tiles_.end(), [&](const Tile& t) { return t.rows == rows; });
  if (existing == tiles_.end()) existing = tiles_.insert(tiles_.end(), Tile{});
  Tile& t = *existing;
  t.rows = rows;
  t.source = images(layer.in, type);
  t.target = images(layer.out, Type::f32);
  t.source_gradient = images(layer.in, Type::f32);
  t.target_gradient = images(layer.out, type);

  auto forward_pd = [&](const Md& layout, const Md& target, const dnnl::primitive_attr& attr) {
    using Forward = dnnl::convolution_forward;
    return has_bias_ ? Forward::primitive_desc({Prop::forward_training, kDirect, t.source, layout,
                                                bias_, target, strides, padding, padding},
                                               attr, engine)
                     : Forward::primitive_desc({Prop::forward_training, kDirect, t.source, layout,
                                                target, strides, padding, padding},
                                               attr, engine);
  };
  auto hint = forward_pd(any, t.target_gradient, own_scratch());
  if (passes && !t.forward && !forward_tiles_) {
    auto attr = own_scratch();
    if (plan.rectify) {
      dnnl::post_ops after;
      after.append_eltwise(1.0F, dnnl::algorithm::eltwise_relu, plan.slope, 0.0F);
      attr.set_post_ops(after);
    }
    auto pd = forward_pd(forward_layout_.get_size() > 0 ? forward_layout_ : any, t.target, attr);
    t.forward = dnnl::convolution_forward(pd);
    t.scratch_forward = pd.scratchpad_desc();
    forward_layout_ = pd.weights_desc();
  }
  if (passes && plan.training && plan.needs_input_gradient && !t.data && !data_tiles_) {
    dnnl::convolution_backward_data::primitive_desc pd(
        {kDirect, t.source_gradient, data_layout_.get_size() > 0 ? data_layout_ : any,
         t.target_gradient, strides, padding, padding},
        own_scratch(), engine, hint);
    t.data = dnnl::convolution_backward_data(pd);
    t.scratch_data = pd.scratchpad_desc();
    data_layout_ = pd.weights_desc();
  }
  if (weights && plan.training && !t.weights) {
    using Weights = dnnl::convolution_backward_weights;
    const Md layout = blocked_.get_size() > 0 ? blocked_ : any_gradient;
    auto pd = has_bias_ ? Weights::primitive_desc({kDirect, t.source, layout, bias_,
                                                   t.target_gradient, strides, padding, padding},
                                                  own_scratch(), engine, hint)
                        : Weights::primitive_desc({kDirect, t.source, layout, t.target_gradient,
                                                   strides, padding, padding},
                                                  own_scratch(), engine, hint);
    t.weights = Weights(pd);
    t.scratch_weights = pd.scratchpad_desc();
    blocked_ = pd.diff_weights_desc();
  }
  for (const Md& md : {t.scratch_forward, t.scratch_data, t.scratch_weights})
    scratch_ = std::max(scratch_, md.get_size());
}

void Convolution::set_weights(dnnl::stream& stream, const float* weights) {
  point(plain_weights_, weights);
  auto move = [&](const dnnl::reorder& reorder, const dnnl::memory& to) {
    const dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, plain_weights_.get()},
                                     {DNNL_ARG_TO, to.get()}};
    check(dnnl_primitive_execute(reorder.get(), stream.get(), 2, args));
  };
  if (forward_layout_.get_size() > 0) move(to_forward_, forward_weights_);
  if (data_layout_.get_size() > 0) move(to_data_, data_weights_);
  check(dnnl_stream_wait(stream.get()));
  if (forward_tiles_) forward_tiles_->set_weights(stream, weights);
  if (data_tiles_) data_tiles_->set_weights(stream, weights);
}

Convolution::Runner::Runner(const dnnl::engine& engine, const Convolution& of) : of_(of) {
  for (const Tile& t : of.tiles_) {
    memories_.push_back(
        {empty_memory(t.source, engine), empty_memory(t.target, engine),
         empty_memory(t.source_gradient, engine), empty_memory(t.target_gradient, engine),
         empty_memory(t.scratch_forward, engine), empty_memory(t.scratch_data, engine),
         empty_memory(t.scratch_weights, engine)});
  }
  bias_ = empty_memory(of.bias_, engine);
  bias_gradient_ = empty_memory(of.bias_, engine);
  if (of.blocked_.get_size() > 0) blocked_ = empty_memory(of.blocked_, engine);
  plain_ = empty_memory(of.plain_, engine);
  if (of.forward_tiles_) forward_tiles_.emplace(engine, *of.forward_tiles_);
  if (of.data_tiles_) data_tiles_.emplace(engine, *of.data_tiles_);
}

void Convolution::Runner::run(dnnl::stream& stream, const dnnl::primitive& primitive,
                              dnnl_exec_arg_t* args, int count) {
  check(dnnl_primitive_execute(primitive.get(), stream.get(), count, args));
  check(dnnl_stream_wait(stream.get()));
}

void Convolution::Runner::forward(dnnl::stream& stream, uint32_t rows, const void* x,
                                  const float* bias, float* y, void* scratch) {
  if (forward_tiles_) {
    Winograd::End end = of_.end_;
    if (of_.has_bias_) end.bias = bias;
    return forward_tiles_->run(stream, rows, x, end, y, scratch);
  }
  const size_t index = of_.tile_index(rows);
  const Memories& m = memories_[index];
  point(m.source, x);
  point(m.target, y);
  point(m.scratch_forward, scratch);
  dnnl_exec_arg_t args[5] = {{DNNL_ARG_SRC, m.source.get()},
                             {DNNL_ARG_WEIGHTS, of_.forward_weights_.get()},
                             {DNNL_ARG_DST, m.target.get()},
                             {DNNL_ARG_SCRATCHPAD, m.scratch_forward.get()},
                             {DNNL_ARG_BIAS, bias_.get()}};
  if (of_.has_bias_) point(bias_, bias);
  run(stream, of_.tiles_[index].forward, args, of_.has_bias_ ? 5 : 4);
}

void Convolution::Runner::backward_data(dnnl::stream& stream, uint32_t rows, const void* dy,
                                        float* dx, void* scratch) {
  if (data_tiles_) return data_tiles_->run(stream, rows, dy, {}, dx, scratch);
  const size_t index = of_.tile_index(rows);
  const Memories& m = memories_[index];
  point(m.target_gradient, dy);
  point(m.source_gradient, dx);
  point(m.scratch_data, scratch);
  dnnl_exec_arg_t args[4] = {{DNNL_ARG_DIFF_DST, m.target_gradient.get()},
                             {DNNL_ARG_WEIGHTS, of_.data_weights_.get()},
                             {DNNL_ARG_DIFF_SRC, m.source_gradient.get()},
                             {DNNL_ARG_SCRATCHPAD, m.scratch_data.get()}};
  run(stream, of_.tiles_[index].data, args, 4);
}

void Convolution::Runner::weights(dnnl::stream& stream, uint32_t rows, const void* x,
                                  const void* dy, float* blocked, float* dbias, void* scratch) {
  const size_t index = of_.tile_index(rows);
  const Memories& m = memories_[index];
  point(m.source, x);
  point(m.target_gradient, dy);
  point(blocked_, blocked);
  point(m.scratch_weights, scratch);
  dnnl_exec_arg_t args[5] = {{DNNL_ARG_SRC, m.source.get()},
                             {DNNL_ARG_DIFF_DST, m.target_gradient.get()},
                             {DNNL_ARG_DIFF_WEIGHTS, blocked_.get()},
                             {DNNL_ARG_SCRATCHPAD, m.scratch_weights.get()},
                             {DNNL_ARG_DIFF_BIAS, bias_gradient_.get()}};
  if (of_.has_bias_) point(bias_gradient_, dbias);
  run(stream, of_.tiles_[index].weights, args, of_.has_bias_ ? 5 : 4);
}

void Convolution::Runner::to_plain(dnnl::stream& stream, float* blocked, float* plain) {
  point(blocked_, blocked);
  point(plain_, plain);
  dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, blocked_.get()}, {DNNL_ARG_TO, plain_.get()}};
  run(stream, of_.to_plain_, args, 2);
}

}  // namespace souk::trainer
