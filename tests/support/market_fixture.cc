#include "tests/support/market_fixture.h"

#include <signal.h>
#include <sys/socket.h>

#include <cmath>
#include <cstdlib>

#include "ledger/crypto/hash.h"
#include "ledger/crypto/random.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/store/store.h"
#include "policy/decide/decide.h"
#include "policy/privacy/accountant.h"
#include "policy/privacy/budget.h"
#include "trainer/data/table.h"
#include "trainer/wire/pieces.h"

namespace souk::flows {
namespace {

using trainer::Frame;
using trainer::Kind;

constexpr int kPatienceMs = 60'000;

template <class T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "an honest step failed: %s: %s\n", code_name(result.error().code()),
                 result.error().expected().c_str());
  }
  CHECK(result);
  return std::move(result).take();
}

trainer::EnclaveSelf self_of(const ledger::SigningKey& platform, const Digest& measurement) {
  auto seed = platform.seed(SecretAccess{});
  return {must(ledger::SigningKey::from_seed(seed.bytes(SecretAccess{}))), measurement,
          "seccomp,test"};
}

// Two classes, apart along the first feature.
Bytes small_dataset(uint32_t rows, uint64_t salt) {
  trainer::Dataset dataset;
  std::vector<float> features;
  for (uint32_t row = 0; row < rows; ++row) {
    int64_t label = row % 2;
    features.push_back((label == 1 ? 1.0F : -1.0F) + 0.01F * static_cast<float>(row));
    features.push_back(static_cast<float>(salt % 97) / 97.0F);
    dataset.labels.push_back(label);
  }
  dataset.features = std::move(features);
  dataset.schema.feature_shape = {2};
  dataset.schema.feature_names = {"feature 0", "feature 1"};
  dataset.schema.label_name = "kind";
  dataset.schema.classes = {"benign", "malignant"};
  return must(trainer::dataset_to_safetensors(dataset));
}

std::array<int, 2> two_ends() {
  signal(SIGPIPE, SIG_IGN);
  std::array<int, 2> ends{};
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
  return ends;
}

