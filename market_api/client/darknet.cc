#include "market_api/client/darknet.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <set>

namespace souk::market {
namespace {

using contracts::Node;
using contracts::Shape3;
using contracts::TrainingSpec;
using Op = contracts::Node::Op;

constexpr uint32_t kMostGroups = 32;
constexpr double kLeakySlope = 0.1;

// One [section] and its settings; those nobody asked for are refused.
class Section {
 public:
  Section(std::string name, size_t number, size_t line)
      : name_(std::move(name)), number_(number), line_(line) {}

  const std::string& name() const { return name_; }
  bool put(std::string key, std::string value) {
    return settings_.emplace(std::move(key), std::move(value)).second;
  }

  Error bad(Code code, const std::string& expected) const {
    return Error(code, "darknet: line " + std::to_string(line_) + ", section " +
                           std::to_string(number_) + " [" + name_ + "]: " + expected);
  }
  Error refused(const std::string& why) const { return bad(Code::kRefused, why); }

  std::string text(const std::string& key, const std::string& otherwise) {
    taken_.insert(key);
    auto it = settings_.find(key);
    return it == settings_.end() ? otherwise : it->second;
  }
  Result<double> real(const std::string& key, double otherwise) {
    std::string value = text(key, "");
    if (value.empty()) return otherwise;
    return number(key, value);
  }
  Result<int64_t> whole(const std::string& key, int64_t otherwise, int64_t min = 0,
                        int64_t max = 1'000'000) {
    double value = TRY(real(key, static_cast<double>(otherwise)));
    if (value != std::floor(value) || value < static_cast<double>(min) ||
        value > static_cast<double>(max)) {
      return bad(Code::kMalformed, key + ": expected a whole number from " + std::to_string(min) +
                                       " to " + std::to_string(max));
    }
    return static_cast<int64_t>(value);
  }
  Result<std::vector<double>> reals(const std::string& key) {
    std::string rest = text(key, "");
    std::vector<double> values;
    while (!rest.empty()) {
      size_t comma = std::min(rest.find(','), rest.size());
      double value = TRY(number(key, rest.substr(0, comma)));
      values.push_back(value);
      rest.erase(0, comma + 1);
    }
    return values;
  }
  std::vector<std::string> left() const {
    std::vector<std::string> keys;
    for (const auto& [key, value] : settings_) {
      if (taken_.count(key) == 0) keys.push_back(key);
    }
    return keys;
  }
  Status done() const {
    auto keys = left();
    if (!keys.empty()) return refused(keys.front() + ": this setting is not supported");
    return Done{};
  }

 private:
  Result<double> number(const std::string& key, std::string value) const {
    auto first = std::min(value.find_first_not_of(" \t+"), value.size());
    value.erase(0, first);
    while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.pop_back();
    double out = 0;
    auto [end, status] = std::from_chars(value.data(), value.data() + value.size(), out);
    if (status != std::errc() || end != value.data() + value.size() || !std::isfinite(out)) {
      return bad(Code::kMalformed, key + ": expected a number");
    }
    return out;
  }

  std::string name_;
  size_t number_, line_;
  std::map<std::string, std::string> settings_;
  std::set<std::string> taken_;
};

Result<std::vector<Section>> read_sections(std::string_view text) {
  std::vector<Section> sections;
  size_t line_number = 0;
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size());
    std::string line(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line_number;
    line.erase(std::remove_if(line.begin(), line.end(),
                              [](char c) { return c == ' ' || c == '\t' || c == '\r'; }),
               line.end());
    if (line.empty() || line[0] == '#' || line[0] == ';') continue;
    auto bad = [&](const std::string& expected) {
      return Error(Code::kMalformed,
                   "darknet: line " + std::to_string(line_number) + ": expected " + expected);
    };
    if (line[0] == '[') {
      if (line.back() != ']') return bad("a closing bracket");
      sections.emplace_back(line.substr(1, line.size() - 2), sections.size(), line_number);
      continue;
    }
    size_t equals = line.find('=');
    if (equals == std::string::npos || equals == 0 || sections.empty())
      return bad("[section] or key=value");
    if (!sections.back().put(line.substr(0, equals), line.substr(equals + 1)))
      return bad("each key once in a section");
  }
  if (sections.empty() || (sections[0].name() != "net" && sections[0].name() != "network")) {
    return Error(Code::kMalformed, "darknet: expected [net] first");
  }
  return sections;
}

class Builder {
 public:
  Builder(const Shape3& input, DarknetNorm norm) : norm_(norm) { shapes_.push_back(input); }

