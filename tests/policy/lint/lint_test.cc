#include "policy/lint/lint.h"

#include <gtest/gtest.h>

#include <array>
#include <filesystem>

#include "policy/decide/evaluator.h"
#include "policy/decide/source.h"
#include "policy/lint/instrument.h"
#include "policy/syntax/syntax.h"
#include "policy/templates/template.h"
#include "tests/policy/samples.h"

namespace souk::policy {
namespace {

using namespace samples;

std::string found(const LintReport& report) {
  std::string out;
  for (const auto& finding : report.findings) {
    out += finding.code + " line " + std::to_string(finding.line) + ": " + finding.message + " [" +
           finding.did_you_mean + "]\n";
  }
  return out;
}

bool has(const LintReport& report, const std::string& code) {
  for (const auto& finding : report.findings) {
    if (finding.code == code) return true;
  }
  return false;
}

struct Fault {
  const char *code, *source;
};
// Each is an honest policy with one mistake.
const Fault kFaults[] = {
    {"publish_rejected", "return {allow = true"},
    {"publish_rejected", "return {allow = true} -- \xe2\x80\xae"},
    {"publish_rejected", "local \xd0\xb0 = 1 return {allow = true}"},
    {"unknown_global",
     "if reqest.epochs > 5 then return {allow = false} end return {allow = true}"},
    {"unknown_global", "return {allow = os.time() > 5}"},
    {"unknown_global", "local n = math.random(5) return {allow = n == 1}"},
    {"unknown_global", "return {allow = string.match(request.purpose, 'med') ~= nil}"},
    {"unknown_global", "local t = setmetatable({}, {}) return {allow = #t == 0}"},
    {"global", "limit = 5 return {allow = request.epochs <= limit}"},
    {"library_overwritten", "pairs = nil return {allow = request.epochs <= 5}"},
    {"unknown_field", "return {allow = request.dp.epsilon_mirco <= 1000000}"},
    {"unknown_field", "return {allow = request.purpse == 'teaching'}"},
    {"unknown_field", "local dp = request.dp return {allow = dp.epsilon <= 1000000}"},
    {"unknown_field", "return function(r, d, c) return {allow = r.epoch < 5} end"},
    {"unknown_field",
     "for _, x in ipairs(request.credential_details) do if x.isuer == 'a' then return {allow = "
     "true} end end return {allow = false}"},
    {"unknown_field", "return {allow = request.credentials.hospital == true}"},
    {"unknown_field",
     "local function decide(a, b, c) return {allow = c.spent_epsilon < 5} end return decide"},
    {"read_only", "request.payment = 5 return {allow = true}"},
    {"non_boolean_allow", "return {allow = 1}"},
    {"non_boolean_allow", "return {allow = 'true'}"},
    {"non_boolean_allow", "return {allow = nil}"},
    {"non_boolean_allow", "return {allow = request.dp.enabled and request.dp.epsilon_micro}"},
    {"non_boolean_allow", "return {allow = request.purpose == 'a' or 'teaching'}"},
    {"non_boolean_allow",
     "local r = rules() r.require(request.epochs, 'epochs') return r.decision{}"},
    {"no_allow", "return {price = 5}"},
    {"no_decision", "if request.epochs > 5 then return {allow = false} end"},
    {"no_decision", "return true"},
    {"unknown_answer", "return {allow = true, prise = 5}"},
    {"unknown_answer", "return {alow = true, allow = true}"},
    {"unknown_obligation", "return {allow = true, obligations = {max_epsilon = 5}}"},
    {"price_not_whole", "return {allow = true, price = dataset.rows / 2}"},
    {"mixed_comparison", "return {allow = request.dp.epsilon_micro <= '1000000'}"},
    {"mixed_comparison", "return {allow = request.purpose == 5}"},
    {"mixed_comparison", "return {allow = request.dp < 5}"},
    {"mixed_comparison", "return {allow = request.credentials == {'irb'}}"},
    {"mixed_operation", "return {allow = request.purpose + 1 > 5}"},
    {"unreachable", "do return {allow = true} end local x = 1 return {allow = x == 2}"},
    {"unreachable",
     "if request.epochs > 5 then return {allow = false} elseif request.epochs > 5 then return "
     "{allow = true} end return {allow = true}"},
    {"unreachable",
     "if request.dp.epsilon_micro > 1000000 then return {allow = false} end if "
     "request.dp.epsilon_micro > 2000000 then return {allow = false} end return {allow = true}"},
    {"unreachable", "return {allow = request.epochs > 10 and request.epochs < 5}"},
    {"unreachable", "error('x') return {allow = true}"},
    {"constant_condition",
     "if request.payment >= 0 then return {allow = true} end return {allow = false}"},
    {"constant_condition", "if true then return {allow = false} end return {allow = true}"},
    {"constant_condition", "return {allow = request.epochs == request.epochs}"},
    {"unit", "return {allow = request.dp.epsilon_micro <= 1}"},
    {"duplicate", "return {allow = true, allow = false}"},
};

TEST(Lint, ARefusedCharacterIsFoundAtItsColumn) {
  auto report = lint("return {allow = true}\r\n--\tnow \xe2\x80\xae then \xe2\x80\xae");
  ASSERT_EQ(report.findings.size(), 1u);
  EXPECT_EQ(report.findings[0].code, "publish_rejected");
  EXPECT_EQ(report.findings[0].line, 2);
  EXPECT_EQ(report.findings[0].column, 8);
  report = lint("return {allow = '\xff'}");
  ASSERT_EQ(report.findings.size(), 1u);
  EXPECT_EQ(report.findings[0].code, "invalid_policy");
  EXPECT_EQ(report.findings[0].column, 18);
}

TEST(Lint, EverySeededFaultIsFound) {
  for (const Fault& fault : kFaults) {
    auto report = lint(fault.source);
    EXPECT_TRUE(has(report, fault.code)) << fault.code << ": " << fault.source << "\n"
                                         << found(report);
    EXPECT_TRUE(report.errors()) << fault.source;
  }
  EXPECT_GE(std::size(kFaults), 40u);
}

TEST(Lint, SaysWhatWasMeant) {
  auto report = lint("return {allow = request.dp.epsilon_mirco <= 1000000}");
  ASSERT_EQ(report.findings.size(), 1u) << found(report);
  EXPECT_EQ(report.findings[0].did_you_mean, "request.dp.epsilon_micro");
  EXPECT_EQ(report.findings[0].line, 1);
  EXPECT_EQ(lint("\n\nreturn {allow = reqest.epochs == 1}").findings[0].did_you_mean, "request");
  EXPECT_EQ(lint("\n\nreturn {allow = reqest.epochs == 1}").findings[0].line, 3);
  EXPECT_EQ(lint("return {allow = true, obligations = {max_step = 5}}").findings[0].did_you_mean,
            "max_steps");
  struct Case {
    const char *written, *meant;
  };
  for (const Case& c : {Case{"max_epsilon", "max_epsilon_micro"},
                        Case{"min_noise", "min_noise_micro"}, Case{"max_params", "max_parameters"},
                        Case{"embargo", "embargo_until"}, Case{"max_delta", "max_delta_pico"},
                        Case{"retention_days", "max_retention_days"}, Case{"colour", ""}}) {
    auto obliged =
        lint(std::string("return {allow = true, obligations = {") + c.written + " = 5}}");
    ASSERT_EQ(obliged.findings.size(), 1U) << found(obliged);
    EXPECT_EQ(obliged.findings[0].did_you_mean, c.meant) << c.written;
  }
  for (const Case& c :
       {Case{"request.dp.epsilon", "request.dp.epsilon_micro"},
        Case{"request.eps", "request.dp.epsilon_micro"}, Case{"request.pay", "request.payment"},
        Case{"request.model.params", "request.model.parameters"},
        Case{"ctx.spent_epsilon", "ctx.spent_epsilon_micro"}, Case{"ctx.time", ""}}) {
    auto read = lint(std::string("return {allow = ") + c.written + " <= 5}");
    ASSERT_EQ(read.findings.size(), 1U) << found(read);
    EXPECT_EQ(read.findings[0].did_you_mean, c.meant) << c.written;
  }
}

TEST(Lint, HonestPoliciesHaveNoErrors) {
  std::vector<std::string> sources = {
      "return {allow = true}",
      "return function(request, dataset, ctx) return {allow = request.dp.epsilon_micro <= 1000000, "
      "price = dataset.price * 2 // 3} end",
      "local bad = 0 for _, c in ipairs(request.credentials) do if c == 'banned' then bad = bad + "
      "1 end end return {allow = bad == 0}",
      "local ok = {['medical-research'] = true} return {allow = ok[request.purpose] == true, "
      "reason = 'purpose ' .. request.purpose}",
      "local limit = 5 if request.epochs > 10 then limit = 3 end return {allow = request.payment > "
      "limit}",
      "local function fee(n) if n > 1000 then return n * 2 end return n end return {allow = true, "
      "price = fee(dataset.rows)}",
      "if request.epochs > 10 then return {allow = false} end if request.epochs > 5 then return "
      "{allow = true, price = 5} end return {allow = true}",
  };
  for (const auto& entry :
       std::filesystem::directory_iterator(folder_from("SOUK_SOURCE") + "/examples/policies")) {
    if (entry.path().extension() == ".lua") sources.push_back(read_text(entry.path().string()));
  }
  for (const auto& kind : templates()) {
    auto chosen = choose(kind.name, {});
    ASSERT_TRUE(chosen) << kind.name;
    auto source = compose({*chosen});
    ASSERT_TRUE(source) << kind.name;
    sources.push_back(*source);
  }
  EXPECT_GT(sources.size(), 30u);
  for (const auto& source : sources)
    EXPECT_FALSE(lint(source).errors()) << source << "\n" << found(lint(source));
}

TEST(Lint, EveryObligationItKnowsIsOne) {
  for (const char* name : {"max_epsilon_micro", "max_delta_pico", "min_noise_micro", "max_steps",
                           "max_parameters", "min_co_providers", "max_retention_days",
                           "embargo_until", "consumer_epsilon_micro", "purpose_epsilon_micro"}) {
    const std::string source =
        std::string("return {allow = true, obligations = {") + name + " = 1}}";
    EXPECT_FALSE(lint(source).errors()) << name;
    EXPECT_TRUE(obligations_from_json(Json::Object{{name, 1}})) << name;
  }
}

TEST(Lint, LoopsWithoutABoundAreSeen) {
  EXPECT_TRUE(lint("for i = 1, 3 do local x = i end return {allow = true}").bounded);
  EXPECT_FALSE(lint("local n = 0 while n < 5 do n = n + 1 end return {allow = true}").bounded);
  EXPECT_FALSE(lint("local function f(n) if n == 0 then return 0 end return f(n - 1) end return "
                    "{allow = f(5) == 0}")
                   .bounded);
}

// The tree reads whatever the interpreter accepts.
std::string times(size_t count, std::string_view text) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

// Whatever nests: what the interpreter takes is read, and what it refuses is refused.
TEST(Syntax, ATextIsAsDeepAsTheInterpreterTakesIt) {
  const std::array<std::string_view, 3> kNests[] = {
      {"local x = ", "{", "}"},           {"local x = ", "(", ")"},
      {"local x = 1 ", "do ", " end"},    {"local x = ", "{a = (", ")}"},
      {"local x = ", "not ", ""},         {"local x = ", "'a' .. ", ""},
      {"", "if true then ", " end"},      {"local x = ", "function() return ", " end"},
      {"local x = ", "contains[", "]"},   {"local x = ", "contains({}, ", ")"},
      {"", "while false do ", " end"},    {"local x = ", "2 ^ ", ""},
      {"", "local function f() ", " end"}};
  for (const auto& [before, open, close] : kNests) {
    bool taken = false, refused = false;
    for (size_t depth = 20; depth < 230; ++depth) {
      const bool block = before.empty() || open == "do ";
      std::string source(before);
      source += times(depth, open) + (block ? "" : "1") + times(depth, close);
      source += " return {allow = true}";
      const bool good = static_cast<bool>(check_source(source));
      (good ? taken : refused) = true;
      EXPECT_EQ(has(lint(source), "publish_rejected"), !good) << open << depth;
    }
    EXPECT_TRUE(taken && refused) << open;
  }
}

TEST(Syntax, TheAttackCorpusIsRead) {
  const std::string folder = folder_from("SOUK_SHARED") + "/data/policy-attacks";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no corpus at " << folder;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".lua") continue;
    auto tree = parse_lua(read_text(entry.path().string()));
    EXPECT_TRUE(tree) << entry.path() << ": " << tree.error().expected();
  }
}

TEST(Instrument, ConditionsAreNumberedAndTheAnswerStays) {
  const char* source =
      "local r = request\nif r.epochs > 5 and not (r.region == 'EU' or r.payment < 10) then\n  "
      "return {allow = false}\nend\n"
      "return {allow = r.dp.enabled and r.dp.epsilon_micro <= 1000000, price = (r.epochs > 1 and "
      "5) or 6}";
  auto prepared = instrument(source);
  ASSERT_TRUE(prepared) << prepared.error().expected();
  std::vector<std::string> texts;
  for (const auto& condition : prepared->conditions) texts.push_back(condition.text);
  EXPECT_EQ(texts, (std::vector<std::string>{"r.epochs > 5", "r.region == 'EU'", "r.payment < 10",
                                             "r.dp.enabled", "r.dp.epsilon_micro <= 1000000",
                                             "r.epochs > 1"}));
  std::vector<std::pair<int, int>> lines;
  for (auto [first, last] : prepared->lines) lines.emplace_back(first, last);
  EXPECT_EQ(lines, (std::vector<std::pair<int, int>>{{1, 1}, {2, 4}, {3, 3}, {5, 5}}));
  auto evaluator = Evaluator::make().take();
  auto request = Checked::of("request", sample_request()).take(),
       dataset = Checked::of("dataset", sample_dataset()).take(),
       ctx = Checked::of("ctx", sample_context()).take();
  Trace trace;
  trace.conditions.resize(prepared->conditions.size());
  auto seen = evaluator->observe(*evaluator->prepare_observed(prepared->source), *request, *dataset,
                                 *ctx, {}, trace);
  auto plain = evaluator->decide(*evaluator->prepare(source), *request, *dataset, *ctx);
  EXPECT_EQ(seen.status, plain.status) << canonical(seen.to_json());
  EXPECT_EQ(seen.price_minor, plain.price_minor);
  EXPECT_EQ(seen.read_set, plain.read_set);
  EXPECT_EQ(trace.conditions[0], (std::array<uint64_t, 2>{0, 1}));
  EXPECT_EQ(trace.conditions[1], (std::array<uint64_t, 2>{0, 1}));
  EXPECT_EQ(trace.conditions[2], (std::array<uint64_t, 2>{0, 0}));
  EXPECT_EQ(trace.lines.count(3), 0u);
  EXPECT_EQ(trace.lines.count(5), 1u);
}

}  // namespace
}  // namespace souk::policy
