// Turning one condition round.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "policy/analysis/search.h"

namespace souk::policy::analysis {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

std::string mapped(std::string text, int (*map)(int)) {
  for (char& c : text) c = static_cast<char>(map(static_cast<unsigned char>(c)));
  return text;
}

}  // namespace

std::vector<Search::Place> Search::places(const Point& point, bool texts) const {
  std::vector<Place> out;
  for (const FieldNode* node : space_.fields()) {
    FieldKind kind = node->field->kind;
    Place place{node->slot};
    const Slot& slot = point[node->slot];
    if (kind == FieldKind::kBlocks) {
      for (size_t b = 0; b < slot.blocks.size() && b < 4; ++b) {
        for (const FieldNode* member : node->members) {
          bool is_text =
              member->field->kind == FieldKind::kToken || member->field->kind == FieldKind::kText;
          if (is_text != texts) continue;
          place.block = static_cast<int32_t>(b);
          place.member = static_cast<int32_t>(member->slot);
          out.push_back(place);
        }
      }
    } else if (kind == FieldKind::kTokens || kind == FieldKind::kTexts) {
      for (size_t i = 0; texts && i < slot.list.size() && i < 6; ++i) {
        place.item = static_cast<int32_t>(i);
        out.push_back(place);
      }
    } else {
      bool is_text = kind == FieldKind::kToken || kind == FieldKind::kText;
      if (is_text == texts) out.push_back(place);
    }
  }
  return out;
}

// A repaired point may have lost the item: what is then written goes nowhere.
std::string& Search::text_at(Point& point, const Place& place) {
  thread_local std::string nowhere;
  Slot& slot = point[place.slot];
  if (place.item >= 0) {
    auto item = static_cast<size_t>(place.item);
    return item < slot.list.size() ? slot.list[item] : (nowhere = "x");
  }
  if (place.block < 0) return slot.text;
  auto block = static_cast<size_t>(place.block);
  return block < slot.blocks.size() ? slot.blocks[block][static_cast<size_t>(place.member)].text
                                    : (nowhere = "x");
}
int64_t& Search::integer_at(Point& point, const Place& place) {
  thread_local int64_t nowhere;
  Slot& slot = point[place.slot];
  if (place.block < 0) return slot.integer;
  auto block = static_cast<size_t>(place.block);
  return block < slot.blocks.size() ? slot.blocks[block][static_cast<size_t>(place.member)].integer
                                    : (nowhere = 0);
}

const Event* Search::watched() const {
  uint32_t index = 0;
  for (const Event& event : events_) {
    if (event.site != watch_site_) continue;
    if (index++ == watch_index_) return &event;
  }
  return nullptr;
}

double Search::distance() const {
  const Event* event = watched();
  if (!event || !event->left.is_number()) return kNone;
  double right = event->right.is_number() ? event->right.number() : 0;
  if (event->left.kind == Seen::Kind::kInteger && event->right.kind == Seen::Kind::kInteger) {
    int64_t exact = 0;
    if (!__builtin_sub_overflow(event->left.integer, event->right.integer, &exact))
      return static_cast<double>(exact);
  }
  return event->left.number() - right;
}

// Differences of the two sides that would do.
std::vector<double> Search::aims(const Note& note) const {
  Op op = note.event.op;
  if (note.event.kind == Event::Kind::kDivisor)
    return want_ ? std::vector<double>{1} : std::vector<double>{0};
  bool equal = (op == Op::kEq && want_) || (op == Op::kNe && !want_);
  if (equal) return {0};
  if (op == Op::kEq || op == Op::kNe) return {1, -1};
  bool less =
      ((op == Op::kLt || op == Op::kLe) && want_) || ((op == Op::kGt || op == Op::kGe) && !want_);
  return less ? std::vector<double>{-1, 0, -1000} : std::vector<double>{1, 0, 1000};
}

// Whether the condition came out as wanted anywhere in the run.
bool Search::attempt(Point candidate) {
  space_.repair(candidate);
  if (evaluations_ >= budget_end_) return false;
  evaluate(candidate);
  return std::any_of(events_.begin(), events_.end(), [&](const Event& event) {
    return event.site == watch_site_ && event.outcome == want_;
  });
}

