#include "market_api/verbs/market.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "ledger/crypto/hash.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/proof/tlog_policy.h"
#include "ledger/store/store.h"
#include "market_api/outcome/outcome.h"
#include "market_api/verbs/evidence.h"
#include "market_api/verbs/files.h"
#include "market_api/verbs/witnesses.h"
#include "trainer/attest/appraisal.h"

namespace souk::market {
namespace {

using contracts::Phase;

constexpr size_t kFeedLeaves = 500;

Result<ledger::SigningKey> read_key(const std::string& path) {
  auto seed = TRY(about_input(read_file(path, 32), path));
  return about_input(ledger::SigningKey::from_seed(seed), path);
}

Result<ledger::LedgerStore> open_ledger(const std::string& directory) {
  std::string path = directory + "/ledger.db";
  return about_input(ledger::LedgerStore::open(path), path);
}

Status write_key(const std::string& path, const ledger::SigningKey& key) {
  auto seed = key.seed(SecretAccess{});
  return write_file(path, seed.bytes(SecretAccess{}));
}

// The folder of a market, and what a start has put there: gone again unless the start came to
// something. Only names that were not there before, and only those that a start makes.
class Start {
 public:
  static Result<Start> in(const std::string& directory) {
    bool made = mkdir(directory.c_str(), 0700) == 0;
    if (!made && (errno == ENOSPC || errno == EDQUOT))
      return Error(Code::kTryAgain, "disk full: expected room for the folder " + directory);
    if (!std::filesystem::is_directory(directory))
      return Error(Code::kMalformed, "expected to make the folder " + directory);
    if (!made) TRY(check_ours(directory));
    auto lock = FolderLock::take(directory);  // before the ledger is touched
    if (!lock) {
      if (made) rmdir(directory.c_str());
      return std::move(lock).take_error();
    }
    return Start(directory, made, std::move(*lock));
  }
  Start(Start&& other) noexcept
      : directory_(std::move(other.directory_)),
        made_folder_(other.made_folder_),
        lock_(std::move(other.lock_)) {}
  Start& operator=(Start&&) = delete;
  ~Start() {
    if (!lock_) return;
    for (const auto& name : made_) {
      std::error_code ignored;
      std::filesystem::remove_all(directory_ + "/" + name, ignored);
    }
    lock_->leave_nothing();
    if (made_folder_) rmdir(directory_.c_str());
  }

  // From here on a market is made: what of it is there now stays.
  void founds() {
    for (const char* name : kMade) {
      if (!file_exists(directory_ + "/" + name)) made_.emplace_back(name);
    }
  }
  FolderLock succeeded() && {
    FolderLock lock = std::move(*lock_);
    lock_.reset();
    return lock;
  }

 private:
  static constexpr auto kMade = std::to_array<const char*>({"ledger.db",
                                                            "ledger.db-wal",
                                                            "ledger.db-shm",
                                                            "ledger.db.new",
                                                            "ledger.db.new-wal",
                                                            "ledger.db.new-shm",
                                                            "ledger.db.new-journal",
                                                            "ledger.db.index",
                                                            "ledger.db.index-wal",
                                                            "ledger.db.index-shm",
                                                            "blobs",
                                                            "keeper.sealed",
                                                            "keeper.sealed.new",
                                                            "witnessed.state",
                                                            "witnessed.state.new",
                                                            "platform.key",
                                                            "platform.key.new",
                                                            "ledger.key",
                                                            "ledger.key.new",
                                                            "runs"});

  // A new market is made in an empty folder, or where one was begun: not among other files.
  static Status check_ours(const std::string& directory) {
    if (file_exists(directory + "/ledger.db")) return Done{};
    std::error_code failure;
    for (const auto& item : std::filesystem::directory_iterator(directory, failure)) {
      std::string name = item.path().filename().string();
      bool ours = name == "lock" || name == "port" || name == "evidence" || name == "lost+found" ||
                  std::find(kMade.begin(), kMade.end(), name) != kMade.end();
      // A log that the caller has just begun there holds nothing of anybody's.
      bool begun = item.is_regular_file(failure) && item.file_size(failure) == 0;
      if (ours || begun) continue;
      return Error(Code::kMalformed, directory + "/" + name +
                                         ": expected an empty folder for a new market, or the "
                                         "folder of one");
    }
    return Done{};
  }

  Start(std::string directory, bool made_folder, FolderLock lock)
      : directory_(std::move(directory)), made_folder_(made_folder), lock_(std::move(lock)) {}