  Status section(Section& s) {
    if (ended_ && s.name() != "cost")
      return s.refused("expected nothing but [cost] after the end of the network");
    TRY(layer(s));
    ends_.push_back(last());
    return s.done();
  }
  std::vector<Node> take() { return std::move(nodes_); }
  const Shape3& output() const { return shapes_.back(); }
  bool has_softmax() const { return softmax_; }

 private:
  uint32_t last() const { return static_cast<uint32_t>(nodes_.size()); }

  void emit(Node node, const Shape3& shape) {
    nodes_.push_back(std::move(node));
    shapes_.push_back(shape);
  }
  void emit(Op op) {
    Node node;
    node.op = op;
    emit(node, shapes_.back());
  }

  Status activate(Section& s, const std::string& otherwise) {
    std::string name = s.text("activation", otherwise);
    if (name == "linear") return Done{};
    Node node;
    if (name == "leaky") {
      node.op = Op::kLeakyRelu;
      node.slope = kLeakySlope;
    } else if (name == "relu") {
      node.op = Op::kRelu;
    } else if (name == "tanh") {
      node.op = Op::kTanh;
    } else if (name == "logistic") {
      node.op = Op::kSigmoid;
    } else if (name == "swish") {
      node.op = Op::kSilu;
    } else {
      return s.refused("activation=" + name + " is not supported");
    }
    emit(node, shapes_.back());
    return Done{};
  }

  void normalize() {
    Node node;
    node.op = norm_ == DarknetNorm::kBatch ? Op::kBatchNorm : Op::kGroupNorm;
    if (norm_ == DarknetNorm::kGroup) {
      // At most 32 groups of at least two channels.
      uint32_t channels = shapes_.back().channels;
      node.groups = std::max(std::min(kMostGroups, channels / 2), 1U);
      while (channels % node.groups != 0) --node.groups;
    }
    emit(node, shapes_.back());
  }

  Status convolutional(Section& s) {
    Node node;
    node.op = Op::kConv2d;
    node.units = static_cast<uint32_t>(TRY(s.whole("filters", 1, 1, 65536)));
    node.kernel = static_cast<uint32_t>(TRY(s.whole("size", 1, 1, 1024)));
    node.stride = static_cast<uint32_t>(TRY(s.whole("stride", 1, 1, 1024)));
    node.groups = static_cast<uint32_t>(TRY(s.whole("groups", 1, 1, 65536)));
    node.padding = static_cast<uint32_t>(TRY(s.whole("padding", 0, 0, 1023)));
    if (TRY(s.whole("pad", 0)) != 0) node.padding = node.kernel / 2;
    bool normalized = TRY(s.whole("batch_normalize", 0)) != 0;
    node.bias = !normalized;  // the shift of the norm takes its place
    const Shape3& in = shapes_.back();
    if (in.height + 2 * node.padding < node.kernel || in.width + 2 * node.padding < node.kernel) {
      return s.bad(Code::kMalformed,
                   "expected an image of at least size=" + std::to_string(node.kernel));
    }
    auto side = [&](uint32_t size) {
      return (size + 2 * node.padding - node.kernel) / node.stride + 1;
    };
    Shape3 out{node.units, side(in.height), side(in.width)};
    emit(node, out);
    if (normalized) normalize();
    return activate(s, "logistic");
  }

  Status connected(Section& s) {
    if (shapes_.back().height != 1 || shapes_.back().width != 1) flatten();
    Node node;
    node.op = Op::kLinear;
    node.units = static_cast<uint32_t>(TRY(s.whole("output", 1, 1, 65536)));
    bool normalized = TRY(s.whole("batch_normalize", 0)) != 0;
    node.bias = !normalized;
    emit(node, {node.units, 1, 1});
    if (normalized) normalize();
    return activate(s, "logistic");
  }

  void flatten() {
    Node node;
    node.op = Op::kFlatten;
    emit(node, {static_cast<uint32_t>(shapes_.back().count()), 1, 1});
  }