Json leaves_body(std::span<const Bytes> leaves) {
  Json::Array list;
  for (const auto& leaf : leaves) list.push_back(to_base64(leaf));
  return Json::Object{{"leaves", std::move(list)}};
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

std::string kind_and_body(const Frame& frame) {
  std::string out = "kind " + std::to_string(static_cast<int>(frame.kind));
  if (frame.kind != Kind::kBytes) out += " " + to_text(frame.body);
  return out;
}

std::optional<Code> refused(const Frame& frame) {
  if (frame.kind != Kind::kRefused) return std::nullopt;
  auto body = trainer::expect(frame, Kind::kDone);
  CHECK(!body);
  return body.error().code();
}

std::string refusal_message(const Frame& frame) {
  CHECK(frame.kind == Kind::kRefused);
  auto body = trainer::expect(frame, Kind::kDone);
  return body.error().expected();
}

Result<ledger::Envelope> envelope_in(const Frame& frame) {
  Kind kind =
      frame.kind == Kind::kResult || frame.kind == Kind::kStopped ? frame.kind : Kind::kEnvelope;
  auto body = TRY(trainer::expect(frame, kind));
  auto fields = TRY(Fields::of(body, "envelope"));
  auto bytes = TRY(fields.base64("envelope"));
  auto json = TRY(parse_canonical(as_text(bytes)));
  return ledger::envelope_from_json(json);
}

Bytes envelope_bytes(const ledger::Envelope& envelope) {
  return to_bytes(canonical(ledger::to_json(envelope)));
}

ledger::AuthenticEntry authentic(const ledger::Envelope& envelope) {
  return must(ledger::authenticate(must(ledger::SignedEntry::decode(envelope_bytes(envelope)))));
}

// ---- keeper -------------------------------------------------------------------

KeeperHost::KeeperHost(const trainer::EnclaveSelf& self, trainer::EvaluatePolicy evaluate,
                       trainer::LocalTime local_time)
    : keeper_(self, std::move(evaluate), std::move(local_time)) {}

// The keeper's word, through the bytes of the wire; its sealed state is kept.
Frame KeeperHost::noted(Frame answer) {
  answer = must(trainer::decode(trainer::encode(answer)));
  if (answer.kind == Kind::kConfirmed || answer.kind == Kind::kEnvelope) {
    auto body = must(parse_canonical(as_text(answer.body), trainer::kMaxFrame));
    sealed_ = must(from_base64(*body.find("sealed")->string()));
    const Json* pieces = body.find("pieces");
    for (int64_t index = 0; pieces && index < *pieces->integer(); ++index) {
      auto piece = keeper_.answer(trainer::frame(Kind::kSealed, Json::Object{{"index", index}}));
      CHECK(piece.kind == Kind::kBytes);
      append(sealed_, trainer::framed_piece(piece.body));
    }
  }
  return answer;
}

Frame KeeperHost::ask(Kind kind, const Json& body) {
  return noted(keeper_.answer(must(trainer::decode(trainer::encode(trainer::frame(kind, body))))));
}

Frame KeeperHost::about(Kind kind, const ContractId& contract) {
  return ask(kind, Json::Object{{"contract", contract}});
}

Frame KeeperHost::begin(ByteView genesis_leaf, ByteView sealed) {
  if (sealed.size() > trainer::kMaxInlineSealed) {
    for (const auto& piece : must(trainer::split_pieces(sealed))) {
      auto taken = keeper_.answer(trainer::frame_of_bytes(piece));
      if (taken.kind != Kind::kDone) return taken;
    }
    sealed = {};
  }
  return ask(Kind::kBegin,
             Json::Object{{"genesis", to_base64(genesis_leaf)}, {"sealed", to_base64(sealed)}});
}

Frame KeeperHost::leaves(std::span<const Bytes> leaves) {
  return ask(Kind::kLeaves, leaves_body(leaves));
}

Frame KeeperHost::confirm(const std::string& note) {
  return ask(Kind::kConfirm, Json::Object{{"checkpoint", note}});
}

Frame KeeperHost::follow(const History& history) {
  auto added = leaves(std::span(history.leaves).subspan(fed_));
  if (added.kind != Kind::kDone) return added;
  auto answer = confirm(history.checkpoint);
  if (answer.kind == Kind::kConfirmed) fed_ = history.size();
  return answer;
}

// ---- trainer ------------------------------------------------------------------

Status TrainerLine::send(const Frame& frame) {
  return channel_.send(frame);
}

Result<Frame> TrainerLine::receive() {
  auto frame = TRY(channel_.receive(kPatienceMs));
  heard_.push_back(frame);
  return frame;
}

Result<Frame> TrainerLine::ask(const Frame& frame) {
  TRY(send(frame));
  return receive();
}

void TrainerLine::hang_up() {
  shutdown(channel_.fd(), SHUT_RDWR);
}

TrainerThread::TrainerThread(const trainer::EnclaveSelf& self) : TrainerThread(self, two_ends()) {}

TrainerThread::TrainerThread(const trainer::EnclaveSelf& self, std::array<int, 2> ends)
    : TrainerLine(trainer::Channel(ends[0])) {
  thread_ = std::thread([this, &self, fd = ends[1]] {
    trainer::Channel channel(fd);
    auto workers = trainer::Workers::start(1);
    CHECK(workers);
    ended_.emplace(trainer::run_trainer(channel, self, **workers));
  });
}

TrainerThread::~TrainerThread() {
  if (thread_.joinable()) {
    auto ended = finish();
    (void)ended;
  }
}

Status TrainerThread::finish() {
  hang_up();
  thread_.join();
  return *ended_;
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

Offered offer_of(const Party& provider, const OfferOptions& options, const MarketId& market,
                 const contracts::Keeper& keeper, ByteView plain, uint32_t features) {
  auto file_key = trainer::FileKey::random();
  SealingKey own = provider.age.recipient();
  Bytes file = must(trainer::make_header(file_key, std::span(&own, 1)));
  append(file, trainer::encrypt_payload(file_key, plain));

  contracts::Manifest manifest;
  manifest.name = "cells of " + provider.name;
  manifest.provider_name = provider.name;
  manifest.rows = options.rows;
  manifest.feature_shape = {features};
  for (uint32_t i = 0; i < features; ++i)
    manifest.feature_names.push_back("feature " + std::to_string(i));
  if (options.name_classes) manifest.class_names = {"benign", "malignant"};
  manifest.label = "kind";
  manifest.ciphertext = ledger::sha256(file);
  manifest.size = static_cast<int64_t>(file.size());
  manifest.policy = options.policy;
  manifest.price = options.price;
  manifest.user_cap = options.user_cap;
  manifest.budget_epsilon_micro = options.budget_epsilon_micro;
  manifest.budget_delta_pico = options.budget_delta_pico;
  manifest.budget_caps = policy::caps_for(options.budget_epsilon_micro, options.budget_delta_pico);
  manifest.salt = to_hex(ByteView(ledger::random_array<16>()));

  contracts::DatasetOffer offer;
  offer.manifest = manifest;
  offer.keeper_evidence = keeper.evidence;
  DatasetId id = contracts::dataset_id(manifest);
  std::string info =
      contracts::dataset_wrap_info(market, id, provider.account(),
                                   contracts::policy_hash(manifest.policy), offer.keeper_evidence);
  offer.wrap =
      must(ledger::hpke_seal(keeper.kem, as_bytes(info), {}, file_key.bytes(SecretAccess{})));
  return {id, std::move(offer), std::move(file), std::move(file_key)};
}

Offered MarketFixture::make_offer(const Party& provider, const OfferOptions& options) {
  auto salt = ledger::random_array<1>();
  return offer_of(provider, options, market_, *state().keeper(),
                  small_dataset(options.rows, options.rows_number.value_or(salt[0])), 2);
}

Offered MarketFixture::publish(const Party& provider, const OfferOptions& options) {
  Offered offered = make_offer(provider, options);
  uint64_t seq = append(contracts::sign_record(offered.offer, provider.key, market_));
  CHECK(void_of(seq).empty());
  return offered;
}

contracts::TrainingSpec private_spec(uint32_t features, uint32_t steps, double noise) {
  contracts::TrainingSpec spec;
  spec.input_shape = {features};
  spec.classes = 2;
  contracts::Node linear;
  linear.op = contracts::Node::Op::kLinear;
  linear.units = 2;
  spec.model = {linear};
  spec.steps = steps;
  spec.batch = 8;
  spec.sampling_threshold = uint64_t{1} << 61;  // q = 1/8
  spec.learning_rate = {{steps, 0.5}};
  contracts::PrivacySpec privacy;
  privacy.clip = 1;
  privacy.noise_multiplier = noise;
  privacy.delta_pico = 10'000'000;
  policy::Event event{policy::rate_from_threshold(spec.sampling_threshold), noise, steps};
  privacy.epsilon_micro = policy::epsilon_micro_up(must(policy::epsilon_upper(event, 1e-5))) + 1000;
  spec.privacy = privacy;
  CHECK(contracts::check_spec(spec));
  return spec;
}

contracts::TrainingSpec pooled_spec() {
  auto spec = private_spec(2, 40, 2);
  spec.privacy->pool = {{1, spec.privacy->epsilon_micro, spec.sampling_threshold},
                        {0.25, spec.privacy->epsilon_micro / 2, uint64_t{1} << 58}};
  CHECK(contracts::check_spec(spec));
  return spec;
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
