// The questions a policy can be asked, as points that are easy to change: every field
// of the schema (policy/decide/schema.h) has a slot. A point is always a valid question.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "ledger/codec/json.h"
#include "policy/decide/schema.h"

namespace souk::policy::analysis {

struct Slot {
  int64_t integer = 0;  // of an integer or a boolean
  std::string text;
  std::vector<std::string> list;
  std::vector<std::vector<Slot>> blocks;  // of a list of blocks: the members' slots of each
  bool absent = false;                    // of what is optional
  friend bool operator==(const Slot&, const Slot&) = default;
};
using Point = std::vector<Slot>;

// A field, its place among the slots, and what is inside.
struct FieldNode {
  std::string name, path;
  const SchemaField* field = nullptr;
  uint32_t slot =
      0;  // among the point's slots, or the block's; of blocks, the optional ones have one
  std::vector<const FieldNode*> members;  // of a block, or of each block of a list
  const FieldNode* member(std::string_view wanted) const {
    for (const FieldNode* each : members) {
      if (each->name == wanted) return each;
    }
    return nullptr;
  }
};

class Space {
 public:
  Space();

  const FieldNode& root(std::string_view name) const;  // "request", "dataset", "ctx"
  // Fields with slots of their own: integers, booleans, texts, lists.
  const std::vector<const FieldNode*>& fields() const { return fields_; }
  // What may be absent, blocks among them. In an ordinary question all of it is there.
  const std::vector<const FieldNode*>& optional() const { return optional_; }
  // credential_details' members, whose slots are in blocks.
  const FieldNode* details() const { return details_; }

  Point plain() const;  // an ordinary question
  // Makes it valid again: ranges, characters, each item once, credentials as their details.
  void repair(Point& point) const;
  static bool is_token_char(char c);
  // Whether the member of a block with these slots is there.
  static bool is_there(const FieldNode& member, const std::vector<Slot>& slots) {
    return member.field->required() || !slots[member.slot].absent;
  }

  struct Question {
    Json request, dataset, ctx;
  };
  Question question(const Point& point) const;

 private:
  const FieldNode* add(const SchemaField& field);
  Json json(const FieldNode& node, const std::vector<Slot>& slots) const;
  void repair_slot(const FieldNode& node, Slot& slot) const;

  std::deque<FieldNode> nodes_;
  std::vector<const FieldNode*> roots_, fields_, optional_;
  const FieldNode* details_ = nullptr;
  const FieldNode* credentials_ = nullptr;
  uint32_t slots_ = 0;
};

}  // namespace souk::policy::analysis
