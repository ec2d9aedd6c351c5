// One JSON value, laid out for programs that read it member by member.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/codec/json.h"

namespace souk::policy {

class Facts {
 public:
  struct Node {
    const Json* value;
    uint32_t parent;
    uint32_t first = 0, count = 0;  // its members or items, which stand side by side
    uint32_t place = 0;             // of an item in its list, from 1
    std::string_view name;          // of a member
    uint32_t view = 0;              // of an object or list: its number among them, from 0
    bool object = false, list = false;
  };

  // `name` is the global it is read by.
  Facts(std::string name, Json value);
  Facts(const Facts&) = delete;
  Facts& operator=(const Facts&) = delete;

  const std::string& name() const { return name_; }
  const Json& value() const { return value_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  uint32_t views() const { return views_; }
  // UINT32_MAX when the object has no such member.
  uint32_t member(const Node& object, std::string_view name) const;
  std::string path(uint32_t node) const;  // "request.dp.epsilon_micro"
  void append_path(uint32_t node, std::string& out) const;

 private:
  const std::string name_;
  const Json value_;
  std::vector<Node> nodes_;
  uint32_t views_ = 0;
};

}  // namespace souk::policy
