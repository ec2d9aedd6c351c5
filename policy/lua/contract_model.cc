#include <algorithm>
#include <map>

#include "policy/lua/contract_parts.h"

namespace souk::policy {
namespace {

using contracts::Node;

constexpr size_t kMostLayers = 256;

Result<uint32_t> node_number(Table& table, const std::string& name, int64_t min,
                             std::optional<int64_t> otherwise) {
  int64_t value = TRY(table.whole(name, min, 65536, otherwise));
  return static_cast<uint32_t>(value);
}

// Positions of columns in a flat example: numbers from 0, or feature names where the offer has
// them.
Result<std::vector<uint32_t>> read_columns(Table& table, const std::vector<std::string>& features) {
  const Json* value = TRY(table.need("columns", "a list of columns"));
  const std::string place = table.place("columns");
  if (!value->array() || value->array()->empty()) return wrong(place, "a list of columns");
  std::vector<uint32_t> columns;
  for (const Json& item : *value->array()) {
    if (auto* number = item.integer(); number && *number >= 0 && *number <= 65535) {
      columns.push_back(static_cast<uint32_t>(*number));
      continue;
    }
    auto at = item.string() ? std::find(features.begin(), features.end(), *item.string())
                            : features.end();
    if (at == features.end())
      return wrong(place, "the names of features on offer, or their numbers from 0");
    columns.push_back(static_cast<uint32_t>(at - features.begin()));
  }
  std::sort(columns.begin(), columns.end());
  return columns;
}

// Numbers that an embedding of these columns must know, where the offer lists their values.
std::optional<int64_t> categories_of(const std::vector<uint32_t>& columns,
                                     const CatalogEntry& offer) {
  size_t most = 0;
  for (uint32_t column : columns) {
    if (column >= offer.feature_names.size()) return std::nullopt;
    auto listed = offer.categories.find(offer.feature_names[column]);
    if (listed == offer.categories.end()) return std::nullopt;
    most = std::max(most, listed->second.size() + 1);
  }
  return static_cast<int64_t>(most);
}

// What a layer says about itself, all but what it reads and is called.
Status read_numbers(Table& table, Node& node, const CatalogEntry& offer) {
  using Op = Node::Op;
  const Op op = node.op;
  const bool pool = op == Op::kMaxPool || op == Op::kAvgPool;
  const bool weighs = op == Op::kLinear || op == Op::kConv2d;
  if (weighs) {
    node.units = TRY(node_number(table, "units", 1, std::nullopt));
    node.bias = TRY(table.boolean("bias", true));
    node.standardize = TRY(table.boolean("standardize", false));
  }
  if (op == Op::kConv2d || pool) {
    node.kernel = TRY(node_number(table, "kernel", 1, std::nullopt));
    node.stride = TRY(node_number(table, "stride", 1, pool ? int64_t{node.kernel} : 1));
    node.padding = TRY(node_number(table, "padding", 0, 0));
  }
  if (op == Op::kConv2d) node.groups = TRY(node_number(table, "groups", 1, 1));
  if (op == Op::kGroupNorm) node.groups = TRY(node_number(table, "groups", 1, std::nullopt));
  if (op == Op::kLeakyRelu) node.slope = TRY(table.real("slope", 0.01));
  if (op == Op::kDropout) {
    const Json* rate = TRY(table.need("rate", "a number from 0 to 0.999"));
    node.rate = TRY(real_of(*rate, table.place("rate")));
  }
  if (op == Op::kEmbedding) {
    node.units = TRY(node_number(table, "units", 1, std::nullopt));
  }
  if (op == Op::kScattering) {
    node.scales = TRY(node_number(table, "scales", 1, std::nullopt));
    node.orientations = TRY(node_number(table, "orientations", 1, std::nullopt));
  }
  if (op == Op::kEmbedding || op == Op::kColumns)
    node.columns = TRY(read_columns(table, offer.feature_names));
  if (op == Op::kEmbedding) {
    const auto known = categories_of(node.columns, offer);
    node.categories = static_cast<uint32_t>(TRY(table.whole("categories", 1, 1'000'000, known)));
  }
  if (weighs || op == Op::kEmbedding || op == Op::kGroupNorm || op == Op::kBatchNorm ||
      op == Op::kLayerNorm)
    node.frozen = TRY(table.boolean("frozen", false));
  return Done{};
}

// Lays out the nodes of a model one after the other. A layer reads what stands at `at_`
// unless it says otherwise; that is the node before, but at the beginning of a branch.
class ModelReader {
 public:
  explicit ModelReader(const CatalogEntry& offer) : offer_(offer) {}

  // A layer, a list of layers in a row, residual{...} or parallel{...}.
  Status read(const Json& value, const std::string& place) {
    if (value.array()) return read_row(*value.array(), place);
    auto table = TRY(Table::of(value, place));
    auto name = table.text("op");
    if (name && *name == "residual") return read_residual(table);
    if (name && *name == "parallel") return read_parallel(table);
    auto op = name ? contracts::op_from_name(*name) : std::nullopt;
    if (!op) return wrong(place, "a layer, such as linear{units = 16} or relu()");
    return read_layer(table, *op);
  }

  std::vector<Node> take() { return std::move(nodes_); }

 private:
  uint32_t last() const { return static_cast<uint32_t>(nodes_.size()); }

