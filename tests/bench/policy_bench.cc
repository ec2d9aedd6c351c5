// How fast a policy is asked. The limit is the same Lua without any of the sandbox:
// plain tables, no metering, no read set, no hash, in this process and in the same run.
//   policy_bench [--rounds N] [--json]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <lua.hpp>
#include <random>
#include <string>
#include <vector>

#include "policy/decide/evaluator.h"
#include "policy/jail/worker.h"
#include "policy/lint/lint.h"
#include "tests/policy/samples.h"

namespace souk::policy {
namespace {

using namespace samples;

// Twelve conditions, as a hospital would write them.
const char* kPolicy =
    "local purposes = {['medical-research'] = true, ['public-health'] = true}\n"
    "local regions = {EU = true, CH = true}\n"
    "local algorithms = {logreg = true, mlp = true, cnn = true}\n"
    "local function has(list, value) for i = 1, #list do if list[i] == value then return true end "
    "end return false end\n"
    "return function(request, dataset, ctx)\n"
    "  local reasons = {}\n"
    "  local function deny(code) reasons[#reasons + 1] = code end\n"
    "  if not purposes[request.purpose] then deny('purpose') end\n"
    "  if not regions[request.region] then deny('region') end\n"
    "  if not algorithms[request.algorithm] then deny('algorithm') end\n"
    "  if not request.dp.enabled then deny('privacy') end\n"
    "  if request.dp.epsilon_micro > 1000000 then deny('epsilon') end\n"
    "  if request.dp.epsilon_micro <= 0 then deny('epsilon') end\n"
    "  if request.dp.delta_pico > 10000000 then deny('delta') end\n"
    "  if ctx.now >= 1900000000000 then deny('expired') end\n"
    "  if request.payment < 5000 + request.epochs * 10 then deny('payment') end\n"
    "  if ctx.runs >= 3 then deny('quota') end\n"
    "  if ctx.spent_epsilon_micro + request.dp.epsilon_micro > 3000000 then deny('budget') end\n"
    "  if not has(request.credentials, 'irb-approved') then deny('credential') end\n"
    "  return {allow = #reasons == 0, reasons = reasons, price = dataset.price}\n"
    "end\n";

double now_us() {
  return std::chrono::duration<double, std::micro>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Of this core alone: what the many are measured by, so that others on the machine do not count.
double cpu_us() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) * 1e-3;
}

struct Times {
  double p50 = 0, p99 = 0;
};
Times times_of(int rounds, const std::function<void()>& once) {
  for (int i = 0; i < rounds / 10 + 10; ++i) once();
  std::vector<double> all;
  for (int i = 0; i < rounds; ++i) {
    double begin = now_us();
    once();
    all.push_back(now_us() - begin);
  }
  std::sort(all.begin(), all.end());
  return {all[all.size() / 2], all[all.size() * 99 / 100]};
}

void push(lua_State* state, const Json& value) {
  if (auto* text = value.string()) {
    lua_pushlstring(state, text->data(), text->size());
  } else if (auto* whole = value.integer()) {
    lua_pushinteger(state, *whole);
  } else if (auto* flag = value.boolean()) {
    lua_pushboolean(state, *flag);
  } else if (auto* list = value.array()) {
    lua_createtable(state, static_cast<int>(list->size()), 0);
    for (size_t i = 0; i < list->size(); ++i) {
      push(state, (*list)[i]);
      lua_rawseti(state, -2, static_cast<lua_Integer>(i) + 1);
    }
  } else if (auto* members = value.object()) {
    lua_createtable(state, 0, static_cast<int>(members->size()));
    for (const auto& [name, member] : *members) {
      push(state, member);
      lua_setfield(state, -2, name.c_str());
    }
  } else {
    lua_pushnil(state);
  }
}

Times plain_lua(int rounds, const Json& request, const Json& dataset, const Json& ctx) {
  lua_State* state = luaL_newstate();
  luaL_openlibs(state);
  if (luaL_loadstring(state, kPolicy) != LUA_OK) std::abort();
  lua_call(state, 0, 1);
  auto times = times_of(rounds, [&] {
    lua_pushvalue(state, 1);
    push(state, request);
    push(state, dataset);
    push(state, ctx);
    lua_call(state, 3, 1);
    lua_getfield(state, -1, "allow");
    if (!lua_toboolean(state, -1)) std::abort();
    lua_settop(state, 1);
  });
  lua_close(state);
  return times;
}

struct Line {
  std::string name;
  double value, target;
  std::string unit;
  bool at_least;
  bool met() const { return at_least ? value >= target : value <= target; }
};

Json numbered(Json json, const char* member, int64_t value) {
  override_member(json, member, Json(value));
  return json;
}

std::vector<Line> measure(int rounds) {
  std::vector<Line> out;
  const Json request = sample_request(), dataset = sample_dataset(), ctx = sample_context();
  auto evaluator = Evaluator::make().take();
  auto policy = evaluator->prepare(kPolicy);
  auto r = Checked::of("request", request).take(), d = Checked::of("dataset", dataset).take(),
       c = Checked::of("ctx", ctx).take();
  if (!evaluator->decide(*policy, *r, *d, *c).allowed()) std::abort();

  Times limit = plain_lua(rounds, request, dataset, ctx);
  Times inside = times_of(rounds, [&] {
    PolicyDecision decision = evaluator->decide(*policy, *r, *d, *c);
    if (decision.hash()[0] == 0 && !decision.allowed()) std::abort();
  });
  out.push_back({"plain Lua, unmetered (limit), p50", limit.p50, 0, "us", true});
  out.push_back({"in a worker, p50", inside.p50, 5, "us", false});
  out.push_back({"in a worker, p99", inside.p99, 20, "us", false});
  out.push_back({"in a worker, p50 / limit", inside.p50 / limit.p50, 0, "times", true});

  auto nursery = start_lua_nursery().take();
  const ReadyPolicy ready(kPolicy);
  Times across = times_of(rounds / 4, [&] {
    PolicyDecision decision = evaluate_jailed(*nursery, ready, *r, *d, *c);
    if (decision.hash()[0] == 0 && !decision.allowed()) std::abort();
  });
  if (evaluate_jailed(*nursery, ready, *r, *d, *c).text() !=
      evaluator->decide(*policy, *r, *d, *c).text())
    std::abort();
  Times unprepared = times_of(rounds / 8, [&] {
    if (!evaluate_jailed(*nursery, kPolicy, request, dataset, ctx).allowed()) std::abort();
  });
  out.push_back({"across the process boundary, p50", across.p50, 40, "us", false});
  out.push_back({"across the process boundary, p99", across.p99, 0, "us", true});
  out.push_back({"the same with nothing made ready, p50", unprepared.p50, 0, "us", true});

  std::vector<Json> datasets;
  for (int i = 0; i < 10'000; ++i) {
    datasets.push_back(numbered(numbered(dataset, "rows", i), "price", i % 7000));
    override_member(datasets.back(), "id", Json("d" + std::to_string(i)));
  }
  double begin = cpu_us();
  int64_t money = 0;
  for (const Json& each : datasets) {
    auto checked = Checked::of("dataset", each);
    money += evaluator->decide(*policy, *r, **checked, *c).price_minor;
  }
  out.push_back(
      {"what-if over 10,000 datasets, one core", (cpu_us() - begin) / 1000, 150, "ms", false});
  if (money == 0) std::abort();

  // Recorded questions as a ledger holds them: contracts over three datasets each, every
  // one at its own moment; replayed from their values to the decision's hash.
  constexpr size_t kContracts = 8'000, kProviders = 3;
  std::vector<Json> requests, contexts;
  std::vector<std::shared_ptr<const Checked>> offered;
  for (size_t i = 0; i < kProviders; ++i)
    offered.push_back(Checked::of("dataset", datasets[i]).take());
  for (size_t i = 0; i < kContracts; ++i)
    requests.push_back(numbered(request, "dp.epsilon_micro", static_cast<int64_t>(1 + i * 100)));
  for (size_t i = 0; i < kContracts * kProviders; ++i)
    contexts.push_back(numbered(ctx, "head", static_cast<int64_t>(i)));
  std::vector<Digest> recorded;
  bool same = true;
  auto replay = [&](bool first) {
    for (size_t i = 0; i < kContracts; ++i) {
      auto asked = Checked::of("request", requests[i]);
      for (size_t k = 0; k < kProviders; ++k) {
        auto when = Checked::of("ctx", contexts[i * kProviders + k]);
        Digest hash = evaluator->decide(*policy, **asked, *offered[k], **when).hash();
        if (first) recorded.push_back(hash);
        same = same && recorded[i * kProviders + k] == hash;
      }
    }
  };
  replay(true);
  begin = cpu_us();
  replay(false);
  if (!same) std::abort();
  out.push_back({"replay", static_cast<double>(kContracts * kProviders) / (cpu_us() - begin) * 1e6,
                 150'000, "decisions/s", true});

  begin = cpu_us();
  if (lint(kPolicy).errors()) std::abort();
  std::mt19937_64 random(1);
  for (int i = 0; i < 100'000; ++i) {
    auto checked = Checked::of("request", numbered(request, "dp.epsilon_micro",
                                                   static_cast<int64_t>(random() % 2'000'000)));
    evaluator->decide(*policy, **checked, *d, *c);
  }
  out.push_back({"publish: lint and 100,000 evaluations", (cpu_us() - begin) / 1e6, 1, "s", false});
  return out;
}

}  // namespace
}  // namespace souk::policy

int main(int argc, char** argv) {
  int rounds = 20'000;
  bool json = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) json = true;
    if (std::strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
      rounds = std::max(100, std::atoi(argv[++i]));
  }
  auto lines = souk::policy::measure(rounds);
  if (json) std::printf("{");
  bool first = true;
  for (const auto& line : lines) {
    if (json) {
      std::printf("%s\"%s\":{\"value\":%.3f,\"unit\":\"%s\"", first ? "" : ",", line.name.c_str(),
                  line.value, line.unit.c_str());
      if (line.target > 0)
        std::printf(",\"target\":%.0f,\"met\":%s", line.target, line.met() ? "true" : "false");
      std::printf("}");
    } else if (line.target > 0) {
      std::printf("%-42s %12.2f %-12s target %s %.0f: %s\n", line.name.c_str(), line.value,
                  line.unit.c_str(), line.at_least ? ">=" : "<=", line.target,
                  line.met() ? "met" : "MISSED");
    } else {
      std::printf("%-42s %12.2f %s\n", line.name.c_str(), line.value, line.unit.c_str());
    }
    first = false;
  }
  if (json) std::printf("}\n");
  return 0;
}
