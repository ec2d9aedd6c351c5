#include "policy/analysis/space.h"

#include <algorithm>
#include <set>

#include "policy/lua/utf8.h"

namespace souk::policy::analysis {
namespace {

struct Plain {
  std::string_view path;
  int64_t integer;
  const char* text;
};
// What is not here is 1 or the least, "x1", or empty.
constexpr Plain kPlain[] = {
    {"request.id", 0, "t1"},
    {"request.consumer", 0, "acme-labs"},
    {"request.purpose", 0, "medical-research"},
    {"request.region", 0, "EU"},
    {"request.algorithm", 0, "mlp"},
    {"request.epochs", 20, ""},
    {"request.payment", 6000, ""},
    {"request.dp.enabled", 1, ""},
    {"request.dp.epsilon_micro", 800'000, ""},
    {"request.dp.delta_pico", 1'000'000, ""},
    {"request.dp.noise_micro", 1'100'000, ""},
    {"request.dp.clip_micro", 1'000'000, ""},
    {"request.model.parameters", 514, ""},
    {"request.model.layers", 3, ""},
    {"request.steps", 400, ""},
    {"request.batch", 64, ""},
    {"request.currency", 0, "EUR"},
    {"request.output.form", 0, "weights"},
    {"request.datasets", 1, ""},
    {"dataset.id", 0, "d1"},
    {"dataset.rows", 1000, ""},
    {"dataset.price", 5000, ""},
    {"dataset.name", 0, "sample"},
    {"dataset.provider", 0, "p1"},
    {"dataset.provider_name", 0, "North Hospital"},
    {"dataset.budget.epsilon_micro", 8'000'000, ""},
    {"dataset.budget.delta_pico", 10'000'000, ""},
    {"ctx.now", int64_t{1'800'000'000'000}, ""},
    {"ctx.spent_epsilon_micro", 0, ""},
    {"ctx.runs", 0, ""},
    {"ctx.head", 7, ""},
    {"ctx.consumer.spent_epsilon_micro", 0, ""},
    {"ctx.consumer.runs", 0, ""},
    {"ctx.consumer.last_run", 0, ""},
    {"ctx.purpose.spent_epsilon_micro", 0, ""},
    {"ctx.purpose.runs", 0, ""},
    {"ctx.purpose.last_run", 0, ""},
};

bool is_list(FieldKind kind) {
  return kind == FieldKind::kTokens || kind == FieldKind::kTexts;
}
bool is_words(FieldKind kind) {
  return kind == FieldKind::kText || kind == FieldKind::kTexts;
}

// Only what the field may hold, at most `most` bytes, never cut within a character.
std::string valid_text(const std::string& text, bool words, size_t most) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    auto character = utf8_at(text, at);
    size_t length = character.length == 0 ? 1 : character.length;
    bool good =
        words ? character.length != 0 && character.point >= 0x20 && !is_invisible(character.point)
              : Space::is_token_char(text[at]);
    if (good && out.size() + length > most) break;
    if (good) out += text.substr(at, length);
    at += length;
  }
  return out;
}

}  // namespace

bool Space::is_token_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '-' || c == ':' || c == '/';
}

const FieldNode* Space::add(const SchemaField& field) {
  const std::string path(field.path);
  size_t dot = path.rfind('.');
  nodes_.emplace_back();
  FieldNode& node = nodes_.back();
  node.name = dot == std::string::npos ? path : path.substr(dot + 1);
  node.path = path;
  node.field = &field;
  if (dot == std::string::npos) {
    roots_.push_back(&node);
    return &node;
  }
  std::string above = path.substr(0, dot);
  bool in_list = above.size() > 2 && above.substr(above.size() - 2) == "[]";
  if (in_list) above.resize(above.size() - 2);
  for (FieldNode& parent : nodes_) {
    if (parent.path != above) continue;
    if (in_list) node.slot = static_cast<uint32_t>(parent.members.size());
    parent.members.push_back(&node);
  }
  if (in_list) return &node;
  const bool block = field.kind == FieldKind::kBlock;
  if (!block || !field.required()) node.slot = slots_++;
  if (!block) fields_.push_back(&node);
  if (!field.required()) optional_.push_back(&node);
  return &node;
}

Space::Space() {
  for (const SchemaField& field : schema()) {
    const FieldNode* node = add(field);
    if (field.kind == FieldKind::kBlocks) details_ = node;
    if (field.path == "request.credentials") credentials_ = node;
  }
}

const FieldNode& Space::root(std::string_view name) const {
  for (const FieldNode* node : roots_) {
    if (node->name == name) return *node;
  }
  CHECK(false);
  std::abort();
}

