#include "policy/lua/sandbox.h"

#include <gtest/gtest.h>

#include "tests/policy/samples.h"

namespace souk::policy {
namespace {

using Outcome = Evaluation::Outcome;

Evaluation run(std::string_view source, Limits limits = {},
               Vocabulary vocabulary = Vocabulary::kPolicy) {
  static const Json request = samples::sample_request();
  Program program;
  program.source = source;
  program.vocabulary = vocabulary;
  program.inputs = {{"request", &request}};
  return run_confined(program, limits);
}

std::string value_of(std::string_view source) {
  auto evaluation = run(source);
  return evaluation.outcome == Outcome::kValue ? canonical(evaluation.value)
                                               : "! " + evaluation.error;
}

TEST(Sandbox, ValuesComeOutAsTheyAre) {
  EXPECT_EQ(value_of("return {a = 1, b = 'x', c = {1, 2, {d = true}}}"),
            R"({"a":1,"b":"x","c":[1,2,{"d":true}]})");
  EXPECT_EQ(value_of("return {}"), "[]");
  EXPECT_EQ(value_of("return 'only text'"), R"("only text")");
}

TEST(Sandbox, WhatIsNotAPlainValueIsRefused) {
  for (const char* source :
       {"return", "return nil", "return print", "return request", "return {request.dp}",
        "return {f = function() end}", "return 1.5", "return {1 / 0}", "return {[1.5] = 1}",
        "return {[true] = 1}", "return {1, nil, 3, [9] = 1}", "return {a = 1, 2}",
        "return {['\\n'] = 1}", "return '\\xff'", "return 1 << 53",
        "local t = {} t[1] = t return t"}) {
    EXPECT_EQ(run(source).outcome, Outcome::kError) << source;
  }
}

TEST(Sandbox, DepthEightIsReadAndDepthNineIsNot) {
  EXPECT_EQ(run("return {{{{{{{{}}}}}}}}").outcome, Outcome::kValue);
  EXPECT_EQ(run("return {{{{{{{{{}}}}}}}}}").outcome, Outcome::kError);
}

TEST(Sandbox, NothingThatReachesOutExists) {
  for (const char* name : {"io",           "os",
                           "debug",        "package",
                           "require",      "load",
                           "loadstring",   "loadfile",
                           "dofile",       "collectgarbage",
                           "print",        "warn",
                           "coroutine",    "setmetatable",
                           "getmetatable", "rawget",
                           "rawset",       "rawequal",
                           "rawlen",       "next",
                           "xpcall",       "utf8",
                           "_G",           "string.dump",
                           "math.random",  "math.randomseed",
                           "math.huge",    "table.move",
                           "string.pack"}) {
    EXPECT_EQ(value_of(std::string("return ") + name + " == nil"), "true") << name;
  }
}

TEST(Sandbox, PatternsAreRefusedAndPlainSearchWorks) {
  EXPECT_EQ(value_of("return {string.find('a.b', '.', 1, true)}"), "[2,2]");
  EXPECT_EQ(value_of("return {('abc'):find('bc')}"), "[2,3]");
  EXPECT_EQ(run("return ('abc'):find('.')").outcome, Outcome::kError);
  EXPECT_EQ(run("return ('abc'):gsub('a', 'b')").outcome, Outcome::kError);
  EXPECT_EQ(run("return ('abc'):match('a')").outcome, Outcome::kError);
}

TEST(Sandbox, TheLibraryDoesWhatLuaDoes) {
  EXPECT_EQ(value_of("return {('x'):rep(3, ','), ('abc'):sub(-2), ('abc'):upper(), "
                     "('AbC'):lower(), #'abcd', ('a'):byte(), string.char(65)}"),
            R"(["x,x,x","bc","ABC","abc",4,97,"A"])");
  EXPECT_EQ(value_of("return {string.format('%5d|%-4s|%x|%%|%.2f', 42, 'ab', 255, 1.5)}"),
            R"(["   42|ab  |ff|%|1.50"])");
  EXPECT_EQ(value_of("local t = {3, 1, 2} table.sort(t) return t"), "[1,2,3]");
  EXPECT_EQ(value_of("local t = {3, 1, 2} table.sort(t, function(a, b) return a > b end) return t"),
            "[3,2,1]");
  EXPECT_EQ(value_of("local t = {1, 2} table.insert(t, 3) table.insert(t, 1, 0) return "
                     "{table.concat(t, '-'), table.remove(t), table.unpack(t)}"),
            R"(["0-1-2-3",3,0,1,2])");
  EXPECT_EQ(value_of("return {select('#', 1, 2), select(-1, 1, 2), tonumber('12'), tonumber('ff', "
                     "16), tostring(true), math.max(1, 5), math.floor(2.5), math.abs(-3)}"),
            R"([2,2,12,255,"true",5,2,3])");
  EXPECT_EQ(value_of("return {pcall(function() error('x', 0) end)}"), R"([false,"x"])");
}

TEST(Sandbox, PairsGoesInOneOrder) {
  EXPECT_EQ(value_of("local out = {} for k in pairs({b = 1, a = 1, [2] = 1, [1] = 1, [true] = 1}) "
                     "do out[#out + 1] = tostring(k) end return out"),
            R"(["1","2","a","b","true"])");
  EXPECT_EQ(run("for k in pairs({[{}] = 1}) do end return 1").outcome, Outcome::kError);
}

TEST(Sandbox, TextIsNotANumber) {
  EXPECT_EQ(run("return '10' + 1").outcome, Outcome::kError);
  EXPECT_EQ(run("return '10' < 2").outcome, Outcome::kError);
}

TEST(Sandbox, NoAddressEverComesOut) {
  EXPECT_EQ(
      value_of("return {tostring({}), tostring(print == nil), tostring(pcall), tostring(request)}"),
      R"(["table","true","function","table"])");
  EXPECT_EQ(run("return string.format('%p', {})").outcome, Outcome::kError);
  EXPECT_EQ(run("return 'x' .. {}").outcome, Outcome::kError);
}

TEST(Sandbox, InputsAreReadOnlyAndSpeakUpWhenMisspelt) {
  EXPECT_EQ(run("request.payment = 1").outcome, Outcome::kError);
  EXPECT_EQ(run("request.dp.epsilon_micro = 1").outcome, Outcome::kError);
  auto misspelt = run("return request.dp.epsilon_mirco == nil");
  EXPECT_EQ(misspelt.outcome, Outcome::kError);
  EXPECT_NE(misspelt.error.find("request.dp has no member \"epsilon_mirco\""), std::string::npos)
      << misspelt.error;
  EXPECT_EQ(run("table.insert(request.credentials, 'x')").outcome, Outcome::kError);
  EXPECT_EQ(run("string.lower = nil").outcome, Outcome::kError);
}

TEST(Sandbox, TheReadSetIsWhatWasRead) {
  auto evaluation =
      run("local n = 0 for _, c in ipairs(request.credentials) do n = n + #c end return "
          "request.dp.epsilon_micro + n + request.dp.epsilon_micro");
  EXPECT_EQ(evaluation.read_set,
            (std::vector<std::string>{"#request.credentials", "request.credentials[1]",
                                      "request.credentials[2]", "request.dp.epsilon_micro"}));
}

TEST(Sandbox, ALimitCannotBeCaught) {
  for (const char* source :
       {"while true do pcall(function() while true do end end) end",
        "pcall(string.rep, 'x', 1 << 40) return 1",
        "local t = {} pcall(function() while true do t[#t + 1] = {} end end) t = nil return 1",
        "local function f(...) return f(1, 2, 3, 4, ...) end pcall(f) while true do end",
        "local s = 'x' pcall(function() while true do s = s .. s end end) return 1"}) {
    auto evaluation = run(source);
    EXPECT_EQ(evaluation.outcome, Outcome::kLimit) << source << ": " << evaluation.error;
  }
}

TEST(Sandbox, GasIsNotOverrunByMoreThanOnePercent) {
  Limits limits;
  limits.gas = 100000;
  EXPECT_LE(run("while true do end", limits).gas, 101000u);
}

TEST(Sandbox, TextsAreBounded) {
  EXPECT_EQ(run("return #('x'):rep(16384)").outcome, Outcome::kValue);
  EXPECT_EQ(run("return #('x'):rep(16385)").outcome, Outcome::kError);
  EXPECT_EQ(run("local t = {} for i = 1, 20 do t[i] = ('x'):rep(1000) end return #table.concat(t)")
                .outcome,
            Outcome::kError);
}

TEST(Sandbox, OutputIsBounded) {
  Limits limits;
  limits.output_bytes = 1000;
  EXPECT_EQ(run("return ('x'):rep(2000)", limits).outcome, Outcome::kLimit);
  EXPECT_EQ(run("local t = {} for i = 1, 200 do t[i] = i end return t", limits).outcome,
            Outcome::kLimit);
}

TEST(Sandbox, ErrorsAreShortPrintableTexts) {
  EXPECT_FALSE(run("error(nil)").error.empty());
  EXPECT_FALSE(run("error({})").error.empty());
  EXPECT_LE(run("error(('x'):rep(16000))").error.size(), kMaxErrorBytes);
  EXPECT_EQ(run("error('a\\n\\27[31mb', 0)").error, "a  [31mb");
  EXPECT_EQ(run("return +").outcome, Outcome::kSyntax);
  EXPECT_EQ(run("\33Lua").outcome, Outcome::kSyntax);
}

TEST(Sandbox, CloseHandlersAreBeyondTheLimit) {
  EXPECT_EQ(run("local x <close> = nil return 1").outcome, Outcome::kLimit);
  EXPECT_EQ(run("local x < close > = nil return 1").outcome, Outcome::kLimit);
  EXPECT_EQ(run("local x <const> = 1 return x").outcome, Outcome::kValue);
}

TEST(Sandbox, RulesCollectReasons) {
  EXPECT_EQ(
      value_of(
          "local r = rules() "
          "r.require(request.purpose == 'x', 'purpose', 'request.purpose', request.purpose, 'x') "
          "r.require(contains(request.credentials, 'gold'), {code = 'credential', need = 'gold', "
          "got = request.credentials}) "
          "return r.decision{price = 5}"),
      R"({"allow":false,"price":5,"reasons":[{"code":"purpose","got":"medical-research","message":"","need":"x","path":"request.purpose"},)"
      R"({"code":"credential","got":"hospital, irb-approved","message":"","need":"gold","path":""}]})");
  EXPECT_EQ(run("rules().require(nil, 'x')").outcome, Outcome::kError);
}

TEST(Sandbox, ContractsMayReturnReals) {
  auto evaluation =
      run("return {math.sqrt(2), 0.5, linear{units = 2}, tanh()}", {}, Vocabulary::kContract);
  EXPECT_EQ(canonical(evaluation.value),
            R"(["1.4142135623730951","0.5",{"op":"linear","units":2},{"op":"tanh"}])");
}

TEST(Sandbox, GasAndResultAreTheSameEveryTime) {
  const char* source =
      "local t = {} for i = 1, 300 do t['k' .. i] = i t['k' .. (i - 7)] = nil end local s = 0 for "
      "k, v in pairs(t) do s = s + v end return s";
  auto first = run(source);
  ASSERT_EQ(first.outcome, Outcome::kValue) << first.error;
  for (int i = 0; i < 50; ++i) {
    auto again = run(source);
    EXPECT_EQ(again.gas, first.gas);
    EXPECT_EQ(again.value, first.value);
  }
}

}  // namespace
}  // namespace souk::policy