bool Search::solve(const Point& point, uint32_t site, bool want, uint64_t budget, int depth) {
  auto site_before = watch_site_, index_before = watch_index_;
  bool want_before = want_;
  uint64_t end_before = budget_end_;
  struct Restore {
    Search& self;
    uint32_t site, index;
    bool want;
    uint64_t end;
    ~Restore() {
      self.watch_site_ = site;
      self.watch_index_ = index;
      self.want_ = want;
      self.budget_end_ = end;
    }
  } restore{*this, site_before, index_before, want_before, end_before};
  watch_site_ = site;
  want_ = want;
  budget_end_ = evaluations_ + budget;
  evaluate(point);
  std::vector<uint32_t> occurrences;
  uint32_t index = 0;
  for (const Event& event : events_) {
    if (event.site != site) continue;
    if (event.outcome != want) occurrences.push_back(index);
    ++index;
  }
  if (occurrences.empty()) return false;
  watch_index_ = occurrences[below(occurrences.size())];
  Note note{*watched(), std::string(watched()->left.text), std::string(watched()->right.text)};
  const Point from = point;
  if (leaves_away_ && presence(from)) return true;
  if (direct(from, note)) return true;
  if (note.event.left.is_number() && slopes(from, note)) return true;
  if (lists(from, note)) return true;
  for (const Place& place : places(from, true)) {
    if (note.event.left.is_number() ? text_number(from, place, note)
                                    : text_shape(from, place, note))
      return true;
  }
  if (depth > 0) return by_other_conditions(from, note, depth);
  return false;
}

// One thing more or less there.
bool Search::presence(const Point& point) {
  for (const FieldNode* node : space_.optional()) {
    Point candidate = point;
    candidate[node->slot].absent = !candidate[node->slot].absent;
    if (attempt(std::move(candidate))) return true;
  }
  return false;
}

// What one side is, put where the other came from.
bool Search::direct(const Point& point, const Note& note) {
  Point candidate;
  const Event& event = note.event;
  for (bool swap : {false, true}) {
    const Seen& from = swap ? event.right : event.left;
    const Seen& to = swap ? event.left : event.right;
    const std::string& from_text = swap ? note.right : note.left;
    const std::string& to_text = swap ? note.left : note.right;
    if (to.kind == Seen::Kind::kInteger) {
      for (const Place& place : places(point, false)) {
        candidate = point;
        int64_t now = integer_at(candidate, place);
        if (from.kind == Seen::Kind::kInteger && now != from.integer) continue;
        for (int64_t off : {0, 1, -1}) {
          candidate = point;
          integer_at(candidate, place) = to.integer + off;
          if (attempt(candidate)) return true;
        }
      }
    }
    if (to.kind != Seen::Kind::kText) continue;
    add_text(to_text);
    for (const Place& place : places(point, true)) {
      candidate = point;
      const std::string now = text_at(candidate, place);
      std::vector<std::string> made = {to_text, to_text + "a"};
      if (event.kind == Event::Kind::kFind) {
        made.push_back(to_text + now);
        made.push_back(now + to_text);
      }
      if (size_t at = now.find(from_text); !from_text.empty() && at != std::string::npos) {
        made.push_back(now.substr(0, at) + to_text + now.substr(at + from_text.size()));
      }
      if (to_text.size() < now.size()) {
        made.push_back(to_text + now.substr(to_text.size()));
        made.push_back(now.substr(0, now.size() - to_text.size()) + to_text);
      }
      made.emplace_back(to_text.rbegin(), to_text.rend());
      made.push_back(mapped(to_text, std::tolower));
      made.push_back(mapped(to_text, std::toupper));
      if (!want_) made.push_back(now + "z");
      for (const auto& text : made) {
        candidate = point;
        text_at(candidate, place) = text;
        if (attempt(candidate)) return true;
      }
    }
    // A number's digits.
    for (const Place& place : places(point, false)) {
      candidate = point;
      std::string digits = std::to_string(integer_at(candidate, place));
      std::vector<std::string> made = {to_text};
      if (size_t at = digits.find(from_text); !from_text.empty() && at != std::string::npos) {
        made.push_back(digits.substr(0, at) + to_text + digits.substr(at + from_text.size()));
        at = digits.rfind(from_text);
        made.push_back(digits.substr(0, at) + to_text + digits.substr(at + from_text.size()));
      }
      for (const auto& text : made) {
        int64_t value = 0;
        auto read = std::from_chars(text.data(), text.data() + text.size(), value);
        if (read.ec != std::errc() || read.ptr != text.data() + text.size()) continue;
        integer_at(candidate, place) = value;
        if (attempt(candidate)) return true;
      }
    }
  }
  return false;
}

