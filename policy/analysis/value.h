// Inside of policy/analysis: values of the second interpreter. All of a run's objects
// live in its Heap and go with it.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

#include "policy/analysis/chunk.h"
#include "policy/analysis/space.h"

namespace souk::policy::analysis {

enum class Builtin : uint8_t;
struct Table;
struct Closure;

struct Value {
  enum class Tag : uint8_t {
    kNil,
    kBoolean,
    kInteger,
    kReal,
    kText,
    kTable,
    kClosure,
    kBuiltin,
    kInput
  };
  Tag tag = Tag::kNil;
  union {
    bool boolean;
    int64_t integer = 0;
    double real;
    const std::string* text;
    Table* table;
    const Closure* closure;
    Builtin builtin;
    const FieldNode* input;
  };
  const std::vector<Slot>* slots = nullptr;  // of an input; for a builtin, see `self`
  Table* self = nullptr;                     // what a builtin closes over

  static Value of(bool value) {
    Value out;
    out.tag = Tag::kBoolean;
    out.boolean = value;
    return out;
  }
  static Value of(int64_t value) {
    Value out;
    out.tag = Tag::kInteger;
    out.integer = value;
    return out;
  }
  static Value of(double value) {
    Value out;
    out.tag = Tag::kReal;
    out.real = value;
    return out;
  }
  static Value of(const std::string* value) {
    Value out;
    out.tag = Tag::kText;
    out.text = value;
    return out;
  }
  static Value of(Table* value) {
    Value out;
    out.tag = Tag::kTable;
    out.table = value;
    return out;
  }
  static Value of(const Closure* value) {
    Value out;
    out.tag = Tag::kClosure;
    out.closure = value;
    return out;
  }
  static Value of(Builtin value) {
    Value out;
    out.tag = Tag::kBuiltin;
    out.builtin = value;
    return out;
  }
  static Value of(const FieldNode* node, const std::vector<Slot>* slots) {
    Value out;
    out.tag = Tag::kInput;
    out.input = node;
    out.slots = slots;
    return out;
  }
  bool truthy() const { return tag != Tag::kNil && !(tag == Tag::kBoolean && !boolean); }
  bool is_number() const { return tag == Tag::kInteger || tag == Tag::kReal; }
  double number() const { return tag == Tag::kInteger ? static_cast<double>(integer) : real; }
};

inline bool same(const Value& a, const Value& b) {
  using Tag = Value::Tag;
  if (a.is_number() && b.is_number()) {
    return a.tag == Tag::kInteger && b.tag == Tag::kInteger ? a.integer == b.integer
                                                            : a.number() == b.number();
  }
  if (a.tag != b.tag) return false;
  switch (a.tag) {
    case Tag::kNil:
      return true;
    case Tag::kBoolean:
      return a.boolean == b.boolean;
    case Tag::kText:
      return a.text == b.text || *a.text == *b.text;
    case Tag::kTable:
      return a.table == b.table;
    case Tag::kClosure:
      return a.closure == b.closure;
    case Tag::kBuiltin:
      return a.builtin == b.builtin && a.self == b.self;
    case Tag::kInput:
      return a.input == b.input && a.slots == b.slots;
    default:
      return false;
  }
}

struct Table {
  std::vector<Value> items;                        // positions from 1
  std::vector<std::pair<Value, Value>> named;      // everything else, as it came
  std::unordered_map<std::string, size_t> places;  // of texts in `named`, once there are many

  const Value* find(const Value& key) const {
    if (key.tag == Value::Tag::kInteger && key.integer >= 1 &&
        static_cast<uint64_t>(key.integer) <= items.size()) {
      return &items[static_cast<size_t>(key.integer - 1)];
    }
    if (!places.empty() && key.tag == Value::Tag::kText) {
      auto found = places.find(*key.text);
      return found == places.end() ? nullptr : &named[found->second].second;
    }
    for (const auto& [name, value] : named) {
      if (same(name, key)) return &value;
    }
    return nullptr;
  }
  void set(const Value& key, const Value& value) {
    if (const Value* there = find(key)) {
      *const_cast<Value*>(there) = value;
      while (!items.empty() && items.back().tag == Value::Tag::kNil) items.pop_back();
      return;
    }
    if (value.tag == Value::Tag::kNil) return;
    if (key.tag == Value::Tag::kInteger && static_cast<uint64_t>(key.integer) == items.size() + 1) {
      items.push_back(value);
      return;
    }
    named.emplace_back(key, value);
    if (key.tag == Value::Tag::kText && (named.size() > 16 || !places.empty())) {
      if (places.empty()) {
        for (size_t i = 0; i < named.size(); ++i) {
          if (named[i].first.tag == Value::Tag::kText) places[*named[i].first.text] = i;
        }
      } else {
        places[*key.text] = named.size() - 1;
      }
    }
  }
  void clear() {
    items.clear();
    named.clear();
    if (!places.empty()) places.clear();
  }
};

struct Closure {
  const Function* function = nullptr;
  std::vector<Value*> upvalues;
};

// Objects are used again by the next run.
template <class T>
class Pool {
 public:
  T& take() {
    if (used_ == all_.size()) all_.emplace_back();
    return all_[used_++];
  }
  void reset() { used_ = 0; }
  size_t used() const { return used_; }

 private:
  std::deque<T> all_;
  size_t used_ = 0;
};

struct Heap {
  Pool<std::string> texts;
  Pool<Table> tables;
  Pool<Closure> closures;
  Pool<Value> cells;
  size_t bytes = 0;

  void reset() {
    texts.reset();
    tables.reset();
    closures.reset();
    cells.reset();
    bytes = 0;
  }
};

}  // namespace souk::policy::analysis
