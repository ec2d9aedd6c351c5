#include "trainer/engine/reference.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace souk::trainer {
namespace {

using Values = std::vector<double>;

size_t at(const Shape3& shape, size_t channel, size_t row, size_t column) {
  return (channel * shape.height + row) * shape.width + column;
}

// The pixel that window position `k` of output `o` looks at, or -1 in the padding.
int64_t source(const Node& node, size_t o, size_t k, uint32_t size) {
  auto i = static_cast<int64_t>(o * node.stride + k) - static_cast<int64_t>(node.padding);
  return i >= 0 && i < static_cast<int64_t>(size) ? i : -1;
}

double activation(const Node& node, double x) {
  switch (node.op) {
    case Node::Op::kRelu: return x > 0 ? x : 0;
    case Node::Op::kLeakyRelu: return x > 0 ? x : node.slope * x;
    case Node::Op::kTanh: return std::tanh(x);
    case Node::Op::kSigmoid: return 1 / (1 + std::exp(-x));
    case Node::Op::kGelu: return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2));
    default: return x / (1 + std::exp(-x));  // silu
  }
}

double slope(const Node& node, double x) {
  double s = 1 / (1 + std::exp(-x));
  switch (node.op) {
    case Node::Op::kRelu: return x > 0 ? 1 : 0;
    case Node::Op::kLeakyRelu: return x > 0 ? 1 : node.slope;
    case Node::Op::kTanh: return 1 - std::tanh(x) * std::tanh(x);
    case Node::Op::kSigmoid: return s * (1 - s);
    case Node::Op::kGelu:
      return 0.5 * (1 + std::erf(x / std::numbers::sqrt2)) + x * std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
    default: return s + x * s * (1 - s);
  }
}

// Calls visit(output index, input index, weight index) for every product of a convolution.
template <class Visit>
void convolve(const Layer& layer, const Visit& visit) {
  const Node& node = layer.node;
  const size_t in_group = layer.in.channels / node.groups, out_group = layer.out.channels / node.groups;
  for (size_t oc = 0; oc < layer.out.channels; ++oc) {
    for (size_t oy = 0; oy < layer.out.height; ++oy) {
      for (size_t ox = 0; ox < layer.out.width; ++ox) {
        for (size_t ic = 0; ic < in_group; ++ic) {
          for (size_t ky = 0; ky < node.kernel; ++ky) {
            for (size_t kx = 0; kx < node.kernel; ++kx) {
              int64_t y = source(node, oy, ky, layer.in.height), x = source(node, ox, kx, layer.in.width);
              if (y < 0 || x < 0) continue;
              size_t channel = oc / out_group * in_group + ic;
              visit(at(layer.out, oc, oy, ox), at(layer.in, channel, static_cast<size_t>(y), static_cast<size_t>(x)),
                    ((oc * in_group + ic) * node.kernel + ky) * node.kernel + kx);
            }
          }
        }
      }
    }
  }
}

// Calls visit(output index, input indices of its window) for a pooling layer.
template <class Visit>
void pool(const Layer& layer, const Visit& visit) {
  for (size_t c = 0; c < layer.out.channels; ++c) {
    for (size_t oy = 0; oy < layer.out.height; ++oy) {
      for (size_t ox = 0; ox < layer.out.width; ++ox) {
        std::vector<size_t> window;
        for (size_t ky = 0; ky < layer.node.kernel; ++ky) {
          for (size_t kx = 0; kx < layer.node.kernel; ++kx) {
            int64_t y = source(layer.node, oy, ky, layer.in.height), x = source(layer.node, ox, kx, layer.in.width);
            if (y >= 0 && x >= 0) window.push_back(at(layer.in, c, static_cast<size_t>(y), static_cast<size_t>(x)));
          }
        }
        visit(at(layer.out, c, oy, ox), window);
      }
    }
  }
}

size_t largest(const Values& x, const std::vector<size_t>& window) {
  return *std::max_element(window.begin(), window.end(), [&](size_t a, size_t b) { return x[a] < x[b]; });
}

struct Moments {
  double mean = 0, inverse_deviation = 0;
};
Moments moments(const Values& x, size_t first, size_t count) {
  double mean = 0, variance = 0;
  for (size_t i = first; i < first + count; ++i) mean += x[i];
  mean /= static_cast<double>(count);
  for (size_t i = first; i < first + count; ++i) variance += (x[i] - mean) * (x[i] - mean);
  return {mean, 1 / std::sqrt(variance / static_cast<double>(count) + kGroupNormEpsilon)};
}

