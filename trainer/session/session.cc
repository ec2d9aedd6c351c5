#include "trainer/session/session.h"

#include <algorithm>
#include <map>
#include <memory>

#include "ledger/crypto/hash.h"
#include "ledger/crypto/random.h"
#include "policy/decide/obligations.h"
#include "policy/privacy/budget.h"
#include "policy/privacy/run.h"
#include "trainer/audit/one_run.h"
#include "trainer/data/age.h"
#include "trainer/data/safetensors.h"
#include "trainer/data/table.h"
#include "trainer/engine/engine.h"
#include "trainer/weights/initial_weights.h"

namespace souk::trainer {
namespace {

constexpr size_t kMaxEmbeddedSpec = 256 << 10;  // of the header's 1 MiB
constexpr uint32_t kProgressReports = 20;

// The rows of all datasets, one after another in the contract's order.
struct Pool {
  std::vector<float> floats;
  std::vector<uint8_t> bytes;
  bool of_bytes = false;
  std::vector<int64_t> labels;
  std::vector<std::string> classes;
  std::vector<uint64_t> parts;  // rows of each
};

class Session {
 public:
  Session(Channel& channel, const EnclaveSelf& self, Workers& workers)
      : channel_(channel),
        self_(self),
        workers_(workers),
        receipt_key_(ledger::SigningKey::generate()),
        kem_(ledger::KemKey::generate()) {}

  Status run() {
    TRY(prepare());
    TRY(read_ledger());
    auto work = find_work();
    // Withdrawn before its first step: the reservation is free again.
    if (work && work->contract->phase == contracts::Phase::kStopping)
      return sign_stop(stop_of(*work, 0));
    TRY(channel_.send(frame(Kind::kConfirmed,
                            Json::Object{{"size", follower_->confirmed_size()}, {"sealed", ""}})));
    if (!work) return refuse(std::move(work).take_error());
    if (work->contract->submit.spec.initial) {
      auto loaded = load_initial(*work);
      if (!loaded) return refuse(std::move(loaded).take_error());
      TRY(channel_.send(frame(Kind::kDone, Json::Object{})));
    }
    for (const auto& input : work->start->inputs) {
      auto loaded = load(*work, input);
      if (!loaded) return refuse(std::move(loaded).take_error());
      if (*loaded == Loaded::kMissing) return stop_unbegun(*work, input.dataset);
      TRY(channel_.send(frame(Kind::kDone, Json::Object{})));
    }
    auto message = TRY(channel_.receive());
    auto body = TRY(expect(message, Kind::kTrain));
    auto fields = TRY(Fields::of(body, "train"));
    TRY(fields.done());  // a run takes nothing from its host: its randomness least of all
    auto trained = train(*work);
    if (!trained) return refuse(std::move(trained).take_error());
    return Done{};
  }

 private:
  // What the ledger says this process is to do.
  struct Work {
    std::shared_ptr<const contracts::Contract> contract;  // as it stood at the start
    const contracts::JobStart* start;                     // its
    bool audited;  // the obligations ask for it, and there is privacy to audit
    SealingKey recipient;
    SealingKey keeper_kem;
  };

  // The host learns a code and nothing else.
  Status refuse(Error error) {
    auto sent = channel_.send(refusal(Error(error.code(), "")));
    (void)sent;  // there is nobody else to tell
    return error;
  }

  Status prepare() {
    auto message = TRY(channel_.receive());
    auto body = TRY(expect(message, Kind::kPrepare));
    auto fields = TRY(Fields::of(body, "prepare"));
    auto genesis = TRY(fields.base64("genesis"));
    contract_ = TRY(fields.named<ContractId>("contract"));
    auto nonce = TRY(fields.text("nonce", 64));
    TRY(fields.done());
    follower_.emplace(TRY(contracts::Follower::pin(genesis, std::nullopt, &appraise_for_market)));

    Claims claims;
    claims.role = "trainer";
    claims.signing = receipt_key_.public_key();
    claims.kem = kem_.public_key();
    claims.market = to_hex(follower_->market());
    claims.contract = to_hex(contract_);
    claims.nonce = nonce;
    claims.boot = to_hex(ByteView(ledger::random_array<16>()));
    claims.measurement = self_.measurement;
    claims.sandbox = self_.sandbox;
    evidence_ = simulate_evidence(self_.platform, claims);
    return channel_.send(
        frame(Kind::kEvidence, Json::Object{{"evidence", contracts::to_json(evidence_)}}));
  }

