#include "tests/contracts/market_world.h"

#include "ledger/crypto/hash.h"

namespace souk::contracts {
namespace {

constexpr char kBelieve[] = "believe me";

ledger::NoteKey log_vkey() {
  return *ledger::NoteKey::of(World::kOrigin, key_named("log").public_key());
}

}  // namespace

Digest digest_named(const std::string& name) {
  return ledger::sha256(as_bytes(name));
}

ledger::SigningKey key_named(const std::string& name) {
  return std::move(ledger::SigningKey::from_seed(digest_named("key " + name))).take();
}

SealingKey kem_named(const std::string& name) {
  return SealingKey(digest_named("kem " + name));
}

std::string recipient_named(char letter) {
  return "age1" + std::string(58, letter);
}

Evidence evidence_for(const std::string& role, const std::string& name) {
  Json claims = Json::Object{
      {"role", role}, {"signing", key_named(name).public_key()}, {"kem", kem_named(name)}};
  return Evidence{"test", canonical(claims), to_bytes(kBelieve)};
}

Result<AppraisedKeys> test_appraiser(const Evidence& evidence, const Genesis&, const MarketId&,
                                     const std::string& role) {
  if (evidence.kind != "test" || as_text(evidence.proof) != kBelieve) {
    return Error(Code::kUnauthentic, "expected to be believed");
  }
  auto json = TRY(parse_canonical(evidence.claims));
  auto claims = TRY(Fields::of(json, "claims"));
  auto claimed_role = TRY(claims.text("role"));
  if (claimed_role != role) return Error(Code::kUnauthentic, "expected another role");
  AppraisedKeys keys;
  keys.signing = TRY(claims.named<PublicKey>("signing"));
  keys.kem = TRY(claims.named<SealingKey>("kem"));
  return keys;
}

TrainingSpec sample_open_spec() {
  TrainingSpec spec;
  spec.input_shape = {2};
  Node linear;
  linear.units = 2;
  spec.model = {linear};
  spec.steps = 10;
  spec.batch = 8;
  spec.sampling_threshold = uint64_t{1} << 60;
  spec.learning_rate = {{10, 0.1}};
  return spec;
}

TrainingSpec sample_spec() {
  TrainingSpec spec = sample_open_spec();
  spec.privacy = PrivacySpec{1, 1, 1'000'000, 1'000'000};
  return spec;
}

Manifest sample_manifest(const std::string& name, Minor price) {
  Manifest manifest;
  manifest.name = name;
  manifest.provider_name = "Hospital";
  manifest.rows = 100;
  manifest.feature_shape = {2};
  manifest.feature_names = {"age", "weight"};
  manifest.class_names = {"well", "ill"};
  manifest.label = "state";
  manifest.ciphertext = digest_named("ciphertext " + name);
  manifest.size = 4096;
  manifest.policy = "return function() return true end";
  manifest.price = price;
  manifest.budget_epsilon_micro = 3'000'000;
  manifest.budget_delta_pico = 1'000'000;
  manifest.budget_caps = {-1, 50, 100, 200, 300, 300, 300, 300};
  manifest.salt = std::string(32, '0');
  return manifest;
}

World::World() : vkey_(log_vkey()), reader_(ledger::ChainReader::start(kOrigin, log_vkey())) {
  genesis_.origin = kOrigin;
  genesis_.ledger_key = vkey_.vkey();
  genesis_.treasury = key_named("treasury").public_key();
  genesis_.currency = "EUR";
  genesis_.evidence_roots = {{"test", key_named("root").public_key()}};
  genesis_.measurements = {digest_named("souk-enclave")};
  auto envelope = ledger::sign_envelope(log_, Genesis::kType,
                                        payload_of(genesis_, log_.public_key(), "", next_nonce()));
  market_ = market_id(envelope.payload);
  CHECK(record(envelope).empty());
  CHECK(record(boot("keeper"), "keeper").empty());
}

std::string World::record(const Record& record, const std::string& author, std::string nonce) {
  if (nonce.empty()) nonce = next_nonce();
  return this->record(sign_record(record, key_named(author), market_, std::move(nonce)));
}

std::string World::record(const ledger::Envelope& envelope) {
  append(envelope);
  for (const auto& entry : confirm()) fold(entry);
  auto found = state_.voids().find(state_.size() - 1);
  return found == state_.voids().end() ? "" : found->second;
}

std::string World::next_nonce() {
  auto text = std::to_string(++nonces_);
  return "f" + std::string(31 - text.size(), '0') + text;
}

void World::append(const ledger::Envelope& envelope) {
  ledger::Leaf leaf;
  leaf.seq = reader_.size();
  leaf.prev = reader_.last_leaf();
  leaf.time = now_;
  leaf.envelope = to_bytes(canonical(to_json(envelope)));
  leaves_.push_back(ledger::encode_leaf(leaf));
  auto added = reader_.add(leaves_.back());
  if (!added) std::fprintf(stderr, "%s\n", added.error().expected().c_str());
  CHECK(added);
}

std::string World::checkpoint() const {
  return ledger::sign_checkpoint({kOrigin, reader_.size(), reader_.root()}, vkey_, log_);
}

std::vector<ledger::RecordedEntry> World::confirm() {
  auto entries = reader_.confirm(checkpoint());
  CHECK(entries);
  return std::move(entries).take();
}

MarketState World::replay(size_t batch) const {
  return replay(batch, MarketState(test_appraiser));
}

MarketState World::replay(size_t batch, MarketState from) const {
  auto reader = ledger::ChainReader::start(kOrigin, vkey_);
  for (size_t i = 0; i < leaves_.size(); ++i) {
    CHECK(reader.add(leaves_[i]));
    if ((i + 1) % batch != 0 && i + 1 != leaves_.size()) continue;
    auto note = ledger::sign_checkpoint({kOrigin, reader.size(), reader.root()}, vkey_, log_);
    auto entries = reader.confirm(note);
    CHECK(entries);
    for (const auto& entry : *entries) {
      if (entry.seq() == from.size()) from = apply(std::move(from), entry);
    }
  }
  return from;
}

KeeperBoot World::boot(const std::string& name) const {
  return {kem_named(name), evidence_for("keeper", name)};
}

DatasetOffer World::offer(const std::string& name, Minor price) const {
  return {sample_manifest(name, price), Bytes(64, 7), state_.keeper()->evidence};
}

ContractSubmit World::submit(const std::vector<DatasetId>& datasets, Minor offered) const {
  ContractSubmit submit;
  submit.spec = sample_spec();
  submit.datasets = datasets;
  submit.purpose = "research";
  submit.region = "EU";
  submit.offered = offered;
  submit.deadline_minutes = 60;
  submit.recipient = recipient_named('q');
  return submit;
}

ContractDecision World::allow(const ContractId& id) const {
  ContractDecision decision = deny(id);
  decision.allow = true;
  decision.status = "allowed";
  decision.obligations = Json::Object{{"max_steps", 10}};
  if (const Contract* contract = state_.contract(id)) {
    bool waived = !contract->submit.spec.privacy;
    for (const auto& dataset : contract->submit.datasets) {
      Grant grant{dataset, state_.dataset(dataset)->manifest.price};
      grant.waived = waived;
      if (!waived) {
        grant.charges = {1, 10, 20, 30, 40, 50, 60, 70};
        grant.epsilon_micro = 900'000;
      }
      decision.price += grant.price;
      decision.grants.push_back(grant);
    }
  }
  return decision;
}

ContractDecision World::deny(const ContractId& id) const {
  ContractDecision decision;
  decision.contract = id;
  decision.status = "denied";
  decision.head_size = state_.size();
  decision.head_root = state_.root();
  return decision;
}

JobStart World::start(const ContractId& id, const std::string& trainer) const {
  const Contract& contract = *state_.contract(id);
  JobStart start;
  start.contract = id;
  start.decision = contract.decision_hash;
  start.trainer = evidence_for("trainer", trainer);
  start.receipt_key = key_named(trainer).public_key();
  start.trainer_kem = kem_named(trainer);
  start.spec = spec_hash(contract.submit.spec);
  start.recipient = contract.submit.recipient;
  if (contract.decision) start.obligations = contract.decision->obligations;
  for (const auto& dataset : contract.submit.datasets) {
    const Manifest& manifest = state_.dataset(dataset)->manifest;
    start.inputs.push_back({dataset, manifest.ciphertext, manifest.size, manifest.rows});
    start.wraps.push_back({dataset, Bytes(64, 9)});
  }
  return start;
}

JobResume World::resume(const ContractId& id, uint32_t steps) const {
  const Contract& contract = *state_.contract(id);
  const uint32_t before = contract.resume ? contract.resume->attempt : 0;
  return {id, contract.start_hash, before + 1, steps, std::string(32, 'b')};
}

JobResult World::result(const ContractId& id) const {
  const Contract& contract = *state_.contract(id);
  JobResult result;
  result.contract = id;
  result.job_start = contract.start_hash;
  result.model = digest_named("model");
  result.payload = digest_named("payload");
  result.payload_size = 1000;
  result.header = digest_named("header");
  result.steps = contract.submit.spec.steps;
  result.epsilon_micro = 900'000;
  result.delta_pico = 1'000'000;
  result.spec = spec_hash(contract.submit.spec);
  if (contract.start) result.trainer_evidence = evidence_digest(contract.start->trainer);
  result.sealed_header = Bytes(250, 3);
  return result;
}

JobStop World::stop(const ContractId& id, uint32_t steps) const {
  const Contract& contract = *state_.contract(id);
  JobStop stop;
  stop.contract = id;
  stop.job_start = contract.start_hash;
  stop.steps = steps;
  int64_t whole = contract.submit.spec.steps;
  for (const auto& dataset : contract.submit.datasets) stop.spent.push_back({dataset});
  if (!contract.decision || !contract.decision->allow) return stop;
  for (size_t i = 0; i < stop.spent.size(); ++i) {
    const Grant& grant = contract.decision->grants[i];
    auto share = [&](int64_t of) { return (of * steps + whole - 1) / whole; };
    for (size_t order = 0; order < grant.charges.size(); ++order) {
      stop.spent[i].charges[order] = share(grant.charges[order]);
    }
    stop.spent[i].epsilon_micro = share(grant.epsilon_micro);
  }
  return stop;
}

void World::fund(const std::string& consumer, Minor minor) {
  CHECK(record(Deposit{key_named(consumer).public_key(), minor}, "treasury").empty());
}

DatasetId World::publish(const std::string& provider, const std::string& name, Minor price) {
  auto offered = offer(name, price);
  CHECK(record(offered, provider).empty());
  return dataset_id(offered.manifest);
}

ContractId World::order(const std::string& consumer, const std::vector<DatasetId>& datasets,
                        Minor offered) {
  auto envelope =
      sign_record(submit(datasets, offered), key_named(consumer), market_, next_nonce());
  CHECK(record(envelope).empty());
  return contract_id(envelope.payload);
}

}  // namespace souk::contracts