Point Space::plain() const {
  Point point(slots_);
  for (const FieldNode* node : fields_) {
    Slot& slot = point[node->slot];
    slot.integer = std::max<int64_t>(node->field->min, 1);
    if (node->field->kind == FieldKind::kToken || node->field->kind == FieldKind::kText)
      slot.text = "x1";
    for (const Plain& known : kPlain) {
      if (known.path != node->path) continue;
      slot.integer = known.integer;
      slot.text = known.text;
    }
    if (node->path == "request.model.ops") slot.list = {"linear", "tanh"};
    if (node->path == "request.providers") slot.list = {"p1"};
    if (node->path == "request.dataset_ids") slot.list = {"d1"};
    if (node->path == "request.dataset_names") slot.list = {"sample"};
    if (node == details_) {
      for (const char* type : {"hospital", "irb-approved"}) {
        std::vector<Slot> block(node->members.size());
        for (const FieldNode* member : node->members) {
          block[member->slot].integer = int64_t{1'900'000'000'000};
          block[member->slot].text = member->name == "type" ? type : "aa";
        }
        slot.blocks.push_back(std::move(block));
      }
    }
    if (node == credentials_) slot.list = {"hospital", "irb-approved"};
  }
  repair(point);
  return point;
}

void Space::repair_slot(const FieldNode& node, Slot& slot) const {
  const SchemaField& field = *node.field;
  switch (field.kind) {
    case FieldKind::kInteger:
      slot.integer = std::clamp(slot.integer, field.min, field.max);
      return;
    case FieldKind::kBoolean:
      slot.integer = slot.integer != 0 ? 1 : 0;
      return;
    case FieldKind::kToken:
    case FieldKind::kText:
      slot.text = valid_text(slot.text, is_words(field.kind), static_cast<size_t>(field.max));
      while (static_cast<int64_t>(slot.text.size()) < field.min) slot.text += 'x';
      return;
    case FieldKind::kTokens:
    case FieldKind::kTexts: {
      std::vector<std::string> items;
      std::set<std::string> seen;
      for (const auto& item : slot.list) {
        std::string good = valid_text(item, is_words(field.kind), is_words(field.kind) ? 256 : 128);
        if (good.empty() || static_cast<int64_t>(items.size()) >= field.max ||
            !seen.insert(good).second)
          continue;
        items.push_back(std::move(good));
      }
      slot.list = std::move(items);
      return;
    }
    case FieldKind::kBlocks:
      if (static_cast<int64_t>(slot.blocks.size()) > field.max)
        slot.blocks.resize(static_cast<size_t>(field.max));
      for (auto& block : slot.blocks) {
        for (const FieldNode* member : node.members) repair_slot(*member, block[member->slot]);
      }
      return;
    case FieldKind::kBlock:
      return;
  }
}

void Space::repair(Point& point) const {
  for (const FieldNode* node : fields_) repair_slot(*node, point[node->slot]);
  if (!details_ || !credentials_ || point[details_->slot].absent) return;
  // A credential needs a detail; a detail whose credential has gone, goes.
  const FieldNode* type = details_->member("type");
  auto& blocks = point[details_->slot].blocks;
  auto& named = point[credentials_->slot].list;
  blocks.erase(std::remove_if(blocks.begin(), blocks.end(),
                              [&](const auto& block) {
                                return std::find(named.begin(), named.end(),
                                                 block[type->slot].text) == named.end();
                              }),
               blocks.end());
  for (const auto& name : named) {
    bool there = std::any_of(blocks.begin(), blocks.end(),
                             [&](const auto& block) { return block[type->slot].text == name; });
    if (there) continue;
    std::vector<Slot> block(details_->members.size());
    for (const FieldNode* member : details_->members) {
      block[member->slot].integer = int64_t{1'900'000'000'000};
      block[member->slot].text = member == type ? name : "aa";
    }
    blocks.push_back(std::move(block));
  }
  std::set<std::string> left;
  if (blocks.size() > 64) blocks.resize(64);
  for (const auto& block : blocks) left.insert(block[type->slot].text);
  named.erase(std::remove_if(named.begin(), named.end(),
                             [&](const auto& name) { return !left.count(name); }),
              named.end());
}

Json Space::json(const FieldNode& node, const std::vector<Slot>& slots) const {
  if (node.field->kind == FieldKind::kBlock) {
    Json::Object out;
    for (const FieldNode* member : node.members) {
      if (is_there(*member, slots)) out[member->name] = json(*member, slots);
    }
    return out;
  }
  const Slot& slot = slots[node.slot];
  if (node.field->kind == FieldKind::kInteger) return slot.integer;
  if (node.field->kind == FieldKind::kBoolean) return slot.integer != 0;
  Json::Array items;
  if (is_list(node.field->kind)) {
    for (const auto& item : slot.list) items.push_back(item);
    return items;
  }
  if (node.field->kind != FieldKind::kBlocks) return slot.text;
  for (const auto& block : slot.blocks) {
    Json::Object members;
    for (const FieldNode* member : node.members) members[member->name] = json(*member, block);
    items.emplace_back(std::move(members));
  }
  return items;
}

Space::Question Space::question(const Point& point) const {
  return {json(root("request"), point), json(root("dataset"), point), json(root("ctx"), point)};
}

}  // namespace souk::policy::analysis
