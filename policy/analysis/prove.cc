#include "policy/analysis/prove.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <thread>

#include "policy/analysis/invariant.h"
#include "policy/analysis/search.h"
#include "policy/lua/sandbox.h"
#include "policy/syntax/syntax.h"

namespace souk::policy::analysis {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The invariant's right side broken is special; its left side as well is the goal.
struct InvariantSubject final : Subject {
  explicit InvariantSubject(Probe& probe_in) : probe(probe_in) {}
  Outcome run(const Point& point, std::vector<Event>& events) override {
    Answer answer = probe.run(point);
    events = probe.events();
    allowed += answer.allow;
    applied += answer.antecedent;
    failed += answer.end != Answer::End::kDecision;
    if (has_left ? answer.antecedent : answer.allow) notice(point);
    return {!answer.consequent, !answer.consequent && answer.antecedent,
            static_cast<uint32_t>(answer.end) * 2 + (answer.allow ? 1u : 0u)};
  }
  // Whether the engine says the same, asked now and then until it does.
  void notice(const Point& point) {
    ++noticed;
    const bool ask = noticed < kFirstAsked || (noticed % kThenEach == 0 && asked < kMostAsked);
    if (applies || !ask) return;
    ++asked;
    applies = confirm(point);
  }
  static constexpr uint64_t kFirstAsked = 16, kThenEach = 512, kMostAsked = 400;

  Probe& probe;
  bool has_left = false;
  std::function<bool(const Point&)> confirm;
  uint64_t allowed = 0, applied = 0, failed = 0, noticed = 0, asked = 0;
  bool applies = false;
};

// Two policies at once; B's sites come after A's.
struct PairSubject final : Subject {
  PairSubject(Probe& a_in, Probe& b_in) : a(a_in), b(b_in) {}
  Outcome run(const Point& point, std::vector<Event>& events) override {
    Answer of_a = a.run(point), of_b = b.run(point);
    allowed_a += of_a.allow;
    allowed_b += of_b.allow;
    failed_a += of_a.end != Answer::End::kDecision;
    failed_b += of_b.end != Answer::End::kDecision;
    events = a.events();
    for (Event event : b.events()) {
      event.site += a.sites();
      events.push_back(event);
    }
    bool differ = of_a.allow != of_b.allow;
    // Terms may differ where both allow: only the engine can say.
    bool both = of_a.allow && of_b.allow;
    bool ask = differ || (both && (of_a.price != of_b.price || ++allowed % 512 < 2));
    return {differ, ask, static_cast<uint32_t>(of_a.allow) * 2 + static_cast<uint32_t>(of_b.allow)};
  }
  Probe& a;
  Probe& b;
  uint64_t allowed = 0, allowed_a = 0, allowed_b = 0, failed_a = 0, failed_b = 0;
};

// Only what pcall catches, or pairs goes through, can come out otherwise than as an error where
// something is not there.
bool may_go_on_without(const std::string& policy) {
  auto tokens = tokens_of(policy);
  return tokens && std::any_of(tokens->begin(), tokens->end(), [](const Token& token) {
           return token.source == "pcall" || token.source == "pairs";
         });
}

struct Coverage {
  std::set<std::pair<uint32_t, bool>> reached;
};

void merge(Coverage& coverage, const Probe& probe, const Search& search, uint32_t offset) {
  for (uint32_t site : probe.policy_branches()) {
    for (bool outcome : {false, true}) {
      if (search.reached(site + offset, outcome)) coverage.reached.insert({site, outcome});
    }
  }
}

Certificate certify(const Probe& probe, const Coverage& coverage, const Effort& effort,
                    uint64_t evaluations, double seconds) {
  Certificate out;
  out.seed = effort.seed;
  out.threads = effort.threads;
  out.evaluations = evaluations;
  out.seconds = seconds;
  std::set<uint32_t> lines;
  for (uint32_t site : probe.policy_branches()) {
    for (bool outcome : {false, true}) {
      ++out.branches;
      if (coverage.reached.count({site, outcome})) {
        ++out.branches_covered;
      } else {
        lines.insert(probe.line_of(site));
      }
    }
  }
  out.unreached_lines.assign(lines.begin(), lines.end());
  return out;
}

// What the counterexample does not need becomes ordinary again, field by field, so that
// what is left is the reason.
void make_plainer(const Space& space, Probe& probe, const std::string& policy,
                  const std::string& invariant, const AskEngine& ask, Point point,
                  Proof::Counterexample& shown) {
  const Point plain = space.plain();
  auto breaks = [&](const Point& candidate) {
    Answer answer = probe.run(candidate);
    return answer.antecedent && !answer.consequent;
  };
  if (!breaks(point)) return;
  for (size_t slot = 0; slot < point.size(); ++slot) {
    Point candidate = point;
    candidate[slot] = plain[slot];
    space.repair(candidate);
    if (breaks(candidate)) point = std::move(candidate);
  }
  Space::Question question = space.question(point);
  PolicyDecision decision = ask(policy, question.request, question.dataset, question.ctx);
  auto good = holds(invariant, question, decision);
  if (good && !*good && decision.status != DecisionStatus::kInvalidRequest)
    shown = {std::move(question), std::move(decision)};
}

}  // namespace

