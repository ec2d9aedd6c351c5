// Turning one condition round that looks at a text's bytes or length, or at a list.
#include <algorithm>
#include <cmath>

#include "policy/analysis/search.h"

namespace souk::policy::analysis {
namespace {

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
    evaluate(point);
    const double before = distance();
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

}  // namespace souk::policy::analysis
