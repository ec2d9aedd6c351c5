// Random questions to policies, and random parameters that sit on their borders.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "policy/templates/template.h"
#include "tests/policy/samples.h"

namespace souk::policy::samples {

struct Question {
  Json request, dataset, ctx;
};

class Questions {
 public:
  explicit Questions(uint64_t seed) : random_(seed) {}

  uint64_t below(uint64_t bound) { return random_() % bound; }
  bool one_in(uint64_t n) { return below(n) == 0; }

  Question next() {
    Question q{sample_request(), sample_dataset(), sample_context()};
    auto set = [](Json& json, const char* name, Json value) {
      (*json.object())[name] = std::move(value);
    };
    set(q.request, "consumer", pick({"acme-labs", "p2", "p3", "zeta"}));
    set(q.request, "purpose", pick({"medical-research", "teaching", "benchmark"}));
    set(q.request, "region", pick({"EU", "CH", "US", ""}));
    set(q.request, "algorithm", pick({"logreg", "mlp", "cnn"}));
    (*q.request.object())["model"].object()->at("parameters") = amount(1);
    set(q.request, "epochs", amount(1));
    set(q.request, "steps", within(1, 1'000'000));
    set(q.request, "batch", within(1, 65'536));
    set(q.request, "payment", amount(0));
    bool is_private = !one_in(6);
    set(q.request, "dp",
        Json::Object{{"enabled", is_private},
                     {"epsilon_micro", is_private ? amount(1) : Json(0)},
                     {"delta_pico", is_private ? within(1, 999'999'999'999) : Json(0)},
                     {"noise_micro", is_private ? amount(0) : Json(0)},
                     {"clip_micro", is_private ? amount(1) : Json(0)}});
    set(q.request, "providers", some({"p1", "p2", "p3", "p4", "p5"}));
    set(q.request, "dataset_ids", some({"d1", "d2", "d3"}));
    set(q.request, "dataset_names", some({"wdbc-north", "wdbc-valley", "national-register"}));
    Json::Array types, details;
    for (const char* type : {"hospital", "irb-approved", "academic", "iso-27001"}) {
      if (one_in(2)) continue;
      types.push_back(type);
      for (uint64_t i = 0; i <= below(2); ++i) {
        details.push_back(Json::Object{
            {"type", type}, {"issuer", pick({"aa", "bb", "cc"})}, {"expires_ms", amount(0)}});
      }
    }
    set(q.request, "credentials", std::move(types));
    set(q.request, "credential_details", std::move(details));
    set(q.dataset, "provider", pick({"p1", "p2", "p6"}));
    set(q.dataset, "rows", amount(0));
    set(q.dataset, "price", amount(0));
    set(q.ctx, "now", amount(0));
    set(q.ctx, "spent_epsilon_micro", amount(0));
    set(q.ctx, "runs", amount(0));
    for (const char* name : {"consumer", "purpose"}) {
      set(q.ctx, name,
          Json::Object{
              {"spent_epsilon_micro", amount(0)}, {"runs", amount(0)}, {"last_run", amount(0)}});
    }
    if (one_in(50)) q.ctx.object()->erase("consumer");  // an outside file may leave these out
    if (one_in(50)) q.request.object()->erase("providers");
    return q;
  }

  // Parameters near what the question holds: equal, one less, one more, or anything.
  Chosen parameters(const Template& kind, const Question& q) {
    std::vector<int64_t> integers;
    std::vector<std::string> texts = {"weights",           "logreg", "mlp", "cnn", "academic",
                                      "national-register", "gauge"};
    for (const Json* json : {&q.request, &q.dataset, &q.ctx}) collect(*json, integers, texts);
    Json::Object values;
    for (const Parameter& parameter : kind.parameters)
      values[parameter.name] = value(parameter, integers, texts);
    auto chosen = choose(kind.name, values);
    if (!chosen) {
      std::fprintf(stderr, "%s\n", chosen.error().expected().c_str());
      std::abort();
    }
    return *chosen;
  }

 private:
  Json pick(std::vector<const char*> items) { return items[below(items.size())]; }
  Json some(std::vector<const char*> items) {
    Json::Array out;
    for (const char* item : items) {
      if (one_in(2)) out.push_back(item);
    }
    return out;
  }
  // Mostly small, so that sums and borders meet; sometimes as large as anything gets.
  Json amount(int64_t least) {
    static const uint64_t kSizes[] = {
        4, 40, 4'000, 4'000'000, uint64_t{1} << 40, uint64_t{1} << 53};
    uint64_t size = kSizes[one_in(8) ? below(6) : below(3)];
    return std::max<int64_t>(least, static_cast<int64_t>(below(size)));
  }
  Json within(int64_t least, int64_t most) { return std::min(most, *amount(least).integer()); }

  static void collect(const Json& json, std::vector<int64_t>& integers,
                      std::vector<std::string>& texts) {
    if (auto* integer = json.integer()) integers.push_back(*integer);
    if (auto* text = json.string(); text && !text->empty()) texts.push_back(*text);
    if (auto* items = json.array()) {
      for (const Json& item : *items) collect(item, integers, texts);
    }
    if (auto* members = json.object()) {
      for (const auto& [name, member] : *members) collect(member, integers, texts);
    }
  }

  int64_t near(const Parameter& parameter, const std::vector<int64_t>& integers) {
    int64_t value = integers[below(integers.size())];
    if (one_in(4)) value += integers[below(integers.size())];
    value += static_cast<int64_t>(below(3)) - 1;
    return std::clamp(value, parameter.min, parameter.max);
  }

  Json value(const Parameter& parameter, const std::vector<int64_t>& integers,
             const std::vector<std::string>& texts) {
    switch (parameter.type) {
      case ParameterType::kFlag:
        return one_in(2);
      case ParameterType::kText:
        return texts[below(texts.size())];
      case ParameterType::kInteger:
      case ParameterType::kTime:
        return near(parameter, integers);
      case ParameterType::kIntegers: {
        std::set<int64_t> rising;
        for (uint64_t i = 0; i <= below(4); ++i) rising.insert(near(parameter, integers));
        Json::Array out;
        for (int64_t item : rising) out.push_back(item);
        return out;
      }
      case ParameterType::kAmounts: {
        Json::Array out;
        for (uint64_t i = 0; i <= below(4); ++i) out.push_back(near(parameter, integers));
        return out;
      }
      case ParameterType::kTexts:
      case ParameterType::kChoices: {
        std::vector<std::string> from = parameter.choices.empty() ? texts : parameter.choices;
        if (parameter.name == "issuers") from = {"aa", "bb", "cc"};
        if (parameter.name == "types") from = {"hospital", "irb-approved", "academic", "iso-27001"};
        std::set<std::string> chosen;
        for (uint64_t i = 0; i <= below(one_in(2) ? 1 : 5); ++i)
          chosen.insert(from[below(from.size())]);
        Json::Array out;
        for (const auto& item : chosen) out.push_back(item);
        return out;
      }
    }
    std::abort();
  }

  std::mt19937_64 random_;
};

// How many rounds a random test takes: the environment's, for the long mode, or these.
inline uint64_t rounds(const char* variable, uint64_t usual) {
#if defined(SOUK_SANITIZED)
  usual /= 10;
#endif
  std::string text = folder_from(variable);
  return text.empty() ? usual : std::strtoull(text.c_str(), nullptr, 10);
}

}  // namespace souk::policy::samples