  Status read_row(const Json::Array& layers, const std::string& place) {
    for (size_t i = 0; i < layers.size(); ++i)
      TRY(read(layers[i], place + "[" + std::to_string(i + 1) + "]"));
    return Done{};
  }

  // The layers of a branch that begins at `from`; where it ends.
  Result<uint32_t> read_branch(const Json& layers, uint32_t from, const std::string& place) {
    at_ = from;
    if (layers.array()) {
      TRY(read_row(*layers.array(), place));
    } else {
      TRY(read(layers, place));
    }
    return at_;
  }

  // residual{layers, shortcut = layers}: the sum of what the layers make of their input and
  // the input itself, or what the shortcut makes of it.
  Status read_residual(Table& table) {
    const uint32_t from = at_;
    const Json* layers = TRY(table.need("list", "layers"));
    const Json* shortcut = table.find("shortcut");
    const uint32_t body = TRY(read_branch(*layers, from, table.place("list")));
    if (body == from) return wrong(table.place("list"), "at least one layer");
    uint32_t other = from;
    if (shortcut) other = TRY(read_branch(*shortcut, from, table.place("shortcut")));
    return join(table, Node::Op::kAdd, {body, other});
  }

  // parallel{layers, layers, ...}: what each branch makes of the same input, side by side.
  Status read_parallel(Table& table) {
    const uint32_t from = at_;
    const Json* branches = TRY(table.need("list", "lists of layers"));
    if (!branches->array() || branches->array()->size() < 2)
      return wrong(table.place("list"), "two lists of layers or more");
    std::vector<uint32_t> ends;
    for (size_t i = 0; i < branches->array()->size(); ++i) {
      const std::string place = table.place("list") + "[" + std::to_string(i + 1) + "]";
      ends.push_back(TRY(read_branch((*branches->array())[i], from, place)));
    }
    return join(table, Node::Op::kConcat, std::move(ends));
  }

  Status join(Table& table, Node::Op op, std::vector<uint32_t> inputs) {
    auto name = TRY(table.text("name", ""));
    TRY(table.done());
    Node node;
    node.op = op;
    node.inputs = std::move(inputs);
    return put(std::move(node), name, table);
  }

  Status read_layer(Table& table, Node::Op op) {
    Node node;
    node.op = op;
    node.inputs = TRY(read_sources(table, op));
    TRY(read_numbers(table, node, offer_));
    // These read the example itself, wherever they stand.
    bool reads_example =
        op == Node::Op::kEmbedding || op == Node::Op::kColumns || op == Node::Op::kScattering;
    if (reads_example && !table.find("from")) {
      node.inputs.clear();
      if (last() != 0) node.inputs = {0};
    }
    auto name = TRY(table.text("name", ""));
    TRY(table.done());
    return put(std::move(node), name, table);
  }

  // Earlier nodes by the names their authors gave them; "input" is the example.
  Result<uint32_t> find(const Json& name, const std::string& place) const {
    auto it = name.string() ? names_.find(*name.string()) : names_.end();
    if (it == names_.end()) return wrong(place, "the name of an earlier node, or \"input\"");
    return it->second;
  }

  Result<std::vector<uint32_t>> read_sources(Table& table, Node::Op op) const {
    std::vector<uint32_t> sources;
    const Json* from = table.find("from");
    const Json* list = table.find("list");  // add{"a", "b"}
    if (from && list) return wrong(table.place("from"), "either from or a list of names");
    const Json* chosen = from ? from : list;
    if (chosen && chosen->string()) {
      sources.push_back(TRY(find(*chosen, table.place("from"))));
    } else if (chosen && chosen->array()) {
      for (const Json& name : *chosen->array())
        sources.push_back(TRY(find(name, table.place("from"))));
    } else if (chosen) {
      return wrong(table.place("from"), "a name or a list of names");
    }
    bool joins = op == Node::Op::kAdd || op == Node::Op::kConcat;
    if (joins && sources.size() == 1) sources.insert(sources.begin(), at_);
    if (sources.empty()) sources.push_back(at_);
    // "The node before" has one spelling.
    if (!joins && sources.size() == 1 && sources[0] == last()) sources.clear();
    if (joins && !chosen && sources.size() == 1 && sources[0] == last()) sources.clear();
    return sources;
  }

  Status put(Node node, const std::string& name, const Table& table) {
    if (nodes_.size() == kMostLayers)
      return wrong("model", "at most " + std::to_string(kMostLayers) + " layers in all");
    if (!name.empty() && !names_.emplace(name, last() + 1).second)
      return wrong(table.place("name"), "a name of its own");
    nodes_.push_back(std::move(node));
    at_ = last();
    return Done{};
  }

  const CatalogEntry& offer_;
  std::vector<Node> nodes_;
  std::map<std::string, uint32_t> names_{{"input", 0}};
  uint32_t at_ = 0;
};

}  // namespace

Result<std::vector<Node>> read_model(const Json* model, const CatalogEntry& offer) {
  if (!model || !model->array() || model->array()->empty() || model->array()->size() > kMostLayers)
    return wrong("model", "a list of 1 to 256 layers");
  ModelReader reader(offer);
  TRY(reader.read(*model, "model"));
  return reader.take();
}

}  // namespace souk::policy