  // Up to and with the host's kConfirm, which the caller answers.
  Status read_ledger() {
    while (true) {
      auto message = TRY(channel_.receive());
      if (message.kind == Kind::kLeaves) {
        auto added = add_leaves(message);
        if (!added) return refuse(std::move(added).take_error());
        TRY(channel_.send(frame(Kind::kDone, Json::Object{})));
        continue;
      }
      auto body = TRY(expect(message, Kind::kConfirm));
      auto fields = TRY(Fields::of(body, "confirm"));
      auto note = TRY(fields.text("checkpoint", 1 << 16));
      // Where the market has witnesses, a start is none before a quorum has cosigned it.
      auto witnessed = follower_->witnessed(note);
      if (!witnessed) return refuse(std::move(witnessed).take_error());
      auto confirmed = follower_->confirm(note);
      if (!confirmed) return refuse(std::move(confirmed).take_error());
      return Done{};
    }
  }

  // A checkpoint of the run: the ledger as it stands now says whether it goes on. A host that
  // keeps a revocation back gains a result that comes after it on the ledger, and is void.
  Result<bool> goes_on(const Work& work, const TrainingRun& run) {
    TRY(read_ledger());
    const auto* contract = follower_->state().contract(contract_);
    if (contract && contract->phase == contracts::Phase::kRunning) {
      TRY(channel_.send(frame(
          Kind::kConfirmed, Json::Object{{"size", follower_->confirmed_size()}, {"sealed", ""}})));
      return true;
    }
    if (!contract || contract->phase != contracts::Phase::kStopping) {
      return Error(Code::kRefused, "expected a contract that is still running");
    }
    TRY(sign_stop(stop_of(work, static_cast<uint32_t>(run.steps_done()))));
    return false;
  }

  // No step was begun, nothing was made of the rows, and what ended the run is that the host's
  // bytes are not those that job.start names: neither says anything about a row.
  Status stop_unbegun(const Work& work, const DatasetId& missing) {
    auto stop = stop_of(work, 0);
    stop.missing = missing;
    return sign_stop(stop);
  }

  Status sign_stop(const contracts::JobStop& stop) {
    auto envelope = contracts::sign_record(stop, receipt_key_, follower_->market());
    std::string text = canonical(ledger::to_json(envelope));
    return channel_.send(
        frame(Kind::kStopped, Json::Object{{"envelope", to_base64(as_bytes(text))}}));
  }

  // What `steps` of the run cost each dataset's people, by the keeper's own arithmetic.
  contracts::JobStop stop_of(const Work& work, uint32_t steps) const {
    const auto& spec = work.contract->submit.spec;
    contracts::JobStop stop;
    stop.contract = contract_;
    stop.job_start = work.contract->start_hash;
    stop.steps = steps;
    const auto& grants = work.contract->decision->grants;
    for (size_t i = 0; i < grants.size(); ++i) {
      const auto& grant = grants[i];
      contracts::JobStop::Spent spent{grant.dataset};
      if (!grant.waived && steps > 0) {
        const auto& manifest = follower_->state().dataset(grant.dataset)->manifest;
        spent.charges = policy::charges_for(
            policy::event_of_run(spec, i, steps, static_cast<uint32_t>(manifest.user_cap)));
        auto epsilon = policy::epsilon_of_run(spec, i, steps);
        spent.epsilon_micro =
            epsilon ? std::min(policy::epsilon_micro_up(*epsilon), grant.epsilon_micro)
                    : grant.epsilon_micro;
        for (size_t order = 0; order < spent.charges.size(); ++order) {
          spent.charges[order] = std::min(spent.charges[order], grant.charges[order]);
        }
      }
      stop.spent.push_back(spent);
    }
    return stop;
  }

  Status add_leaves(const Frame& message) {
    auto body = TRY(expect(message, Kind::kLeaves));
    auto fields = TRY(Fields::of(body, "leaves"));
    const auto* leaves = TRY(fields.array("leaves", 1 << 20));
    for (const auto& item : *leaves) {
      if (!item.string()) return Error(Code::kMalformed, "leaves: expected base64");
      auto leaf = TRY(from_base64(*item.string()));
      TRY(follower_->add(leaf));
    }
    return Done{};
  }

