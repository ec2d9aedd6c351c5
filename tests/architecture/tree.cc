#include "tests/architecture/tree.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <sstream>

namespace souk::architecture {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

// Each may include itself and those before it.
const Words kTops = {"ledger", "contracts", "policy", "trainer", "market_api"};

struct Door {
  std::string library;
  std::regex header;
  std::set<std::string> rooms;
};

const std::vector<Door>& doors() {
  static const std::vector<Door> table = {
      {"SQLite", std::regex("sqlite3.*"), {"ledger/store"}},
      {"Lua", std::regex("(lua.*/)?(lua|lauxlib|lualib|luaconf)\\.(h|hpp)"), {"policy/lua"}},
      {"cpprestsdk", std::regex("(cpprest|pplx)/.*"), {"market_api/transport"}},
      {"Boost", std::regex("boost/.*"), {"market_api/transport"}},
      {"oneDNN", std::regex("(oneapi/)?(dnnl/)?dnnl.*"), {"trainer/engine"}},
      {"ONNX and protobuf", std::regex("(onnx|google/protobuf)/.*"), {"market_api/client"}},
      {"OpenSSL", std::regex("openssl/.*"), {"ledger/crypto", "trainer/attest"}},
      {"libsodium", std::regex("sodium(\\.h|/.*)"), {"ledger/base", "ledger/crypto"}},
      {"libseccomp", std::regex("(linux/)?seccomp\\.h"), {"policy/jail"}},
      {"tpm2-tss", std::regex("tss2/.*"), {"trainer/attest"}},
      {"zlib", std::regex("zlib\\.h"), {"ledger/codec"}},
      {"GoogleTest", std::regex("(gtest|gmock)/.*"), {}},
  };
  return table;
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Words words(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

std::string without_comments(const std::string& cmake) {
  return std::regex_replace(cmake, std::regex("#[^\n]*"), "");
}

std::vector<std::smatch> matches(const std::string& text, const std::regex& pattern) {
  return {std::sregex_iterator(text.begin(), text.end(), pattern), {}};
}

// "ledger/store/store.cc" -> "ledger/store"; "" for a file that is in no room.
std::string room_of(const fs::path& relative) {
  auto part = relative.begin();
  std::string top = part->string();
  if (++part == relative.end() || std::next(part) == relative.end()) return "";
  return top + "/" + part->string();
}

// "market_blobs" -> "market_api/blobs": how targets are named after rooms.
std::string room_of_target(const std::string& target) {
  auto split = target.find('_');
  if (split == std::string::npos) return "";
  std::string top = target.substr(0, split);
  if (top == "market") top = "market_api";
  if (std::find(kTops.begin(), kTops.end(), top) == kTops.end()) return "";
  return top + "/" + target.substr(split + 1);
}

struct Target {
  std::string zone;
  Words deps;
  std::set<std::string> rooms;  // folders it compiles, or is named after
};

struct Tree {
  std::map<std::string, std::set<std::string>> may_use;  // zone -> zones
  std::map<std::string, Target> targets;
  std::map<std::string, std::set<std::string>> targets_of_room;
};

Tree read_cmake(const fs::path& root) {
  Tree tree;
  auto zones = without_comments(read(root / "cmake/Zones.cmake"));
  static const std::regex may_use("set\\(SOUK_MAY_USE_(\\w+)\\s+([^)]*)\\)");
  for (const auto& match : matches(zones, may_use)) {
    for (const auto& zone : words(match[2])) tree.may_use[match[1]].insert(zone);
  }
  static const std::regex declaration("souk_(room|program)\\(\\s*([\\w-]+)\\s+([^)]*)\\)");
  for (const auto& top : kTops) {
    auto text = without_comments(read(root / top / "CMakeLists.txt"));
    for (const auto& match : matches(text, declaration)) {
      Target target;
      std::string keyword;
      for (const auto& word : words(match[3])) {
        if (word == "ZONE" || word == "SOURCES" || word == "DEPS") {
          keyword = word;
        } else if (keyword == "ZONE") {
          target.zone = word;
        } else if (keyword == "DEPS") {
          target.deps.push_back(word);
        } else if (auto room = room_of(fs::path(top) / word); !room.empty()) {
          target.rooms.insert(room);
        }
      }
      if (match[1] == "room") target.rooms.insert(room_of_target(match[2]));
      target.rooms.erase("");
      for (const auto& room : target.rooms) tree.targets_of_room[room].insert(match[2]);
      tree.targets[match[2]] = target;
    }
  }
  return tree;
}

// The rooms whose headers `target` may use: of itself and of all it depends on.
void reachable(const Tree& tree, const std::string& target, std::set<std::string>& seen,
               std::set<std::string>& rooms) {
  auto found = tree.targets.find(target);
  if (found == tree.targets.end() || !seen.insert(target).second) return;
  rooms.insert(found->second.rooms.begin(), found->second.rooms.end());
  for (const auto& dep : found->second.deps) reachable(tree, dep, seen, rooms);
}

std::set<std::string> zones_of(const Tree& tree, const std::string& room) {
  std::set<std::string> zones;
  auto found = tree.targets_of_room.find(room);
  if (found == tree.targets_of_room.end()) return zones;
  for (const auto& target : found->second) zones.insert(tree.targets.at(target).zone);
  return zones;
}

size_t top_index(const std::string& room) {
  auto top = room.substr(0, room.find('/'));
  return static_cast<size_t>(std::find(kTops.begin(), kTops.end(), top) - kTops.begin());
}

std::string check_arrow(const Tree& tree, const std::string& from, const std::string& to) {
  if (top_index(to) > top_index(from)) {
    return "must not know " + to + ": " + kTops[top_index(from)] + " stands before " +
           kTops[top_index(to)];
  }
  auto from_zone = *zones_of(tree, from).begin();
  for (const auto& to_zone : zones_of(tree, to)) {
    auto allowed = tree.may_use.find(from_zone);
    if (allowed == tree.may_use.end() || !allowed->second.count(to_zone)) {
      return "(" + from_zone + ") must not include " + to + " (" + to_zone + ")";
    }
  }
  std::set<std::string> seen;
  std::set<std::string> rooms;
  for (const auto& target : tree.targets_of_room.at(from)) reachable(tree, target, seen, rooms);
  if (!rooms.count(to)) return "includes " + to + " but its target does not depend on it";
  return "";
}

std::string check_door(const std::string& room, const std::string& header) {
  for (const auto& door : doors()) {
    if (!std::regex_match(header, door.header) || door.rooms.count(room)) continue;
    std::string where;
    for (const auto& allowed : door.rooms) where += (where.empty() ? "" : ", ") + allowed;
    return "includes <" + header + ">: " + door.library + " is only for " +
           (where.empty() ? "tests" : where);
  }
  return "";
}

void check_file(const Tree& tree, const fs::path& root, const fs::path& relative,
                std::vector<std::string>& broken) {
  auto room = room_of(relative);
  auto complain = [&](const std::string& what) {
    if (!what.empty()) broken.push_back(relative.generic_string() + ": " + what);
  };
  if (room.empty() || zones_of(tree, room).size() != 1) {
    complain(room.empty()                   ? "is in no room"
             : zones_of(tree, room).empty() ? "its folder is no room; declare it with souk_room"
                                            : "its folder has targets of two zones");
    return;
  }
  static const std::regex include("(^|\n)[ \t]*#[ \t]*include[ \t]*([<\"])([^>\"\n]+)[>\"]");
  auto text = read(root / relative);
  for (const auto& match : matches(text, include)) {
    std::string header = match[3];
    complain(check_door(room, header));
    if (match[2] != "\"") continue;
    auto other = room_of(fs::path(header));
    if (top_index(header) == kTops.size() || other.empty() || !fs::exists(root / header)) {
      complain("includes \"" + header + "\": expected a header's path from the root of the tree");
    } else if (other != room && zones_of(tree, other).empty()) {
      complain("includes " + other + ", which is no room; declare it with souk_room");
    } else if (other != room) {
      complain(check_arrow(tree, room, other));
    }
  }
}

}  // namespace

std::vector<std::string> broken_rules(const fs::path& root) {
  auto tree = read_cmake(root);
  std::vector<std::string> broken;
  for (const auto& top : kTops) {
    if (!fs::exists(root / top)) continue;
    for (const auto& item : fs::recursive_directory_iterator(root / top)) {
      auto extension = item.path().extension();
      if (extension != ".h" && extension != ".cc") continue;
      check_file(tree, root, fs::relative(item.path(), root), broken);
    }
  }
  std::sort(broken.begin(), broken.end());
  return broken;
}

}  // namespace souk::architecture