Result<bool> holds(const std::string& invariant, const Space::Question& question,
                   const PolicyDecision& decision) {
  auto sides = TRY(Invariant::of(invariant));
  const std::string source = "local allow, price = decision.allow, decision.price if (" +
                             sides.left + ") and not (" + sides.right +
                             ") then return false end return true";
  const Json said = Json::Object{{"allow", decision.allowed()}, {"price", decision.price_minor}};
  Program program;
  program.source = source;
  program.inputs = {{"decision", &said},
                    {"request", &question.request},
                    {"dataset", &question.dataset},
                    {"ctx", &question.ctx}};
  Evaluation evaluation = run_confined(program, Limits{});
  if (evaluation.outcome != Evaluation::Outcome::kValue || !evaluation.value.boolean()) {
    return Error(Code::kMalformed,
                 "invariant: expected an expression over allow, price, request, dataset and ctx: " +
                     evaluation.error);
  }
  return *evaluation.value.boolean();
}

Result<Proof> prove(const std::string& policy, const std::string& invariant, const AskEngine& ask,
                    const Effort& effort) {
  const auto start = Clock::now();
  const Space space;
  // Both must be readable, and the invariant must mean something.
  auto first = TRY(Probe::make(space, policy, invariant));
  const auto sides = TRY(Invariant::of(invariant));
  TRY(check_invariant(sides));
  Space::Question plain = space.question(space.plain());
  TRY(holds(invariant, plain, ask(policy, plain.request, plain.dataset, plain.ctx)));

  Proof proof;
  const bool goes_on = may_go_on_without(policy);
  std::mutex mutex;
  std::atomic<bool> done = false;
  std::atomic<uint64_t> evaluations = 0, allowed = 0, applied = 0, failed = 0;
  std::atomic<bool> applies = false;
  std::optional<Point> found_at;
  Coverage coverage;
  auto confirm = [&](const Point& point) {
    Space::Question question = space.question(point);
    std::lock_guard lock(mutex);
    if (done) return true;
    PolicyDecision decision = ask(policy, question.request, question.dataset, question.ctx);
    auto good = holds(invariant, question, decision);
    bool shown = good && !*good && decision.status != DecisionStatus::kInvalidRequest;
    if (!shown) {
      ++proof.refuted;
      return false;
    }
    proof.counterexample = Proof::Counterexample{std::move(question), std::move(decision)};
    found_at = point;
    done = true;
    return true;
  };
  // By the engine's decision: obligations that a request does not keep deny it.
  auto does_apply = [&](const Point& point) {
    Space::Question question = space.question(point);
    std::lock_guard lock(mutex);
    PolicyDecision decision = ask(policy, question.request, question.dataset, question.ctx);
    if (!sides.implies) return decision.allowed();
    auto none = holds(sides.left + " implies false", question, decision);
    return none && !*none;
  };
  auto work = [&](unsigned thread) {
    auto probe = Probe::make(space, policy, invariant);
    InvariantSubject subject(**probe);
    subject.has_left = sides.implies;
    subject.confirm = does_apply;
    Search search(space, subject, (*probe)->sites(), (*probe)->integers(), (*probe)->texts(),
                  effort.seed + thread);
    if (goes_on) search.leave_away();
    search.run(
        confirm, [&] { return done || seconds_since(start) >= effort.seconds; },
        effort.evaluations);
    evaluations += search.evaluations();
    allowed += subject.allowed;
    applied += subject.applied;
    failed += subject.failed;
    if (subject.applies) applies = true;
    std::lock_guard lock(mutex);
    merge(coverage, **probe, search, 0);
  };
  std::vector<std::jthread> threads;
  for (unsigned i = 1; i < effort.threads; ++i) threads.emplace_back(work, i);
  work(0);
  threads.clear();  // joins
  if (proof.counterexample)
    make_plainer(space, *first, policy, invariant, ask, *found_at, *proof.counterexample);
  proof.certificate = certify(*first, coverage, effort, evaluations, seconds_since(start));
  proof.certificate.allowed = allowed;
  proof.certificate.applied = applied;
  proof.certificate.failed = failed;
  proof.certificate.vacuous = !proof.counterexample && !applies;
  return proof;
}

