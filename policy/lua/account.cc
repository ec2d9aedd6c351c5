#include <algorithm>

#include "policy/lua/confined.h"

namespace souk::policy {
namespace {

constexpr uint64_t kBytesPerGas = 16;
constexpr uint64_t kTextSlope = 1024;
constexpr uint64_t kTextHeader = 25;  // of a string object, and the zero at its end
constexpr int kMostUnseen = 1000;     // instructions between two looks

}  // namespace

void Account::begin(const Limits& limits, uint64_t gas, std::span<const Facts* const> inputs) {
  limits_ = limits;
  gas_ = gas;
  rate_ = 1;
  largest_block_ = largest_text_ = 0;
  tripped = refused = nullptr;
  metering = false;
  armed = 0;
  facts = inputs;
  first_view.clear();
  first_node.clear();
  reads_.clear();
  uint32_t views = 0, nodes = 0;
  for (const Facts* each : inputs) {
    first_view.push_back(views);
    first_node.push_back(nodes);
    views += each->views();
    nodes += static_cast<uint32_t>(each->nodes().size());
  }
  read_already_.assign(nodes, 0);
}

// One instruction can walk a chain of colliding keys, copy the open arguments of a
// call or compare two texts: never more than the largest table, stack or text there
// is. So each instruction costs the more, the larger that is.
void Account::pay_bytes(uint64_t bytes, bool object, bool text, uint64_t used) {
  if (!metering || tripped)
    return;  // once it is over, only the interpreter's own unwinding allocates
  if (text && bytes > kMaxSandboxTextBytes + kTextHeader) stop(limit::kText);
  if (used + bytes > limits_.memory_bytes) stop(limit::kMemory);
  if ((!object && bytes > largest_block_) || (text && bytes > largest_text_)) {
    settle();
    if (text) {
      largest_text_ = std::max(largest_text_, bytes);
    } else {
      largest_block_ = std::max(largest_block_, bytes);
    }
    rate_ = 1 + largest_block_ / slope + largest_text_ / kTextSlope;
  }
  pay(bytes / kBytesPerGas + 1);
}

int Account::next_look() const {
  if (!countdown) return 1;
  uint64_t left = limits_.gas > gas_ ? (limits_.gas - gas_) / rate_ : 0;
  return static_cast<int>(std::clamp<uint64_t>(left, 1, kMostUnseen));
}

void Account::note_read(uint32_t which, uint32_t node, bool length) {
  uint8_t bit = length ? 2 : 1;
  uint8_t& seen = read_already_[first_node[which] + node];
  if (seen & bit) return;
  seen |= bit;
  reads_.push_back({which, node, length});
}

std::vector<std::string> Account::read_set() const {
  std::vector<std::string> out;
  out.reserve(reads_.size());
  for (const Read& read : reads_) {
    std::string path = facts[read.facts]->path(read.node);
    out.push_back(read.length ? "#" + path : std::move(path));
  }
  return out;
}

}  // namespace souk::policy
