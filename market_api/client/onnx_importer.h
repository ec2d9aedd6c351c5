// One ONNX graph on its way to a network of ours. For onnx_import.cc, onnx_layers.cc and
// onnx_shapes.cc alone.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "market_api/client/onnx_model.h"
#include "market_api/client/onnx_tensors.h"

namespace souk::market::from_onnx {

using contracts::Node;
using contracts::Shape3;
using Op = contracts::Node::Op;
using Constant = OnnxConstant;

// What a name in the graph stands for. Several ONNX nodes make one of ours, so some names are
// the middle of something: they become nodes only when somebody else reads them.
struct Value {
  enum class Kind : uint8_t {
    kConstant,
    kExample,     // the input, perhaps normalised: mean, scale
    kActivation,  // the output of our node `index`
    kChosen,      // columns of the input as they are; `cast` once they are integers
    kEmbedded,    // rows of a table for chosen columns
    kProduct,     // x W without its bias
    kGrouped,     // x in groups, on its way to a group norm
    kNormalized,  // then normalised; `steps` 0: still in groups, 1: back in shape, 2: scaled
    kShapeOf,     // the shape of our node `index`: to reshape back to
    kSigmoidOf,   // may become silu
    kGelu,        // steps 1: x/sqrt 2, 2: erf of it, 3: plus 1, 4: times x; 5: x/2
  } kind = Kind::kConstant;
  Constant constant;
  uint32_t index = 0;  // of our node that is read (kActivation: that is the value)
  bool image = false;  // rank 4
  std::vector<double> mean, scale;
  std::vector<uint32_t> columns;
  bool cast = false;
  Constant weight, bias;
  uint32_t groups = 0;
  int steps = 0;
};
using Kind = Value::Kind;

// Reads the nodes in their order; each makes a value.
class OnnxImporter {
 public:
  // `opset` of the operators without a domain: 7 to 21.
  OnnxImporter(const onnx::GraphProto& graph, int64_t opset) : graph_(graph), opset_(opset) {}

  Result<ImportedOnnx> run();

 private:
  Error refused(const std::string& why) const;
  // That the operator is one that is known somewhere in a graph, of whatever its node is for.
  Status check_operator() const;
  static Error malformed(const std::string& expected);

  // ---- the frame --------------------------------------------------------------

  Status read_constants();
  Status read_input();

  // The first output, without the one node that only turns it into probabilities.
  Status choose_output();
  // Whether that node does so for each row by itself: `image` says the rank of what it reads.
  Status check_ending(bool image);
  Result<ImportedOnnx> finish();

  // ---- our nodes --------------------------------------------------------------

  // A new node of ours that reads `inputs`.
  Result<Value> emit(Node node, std::vector<uint32_t> inputs, const Shape3& shape, bool image);
  void keep(uint32_t index, const char* part, std::vector<int64_t> shape,
            std::vector<float> values);
  static std::vector<float> floats(const Constant& constant);

  // The public constants of the example, which every reader must agree about.
  Status use_example(const Value& value);
  Result<Value> emit_norm(const Value& x, std::vector<float> weight, std::vector<float> bias);
  Result<Value> emit_linear(const Value& product, const Constant* bias);

  // The node of ours behind a value; makes it where the value was the middle of something.
  Result<uint32_t> activation(Value& value);

  // ---- reading one node -------------------------------------------------------

  Value* input(int i);
  const Constant* constant(int i);
  // The value at input i as a node of ours; [N, C] of a [N, C, 1, 1] too.
  Result<uint32_t> activation_at(int i);
  Status no_more(const OnnxAttributes& attributes) const;
  Result<Value> simple(Op op, double slope = 0.01);

  // Square kernels and strides, equal padding on all sides: a window of ours.
  Status read_window(OnnxAttributes& attributes, std::vector<int64_t> kernel, const Shape3& in,
                     Node& node);
  static Shape3 windowed(const Node& node, const Shape3& in, uint32_t channels);
  Result<Value> read_conv();
  Result<Value> read_pool(Op op);

  // y = x B (+ C), from Gemm or MatMul; weight as [out, in].
  Result<Value> read_product();
  Result<Value> read_batch_norm();
  Result<Value> read_instance_norm();
  Result<Value> flattened(Value* x);
  Result<Value> values_at(uint32_t index, bool image, const Value* example = nullptr);
  Result<Value> read_reshape();

  // A constant for each number of the example, or one.
  Result<std::vector<double>> per_number(const Constant& constant);
  static void combine(std::vector<double>& into, const std::vector<double>& with, double otherwise,
                      bool add);
  // x' = (x - mean) * scale, one more step of it.
  Result<Value> rescaled(const Value& example, const Constant& by);
  static bool is_scalar(const Constant* constant, double wanted);
  Value gelu_step(const Value& x, uint32_t index, int steps);

  // Add, Sub, Mul, Div: of two values, or of a value and a constant.
  Result<Value> read_arithmetic();
  Result<Value> emit_gelu(const Value& x);
  Result<Value> read_join(Value& a, Value& b);
  Result<Value> read_concat();
  Result<Value> read_gather();
  Result<Value> read_dropout();

  // Squeeze, Unsqueeze, ReduceMean over height and width.
  Result<Value> read_axes();
  Result<Value> read_constant_node();
  Result<Value> read_node();

  const onnx::GraphProto& graph_;
  const int64_t opset_;
  std::map<std::string, Value> values_;
  std::set<std::string> wanted_;  // names that the output depends on
  std::string output_;
  const onnx::NodeProto* ending_ = nullptr;  // Softmax, LogSoftmax, Sigmoid, or none
  // The node being read.
  const onnx::NodeProto* node_ = nullptr;
  int number_ = 0;
  // What comes of it.
  ModelPart part_;
  std::vector<Shape3> shapes_;  // of our nodes; 0 is the example
  trainer::Model weights_;
  bool example_used_ = false;
  std::vector<double> mean_, scale_;
};

}  // namespace souk::market::from_onnx
