#include "trainer/session/session.h"

#include <algorithm>
#include <chrono>
#include <memory>

#include "ledger/crypto/hash.h"
#include "ledger/crypto/random.h"
#include "policy/decide/obligations.h"
#include "policy/privacy/budget.h"
#include "trainer/audit/one_run.h"
#include "trainer/data/age.h"
#include "trainer/engine/engine.h"
#include "trainer/engine/wipe.h"
#include "trainer/session/endings.h"
#include "trainer/session/kept_run.h"
#include "trainer/session/row_pool.h"
#include "trainer/session/sealing.h"
#include "trainer/session/two_slots.h"
#include "trainer/weights/initial_weights.h"

namespace souk::trainer {
namespace {

constexpr uint32_t kProgressReports = 20;
constexpr std::string_view kSealContext = "souk/training-seal/v1\n";
constexpr std::chrono::milliseconds kKeptEvery{50};

class Session {
  using Steady = std::chrono::steady_clock;

 public:
  Session(Channel& channel, const EnclaveSelf& self, Workers& workers, std::span<uint8_t> shared)
      : channel_(channel), self_(self), workers_(workers), shared_(shared) {}

  Status run() {
    TRY(begin());
    TRY(read_ledger());
    auto work = find_work();
    if (taken_up_) {
      auto announced = work ? announce(*work) : Status(std::move(work).take_error());
      if (!announced) return refuse(std::move(announced).take_error());
    } else {
      // Withdrawn before its first step: the reservation is free again.
      if (work && work->contract->phase == contracts::Phase::kStopping)
        return sign_stop(stop_after(follower_->state(), *work->contract, 0));
      TRY(confirm());
      if (!work) return refuse(std::move(work).take_error());
    }
    if (work->contract->submit.spec.initial) {
      auto loaded = load_initial(*work);
      if (!loaded) return refuse(std::move(loaded).take_error());
      TRY(channel_.send(frame(Kind::kDone, Json::Object{})));
    }
    for (const auto& input : work->start->inputs) {
      auto loaded = load(*work, input);
      if (!loaded) return refuse(std::move(loaded).take_error());
      if (*loaded == Loaded::kMissing) {
        // What was begun before this process nobody has counted: it cannot say that nothing was.
        if (taken_up_) return refuse(Error(Code::kNotFound, "expected every dataset's bytes"));
        return stop_unbegun(*work, input.dataset);
      }
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
  };

  // The host learns a code and nothing else.
  Status refuse(Error error) {
    auto sent = channel_.send(refusal(Error(error.code(), "")));
    (void)sent;  // there is nobody else to tell
    return error;
  }

  // A run of its own, or one that another process of this program has left.
  Status begin() {
    auto message = TRY(channel_.receive());
    taken_up_ = message.kind == Kind::kTakeUp;
    auto body = TRY(expect(message, taken_up_ ? Kind::kTakeUp : Kind::kPrepare));
    auto fields = TRY(Fields::of(body, taken_up_ ? "take up" : "prepare"));
    auto genesis = TRY(fields.base64("genesis"));
    contract_ = TRY(fields.named<ContractId>("contract"));
    std::string nonce;
    if (!taken_up_) nonce = TRY(fields.text("nonce", 64));
    TRY(fields.done());
    follower_.emplace(TRY(contracts::Follower::pin(genesis, std::nullopt, &appraise_for_market)));
    const std::string market = to_hex(follower_->market()), contract = to_hex(contract_);
    if (!shared_.empty()) {
      slots_.emplace(shared_, sealing_key(self_, std::string(kSealContext) + contract),
                     market + contract);
    }
    boot_ = to_hex(ByteView(ledger::random_array<16>()));
    if (taken_up_) {
      auto opened = open_kept();
      if (!opened) return refuse(std::move(opened).take_error());
    } else {
      Claims claims;
      claims.role = "trainer";
      claims.signing = kept_.receipt_key.public_key();
      claims.kem = kept_.kem.public_key();
      claims.market = market;
      claims.contract = contract;
      claims.nonce = nonce;
      claims.boot = boot_;
      claims.measurement = self_.measurement;
      claims.sandbox = self_.sandbox;
      kept_.evidence = simulate_evidence(self_.platform, claims);
      kept_.machine = machine_class();
      TRY(keep());  // before anybody can start a job for these keys
    }
    return channel_.send(
        frame(Kind::kEvidence, Json::Object{{"evidence", contracts::to_json(kept_.evidence)}}));
  }

  // Another machine would come to other bits by the same noise, and their difference tells.
  Status open_kept() {
    if (!slots_) return Error(Code::kNotFound, "expected a sealed state");
    Bytes plain = TRY(slots_->read());
    auto kept = kept_run_from(plain);
    wipe(plain.data(), plain.size());
    kept_ = TRY(std::move(kept));
    if (kept_.machine != machine_class())
      return Error(Code::kRefused, "expected the kind of machine that the run began on");
    auto json = TRY(parse_canonical(kept_.evidence.claims));
    auto claims = TRY(claims_from_json(json));
    if (claims.sandbox != self_.sandbox)
      return Error(Code::kRefused, "expected the sandbox that the evidence speaks of");
    least_ = {kept_.ledger_size, kept_.ledger_root};
    return Done{};
  }

  // What would be needed to go on from here, to where it outlives this process. Not more often than
  // costs two hundredths of the time.
  Status keep(const TrainingRun* run = nullptr) {
    if (!slots_) return Done{};
    const auto began = Steady::now();
    if (run) kept_.steps = run->steps_done();
    kept_.ledger_size = follower_->confirmed_size();
    kept_.ledger_root = follower_->confirmed_root();
    Bytes plain = to_bytes(kept_, run ? run->state_bytes() : 0, SecretAccess{});
    if (run) TRY(run->append_state(plain));
    if (slots_->holds(plain.size())) {
      slots_->write(plain);
    } else {
      slots_.reset();  // a host that leaves no room has a run that ends with this process
    }
    wipe(plain.data(), plain.size());
    const auto now = Steady::now();
    keep_again_ = now + std::max<Steady::duration>(kKeptEvery, 50 * (now - began));
    return Done{};
  }

  // Steps from one report to the next.
  static uint32_t report_every(const Work& work) {
    return std::max(1U, work.contract->submit.spec.steps / kProgressReports);
  }

  // Of one state one process goes on: the one that the ledger counts next.
  Status announce(const Work& work) {
    const auto& contract = *work.contract;
    if (contract.phase != contracts::Phase::kRunning)
      return Error(Code::kRefused, "expected a contract that is still running");
    const uint32_t counted = contract.resume ? contract.resume->attempt : 0;
    // It is sealed as the next one's before that is signed: a death in between leaves it so.
    bool newest = kept_.attempt == counted || kept_.attempt == counted + 1;
    if (contract.resume && kept_.steps < contract.resume->steps) newest = false;
    if (!newest) return Error(Code::kConflict, "expected the newest state of the run");
    kept_.attempt = counted + 1;
    TRY(keep());
    contracts::JobResume resume;
    resume.contract = contract_;
    resume.job_start = contract.start_hash;
    resume.attempt = kept_.attempt;
    // As far as was reported: how fast steps go between two reports is nobody's to see.
    resume.steps = kept_.steps - kept_.steps % report_every(work);
    resume.boot = boot_;
    TRY(send_signed(Kind::kResumed, resume));
    TRY(read_ledger());
    const auto* now = follower_->state().contract(contract_);
    if (!now || now->phase != contracts::Phase::kRunning || !is_mine(*now))
      return Error(Code::kConflict, "expected the ledger to name this process");
    return confirm();
  }

  // Whether the ledger has the run go on in this process.
  bool is_mine(const contracts::Contract& contract) const {
    return taken_up_ ? contract.resume && contract.resume->boot == boot_ : !contract.resume;
  }

  Status confirm() {
    return channel_.send(frame(
        Kind::kConfirmed, Json::Object{{"size", follower_->confirmed_size()}, {"sealed", ""}}));
  }

  Status send_signed(Kind kind, const contracts::Record& record) {
    auto envelope = contracts::sign_record(record, kept_.receipt_key, follower_->market());
    std::string text = canonical(ledger::to_json(envelope));
    return channel_.send(frame(kind, Json::Object{{"envelope", to_base64(as_bytes(text))}}));
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
      if (follower_->confirmed_size() < least_.size)
        return refuse(Error(Code::kUnauthentic, "expected the ledger that the run has seen"));
      return Done{};
    }
  }

