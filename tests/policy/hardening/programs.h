// Programs by chance: whatever the grammar allows, most of it senseless, some of it wild.
#pragma once

#include <random>
#include <string>

#include "ledger/codec/json.h"
#include "tests/policy/samples.h"

namespace souk::policy::hardening {

class ProgramMaker {
 public:
  explicit ProgramMaker(uint64_t seed) : random_(seed) {}

  std::string next() {
    left_ = 10 + static_cast<int>(pick(60));
    std::string out = "local a, b, c, d, e, f = 1, 'x', {}, request, nil, true\n";
    while (left_ > 0) out += statement(0);
    switch (pick(6)) {
      case 0:
        return out + "return " + expression(0);
      case 1:
        return out + "return function(request, dataset, ctx) return {allow = " + expression(0) +
               "} end";
      case 2:
        return out + "return {allow = true, price = " + expression(0) +
               ", reason = " + expression(0) + "}";
      case 3:
        return out + "return {allow = false, reasons = {" + expression(0) +
               ", {code = 'a', got = " + expression(0) + "}}}";
      case 4:
        return out + "return {allow = " + expression(0) + " == " + expression(0) +
               ", obligations = {max_steps = " + expression(0) + "}}";
      default:
        return out + "return {allow = a ~= nil, price = 5}";
    }
  }