  // The job.start on this ledger must be ours in every part, and the specification no
  // weaker than what the decision obliges to.
  Result<Work> find_work() {
    const auto& state = follower_->state();
    const auto* contract = state.contract(contract_);
    bool runs = contract && (contract->phase == contracts::Phase::kRunning ||
                             contract->phase == contracts::Phase::kStopping);
    if (!runs || !contract->start) {
      return Error(Code::kRefused, "expected a running contract with its job.start recorded");
    }
    const auto& start = *contract->start;
    if (start.receipt_key != receipt_key_.public_key() || start.trainer_kem != kem_.public_key() ||
        contracts::evidence_digest(start.trainer) != contracts::evidence_digest(evidence_)) {
      return Error(Code::kRefused, "expected a job.start that names this process");
    }
    Digest spec = contracts::spec_hash(contract->submit.spec);
    if (start.spec != spec || start.recipient != contract->submit.recipient) {
      return Error(Code::kRefused, "expected the contract's specification and recipient");
    }
    auto obligations = TRY(policy::obligations_from_json(start.obligations));
    TRY(policy::check_obligations(contract->submit.spec, obligations));
    const auto& grants = contract->decision->grants;
    for (size_t i = 0; i < grants.size(); ++i) {
      if (!grants[i].obligations) continue;
      auto own = TRY(policy::obligations_from_json(*grants[i].obligations));
      TRY(policy::check_obligations(contract->submit.spec, own, i));
    }
    auto recipient = TRY(recipient_from_text(start.recipient));
    // The header goes to the keeper that signed the start, and to none that a host
    // booted over it afterwards.
    if (!state.keeper() || state.keeper()->seq > contract->start_seq) {
      return Error(Code::kRefused, "expected the keeper that signed job.start");
    }
    const bool audited = obligations.audit.has_value() && contract->submit.spec.privacy.has_value();
    auto kept = std::make_shared<const contracts::Contract>(*contract);
    return Work{kept, &*kept->start, audited, recipient, state.keeper()->kem};
  }

  // Public weights, before any row is opened: what is wrong with them says nothing about rows.
  Status load_initial(const Work& work) {
    auto message = TRY(channel_.receive());
    TRY(expect(message, Kind::kInitial));
    Bytes file;
    while (true) {
      auto piece = TRY(channel_.receive());
      if (piece.kind != Kind::kBytes) return Error(Code::kMalformed, "expected initial weights");
      if (piece.body.empty()) break;
      if (file.size() + piece.body.size() > kMaxInitialBytes)
        return Error(Code::kExhausted, "expected at most 256 MiB of initial weights");
      append(file, piece.body);
    }
    initial_ = TRY(initial_weights_from(work.contract->submit.spec, file));
    return Done{};
  }

  enum class Loaded : uint8_t { kWhole, kMissing };

  // One dataset, read once, from its first byte to its last. kMissing where the host has not
  // brought the bytes that job.start names, whatever became of those it brought.
  Result<Loaded> load(const Work& work, const contracts::JobStart::Input& input) {
    auto message = TRY(channel_.receive());
    if (message.kind == Kind::kMissing) return missing(message, input);
    auto body = TRY(expect(message, Kind::kDataset));
    auto fields = TRY(Fields::of(body, "dataset"));
    auto id = TRY(fields.named<DatasetId>("dataset"));
    TRY(fields.done());
    if (id != input.dataset)
      return Error(Code::kRefused, "expected the contract's datasets in order");

    auto wrap = std::find_if(work.start->wraps.begin(), work.start->wraps.end(),
                             [&](const auto& w) { return w.dataset == id; });
    if (wrap == work.start->wraps.end())
      return Error(Code::kNotFound, "expected a wrap of this dataset");
    auto info = contracts::trainer_wrap_info(follower_->market(), contract_, id,
                                             contracts::evidence_digest(evidence_));
    auto key_bytes = TRY(ledger::hpke_open(kem_, as_bytes(info), {}, wrap->sealed));
    auto key_array = TRY(fixed<16>(key_bytes));
    auto file_key = FileKey::copy_of(key_array);

    ledger::Sha256 digest;
    Bytes header;
    bool header_done = false;
    Bytes plain;
    auto keep = [&](ByteView piece) { append(plain, piece); };
    auto decryptor = PayloadDecryptor::start(file_key);
    auto open = [&](ByteView piece) -> Status {
      if (header_done) return decryptor.update(piece, keep);
      append(header, piece);
      auto length = find_header_length(header);
      if (!length && length.error().code() == Code::kTryAgain) return Done{};
      if (!length) return std::move(length).take_error();
      Bytes rest(header.begin() + static_cast<ptrdiff_t>(*length), header.end());
      header.resize(*length);
      TRY(verify_header(header, file_key));
      header_done = true;
      return decryptor.update(rest, keep);
    };
    // Bytes that do not open are read to their end: only all of them tell whose fault it is.
    Status opened = Done{};
    while (true) {
      auto piece = TRY(channel_.receive());
      if (piece.kind == Kind::kMissing) {
        sodium_wipe(plain);
        return missing(piece, input);
      }
      if (piece.kind != Kind::kBytes) return Error(Code::kMalformed, "expected ciphertext");
      if (piece.body.empty()) break;
      digest.update(piece.body);
      if (opened) opened = open(piece.body);
    }
    if (digest.finish() != input.ciphertext) {
      sodium_wipe(plain);
      return Loaded::kMissing;
    }
    TRY(std::move(opened));
    TRY(decryptor.finish(keep));
    // Under privacy no row decides whether the run goes on: neighbouring datasets end alike.
    const bool privately = work.contract->submit.spec.privacy.has_value();
    auto dataset =
        TRY(dataset_from_safetensors(plain, privately ? Values::kClamped : Values::kChecked));
    sodium_wipe(plain);
    TRY(add_to_pool(work, input, std::move(dataset)));
    return Loaded::kWhole;
  }

