#include "policy/lua/facts.h"

namespace souk::policy {
namespace {

// It and everything in it.
size_t count_of(const Json& value) {
  size_t count = 1;
  if (auto* object = value.object()) {
    for (const auto& [name, member] : *object) count += count_of(member);
  } else if (auto* list = value.array()) {
    for (const Json& item : *list) count += count_of(item);
  }
  return count;
}

}  // namespace

Facts::Facts(std::string name, Json value) : name_(std::move(name)), value_(std::move(value)) {
  nodes_.reserve(count_of(value_));
  nodes_.push_back(Node{&value_, 0, 0, 0, 0, {}, 0, false, false});
  for (uint32_t at = 0; at < nodes_.size(); ++at) {
    const Json* here = nodes_[at].value;
    auto first = static_cast<uint32_t>(nodes_.size());
    if (auto* object = here->object()) {
      for (const auto& [member_name, member_value] : *object) {
        nodes_.push_back(Node{&member_value, at, 0, 0, 0, member_name, 0, false, false});
      }
    } else if (auto* list = here->array()) {
      for (uint32_t i = 0; i < list->size(); ++i)
        nodes_.push_back(Node{&(*list)[i], at, 0, 0, i + 1, {}, 0, false, false});
    } else {
      continue;
    }
    Node& node = nodes_[at];  // where it is now
    node.first = first;
    node.count = static_cast<uint32_t>(nodes_.size()) - first;
    node.object = here->object() != nullptr;
    node.list = !node.object;
    node.view = views_++;
  }
}

uint32_t Facts::member(const Node& object, std::string_view name) const {
  for (uint32_t i = object.first; i < object.first + object.count; ++i) {
    if (nodes_[i].name == name) return i;
  }
  return UINT32_MAX;
}

void Facts::append_path(uint32_t at, std::string& out) const {
  if (at == 0) {
    out += name_;
    return;
  }
  const Node& node = nodes_[at];
  append_path(node.parent, out);
  if (node.place > 0) {
    out += '[';
    out += std::to_string(node.place);
    out += ']';
  } else {
    out += '.';
    out += node.name;
  }
}

std::string Facts::path(uint32_t at) const {
  std::string out;
  append_path(at, out);
  return out;
}

}  // namespace souk::policy