const char* relation_name(Difference::Relation relation) {
  switch (relation) {
    case Difference::Relation::kEquivalent:
      return "equivalent";
    case Difference::Relation::kStricter:
      return "stricter";
    case Difference::Relation::kLooser:
      return "looser";
    case Difference::Relation::kIncomparable:
      return "incomparable";
  }
  return "";
}

Result<Difference> compare_policies(const std::string& a, const std::string& b,
                                    const AskEngine& ask, const Effort& effort) {
  const auto start = Clock::now();
  const Space space;
  auto first_a = TRY(Probe::make(space, a));
  auto first_b = TRY(Probe::make(space, b));
  Difference out;
  const bool goes_on = may_go_on_without(a) || may_go_on_without(b);
  std::mutex mutex;
  std::atomic<bool> done = false;
  std::atomic<uint64_t> evaluations = 0, allowed_a = 0, allowed_b = 0, failed_a = 0, failed_b = 0;
  bool ever = false;
  Coverage of_a, of_b;
  auto look = [&](const Point& point) {
    std::lock_guard lock(mutex);
    if (done) return true;
    Space::Question question = space.question(point);
    PolicyDecision by_a = ask(a, question.request, question.dataset, question.ctx);
    PolicyDecision by_b = ask(b, question.request, question.dataset, question.ctx);
    ever = ever || by_a.allowed() || by_b.allowed();
    bool stricter = by_a.allowed() && !by_b.allowed(), looser = by_b.allowed() && !by_a.allowed();
    if (by_a.allowed() && by_b.allowed()) {
      Obligations both = meet(by_a.obligations, by_b.obligations);
      stricter = both != by_a.obligations || by_b.price_minor > by_a.price_minor;
      looser = both != by_b.obligations || by_b.price_minor < by_a.price_minor;
    }
    if (stricter && !out.stricter) out.stricter = Difference::Witness{question, by_a, by_b};
    if (looser && !out.looser) out.looser = Difference::Witness{question, by_a, by_b};
    done = out.stricter && out.looser;
    return done.load();
  };
  auto work = [&](unsigned thread) {
    auto probe_a = Probe::make(space, a), probe_b = Probe::make(space, b);
    PairSubject subject(**probe_a, **probe_b);
    auto integers = (*probe_a)->integers();
    integers.insert(integers.end(), (*probe_b)->integers().begin(), (*probe_b)->integers().end());
    auto texts = (*probe_a)->texts();
    texts.insert(texts.end(), (*probe_b)->texts().begin(), (*probe_b)->texts().end());
    Search search(space, subject, (*probe_a)->sites() + (*probe_b)->sites(), integers, texts,
                  effort.seed + thread);
    if (goes_on) search.leave_away();
    search.run(
        look, [&] { return done || seconds_since(start) >= effort.seconds; }, effort.evaluations);
    evaluations += search.evaluations();
    allowed_a += subject.allowed_a;
    allowed_b += subject.allowed_b;
    failed_a += subject.failed_a;
    failed_b += subject.failed_b;
    std::lock_guard lock(mutex);
    merge(of_a, **probe_a, search, 0);
    merge(of_b, **probe_b, search, (*probe_a)->sites());
  };
  std::vector<std::jthread> threads;
  for (unsigned i = 1; i < effort.threads; ++i) threads.emplace_back(work, i);
  work(0);
  threads.clear();
  using Relation = Difference::Relation;
  out.relation = out.stricter && out.looser ? Relation::kIncomparable
                 : out.stricter             ? Relation::kStricter
                 : out.looser               ? Relation::kLooser
                                            : Relation::kEquivalent;
  out.of_a = certify(*first_a, of_a, effort, evaluations, seconds_since(start));
  out.of_b = certify(*first_b, of_b, effort, evaluations, seconds_since(start));
  out.of_a.allowed = allowed_a;
  out.of_b.allowed = allowed_b;
  out.of_a.failed = failed_a;
  out.of_b.failed = failed_b;
  out.vacuous = !ever;
  return out;
}

}  // namespace souk::policy::analysis