  // A checkpoint of the run: the ledger as it stands now says whether it goes on. A host that
  // keeps a revocation back gains a result that comes after it on the ledger, and is void.
  Result<bool> goes_on(const Work& work, const TrainingRun& run) {
    TRY(read_ledger());
    const auto* contract = follower_->state().contract(contract_);
    if (contract && !is_mine(*contract))
      return Error(Code::kConflict, "expected a run that no other process goes on with");
    if (contract && contract->phase == contracts::Phase::kRunning) {
      TRY(confirm());
      return true;
    }
    if (!contract || contract->phase != contracts::Phase::kStopping || taken_up_) {
      return Error(Code::kRefused, "expected a contract that is still running");
    }
    TRY(sign_stop(stop_after(follower_->state(), *work.contract, run.steps_done())));
    return false;
  }

  // No step was begun, nothing was made of the rows, and what ended the run is that the host's
  // bytes are not those that job.start names: neither says anything about a row.
  Status stop_unbegun(const Work& work, const DatasetId& missing) {
    auto stop = stop_after(follower_->state(), *work.contract, 0);
    stop.missing = missing;
    return sign_stop(stop);
  }

  Status sign_stop(const contracts::JobStop& stop) { return send_signed(Kind::kStopped, stop); }

  Status add_leaves(const Frame& message) {
    auto body = TRY(expect(message, Kind::kLeaves));
    auto fields = TRY(Fields::of(body, "leaves"));
    const auto* leaves = TRY(fields.array("leaves", 1 << 20));
    for (const auto& item : *leaves) {
      if (!item.string()) return Error(Code::kMalformed, "leaves: expected base64");
      auto leaf = TRY(from_base64(*item.string()));
      TRY(follower_->add(leaf));
      if (follower_->size() == least_.size && follower_->root() != least_.root)
        return Error(Code::kUnauthentic, "expected the ledger that the run has seen");
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
    if (start.receipt_key != kept_.receipt_key.public_key() ||
        start.trainer_kem != kept_.kem.public_key() ||
        contracts::evidence_digest(start.trainer) != contracts::evidence_digest(kept_.evidence)) {
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
    // The header goes to the keeper that signed the start, and to none that a host booted over it
    // afterwards; whoever takes the run up comes after the boots of a host that began anew.
    if (!taken_up_ && (!state.keeper() || state.keeper()->seq > contract->start_seq))
      return Error(Code::kRefused, "expected the keeper that signed job.start");
    const bool audited = obligations.audit.has_value() && contract->submit.spec.privacy.has_value();
    auto kept = std::make_shared<const contracts::Contract>(*contract);
    return Work{kept, &*kept->start, audited, recipient};
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
                                             contracts::evidence_digest(kept_.evidence));
    auto key_bytes = TRY(ledger::hpke_open(kept_.kem, as_bytes(info), {}, wrap->sealed));
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
    TRY(pool_.add(work.contract->submit.spec, input, follower_->state().dataset(input.dataset),
                  std::move(dataset)));
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

  Status train(const Work& work) {
    const auto& spec = work.contract->submit.spec;
    const Examples rows = pool_.examples();
    auto run = TRY(TrainingRun::create(spec, rows, kept_.root.clone(SecretAccess{}), workers_,
                                       initial_ ? &*initial_ : nullptr));
    if (work.audited) {
      auto shape = TRY(contracts::check_spec(spec));
      TRY(run.plant_canaries(canaries_for(rows.labels.size(), shape.trained, spec.batch)));
    }
    if (!kept_.state.empty()) TRY(run.restore(kept_.state));
    wipe(kept_.state.data(), kept_.state.size());
    Bytes().swap(kept_.state);  // from here on it is the run's
    TRY(keep(&run));
    const uint32_t every = report_every(work);
    while (run.steps_done() < spec.steps) {
      TRY(run.step());
      if (slots_ && Steady::now() >= keep_again_) TRY(keep(&run));
      const bool due = run.steps_done() % every == 0;
      if (due) {
        int64_t spent = spec.privacy ? policy::epsilon_micro_up(run.epsilon_spent()) : 0;
        TRY(channel_.send(frame(
            Kind::kProgress, Json::Object{{"step", run.steps_done()}, {"epsilon_micro", spent}})));
      }
      // A host that has a revocation to show need not wait for the next report.
      if (!due && !channel_.readable(0)) continue;
      bool on = TRY(goes_on(work, run));
      if (!on) return Done{};  // no model, and nobody takes up what has ended
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

  // The age payload to the host, then the receipt.
  Status deliver(const Work& work, const Model& model, int64_t spent,
                 const std::optional<contracts::JobAudit>& audit) {
    auto package = TRY(
        package_model(follower_->market(), *work.contract, work.recipient, model, spent, audit));
    const ByteView payload(package.payload);
    for (size_t at = 0; at < payload.size(); at += kPieceBytes) {
      TRY(channel_.send(
          frame_of_bytes(payload.subspan(at, std::min(kPieceBytes, payload.size() - at)))));
    }
    return send_signed(Kind::kResult, package.result);
  }

  Channel& channel_;
  const EnclaveSelf& self_;
  Workers& workers_;
  ContractId contract_;
  std::span<uint8_t> shared_;
  std::optional<TwoSlots> slots_;  // where the host keeps a state for this run
  KeptRun kept_;
  bool taken_up_ = false;
  std::string boot_;  // of this process, 32 hex
  struct Least {
    uint64_t size = 0;
    Digest root{};
  };
  Least least_;  // of the ledger, that the run has seen before
  Steady::time_point keep_again_;
  std::optional<contracts::Follower> follower_;
  std::optional<Model> initial_;  // where the specification names weights
  RowPool pool_;
};

}  // namespace

Status run_trainer(Channel& channel, const EnclaveSelf& self, Workers& workers,
                   std::span<uint8_t> shared) {
  return Session(channel, self, workers, shared).run();
}

}  // namespace souk::trainer
