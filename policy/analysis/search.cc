#include "policy/analysis/search.h"

#include <algorithm>
#include <cmath>

namespace souk::policy::analysis {
namespace {

constexpr size_t kMaxCorpus = 600;
constexpr size_t kMaxTexts = 400, kMaxIntegers = 2000;

uint64_t mixed(uint64_t hash, uint64_t value) {  // splitmix64's finaliser
  hash ^= value + 0x9e3779b97f4a7c15 + (hash << 6) + (hash >> 2);
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;
  return hash ^ (hash >> 27);
}

template <class Items, class Item>
void add_once(Items& items, const Item& item, size_t most) {
  if (items.size() < most && std::find(items.begin(), items.end(), item) == items.end())
    items.push_back(item);
}

}  // namespace

Search::Search(const Space& space, Subject& subject, uint32_t sites, std::vector<int64_t> integers,
               std::vector<std::string> texts, uint64_t seed)
    : space_(space),
      subject_(subject),
      random_(seed),
      integers_(std::move(integers)),
      texts_(std::move(texts)),
      seen_(size_t{sites} * 4, -1) {
  for (int64_t each : {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{1'000'000}, int64_t{1} << 31,
                       int64_t{1} << 32, kMaxJsonInteger}) {
    add_once(integers_, each, kMaxIntegers);
  }
}

bool Search::reached(uint32_t site, bool outcome) const {
  size_t at = size_t{site} * 4 + (outcome ? 2 : 0);
  return at + 1 < seen_.size() && (seen_[at] >= 0 || seen_[at + 1] >= 0);
}

const Subject::Outcome& Search::evaluate(const Point& point) {
  if (over_ || evaluations_ >= most_ || ((evaluations_ & 255) == 0 && (*stop_)())) {
    over_ = true;
    throw Over{};
  }
  ++evaluations_;
  events_.clear();
  last_ = point;
  outcome_ = subject_.run(last_, events_);
  uint64_t path = mixed(outcome_.special ? 1 : 0, outcome_.variant);
  bool fresh = false;
  for (const Event& event : events_) {
    path = mixed(path, event.site * 2 + (event.outcome ? 1 : 0));
    size_t at = size_t{event.site} * 4 + (event.outcome ? 2 : 0) + (outcome_.special ? 1 : 0);
    if (seen_[at] < 0) fresh = true;
    if (event.left.kind == Seen::Kind::kInteger && event.right.kind == Seen::Kind::kInteger &&
        (evaluations_ & 15) == 0) {
      add_once(integers_, event.right.integer, 300);
    }
  }
  if (outcome_.goal && (*found_)(last_)) {
    over_ = true;
    solved_ = true;
    throw Over{};
  }
  // Repeated loops make paths without end: new ones are kept while they are few.
  bool new_path =
      paths_.size() < 20'000 && paths_.insert(path).second && corpus_points_.size() < kMaxCorpus;
  if (fresh || new_path) keep(last_, outcome_, fresh);
  return outcome_;
}

void Search::keep(const Point& point, const Subject::Outcome& outcome, bool fresh) {
  auto entry = static_cast<int32_t>(corpus_points_.size());
  corpus_points_.push_back(point);
  corpus_special_.push_back(outcome.special ? 1 : 0);
  if (!fresh) return;
  for (const Event& event : events_) {
    size_t base = size_t{event.site} * 4, special = outcome.special ? 1 : 0;
    int32_t& mine = seen_[base + (event.outcome ? 2 : 0) + special];
    if (mine < 0) mine = entry;
    if (seen_[base + (event.outcome ? 0 : 2) + special] >= 0) continue;
    uint64_t key = base + (event.outcome ? 0 : 2) + special;
    if (known_tasks_.insert(key).second)
      tasks_.push_back({event.site, !event.outcome, outcome.special});
  }
}

int64_t Search::some_integer(int64_t now) {
  switch (below(8)) {
    case 0:
      return now + static_cast<int64_t>(below(3)) - 1;
    case 1:
      return now / 2;
    case 2:
      return now < kMaxJsonInteger / 2 ? now * 2 : now;
    case 3:
      return static_cast<int64_t>(random_() >> (11 + below(53)));
    case 4:
      return static_cast<int64_t>(below(100));
    default:
      return integers_[below(integers_.size())] + static_cast<int64_t>(below(3)) - 1;
  }
}

void Search::add_text(const std::string& text) {
  if (!text.empty() && text.size() <= 256) add_once(texts_, text, kMaxTexts);
}

std::string Search::some_text(const std::string& now) {
  auto known = [&]() -> std::string { return texts_.empty() ? "x" : texts_[below(texts_.size())]; };
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/";
  switch (below(8)) {
    case 0:
      return now + known();
    case 1:
      return known() + now;
    case 2:
      return known() + known();
    case 3: {
      std::string out;
      for (uint64_t i = 0; i <= below(12); ++i) out += kLetters[below(kLetters.size())];
      return out;
    }
    case 4: {
      std::string out = now;
      if (!out.empty()) out[below(out.size())] = kLetters[below(kLetters.size())];
      return out;
    }
    case 5:
      return now.substr(0, now.size() / 2);
    default:
      return known();
  }
}

void Search::mutate(Point& point) {
  if (leaves_away_ && below(6) == 0) {
    const auto& optional = space_.optional();
    bool& absent = point[optional[below(optional.size())]->slot].absent;
    absent = !absent;
    return;
  }
  const auto& fields = space_.fields();
  const FieldNode& node = *fields[below(fields.size())];
  Slot& slot = point[node.slot];
  switch (node.field->kind) {
    case FieldKind::kInteger:
      slot.integer = some_integer(slot.integer);
      break;
    case FieldKind::kBoolean:
      slot.integer ^= 1;
      break;
    case FieldKind::kToken:
    case FieldKind::kText:
      slot.text = some_text(slot.text);
      break;
    case FieldKind::kTokens:
    case FieldKind::kTexts:
      if (!slot.list.empty() && below(3) == 0) {
        slot.list.erase(slot.list.begin() + static_cast<std::ptrdiff_t>(below(slot.list.size())));
      } else {
        slot.list.push_back(some_text("n" + std::to_string(below(1000))));
      }
      break;
    case FieldKind::kBlocks:
      if (!slot.blocks.empty()) {
        auto& block = slot.blocks[below(slot.blocks.size())];
        const FieldNode& member = *node.members[below(node.members.size())];
        if (member.field->kind == FieldKind::kInteger) {
          block[member.slot].integer = some_integer(block[member.slot].integer);
        } else {
          block[member.slot].text = some_text(block[member.slot].text);
        }
      }
      break;
    case FieldKind::kBlock:
      break;
  }
}

size_t Search::pick_entry() {
  size_t size = corpus_points_.size();
  if (below(2) == 0) {  // one of the special ones, if there are any
    for (int i = 0; i < 8; ++i) {
      size_t at = below(size);
      if (corpus_special_[at]) return at;
    }
  }
  return below(3) == 0 ? below(size) : size - 1 - below(std::min<size_t>(size, 40));
}

void Search::havoc() {
  Point point = corpus_points_[pick_entry()];
  for (uint64_t i = 0; i <= below(4); ++i) mutate(point);
  space_.repair(point);
  evaluate(point);
}

// Each of what is optional left away, and all of it.
void Search::seed_absences() {
  Point none = space_.plain();
  for (const FieldNode* node : space_.optional()) {
    Point point = space_.plain();
    point[node->slot].absent = none[node->slot].absent = true;
    evaluate(point);
  }
  evaluate(none);
}

// Every field at its borders and at every literal, one at a time.
void Search::seed_corpus() {
  Point plain = space_.plain();
  evaluate(plain);
  for (const FieldNode* node : space_.fields()) {
    auto with = [&](auto change) {
      Point point = plain;
      change(point[node->slot]);
      space_.repair(point);
      evaluate(point);
    };
    if (node->field->kind == FieldKind::kInteger || node->field->kind == FieldKind::kBoolean) {
      for (int64_t value : {node->field->min, node->field->max})
        with([&](Slot& slot) { slot.integer = value; });
      for (size_t i = 0; i < integers_.size() && i < 60; ++i) {
        for (int64_t off : {-1, 0, 1}) with([&](Slot& slot) { slot.integer = integers_[i] + off; });
      }
    } else {
      with([&](Slot& slot) { slot = Slot{}; });
      for (size_t i = 0; i < texts_.size() && i < 60; ++i) {
        with([&](Slot& slot) {
          slot.text = texts_[i];
          slot.list.push_back(texts_[i]);
        });
      }
    }
  }
}

// A branch that was never taken, from a question that came near it.
bool Search::work_on_frontier() {
  for (size_t tried = 0; tried < tasks_.size(); ++tried) {
    if (next_task_ >= tasks_.size()) next_task_ = 0;
    size_t which = next_task_++;
    Task task = tasks_[which];
    size_t special = task.special ? 1 : 0;
    if (seen_[size_t{task.site} * 4 + (task.want ? 2 : 0) + special] >= 0) {
      tasks_.erase(tasks_.begin() + static_cast<std::ptrdiff_t>(which));
      --next_task_;
      continue;
    }
    // Seldom where it has failed often.
    if (task.tries > 3 && below(task.tries) != 0) continue;
    int32_t entry = seen_[size_t{task.site} * 4 + (task.want ? 0 : 2) + special];
    if (entry < 0) continue;
    ++tasks_[which].tries;
    Point from = corpus_points_[static_cast<size_t>(entry)];
    if (task.tries > 0) {  // another one that also came here, if luck has it
      Point other = corpus_points_[pick_entry()];
      evaluate(other);
      bool here = std::any_of(events_.begin(), events_.end(), [&](const Event& event) {
        return event.site == task.site && event.outcome != task.want;
      });
      if (here && outcome_.special == task.special) from = std::move(other);
    }
    solve(from, task.site, task.want,
          std::min<uint64_t>(400u << std::min<uint32_t>(task.tries, 6), 20'000), 1);
    return true;
  }
  return false;
}

// Any condition of any question, the other way round: leads to new combinations.
void Search::flip_something() {
  Point from = corpus_points_[pick_entry()];
  evaluate(from);
  if (events_.empty()) return;
  const Event event = events_[below(events_.size())];
  solve(from, event.site, !event.outcome, 300, 0);
}

bool Search::run(const Found& found, const Stop& stop, uint64_t evaluations) {
  found_ = &found;
  stop_ = &stop;
  most_ = evaluations;
  over_ = solved_ = false;
  bool goal = false;
  try {
    seed_corpus();
    if (leaves_away_) seed_absences();
    while (true) {
      work_on_frontier();
      for (int i = 0; i < 4; ++i) flip_something();
      for (int i = 0; i < 200; ++i) havoc();
    }
  } catch (const Over&) {
    goal = solved_;
  }
  return goal;
}

}  // namespace souk::policy::analysis
