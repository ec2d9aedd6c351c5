// The policy verbs as a person or a program meets them: the real souk, its JSON, its
// exit statuses.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "ledger/codec/json.h"

namespace souk::market {
namespace {

const char* kRequest =
    R"({"id":"t1","consumer":"acme-labs","purpose":"medical-research","region":"EU","algorithm":"mlp","epochs":20,"payment":6000,)"
    R"("dp":{"enabled":true,"epsilon_micro":EPSILON,"delta_pico":1000000},"credentials":["hospital","irb-approved"]})";
const char* kPolicy =
    "if request.dp.epsilon_micro > 1000000 then\n  return {allow = false, reason = 'epsilon over "
    "1'}\nend\n"
    "return {allow = true, price = dataset.price + 1, obligations = {max_epsilon_micro = "
    "1000000}}\n";

class PolicyVerbs : public ::testing::Test {
 protected:
  PolicyVerbs() {
    char name[] = "/tmp/souk-policy-verbs-XXXXXX";
    folder_ = mkdtemp(name);
  }
  ~PolicyVerbs() override { std::filesystem::remove_all(folder_); }

  std::string file(const std::string& name, const std::string& text) {
    std::string path = folder_ + "/" + name;
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  std::string request(const std::string& epsilon) {
    std::string text = kRequest;
    text.replace(text.find("EPSILON"), 7, epsilon);
    return file("request.json", text);
  }
  // Fills exit_.
  Json souk(const std::string& arguments) {
    const char* bin = std::getenv("SOUK_BIN");
    std::string command = std::string(bin ? bin : ".") + "/souk policy " + arguments +
                          " --json 2>" + folder_ + "/stderr";
    FILE* pipe = popen(command.c_str(), "r");
    std::string out;
    char buffer[4096];
    while (size_t got = std::fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, got);
    exit_ = WEXITSTATUS(pclose(pipe));
    auto json = parse_json(out);
    return json ? *json : Json(out);
  }
  static std::string text(const Json& json, const std::string& name) {
    const Json* value = json.find(name);
    return value && value->string() ? *value->string() : value ? canonical(*value) : "absent";
  }
  std::string status_of(const std::string& source, const std::string& epsilon = "800000",
                        const std::string& more = "") {
    auto json = souk("eval " + file("p.lua", source) + " --request " + request(epsilon) + more);
    return text(json, "status") + " " + std::to_string(exit_);
  }

  std::string folder_;
  int exit_ = -1;
};

TEST_F(PolicyVerbs, EvalHasEveryKeyAndTheHashesOfWhatItWasAsked) {
  auto json = souk("eval " + file("p.lua", kPolicy) + " --request " + request("800000"));
  EXPECT_EQ(exit_, 0);
  for (const char* key : {"allow", "status", "reasons", "obligations", "price", "read_set", "gas",
                          "policy_hash", "request_hash", "engine_hash", "hashes"}) {
    EXPECT_TRUE(json.find(key)) << key;
  }
  EXPECT_EQ(text(json, "price"), "5001");
  EXPECT_EQ(text(json, "read_set"), R"(["request.dp.epsilon_micro","dataset.price"])");
  auto again = souk("eval " + file("p.lua", kPolicy) + " --request " + request("800000"));
  EXPECT_EQ(json, again);
}

TEST_F(PolicyVerbs, EvalEndsWithTheStatusOfTheDecision) {
  EXPECT_EQ(status_of(kPolicy), "allowed 0");
  EXPECT_EQ(status_of("return function(r, d, c) return {allow = r.epochs == 20} end"), "allowed 0");
  EXPECT_EQ(status_of(kPolicy, "1000001"), "denied 1");
  EXPECT_EQ(status_of("error('x')"), "error 1");
  EXPECT_EQ(status_of("while true do end"), "limit 1");
  EXPECT_EQ(status_of(kPolicy, "800000", " --gas 20"), "limit 1");
  EXPECT_EQ(status_of(kPolicy, "800000", " --memory 20000"), "limit 1");
  EXPECT_EQ(status_of("return {allow = true"), "publish_rejected 1");
  EXPECT_EQ(status_of("return {allow = true} -- \xe2\x80\xae"), "publish_rejected 1");
  EXPECT_EQ(status_of(std::string("\x1bLuaT\0\x19\x93", 8)), "publish_rejected 1");
  EXPECT_EQ(status_of(std::string(40000, ' ')), "invalid_policy 2");
  for (const char* lie : {"800000.0", "8e5", "NaN", "{\"$float\":\"nan\"}", "{\"$absent\":true}",
                          "\"800000\"", "null", "{"}) {
    EXPECT_EQ(status_of(kPolicy, lie), "invalid_request 2") << lie;
  }
}

TEST_F(PolicyVerbs, ARefusedCharacterIsNamed) {
  auto json = souk("eval " + file("p.lua", "return {allow = true} -- \xe2\x80\xae") +
                   " --request " + request("1"));
  EXPECT_NE(text(json, "reasons").find("U+202E RIGHT-TO-LEFT OVERRIDE"), std::string::npos)
      << canonical(json);
}

TEST_F(PolicyVerbs, CheckNamesTheLineAndWhatWasMeant) {
  auto json = souk("check " + file("p.lua", "\nreturn {allow = request.dp.epsilon_mirco < 5}"));
  EXPECT_EQ(exit_, 1);
  EXPECT_NE(text(json, "findings").find(R"("did_you_mean":"request.dp.epsilon_micro","line":2)"),
            std::string::npos)
      << canonical(json);
  json = souk("check " + file("p.lua", kPolicy));
  EXPECT_EQ(exit_, 0);
  EXPECT_EQ(text(json, "ok"), "true");
}

TEST_F(PolicyVerbs, TestRunsTheCasesBesideThePolicyAndSaysWhatTheyMiss) {
  std::string policy = file("p.lua", kPolicy);
  file("p_test.json", R"({"cases":[{"name":"fine","expect":{"allow":true,"price":5001}}]})");
  auto json = souk("test " + policy);
  EXPECT_EQ(exit_, 0) << canonical(json);
  EXPECT_EQ(text(*json.find("coverage")->find("branches"), "covered"), "1");
  file(
      "p_test.json",
      R"({"cases":[{"expect":"allowed"},{"request":{"dp":{"epsilon_micro":2000000}},"expect":{"status":"denied","message":"over 1"}},{"expect":"denied"}]})");
  json = souk("test " + policy);
  EXPECT_EQ(exit_, 1);
  EXPECT_EQ(text(json, "passed"), "2");
  EXPECT_EQ(text(*json.find("coverage")->find("branches"), "percent"), "100");
  EXPECT_EQ(text(*json.find("coverage")->find("lines"), "percent"), "100");
}

TEST_F(PolicyVerbs, ExplainSaysWhatToChange) {
  auto json = souk("explain " + file("p.lua", kPolicy) + " --request " + request("1500000"));
  EXPECT_EQ(exit_, 1);
  const Json* remedies = json.find("remedies");
  ASSERT_TRUE(remedies && remedies->array() && !remedies->array()->empty()) << canonical(json);
  EXPECT_EQ(text((*remedies->array())[0], "edits"),
            R"([{"from":1500000,"path":"request.dp.epsilon_micro","to":1000000}])");
}

TEST_F(PolicyVerbs, WhatIfCountsWhoGainsAndWhoLoses) {
  std::string list = "[";
  for (const char* epsilon : {"500000", "900000", "1500000"}) {
    std::string one = kRequest;
    one.replace(one.find("EPSILON"), 7, epsilon);
    list += (list.size() > 1 ? "," : "") + one;
  }
  std::string now = file("now.lua", kPolicy), draft = kPolicy;
  draft.replace(draft.find("1000000"), 7, "0600000");
  auto json = souk("whatif " + file("draft.lua", draft) + " --requests " +
                   file("list.json", list + "]") + " --against " + now);
  EXPECT_EQ(exit_, 0) << canonical(json);
  EXPECT_EQ(text(json, "allowed"), "1");
  EXPECT_EQ(json.find("loses")->array()->size(), 1u);
  EXPECT_EQ(text(*json.find("money"), "change"), "-5001");
  EXPECT_EQ(text(*json.find("epsilon_micro"), "change"), "-900000");
  json = souk(
      "whatif " + now + " --request " + request("800000") + " --datasets " +
      file("datasets.json", R"([{"id":"a","rows":1,"price":7},{"id":"b","rows":2,"price":9}])"));
  EXPECT_EQ(text(*json.find("money"), "now"), "18");
}

}  // namespace
}  // namespace souk::market
