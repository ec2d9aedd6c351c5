// Out to ONNX and back: judged by ONNX's own checker, by prediction, and by Microsoft's runtime
// where npm's onnxruntime-web is installed (onnx_runtime_test.sh).
#include <gtest/gtest.h>
#include <onnx/checker.h>
#include <onnx/onnx_pb.h>

#include <limits>
#include <optional>

#include "market_api/client/onnx_model.h"
#include "tests/market_api/client/models_support.h"

namespace souk::market {
namespace {

using testing::logits;
using testing::Op;
using testing::random_rows;
using testing::stored_with_noise;

onnx::ModelProto parsed(const Bytes& bytes) {
  onnx::ModelProto model;
  EXPECT_TRUE(model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
  return model;
}
Bytes bytes_of(const onnx::ModelProto& model) {
  std::string text;
  EXPECT_TRUE(model.SerializeToString(&text));
  return {text.begin(), text.end()};
}

// What comes back computes what went out.
void expect_round_trip(const ModelPart& part, bool same_nodes = true) {
  auto stored = stored_with_noise(trainable_spec(part));
  auto bytes = export_onnx(stored);
  ASSERT_TRUE(bytes) << bytes.error().expected();
  auto model = parsed(*bytes);
  EXPECT_NO_THROW(onnx::checker::check_model(model));
  EXPECT_EQ(model.opset_import(0).version(), 17);
  auto imported = import_onnx(*bytes);
  ASSERT_TRUE(imported) << imported.error().expected();
  if (same_nodes) {
    EXPECT_TRUE(imported->part.model == part.model);
    EXPECT_EQ(imported->weights, stored.model);
  }
  StoredModel again;
  again.notes.spec = trainable_spec(imported->part);
  again.model = imported->weights;
  auto rows = random_rows(stored.notes.spec, 5);
  auto before = logits(stored, rows), after = logits(again, rows);
  ASSERT_EQ(before.size(), after.size());
  // The same kernels on the same numbers; the public constants go through one more rounding.
  for (size_t i = 0; i < before.size(); ++i)
    EXPECT_NEAR(before[i], after[i], 1e-5F * (1 + std::fabs(before[i])));
}

TEST(Onnx, EveryLayerForImagesGoesOutAndComesBack) {
  expect_round_trip(testing::picture_network());
}

TEST(Onnx, PooledImagesGoIntoALinearLayer) {
  expect_round_trip(testing::pooled_network());
}

TEST(Onnx, ConstantsForEachFeatureAreInside) {
  ModelPart part;
  part.input_shape = {3};
  part.input_mean = {1, 2, 3};
  part.input_scale = {0.5, 0.25, 0.125};
  part.model = {testing::linear(4), testing::layer(Op::kTanh), testing::linear(2, false)};
  expect_round_trip(part);
  auto imported = import_onnx(export_onnx(stored_with_noise(trainable_spec(part))).take()).take();
  EXPECT_EQ(imported.part.input_mean, part.input_mean);
  EXPECT_EQ(imported.part.input_scale, part.input_scale);
}

TEST(Onnx, NamesAndCsvLayoutTravelAlong) {
  auto stored = stored_with_noise(trainable_spec(testing::pooled_network()));
  stored.notes.classes = {"cat", "dog", "cow"};
  stored.notes.csv.emplace();
  stored.notes.csv->columns = {{"age", trainer::CsvColumn::Role::kNumber, {}, {}}};
  auto imported = import_onnx(export_onnx(stored).take()).take();
  EXPECT_EQ(imported.classes, stored.notes.classes);
  EXPECT_EQ(imported.csv, stored.notes.csv);
}

TEST(Onnx, NumbersThatAreNoLogitsStayThemselves) {
  for (uint32_t outputs : {5U, 1U}) {
    ModelPart part;
    part.input_shape = {3};
    part.classes = 5;
    part.loss = contracts::TrainingSpec::Loss::kMse;
    part.model = {testing::linear(4), testing::layer(Op::kTanh), testing::linear(outputs)};
    auto stored = stored_with_noise(trainable_spec(part));
    stored.notes.classes = {"a", "b", "c", "d", "e"};
    auto imported = import_onnx(export_onnx(stored).take()).take();
    EXPECT_EQ(imported.part.loss, part.loss);
    EXPECT_EQ(imported.part.classes, 5u);
    StoredModel again;
    again.notes.spec = trainable_spec(imported.part);
    again.model = imported.weights;
    auto rows = random_rows(stored.notes.spec, 50);
    auto before = predict_rows(stored, rows, 1).take(), after = predict_rows(again, rows, 1).take();
    EXPECT_FALSE(after.are_probabilities);
    EXPECT_EQ(before.numbers, after.numbers);
    EXPECT_EQ(before.labels, after.labels);
  }
}

// ---- what other programs write ------------------------------------------------

struct Graph {
  Graph() {
    model.set_ir_version(8);
    auto* opset = model.add_opset_import();
    opset->set_domain("");
    opset->set_version(13);
    model.mutable_graph()->set_name("foreign");
    value(*model.mutable_graph()->add_input(), "x", {4});
    value(*model.mutable_graph()->add_output(), "y", {2});
  }
  static void value(onnx::ValueInfoProto& info, const std::string& name,
                    const std::vector<int64_t>& sizes) {
    info.set_name(name);
    auto* type = info.mutable_type()->mutable_tensor_type();
    type->set_elem_type(onnx::TensorProto::FLOAT);
    type->mutable_shape()->add_dim()->set_dim_param("batch");
    for (int64_t size : sizes) type->mutable_shape()->add_dim()->set_dim_value(size);
  }
  void constant(const std::string& name, const std::vector<int64_t>& shape, float each) {
    auto* tensor = model.mutable_graph()->add_initializer();
    tensor->set_name(name);
    tensor->set_data_type(onnx::TensorProto::FLOAT);
    int64_t count = 1;
    for (int64_t size : shape) {
      tensor->add_dims(size);
      count *= size;
    }
    for (int64_t i = 0; i < count; ++i) tensor->add_float_data(each * static_cast<float>(i + 1));
  }
  onnx::NodeProto& node(const std::string& op, const std::vector<std::string>& inputs,
                        const std::string& output) {
    auto* made = model.mutable_graph()->add_node();
    made->set_op_type(op);
    made->set_name("the_" + output);
    for (const auto& input : inputs) made->add_input(input);
    made->add_output(output);
    return *made;
  }
  std::string error() const {
    auto imported = import_onnx(bytes_of(model));
    return imported ? "no error" : imported.error().expected();
  }
  onnx::ModelProto model;
};

TEST(Onnx, AMatrixProductAndItsBiasAreALinearLayer) {
  Graph graph;
  graph.constant("w", {4, 2}, 1);  // [in, out]
  graph.constant("b", {2}, 10);
  graph.node("MatMul", {"x", "w"}, "p");
  graph.node("Add", {"p", "b"}, "q");
  graph.node("Softmax", {"q"}, "y");
  auto imported = import_onnx(bytes_of(graph.model)).take();
  ASSERT_EQ(imported.part.model, (std::vector<contracts::Node>{testing::linear(2)}));
  EXPECT_EQ(imported.weights.tensors.at(0).values, (std::vector<float>{1, 3, 5, 7, 2, 4, 6, 8}));
  EXPECT_EQ(imported.weights.tensors.at(1).values, (std::vector<float>{10, 20}));
  EXPECT_EQ(imported.part.loss, contracts::TrainingSpec::Loss::kSoftmaxCrossEntropy);
}

TEST(Onnx, AGroupNormAsPyTorchWritesItIsOne) {
  Graph graph;
  graph.constant("ones", {2}, 1);
  graph.model.mutable_graph()->mutable_initializer(0)->set_float_data(1, 1);
  graph.constant("zeros", {2}, 0);
  graph.constant("scale", {4}, 1);
  graph.constant("shift", {4}, 0.5F);
  graph.constant("w", {4, 2}, 1);
  auto* groups = graph.model.mutable_graph()->add_initializer();
  groups->set_name("groups");
  groups->set_data_type(onnx::TensorProto::INT64);
  groups->add_dims(3);
  for (int64_t size : {0, 2, -1}) groups->add_int64_data(size);
  graph.node("Relu", {"x"}, "r");
  graph.node("Shape", {"r"}, "shape");
  graph.node("Reshape", {"r", "groups"}, "g");
  graph.node("InstanceNormalization", {"g", "ones", "zeros"}, "n");
  graph.node("Reshape", {"n", "shape"}, "back");
  graph.node("Mul", {"back", "scale"}, "m");
  graph.node("Add", {"m", "shift"}, "a");
  graph.node("MatMul", {"a", "w"}, "y");
  auto imported = import_onnx(bytes_of(graph.model));
  ASSERT_TRUE(imported) << imported.error().expected();
  EXPECT_TRUE(imported->part.model ==
              (std::vector<contracts::Node>{testing::layer(Op::kRelu), testing::group_norm(2),
                                            testing::linear(2, false)}));
}

TEST(Onnx, TheFirstNodeWithoutACounterpartIsNamed) {
  Graph graph;
  graph.constant("w", {2, 4}, 1);
  graph.node("Relu", {"x"}, "r");
  graph.node("Softplus", {"r"}, "s");
  graph.node("Celu", {"s"}, "t");
  auto& made = graph.node("Gemm", {"t", "w"}, "y");
  auto* attribute = made.add_attribute();
  attribute->set_name("transB");
  attribute->set_type(onnx::AttributeProto::INT);
  attribute->set_i(1);
  EXPECT_EQ(graph.error(), "onnx: node 2 \"the_s\" (Softplus): this operation is not supported");
  EXPECT_EQ(import_onnx(bytes_of(graph.model)).error().code(), Code::kRefused);
}

// Also where the output that is read does not need it: what it means for the model is not known.
TEST(Onnx, AnOperatorThatIsNotKnownIsRefusedWhereverItStands) {
  for (const char* domain : {"", "com.example"}) {
    for (bool first : {false, true}) {
      Graph graph;
      graph.constant("w", {4, 2}, 1);
      if (!first) graph.node("MatMul", {"x", "w"}, "y");
      auto& odd = graph.node(*domain ? "Gemm" : "LSTM", {"x", "w"}, "z");
      odd.set_domain(domain);
      if (first) graph.node("MatMul", {"x", "w"}, "y");
      const std::string node = "onnx: node " + std::string(first ? "1" : "2") + " \"the_z\" ";
      EXPECT_EQ(graph.error(), node + (*domain ? "(Gemm): domain com.example is not supported"
                                               : "(LSTM): this operation is not supported"));
    }
  }
  // A known one that only another output needs is left out, as our own probabilities are.
  Graph graph;
  graph.constant("w", {4, 2}, 1);
  graph.node("MatMul", {"x", "w"}, "y");
  graph.node("Softmax", {"y"}, "probabilities");
  graph.node("Relu", {"y"}, "z");
  EXPECT_EQ(graph.error(), "no error");
}

TEST(Onnx, RefusesWhatItWouldComputeDifferently) {
  Graph graph;
  graph.constant("w", {4, 2}, 1);
  auto& made = graph.node("Gemm", {"x", "w"}, "y");
  auto* attribute = made.add_attribute();
  attribute->set_name("alpha");
  attribute->set_type(onnx::AttributeProto::FLOAT);
  attribute->set_f(2);
  EXPECT_EQ(graph.error(), "onnx: node 1 \"the_y\" (Gemm): expected alpha and beta 1 and transA 0");

  Graph wide;
  wide.constant("w", {3, 2}, 1);  // for three features, there are four
  wide.node("MatMul", {"x", "w"}, "y");
  EXPECT_EQ(wide.error(), "onnx: node 1 \"the_y\" (MatMul): expected a matrix for its flat input");
}

void give(onnx::NodeProto& node, const std::string& name, int64_t value) {
  auto* attribute = node.add_attribute();
  attribute->set_name(name);
  attribute->set_type(onnx::AttributeProto::INT);
  attribute->set_i(value);
}

// x W, then `op`.
struct Ending : Graph {
  Ending(const std::string& op, std::optional<int64_t> axis, int64_t opset) {
    model.mutable_opset_import(0)->set_version(opset);
    constant("w", {4, 2}, 1);
    node("MatMul", {"x", "w"}, "q");
    auto& last = node(op, {"q"}, "y");
    if (axis) give(last, "axis", *axis);
  }
};

TEST(Onnx, LeavesOutASoftmaxOfTheClassesAndNoOther) {
  for (int64_t opset : {7, 12, 13, 21}) {
    for (const char* op : {"Softmax", "LogSoftmax"}) {
      EXPECT_EQ(Ending(op, std::nullopt, opset).error(), "no error") << op << opset;
      EXPECT_EQ(Ending(op, 1, opset).error(), "no error");
      EXPECT_EQ(Ending(op, -1, opset).error(), "no error");
      EXPECT_EQ(Ending(op, 0, opset).error(), "onnx: node 2 \"the_y\" (" + std::string(op) +
                                                  "): expected axis 1, the classes; found 0");
    }
  }
  EXPECT_EQ(Ending("Sigmoid", std::nullopt, 13).error(), "no error");
  // Of two, the first is a layer: a softmax is none.
  Graph twice;
  twice.constant("w", {4, 2}, 1);
  twice.node("MatMul", {"x", "w"}, "q");
  twice.node("Softmax", {"q"}, "p");
  twice.node("Softmax", {"p"}, "y");
  EXPECT_EQ(twice.error(), "onnx: node 2 \"the_p\" (Softmax): this operation is not supported");
  // [N, C, 1, 1]: the last axis has one number.
  for (int64_t opset : {12, 13}) {
    Graph pooled;
    pooled.model.mutable_opset_import(0)->set_version(opset);
    auto* graph = pooled.model.mutable_graph();
    graph->clear_input();
    Graph::value(*graph->add_input(), "x", {2, 3, 3});
    pooled.constant("w", {2, 2, 1, 1}, 1);
    pooled.node("Conv", {"x", "w"}, "c");
    pooled.node("GlobalAveragePool", {"c"}, "q");
    pooled.node("Softmax", {"q"}, "y");
    EXPECT_EQ(pooled.error() == "no error", opset == 12) << pooled.error();
  }
}

TEST(Onnx, IsReadInTheOpsetsWhoseMeaningItHas) {
  for (int64_t opset : {0, 1, 6, 22, 100, -1}) {
    EXPECT_EQ(Ending("Sigmoid", std::nullopt, opset).error(),
              "onnx: expected opset 7 to 21, found " + std::to_string(opset));
  }
  Ending twice("Sigmoid", std::nullopt, 13);
  twice.model.add_opset_import()->set_version(14);
  EXPECT_EQ(twice.error(), "onnx: expected one opset_import without a domain");
  twice.model.clear_opset_import();
  EXPECT_EQ(twice.error(), "onnx: expected an opset_import without a domain");
  Ending foreign("Softmax", std::nullopt, 13);
  foreign.model.mutable_graph()->mutable_node(1)->set_domain("com.example");
  EXPECT_EQ(foreign.error(),
            "onnx: node 2 \"the_y\" (Softmax): domain com.example is not supported");
}

TEST(Onnx, RefusesWeightsThatAreNotFinite) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    Ending graph("Softmax", std::nullopt, 13);
    graph.model.mutable_graph()->mutable_initializer(0)->set_float_data(5, bad);
    EXPECT_EQ(graph.error(), "onnx: constant w: expected finite values");
  }
}

TEST(Onnx, RefusesNamesThatStandForTwoThings) {
  Ending constants("Softmax", std::nullopt, 13);
  constants.constant("w", {4, 2}, 2);
  EXPECT_EQ(constants.error(), "onnx: expected each constant once, found w again");
  Ending nodes("Softmax", std::nullopt, 13);
  nodes.node("Relu", {"x"}, "q");
  EXPECT_EQ(nodes.error(), "onnx: expected each name once, found q again");
  Ending shadow("Softmax", std::nullopt, 13);
  shadow.node("Relu", {"x"}, "w");
  EXPECT_EQ(shadow.error(), "onnx: expected each name once, found w again");
}

TEST(Onnx, RefusesBytesThatAreNoModel) {
  auto good = export_onnx(stored_with_noise(trainable_spec(testing::pooled_network()))).take();
  EXPECT_FALSE(import_onnx({}));
  for (size_t size = 0; size < good.size(); size += 17)
    EXPECT_FALSE(import_onnx(ByteView(good).first(size))) << size;
  for (size_t i = 0; i < good.size(); i += 3) {
    Bytes bad = good;
    bad[i] ^= 0x5a;
    auto imported = import_onnx(bad);  // any answer but a crash
    EXPECT_TRUE(!imported || !imported->part.model.empty());
  }
}

}  // namespace
}  // namespace souk::market
