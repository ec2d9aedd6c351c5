// Shapes, joins and arithmetic: several nodes of ONNX that make one of ours.
#include <algorithm>
#include <cmath>

#include "market_api/client/onnx_importer.h"

namespace souk::market::from_onnx {

Result<Value> OnnxImporter::flattened(Value* x) {
  if (x->kind == Kind::kEmbedded) {
    uint32_t index = TRY(activation(*x));
    return values_at(index, false);
  }
  uint32_t index = TRY(activation(*x));
  const Shape3 shape = shapes_[index];
  // [N, C, 1, 1] is the same as [N, C] here; a flat value stays as it is.
  if (shape.height == 1 && shape.width == 1) return values_at(index, false, x);
  Node node;
  node.op = Op::kFlatten;
  return emit(node, {index}, {static_cast<uint32_t>(shape.count()), 1, 1}, false);
}

Result<Value> OnnxImporter::values_at(uint32_t index, bool image, const Value* example) {
  Value value;
  value.kind = Kind::kActivation;
  value.index = index;
  if (example && example->kind == Kind::kExample) value = *example;
  value.image = image;
  return value;
}

Result<Value> OnnxImporter::read_reshape() {
  Value* x = input(0);
  const Constant* target = constant(1);
  if (!x) return refused("reads what no earlier node makes");
  if (OnnxAttributes(*node_).integer("allowzero", 0) != 0)
    return refused("sizes of zero are not supported");
  if (x->kind == Kind::kConstant) {
    if (!target) return refused("expected a constant shape");
    Value value = *x;
    auto count = static_cast<int64_t>(x->constant.size());
    value.constant.shape.clear();
    int64_t known = 1;
    for (int64_t size : target->integers) known *= size > 0 ? size : 1;
    for (int64_t size : target->integers)
      value.constant.shape.push_back(size == -1 ? count / known : size);
    return value;
  }
  // As PyTorch writes a group norm: back to the shape that was asked for before the groups.
  const Value* asked = input(1);
  if (x->kind == Kind::kNormalized && x->steps == 0 && asked && asked->kind == Kind::kShapeOf &&
      asked->index == x->index) {
    Value value = *x;
    value.steps = 1;
    return value;
  }
  if (!target || target->integers.empty()) return refused("expected a constant shape");
  const auto& sizes = target->integers;
  if (x->kind == Kind::kEmbedded) {
    if (sizes.size() != 2) return refused("expected embeddings side by side, [N, numbers]");
    return flattened(x);
  }
  if (x->kind == Kind::kNormalized && x->steps == 0) {
    const Shape3& shape = shapes_[x->index];
    bool back =
        sizes.size() == (x->image ? 4U : 2U) && (sizes[1] == shape.channels || sizes[1] == -1);
    if (!back) return refused("expected the shape from before the groups");
    Value value = *x;
    value.steps = 1;
    return value;
  }
  uint32_t index = TRY(activation(*x));
  const Shape3& shape = shapes_[index];
  auto count = static_cast<int64_t>(shape.count());
  if (sizes.size() == 2 && (sizes[1] == -1 || sizes[1] == count)) return flattened(x);
  if (sizes.size() == 3 && sizes[1] > 0 && shape.channels % sizes[1] == 0 &&
      (sizes[2] == -1 || sizes[2] * sizes[1] == count)) {
    Value value;
    value.kind = Kind::kGrouped;
    value.index = index;
    value.image = x->image;
    value.groups = static_cast<uint32_t>(sizes[1]);
    return value;
  }
  if (sizes.size() == 4 && sizes[1] == shape.channels &&
      (sizes[2] == shape.height || sizes[2] == -1) && (sizes[3] == shape.width || sizes[3] == -1)) {
    return values_at(index, true, x);
  }
  return refused("expected a shape that flattens, or groups channels");
}

Result<std::vector<double>> OnnxImporter::per_number(const Constant& constant) {
  auto values = floats(constant);
  uint64_t count = shapes_[0].count();
  std::vector<double> out;
  for (float value : values) out.push_back(as_written(value));
  if (out.size() == 1 || out.size() == count) return out;
  if (out.size() == shapes_[0].channels && shapes_[0].count() > shapes_[0].channels &&
      constant.shape.size() >= 3) {
    std::vector<double> wide;
    for (double value : out) wide.insert(wide.end(), count / out.size(), value);
    return wide;
  }
  return refused("expected one constant, or one for each number of the input");
}

void OnnxImporter::combine(std::vector<double>& into, const std::vector<double>& with,
                           double otherwise, bool add) {
  if (into.empty()) into.assign(1, otherwise);
  if (into.size() == 1 && with.size() > 1) into.assign(with.size(), into[0]);
  for (size_t i = 0; i < into.size(); ++i) {
    double value = with[with.size() == 1 ? 0 : i];
    into[i] = add ? into[i] + value : into[i] * value;
  }
}

Result<Value> OnnxImporter::rescaled(const Value& example, const Constant& by) {
  auto values = TRY(per_number(by));
  Value value = example;
  const std::string& op = node_->op_type();
  if (op == "Add" || op == "Sub") {
    // ((x - m) s) + c = (x - (m - c / s)) s
    for (size_t i = 0; i < values.size(); ++i) {
      if (op == "Add") values[i] = -values[i];
    }
    if (!value.scale.empty()) {
      auto scale = value.scale;
      if (scale.size() == 1) scale.assign(values.size(), scale[0]);
      if (values.size() == 1) values.assign(scale.size(), values[0]);
      for (size_t i = 0; i < values.size(); ++i) values[i] /= scale[i];
    }
    combine(value.mean, values, 0, true);
    return value;
  }
  if (op == "Div") {
    for (double& v : values) v = 1 / v;
  }
  for (double v : values) {
    if (!std::isfinite(v) || v == 0) return refused("expected finite constants other than zero");
  }
  combine(value.scale, values, 1, false);
  return value;
}

bool OnnxImporter::is_scalar(const Constant* constant, double wanted) {
  return constant && constant->size() == 1 &&
         std::fabs(static_cast<double>(constant->floats.empty()
                                           ? static_cast<float>(constant->integers[0])
                                           : constant->floats[0]) -
                   wanted) < 1e-6;
}

Value OnnxImporter::gelu_step(const Value& x, uint32_t index, int steps) {
  Value value;
  value.kind = Kind::kGelu;
  value.index = index;
  value.image = x.image;
  value.steps = steps;
  return value;
}

Result<Value> OnnxImporter::read_arithmetic() {
  const std::string& op = node_->op_type();
  Value* a = input(0);
  Value* b = input(1);
  if (!a || !b) return refused("reads what no earlier node makes");
  if (a->kind == Kind::kConstant && (op == "Add" || op == "Mul")) std::swap(a, b);
  if (a->kind == Kind::kConstant) return refused("expected the constant on the right");
  if (b->kind != Kind::kConstant) return read_join(*a, *b);
  const Constant& by = b->constant;
  if (a->kind == Kind::kProduct && op == "Add") return emit_linear(*a, &by);
  if (a->kind == Kind::kNormalized && a->steps == 1 && op == "Mul") {
    Value value = *a;
    value.weight = by;
    value.steps = 2;
    return value;
  }
  if (a->kind == Kind::kNormalized && a->steps == 2 && op == "Add")
    return emit_norm(*a, floats(a->weight), floats(by));
  if (a->kind == Kind::kGelu && a->steps == 2 && op == "Add" && is_scalar(&by, 1))
    return gelu_step(*a, a->index, 3);
  if (a->kind == Kind::kGelu && a->steps == 4 && op == "Mul" && is_scalar(&by, 0.5))
    return emit_gelu(*a);
  bool root = (op == "Div" && is_scalar(&by, std::sqrt(2.0))) ||
              (op == "Mul" && is_scalar(&by, std::sqrt(0.5)));
  if (root && a->kind != Kind::kExample) {
    uint32_t index = TRY(activation(*a));
    return gelu_step(*a, index, 1);
  }
  if (op == "Mul" && is_scalar(&by, 0.5) && a->kind != Kind::kExample) {
    uint32_t index = TRY(activation(*a));
    return gelu_step(*a, index, 5);
  }
  if (a->kind == Kind::kExample) return rescaled(*a, by);
  return refused("a constant here is not supported");
}

Result<Value> OnnxImporter::emit_gelu(const Value& x) {
  Node node;
  node.op = Op::kGelu;
  return emit(node, {x.index}, shapes_[x.index], x.image);
}

Result<Value> OnnxImporter::read_join(Value& a, Value& b) {
  const std::string& op = node_->op_type();
  if (op == "Mul") {
    for (auto [x, y] : {std::pair(&a, &b), std::pair(&b, &a)}) {
      if (y->kind == Kind::kSigmoidOf && x->kind == Kind::kActivation && x->index == y->index) {
        Node node;
        node.op = Op::kSilu;
        return emit(node, {x->index}, shapes_[x->index], x->image);
      }
      if (y->kind == Kind::kGelu && y->steps == 3) {
        if (x->kind == Kind::kActivation && x->index == y->index) return gelu_step(*x, x->index, 4);
        if (x->kind == Kind::kGelu && x->steps == 5 && x->index == y->index) return emit_gelu(*x);
      }
    }
  }
  if (op != "Add") return refused("of two values that depend on the input is not supported");
  uint32_t left = TRY(activation(a)), right = TRY(activation(b));
  const Shape3 &l = shapes_[left], &r = shapes_[right];
  if (l.channels != r.channels || l.height != r.height || l.width != r.width)
    return refused("expected two inputs of one shape");
  Node node;
  node.op = Op::kAdd;
  return emit(node, {left, right}, l, a.image);
}

Result<Value> OnnxImporter::read_concat() {
  OnnxAttributes attributes(*node_);
  int64_t axis = attributes.integer("axis", 1);
  std::vector<uint32_t> inputs;
  Shape3 shape;
  bool image = false;
  for (int i = 0; i < node_->input_size(); ++i) {
    uint32_t index = TRY(activation_at(i));
    const Shape3& part = shapes_[index];
    image = input(i)->image;
    if (i > 0 && (part.height != shape.height || part.width != shape.width))
      return refused("expected inputs of one height and width");
    shape = {shape.channels + part.channels, part.height, part.width};
    inputs.push_back(index);
  }
  if (axis != 1 && axis != (image ? -3 : -1)) return refused("expected axis 1");
  if (inputs.size() < 2) return refused("expected two inputs or more");
  Node node;
  node.op = Op::kConcat;
  return emit(node, inputs, shape, image);
}

Result<Value> OnnxImporter::read_gather() {
  Value* data = input(0);
  Value* indices = input(1);
  int64_t axis = OnnxAttributes(*node_).integer("axis", 0);
  if (!data || !indices) return refused("reads what no earlier node makes");
  if (data->kind == Kind::kConstant && indices->kind == Kind::kChosen && indices->cast &&
      axis == 0) {
    if (data->constant.shape.size() != 2 || data->constant.floats.empty())
      return refused("expected a table [categories, units]");
    Value value = *indices;
    value.kind = Kind::kEmbedded;
    value.weight = data->constant;
    return value;
  }
  bool columns = data->kind == Kind::kExample && !data->image && axis == 1 &&
                 indices->kind == Kind::kConstant && indices->constant.shape.size() == 1;
  if (!columns) return refused("expected columns of the input, or rows of a table for them");
  Value value = *data;
  value.kind = Kind::kChosen;
  for (int64_t column : indices->constant.integers) {
    if (column < 0 || column >= int64_t{shapes_[0].channels})
      return refused("expected columns of the input");
    if (!value.columns.empty() && column <= int64_t{value.columns.back()})
      return refused("expected rising columns");
    value.columns.push_back(static_cast<uint32_t>(column));
  }
  return value;
}

Result<Value> OnnxImporter::read_axes() {
  const std::string& op = node_->op_type();
  OnnxAttributes attributes(*node_);
  auto axes = attributes.integers("axes");
  if (const Constant* given = constant(1)) axes = given->integers;
  for (int64_t& axis : axes) axis = axis < 0 ? axis + 4 : axis;
  std::sort(axes.begin(), axes.end());
  if (axes != std::vector<int64_t>{2, 3}) return refused("expected axes 2 and 3");
  uint32_t x = TRY(activation_at(0));
  const Shape3 shape = shapes_[x];
  if (op != "ReduceMean") {
    if (shape.height != 1 || shape.width != 1) return refused("expected sides of 1");
    return values_at(x, op == "Unsqueeze", input(0));
  }
  bool keep_sides = attributes.integer("keepdims", 1) != 0;
  Node node;
  node.op = Op::kGlobalAvgPool;
  return emit(node, {x}, {shape.channels, 1, 1}, keep_sides);
}

}  // namespace souk::market::from_onnx
