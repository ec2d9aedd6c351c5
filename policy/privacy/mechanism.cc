#include "policy/privacy/mechanism.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

namespace souk::policy {
namespace {

using Kind = Mechanism::Kind;

constexpr size_t kMaxParts = 8192;
constexpr double kMaxCount = 9007199254740992.0;  // 2^53

struct Form {
  Kind kind;
  std::string_view scale;  // what its scale is called
  bool q = false, k = false, truncated = false;
};
const Form* form_of(std::string_view name) {
  static constexpr std::pair<std::string_view, Form> kForms[] = {
      {"psg", {Kind::kSampledGaussian, "sigma", true}},
      {"gauss", {Kind::kGaussian, "sigma"}},
      {"lap", {Kind::kLaplace, "b"}},
      {"pure", {Kind::kPure, "eps"}},
      {"rr", {Kind::kPure, "eps"}},
      {"psgu", {Kind::kSampledUser, "sigma", true, true}},
      {"tpsg", {Kind::kTruncatedGaussian, "sigma", true, false, true}},
  };
  for (const auto& [known, form] : kForms) {
    if (known == name) return &form;
  }
  return nullptr;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

// Cuts `text` at the first `mark`: the piece before it; `text` keeps the rest.
std::string_view cut(std::string_view& text, char mark) {
  auto at = text.find(mark);
  auto piece = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
  return trimmed(piece);
}

Error malformed(std::string what) {
  return Error(Code::kMalformed, std::move(what));
}

Result<std::map<std::string, std::string_view, std::less<>>> fields_of(std::string_view text) {
  std::map<std::string, std::string_view, std::less<>> fields;
  while (!text.empty()) {
    auto field = cut(text, ',');
    auto value = field;
    auto name = cut(value, '=');
    value = trimmed(value);
    if (name.empty() || value.empty() || !fields.emplace(name, value).second) {
      return malformed("events: expected name=value pairs between commas, each name once");
    }
  }
  return fields;
}

Result<Mechanism> mechanism_of(std::string_view part, bool* unknown) {
  auto rest = part;
  const Form* form = form_of(cut(rest, ':'));
  if (!form)
    return malformed("events: expected psg, gauss, lap, pure, rr, psgu or tpsg before ':'");
  auto fields = TRY(fields_of(rest));
  auto take = [&](std::string_view name) -> std::string_view {
    auto at = fields.find(name);
    if (at == fields.end()) return {};
    auto value = at->second;
    fields.erase(at);
    return value;
  };
  auto missing = [&](std::string_view name) {
    return malformed("events: " + std::string(part.substr(0, part.find(':'))) + " needs " +
                     std::string(name));
  };
  Mechanism out;
  out.kind = form->kind;
  auto scale = take(form->scale);
  if (scale.empty()) return missing(form->scale);
  if (scale == "?" && form->kind != Kind::kPure) {
    *unknown = true;
  } else {
    out.scale = TRY(parse_number(scale, "events: " + std::string(form->scale)));
  }
  if (auto steps = take("T"); !steps.empty()) out.steps = TRY(parse_count(steps, "events: T"));
  if (form->q) {
    auto q = take("q");
    if (q.empty()) return missing("q");
    out.q = TRY(parse_number(q, "events: q"));
  }
  if (form->k) {
    auto k = take("k");
    if (k.empty()) return missing("k");
    auto records = TRY(parse_count(k, "events: k"));
    if (records < 1 || records > 4096) return malformed("events: k: expected 1 to 4096 records");
    out.records = static_cast<uint32_t>(records);
  }
  if (form->truncated) {
    auto population = take("N"), batch = take("B");
    if (population.empty()) return missing("N");
    if (batch.empty()) return missing("B");
    out.population = TRY(parse_count(population, "events: N"));
    out.batch = TRY(parse_count(batch, "events: B"));
  }
  if (!fields.empty())
    return malformed("events: " + fields.begin()->first + " is no parameter of this mechanism");
  TRY(check(out));
  return out;
}

}  // namespace

Status check(const Mechanism& mechanism) {
  // Written so that NaN fails.
  if (!(mechanism.q >= 0 && mechanism.q <= 1))
    return malformed("sampling rate q: expected a number from 0 to 1");
  if (mechanism.q > 0 && mechanism.q < 1e-100)
    return malformed("sampling rate q: expected 0, or a number from 1e-100 to 1");
  if (!(mechanism.scale > 0 && std::isfinite(mechanism.scale))) {
    if (mechanism.kind == Kind::kPure && mechanism.scale == 0) return Done{};
    return malformed(
        mechanism.kind == Kind::kLaplace ? "Laplace scale b: expected a positive number"
        : mechanism.kind == Kind::kPure  ? "eps: expected a number that is not negative"
                                         : "noise multiplier sigma: expected a positive number");
  }
  bool noisy = mechanism.kind != Kind::kPure;
  if (noisy && !(mechanism.scale >= 1e-8 && mechanism.scale <= 1e12)) {
    return malformed("noise scale: expected a number from 1e-8 to 1e12");
  }
  if (mechanism.kind == Kind::kPure && mechanism.scale > 1e6)
    return malformed("eps: expected at most 1e6");
  if (static_cast<double>(mechanism.steps) > kMaxCount)
    return malformed("steps T: expected at most 2^53");
  if (mechanism.records < 1 || mechanism.records > 4096)
    return malformed("k: expected 1 to 4096 records");
  if (mechanism.kind == Kind::kTruncatedGaussian) {
    bool fits = mechanism.population >= 1 && mechanism.batch >= 1 &&
                mechanism.batch <= mechanism.population &&
                static_cast<double>(mechanism.population) <= kMaxCount;
    if (!fits) return malformed("tpsg: expected 1 <= B <= N <= 2^53");
  }
  return Done{};
}

Status check(std::span<const Mechanism> mechanisms) {
  for (const auto& mechanism : mechanisms) TRY(check(mechanism));
  return Done{};
}

Status check_delta(double delta) {
  if (!(delta > 0 && delta < 1))
    return Error(Code::kMalformed, "delta: expected a number between 0 and 1, both excluded");
  return Done{};
}

std::vector<Mechanism> normalised(std::span<const Mechanism> mechanisms) {
  std::vector<Mechanism> out;
  long double precision = 0;  // of all Gaussians together
  for (Mechanism m : mechanisms) {
    bool rate = m.kind != Kind::kGaussian && m.kind != Kind::kLaplace && m.kind != Kind::kPure;
    if (m.steps == 0 || (rate && m.q == 0) || (m.kind == Kind::kPure && m.scale == 0)) continue;
    if (m.kind == Kind::kTruncatedGaussian && m.batch >= m.population)
      m.kind = Kind::kSampledGaussian;
    if (m.kind == Kind::kSampledUser && m.q == 1) m.scale /= m.records, m.records = 1;
    if (m.kind == Kind::kSampledUser && m.records == 1) m.kind = Kind::kSampledGaussian;
    if (m.kind == Kind::kSampledGaussian && m.q == 1) m.kind = Kind::kGaussian;
    if (m.kind == Kind::kGaussian) {
      const long double scale = m.scale;
      precision += static_cast<long double>(m.steps) / (scale * scale);
      continue;
    }
    auto same = [&](const Mechanism& other) {
      Mechanism copy = other;
      copy.steps = m.steps;
      return copy == m;
    };
    auto known = std::find_if(out.begin(), out.end(), same);
    if (known == out.end()) {
      out.push_back(m);
    } else {
      known->steps += m.steps;
    }
  }
  if (precision > 0)
    out.push_back(
        {Kind::kGaussian, 1, static_cast<double>((1 - 1e-15L) / std::sqrt(precision)), 1});
  return out;
}

bool symmetric(std::span<const Mechanism> mechanisms, Adjacency adjacency) {
  return adjacency == Adjacency::kReplaceOne ||
         std::all_of(mechanisms.begin(), mechanisms.end(), [](const auto& m) {
           return m.kind == Kind::kGaussian || m.kind == Kind::kLaplace || m.kind == Kind::kPure;
         });
}

Result<MechanismList> parse_mechanisms(std::string_view text) {
  MechanismList list;
  while (!text.empty()) {
    auto part = cut(text, ';');
    if (part.empty()) return malformed("events: expected a mechanism between semicolons");
    if (list.all.size() == kMaxParts) return malformed("events: expected at most 8192 mechanisms");
    bool unknown = false;
    list.all.push_back(TRY(mechanism_of(part, &unknown)));
    if (!unknown) continue;
    if (list.unknown) return malformed("events: expected at most one '?'");
    list.unknown = list.all.size() - 1;
  }
  if (list.all.empty())
    return malformed("events: expected at least one mechanism, such as psg:q=0.01,sigma=4,T=1000");
  return list;
}

Result<double> parse_number(std::string_view text, const std::string& what) {
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    return malformed(what + ": expected a number like 0.5 or 1e-5");
  }
  return value;
}

Result<uint64_t> parse_count(std::string_view text, const std::string& what) {
  auto value = parse_number(text, what);
  if (!value || !(*value >= 0 && *value <= kMaxCount) || *value != std::floor(*value)) {
    return malformed(what + ": expected a whole number from 0 to 2^53");
  }
  return static_cast<uint64_t>(*value);
}

}  // namespace souk::policy
