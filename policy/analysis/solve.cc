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

std::vector<std::string> pieces(const std::string& text, char separator) {
  std::vector<std::string> out(1);
  for (char c : text) {
    if (c == separator) {
      out.emplace_back();
    } else {
      out.back() += c;
    }
  }
  return out;
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
        for (int64_t first : {1, -1}) {
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

// A text whose length, bytes or sum of bytes is compared with a number.
bool Search::text_number(const Point& point, const Place& place, const Note& note) {
  constexpr std::string_view kTrial = "mmmmmmmmmmmm";
  Point start = point;
  const std::string now = text_at(start, place);
  for (const std::string& base : {now, std::string(kTrial.substr(0, 4)),
                                  std::string(kTrial.substr(0, 7)), std::string(kTrial)}) {
    if (evaluations_ >= budget_end_) return false;
    Point at = point;
    text_at(at, place) = base;
    if (attempt(at)) return true;
    at = last_;
    double here = distance();
    if (std::isnan(here)) continue;
    double aim = aims(note).front();
    // Length: one more, and then as many as that asks for.
    Point longer = at;
    text_at(longer, place) += "m";
    if (attempt(longer)) return true;
    double per_byte = distance() - here;
    if (!std::isnan(per_byte) && per_byte != 0) {
      double more = std::round((aim - here) / per_byte);
      std::string text = text_at(at, place);
      if (std::fabs(more) < 300) {
        if (more >= 0) text += std::string(static_cast<size_t>(more), 'm');
        if (more < 0) text.resize(text.size() - std::min(text.size(), static_cast<size_t>(-more)));
        longer = at;
        text_at(longer, place) = text;
        if (attempt(longer)) return true;
        if (std::fabs(distance() - aim) < std::fabs(here - aim)) {
          at = last_;
          here = distance();
        }
      }
    }
    // Bytes: the steepest first, each as far as it helps.
    const size_t length = std::min<size_t>(text_at(at, place).size(), 12);
    std::vector<std::pair<double, size_t>> steep;
    for (size_t i = 0; i < length; ++i) {
      Point probe = at;
      if (i >= text_at(probe, place).size()) break;
      char& c = text_at(probe, place)[i];
      char before = c;
      c = Space::is_token_char(static_cast<char>(c + 1)) ? static_cast<char>(c + 1)
                                                         : static_cast<char>(c - 1);
      double step = c - before;
      if (attempt(probe)) return true;
      double slope = (distance() - here) / step;
      if (!std::isnan(slope) && slope != 0) steep.emplace_back(slope, i);
    }
    std::sort(steep.begin(), steep.end(),
              [](auto a, auto b) { return std::fabs(a.first) > std::fabs(b.first); });
    for (auto [slope, i] : steep) {
      if (i >= text_at(at, place).size()) break;
      char before = text_at(at, place)[i];
      double wanted = static_cast<double>(before) + (aim - here) / slope;
      int best = before;
      for (int c = 33; c < 127; ++c) {
        if (Space::is_token_char(static_cast<char>(c)) &&
            std::fabs(c - wanted) < std::fabs(best - wanted))
          best = c;
      }
      Point probe = at;
      text_at(probe, place)[i] = static_cast<char>(best);
      if (attempt(probe)) return true;
      if (std::fabs(distance() - aim) < std::fabs(here - aim)) {
        at = last_;
        here = distance();
      }
    }
    if (steep.size() < 2) continue;
    // What is left is within reach of two bytes, or of luck.
    auto [slope_a, i] = steep[steep.size() - 1];
    auto [slope_b, k] = steep[steep.size() - 2];
    for (int a = 45; a < 123; ++a) {
      for (int b = 45; b < 123 && evaluations_ + 1000 < budget_end_; ++b) {
        if (!Space::is_token_char(static_cast<char>(a)) ||
            !Space::is_token_char(static_cast<char>(b)))
          continue;
        Point probe = at;
        if (std::max(i, k) >= text_at(probe, place).size()) return false;
        text_at(probe, place)[i] = static_cast<char>(a);
        text_at(probe, place)[k] = static_cast<char>(b);
        if (attempt(probe)) return true;
      }
    }
  }
  return false;
}

// A text that is compared after something was done to it: which byte of it shows
// where, and how far it has to go.
bool Search::text_shape(const Point& point, const Place& place, const Note& note) {
  bool texts =
      note.event.left.kind == Seen::Kind::kText && note.event.right.kind == Seen::Kind::kText;
  if (!texts || !want_ || note.event.op != Op::kEq) return false;
  Point at = point;
  evaluate(at);
  for (bool swap : {false, true}) {
    const std::string goal = swap ? note.left : note.right;
    auto shown = [&]() -> std::string {
      const Event* event = watched();
      return event ? std::string(swap ? event->right.text : event->left.text) : std::string();
    };
    // The same length first.
    at = point;
    for (int i = 0; i < 3; ++i) {
      evaluate(at);
      std::string text = text_at(at, place);
      size_t now = shown().size();
      if (now == goal.size()) break;
      if (now < goal.size()) {
        text += std::string(std::min<size_t>(goal.size() - now, 200), 'm');
      } else {
        text.resize(text.size() - std::min(text.size(), now - goal.size()));
      }
      text_at(at, place) = text;
      space_.repair(at);
    }
    evaluate(at);
    std::string before = shown();
    if (before.size() != goal.size()) continue;
    Point solved = at;
    bool any = false;
    for (size_t i = 0; i < text_at(at, place).size() && i < 64; ++i) {
      Point probe = at;
      if (i >= text_at(probe, place).size() || i >= text_at(solved, place).size()) break;
      char& c = text_at(probe, place)[i];
      char old = c;
      c = Space::is_token_char(static_cast<char>(c + 1)) ? static_cast<char>(c + 1)
                                                         : static_cast<char>(c - 1);
      int step = c - old;
      if (attempt(probe)) return true;
      std::string after = shown();
      if (after.size() != before.size()) continue;
      for (size_t k = 0; k < after.size(); ++k) {
        int moved = after[k] - before[k];
        if (moved == 0) continue;
        int wanted = old + (goal[k] - before[k]) * step / moved;
        if (wanted > 32 && wanted < 127) text_at(solved, place)[i] = static_cast<char>(wanted);
        any = true;
        break;
      }
    }
    if (any && attempt(solved)) return true;
  }
  return false;
}

bool Search::lists(const Point& point, const Note& note) {
  Point candidate;
  for (const FieldNode* node : space_.fields()) {
    bool list = node->field->kind == FieldKind::kTokens || node->field->kind == FieldKind::kTexts;
    if (!list) continue;
    const auto& items = point[node->slot].list;
    auto with = [&](std::vector<std::string> changed) {
      candidate = point;
      candidate[node->slot].list = std::move(changed);
      return attempt(candidate);
    };
    std::vector<std::string> made;
    for (const std::string* text : {&note.left, &note.right}) {
      if (text->empty()) continue;
      made = items;
      made.push_back(*text);
      if (with(made)) return true;
      made = items;
      made.insert(made.begin(), *text);
      if (with(made)) return true;
      if (with({*text})) return true;
      for (char separator : {',', ';', '|', ' ', '-', '/', ':', '+'}) {
        if (text->find(separator) != std::string::npos && with(pieces(*text, separator)))
          return true;
      }
      made = items;
      made.erase(std::remove(made.begin(), made.end(), *text), made.end());
      if (made != items && with(made)) return true;
    }
    if (!note.event.left.is_number()) continue;
    // How many: one more, one less, and as many as are asked for.
    double before = kNone;
    evaluate(point);
    before = distance();
    made = items;
    made.push_back("n" + std::to_string(items.size()));
    if (with(made)) return true;
    double per_item = distance() - before;
    made = items;
    if (!made.empty()) made.pop_back();
    if (with(made)) return true;
    if (std::isnan(per_item) || per_item == 0) continue;
    double more = std::round((aims(note).front() - before) / per_item);
    if (std::fabs(more) > 256) continue;
    made = items;
    for (int i = 0; i < more; ++i)
      made.push_back("n" + std::to_string(items.size() + static_cast<size_t>(i)));
    if (more < 0) made.resize(made.size() - std::min(made.size(), static_cast<size_t>(-more)));
    if (with(made)) return true;
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