  // Darknet pads size - 1 in all unless told, the smaller half on top and left.
  Status maxpool(Section& s) {
    Node node;
    node.op = Op::kMaxPool;
    node.stride = static_cast<uint32_t>(TRY(s.whole("stride", 1, 1, 1024)));
    node.kernel = static_cast<uint32_t>(TRY(s.whole("size", int64_t{node.stride}, 1, 1024)));
    auto padding =
        static_cast<uint32_t>(TRY(s.whole("padding", int64_t{node.kernel} - 1, 0, 1023)));
    node.padding = padding / 2;
    const Shape3& in = shapes_.back();
    Shape3 out{in.channels, 0, 0};
    for (auto [from, to] : {std::pair(in.height, &out.height), std::pair(in.width, &out.width)}) {
      if (from + 2 * node.padding < node.kernel)
        return s.bad(Code::kMalformed, "expected an image of at least the window's size");
      *to = (from + 2 * node.padding - node.kernel) / node.stride + 1;
      if ((from + padding - node.kernel) / node.stride + 1 != *to) {
        return s.refused("windows over one edge of the image are not supported");
      }
    }
    emit(node, out);
    return Done{};
  }

  // A section before this one: from -1, or from the first on.
  Result<uint32_t> source(Section& s, const std::string& key, double number) {
    auto count = static_cast<double>(ends_.size());
    double index = number < 0 ? count + number : number;
    if (index < 0 || index >= count || index != std::floor(index))
      return s.bad(Code::kMalformed, key + ": expected an earlier layer");
    return ends_[static_cast<size_t>(index)];
  }

  Status shortcut(Section& s) {
    auto from = TRY(s.reals("from"));
    if (from.size() != 1) return s.refused("from: expected one layer");
    uint32_t other = TRY(source(s, "from", from[0]));
    const Shape3 &a = shapes_.back(), &b = shapes_[other];
    if (a.channels != b.channels || a.height != b.height || a.width != b.width)
      return s.refused("of another shape is not supported");
    Node node;
    node.op = Op::kAdd;
    node.inputs = {last(), other};
    emit(node, shapes_.back());
    return activate(s, "linear");
  }

  Status route(Section& s) {
    auto layers = TRY(s.reals("layers"));
    if (layers.empty()) return s.bad(Code::kMalformed, "layers: expected at least one");
    std::vector<uint32_t> sources;
    Shape3 shape{0, 0, 0};
    for (double number : layers) {
      uint32_t from = TRY(source(s, "layers", number));
      const Shape3& part = shapes_[from];
      if (!sources.empty() && (part.height != shape.height || part.width != shape.width))
        return s.refused("layers of other height and width");
      shape = {shape.channels + part.channels, part.height, part.width};
      sources.push_back(from);
    }
    Node node;
    if (sources.size() > 1) {
      node.op = Op::kConcat;
    } else {
      // A step back: a node that changes nothing.
      node.op = Op::kDropout;
      node.rate = 0;
    }
    node.inputs = sources;
    emit(node, shape);
    return Done{};
  }

  Status layer(Section& s) {
    const std::string& name = s.name();
    if (name == "convolutional" || name == "conv") return convolutional(s);
    if (name == "connected" || name == "conn") return connected(s);
    if (name == "maxpool" || name == "max") return maxpool(s);
    if (name == "shortcut") return shortcut(s);
    if (name == "route") return route(s);
    if (name == "avgpool" || name == "avg") {
      Node node;
      node.op = Op::kGlobalAvgPool;
      emit(node, {shapes_.back().channels, 1, 1});
      return Done{};
    }
    if (name == "dropout") {
      Node node;
      node.op = Op::kDropout;
      node.rate = TRY(s.real("probability", 0.5));
      emit(node, shapes_.back());
      return Done{};
    }
    if (name == "batchnorm") {
      normalize();
      return Done{};
    }
    if (name == "activation") return activate(s, "linear");
    if (name == "softmax" || name == "soft") {
      if (TRY(s.whole("groups", 1)) != 1 || TRY(s.real("temperature", 1)) != 1)
        return s.refused("groups or temperature other than 1 are not supported");
      if (shapes_.back().height != 1 || shapes_.back().width != 1) flatten();
      softmax_ = ended_ = true;
      return Done{};
    }
    if (name == "cost") {
      std::string type = s.text("type", "sse");
      if (!softmax_ && type != "sse") return s.refused("type=" + type + " is not supported");
      s.text("scale", "1");
      if (!softmax_ && (shapes_.back().height != 1 || shapes_.back().width != 1)) flatten();
      ended_ = true;
      return Done{};
    }
    return s.refused("this section is not supported");
  }

