#include "contracts/training/vocabulary.h"

namespace souk::contracts {
namespace {

Result<Shape3> windowed(const Node& node, const Shape3& in, uint32_t channels,
                        const std::string& place) {
  if (node.kernel < 1 || node.kernel > 1024 || node.stride < 1 || node.stride > 1024 ||
      node.padding > 1024) {
    return malformed(place, "expected kernel and stride from 1 to 1024 and padding up to 1024");
  }
  if (node.padding >= node.kernel) return malformed(place, "expected padding below kernel");
  auto reach = [&](uint32_t size) {
    return int64_t{size} + 2 * int64_t{node.padding} - int64_t{node.kernel};
  };
  if (reach(in.height) < 0 || reach(in.width) < 0) {
    return malformed(place, "expected an image of at least the kernel's size, here it is " +
                                std::to_string(in.height) + "x" + std::to_string(in.width));
  }
  return Shape3{channels, static_cast<uint32_t>(reach(in.height) / node.stride) + 1,
                static_cast<uint32_t>(reach(in.width) / node.stride) + 1};
}

// The columns of a flat example: in rising order, so that there is one way to write a choice.
Result<Shape3> chosen_columns(const Node& node, const Shape3& x, const std::string& place) {
  if (x.height != 1 || x.width != 1)
    return malformed(place, "expected a flat example, not an image");
  if (node.columns.empty()) return malformed(place + ".columns", "expected at least one column");
  for (size_t i = 0; i < node.columns.size(); ++i) {
    if (node.columns[i] >= x.channels || (i > 0 && node.columns[i] <= node.columns[i - 1])) {
      return malformed(place + ".columns",
                       "expected rising numbers below " + std::to_string(x.channels));
    }
  }
  return Shape3{static_cast<uint32_t>(node.columns.size()), 1, 1};
}

// Orders 0, 1 and 2: 1 + J L + L^2 J (J - 1) / 2 channels for each of the image's.
Result<Shape3> scattered(const Node& node, const Shape3& x, const std::string& place) {
  if (node.scales < 1 || node.scales > kMaxScales)
    return malformed(place + ".scales", "expected 1 to 4");
  if (node.orientations < 1 || node.orientations > kMaxOrientations)
    return malformed(place + ".orientations", "expected 1 to 16");
  const uint32_t j = node.scales, l = node.orientations, step = 1U << j;
  if (x.height < step || x.width < step || x.height > kMaxScattered || x.width > kMaxScattered) {
    return malformed(place, "expected an image of " + std::to_string(step) + " to " +
                                std::to_string(kMaxScattered) + " pixels on a side, here it is " +
                                std::to_string(x.height) + "x" + std::to_string(x.width));
  }
  const uint64_t channels = x.channels * (1 + uint64_t{j} * l + uint64_t{l} * l * j * (j - 1) / 2);
  if (channels > kMaxWidth) return malformed(place, "expected at most 65536 channels");
  return Shape3{static_cast<uint32_t>(channels), x.height / step, x.width / step};
}

}  // namespace

Result<NodeShape> shape_of(const Node& node, const std::vector<Shape3>& in,
                           const std::string& place) {
  using Op = Node::Op;
  const Shape3& x = in.front();
  switch (node.op) {
    case Op::kLinear: {
      if (node.units < 1 || node.units > kMaxWidth)
        return malformed(place + ".units", "expected 1 to 65536");
      if (x.height != 1 || x.width != 1)
        return malformed(place, "expected a flat input; put flatten before linear");
      return NodeShape{{node.units, 1, 1},
                       uint64_t{node.units} * x.channels + (node.bias ? node.units : 0)};
    }
    case Op::kConv2d: {
      if (node.units < 1 || node.units > kMaxWidth)
        return malformed(place + ".units", "expected 1 to 65536");
      if (node.groups < 1 || x.channels % node.groups != 0 || node.units % node.groups != 0) {
        return malformed(place + ".groups", "expected a divisor of the channels in and out");
      }
      Shape3 out = TRY(windowed(node, x, node.units, place));
      uint64_t weights =
          uint64_t{node.units} * (x.channels / node.groups) * node.kernel * node.kernel;
      return NodeShape{out, weights + (node.bias ? node.units : 0)};
    }
    case Op::kMaxPool:
    case Op::kAvgPool: {
      Shape3 out = TRY(windowed(node, x, x.channels, place));
      return NodeShape{out, 0};
    }
    case Op::kGlobalAvgPool:
      return NodeShape{{x.channels, 1, 1}, 0};
    case Op::kFlatten:
      return NodeShape{{static_cast<uint32_t>(x.count()), 1, 1}, 0};
    case Op::kLeakyRelu:
      if (!within(node.slope, 0, 1))
        return malformed(place + ".slope", "expected a number from 0 to 1");
      return NodeShape{x, 0};
    case Op::kDropout:
      if (!within(node.rate, 0, 0.999))
        return malformed(place + ".rate", "expected a number from 0 to 0.999");
      return NodeShape{x, 0};
    case Op::kGroupNorm:
      if (node.groups < 1 || x.channels % node.groups != 0) {
        return malformed(place + ".groups",
                         "expected a divisor of the " + std::to_string(x.channels) + " channels");
      }
      return NodeShape{x, uint64_t{2} * x.channels};
    case Op::kBatchNorm:
    case Op::kLayerNorm:
      return NodeShape{x, uint64_t{2} * x.channels};
    case Op::kEmbedding: {
      if (node.units < 1 || node.units > kMaxWidth)
        return malformed(place + ".units", "expected 1 to 65536");
      if (node.categories < 1 || node.categories > kMaxCategories) {
        return malformed(place + ".categories", "expected 1 to 1000000");
      }
      Shape3 part = TRY(chosen_columns(node, x, place));
      if (uint64_t{part.channels} * node.units > kMaxActivations) {
        return malformed(place, "expected at most 16777216 numbers in one output");
      }
      return NodeShape{{part.channels * node.units, 1, 1}, uint64_t{node.categories} * node.units};
    }
    case Op::kColumns: {
      Shape3 part = TRY(chosen_columns(node, x, place));
      return NodeShape{part, 0};
    }
    case Op::kScattering: {
      Shape3 out = TRY(scattered(node, x, place));
      return NodeShape{out, 0};
    }
    case Op::kAdd:
      if (in[1].channels != x.channels || in[1].height != x.height || in[1].width != x.width) {
        return malformed(place, "expected two inputs of one shape");
      }
      return NodeShape{x, 0};
    case Op::kConcat: {
      uint64_t channels = 0;
      for (const Shape3& part : in) {
        if (part.height != x.height || part.width != x.width) {
          return malformed(place, "expected inputs of one height and width");
        }
        channels += part.channels;
      }
      if (channels > kMaxActivations)
        return malformed(place, "expected at most 16777216 numbers in one output");
      return NodeShape{{static_cast<uint32_t>(channels), x.height, x.width}, 0};
    }
    case Op::kRelu:
    case Op::kTanh:
    case Op::kSigmoid:
    case Op::kGelu:
    case Op::kSilu:
      return NodeShape{x, 0};
  }
  return malformed(place, "expected a known operation");
}

}  // namespace souk::contracts
