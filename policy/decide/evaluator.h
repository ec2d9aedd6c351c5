// Decisions, many of them: policies made ready once, questions checked once.
// Runs Lua in this process. Not thread safe; one for each thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "policy/decide/decide.h"
#include "policy/lua/facts.h"
#include "policy/lua/sandbox.h"

namespace souk::policy {

// A part of a question whose schema holds.
class Checked {
 public:
  // `root` is "request", "dataset" or "ctx". kMalformed as check_schema.
  static Result<std::shared_ptr<const Checked>> of(std::string_view root, Json value);

  const Facts& facts() const { return facts_; }
  const Json& value() const { return facts_.value(); }
  const std::string& text() const { return text_; }  // canonical
  const Digest& digest() const { return digest_; }   // SHA-256 of that
  // What a reason says of a dataset.
  const std::string& provider_name() const { return provider_name_; }
  const std::string& name() const { return name_; }

 private:
  Checked(std::string_view root, Json value);
  Facts facts_;
  std::string text_;
  Digest digest_;
  std::string provider_name_, name_;
};

class Evaluator {
 public:
  static Result<std::unique_ptr<Evaluator>> make();
  ~Evaluator();

  // A policy's text, looked at and loaded once. Refusals are remembered as well.
  class Policy;
  std::shared_ptr<const Policy> prepare(std::string_view source);

  // Total and deterministic.
  PolicyDecision decide(const Policy& policy, const Checked& request, const Checked& dataset,
                        const Checked& ctx, const Limits& limits = {});
  // The same for values nobody has checked; the policies asked last are kept ready.
  PolicyDecision decide(std::string_view source, const Json& request, const Json& dataset,
                        const Json& ctx, const Limits& limits = {});

  // A text that policy/lint/instrument.h has made ready to be observed.
  std::shared_ptr<const Policy> prepare_observed(std::string_view instrumented);
  // What ran of it: its decision has that text's hash and gas, and is for coverage only.
  PolicyDecision observe(const Policy& observed, const Checked& request, const Checked& dataset,
                         const Checked& ctx, const Limits& limits, Trace& trace);

 private:
  struct Parts;
  explicit Evaluator(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace souk::policy
