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

// Each reaches one limit when `blow` is called, and would go on if that came back.
struct Bomb {
  const char* what;  // of the message
  const char* blow;  // defines it
  Limits limits = {};
  Outcome uncaught = Outcome::kLimit;
};
constexpr Limits kMuchGas{.gas = uint64_t{1} << 40, .memory_bytes = 8 << 20};
constexpr Limits kMuchOfBoth{.gas = uint64_t{1} << 40, .memory_bytes = 192 << 20};

const Bomb kBombs[] = {
    {"gas", "local function blow() while true do end end"},
    {"gas", "local function blow() while true do pcall(error) end end"},
    {"gas", "local function blow() string.rep('x', 1 << 40) end"},
    {"memory", "local t = {} local function blow() while true do t[#t + 1] = {} end end", kMuchGas},
    {"memory", "local function blow() local n = {} while true do n = {n, ('x'):rep(9000)} end end",
     kMuchGas},
    {"text", "local function blow() local s = 'x' while true do s = s .. s end end"},
    {"text", "local s = ('x'):rep(16384) local function blow() return s .. 'y' end"},
    {"text", "local function blow() return ('x'):rep(1 << 20) end", {}, Outcome::kError},
    {"text", "local function blow() return ('x'):rep(16385) end", {}, Outcome::kError},
    {"text",
     "local function blow() return ('x'):rep(2, ('y'):rep(16384)) end",
     {},
     Outcome::kError},
    {"text",
     "local t = {} for i = 1, 40 do t[i] = ('x'):rep(1000) end "
     "local function blow() return table.concat(t) end",
     {},
     Outcome::kError},
    {"text",
     "local function blow() return table.concat({1, 2, 3}, ('x'):rep(9000)) end",
     {},
     Outcome::kError},
    {"text",
     "local s = ('x'):rep(10000) local function blow() return string.format('%s%s', s, s) end",
     {},
     Outcome::kError},
    {"text",
     "local f = ('x'):rep(10000) local function blow() return string.format(f .. '%s', f) end",
     {},
     Outcome::kError},
    {"text",
     "local function blow() return string.format(('%99d'):rep(200), table.unpack(N)) end",
     {},
     Outcome::kError},
    {"text", "local function blow() error(('x'):rep(16384)) end"},
    {"values", "local function blow() return table.unpack({}, 1, 1000) end", {}, Outcome::kError},
    {"values",
     "local function blow() return table.unpack({}, 1, math.maxinteger) end",
     {},
     Outcome::kError},
    {"values",
     "local s = ('x'):rep(999) local function blow() return s:byte(1, -1) end",
     {},
     Outcome::kError},
    {"values",
     "local t = {} for i = 1, 65537 do t[i] = i end local function blow() table.sort(t) end",
     kMuchGas, Outcome::kError},
    {"stack", "local function blow() return pcall(blow) and nil end"},
    {"stack", "local function blow() local t = {2, 1} table.sort(t, blow) end"},
    {"stack",
     "local function blow() local old = tostring tostring = function(v) return "
     "string.format('%s', v) end string.format('%s', 1) tostring = old end"},
    {"stack",
     "local function blow() local t = {2, 1} table.sort(t, function() pcall(blow) return true end) "
     "end"},
    {"stack", "local function blow() local ok, e = pcall(blow) return e end"},
    {"stack", "local function deep(n) return 1 + deep(n + 1) end local function blow() deep(1) end",
     kMuchOfBoth},
    {"stack",
     "local function deep(...) return 1 + deep(1, 2, 3, 4, 5, 6, 7, 8, ...) end "
     "local function blow() deep() end",
     kMuchOfBoth},
    {"memory",
     "local function deep(n) return 1 + deep(n + 1) end local function blow() deep(1) end",
     kMuchGas},
};

// Each calls `blow` where a program might hope to come back from it, and then answers.
const char* const kCatchers[] = {
    "blow() return 1",
    "pcall(blow) return 1",
    "pcall(pcall, blow) return 1",
    "for i = 1, 3 do pcall(blow) end return 1",
    "pcall(function() local ok = pcall(blow) error(ok) end) return 1",
    "pcall(table.sort, {3, 2, 1}, function(a, b) pcall(blow) return a < b end) return 1",
    "pcall(table.sort, {3, 2, 1}, blow) return 1",
    ("local old = tostring tostring = function(v) tostring = old pcall(blow) return 'x' end "
     "pcall(string.format, '%s', {}) return 1"),
    "pcall(function() for x in blow do end end) return 1",
    "pcall(function() for k in pairs({1, 2}) do pcall(blow) end end) return 1",
    "pcall(error, pcall(blow)) return 1",
    "pcall(assert, pcall(blow)) return 1",
    "local ok, message = pcall(blow) return {ok = ok, message = tostring(message)}",
    "return function() pcall(blow) return 1 end",
    "local function again() pcall(blow) return again() end pcall(again) return 1",
};

TEST(Sandbox, ALimitCannotBeCaught) {
  const std::string numbers = "local N = {} for i = 1, 200 do N[i] = i end ";
  for (const Bomb& bomb : kBombs) {
    // `blow` may call itself by name, and is asked by the catchers.
    std::string source = std::string("local blow ") + numbers + bomb.blow;
    if (size_t at = source.find("local function blow"); at != std::string::npos)
      source.erase(at, 6);
    for (const char* catcher : kCatchers) {
      const bool large = bomb.limits.memory_bytes == kMuchOfBoth.memory_bytes;
      if (large && catcher == kCatchers[4]) break;  // tens of megabytes each time
      std::string program = source + " " + catcher;
      auto evaluation = run(program, bomb.limits);
      const Outcome expected = catcher == kCatchers[0] ? bomb.uncaught : Outcome::kLimit;
      EXPECT_EQ(evaluation.outcome, expected) << program << ": " << evaluation.error;
      if (expected != Outcome::kLimit) continue;
      EXPECT_EQ(evaluation.error.find(std::string("limit reached: ") + bomb.what), 0u)
          << program << ": " << evaluation.error;
    }
    std::string contract = source + " pcall(blow) return 1";
    EXPECT_EQ(run(contract, bomb.limits, Vocabulary::kContract).outcome, Outcome::kLimit)
        << contract;
  }
}

TEST(Sandbox, WhatAProgramCallsALimitIsNone) {
  for (const char* source :
       {"pcall(error, 'stack overflow') return 1", "pcall(error, 'C stack overflow', 0) return 1",
        "pcall(error, 'limit reached: gas') return 1",
        "local function f(n) if n > 0 then pcall(f, n - 1) end end f(40) return 1",
        "local function f(n) return n == 0 and 0 or 1 + f(n - 1) end return f(2000)",
        "pcall(string.format, '%999d', 1) return 1", "pcall(table.unpack, {}, 0, 1000) return 1"}) {
    auto evaluation = run(source);
    EXPECT_EQ(evaluation.outcome, Outcome::kValue) << source << ": " << evaluation.error;
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
  EXPECT_EQ(run("return #(('x'):rep(16383) .. 'y')").outcome, Outcome::kValue);
  EXPECT_EQ(run("return #(('x'):rep(16384) .. 'y')").outcome, Outcome::kLimit);
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