  std::string directory_;
  bool made_folder_;
  std::optional<FolderLock> lock_;
  std::vector<std::string> made_;
};

// A new market: keys, then genesis. The ledger file appears last, so a crash before
// that starts over with the same keys.
Status found_anew(const MarketConfig& config, Clock& clock) {
  // What can be wrong is looked at before anything is made.
  if (!config.witness_policy.empty()) TRY(check_witness_policy(config.witness_policy));
  auto program =
      TRY(about_input(read_file(config.enclave_program, size_t{1} << 30), config.enclave_program));
  auto treasury = config.treasury;
  if (!treasury && config.ask_treasury) treasury = TRY(config.ask_treasury());
  if (!treasury) return Error(Code::kRefused, "a new market needs the treasury's public key");
  const std::string& dir = config.directory;
  for (const char* name : {"/ledger.key", "/platform.key"}) {
    if (file_exists(dir + name)) continue;
    TRY(write_key(dir + name, ledger::SigningKey::generate()));
  }
  auto key = TRY(read_key(dir + "/ledger.key"));
  auto platform = TRY(read_key(dir + "/platform.key"));

  contracts::Genesis genesis;
  genesis.origin = "souk-market/" + to_hex(ByteView(key.public_key().value()).first(6));
  auto note_key = TRY(ledger::NoteKey::of(genesis.origin, key.public_key()));
  genesis.ledger_key = note_key.vkey();
  genesis.treasury = *treasury;
  genesis.currency = config.currency.value_or("EUR");
  genesis.evidence_roots.push_back({trainer::kInsecureSim, platform.public_key()});
  genesis.measurements.push_back(ledger::sha256(program));
  genesis.witness_policy = config.witness_policy;

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
  auto store = TRY(open_ledger(directory));
  return store.size() > 0;
}

// What the call names is what this market lives by, once and for all.
Status check_confirms(const MarketConfig& config, const contracts::Genesis& genesis) {
  auto otherwise = [](const std::string& option, const std::string& is) {
    return Error(Code::kMalformed,
                 option + ": expected that of this market's genesis, " + is + ", or none");
  };
  if (config.treasury && *config.treasury != genesis.treasury)
    return otherwise("--treasury", to_hex(genesis.treasury));
  if (config.currency && *config.currency != genesis.currency)
    return otherwise("--currency", genesis.currency);
  if (config.witness_policy.empty()) return Done{};
  auto given = TRY(ledger::TlogPolicy::parse(config.witness_policy));
  if (genesis.witness_policy.empty()) {
    if (given.quorum() == "none") return Done{};
    return Error(Code::kMalformed,
                 "--witness-policy: expected none, this market was founded without witnesses and "
                 "stays so");
  }
  auto founded_with = TRY(ledger::TlogPolicy::parse(genesis.witness_policy));
  if (given.asks_for_the_same(founded_with)) return Done{};
  return Error(Code::kMalformed,
               "--witness-policy: expected the witnesses, groups and quorum of this market's "
               "genesis; only their addresses may be new");
}

// The keys beside a ledger are those that its genesis names.
Status check_keys(const std::string& directory, const contracts::Genesis& genesis,
                  const ledger::SigningKey& ledger_key) {
  auto note_key = TRY(ledger::NoteKey::of(genesis.origin, ledger_key.public_key()));
  bool signs = note_key.vkey() == genesis.ledger_key;
  auto platform = TRY(read_key(directory + "/platform.key"));
  bool known = std::any_of(genesis.evidence_roots.begin(), genesis.evidence_roots.end(),
                           [&](const auto& root) { return root.key == platform.public_key(); });
  if (signs && known) return Done{};
  if (!signs && !known) {
    return Error(Code::kMalformed, directory +
                                       "/ledger.db: expected the ledger whose genesis names the "
                                       "keys beside it; this is another market's");
  }
  if (!signs) {
    return Error(Code::kMalformed,
                 directory + "/ledger.key: expected the key that signs this market's ledger");
  }
  return Error(Code::kMalformed, directory +
                                     "/platform.key: expected the key of the platform that "
                                     "this market's genesis names");
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

// Whose evidence would be worth nothing is not started.
Status check_program(const std::string& path, const contracts::Genesis& genesis) {
  auto bytes = TRY(about_input(read_file(path, size_t{1} << 30), path));
  if (access(path.c_str(), X_OK) != 0)
    return Error(Code::kMalformed, path + ": expected a program that this user may run");
  Digest measured = ledger::sha256(bytes);
  const auto& accepted = genesis.measurements;
  if (std::find(accepted.begin(), accepted.end(), measured) != accepted.end()) return Done{};
  return Error(Code::kMalformed,
               path + ": expected the program that this market's genesis names, of measurement " +
                   to_hex(ByteView(accepted.front())) + ", this is " + to_hex(ByteView(measured)));
}

}  // namespace

Result<ledger::NoteKey> Market::found(const MarketConfig& config, Clock& clock) {
  auto start = TRY(Start::in(config.directory));
  bool there = TRY(founded(config.directory));
  if (!there) {
    start.founds();
    TRY(found_anew(config, clock));
  }
  auto store = TRY(open_ledger(config.directory));
  auto genesis = TRY(store.leaf(0));
  auto follower = TRY(
      about_input(contracts::Follower::pin(genesis, std::nullopt, &trainer::appraise_for_market),
                  config.directory + "/ledger.db"));
  TRY(check_confirms(config, follower.genesis()));
  auto key = TRY(ledger::NoteKey::parse(store.log_key()));
  std::move(start).succeeded();
  return key;
}

Result<std::unique_ptr<Market>> Market::open(MarketConfig config, Clock& clock,
                                             const ConnectWitness& connect) {
  auto start = TRY(Start::in(config.directory));
  bool there = TRY(founded(config.directory));
  if (!there) {
    start.founds();
    TRY(found_anew(config, clock));
  }
  std::unique_ptr<Market> market(new Market(std::move(config), clock));
  TRY(market->open_parts(connect));
  market->lock_.emplace(std::move(start).succeeded());
  return market;
}

Status Market::open_parts(const ConnectWitness& connect) {
  const std::string& dir = config_.directory;
  auto key = TRY(read_key(dir + "/ledger.key"));
  auto store = TRY(open_ledger(dir));
  auto genesis = TRY(store.leaf(0));
  genesis_leaf_ = to_base64(genesis);
  follower_ = TRY(
      about_input(contracts::Follower::pin(genesis, std::nullopt, &trainer::appraise_for_market),
                  dir + "/ledger.db"));
  TRY(check_keys(dir, follower_->genesis(), key));
  id_ = follower_->market();
  treasury_ = follower_->genesis().treasury;
  TRY(check_confirms(config_, follower_->genesis()));
  TRY(check_evidence(dir, follower_->ledger_key()));
  if (config_.program_is_the_enclave)
    TRY(check_program(config_.enclave_program, follower_->genesis()));
  ledger_ = TRY(ledger::Sequencer::start(std::move(store), std::move(key),
                                         follower_->genesis().origin, clock_));
  entrance_ = std::make_unique<Entrance>(*ledger_);
  auto blobs = TRY(BlobStore::open(dir + "/blobs", config_.uploads));
  blobs_ = std::make_unique<BlobStore>(std::move(blobs));
  TRY(connect_witnesses(connect));
  keeper_ = std::make_unique<KeeperLink>(
      KeeperLink::Config{config_.enclave_program, dir + "/platform.key", dir + "/keeper.sealed"},
      *ledger_, witnesses_.get());
  TRY(follow());
  uses_.emplace(follower_->state());
  TRY(check_keeper_state(dir + "/keeper.sealed", follower_->state()));
  // The keeper boots before anyone is served: a market without one is of no use.
  TRY(keeper_->ask(
      trainer::frame(trainer::Kind::kAttest, Json::Object{{"nonce", std::string(64, '0')}})));
  TRY(follow());
  erase_all();
  sweep_blobs();
  sweep_runs();
  decider_ = std::thread([this] { decide_loop(); });
  trainer_ = std::thread([this] { train_loop(); });
  return Done{};
}

Market::~Market() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    // A job under way ends here; the next start takes it up.
    if (process_) process_->stop();
  }
  changed_.notify_all();
  if (decider_.joinable()) decider_.join();
  if (trainer_.joinable()) trainer_.join();
}

// Those whose runs have ended without this host.
void Market::sweep_runs() {
  for (const auto& id : runs_.all()) {
    const auto* contract = follower_->state().contract(id);
    if (!contract || contract->phase != Phase::kRunning) runs_.remove(id);
  }
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
      for (const auto& leaf : leaves) {
        TRY(follower_->add(leaf));
        if (uses_) uses_->add(leaf);
      }
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

void Market::wake() {
  if (witnesses_) witnesses_->kick();
  {
    std::lock_guard lock(mutex_);
    ++news_;
  }
  changed_.notify_all();
}

}  // namespace souk::market
