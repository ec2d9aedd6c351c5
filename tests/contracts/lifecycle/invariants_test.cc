// Twenty thousand records, the same in every run, most of them plausible and many of
// them wrong, in one ledger: whatever is recorded, money is neither made nor lost,
// budgets hold, and every auditor reaches the same state.
#include <gtest/gtest.h>

#include <array>
#include <random>
#include <set>

#include "tests/contracts/market_world.h"

namespace souk::contracts {
namespace {

#ifdef SOUK_SANITIZED
constexpr size_t kRecords = 10'000;
#else
constexpr size_t kRecords = 20'000;
#endif

bool is_final(Phase phase) {
  return phase != Phase::kSubmitted && phase != Phase::kEscrowed && phase != Phase::kRunning &&
         phase != Phase::kStopping;
}

bool may_follow(Phase from, Phase to) {
  if (from == to) return true;
  switch (from) {
    case Phase::kSubmitted:
      return to == Phase::kRefused || to == Phase::kEscrowed || to == Phase::kExpired;
    case Phase::kEscrowed:
      return to == Phase::kRunning || to == Phase::kRefunded;
    case Phase::kRunning:
      return to == Phase::kSettled || to == Phase::kRefunded || to == Phase::kStopping;
    case Phase::kStopping:
      return to == Phase::kRefunded;
    default:
      return false;
  }
}

// What must be so after every single entry.
class Watch {
 public:
  void look(const MarketState& state) {
    Minor sum = 0;
    for (const auto& [key, account] : state.accounts()) {
      ASSERT_GE(account.balance, 0);
      sum += account.balance;
    }
    std::map<DatasetId, Charges> reserved;
    auto seen = phases_.begin();  // walks beside the contracts, in the same order
    for (const auto& [id, contract] : state.contracts()) {
      sum += contract.escrow;
      ASSERT_GE(contract.escrow, 0);
      if (contract.phase == Phase::kSubmitted || is_final(contract.phase)) {
        ASSERT_EQ(contract.escrow, 0);
      } else {
        ASSERT_EQ(contract.escrow,
                  contract.phase == Phase::kStopping ? 0 : contract.decision->price);
        for (const auto& grant : contract.decision->grants) {
          for (size_t i = 0; i < grant.charges.size(); ++i)
            reserved[grant.dataset][i] += grant.charges[i];
        }
      }
      if (!is_final(contract.phase)) {
        ASSERT_GT(contract.deadline, state.time());
      }
      if (seen == phases_.end() || seen->first != id) {
        seen = phases_.emplace_hint(seen, id, Phase::kSubmitted);
      }
      ASSERT_TRUE(may_follow(seen->second, contract.phase));
      seen->second = contract.phase;
      reached_.at(static_cast<size_t>(contract.phase)) = true;
      ++seen;
    }
    ASSERT_EQ(phases_.size(), state.contracts().size());  // none is forgotten
    ASSERT_EQ(sum, state.minted());
    for (const auto& [id, dataset] : state.datasets()) {
      const Budget& budget = dataset.budget;
      ASSERT_EQ(budget.reserved, reserved[id]);
      Charges& before = committed_[id];
      bool used = false, fits = false;
      for (size_t i = 0; i < before.size(); ++i) {
        ASSERT_GE(budget.committed[i], before[i]);
        used = used || budget.committed[i] + budget.reserved[i] != 0;
        fits = fits || budget.committed[i] + budget.reserved[i] <= budget.caps[i];
      }
      ASSERT_TRUE(fits || !used);
      before = budget.committed;
    }
  }
  const std::array<bool, 8>& reached() const { return reached_; }

 private:
  std::map<ContractId, Phase> phases_;
  std::map<DatasetId, Charges> committed_;
  std::array<bool, 8> reached_{};
};

// Writes the next record: right three times in four.
class Author {
 public:
  Author(World& world, uint64_t seed) : world_(world), random_(seed) {}