  Json request() {
    Json out = samples::sample_request();
    samples::override_member(out, "dp.epsilon_micro",
                             Json(static_cast<int64_t>(random_() % 2'000'000)));
    samples::override_member(out, "payment", Json(static_cast<int64_t>(random_() % 20'000)));
    if (pick(3) == 0) samples::override_member(out, "region", Json("US"));
    return out;
  }

 private:
  uint64_t pick(uint64_t most) { return random_() % most; }
  template <size_t N>
  std::string one_of(const char* const (&words)[N]) {
    return words[pick(N)];
  }

  std::string name() {
    static const char* const kNames[] = {"a", "b", "c", "d", "e", "f", "i", "k", "v", "g"};
    return one_of(kNames);
  }
  std::string number() {
    static const char* const kNumbers[] = {"0",
                                           "1",
                                           "2",
                                           "-1",
                                           "7",
                                           "1000",
                                           "1 << 40",
                                           "0x7fffffffffffffff",
                                           "1e308",
                                           "3e-300",
                                           "0.1",
                                           "5.0",
                                           "1e9",
                                           "math.mininteger",
                                           "math.maxinteger",
                                           "0/0",
                                           "1/0",
                                           "2^53",
                                           "1023 * 2047",
                                           "16384"};
    return "(" + one_of(kNumbers) + ")";
  }
  std::string text() {
    static const char* const kTexts[] = {
        "''",         "'x'",         "'EU'",      "'10'",
        "'\\0\\255'", "'%s%d%5.2f'", "'request'", "('ab'):rep(200)",
        "'a b c'",    "'.-.-.-b'"};
    return one_of(kTexts);
  }
  std::string field() {
    static const char* const kFields[] = {"request.dp.epsilon_micro",
                                          "request.purpose",
                                          "request.credentials",
                                          "request.dp",
                                          "request.missing",
                                          "dataset.rows",
                                          "dataset.price",
                                          "ctx.now",
                                          "ctx.runs",
                                          "request",
                                          "#request.credentials",
                                          "request.credentials[2]",
                                          "request.credential_details[1].type",
                                          "ctx",
                                          "request.payment"};
    return one_of(kFields);
  }

  std::string call(int depth) {
    static const char* const kFunctions[] = {"tostring",       "tonumber",       "type",
                                             "select",         "error",          "assert",
                                             "pcall",          "ipairs",         "pairs",
                                             "contains",       "rules",          "math.floor",
                                             "math.max",       "math.abs",       "math.tointeger",
                                             "string.rep",     "string.sub",     "string.format",
                                             "string.find",    "string.byte",    "string.char",
                                             "string.upper",   "table.insert",   "table.remove",
                                             "table.concat",   "table.unpack",   "table.sort",
                                             "string.match",   "setmetatable",   "load",
                                             "coroutine.wrap", "collectgarbage", "g",
                                             "os.time"};
    std::string out = one_of(kFunctions) + "(";
    for (uint64_t i = 0, n = pick(4); i < n; ++i) out += (i ? ", " : "") + expression(depth + 1);
    return out + ")";
  }

  std::string expression(int depth) {
    --left_;
    static const char* const kBinary[] = {
        "+",  "-", "*",  "/",   "//", "%", "^", "..", "==", "~=", "<",
        "<=", ">", ">=", "and", "or", "&", "|", "~",  "<<", ">>"};
    static const char* const kUnary[] = {"-", "not ", "#", "~"};
    switch (depth > 4 ? pick(4) : pick(12)) {
      case 0:
        return name();
      case 1:
        return number();
      case 2:
        return text();
      case 3:
        return field();
      case 4:
        return "(" + expression(depth + 1) + " " + one_of(kBinary) + " " + expression(depth + 1) +
               ")";
      case 5:
        return "(" + expression(depth + 1) + " " + one_of(kBinary) + " " + expression(depth + 1) +
               ")";
      case 6:
        return one_of(kUnary) + expression(depth + 1);
      case 7:
        return call(depth);
      case 8:
        return "{" + expression(depth + 1) + ", x = " + expression(depth + 1) + ", [" +
               expression(depth + 1) + "] = " + expression(depth + 1) + "}";
      case 9:
        return "(" + name() + ")." + (pick(2) ? "x" : "y");
      case 10:
        return "(function(...) " + statement(depth + 1) + " return ... end)(" +
               expression(depth + 1) + ")";
      default:
        return "({pcall(function() " + statement(depth + 1) + " return " + expression(depth + 1) +
               " end)})[" + (pick(2) ? "1" : "2") + "]";
    }
  }

  std::string block(int depth) {
    std::string out;
    for (uint64_t i = 0, n = 1 + pick(3); i < n; ++i) out += statement(depth + 1);
    return out;
  }

  std::string statement(int depth) {
    --left_;
    if (depth > 4 || left_ < 0) return "local z = " + expression(5) + "\n";
    switch (pick(12)) {
      case 0:
        return name() + " = " + expression(depth) + "\n";
      case 1:
        return "local " + name() + " = " + expression(depth) + "\n";
      case 2:
        return "if " + expression(depth) + " then " + block(depth) + " else " + block(depth) +
               " end\n";
      case 3:
        return "for i = 1, " + (pick(4) ? std::to_string(pick(50)) : number()) + " do " +
               block(depth) + " end\n";
      case 4:
        return "for k, v in pairs(" + expression(depth) + ") do " + block(depth) + " end\n";
      case 5:
        return pick(4) ? "while a == 1 do a = 2 " + block(depth) + " end\n"
                       : "while true do " + block(depth) + " end\n";
      case 6:
        return "pcall(function() " + block(depth) + " end)\n";
      case 7:
        return "c[" + expression(depth) + "] = " + expression(depth) + "\n";
      case 8:
        return "local function g(x, ...) if x then " + block(depth) + " end return " +
               (pick(5) ? "x" : "g(x, x, ...)") + " end\n";
      case 9:
        return "local s = 'x' for i = 1, " + std::to_string(pick(20)) + " do s = s .. s end\n";
      case 10:
        return "c = {} for i = 1, " + std::to_string(pick(3000)) + " do c[" +
               (pick(2) ? "'k' .. i" : "i * 1023") + "] = i end\n";
      default:
        return "c.x = " + expression(depth) + "\n";
    }
  }

  std::mt19937_64 random_;
  int left_ = 0;
};

}  // namespace souk::policy::hardening