// The element's number in the order rows, columns, channels.
uint64_t element_number(const Shape3& shape, size_t index) {
  size_t pixels = size_t{shape.height} * shape.width;
  return (index % pixels) * shape.channels + index / pixels;
}

double dropout_factor(const Layer& layer, uint32_t index, size_t element, const KeepsElement& keeps) {
  if (!keeps) return 1;
  return keeps(index, element_number(layer.out, element)) ? 1 / (1 - layer.node.rate) : 0;
}

Values forward(const Layer& layer, uint32_t index, const std::vector<Values>& values, std::span<const double> parameters,
               const KeepsElement& keeps) {
  const Values& x = values[layer.inputs[0]];
  const double* weight = parameters.data() + layer.weight_at;
  const double* bias = layer.bias_count ? parameters.data() + layer.bias_at : nullptr;
  const size_t pixels = size_t{layer.out.height} * layer.out.width;
  Values y(layer.out.count(), 0.0);
  switch (layer.node.op) {
    case Node::Op::kLinear:
      for (size_t o = 0; o < y.size(); ++o) {
        y[o] = bias ? bias[o] : 0;
        for (size_t i = 0; i < x.size(); ++i) y[o] += weight[o * x.size() + i] * x[i];
      }
      break;
    case Node::Op::kConv2d:
      for (size_t i = 0; i < y.size(); ++i) y[i] = bias ? bias[i / pixels] : 0;
      convolve(layer, [&](size_t o, size_t i, size_t w) { y[o] += weight[w] * x[i]; });
      break;
    case Node::Op::kMaxPool:
      pool(layer, [&](size_t o, const std::vector<size_t>& window) { y[o] = x[largest(x, window)]; });
      break;
    case Node::Op::kAvgPool:
      pool(layer, [&](size_t o, const std::vector<size_t>& window) {
        for (size_t i : window) y[o] += x[i] / static_cast<double>(window.size());
      });
      break;
    case Node::Op::kGlobalAvgPool: {
      const size_t area = size_t{layer.in.height} * layer.in.width;
      for (size_t i = 0; i < x.size(); ++i) y[i / area] += x[i] / static_cast<double>(area);
      break;
    }
    case Node::Op::kFlatten: y = x; break;
    case Node::Op::kDropout:
      for (size_t i = 0; i < y.size(); ++i) y[i] = x[i] * dropout_factor(layer, index, i, keeps);
      break;
    case Node::Op::kGroupNorm: {
      const size_t group = x.size() / layer.node.groups;
      for (size_t g = 0; g < layer.node.groups; ++g) {
        auto m = moments(x, g * group, group);
        for (size_t i = g * group; i < (g + 1) * group; ++i) {
          y[i] = weight[i / pixels] * (x[i] - m.mean) * m.inverse_deviation + bias[i / pixels];
        }
      }
      break;
    }
    case Node::Op::kAdd:
      for (size_t i = 0; i < y.size(); ++i) y[i] = x[i] + values[layer.inputs[1]][i];
      break;
    case Node::Op::kConcat:
      y.clear();
      for (uint32_t input : layer.inputs) y.insert(y.end(), values[input].begin(), values[input].end());
      break;
    default:
      for (size_t i = 0; i < y.size(); ++i) y[i] = activation(layer.node, x[i]);
  }
  return y;
}

