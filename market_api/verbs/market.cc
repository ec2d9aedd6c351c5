#include "market_api/verbs/market.h"

#include <sys/stat.h>

#include <algorithm>

#include "ledger/crypto/hash.h"
#include "ledger/crypto/random.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/store/store.h"
#include "market_api/verbs/files.h"
#include "market_api/verbs/witnesses.h"
#include "trainer/attest/appraisal.h"

namespace souk::market {
namespace {

using contracts::Phase;

constexpr size_t kFeedLeaves = 500;

Result<ledger::SigningKey> read_key(const std::string& path) {
  auto seed = TRY(read_file(path, 32));
  return ledger::SigningKey::from_seed(seed);
}

Status write_key(const std::string& path, const ledger::SigningKey& key) {
  auto seed = key.seed(SecretAccess{});
  return write_file(path, seed.bytes(SecretAccess{}));
}

// A new market: keys, then genesis. The ledger file appears last, so a crash before
// that starts over with the same keys.
Status found_anew(const MarketConfig& config, Clock& clock) {
  if (!config.treasury) {
    return Error(Code::kRefused, "a new market needs the treasury's public key");
  }
  const std::string& dir = config.directory;
  for (const char* name : {"/ledger.key", "/platform.key"}) {
    if (file_exists(dir + name)) continue;
    TRY(write_key(dir + name, ledger::SigningKey::generate()));
  }
  auto key = TRY(read_key(dir + "/ledger.key"));
  auto platform = TRY(read_key(dir + "/platform.key"));
  auto program = TRY(read_file(config.enclave_program, size_t{1} << 30));

  contracts::Genesis genesis;
  genesis.origin = "souk-market/" + to_hex(ByteView(key.public_key().value()).first(6));
  auto note_key = TRY(ledger::NoteKey::of(genesis.origin, key.public_key()));
  genesis.ledger_key = note_key.vkey();
  genesis.treasury = *config.treasury;
  genesis.currency = config.currency;
  genesis.evidence_roots.push_back({trainer::kInsecureSim, platform.public_key()});
  genesis.measurements.push_back(ledger::sha256(program));
  genesis.witness_policy = config.witness_policy;
  if (!genesis.witness_policy.empty()) TRY(check_witness_policy(genesis.witness_policy));

  auto envelope = canonical(ledger::to_json(contracts::sign_genesis(genesis, key)));
  auto signed_entry = TRY(ledger::SignedEntry::decode(as_bytes(envelope)));
  auto entry = TRY(ledger::authenticate(std::move(signed_entry)));
  std::string path = dir + "/ledger.db";
  auto store = file_exists(path) ? TRY(ledger::LedgerStore::open(path))
                                 : TRY(ledger::LedgerStore::create(path));
  auto sequencer =
      TRY(ledger::Sequencer::start(std::move(store), std::move(key), genesis.origin, clock));
  if (sequencer->size() == 0) TRY(sequencer->append(std::move(entry)));
  return Done{};
}

Result<bool> founded(const std::string& directory) {
  std::string path = directory + "/ledger.db";
  if (!file_exists(path)) {
    // Another genesis under a key that has signed one would be a fork.
    for (const char* later : {"/keeper.sealed", "/ledger.db.index", "/blobs"}) {
      if (!file_exists(directory + later)) continue;
      return Error(Code::kMalformed, path + ": expected the ledger of the market that left " +
                                         (later + 1) +
                                         " here; restore it, or name an empty folder");
    }
    return false;
  }
  auto store = TRY(ledger::LedgerStore::open(path));
  return store.size() > 0;
}

// Without it nobody has the keys of the datasets, and each contract would spend for nothing.
Status check_keeper_state(const std::string& path, const contracts::MarketState& state) {
  struct stat info {};
  if (stat(path.c_str(), &info) == 0 && info.st_size > 0) return Done{};
  for (const auto& [id, dataset] : state.datasets()) {
    if (dataset.erased) continue;
    return Error(Code::kMalformed,
                 path + ": expected the keeper's state beside a ledger with datasets; restore it");
  }
  return Done{};
}

bool from_participants(const contracts::Record& record) {
  return std::holds_alternative<contracts::Deposit>(record) ||
         std::holds_alternative<contracts::DatasetOffer>(record) ||
         std::holds_alternative<contracts::DatasetRevoke>(record) ||
         std::holds_alternative<contracts::DatasetErase>(record) ||
         std::holds_alternative<contracts::PolicyPublish>(record) ||
         std::holds_alternative<contracts::PolicyChange>(record) ||
         std::holds_alternative<contracts::ContractSubmit>(record);
}

}  // namespace

bool Market::exists(const std::string& directory) {
  auto answer = founded(directory);
  return answer && *answer;
}

Result<ledger::NoteKey> Market::found(const MarketConfig& config, Clock& clock) {
  mkdir(config.directory.c_str(), 0700);
  auto lock = TRY(FolderLock::take(config.directory));  // before the ledger is touched
  bool there = TRY(founded(config.directory));
  if (!there) TRY(found_anew(config, clock));
  auto store = TRY(ledger::LedgerStore::open(config.directory + "/ledger.db"));
  return ledger::NoteKey::parse(store.log_key());
}

Result<std::unique_ptr<Market>> Market::open(MarketConfig config, Clock& clock,
                                             const ConnectWitness& connect) {
  mkdir(config.directory.c_str(), 0700);
  auto lock = TRY(FolderLock::take(config.directory));  // before the ledger is touched
  bool there = TRY(founded(config.directory));
  if (!there) TRY(found_anew(config, clock));
  std::unique_ptr<Market> market(new Market(std::move(config), clock, std::move(lock)));
  TRY(market->open_parts(connect));
  return market;
}

Status Market::open_parts(const ConnectWitness& connect) {
  const std::string& dir = config_.directory;
  auto key = TRY(read_key(dir + "/ledger.key"));
  auto store = TRY(ledger::LedgerStore::open(dir + "/ledger.db"));
  auto genesis = TRY(store.leaf(0));
  genesis_leaf_ = to_base64(genesis);
  follower_ = TRY(contracts::Follower::pin(genesis, std::nullopt, &trainer::appraise_for_market));
  id_ = follower_->market();
  treasury_ = follower_->genesis().treasury;
  ledger_ = TRY(ledger::Sequencer::start(std::move(store), std::move(key),
                                         follower_->genesis().origin, clock_));
  auto blobs = TRY(BlobStore::open(dir + "/blobs"));
  blobs_ = std::make_unique<BlobStore>(std::move(blobs));
  TRY(connect_witnesses(connect));
  keeper_ = std::make_unique<KeeperLink>(
      KeeperLink::Config{config_.enclave_program, dir + "/platform.key", dir + "/keeper.sealed"},
      *ledger_, witnesses_.get());
  TRY(follow());
  TRY(check_keeper_state(dir + "/keeper.sealed", follower_->state()));
  // The keeper boots before anyone is served: a market without one is of no use.
  TRY(keeper_->ask(
      trainer::frame(trainer::Kind::kAttest, Json::Object{{"nonce", std::string(64, '0')}})));
  TRY(follow());
  erase_blobs();
  decider_ = std::thread([this] { decide_loop(); });
  trainer_ = std::thread([this] { train_loop(); });
  return Done{};
}

Market::~Market() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    // A job under way ends here; the next start refunds it.
    if (process_) process_->stop();
  }
  changed_.notify_all();
  if (decider_.joinable()) decider_.join();
  if (trainer_.joinable()) trainer_.join();
}

