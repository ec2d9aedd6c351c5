// The corpus of hostile policies, each in the nursery, with a probe after each.
#include <gtest/gtest.h>

#include <map>
#include <sstream>

#include "policy/decide/decide.h"
#include "policy/jail/worker.h"
#include "tests/policy/samples.h"

namespace souk::policy {
namespace {

using namespace samples;

const char* kProbe =
    "local r = rules() r.require(request.dp.epsilon_micro <= 1000000, 'max_epsilon', "
    "'request.dp.epsilon_micro', request.dp.epsilon_micro, 1000000) "
    "return r.decision{price = 100 + #request.purpose, obligations = {max_epsilon_micro = "
    "1000000}}";

std::vector<std::string> split(const std::string& text, char by) {
  std::vector<std::string> out;
  std::istringstream stream(text);
  std::string part;
  while (std::getline(stream, part, by)) out.push_back(part);
  return out;
}

Json overridden(const std::string& rule) {
  Json request = sample_request();
  auto parts = split(rule, '=');
  if (parts.size() == 2) {
    // As a file says what JSON cannot: policy/SPEC.md, Request.
    Json nan = Json::Object{{"$float", "nan"}};
    override_member(request, parts[0],
                    parts[1] == "absent" ? Json()
                    : parts[1] == "nan"  ? std::move(nan)
                                         : Json(parts[1]));
  }
  return request;
}

bool passes(const std::string& any_of, const std::string& status) {
  for (const auto& wanted : split(any_of, '|')) {
    bool ran = wanted == "ran" && (status == "allowed" || status == "denied");
    bool denied = wanted == "denied" && status == "invalid_request";
    if (wanted == status || ran || denied) return true;
  }
  return false;
}

PolicyDecision publish_then_evaluate(Nursery& nursery, const std::string& source,
                                     const Json& request) {
  PolicyDecision decision =
      evaluate_jailed(nursery, source, request, sample_dataset(), sample_context());
  if (!check_source(source)) decision.status = DecisionStatus::kPublishRejected;
  return decision;
}

TEST(Attacks, EveryHostilePolicyIsHeldAndTheNextIsUnaffected) {
  const std::string folder = folder_from("SOUK_SHARED") + "/data/policy-attacks";
  const std::string index = read_text(folder + "/INDEX.tsv");
  if (index.empty()) GTEST_SKIP() << "no corpus at " << folder;
  auto nursery = start_lua_nursery();
  ASSERT_TRUE(nursery) << nursery.error().expected();
  const PolicyDecision probe =
      evaluate_jailed(**nursery, kProbe, sample_request(), sample_dataset(), sample_context());
  ASSERT_TRUE(probe.allowed()) << canonical(probe.to_json());

  int files = 0;
  for (const auto& line : split(index, '\n')) {
    auto columns = split(line, '\t');
    if (columns.size() < 4 || columns[0] == "file") continue;
    ++files;
    const std::string source = read_text(folder + "/" + columns[0]);
    const Json request = overridden(columns.size() > 4 ? columns[4] : "");
    PolicyDecision decision = publish_then_evaluate(**nursery, source, request);
    const std::string text = canonical(decision.to_json());
    EXPECT_TRUE(passes(columns[2], status_name(decision.status))) << columns[0] << ": " << text;
    EXPECT_EQ(text.find("ESCAPED"), std::string::npos) << columns[0];
    EXPECT_EQ(text.find("0x"), std::string::npos) << columns[0];
    EXPECT_LE(text.size(), size_t{32} << 10) << columns[0];
    if (columns[3].find("allow_false") != std::string::npos) {
      EXPECT_FALSE(decision.allowed()) << columns[0];
    }
    if (!decision.allowed()) {
      ASSERT_FALSE(decision.reasons.empty()) << columns[0];
      EXPECT_FALSE(decision.reasons[0].message.empty()) << columns[0];
      EXPECT_LE(decision.reasons[0].message.size(), 4096u) << columns[0];
    }
    PolicyDecision again = publish_then_evaluate(**nursery, source, request);
    EXPECT_EQ(canonical(again.to_json()), text) << columns[0];
    // In this process too: the sandbox holds without the jail.
    PolicyDecision here = evaluate(source, request, sample_dataset(), sample_context());
    EXPECT_EQ(here.status == DecisionStatus::kAllowed, decision.status == DecisionStatus::kAllowed)
        << columns[0];
    PolicyDecision after =
        evaluate_jailed(**nursery, kProbe, sample_request(), sample_dataset(), sample_context());
    EXPECT_EQ(after.hash(), probe.hash()) << columns[0];
  }
  EXPECT_EQ(files, 30);
}

TEST(Attacks, TheBidiPolicyIsRefusedByNameAndLine) {
  auto refused =
      check_source("local limit = 1\nlimit = 2 --[[ \xe2\x80\xae ]] limit = 3\nreturn 1");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().expected().find("line 2"), std::string::npos)
      << refused.error().expected();
  EXPECT_NE(refused.error().expected().find("U+202E"), std::string::npos)
      << refused.error().expected();
}

TEST(Attacks, BytecodeIsNotASource) {
  EXPECT_FALSE(check_source(std::string("\x1bLua\x54\0\x19\x93", 8)));
}

// Each evaluation is in a fresh process, with its own addresses and hash seed.
TEST(Attacks, ADecisionIsTheSameInAHundredProcesses) {
  auto nursery = start_lua_nursery();
  ASSERT_TRUE(nursery);
  const char* source =
      "local t = {} for i = 1, 200 do t['key' .. i] = i end for i = 1, 100 do t['key' .. i] = nil "
      "t['new' .. i] = i end "
      "local s = '' for k, v in pairs(t) do if v % 17 == 0 then s = s .. k end end return {allow = "
      "true, reason = s .. tostring(t), price = 5}";
  const Digest first =
      evaluate_jailed(**nursery, source, sample_request(), sample_dataset(), sample_context())
          .hash();
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(
        evaluate_jailed(**nursery, source, sample_request(), sample_dataset(), sample_context())
            .hash(),
        first);
  }
}

}  // namespace
}  // namespace souk::policy
