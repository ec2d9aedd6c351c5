#include "trainer/engine/reference.h"

#include "trainer/engine/reference_scattering.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace souk::trainer {
namespace {

using Values = std::vector<double>;

// The row of an embedding's table that a value names; 0 where it names none.
size_t category(double value, uint32_t categories) {
  return value >= 0 && value < categories ? static_cast<size_t>(value) : 0;
}

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
    case Node::Op::kRelu:
      return x > 0 ? x : 0;
    case Node::Op::kLeakyRelu:
      return x > 0 ? x : node.slope * x;
    case Node::Op::kTanh:
      return std::tanh(x);
    case Node::Op::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case Node::Op::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2));
    default:
      return x / (1 + std::exp(-x));  // silu
  }
}

double slope(const Node& node, double x) {
  double s = 1 / (1 + std::exp(-x));
  switch (node.op) {
    case Node::Op::kRelu:
      return x > 0 ? 1 : 0;
    case Node::Op::kLeakyRelu:
      return x > 0 ? 1 : node.slope;
    case Node::Op::kTanh:
      return 1 - std::tanh(x) * std::tanh(x);
    case Node::Op::kSigmoid:
      return s * (1 - s);
    case Node::Op::kGelu:
      return 0.5 * (1 + std::erf(x / std::numbers::sqrt2)) +
             x * std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
    default:
      return s + x * s * (1 - s);
  }
}

