#include <algorithm>

#include "policy/lua/confined.h"

namespace souk::policy {
namespace {

constexpr uint64_t kBytesPerGas = 16;
constexpr uint64_t kTextSlope = 1024;
constexpr uint64_t kTextHeader = 25;  // of a string object, and the zero at its end
constexpr int kMostUnseen = 1000;     // instructions between two looks
constexpr size_t kNameBytes = 64;     // of the name of a member that is not there
constexpr uint8_t kBelow = 8;         // something below the node, or its length, was asked for

bool is_identifier(std::string_view name) {
  auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  return !name.empty() && letter(name.front()) &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

// As a program would write it: ".name", or ["a \x00"] where that is no name. What is long is cut.
std::string access(std::string_view name) {
  const bool cut = name.size() > kNameBytes;
  if (!cut && is_identifier(name)) return "." + std::string(name);
  std::string out = "[\"";
  for (char c : name.substr(0, kNameBytes)) {
    auto byte = static_cast<uint8_t>(c);
    if (byte < 0x20 || byte > 0x7e || c == '"' || c == '\\') {
      constexpr char kDigits[] = "0123456789abcdef";
      out += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
    } else {
      out += c;
    }
  }
  return out + (cut ? "\"...]" : "\"]");
}

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
  absent_.clear();
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

void Account::note_absent(uint32_t which, uint32_t object, std::string_view name) {
  const auto [path, fresh] = absent_.insert(facts[which]->path(object) + access(name));
  if (!fresh) return;
  if (absent_.size() > kMaxAbsentMembers) stop(limit::kAbsent);
  reads_.push_back({which, object, Asked::kValue, true, &*path});
}

// A member that was read says that the blocks around it are there. A block that was asked for, and
// nothing below it, says so itself. Nothing is asked for before what it stands in.
std::vector<std::string> Account::read_set() {
  size_t standing = 0;
  for (size_t i = reads_.size(); i-- > 0;) {
    Read& read = reads_[i];
    const std::vector<Facts::Node>& nodes = facts[read.facts]->nodes();
    uint8_t* seen = &read_already_[first_node[read.facts]];
    read.stands = read.asked != Asked::kBlock || !(seen[read.node] & kBelow);
    if (!read.stands) continue;
    ++standing;
    bool inside = read.absent || read.asked == Asked::kLength;
    for (uint32_t at = read.node; !(seen[at] & kBelow); at = nodes[at].parent) {
      if (inside) seen[at] = static_cast<uint8_t>(seen[at] | kBelow);
      inside = true;
      if (at == 0) break;
    }
  }
  std::vector<std::string> out;
  out.reserve(standing);
  for (const Read& read : reads_) {
    if (!read.stands) continue;
    std::string& path = out.emplace_back();
    if (read.absent) {
      path = *read.absent;
      continue;
    }
    if (read.asked == Asked::kLength) path += '#';
    facts[read.facts]->append_path(read.node, path);
  }
  return out;
}

}  // namespace souk::policy
