#include "ledger/proof/tlog_policy.h"

#include <algorithm>
#include <charconv>

namespace souk::ledger {
namespace {

constexpr std::string_view kNone = "none";
using Words = std::vector<std::string_view>;

Error bad(const std::string& expected) {
  return Error(Code::kMalformed, "expected " + expected);
}

bool is_policy_octet(char c) {
  auto octet = static_cast<uint8_t>(c);
  return octet == '\t' || octet == '\n' || (octet >= 0x20 && octet != 0x7f);
}

// Only space and tab separate.
Words words_of(std::string_view line) {
  Words words;
  while (true) {
    size_t start = line.find_first_not_of(" \t");
    if (start == std::string_view::npos) return words;
    line.remove_prefix(start);
    size_t end = std::min(line.find_first_of(" \t"), line.size());
    words.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
}

// "all", "any", or a decimal number from 1 to the number of members.
Result<size_t> threshold_of(std::string_view word, size_t members) {
  if (word == "all") return members;
  if (word == "any") return size_t{1};
  size_t value = 0;
  auto [end, status] = std::from_chars(word.data(), word.data() + word.size(), value);
  bool whole = status == std::errc() && end == word.data() + word.size();
  if (!whole || value < 1 || value > members) {
    return bad("all, any, or a threshold from 1 to the number of members");
  }
  return value;
}

}  // namespace

class PolicyReader {
 public:
  Status line(std::string_view text) {
    auto words = words_of(text);
    if (words.empty() || words.front().front() == '#') return Done{};
    auto keyword = words.front();
    words.erase(words.begin());
    if (keyword == "log") return log(words);
    if (keyword == "witness") return witness(words);
    if (keyword == "group") return group(words);
    if (keyword == "quorum") return quorum(words);
    return bad("log, witness, group, quorum or a comment");
  }

  Result<TlogPolicy> finish() {
    if (policy_.quorum_.empty()) return bad("a quorum line");
    return std::move(policy_);
  }

 private:
  Status log(const Words& words) {
    if (words.empty() || words.size() > 2) return bad("log VKEY [URL]");
    auto key = TRY(Vkey::parse(words[0]));
    if (key.type == KeyType::kCosignature) return bad("a key that signs checkpoints: type 1 or 6");
    for (const auto& other : policy_.logs_) {
      if (other.key.key == key.key) return bad("each log key once");
    }
    policy_.logs_.push_back({std::move(key), words.size() == 2 ? std::string(words[1]) : ""});
    return Done{};
  }

  Status witness(const Words& words) {
    if (words.size() < 2 || words.size() > 3) return bad("witness NAME VKEY [URL]");
    auto key = TRY(Vkey::parse(words[1]));
    if (key.type == KeyType::kEd25519) return bad("a key that cosigns: type 4 or 6");
    for (const auto& other : policy_.witnesses_) {
      if (other.key.key == key.key) return bad("each witness key once");
    }
    TRY(define(words[0]));
    policy_.witnesses_.push_back(
        {std::string(words[0]), std::move(key), words.size() == 3 ? std::string(words[2]) : ""});
    return Done{};
  }

  Status group(const Words& words) {
    if (words.size() < 3) return bad("group NAME all|any|K MEMBER...");
    TlogPolicy::Group out{.name = std::string(words[0]), .threshold = 0, .members = {}};
    out.threshold = TRY(threshold_of(words[1], words.size() - 2));
    for (auto member : Words(words.begin() + 2, words.end())) {
      if (!defined(member)) return bad("members that are witnesses or groups of earlier lines");
      if (!members_.emplace(member).second) return bad("each name as a member at most once");
      out.members.emplace_back(member);
    }
    TRY(define(words[0]));
    policy_.groups_.push_back(std::move(out));
    return Done{};
  }

  Status quorum(const Words& words) {
    if (words.size() != 1) return bad("quorum NAME");
    if (!policy_.quorum_.empty()) return bad("one quorum line");
    if (words[0] != kNone && !defined(words[0])) {
      return bad("a quorum that is none, or a witness or group of an earlier line");
    }
    policy_.quorum_ = words[0];
    return Done{};
  }

  bool defined(std::string_view name) const { return names_.count(std::string(name)) != 0; }
  Status define(std::string_view name) {
    if (name == kNone || !names_.emplace(name).second) return bad("a name that is not taken");
    return Done{};
  }

  TlogPolicy policy_;
  std::set<std::string> names_;
  std::set<std::string> members_;  // of any group
};

Result<TlogPolicy> TlogPolicy::parse(std::string_view text) {
  if (text.size() > kMaxPolicyBytes) {
    return Error(Code::kMalformed, "policy file: expected at most 1 MiB");
  }
  PolicyReader reader;
  for (size_t number = 1; !text.empty(); ++number) {
    size_t end = std::min(text.find('\n'), text.size());
    auto line = text.substr(0, end);
    auto read = std::all_of(line.begin(), line.end(), is_policy_octet)
                    ? reader.line(line)
                    : Status(bad("no control characters but tab and newline"));
    if (!read) {
      return std::move(read).take_error().within("policy file line " + std::to_string(number));
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  auto policy = reader.finish();
  if (!policy) return std::move(policy).take_error().within("policy file");
  return policy;
}

bool TlogPolicy::satisfied_by(const std::set<std::string>& witnesses) const {
  if (quorum_ == kNone) return true;
  std::set<std::string> witnessed;
  for (const auto& witness : witnesses_) {
    if (witnesses.count(witness.name) != 0) witnessed.insert(witness.name);
  }
  for (const auto& group : groups_) {
    auto met = std::count_if(group.members.begin(), group.members.end(),
                             [&](const auto& member) { return witnessed.count(member) != 0; });
    if (static_cast<size_t>(met) >= group.threshold) witnessed.insert(group.name);
  }
  return witnessed.count(quorum_) != 0;
}

std::string TlogPolicy::meaning_of(const std::string& name) const {
  for (const auto& witness : witnesses_) {
    if (witness.name == name) return witness.key.text();
  }
  for (const auto& group : groups_) {
    if (group.name != name) continue;
    std::vector<std::string> members;
    for (const auto& member : group.members) members.push_back(meaning_of(member));
    std::sort(members.begin(), members.end());
    std::string text = std::to_string(group.threshold) + "(";
    for (const auto& member : members) text += member + "\n";
    return text + ")";
  }
  return std::string(kNone);
}

bool TlogPolicy::asks_for_the_same(const TlogPolicy& other) const {
  return meaning_of(quorum_) == other.meaning_of(other.quorum_);
}

}  // namespace souk::ledger