// Calls visit(output index, input index, weight index) for every product of a convolution.
template <class Visit>
void convolve(const Layer& layer, const Visit& visit) {
  const Node& node = layer.node;
  const size_t in_group = layer.in.channels / node.groups,
               out_group = layer.out.channels / node.groups;
  for (size_t oc = 0; oc < layer.out.channels; ++oc) {
    for (size_t oy = 0; oy < layer.out.height; ++oy) {
      for (size_t ox = 0; ox < layer.out.width; ++ox) {
        for (size_t ic = 0; ic < in_group; ++ic) {
          for (size_t ky = 0; ky < node.kernel; ++ky) {
            for (size_t kx = 0; kx < node.kernel; ++kx) {
              int64_t y = source(node, oy, ky, layer.in.height),
                      x = source(node, ox, kx, layer.in.width);
              if (y < 0 || x < 0) continue;
              size_t channel = oc / out_group * in_group + ic;
              visit(at(layer.out, oc, oy, ox),
                    at(layer.in, channel, static_cast<size_t>(y), static_cast<size_t>(x)),
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
            int64_t y = source(layer.node, oy, ky, layer.in.height),
                    x = source(layer.node, ox, kx, layer.in.width);
            if (y >= 0 && x >= 0)
              window.push_back(at(layer.in, c, static_cast<size_t>(y), static_cast<size_t>(x)));
          }
        }
        visit(at(layer.out, c, oy, ox), window);
      }
    }
  }
}

size_t largest(const Values& x, const std::vector<size_t>& window) {
  return *std::max_element(window.begin(), window.end(),
                           [&](size_t a, size_t b) { return x[a] < x[b]; });
}

struct Moments {
  double mean = 0, inverse_deviation = 0;
};
Moments moments(const Values& x, size_t first, size_t count) {
  double mean = 0, variance = 0;
  for (size_t i = first; i < first + count; ++i) mean += x[i];
  mean /= static_cast<double>(count);
  for (size_t i = first; i < first + count; ++i) variance += (x[i] - mean) * (x[i] - mean);
  return {mean, 1 / std::sqrt(variance / static_cast<double>(count) + kNormEpsilon)};
}

// The element's number in the order rows, columns, channels.
uint64_t element_number(const Shape3& shape, size_t index) {
  size_t pixels = size_t{shape.height} * shape.width;
  return (index % pixels) * shape.channels + index / pixels;
}

double dropout_factor(const Layer& layer, uint32_t index, size_t element,
                      const KeepsElement& keeps) {
  if (!keeps) return 1;
  return keeps(index, element_number(layer.out, element)) ? 1 / (1 - layer.node.rate) : 0;
}

Values forward(const Layer& layer, uint32_t index, const std::vector<Values>& values,
               std::span<const double> parameters, const KeepsElement& keeps) {
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
      pool(layer,
           [&](size_t o, const std::vector<size_t>& window) { y[o] = x[largest(x, window)]; });
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
    case Node::Op::kFlatten:
      y = x;
      break;
    case Node::Op::kDropout:
      for (size_t i = 0; i < y.size(); ++i) y[i] = x[i] * dropout_factor(layer, index, i, keeps);
      break;
    case Node::Op::kGroupNorm:
    case Node::Op::kLayerNorm: {
      const size_t groups = norm_groups(layer.node), group = x.size() / groups;
      for (size_t g = 0; g < groups; ++g) {
        auto m = moments(x, g * group, group);
        for (size_t i = g * group; i < (g + 1) * group; ++i) {
          y[i] = weight[i / pixels] * (x[i] - m.mean) * m.inverse_deviation + bias[i / pixels];
        }
      }
      break;
    }
    case Node::Op::kEmbedding: {
      size_t o = 0;
      for (uint32_t column : layer.node.columns) {
        for (size_t u = 0; u < layer.node.units; ++u)
          y[o++] = weight[category(x[column], layer.node.categories) * layer.node.units + u];
      }
      break;
    }
    case Node::Op::kColumns:
      for (size_t i = 0; i < y.size(); ++i) y[i] = x[layer.node.columns[i]];
      break;
    case Node::Op::kScattering:
      y = reference_scattering(layer, x);
      break;
    case Node::Op::kAdd:
      for (size_t i = 0; i < y.size(); ++i) y[i] = x[i] + values[layer.inputs[1]][i];
      break;
    case Node::Op::kConcat:
      y.clear();
      for (uint32_t input : layer.inputs)
        y.insert(y.end(), values[input].begin(), values[input].end());
      break;
    default:
      for (size_t i = 0; i < y.size(); ++i) y[i] = activation(layer.node, x[i]);
  }
  return y;
}

void backward(const Layer& layer, uint32_t index, const std::vector<Values>& values,
              const Values& dy, std::span<const double> parameters, const KeepsElement& keeps,
              std::vector<Values>& gradients, Values& parameter_gradient) {
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
      pool(layer,
           [&](size_t o, const std::vector<size_t>& window) { dx[largest(x, window)] += dy[o]; });
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
    case Node::Op::kGroupNorm:
    case Node::Op::kLayerNorm: {
      const size_t groups = norm_groups(layer.node), group = x.size() / groups;
      for (size_t g = 0; g < groups; ++g) {
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
    case Node::Op::kEmbedding: {
      size_t o = 0;
      for (uint32_t column : layer.node.columns) {
        for (size_t u = 0; u < layer.node.units; ++u)
          dweight[category(x[column], layer.node.categories) * layer.node.units + u] += dy[o++];
      }
      break;
    }
    case Node::Op::kColumns:
      for (size_t i = 0; i < dy.size(); ++i) dx[layer.node.columns[i]] += dy[i];
      break;
    case Node::Op::kScattering:
      break;  // only the example is before it
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

// Batch norm over the rows, with their own statistics or the running ones: channel by channel.
struct BatchMoments {
  Values mean, inverse_deviation;
  bool of_batch = false;
};
BatchMoments batch_moments(const Layer& layer, const std::vector<std::vector<Values>>& values,
                           std::span<const double> numbers, bool training) {
  const size_t channels = layer.out.channels, pixels = size_t{layer.out.height} * layer.out.width;
  BatchMoments m{Values(channels), Values(channels), training && layer.trained};
  for (size_t c = 0; c < channels; ++c) {
    double mean = numbers[layer.running_at + c],
           variance = numbers[layer.running_at + channels + c];
    if (m.of_batch) {
      const double n = static_cast<double>(values.size() * pixels);
      mean = variance = 0;
      for (const auto& row : values) {
        for (size_t p = 0; p < pixels; ++p) mean += row[layer.inputs[0]][c * pixels + p] / n;
      }
      for (const auto& row : values) {
        for (size_t p = 0; p < pixels; ++p)
          variance += std::pow(row[layer.inputs[0]][c * pixels + p] - mean, 2) / n;
      }
    }
    m.mean[c] = mean;
    m.inverse_deviation[c] = 1 / std::sqrt(variance + kNormEpsilon);
  }
  return m;
}

void batch_norm(const Layer& layer, uint32_t index, const BatchMoments& m,
                std::span<const double> numbers, std::vector<std::vector<Values>>& values) {
  const size_t pixels = size_t{layer.out.height} * layer.out.width;
  for (auto& row : values) {
    row[index] = row[layer.inputs[0]];
    for (size_t i = 0; i < row[index].size(); ++i) {
      const size_t c = i / pixels;
      row[index][i] =
          (row[index][i] - m.mean[c]) * m.inverse_deviation[c] * numbers[layer.weight_at + c] +
          numbers[layer.bias_at + c];
    }
  }
}

void batch_norm_backward(const Layer& layer, uint32_t index, const BatchMoments& m,
                         std::span<const double> numbers,
                         const std::vector<std::vector<Values>>& values,
                         std::vector<std::vector<Values>>& gradients,
                         std::vector<ReferencePass>& passes) {
  const size_t pixels = size_t{layer.out.height} * layer.out.width;
  const double n = static_cast<double>(values.size() * pixels);
  for (size_t c = 0; c < layer.out.channels; ++c) {
    double sum = 0, dot = 0;
    auto normal = [&](size_t row, size_t i) {
      return (values[row][layer.inputs[0]][i] - m.mean[c]) * m.inverse_deviation[c];
    };
    for (size_t row = 0; row < values.size(); ++row) {
      for (size_t i = c * pixels; i < (c + 1) * pixels; ++i) {
        sum += gradients[row][index][i];
        dot += gradients[row][index][i] * normal(row, i);
      }
    }
    passes[0].gradient[layer.weight_at + c] += dot;
    passes[0].gradient[layer.bias_at + c] += sum;
    const double scale = numbers[layer.weight_at + c] * m.inverse_deviation[c];
    for (size_t row = 0; row < values.size(); ++row) {
      for (size_t i = c * pixels; i < (c + 1) * pixels; ++i) {
        double d = gradients[row][index][i];
        if (m.of_batch) d -= sum / n + normal(row, i) * dot / n;
        gradients[row][layer.inputs[0]][i] += scale * d;
      }
    }
  }
}

// Each unit's weights less their mean, over their deviation.
Values standardized(const Graph& graph, std::span<const double> numbers) {
  Values out(numbers.begin(), numbers.end());
  for (const Layer& layer : graph.layers) {
    if (!layer.node.standardize) continue;
    const size_t n = layer.fan_in();
    for (size_t unit = 0; unit < layer.out.channels; ++unit) {
      double* w = out.data() + layer.weight_at + unit * n;
      double mean = 0, variance = 0;
      for (size_t i = 0; i < n; ++i) mean += w[i] / static_cast<double>(n);
      for (size_t i = 0; i < n; ++i)
        variance += (w[i] - mean) * (w[i] - mean) / static_cast<double>(n);
      for (size_t i = 0; i < n; ++i) w[i] = (w[i] - mean) / std::sqrt(variance + kStandardEpsilon);
    }
  }
  return out;
}

// By the chain rule written out: dv_i/dw_j = (delta_ij - 1/n - v_i v_j / n) / s.
void through_standardization(const Graph& graph, std::span<const double> numbers,
                             const Values& used, Values& gradient) {
  for (const Layer& layer : graph.layers) {
    if (!layer.node.standardize) continue;
    const size_t n = layer.fan_in();
    for (size_t unit = 0; unit < layer.out.channels; ++unit) {
      const size_t at = layer.weight_at + unit * n;
      double mean = 0, variance = 0;
      for (size_t i = 0; i < n; ++i) mean += numbers[at + i] / static_cast<double>(n);
      for (size_t i = 0; i < n; ++i)
        variance += std::pow(numbers[at + i] - mean, 2) / static_cast<double>(n);
      const double deviation = std::sqrt(variance + kStandardEpsilon);
      Values own(n, 0.0);
      for (size_t j = 0; j < n; ++j) {
        for (size_t i = 0; i < n; ++i) {
          const double slope = ((i == j ? 1.0 : 0.0) - 1.0 / static_cast<double>(n) -
                                used[at + i] * used[at + j] / static_cast<double>(n)) /
                               deviation;
          own[j] += gradient[at + i] * slope;
        }
      }
      std::copy(own.begin(), own.end(), gradient.begin() + static_cast<ptrdiff_t>(at));
    }
  }
}

// Loss and its slope for each output.
double loss_and_slope(contracts::TrainingSpec::Loss loss, const Values& outputs, int64_t label,
                      Values& slope) {
  using Loss = contracts::TrainingSpec::Loss;
  const auto n = static_cast<double>(outputs.size());
  double total = 0, sum = 0;
  const double top = *std::max_element(outputs.begin(), outputs.end());
  for (double z : outputs) sum += std::exp(z - top);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const double z = outputs[i], hot = static_cast<size_t>(label) == i ? 1 : 0;
    const double y = outputs.size() == 1 ? static_cast<double>(label) : hot;
    if (loss == Loss::kSoftmaxCrossEntropy) {
      const double p = std::exp(z - top) / sum;
      if (hot == 1) total = -(z - top - std::log(sum));
      slope[i] = p - hot;
    } else if (loss == Loss::kBce) {
      const double p = 1 / (1 + std::exp(-z));
      total -= (y * std::log(p) + (1 - y) * std::log1p(-p)) / n;
      slope[i] = (p - y) / n;
    } else {
      total += (z - y) * (z - y) / n;
      slope[i] = 2 * (z - y) / n;
    }
  }
  return total;
}

std::vector<ReferencePass> run(const Graph& graph, contracts::TrainingSpec::Loss loss,
                               std::span<const double> numbers,
                               const std::vector<std::vector<double>>& examples,
                               std::span<const int64_t> labels, bool training,
                               const KeepsElement& keeps) {
  CHECK(numbers.size() == graph.numbers && examples.size() == labels.size());
  const Values used = standardized(graph, numbers);
  const size_t rows = examples.size(), layers = graph.layers.size();
  std::vector<std::vector<Values>> values(rows, std::vector<Values>(layers)), gradients = values;
  std::vector<BatchMoments> moments_of(layers);
  for (size_t row = 0; row < rows; ++row) values[row][0] = examples[row];
  for (uint32_t i = 1; i < layers; ++i) {
    const Layer& layer = graph.layers[i];
    if (layer.node.op == Node::Op::kBatchNorm) {
      moments_of[i] = batch_moments(layer, values, numbers, training);
      batch_norm(layer, i, moments_of[i], numbers, values);
      continue;
    }
    for (auto& row : values) row[i] = forward(layer, i, row, used, keeps);
  }
  std::vector<ReferencePass> passes(rows);
  for (size_t row = 0; row < rows; ++row) {
    for (size_t i = 0; i < layers; ++i) gradients[row][i].assign(values[row][i].size(), 0.0);
    passes[row].outputs = values[row].back();
    passes[row].gradient.assign(graph.parameters, 0.0);
    passes[row].loss =
        loss_and_slope(loss, passes[row].outputs, labels[row], gradients[row].back());
  }
  for (auto i = static_cast<uint32_t>(layers - 1); i >= 1; --i) {
    const Layer& layer = graph.layers[i];
    if (layer.node.op == Node::Op::kBatchNorm) {
      batch_norm_backward(layer, i, moments_of[i], numbers, values, gradients, passes);
      continue;
    }
    for (size_t row = 0; row < rows; ++row) {
      const Values dy = gradients[row][i];
      backward(layer, i, values[row], dy, used, keeps, gradients[row], passes[row].gradient);
    }
  }
  for (auto& pass : passes) {
    through_standardization(graph, numbers, used, pass.gradient);
    pass.gradient.resize(graph.trained);
  }
  return passes;
}

}  // namespace

ReferencePass reference_pass(const Graph& graph, contracts::TrainingSpec::Loss loss,
                             std::span<const double> numbers, std::span<const double> example,
                             int64_t label, const KeepsElement& keeps) {
  CHECK(example.size() == graph.input().count());
  return run(graph, loss, numbers, {{example.begin(), example.end()}}, std::span(&label, 1), false,
             keeps)
      .front();
}

std::vector<ReferencePass> reference_batch(const Graph& graph, contracts::TrainingSpec::Loss loss,
                                           std::span<const double> numbers,
                                           const std::vector<std::vector<double>>& examples,
                                           std::span<const int64_t> labels) {
  return run(graph, loss, numbers, examples, labels, true, {});
}

}  // namespace souk::trainer
