#include "policy/decide/nearest.h"

#include <algorithm>
#include <vector>

namespace souk::policy {
namespace {

constexpr size_t kLeastOfAWord = 3;  // letters that say which word begins so

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

// "epsilonMicro", "epsilon_micro" and "EPSILON_MICRO" are written alike.
std::string letters_of(std::string_view name) {
  std::string out = lower(name);
  out.erase(std::remove(out.begin(), out.end(), '_'), out.end());
  return out;
}

std::vector<std::string> words_of(std::string_view name) {
  std::vector<std::string> out(1);
  for (char c : lower(name)) {
    if (c == '_') {
      out.emplace_back();
    } else {
      out.back().push_back(c);
    }
  }
  return out;
}

bool begins(std::string_view brief, std::string_view word) {
  return word == brief || (brief.size() >= kLeastOfAWord && word.starts_with(brief));
}

// Its first letters, and then some of the others in their order.
bool abbreviates(std::string_view brief, std::string_view word) {
  if (begins(brief, word)) return true;
  if (brief.size() <= kLeastOfAWord || !word.starts_with(brief.substr(0, kLeastOfAWord)))
    return false;
  size_t at = 0;
  for (char c : word) at += at < brief.size() && brief[at] == c;
  return at == brief.size();
}

// Whether each word of `few` stands for one of `many`, in their order.
template <class Stands>
bool all_stand(const std::vector<std::string>& few, const std::vector<std::string>& many,
               Stands stands) {
  size_t at = 0;
  for (const auto& word : many) at += at < few.size() && stands(few[at], word);
  return at == few.size();
}

size_t most_misspelt(size_t letters) {
  return letters <= 4 ? 1 : std::max<size_t>(2, letters / 3);
}

}  // namespace

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    before.swap(above);
    above.swap(row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] =
          std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

Nearness nearness(std::string_view written, std::string_view known) {
  const std::string a = letters_of(written), b = letters_of(known);
  if (a.empty()) return {};
  if (a == b) return {Likeness::kSame, 0};
  const size_t letters = edit_distance(a, b);
  const auto some = words_of(written), all = words_of(known);
  bool part = (a.size() >= kLeastOfAWord && b.starts_with(a)) || all_stand(some, all, begins);
  if (part) return {Likeness::kPart, letters};
  if (letters <= most_misspelt(a.size()) && letters < b.size())
    return {Likeness::kMisspelt, letters};
  if (all_stand(some, all, abbreviates)) return {Likeness::kAbbreviated, letters};
  bool long_enough = b.size() >= kLeastOfAWord + 1;
  if (long_enough && all_stand(all, some, begins)) return {Likeness::kContained, letters};
  return {};
}

std::string nearest(const std::string& name, const std::set<std::string>& known) {
  const std::string* best = nullptr;
  Nearness least;
  for (const auto& candidate : known) {
    Nearness near = nearness(name, candidate);
    if (near.likeness == Likeness::kNone || (best && !(near < least))) continue;
    least = near;
    best = &candidate;
  }
  return best ? *best : std::string();
}

}  // namespace souk::policy