  ledger::Envelope next() {
    world_.pass(below(10) == 0 ? static_cast<TimeMs>(below(120'000)) : 0);
    if (below(40) == 0 && !sent_.empty()) return sent_[below(sent_.size())];  // a replay
    auto [record, author] = plan();
    if (below(8) == 0) author = name(kPeople);
    auto envelope = sign_record(record, key(author), world_.market(), nonce());
    if (sent_.size() < 500) sent_.push_back(envelope);
    return envelope;
  }

 private:
  struct Plan {
    Record record;
    std::string author;
  };
  using Names = std::vector<std::string>;

  uint64_t below(uint64_t n) { return random_() % n; }
  const std::string& name(const Names& names) { return names[below(names.size())]; }
  bool lie() { return below(4) == 0; }
  const ledger::SigningKey& key(const std::string& of) {
    auto found = keys_.find(of);
    if (found == keys_.end()) found = keys_.emplace(of, key_named(of)).first;
    return found->second;
  }
  std::string nonce() {
    auto text = std::to_string(below(4) == 0 ? below(2000) : ++nonces_ + 2000);
    return std::string(32 - text.size(), '0') + text;
  }

  DatasetId any_known_dataset() {
    const auto& all = world_.state().datasets();
    return std::next(all.begin(), static_cast<long>(below(all.size())))->first;
  }
  DatasetId any_dataset() {
    if (world_.state().datasets().empty() || below(50) == 0)
      return DatasetId(digest_named("nowhere"));
    return any_known_dataset();
  }
  // One in the wanted phase if there is one; sometimes any.
  ContractId any_contract(Phase wanted) {
    std::vector<ContractId> fitting, all;
    for (const auto& [id, contract] : world_.state().contracts()) {
      if (contract.phase == wanted) fitting.push_back(id);
      if (all.size() < 50) all.push_back(id);
    }
    if (!fitting.empty() && below(10) != 0) return fitting[below(fitting.size())];
    if (!all.empty()) return all[below(all.size())];
    return ContractId(digest_named("nothing"));
  }

  // The version that a running contract was allowed under ends, and the run with it.
  Plan stop() {
    const Contract* contract = world_.state().contract(any_contract(Phase::kRunning));
    if (!contract || contract->policies.empty()) return {Tick{}, "keeper"};
    const DatasetId id = contract->submit.datasets.front();
    auto move =
        below(2) == 0 ? PolicyChange::Move::kRevokeStop : PolicyChange::Move::kRevokeDestroy;
    PolicyChange change{id, contract->policies.front(), move};
    for (const auto& provider : kProviders) {
      bool theirs = world_.state().dataset(id)->provider == key(provider).public_key();
      if (theirs) return {change, provider};
    }
    return {change, name(kProviders)};
  }

  Plan plan() {
    switch (below(16)) {
      case 0:
        return deposit();
      case 1:
        return offer();
      case 2:
        if (below(12) == 0) return {DatasetRevoke{any_dataset()}, name(kProviders)};
        if (below(3) == 0) {
          return {PolicyPublish{any_dataset(), "return " + std::to_string(below(5)), Json::Object{},
                                ""},
                  name(kProviders)};
        }
        if (below(2) == 0) {
          auto id = any_dataset();
          const Dataset* dataset = world_.state().dataset(id);
          PolicyChange change{
              id, {}, static_cast<PolicyChange::Move>(below(below(4) == 0 ? 5 : 1))};
          if (dataset) {
            auto it = dataset->policies.begin();
            std::advance(it, below(dataset->policies.size()));
            change.version = it->first;
          }
          return {change, name(kProviders)};
        }
        return {Tick{}, "keeper"};
      case 3:
        if (below(25) == 0) return {world_.boot("keeper"), "keeper"};
        if (below(20) == 0) return stop();
        return {Tick{}, "keeper"};
      case 4:
      case 5:
      case 6:
        return submit();
      case 7:
      case 8:
      case 9:
      case 10:
        return decision();
      case 11:
      case 12:
        return start();
      case 13:
      case 14:
        return below(2) == 0 ? resume() : result();
      default:
        return abort();
    }
  }

  Plan deposit() {
    Minor minor = static_cast<Minor>(below(2000)) + (lie() ? 0 : 1);
    if (below(50) == 0) minor = kMaxJsonInteger;
    return {Deposit{key(name(kConsumers)).public_key(), minor}, "treasury"};
  }

  Plan offer() {
    auto offer = world_.offer("d" + std::to_string(below(60)), static_cast<Minor>(below(200)));
    int64_t size = int64_t{1} << below(14);
    for (auto& cap : offer.manifest.budget_caps) cap = static_cast<int64_t>(below(3)) * size - 1;
    const auto& known = world_.state().datasets();
    if (below(5) == 0 && !known.empty()) offer.manifest = known.get(any_known_dataset())->manifest;
    if (below(10) == 0) offer.manifest.rows = 0;
    if (lie()) offer.keeper_evidence = digest_named("old");
    return {offer, name(kProviders)};
  }

  Plan submit() {
    std::set<DatasetId> datasets;
    for (size_t i = 0; i <= below(3); ++i) datasets.insert(any_dataset());
    auto submit = world_.submit({datasets.begin(), datasets.end()}, static_cast<Minor>(below(800)));
    if (below(4) == 0) submit.spec = sample_open_spec();
    submit.deadline_minutes = 1 + static_cast<int64_t>(below(30));
    return {submit, name(kConsumers)};
  }

  Plan decision() {
    auto id = any_contract(Phase::kSubmitted);
    auto decision = below(8) == 0 ? world_.deny(id) : world_.allow(id);
    for (auto& grant : decision.grants) {
      if (grant.waived) continue;
      for (auto& charge : grant.charges) charge = static_cast<int64_t>(below(200));
    }
    if (lie()) {
      switch (below(10)) {
        case 0:
          decision.price += 1;
          break;
        case 1:
          decision.head_size -= std::min<uint64_t>(decision.head_size, below(20));
          break;
        case 2:
          decision.head_root[0] ^= 1;
          break;
        case 3:
          decision.grants.emplace_back();
          break;
        case 4:
          if (!decision.grants.empty()) decision.grants.pop_back();
          break;
        case 5:
        case 6:
        case 7:
          for (auto& grant : decision.grants) grant.waived = !grant.waived;
          break;
        case 8:
          for (auto& grant : decision.grants) grant.price = kMaxJsonInteger;
          decision.price = kMaxJsonInteger;
          break;
        default:
          for (auto& grant : decision.grants) grant.charges.fill(kMaxJsonInteger);
      }
    }
    return {decision, "keeper"};
  }

  Plan start() {
    auto id = any_contract(Phase::kEscrowed);
    if (!world_.state().contract(id)) return {Tick{}, "keeper"};
    auto start = world_.start(id, name(kTrainers));
    if (lie()) {
      switch (below(6)) {
        case 0:
          start.recipient = recipient_named('p');
          break;
        case 1:
          start.decision[0] ^= 1;
          break;
        case 2:
          start.wraps[0].dataset = any_dataset();
          break;
        case 3:
          start.inputs[0].rows += 1;
          break;
        case 4:
          start.receipt_key = key("mallory").public_key();
          break;
        default:
          start.trainer.proof.clear();
      }
    }
    return {start, "keeper"};
  }

  Plan result() {
    auto id = any_contract(Phase::kRunning);
    const Contract* contract = world_.state().contract(id);
    if (!contract) return {Tick{}, "keeper"};
    auto result = world_.result(id);
    result.steps = static_cast<uint32_t>(below(lie() ? 20 : 11));
    if (below(10) == 0) result.job_start[3] ^= 1;
    return {result, trainer_of(*contract)};
  }

  std::string trainer_of(const Contract& contract) {
    for (const auto& trainer : kTrainers) {
      if (contract.start && key(trainer).public_key() == contract.start->receipt_key)
        return trainer;
    }
    return "mallory";
  }

  Plan resume() {
    ContractId id;
    const Contract* contract = nullptr;
    for (int i = 0; i < 5 && (!contract || !contract->resume); ++i) {  // rather one more time
      id = any_contract(Phase::kRunning);
      contract = world_.state().contract(id);
    }
    if (!contract) return {Tick{}, "keeper"};
    const uint32_t reached = contract->resume ? contract->resume->steps : 1;
    auto resume = world_.resume(id, reached + static_cast<uint32_t>(below(3)));
    if (below(2) == 0) {
      switch (below(5)) {
        case 0:
          resume.job_start[3] ^= 1;
          break;
        case 1:
          resume.attempt = below(2) == 0 ? resume.attempt + 1 : resume.attempt - 1;
          break;
        case 2:
        case 3:
          resume.steps = reached / 2;
          break;
        default:
          resume.boot[0] = static_cast<char>(resume.boot[0] ^ 1);
      }
    }
    return {resume, trainer_of(*contract)};
  }

  Plan abort() {
    auto stopping = any_contract(Phase::kStopping);
    if (const Contract* contract = world_.state().contract(stopping);
        contract && contract->start && below(2) == 0) {
      return {world_.stop(stopping, static_cast<uint32_t>(below(lie() ? 20 : 11))),
              trainer_of(*contract)};
    }
    auto id = any_contract(below(2) == 0 ? Phase::kEscrowed : Phase::kRunning);
    return {JobAbort{id, "trainer_died"}, "keeper"};
  }

  const Names kProviders = {"hospital", "clinic", "registry"};
  const Names kConsumers = {"lab", "rival", "hospital"};
  const Names kTrainers = {"trainer-1", "trainer-2"};
  const Names kPeople = {"lab", "hospital", "keeper", "treasury", "trainer-1", "mallory", "log"};

  World& world_;
  std::mt19937_64 random_;
  std::map<std::string, ledger::SigningKey> keys_;
  std::vector<ledger::Envelope> sent_;
  uint64_t nonces_ = 0;
};

TEST(Invariants, HoldAfterEachOfManyRandomRecordsAndReplayGivesTheSameState) {
  World world;
  Author author(world, 20260731);
  std::mt19937_64 random(7);
  Watch watch;
  MarketState halfway(test_appraiser);
  size_t written = world.leaves().size();
  while (written < kRecords) {
    // A batch is written on the state before it: its later records may be stale.
    size_t batch = 1 + random() % 6;
    for (size_t i = 0; i < batch; ++i) world.append(author.next());
    written += batch;
    for (const auto& entry : world.confirm()) {
      // Tried on a copy, which shares what the fold then changes.
      const bool tried = entry.seq() % 32 == 0;
      std::optional<std::string> without_effect;
      if (tried) without_effect = would_be_void(world.state(), entry.entry(), entry.time());
      world.fold(entry);
      watch.look(world.state());
      if (HasFatalFailure()) FAIL() << "after seq " << entry.seq();
      auto found = world.state().voids().find(entry.seq());
      if (tried) {
        ASSERT_EQ(without_effect.value_or(""),
                  found == world.state().voids().end() ? "" : found->second);
      }
      if (2 * entry.seq() == kRecords) halfway = world.state();
    }
  }

  // The walk went everywhere: every phase was reached and every code was heard.
  for (bool reached : watch.reached()) EXPECT_TRUE(reached);
  std::map<std::string, size_t> codes;
  for (const auto& [seq, code] : world.state().voids()) ++codes[code];
  for (const char* code : {"already_offered",
                           "budget_exhausted",
                           "malformed",
                           "needless_waiver",
                           "not_escrowed",
                           "not_running",
                           "not_submitted",
                           "not_the_keeper",
                           "not_the_provider",
                           "not_the_trainer",
                           "not_the_treasury",
                           "over_offer",
                           "overflow",
                           "privacy_required",
                           "replayed",
                           "revoked",
                           "stale",
                           "taken_up",
                           "too_many_steps",
                           "unappraised",
                           "unfunded",
                           "unknown_dataset",
                           "unknown_keeper_evidence",
                           "went_back",
                           "wrong_decision",
                           "wrong_grants",
                           "wrong_head",
                           "wrong_inputs",
                           "wrong_keys",
                           "wrong_price",
                           "wrong_recipient",
                           "wrong_start",
                           "wrong_wraps"}) {
    EXPECT_GT(codes[code], 0u) << code;
  }
  size_t settled = 0;
  for (const auto& [id, contract] : world.state().contracts()) {
    settled += contract.phase == Phase::kSettled;
  }
  EXPECT_GT(settled, 50u);

  EXPECT_TRUE(world.replay(1000) == world.state());
  // A copy does not change with what it was copied from: it grows into the same state.
  EXPECT_EQ(halfway.size(), kRecords / 2 + 1);
  EXPECT_TRUE(world.replay(1000, halfway) == world.state());
  EXPECT_EQ(world.state().size(), world.leaves().size());
}

}  // namespace
}  // namespace souk::contracts