// Along each integer: how the difference of the sides moves, and where it would do.
bool Search::slopes(const Point& point, const Note& note) {
  std::vector<Place> steep;
  for (double aim : aims(note)) {
    Point at = point;
    evaluate(at);
    double here = distance();
    for (int round = 0; round < 3; ++round) {
      bool moved = false;
      for (const Place& place : places(at, false)) {
        if (evaluations_ >= budget_end_) return false;
        // Wider where it is flat: what is divided shows a step only now and then.
        for (int64_t first : {1, -1, 16, -16, 4096, 1 << 20}) {
          Point probe = at;
          int64_t x0 = integer_at(probe, place), x1 = x0 + first;
          double f0 = here;
          integer_at(probe, place) = x1;
          if (attempt(probe)) return true;
          x1 = integer_at(last_, place);
          double f1 = distance();
          if (std::isnan(f1) || f1 == f0 || x1 == x0) continue;
          if (std::find(steep.begin(), steep.end(), place) == steep.end()) steep.push_back(place);
          Point best = at;
          double best_gap = std::fabs(here - aim);
          for (int i = 0; i < 12 && f1 != f0; ++i) {  // secants
            double slope = (f1 - f0) / static_cast<double>(x1 - x0);
            double next = static_cast<double>(x1) + (aim - f1) / slope;
            if (!(std::fabs(next) < 9.1e15)) next = next > 0 ? 9.0e15 : 0;
            bool hit = false;
            double f2 = kNone;
            int64_t x2 = x1;
            for (double rounded : {std::round(next), std::floor(next), std::ceil(next)}) {
              probe = at;
              integer_at(probe, place) = static_cast<int64_t>(rounded);
              if (attempt(probe)) return true;
              double gap = std::fabs(distance() - aim);
              if (gap < best_gap) {
                best_gap = gap;
                best = last_;
              }
              if (!hit && !std::isnan(distance())) {
                f2 = distance();
                x2 = integer_at(last_, place);
                hit = true;
              }
            }
            if (!hit || x2 == x1) break;
            x0 = x1;
            f0 = f1;
            x1 = x2;
            f1 = f2;
          }
          // One bit at a time, for what is not smooth.
          for (int bit = 52; bit >= 0 && evaluations_ < budget_end_; --bit) {
            probe = best;
            integer_at(probe, place) ^= int64_t{1} << bit;
            if (attempt(probe)) return true;
            double gap = std::fabs(distance() - aim);
            if (gap < best_gap) {
              best_gap = gap;
              best = last_;
            }
          }
          if (best_gap < std::fabs(here - aim)) {
            at = best;
            evaluate(at);
            here = distance();
            moved = true;
          }
          break;
        }
      }
      if (!moved) break;
    }
  }
  return aims(note).size() == 1 && two_integers(point, steep, aims(note).front());
}

// One integer through its small values, and for each the other where a straight line
// meets the aim: products, and sums of multiples.
bool Search::two_integers(const Point& point, const std::vector<Place>& steep, double aim) {
  constexpr uint64_t kLeast = 4000;  // worth it only with a budget
  for (const Place& slow : steep) {
    for (const Place& fast : steep) {
      if (slow == fast || evaluations_ + kLeast > budget_end_) continue;
      uint64_t end = evaluations_ + (budget_end_ - evaluations_) / 2;
      for (int64_t value = 1; evaluations_ < end; ++value) {
        Point at = point;
        integer_at(at, slow) = value;
        if (attempt(at)) return true;
        if (integer_at(last_, slow) != value) break;
        double here = distance();
        at = last_;
        int64_t x = integer_at(at, fast);
        integer_at(at, fast) = x + 1;
        if (attempt(at)) return true;
        double slope = distance() - here;
        double more = (aim - here) / slope;
        if (std::isnan(more) || std::floor(more) != more || std::fabs(more) > 9e15) continue;
        integer_at(at, fast) = x + static_cast<int64_t>(more);
        if (attempt(at)) return true;
      }
    }
  }
  return false;
}

// Not by the inputs themselves: by turning other conditions of the same run, one after
// the other, while that brings this one nearer.
bool Search::by_other_conditions(const Point& point, const Note& note, int depth) {
  Point at = point;
  for (int round = 0; round < 6; ++round) {
    evaluate(at);
    double here = distance();
    double aim = note.event.left.is_number() ? aims(note).front() : 0;
    std::vector<std::pair<uint32_t, bool>> others;
    for (const Event& event : events_) {
      std::pair<uint32_t, bool> other(event.site, !event.outcome);
      if (event.site != watch_site_ &&
          std::find(others.begin(), others.end(), other) == others.end() && others.size() < 40)
        others.push_back(other);
    }
    bool nearer = false;
    for (auto [site, want] : others) {
      if (evaluations_ >= budget_end_) return false;
      if (!solve(at, site, want, 200, depth - 1)) continue;
      Point turned = last_;
      if (attempt(turned)) return true;
      if (!std::isnan(here) && !std::isnan(distance()) &&
          std::fabs(distance() - aim) < std::fabs(here - aim)) {
        at = turned;
        nearer = true;
        break;
      }
    }
    if (!nearer) return false;
  }
  return false;
}

}  // namespace souk::policy::analysis
