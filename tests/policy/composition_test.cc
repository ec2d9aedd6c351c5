#include <gtest/gtest.h>

#include "policy/decide/joint.h"
#include "policy/decide/lineage.h"
#include "policy/templates/table.h"
#include "tests/policy/templates/questions.h"

namespace souk::policy {
namespace {

using namespace samples;

std::optional<int64_t> maybe(Questions& random, int64_t around) {
  if (random.one_in(2)) return std::nullopt;
  return around + static_cast<int64_t>(random.below(5)) - 2;
}

std::vector<std::string> some(Questions& random, std::vector<std::string> names) {
  std::vector<std::string> out;
  for (auto& name : names) {
    if (!random.one_in(3)) out.push_back(name);
  }
  return out;
}

PolicyDecision random_decision(Questions& random) {
  PolicyDecision out;
  if (random.one_in(4)) {
    out.status = static_cast<DecisionStatus>(1 + random.below(6));
    out.reasons.push_back({"code" + std::to_string(random.below(9)), "", "", "", "", "", ""});
    return out;
  }
  out.status = DecisionStatus::kAllowed;
  out.price_minor =
      static_cast<int64_t>(random.below(random.one_in(50) ? uint64_t{1} << 53 : 1000));
  Obligations& o = out.obligations;
  o.max_epsilon_micro = maybe(random, 1000);
  o.max_delta_pico = maybe(random, 100);
  o.min_noise_micro = maybe(random, 500);
  o.max_steps = maybe(random, 10);
  o.max_parameters = maybe(random, 70);
  o.min_co_providers = maybe(random, 4);
  o.max_retention_days = maybe(random, 30);
  o.embargo_until = maybe(random, 9000);
  o.consumer_epsilon_micro = maybe(random, 900);
  o.purpose_epsilon_micro = maybe(random, 900);
  if (random.one_in(2)) o.allowed_algorithms = some(random, {"cnn", "logreg", "mlp"});
  if (random.one_in(2)) o.attribution = some(random, {"a", "b", "c"});
  if (random.one_in(2)) o.output_form = Obligations::OutputForm::kWeights;
  if (random.one_in(2)) o.audit = Obligations::Audit::kOneRun;
  o.waive_privacy = random.one_in(2);
  return out;
}

// Whether `strict` demands at least what `loose` demands, member by member: written
// without meet().
void expect_no_looser(const Obligations& strict, const Obligations& loose) {
  auto at_most = [](const auto& s, const auto& l) { return !l || (s && *s <= *l); };
  auto at_least = [](const auto& s, const auto& l) { return !l || (s && *s >= *l); };
  ASSERT_TRUE(at_most(strict.max_epsilon_micro, loose.max_epsilon_micro));
  ASSERT_TRUE(at_most(strict.max_delta_pico, loose.max_delta_pico));
  ASSERT_TRUE(at_least(strict.min_noise_micro, loose.min_noise_micro));
  ASSERT_TRUE(at_most(strict.max_steps, loose.max_steps));
  ASSERT_TRUE(at_most(strict.max_parameters, loose.max_parameters));
  ASSERT_TRUE(at_least(strict.min_co_providers, loose.min_co_providers));
  ASSERT_TRUE(at_most(strict.max_retention_days, loose.max_retention_days));
  ASSERT_TRUE(at_least(strict.embargo_until, loose.embargo_until));
  ASSERT_TRUE(at_most(strict.consumer_epsilon_micro, loose.consumer_epsilon_micro));
  ASSERT_TRUE(at_most(strict.purpose_epsilon_micro, loose.purpose_epsilon_micro));
  ASSERT_TRUE(!loose.output_form || strict.output_form == loose.output_form);
  ASSERT_TRUE(!loose.audit || strict.audit == loose.audit);
  ASSERT_TRUE(loose.waive_privacy || !strict.waive_privacy);
  if (loose.allowed_algorithms) {
    ASSERT_TRUE(strict.allowed_algorithms);
    ASSERT_TRUE(std::includes(loose.allowed_algorithms->begin(), loose.allowed_algorithms->end(),
                              strict.allowed_algorithms->begin(),
                              strict.allowed_algorithms->end()));
  }
  if (loose.attribution) {
    ASSERT_TRUE(strict.attribution);
    ASSERT_TRUE(std::includes(strict.attribution->begin(), strict.attribution->end(),
                              loose.attribution->begin(), loose.attribution->end()));
  }
}

TEST(Composition, SeveralProvidersTogetherAreNeverLooserThanAnyOfThem) {
  Questions random(6);
  uint64_t count = rounds("SOUK_COMPOSITION_PAIRS", 200'000), allowed = 0, too_dear = 0;
  for (uint64_t i = 0; i < count; ++i) {
    PolicyDecision a = random_decision(random), b = random_decision(random);
    Joint joint, reverse;
    ASSERT_TRUE(joint.add(a));
    ASSERT_TRUE(reverse.add(b));
    bool added = static_cast<bool>(joint.add(b));
    ASSERT_EQ(static_cast<bool>(reverse.add(a)), added);
    if (!added) {
      ASSERT_GT(static_cast<uint64_t>(a.price_minor) + static_cast<uint64_t>(b.price_minor),
                static_cast<uint64_t>(kMaxJsonInteger));
      ++too_dear;
      continue;
    }
    ASSERT_EQ(joint.allowed(), a.allowed() && b.allowed());
    ASSERT_EQ(reverse.allowed(), joint.allowed());
    ASSERT_EQ(joint.reasons().size(), a.reasons.size() + b.reasons.size());
    if (!joint.allowed()) {
      ASSERT_EQ(joint.price_minor(), 0);
      ASSERT_FALSE(joint.reasons().empty());
      continue;
    }
    ++allowed;
    ASSERT_EQ(joint.price_minor(), a.price_minor + b.price_minor);
    ASSERT_EQ(*joint.obligations(), *reverse.obligations());
    expect_no_looser(*joint.obligations(), a.obligations);
    expect_no_looser(*joint.obligations(), b.obligations);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(allowed, count / 4);
  EXPECT_GT(too_dear, 0u);
  std::printf("%llu pairs, none looser than a part\n", static_cast<unsigned long long>(count));
}

TEST(Composition, NobodyAskedIsNoAllow) {
  Joint joint;
  EXPECT_FALSE(joint.allowed());
  EXPECT_EQ(joint.price_minor(), 0);
}

// The same of rules put into one policy: it allows what both allow, and obliges to both.
TEST(Composition, RulesOfOnePolicyAreAConjunctionToo) {
  Questions random(7);
  uint64_t count = rounds("SOUK_COMPOSITION_PAIRS", 20'000), allowed = 0;
  for (uint64_t i = 0; i < count; ++i) {
    Question q = random.next();
    auto side = [&] {
      std::vector<Chosen> parts;
      for (uint64_t k = 0; k <= random.below(2); ++k)
        parts.push_back(random.parameters(templates()[random.below(templates().size())], q));
      return parts;
    };
    auto a = side(), b = side();
    auto both = a;
    both.insert(both.end(), b.begin(), b.end());
    auto of_a = evaluate_table(a, q.request, q.dataset, q.ctx),
         of_b = evaluate_table(b, q.request, q.dataset, q.ctx);
    auto of_both = evaluate_table(both, q.request, q.dataset, q.ctx);
    bool all = of_a.status == DecisionStatus::kAllowed && of_b.status == DecisionStatus::kAllowed;
    if (of_both.status == DecisionStatus::kError) continue;  // a price that does not fit
    ASSERT_EQ(of_both.status == DecisionStatus::kAllowed, all);
    if (!all) continue;
    ++allowed;
    ASSERT_EQ(of_both.obligations, meet(of_a.obligations, of_b.obligations));
  }
  EXPECT_GT(allowed, count / 50);
}

TEST(Composition, AModelInheritsWhatItsAncestorsOwe) {
  Questions random(8);
  for (int i = 0; i < 2000; ++i) {
    auto lineage = [&] {
      Lineage out;
      Digest id{};
      id[0] = static_cast<uint8_t>(random.below(9));
      out.datasets.insert(DatasetId(id));
      out.obligations = random_decision(random).obligations;
      return out;
    };
    Lineage own = lineage(), mother = lineage(), father = lineage();
    Lineage child = derive({own, mother, father});
    for (const Lineage& part : {own, mother, father}) {
      expect_no_looser(child.obligations, part.obligations);
      EXPECT_TRUE(std::includes(child.datasets.begin(), child.datasets.end(), part.datasets.begin(),
                                part.datasets.end()));
    }
    EXPECT_EQ(child, derive({father, own, mother}));
    EXPECT_EQ(derive({child, mother}), child);
    EXPECT_EQ(derive({own, derive({mother, father})}), child);
    auto again = lineage_from_json(to_json(child));
    ASSERT_TRUE(again) << again.error().expected();
    EXPECT_EQ(*again, child);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace souk::policy