Status Market::follow() {
  std::lock_guard lock(follow_mutex_);
  while (true) {
    std::string note = ledger_->checkpoint();
    auto checkpoint = TRY(ledger::open_checkpoint(note, ledger_->log_key()));
    if (checkpoint.size <= follower_->confirmed_size()) return Done{};
    for (uint64_t seq = follower_->size(); seq < checkpoint.size;) {
      auto leaves =
          TRY(ledger_->leaves(seq, std::min<uint64_t>(kFeedLeaves, checkpoint.size - seq)));
      for (const auto& leaf : leaves) TRY(follower_->add(leaf));
      seq += leaves.size();
    }
    TRY(follower_->confirm(note));
  }
}

contracts::MarketState Market::state() {
  auto followed = follow();
  (void)followed;  // the newest state that can be had
  std::lock_guard lock(follow_mutex_);
  return follower_->state();
}

// A stranger who names another's ciphertext could keep it from being erased.
bool Market::owned_by_another(const Digest& ciphertext, const PublicKey& author) {
  std::lock_guard lock(follow_mutex_);
  const auto& datasets = follower_->state().datasets();
  return std::any_of(datasets.begin(), datasets.end(), [&](const auto& other) {
    return other.second.manifest.ciphertext == ciphertext && other.second.provider != author;
  });
}