void backward(const Layer& layer, uint32_t index, const std::vector<Values>& values, const Values& dy,
              std::span<const double> parameters, const KeepsElement& keeps, std::vector<Values>& gradients,
              Values& parameter_gradient) {
  const Values& x = values[layer.inputs[0]];
  Values& dx = gradients[layer.inputs[0]];
  const double* weight = parameters.data() + layer.weight_at;
  double* dweight = parameter_gradient.data() + layer.weight_at;
  double* dbias = layer.bias_count ? parameter_gradient.data() + layer.bias_at : nullptr;
  const size_t pixels = size_t{layer.out.height} * layer.out.width;
  switch (layer.node.op) {
    case Node::Op::kLinear:
      for (size_t o = 0; o < dy.size(); ++o) {
        if (dbias) dbias[o] += dy[o];
        for (size_t i = 0; i < x.size(); ++i) {
          dweight[o * x.size() + i] += dy[o] * x[i];
          dx[i] += dy[o] * weight[o * x.size() + i];
        }
      }
      break;
    case Node::Op::kConv2d:
      for (size_t i = 0; dbias && i < dy.size(); ++i) dbias[i / pixels] += dy[i];
      convolve(layer, [&](size_t o, size_t i, size_t w) {
        dweight[w] += dy[o] * x[i];
        dx[i] += dy[o] * weight[w];
      });
      break;
    case Node::Op::kMaxPool:
      pool(layer, [&](size_t o, const std::vector<size_t>& window) { dx[largest(x, window)] += dy[o]; });
      break;
    case Node::Op::kAvgPool:
      pool(layer, [&](size_t o, const std::vector<size_t>& window) {
        for (size_t i : window) dx[i] += dy[o] / static_cast<double>(window.size());
      });
      break;
    case Node::Op::kGlobalAvgPool: {
      const size_t area = size_t{layer.in.height} * layer.in.width;
      for (size_t i = 0; i < x.size(); ++i) dx[i] += dy[i / area] / static_cast<double>(area);
      break;
    }
    case Node::Op::kFlatten:
      for (size_t i = 0; i < x.size(); ++i) dx[i] += dy[i];
      break;
    case Node::Op::kDropout:
      for (size_t i = 0; i < x.size(); ++i) dx[i] += dy[i] * dropout_factor(layer, index, i, keeps);
      break;
    case Node::Op::kGroupNorm: {
      const size_t group = x.size() / layer.node.groups;
      for (size_t g = 0; g < layer.node.groups; ++g) {
        auto m = moments(x, g * group, group);
        double sum = 0, dot = 0;
        for (size_t i = g * group; i < (g + 1) * group; ++i) {
          double normal = (x[i] - m.mean) * m.inverse_deviation, d = dy[i] * weight[i / pixels];
          dweight[i / pixels] += dy[i] * normal;
          dbias[i / pixels] += dy[i];
          sum += d;
          dot += d * normal;
        }
        auto n = static_cast<double>(group);
        for (size_t i = g * group; i < (g + 1) * group; ++i) {
          double normal = (x[i] - m.mean) * m.inverse_deviation, d = dy[i] * weight[i / pixels];
          dx[i] += m.inverse_deviation * (d - sum / n - normal * dot / n);
        }
      }
      break;
    }
    case Node::Op::kAdd:
      for (uint32_t input : layer.inputs) {
        for (size_t i = 0; i < dy.size(); ++i) gradients[input][i] += dy[i];
      }
      break;
    case Node::Op::kConcat: {
      size_t first = 0;
      for (uint32_t input : layer.inputs) {
        for (double& value : gradients[input]) value += dy[first++];
      }
      break;
    }
    default:
      for (size_t i = 0; i < x.size(); ++i) dx[i] += dy[i] * slope(layer.node, x[i]);
  }
}

}  // namespace

ReferencePass reference_pass(const Graph& graph, std::span<const double> parameters, std::span<const double> example,
                             int64_t label, const KeepsElement& keeps) {
  CHECK(parameters.size() == graph.parameters && example.size() == graph.input().count());
  std::vector<Values> values(graph.layers.size()), gradients(graph.layers.size());
  values[0].assign(example.begin(), example.end());
  for (uint32_t i = 1; i < graph.layers.size(); ++i) {
    values[i] = forward(graph.layers[i], i, values, parameters, keeps);
  }
  for (size_t i = 0; i < values.size(); ++i) gradients[i].assign(values[i].size(), 0.0);

  ReferencePass pass;
  pass.logits = values.back();
  pass.gradient.assign(graph.parameters, 0.0);
  double top = *std::max_element(pass.logits.begin(), pass.logits.end()), sum = 0;
  for (double logit : pass.logits) sum += std::exp(logit - top);
  auto target = static_cast<size_t>(label);
  pass.loss = std::log(sum) + top - pass.logits[target];
  for (size_t c = 0; c < pass.logits.size(); ++c) {
    gradients.back()[c] = std::exp(pass.logits[c] - top) / sum - (c == target ? 1 : 0);
  }
  for (auto i = static_cast<uint32_t>(graph.layers.size() - 1); i >= 1; --i) {
    Values dy = gradients[i];
    backward(graph.layers[i], i, values, dy, parameters, keeps, gradients, pass.gradient);
  }
  return pass;
}

}  // namespace souk::trainer
