// What a decision says it depended on.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "policy/decide/decide.h"
#include "policy/lua/sandbox.h"
#include "tests/policy/samples.h"

namespace souk::policy {
namespace {

using Outcome = Evaluation::Outcome;
using Paths = std::vector<std::string>;

// Without the model, and without the noise.
Json request_without() {
  Json request = samples::sample_request();
  request.object()->erase("model");
  (*request.object())["dp"].object()->erase("noise_micro");
  return request;
}

Evaluation run(std::string_view source, const Json& request = request_without()) {
  Program program;
  program.source = source;
  program.inputs = {{"request", &request}};
  return run_confined(program, {});
}
Paths asked(std::string_view source) {
  return run(source).read_set;
}

TEST(ReadSet, IsWhatWasRead) {
  auto evaluation =
      run("local n = 0 for _, c in ipairs(request.credentials) do n = n + #c end return "
          "request.dp.epsilon_micro + n + request.dp.epsilon_micro");
  EXPECT_EQ(evaluation.read_set,
            (std::vector<std::string>{"#request.credentials", "request.credentials[1]",
                                      "request.credentials[2]", "request.dp.epsilon_micro"}));
}

// What a program asks for and does not find stands there too: it may go on without it.
TEST(ReadSet, NamesWhatWasAskedForAndIsNotThere) {
  EXPECT_EQ(asked("return request.model"), Paths{"request.model"});
  EXPECT_EQ(asked("return request.dp.noise_micro > 1"), Paths{"request.dp.noise_micro"});
  EXPECT_EQ(asked("local ok = pcall(function() return request.model.layers end) return ok"),
            Paths{"request.model"});
  EXPECT_EQ(asked("local function at(t, k) return t[k] end local n = request.payment "
                  "pcall(at, request.dp, 'noise_micro') pcall(at, request, 'model') "
                  "pcall(at, request.dp, 'noise_micro') return n + request.dp.epsilon_micro"),
            (Paths{"request.payment", "request.dp.noise_micro", "request.model",
                   "request.dp.epsilon_micro"}));
  EXPECT_EQ(asked("return pcall(function() return ipairs(request.details) end)"),
            Paths{"request.details"});
  EXPECT_EQ(asked("return pcall(function() return #request.details end)"),
            Paths{"request.details"});
  EXPECT_EQ(asked("return pcall(function() return pairs(request.dp.details) end)"),
            Paths{"request.dp.details"});
  EXPECT_EQ(asked("return next == nil"), Paths{});  // there is none; nothing was asked
}

TEST(ReadSet, NamesMembersAndLengthsThatALoopFinds) {
  EXPECT_EQ(asked("for name in pairs(request.dp) do return name end"),
            (Paths{"#request.dp", "request.dp.clip_micro"}));
  EXPECT_EQ(asked("for _ in pairs(request.credentials) do end return 1"),
            (Paths{"#request.credentials", "request.credentials[1]", "request.credentials[2]"}));
  EXPECT_EQ(asked("for _ in ipairs(request.credentials) do return 1 end"),
            (Paths{"#request.credentials", "request.credentials[1]"}));
  EXPECT_EQ(asked("return request.credentials[9] == nil"), Paths{"#request.credentials"});
  auto root = asked("for name in pairs(request) do return name end");
  ASSERT_FALSE(root.empty());
  EXPECT_EQ(root[0], "#request");
}

// That a block is there is known from what is read of it, or stands there by itself.
TEST(ReadSet, NamesABlockOfWhichNothingWasRead) {
  EXPECT_EQ(asked("return type(request.dp)"), Paths{"request.dp"});
  EXPECT_EQ(asked("local dp = request.dp return request.payment"),
            (Paths{"request.dp", "request.payment"}));
  EXPECT_EQ(asked("local dp = request.dp return request.payment + dp.epsilon_micro"),
            (Paths{"request.payment", "request.dp.epsilon_micro"}));
  EXPECT_EQ(asked("return request.credentials ~= nil"), Paths{"request.credentials"});
  EXPECT_EQ(asked("return pcall(function() return request.dp.nothing end)"),
            Paths{"request.dp.nothing"});
  EXPECT_EQ(asked("return request ~= nil"), Paths{});
}

TEST(ReadSet, NamesThatAreNoNamesAreWrittenPlainlyAndSparingly) {
  EXPECT_EQ(asked("return request['a b']"), Paths{R"(request["a b"])"});
  EXPECT_EQ(asked(R"(return request["a\0\255\"\\]"])"), Paths{R"(request["a\x00\xff\x22\x5c]"])"});
  EXPECT_EQ(asked("return request['']"), Paths{R"(request[""])"});
  EXPECT_EQ(asked("return request[('x'):rep(9999)]"),
            Paths{"request[\"" + std::string(64, 'x') + "\"...]"});
  const std::string many =
      "local function at(k) return request[k] end for i = 1, LAST do pcall(at, 'n' .. i) end "
      "return 1";
  auto with = [&](const char* last) {
    return std::string(many).replace(many.find("LAST"), 4, last);
  };
  auto at_most = run(with("256"));
  EXPECT_EQ(at_most.outcome, Outcome::kValue) << at_most.error;
  EXPECT_EQ(at_most.read_set.size(), 256u);
  auto beyond = run(with("257"));
  EXPECT_EQ(beyond.outcome, Outcome::kLimit);
  EXPECT_EQ(beyond.error, "limit reached: members that are not there");
  EXPECT_EQ(beyond.read_set.size(), 256u);
}

TEST(ReadSet, OfADecisionNamesWhatItWentOnWithout) {
  const char* policy =
      "local known, noise = pcall(function() return request.dp.noise_micro end) "
      "if not known then return {allow = true, price = 7} end "
      "return {allow = noise > 1, reason = 'noise'}";
  auto without =
      evaluate(policy, request_without(), samples::sample_dataset(), samples::sample_context());
  auto with = evaluate(policy, samples::sample_request(), samples::sample_dataset(),
                       samples::sample_context());
  ASSERT_TRUE(without.allowed() && with.allowed()) << canonical(without.to_json());
  EXPECT_EQ(without.read_set, Paths{"request.dp.noise_micro"});
  EXPECT_EQ(with.read_set, Paths{"request.dp.noise_micro"});
}

// --- what is not in the read set does not matter ---------------------------------------

// Each adds to `out` and asks in its own way, of a block `b` and of a name `k`.
const char* const kAccesses[] = {
    "local ok, v = pcall(at, b, k) add(ok) if ok then add(type(v)) end",
    "local ok, v = pcall(at, b, k) if ok and type(v) ~= 'table' then add(v) end",
    "local ok, v = pcall(at, b, k) if ok then add((pcall(function() return #v end))) end",
    "local ok, v = pcall(at, b, k) if ok and type(v) == 'table' then "
    "pcall(function() add(#v) end) end",
    "local ok, v = pcall(at, b, k) if ok and type(v) == 'table' then "
    "for name in pairs(v) do add(name) break end end",
    "local ok, v = pcall(at, b, k) if ok and type(v) == 'table' then "
    "for name, item in pairs(v) do add(name) if type(item) ~= 'table' then add(item) end end end",
    "local ok, v = pcall(at, b, k) if ok then pcall(function() "
    "for i, item in ipairs(v) do add(i) if i == 2 then break end end end) end",
    "local ok, v = pcall(at, b, k) if ok then pcall(function() add(v[2]) end) end",
    "local ok, v = pcall(at, b, k) if ok then pcall(function() add(table.concat(v, ',')) end) end",
    "local ok, v = pcall(at, b, k) if ok then add((pcall(table.unpack, v))) end",
    "for name in pairs(b) do add(name) break end",
};

struct Member {
  std::vector<std::string> way;  // from the request
  std::string path;
};
void members_of(const Json& block, const Member& at, std::vector<Member>& out) {
  for (const auto& [name, value] : *block.object()) {
    Member member = at;
    member.way.push_back(name);
    member.path += "." + name;
    if (value.object()) members_of(value, member, out);
    out.push_back(std::move(member));
  }
}
Json& parent_of(Json& request, const Member& member) {
  Json* at = &request;
  for (size_t i = 0; i + 1 < member.way.size(); ++i) at = &(*at->object())[member.way[i]];
  return *at;
}

// Whether a change of the member, or that it is there, is one of what the read set names.
bool is_named(const Paths& read_set, const Member& member) {
  const std::string around = member.path.substr(0, member.path.rfind('.'));
  return std::any_of(read_set.begin(), read_set.end(), [&](const std::string& entry) {
    std::string_view path = entry;
    if (path == "#" + around) return true;
    if (path.front() == '#') path.remove_prefix(1);
    return path.starts_with(member.path) &&
           (path.size() == member.path.size() || path[member.path.size()] == '.' ||
            path[member.path.size()] == '[');
  });
}

TEST(ReadSet, WhatIsNotInItDoesNotMatter) {
  const Json request = samples::sample_request();
  std::vector<Member> members;
  members_of(request, {{}, "request"}, members);
  std::mt19937_64 chance(20);
  auto below = [&](size_t n) { return static_cast<size_t>(chance() % n); };
  size_t unnamed = 0, mattered = 0;
  for (int program = 0; program < 400; ++program) {
    std::string source =
        "local out = '' local function add(v) out = out .. tostring(v) .. ';' end "
        "local function at(b, k) return b[k] end ";
    for (size_t i = 0; i <= below(4); ++i) {
      const Member& member = members[below(members.size())];
      source += "do local b, k = request, '" + member.way.back() + "' ";
      if (member.way.size() == 2)
        source +=
            "do local ok, v = pcall(at, b, '" + member.way[0] + "') if ok then b = v end end ";
      source += kAccesses[below(std::size(kAccesses))] + std::string(" end ");
    }
    source += "return out";
    const auto before = run(source, request);
    ASSERT_EQ(before.outcome, Outcome::kValue) << before.error << "\n" << source;
    for (int change = 0; change < 12; ++change) {
      const Member& member = members[below(members.size())];
      Json changed = request;
      auto& block = *parent_of(changed, member).object();
      Json& value = block[member.way.back()];
      const bool taken_away = value.object() || below(2) == 0;
      if (taken_away) {
        block.erase(member.way.back());
      } else if (value.integer()) {
        value = *value.integer() + 1;
      } else if (value.array()) {
        value.array()->pop_back();
      } else if (value.string()) {
        value = *value.string() + "x";
      } else {
        value = !*value.boolean();
      }
      const auto after = run(source, changed);
      const bool same = after.value == before.value && after.read_set == before.read_set;
      if (is_named(before.read_set, member)) {
        mattered += !same;
        continue;
      }
      ++unnamed;
      EXPECT_TRUE(same) << member.path << (taken_away ? " taken away" : " changed") << "\n"
                        << source << "\n"
                        << canonical(before.value) << "\n"
                        << canonical(after.value);
    }
  }
  EXPECT_GT(unnamed, 1000u);
  EXPECT_GT(mattered, 100u);
}

}  // namespace
}  // namespace souk::policy