// The blob goes when the tombstone is on the disk. A crash between the two: the next start
// does it.
void Market::erase_blobs() {
  std::lock_guard lock(follow_mutex_);
  const auto& datasets = follower_->state().datasets();
  for (const auto& [id, dataset] : datasets) {
    if (!dataset.erased) continue;
    const Digest& ciphertext = dataset.manifest.ciphertext;
    // Another offer may name the same bytes, and they are that provider's to keep.
    bool shared = std::any_of(datasets.begin(), datasets.end(), [&](const auto& other) {
      return !other.second.erased && other.second.manifest.ciphertext == ciphertext;
    });
    if (shared) continue;
    auto gone = blobs_->erase(ciphertext);
    (void)gone;  // tried again at the next start
  }
  for (const auto& [id, contract] : follower_->state().contracts()) {
    if (!contract.destroyed || !contract.result) continue;
    auto gone = blobs_->erase(contract.result->payload);
    (void)gone;  // likewise
  }
}

Result<ledger::Receipt> Market::record(ByteView envelope, Acknowledgement wanted) {
  if (wanted == Acknowledgement::kWitnessed && !witnesses_) {
    return Error(Code::kRefused, "this market has no witnesses: expected ack=local");
  }
  auto signed_entry = TRY(ledger::SignedEntry::decode(envelope));
  auto entry = TRY(ledger::authenticate(std::move(signed_entry)));
  auto record = TRY(contracts::record_of(entry));
  if (!from_participants(record)) {
    return Error(Code::kRefused,
                 "expected a deposit, an offer, a policy, a revocation or a contract");
  }
  if (auto* offer = std::get_if<contracts::DatasetOffer>(&record)) {
    if (owned_by_another(offer->manifest.ciphertext, entry.author())) {
      return Error(Code::kRefused,
                   "expected a ciphertext of your own: another provider's dataset names this one");
    }
    auto size = blobs_->size(offer->manifest.ciphertext);
    if (!size || *size != static_cast<uint64_t>(offer->manifest.size)) {
      return Error(Code::kNotFound, "expected the ciphertext of this offer to be uploaded first");
    }
  }
  if (auto* submit = std::get_if<contracts::ContractSubmit>(&record)) {
    if (submit->spec.initial && !blobs_->has(*submit->spec.initial))
      return Error(Code::kNotFound,
                   "expected the initial weights of this contract to be uploaded first");
  }
  auto receipt = TRY(ledger_->append(std::move(entry)));
  wake();
  TRY(follow());
  {
    std::lock_guard lock(follow_mutex_);
    const auto& voids = follower_->state().voids();
    if (auto it = voids.find(receipt.seq); it != voids.end()) {
      return Error(Code::kConflict, "recorded as entry " + std::to_string(receipt.seq) +
                                        " without effect: " + it->second);
    }
  }
  auto* change = std::get_if<contracts::PolicyChange>(&record);
  bool destroys = change && change->move == contracts::PolicyChange::Move::kRevokeDestroy;
  if (destroys || std::holds_alternative<contracts::DatasetErase>(record)) erase_blobs();
  if (wanted == Acknowledgement::kWitnessed) return witnessed_receipt(receipt.seq, kWitnessWaitMs);
  return receipt;
}

JobProgress Market::progress(const ContractId& contract) {
  std::lock_guard lock(mutex_);
  auto it = progress_.find(contract);
  return it == progress_.end() ? JobProgress{} : it->second;
}

void Market::note_progress(const ContractId& contract, JobProgress progress) {
  std::lock_guard lock(mutex_);
  progress_[contract] = std::move(progress);
}

void Market::wake() {
  if (witnesses_) witnesses_->kick();
  {
    std::lock_guard lock(mutex_);
    ++news_;
  }
  changed_.notify_all();
}

}  // namespace souk::market
