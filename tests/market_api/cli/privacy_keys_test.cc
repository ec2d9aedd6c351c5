// What souk privacy prints under --json and what the specifications say it prints are the same
// keys, verb by verb.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace souk::market {
namespace {

using Names = std::set<std::string>;

// The members of a JSON text that our own writer wrote: `a`, `a.b`, `a[].b`.
class Members {
 public:
  explicit Members(const std::string& json) : json_(json) { value(""); }
  const Names& all() const { return all_; }

 private:
  std::string text() {
    std::string out;
    for (++at_; json_.at(at_) != '"'; ++at_) {
      if (json_.at(at_) == '\\') ++at_;
      out += json_.at(at_);
    }
    ++at_;
    return out;
  }
  void value(const std::string& path) {
    const char kind = json_.at(at_);
    if (kind == '{' || kind == '[') {
      const char end = kind == '{' ? '}' : ']';
      for (++at_; json_.at(at_) != end; at_ += json_.at(at_) == ',') {
        std::string own = path + "[]";
        if (kind == '{') {
          own = (path.empty() ? "" : path + ".") + text();
          all_.insert(own);
          ++at_;  // the colon
        }
        value(own);
      }
      ++at_;
    } else if (kind == '"') {
      text();
    } else {
      at_ = json_.find_first_of(",]}", at_);
    }
  }

  const std::string& json_;
  size_t at_ = 0;
  Names all_;
};

TEST(Members, AreThoseOfAllLevels) {
  const std::string json = R"({"a":[{"b":1,"c":null},{"b":"}\"]"}],"d":{"e":[],"f":-1.5}})";
  EXPECT_EQ(Members(json).all(), (Names{"a", "a[].b", "a[].c", "d", "d.e", "d.f"}));
}

// The section of a document under this heading, to the next one.
std::string section(const std::string& file, const std::string& heading) {
  const char* source = std::getenv("SOUK_SOURCE");
  std::ifstream in(std::string(source ? source : ".") + "/" + file);
  std::stringstream all;
  all << in.rdbuf();
  const std::string text = all.str();
  const size_t from = text.find("\n" + heading + "\n");
  if (from == std::string::npos) return "";
  const size_t begin = from + heading.size() + 2;
  return text.substr(begin, text.find("\n#", begin) - begin);
}

// What stands between backticks.
std::vector<std::string> marked(const std::string& text) {
  std::vector<std::string> out;
  for (size_t at = text.find('`'); at != std::string::npos; at = text.find('`', at)) {
    const size_t end = text.find('`', at + 1);
    if (end == std::string::npos) break;
    out.push_back(text.substr(at + 1, end - at - 1));
    at = end + 1;
  }
  return out;
}

// market_api/SPEC.md: rows of verbs, keys, words.
std::map<std::string, Names> documented() {
  std::map<std::string, Names> keys;
  std::istringstream lines(section("market_api/SPEC.md", "## Answers of souk privacy"));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("| `")) continue;
    const size_t second = line.find('|', 1), third = line.find('|', second + 1);
    for (const auto& verb : marked(line.substr(0, second))) {
      for (const auto& key : marked(line.substr(second, third - second))) keys[verb].insert(key);
    }
  }
  return keys;
}

class PrivacyKeys : public ::testing::Test {
 protected:
  PrivacyKeys() {
    char name[] = "/tmp/souk-privacy-keys-XXXXXX";
    folder_ = mkdtemp(name);
  }
  ~PrivacyKeys() override { std::filesystem::remove_all(folder_); }

  Names printed(const std::string& arguments) {
    const char* bin = std::getenv("SOUK_BIN");
    FILE* pipe =
        popen((std::string(bin ? bin : ".") + "/souk privacy " + arguments + " --json 2>/dev/null")
                  .c_str(),
              "r");
    std::string out;
    char buffer[4096];
    while (size_t got = std::fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, got);
    const int status = WEXITSTATUS(pclose(pipe));
    EXPECT_TRUE(status == 0 || status == 1) << status << " " << arguments << "\n" << out;
    return Members(out).all();
  }

  std::string folder_;
};

TEST_F(PrivacyKeys, AreTheDocumentedOnesOfEachVerb) {
  std::map<std::string, Names> found;
  for (const char* asked : {
           "epsilon --events gauss:sigma=1 --delta 1e-5",
           "epsilon --sample-rate 0.01 --noise-multiplier 1 --steps 10 --delta 1e-5",
           "delta --events gauss:sigma=1 --epsilon 1",
           "noise --sample-rate 0.01 --steps 10 --epsilon 1 --delta 1e-5",
           "noise --events 'gauss:sigma=0.1;gauss:sigma=?' --epsilon 1 --delta 1e-5",
           "rdp --events gauss:sigma=1 --order 2",
           "filter --epsilon 8 --delta 1e-6 --stream 0.05,4,600",
           "filter --epsilon 8 --delta 1e-6 --stream 0,4,600 --rule pld-static",
           "plan --epsilon 3 --delta 1e-5 --rows 6000 --batch 100 --epochs 2",
           "plan --epsilon 3 --delta 1e-5 --rows 6000 --batch 100 --epochs 2 --budget-epsilon 8 "
           "--budget-delta 1e-6",
           "explain --epsilon 1",
           "explain --epsilon 1 --delta 1e-5",
       }) {
    const std::string verb = std::string(asked).substr(0, std::string(asked).find(' '));
    found[verb].merge(printed(asked));
  }
  const auto said = documented();
  for (const auto& [verb, keys] : found) {
    ASSERT_TRUE(said.contains(verb)) << verb;
    EXPECT_EQ(said.at(verb), keys) << verb;
  }
  for (const auto& [verb, keys] : said) EXPECT_TRUE(found.contains(verb)) << verb;
}

// Those of an audit stand in trainer/SPEC.md, members of members in braces.
TEST_F(PrivacyKeys, OfAnAuditAreDocumentedToo) {
  std::ofstream(folder_ + "/contract.lua") << R"(return {
    purpose = "benchmark", datasets = { "rows" }, payment = 1,
    csv = { columns = { "a", { name = "sick", role = "label", values = { "no", "yes" } } } },
    model = { linear { units = 2 } },
    train = { steps = 5, batch = 4, optimizer = sgd {}, learning_rate = 0.1 },
    privacy = { epsilon = 8, delta = "1e-5" },
  })";
  std::ofstream rows(folder_ + "/rows.csv");
  rows << "a,sick\n";
  for (int i = 0; i < 40; ++i) rows << i % 7 << (i % 7 > 3 ? ",yes\n" : ",no\n");
  rows.close();
  const Names found = printed("audit " + folder_ + "/contract.lua --data " + folder_ +
                              "/rows.csv --shadows 2 --threads 1");
  EXPECT_TRUE(found.contains("membership.auc") && found.contains("self_test.checks[].name"));
  Names said;
  for (const auto& words : marked(section("trainer/SPEC.md", "### Offline"))) {
    std::string word;
    for (char c : words + " ") {
      const bool of_name = c == '_' || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
      if (of_name) word += c;
      if (!of_name && !word.empty()) said.insert(std::exchange(word, ""));
    }
  }
  for (const auto& path : found) {
    const size_t dot = path.rfind('.');
    const std::string name = dot == std::string::npos ? path : path.substr(dot + 1);
    EXPECT_TRUE(said.contains(name)) << path;
  }
}

}  // namespace
}  // namespace souk::market