  static Result<Loaded> missing(const Frame& message, const contracts::JobStart::Input& input) {
    auto body = TRY(expect(message, Kind::kMissing));
    auto fields = TRY(Fields::of(body, "missing"));
    auto id = TRY(fields.named<DatasetId>("dataset"));
    TRY(fields.done());
    if (id != input.dataset)
      return Error(Code::kRefused, "expected the contract's datasets in order");
    return Loaded::kMissing;
  }

  static void sodium_wipe(Bytes& bytes) {
    volatile uint8_t* p = bytes.data();
    for (size_t i = 0; i < bytes.size(); ++i) p[i] = 0;
    bytes.clear();
  }

  Status add_to_pool(const Work& work, const contracts::JobStart::Input& input, Dataset dataset) {
    const auto& spec = work.contract->submit.spec;
    if (dataset.rows() != static_cast<uint64_t>(input.rows)) {
      return Error(Code::kMalformed, "expected as many rows as the offer says");
    }
    uint64_t features = 1;
    for (uint32_t side : spec.input_shape) features *= side;
    // Classes that the offer does not name are nobody's to learn from whether a private run
    // settles: the contract says how many there are, and a label past them is the first class.
    const auto* offered = follower_->state().dataset(input.dataset);
    bool unnamed = spec.privacy && offered && offered->manifest.class_names.empty();
    bool fits = unnamed || dataset.schema.classes.size() == spec.classes;
    if (dataset.feature_count() != features || !fits) {
      return Error(Code::kMalformed, "expected rows of the specification's shape and classes");
    }
    if (unnamed) {
      for (auto& label : dataset.labels) {
        if (label < 0 || label >= int64_t{spec.classes}) label = 0;
      }
    }
    bool bytes = std::holds_alternative<std::vector<uint8_t>>(dataset.features);
    if (pool_.labels.empty()) pool_.of_bytes = bytes;
    if (pool_.classes.empty() && !unnamed) pool_.classes = dataset.schema.classes;
    bool same = unnamed || pool_.classes == dataset.schema.classes;
    if (pool_.of_bytes != bytes || !same) {
      return Error(Code::kMalformed, "expected datasets of one kind with the same classes");
    }
    auto& f = dataset.features;
    if (bytes) {
      const auto& more = std::get<std::vector<uint8_t>>(f);
      pool_.bytes.insert(pool_.bytes.end(), more.begin(), more.end());
    } else {
      const auto& more = std::get<std::vector<float>>(f);
      pool_.floats.insert(pool_.floats.end(), more.begin(), more.end());
    }
    pool_.labels.insert(pool_.labels.end(), dataset.labels.begin(), dataset.labels.end());
    pool_.parts.push_back(dataset.rows());
    return Done{};
  }