  DarknetNorm norm_;
  std::vector<Node> nodes_;
  std::vector<Shape3> shapes_;
  std::vector<uint32_t> ends_;  // the value that each section gave
  bool softmax_ = false, ended_ = false;
};

// The rate of each update, as darknet's get_current_rate has it.
Result<std::vector<TrainingSpec::Rate>> read_rates(Section& net, uint32_t steps) {
  double rate = TRY(net.real("learning_rate", 0.001));
  std::string policy = net.text("policy", "constant");
  double burn_in = TRY(net.real("burn_in", 0)), power = TRY(net.real("power", 4)),
         scale = TRY(net.real("scale", 1));
  double step = TRY(net.real("step", 1)), gamma = TRY(net.real("gamma", 1));
  auto at = TRY(net.reals("steps")), scales = TRY(net.reals("scales"));
  if (policy == "steps" && at.size() != scales.size())
    return net.bad(Code::kMalformed, "scales: expected one for each of steps");
  const std::set<std::string> known{"constant", "poly", "step", "steps", "exp", "sig"};
  if (known.count(policy) == 0) return net.refused("policy=" + policy + " is not supported");
  std::vector<TrainingSpec::Rate> rates;
  for (uint32_t i = 0; i < steps; ++i) {
    double now = rate, t = i;
    if (t < burn_in) {
      now = rate * std::pow((t + 1) / burn_in, power);
    } else if (policy == "poly") {
      now = rate * std::pow(1 - t / steps, power);
    } else if (policy == "step") {
      now = rate * std::pow(scale, std::floor(t / step));
    } else if (policy == "steps") {
      for (size_t k = 0; k < at.size() && t >= at[k]; ++k) now *= scales[k];
    } else if (policy == "exp") {
      now = rate * std::pow(gamma, t);
    } else if (policy == "sig") {
      now = rate / (1 + std::exp(gamma * (t - step)));
    }
    if (!std::isfinite(now) || now < 0)
      return net.bad(Code::kMalformed, "expected a schedule of finite rates");
    if (rates.empty() || rates.back().value != now) rates.push_back({0, now});
    ++rates.back().steps;
  }
  return rates;
}

Status read_net(Section& net, TrainingSpec& spec) {
  auto side = [&](const char* key) { return net.whole(key, 1, 1, 65536); };
  int64_t height = TRY(side("height")), width = TRY(side("width")),
          channels = TRY(side("channels"));
  int64_t inputs = TRY(net.whole("inputs", 0, 0, 65536));
  if (inputs > 0 && height * width * channels == 1) {
    spec.input_shape = {static_cast<uint32_t>(inputs)};
  } else {
    spec.input_shape = {static_cast<uint32_t>(channels), static_cast<uint32_t>(height),
                        static_cast<uint32_t>(width)};
  }
  spec.batch = static_cast<uint32_t>(TRY(net.whole("batch", 1, 1, 65536)));
  spec.steps = static_cast<uint32_t>(TRY(net.whole("max_batches", 1, 1)));
  net.text("subdivisions", "1");  // memory, not meaning
  spec.optimizer.momentum = TRY(net.real("momentum", 0.9));
  spec.optimizer.weight_decay = TRY(net.real("decay", 0.0001));
  spec.optimizer.decay = contracts::Optimizer::Decay::kCoupled;
  if (TRY(net.whole("adam", 0)) != 0) {
    auto& adam = spec.optimizer;
    adam.kind = contracts::Optimizer::Kind::kAdam;
    adam.momentum = 0;
    adam.beta1 = TRY(net.real("B1", 0.9));
    adam.beta2 = TRY(net.real("B2", 0.999));
    adam.epsilon = TRY(net.real("eps", 0.0000001));
  }
  spec.learning_rate = TRY(read_rates(net, spec.steps));
  spec.shuffle = true;
  return Done{};
}

}  // namespace

Result<Darknet> parse_darknet(std::string_view text, DarknetNorm norm) {
  auto sections = TRY(read_sections(text));
  Darknet darknet;
  TrainingSpec& spec = darknet.spec;
  TRY(read_net(sections[0], spec));
  darknet.ignored = sections[0].left();
  const auto& shape = spec.input_shape;
  Builder builder(shape.size() == 3 ? Shape3{shape[0], shape[1], shape[2]} : Shape3{shape[0], 1, 1},
                  norm);
  for (size_t i = 1; i < sections.size(); ++i) TRY(builder.section(sections[i]));
  const Shape3& out = builder.output();
  if (out.height != 1 || out.width != 1) {
    return Error(Code::kRefused,
                 "darknet: expected a network that ends in one number for each class, such as "
                 "[avgpool] and [softmax]");
  }
  spec.classes = std::max(out.channels, 2U);
  spec.loss =
      builder.has_softmax() ? TrainingSpec::Loss::kSoftmaxCrossEntropy : TrainingSpec::Loss::kMse;
  spec.model = builder.take();
  TRY(contracts::check_spec(spec));
  return darknet;
}

}  // namespace souk::market
