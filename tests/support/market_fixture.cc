#include "tests/support/market_fixture.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "ledger/crypto/hash.h"
#include "ledger/crypto/random.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/store/store.h"
#include "policy/decide/decide.h"
#include "tests/support/must.h"
#include "trainer/wire/pieces.h"

namespace souk::flows {
namespace {

using trainer::Frame;
using trainer::Kind;

trainer::EnclaveSelf self_of(const ledger::SigningKey& platform, const Digest& measurement) {
  auto seed = platform.seed(SecretAccess{});
  return {must(ledger::SigningKey::from_seed(seed.bytes(SecretAccess{}))), measurement,
          "seccomp,test"};
}

}  // namespace

TempFolder::TempFolder() {
  auto base = (std::filesystem::temp_directory_path() / "souk-flow-XXXXXX").string();
  CHECK(mkdtemp(base.data()) != nullptr);
  path_ = base;
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

// ---- market -------------------------------------------------------------------

MarketFixture::MarketFixture()
    : MarketFixture(ledger::sha256(as_bytes("souk-enclave of this test"))) {}

MarketFixture::MarketFixture(const Digest& measurement)
    : MarketFixture(nullptr, measurement, "", [](const std::string& note) { return note; }) {}

MarketFixture::MarketFixture(ManualClock& clock, const std::string& witness_policy, Cosign cosign)
    : MarketFixture(&clock, ledger::sha256(as_bytes("souk-enclave of this test")), witness_policy,
                    std::move(cosign)) {}

MarketFixture::MarketFixture(ManualClock* clock, const Digest& measurement,
                             const std::string& witness_policy, Cosign cosign)
    : clock_(clock ? *clock : own_clock_), cosign_(std::move(cosign)) {
  for (const char* name : {"north", "east", "south"}) providers.push_back(Party{name});
  self_ =
      std::make_unique<trainer::EnclaveSelf>(self_of(ledger::SigningKey::generate(), measurement));
  evaluate_ = [](std::string_view source, const Json& request, const Json& dataset,
                 const Json& ctx) { return policy::evaluate(source, request, dataset, ctx); };

  genesis_.origin = "market.example/test";
  genesis_.ledger_key = must(ledger::NoteKey::of(genesis_.origin, log_key_.public_key())).vkey();
  genesis_.treasury = treasury.account();
  genesis_.currency = "EUR";
  genesis_.evidence_roots.push_back({trainer::kInsecureSim, self_->platform.public_key()});
  genesis_.measurements.push_back(self_->measurement);
  genesis_.witness_policy = witness_policy;

  auto seed = log_key_.seed(SecretAccess{});
  auto log_key = must(ledger::SigningKey::from_seed(seed.bytes(SecretAccess{})));
  auto store = must(ledger::LedgerStore::create(folder_.file("ledger.db")));
  ledger_ =
      must(ledger::Sequencer::start(std::move(store), std::move(log_key), genesis_.origin, clock_));
  append(contracts::sign_genesis(genesis_, log_key_));
  follower_ = must(contracts::Follower::pin(must(ledger_->leaf(0)), std::nullopt,
                                            &trainer::appraise_for_market));
  market_ = follower_->market();

  keeper_ = new_keeper({});
  follow();
  CHECK(record(Kind::kBoot, Json::Object{}));
  CHECK(state().keeper());
}

trainer::EnclaveSelf MarketFixture::another_self(const ledger::SigningKey& platform,
                                                 const Digest& measurement) const {
  return self_of(platform, measurement);
}

Result<ledger::Receipt> MarketFixture::try_append(const ledger::Envelope& envelope) {
  return ledger_->append(authentic(envelope));
}

uint64_t MarketFixture::append(const ledger::Envelope& envelope) {
  clock_.advance(1000);
  return must(try_append(envelope)).seq;
}

History MarketFixture::history() const {
  return {must(ledger_->leaves(0, ledger_->size())), cosign_(ledger_->checkpoint())};
}

History MarketFixture::prefix(uint64_t size) const {
  History out = history();
  CHECK(size <= out.size());
  out.leaves.resize(size);
  std::vector<Digest> hashes;
  for (const auto& leaf : out.leaves) hashes.push_back(ledger::leaf_hash(leaf));
  ledger::Checkpoint checkpoint{genesis_.origin, size, ledger::tree_root(hashes)};
  out.checkpoint = ledger::sign_checkpoint(checkpoint, ledger_->log_key(), log_key_);
  return out;
}

History MarketFixture::rewrite(const std::vector<Bytes>& envelopes) const {
  History out;
  std::vector<Digest> hashes;
  const auto real = history().leaves;
  TimeMs time = 0;
  for (const auto& envelope : envelopes) {
    // The times of the real ledger: leaves stay the same up to the first lie.
    time = hashes.size() < real.size() ? must(ledger::decode_leaf(real[hashes.size()])).time
                                       : time + 1000;
    ledger::Leaf leaf{hashes.size(), hashes.empty() ? Digest{} : hashes.back(), time, envelope};
    out.leaves.push_back(ledger::encode_leaf(leaf));
    hashes.push_back(ledger::leaf_hash(out.leaves.back()));
  }
  ledger::Checkpoint checkpoint{genesis_.origin, out.size(), ledger::tree_root(hashes)};
  out.checkpoint = ledger::sign_checkpoint(checkpoint, ledger_->log_key(), log_key_);
  return out;
}

std::vector<Bytes> MarketFixture::envelopes() const {
  std::vector<Bytes> out;
  for (const auto& leaf : history().leaves) out.push_back(must(ledger::decode_leaf(leaf)).envelope);
  return out;
}

const contracts::MarketState& MarketFixture::state() {
  History now = history();
  if (now.size() > follower_->size()) {
    for (uint64_t seq = follower_->size(); seq < now.size(); ++seq) {
      CHECK(follower_->add(now.leaves[static_cast<size_t>(seq)]));
    }
    CHECK(follower_->confirm(now.checkpoint));
  }
  return follower_->state();
}

contracts::MarketState MarketFixture::fold(const History& history) const {
  auto follower = must(
      contracts::Follower::pin(history.leaves.front(), market_, &trainer::appraise_for_market));
  for (const auto& leaf : history.leaves) CHECK(follower.add(leaf));
  CHECK(follower.confirm(history.checkpoint));
  return follower.state();
}

std::string MarketFixture::void_of(uint64_t seq) {
  const auto& voids = state().voids();
  auto it = voids.find(seq);
  return it == voids.end() ? "" : it->second;
}

contracts::Phase MarketFixture::phase(const ContractId& contract) {
  const auto* found = state().contract(contract);
  CHECK(found);
  return found->phase;
}

std::unique_ptr<KeeperHost> MarketFixture::new_keeper(ByteView sealed) const {
  auto keeper = std::make_unique<KeeperHost>(*self_, evaluate_, [this] { return clock_.now(); });
  auto ready = keeper->begin(must(ledger_->leaf(0)), sealed);
  CHECK(ready.kind == Kind::kReady);
  return keeper;
}

Frame MarketFixture::try_keeper(ByteView sealed) const {
  KeeperHost keeper(*self_, evaluate_, [this] { return clock_.now(); });
  return keeper.begin(must(ledger_->leaf(0)), sealed);
}

void MarketFixture::restart_keeper() {
  Bytes sealed = keeper_->sealed();
  keeper_ = new_keeper(sealed);
  follow();
  CHECK(record(Kind::kBoot, Json::Object{}));
}

void MarketFixture::follow() {
  auto answer = keeper_->follow(history());
  if (answer.kind != Kind::kConfirmed) std::fprintf(stderr, "%s\n", kind_and_body(answer).c_str());
  CHECK(answer.kind == Kind::kConfirmed);
}

Result<uint64_t> MarketFixture::record(Kind kind, const Json& body) {
  follow();
  auto envelope = TRY(envelope_in(keeper_->ask(kind, body)));
  uint64_t seq = append(envelope);
  follow();
  return seq;
}

Result<uint64_t> MarketFixture::record(Kind kind, const ContractId& contract) {
  return record(kind, Json::Object{{"contract", contract}});
}

// ---- parties ------------------------------------------------------------------

void MarketFixture::deposit(const PublicKey& account, contracts::Minor minor) {
  uint64_t seq =
      append(contracts::sign_record(contracts::Deposit{account, minor}, treasury.key, market_));
  CHECK(void_of(seq).empty());
}

Offered MarketFixture::make_offer(const Party& provider, const OfferOptions& options) {
  auto salt = ledger::random_array<1>();
  return offer_of(provider, options, market_, *state().keeper(),
                  rows_file(options.rows, options.rows_number.value_or(salt[0])), 2);
}

Offered MarketFixture::publish(const Party& provider, const OfferOptions& options) {
  Offered offered = make_offer(provider, options);
  uint64_t seq = append(contracts::sign_record(offered.offer, provider.key, market_));
  CHECK(void_of(seq).empty());
  return offered;
}

contracts::TrainingSpec MarketFixture::spec() const {
  return private_spec(2, 4, 2);
}

contracts::ContractSubmit MarketFixture::contract(const std::vector<DatasetId>& datasets) const {
  contracts::ContractSubmit submit;
  submit.spec = spec();
  submit.datasets = datasets;
  submit.purpose = "research";
  submit.offered = 1000;
  submit.deadline_minutes = 60;
  submit.recipient = lab.recipient();
  return submit;
}

ContractId MarketFixture::submit(const contracts::ContractSubmit& contract) {
  auto envelope = contracts::sign_record(contract, lab.key, market_);
  uint64_t seq = append(envelope);
  CHECK(void_of(seq).empty());
  return contracts::contract_id(envelope.payload);
}

ContractId MarketFixture::escrowed(const std::vector<DatasetId>& datasets) {
  deposit(lab.account(), 1000);
  ContractId id = submit(contract(datasets));
  must(record(Kind::kDecide, id));
  if (phase(id) != contracts::Phase::kEscrowed) {
    std::fprintf(stderr, "not escrowed: %s\n",
                 canonical(contracts::members_json(*state().contract(id)->decision)).c_str());
  }
  CHECK(phase(id) == contracts::Phase::kEscrowed);
  return id;
}

// ---- enclaves -----------------------------------------------------------------

trainer::Claims MarketFixture::trainer_claims(const StandIn& enclave, const ContractId& contract,
                                              const std::string& nonce) const {
  trainer::Claims claims;
  claims.role = "trainer";
  claims.signing = enclave.signing.public_key();
  claims.kem = enclave.kem.public_key();
  claims.market = to_hex(market_);
  claims.contract = to_hex(contract);
  claims.nonce = nonce;
  claims.boot = std::string(32, '0');
  claims.measurement = self_->measurement;
  claims.sandbox = self_->sandbox;
  return claims;
}

std::string MarketFixture::challenge(const ContractId& contract) {
  follow();
  auto body = must(trainer::expect(keeper_->about(Kind::kChallenge, contract), Kind::kNonce));
  return *body.find("nonce")->string();
}

StandIn MarketFixture::stand_in(const ContractId& contract, const std::string& nonce) const {
  StandIn enclave;
  enclave.evidence =
      trainer::simulate_evidence(platform(), trainer_claims(enclave, contract, nonce));
  return enclave;
}

Frame MarketFixture::start_frame(const ContractId& contract,
                                 const contracts::Evidence& evidence) const {
  return keeper_->ask(Kind::kStart, Json::Object{{"contract", contract},
                                                 {"evidence", contracts::to_json(evidence)}});
}

StandIn MarketFixture::started(const ContractId& contract) {
  StandIn enclave = stand_in(contract, challenge(contract));
  append(must(envelope_in(start_frame(contract, enclave.evidence))));
  follow();
  CHECK(phase(contract) == contracts::Phase::kRunning);
  return enclave;
}

contracts::JobResult MarketFixture::result_of(const ContractId& id, ByteView header,
                                              ByteView payload) {
  const auto* contract = state().contract(id);
  CHECK(contract && contract->start);
  contracts::JobResult result;
  result.contract = id;
  result.job_start = contract->start_hash;
  result.model = ledger::sha256(payload);
  result.payload = ledger::sha256(payload);
  result.payload_size = static_cast<int64_t>(payload.size());
  result.header = trainer::header_digest(header);
  result.steps = contract->submit.spec.steps;
  result.epsilon_micro = 1;
  result.delta_pico = 1;
  result.spec = contract->start->spec;
  result.trainer_evidence = contracts::evidence_digest(contract->start->trainer);
  std::string info = contracts::header_wrap_info(market_, id);
  result.sealed_header = must(ledger::hpke_seal(state().keeper()->kem, as_bytes(info), {}, header));
  return result;
}

Result<contracts::Evidence> MarketFixture::prepare(TrainerLine& trainer, const ContractId& contract,
                                                   const std::string& nonce) const {
  auto genesis = TRY(ledger_->leaf(0));
  auto answer = TRY(trainer.ask(trainer::frame(
      Kind::kPrepare,
      Json::Object{{"genesis", to_base64(genesis)}, {"contract", contract}, {"nonce", nonce}})));
  auto body = TRY(trainer::expect(answer, Kind::kEvidence));
  return contracts::evidence_from_json(*body.find("evidence"));
}

Result<Frame> MarketFixture::show(TrainerLine& trainer, const History& history) const {
  auto added = TRY(trainer.ask(trainer::frame(Kind::kLeaves, leaves_body(history.leaves))));
  if (added.kind != Kind::kDone) return added;
  trainer.note_shown(history.size());
  return trainer.ask(
      trainer::frame(Kind::kConfirm, Json::Object{{"checkpoint", history.checkpoint}}));
}

Result<Frame> MarketFixture::show_more(TrainerLine& trainer, const History& history) const {
  if (trainer.shown() < history.size()) {
    auto rest = std::span(history.leaves).subspan(trainer.shown());
    auto added = TRY(trainer.ask(trainer::frame(Kind::kLeaves, leaves_body(rest))));
    if (added.kind != Kind::kDone) return added;
    trainer.note_shown(history.size());
  }
  return trainer.ask(
      trainer::frame(Kind::kConfirm, Json::Object{{"checkpoint", history.checkpoint}}));
}

namespace {

Result<Frame> send_file(TrainerLine& trainer, const Frame& announced, ByteView file) {
  // A trainer that has refused already is gone, and its answer waits to be read.
  Status sent = trainer.send(announced);
  for (size_t at = 0; sent && at < file.size(); at += trainer::kPieceBytes) {
    auto piece = file.subspan(at, std::min(trainer::kPieceBytes, file.size() - at));
    sent = trainer.send(trainer::frame_of_bytes(piece));
  }
  if (sent) sent = trainer.send(trainer::frame_of_bytes({}));
  return trainer.receive();
}

}  // namespace

Result<Frame> MarketFixture::send_dataset(TrainerLine& trainer, const DatasetId& name,
                                          ByteView file) const {
  return send_file(trainer, trainer::frame(Kind::kDataset, Json::Object{{"dataset", name}}), file);
}

Result<Frame> MarketFixture::send_initial(TrainerLine& trainer, ByteView file) const {
  return send_file(trainer, trainer::frame(Kind::kInitial, Json::Object{}), file);
}

Result<Delivery> MarketFixture::train(TrainerLine& trainer) const {
  TRY(trainer.send(trainer::frame(Kind::kTrain, Json::Object{})));
  Delivery out;
  while (true) {
    auto message = TRY(trainer.receive());
    if (message.kind == Kind::kBytes) {
      souk::append(out.payload, message.body);
    } else if (message.kind == Kind::kProgress) {
      auto shown = TRY(show_more(trainer, history()));
      if (shown.kind == Kind::kConfirmed) continue;
      out.result = TRY(envelope_in(shown));
      return out;
    } else {
      out.result = TRY(envelope_in(message));
      return out;
    }
  }
}

}  // namespace souk::flows