  Status train(const Work& work) {
    const auto& spec = work.contract->submit.spec;
    Examples rows{pool_.of_bytes ? Features(std::span<const uint8_t>(pool_.bytes))
                                 : Features(std::span<const float>(pool_.floats)),
                  pool_.labels, pool_.parts};
    auto run = TRY(TrainingRun::create(spec, rows, NoiseRoot::random(), workers_,
                                       initial_ ? &*initial_ : nullptr));
    if (work.audited) {
      auto shape = TRY(contracts::check_spec(spec));
      TRY(run.plant_canaries(canaries_for(pool_.labels.size(), shape.trained, spec.batch)));
    }
    uint32_t every = std::max(1u, spec.steps / kProgressReports);
    while (run.steps_done() < spec.steps) {
      TRY(run.step());
      const bool due = run.steps_done() % every == 0;
      if (due) {
        int64_t spent = spec.privacy ? policy::epsilon_micro_up(run.epsilon_spent()) : 0;
        TRY(channel_.send(frame(
            Kind::kProgress, Json::Object{{"step", run.steps_done()}, {"epsilon_micro", spent}})));
      }
      // A host that has a revocation to show need not wait for the next report.
      if (!due && !channel_.readable(0)) continue;
      bool on = TRY(goes_on(work, run));
      if (!on) return Done{};  // no model, and nothing of the run outlives this process
    }
    int64_t spent = spec.privacy ? policy::epsilon_micro_up(run.epsilon_spent()) : 0;
    auto model = TRY(run.finish());
    std::optional<contracts::JobAudit> audit;
    if (run.canaries()) {
      // Of the canaries alone: their coordinates hold nothing of the rows.
      auto figures =
          one_run_figures(*run.canaries(), static_cast<double>(spec.privacy->delta_pico) * 1e-12);
      audit = contracts::JobAudit{static_cast<int64_t>(figures.examples),
                                  policy::epsilon_micro_down(figures.epsilon_lower),
                                  policy::epsilon_micro_up(figures.epsilon_gdp)};
    }
    return deliver(work, model, spent, audit);
  }

  // The age payload to the host, its header sealed to the keeper, the receipt signed.
  Status deliver(const Work& work, const Model& model, int64_t spent,
                 const std::optional<contracts::JobAudit>& audit) {
    std::vector<Tensor> tensors;
    for (const auto& tensor : model.tensors) {
      TensorShape shape;
      for (int64_t side : tensor.shape) shape.push_back(static_cast<uint64_t>(side));
      tensors.push_back({tensor.name, Dtype::kF32, shape,
                         ByteView(reinterpret_cast<const uint8_t*>(tensor.values.data()),
                                  tensor.values.size() * sizeof(float))});
    }
    TensorMetadata metadata{{"contract", to_hex(contract_)}};
    // So that the file can be used alone. A specification of many constants stays outside.
    std::string spec = canonical(contracts::to_json(work.contract->submit.spec));
    if (spec.size() <= kMaxEmbeddedSpec) metadata.emplace("spec", std::move(spec));
    auto plain = TRY(write_safetensors(tensors, metadata));
    auto file_key = FileKey::random();
    auto header = TRY(make_header(file_key, std::span(&work.recipient, 1)));
    Bytes payload = encrypt_payload(file_key, plain);

    contracts::JobResult result;
    result.contract = contract_;
    result.job_start = work.contract->start_hash;
    result.model = ledger::sha256(plain);
    result.payload = ledger::sha256(payload);
    result.payload_size = static_cast<int64_t>(payload.size());
    result.header = header_digest(header);
    result.steps = work.contract->submit.spec.steps;
    result.epsilon_micro = spent;
    result.delta_pico =
        work.contract->submit.spec.privacy ? work.contract->submit.spec.privacy->delta_pico : 0;
    result.audit = audit;
    result.spec = work.start->spec;
    result.trainer_evidence = contracts::evidence_digest(evidence_);
    auto info = contracts::header_wrap_info(follower_->market(), contract_);
    result.sealed_header = TRY(ledger::hpke_seal(work.keeper_kem, as_bytes(info), {}, header));

    for (size_t at = 0; at < payload.size(); at += kPieceBytes) {
      TRY(channel_.send(frame_of_bytes(
          ByteView(payload).subspan(at, std::min(kPieceBytes, payload.size() - at)))));
    }
    auto envelope = contracts::sign_record(result, receipt_key_, follower_->market());
    std::string text = canonical(ledger::to_json(envelope));
    return channel_.send(
        frame(Kind::kResult, Json::Object{{"envelope", to_base64(as_bytes(text))}}));
  }

  Channel& channel_;
  const EnclaveSelf& self_;
  Workers& workers_;
  ledger::SigningKey receipt_key_;
  ledger::KemKey kem_;
  ContractId contract_;
  contracts::Evidence evidence_;
  std::optional<contracts::Follower> follower_;
  std::optional<Model> initial_;  // where the specification names weights
  Pool pool_;
};

}  // namespace

Status run_trainer(Channel& channel, const EnclaveSelf& self, Workers& workers) {
  return Session(channel, self, workers).run();
}

}  // namespace souk::trainer
