#include "trainer/keeper/keeper.h"

#include <time.h>

#include <set>
#include <utility>

#include "ledger/crypto/hash.h"
#include "ledger/crypto/random.h"
#include "policy/decide/canonical.h"
#include "trainer/data/age.h"
#include "trainer/keeper/permit.h"
#include "trainer/keeper/sealed_state.h"
#include "trainer/pipe/channel.h"
#include "trainer/session/sealing.h"
#include "trainer/wire/pieces.h"

namespace souk::trainer {
namespace {

Frame done() {
  return frame(Kind::kDone, Json::Object{});
}

Result<ContractId> contract_in(const Json& body) {
  auto fields = TRY(Fields::of(body, "request"));
  auto contract = TRY(fields.named<ContractId>("contract"));
  TRY(fields.done());
  return contract;
}

// Whose ciphertext the host says it does not hold. It can withhold every one anyway.
Result<std::set<DatasetId>> unavailable_in(Fields& fields) {
  std::set<DatasetId> out;
  if (!fields.has("unavailable")) return out;
  const auto* list = TRY(fields.array("unavailable", contracts::kMaxDatasets));
  for (const auto& item : *list) {
    if (!item.string()) return Error(Code::kMalformed, "unavailable: expected ids");
    out.insert(TRY(named_from_hex<DatasetId>(*item.string())));
  }
  return out;
}

Status nothing_in(const Json& body) {
  auto fields = TRY(Fields::of(body, "request"));
  return fields.done();
}

}  // namespace

LocalTime boot_time() {
  return [] {
    timespec now{};
    CHECK(clock_gettime(CLOCK_BOOTTIME, &now) == 0);
    return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
  };
}

Keeper::Keeper(const EnclaveSelf& self, EvaluatePolicy evaluate, LocalTime local_time)
    : self_(self),
      evaluate_(std::move(evaluate)),
      boot_(to_hex(ByteView(ledger::random_array<16>()))),
      key_(ledger::SigningKey::generate()),
      local_time_(std::move(local_time)) {}

Status Keeper::serve(Channel& channel) {
  while (true) {
    auto request = channel.receive();
    if (!request) return std::move(request).take_error();
    TRY(channel.send(answer(*request)));
  }
}

Frame Keeper::answer(const Frame& request) {
  auto out = handle(request);
  if (!out) return refusal(out.error());
  return std::move(out).take();
}

Result<Frame> Keeper::handle(const Frame& request) {
  if (request.kind == Kind::kBytes) return take_piece(request.body);
  auto body = TRY(parse_canonical(as_text(request.body), kMaxFrame));
  if (request.kind == Kind::kBegin) return begin(body);
  TRY(ready());
  switch (request.kind) {
    case Kind::kLeaves:
      return leaves(body);
    case Kind::kConfirm:
      return confirm(body);
    case Kind::kBoot:
      return boot(body);
    case Kind::kSealed:
      return sealed_piece(body);
    default:
      break;
  }
  TRY(serving());
  switch (request.kind) {
    case Kind::kAttest:
      return attest(body);
    case Kind::kDecide:
      return decide(body);
    case Kind::kQuote:
      return quote(body);
    case Kind::kChallenge:
      return challenge(body);
    case Kind::kStart:
      return start(body);
    case Kind::kAbort:
      return abort_job(body);
    case Kind::kTick:
      return tick(body);
    case Kind::kRelease:
      return release(body);
    case Kind::kTryPolicy:
      return try_policy(body);
    default:
      return Error(Code::kMalformed, "expected a request to a keeper");
  }
}

Status Keeper::ready() const {
  if (!follower_) return Error(Code::kConflict, "expected kBegin first");
  return Done{};
}

// A keeper on a ledger that has gone on without it must not speak for it: somebody has
// started another from its sealed state. With witnesses, neither may one that has not seen
// a quorum cosign its own fresh boot: what it knows could be yesterday's.
Status Keeper::serving() const {
  if (superseded_) {
    return Error(Code::kConflict, "keeper: another one has booted on this ledger after this one");
  }
  if (follower_->quorum() && !booted_) {
    return Error(Code::kTryAgain,
                 "keeper: expected its own boot under a checkpoint of a quorum of witnesses");
  }
  return Done{};
}

// What cannot be taken back is done on a view that a quorum held for the newest just now.
Status Keeper::fresh() const {
  if (follower_->quorum() && !freshness_.younger_than(kLeaseMs, local_time_())) {
    return Error(Code::kTryAgain, "keeper: expected a checkpoint that witnesses cosigned within " +
                                      std::to_string(kLeaseMs / 1000) + " s");
  }
  return Done{};
}

// The ledger's time is the host's, who may let it stand still; the witnesses' goes on.
Status Keeper::in_time(const ContractId& id) const {
  const auto* contract = follower_->state().contract(id);
  if (contract && contract->deadline <= decision_time().ms) {
    return Error(Code::kRefused, "expected a contract whose deadline has not come");
  }
  return Done{};
}

void Keeper::notice_boots(std::optional<TimeMs> witnessed) {
  if (witnessed) freshness_.saw(*witnessed);
  const auto& keeper = follower_->state().keeper();
  if (!keeper) return;
  auto own = own_boots_.find(keeper->evidence);
  if (own == own_boots_.end()) {
    superseded_ = superseded_ || booted_;
    return;
  }
  if (witnessed && own->second >= 0) {
    freshness_.anchor(own->second, *witnessed);
    own->second = -1;  // later cosignatures say nothing about when it was made
  }
  booted_ = true;
}

DecisionTime Keeper::decision_time() const {
  if (follower_->quorum()) return {freshness_.witnessed(), kWitnessedTime};
  return {follower_->state().time(), kHostTime};
}

Result<Frame> Keeper::begin(const Json& body) {
  if (follower_) return Error(Code::kConflict, "expected kBegin once");
  auto fields = TRY(Fields::of(body, "begin"));
  auto genesis = TRY(fields.base64("genesis"));
  auto sealed = TRY(fields.base64("sealed"));
  TRY(fields.done());
  auto follower = TRY(contracts::Follower::pin(genesis, std::nullopt, &appraise_for_market));
  follower_.emplace(std::move(follower));
  auto restored = std::exchange(restored_, {});
  if (!sealed.empty() || !restored.empty()) {
    auto pieces = sealed.empty() ? Result(std::move(restored)) : split_pieces(sealed);
    auto opened = pieces ? unseal(*pieces) : Status(pieces.error());
    if (!opened) {
      follower_.reset();
      return std::move(opened).take_error();
    }
  }
  return frame(Kind::kReady,
               Json::Object{{"measurement", self_.measurement}, {"sandbox", self_.sandbox}});
}

// All or nothing: after a refusal nothing is pending, so that a history which was
// refused in the middle cannot be confirmed from there.
Result<Frame> Keeper::leaves(const Json& body) {
  auto added = add_leaves(body);
  if (!added) {
    follower_->discard_pending();
    return std::move(added).take_error();
  }
  return done();
}

// The ledger must pass exactly through what was sealed: the same root at the same size.
Status Keeper::add_leaves(const Json& body) {
  auto fields = TRY(Fields::of(body, "leaves"));
  const auto* list = TRY(fields.array("leaves", 1 << 20));
  TRY(fields.done());
  for (const auto& item : *list) {
    if (!item.string()) return Error(Code::kMalformed, "leaves: expected base64");
    auto leaf = TRY(from_base64(*item.string()));
    TRY(follower_->add(leaf));
    if (follower_->size() == memory_.size && follower_->root() != memory_.root) {
      return Error(Code::kUnauthentic,
                   "ledger: at size " + std::to_string(memory_.size) +
                       " expected the history this keeper has confirmed before");
    }
  }
  return Done{};
}

Result<Frame> Keeper::confirm(const Json& body) {
  auto fields = TRY(Fields::of(body, "confirm"));
  auto note = TRY(fields.text("checkpoint", 1 << 16));
  TRY(fields.done());
  if (follower_->size() < memory_.size) {
    follower_->discard_pending();
    return Error(Code::kUnauthentic, "ledger: expected at least " + std::to_string(memory_.size) +
                                         " entries, as confirmed before");
  }
  auto witnessed = follower_->witnessed(note);
  if (!witnessed) {
    follower_->discard_pending();
    return std::move(witnessed).take_error();
  }
  if (*witnessed && follower_->last_time() > **witnessed + kMaxAheadMs) {
    follower_->discard_pending();
    return Error(Code::kTryAgain, "ledger: expected no time later than the witnesses' own");
  }
  TRY(follower_->confirm(note));
  notice_boots(*witnessed);
  vault_.follow(follower_->state());
  memory_.size = follower_->confirmed_size();
  memory_.root = follower_->confirmed_root();
  for (auto it = memory_.starts.begin(); it != memory_.starts.end();) {
    const auto* contract = follower_->state().contract(it->first);
    bool open = contract && contract->phase == contracts::Phase::kEscrowed;
    it = open ? std::next(it) : memory_.starts.erase(it);
  }
  return frame(Kind::kConfirmed,
               sealed(Json::Object{{"size", memory_.size}, {"boot", vault_.wants_boot()}}));
}

contracts::Evidence Keeper::evidence(const SealingKey& kem, const std::string& nonce) const {
  Claims claims;
  claims.role = "keeper";
  claims.signing = key_.public_key();
  claims.kem = kem;
  claims.market = to_hex(follower_->market());
  claims.nonce = nonce;
  claims.boot = boot_;
  claims.measurement = self_.measurement;
  claims.sandbox = self_.sandbox;
  return simulate_evidence(self_.platform, claims);
}

Result<Frame> Keeper::attest(const Json& body) {
  auto fields = TRY(Fields::of(body, "attest"));
  auto nonce = TRY(fields.text("nonce", 64));
  TRY(fields.done());
  return frame(Kind::kEvidence,
               Json::Object{{"evidence", contracts::to_json(evidence(vault_.kem(), nonce))}});
}

Frame Keeper::envelope(const ledger::Envelope& envelope) {
  std::string text = canonical(ledger::to_json(envelope));
  return frame(Kind::kEnvelope, sealed(Json::Object{{"envelope", to_base64(as_bytes(text))}}));
}

Result<Frame> Keeper::boot(const Json& body) {
  TRY(nothing_in(body));
  contracts::KeeperBoot record;
  record.kem = vault_.boot_kem();
  record.evidence = evidence(record.kem, to_hex(ByteView(ledger::random_array<32>())));
  own_boots_[contracts::evidence_digest(record.evidence)] = local_time_();
  return envelope(contracts::sign_record(record, key_, follower_->market()));
}

Result<Frame> Keeper::decide(const Json& body) {
  auto fields = TRY(Fields::of(body, "decide"));
  auto id = TRY(fields.named<ContractId>("contract"));
  auto unavailable = TRY(unavailable_in(fields));
  TRY(fields.done());
  TRY(fresh());
  const auto& state = follower_->state();
  const auto* contract = state.contract(id);
  // One whose deadline came first is refused all the same: no attempt is without its decision.
  bool late = contract && contract->phase == contracts::Phase::kExpired && !contract->decision;
  if (!contract || (contract->phase != contracts::Phase::kSubmitted && !late)) {
    return Error(Code::kConflict, "expected a contract that waits for its decision");
  }
  auto decision = decide_contract(state, follower_->confirmed_size(), follower_->confirmed_root(),
                                  id, contract->consumer, contract->submit, decision_time(),
                                  evaluate_, unavailable);
  return envelope(contracts::sign_record(decision, key_, follower_->market()));
}

Result<Frame> Keeper::quote(const Json& body) {
  auto fields = TRY(Fields::of(body, "quote"));
  auto consumer = TRY(fields.named<PublicKey>("consumer"));
  const Json* submit_json = TRY(fields.any("submit"));
  auto unavailable = TRY(unavailable_in(fields));
  TRY(fields.done());
  auto read = TRY(contracts::members_from_json(contracts::ContractSubmit::kType, *submit_json));
  const auto& submit = std::get<contracts::ContractSubmit>(read);
  Digest digest = ledger::sha256(as_bytes(canonical(*submit_json)));
  auto decision = decide_contract(follower_->state(), follower_->confirmed_size(),
                                  follower_->confirmed_root(), ContractId(digest), consumer, submit,
                                  decision_time(), evaluate_, unavailable);
  return frame(Kind::kDecision, Json::Object{{"decision", contracts::members_json(decision)}});
}

Result<Frame> Keeper::challenge(const Json& body) {
  auto id = TRY(contract_in(body));
  TRY(fresh());
  TRY(in_time(id));
  TRY(permit(follower_->state(), id));
  std::string nonce = to_hex(ByteView(ledger::random_array<32>()));
  challenges_[id] = nonce;
  return frame(Kind::kNonce, Json::Object{{"nonce", nonce}});
}

// Keys leave here: with a permit, to an appraised trainer, once for a contract.
Result<Frame> Keeper::start(const Json& body) {
  auto fields = TRY(Fields::of(body, "start"));
  auto id = TRY(fields.named<ContractId>("contract"));
  const Json* evidence_json = TRY(fields.any("evidence"));
  TRY(fields.done());
  auto presented = TRY(contracts::evidence_from_json(*evidence_json));
  TRY(fresh());
  TRY(in_time(id));
  const auto& state = follower_->state();
  auto allowed = TRY(permit(state, id));
  auto challenge = challenges_.find(id);
  if (challenge == challenges_.end()) return Error(Code::kConflict, "expected kChallenge first");
  if (memory_.starts.count(id) != 0) {
    return Error(Code::kConflict, "expected the job.start that was signed before to be recorded");
  }
  auto trainer = TRY(appraise(presented, Expected{follower_->genesis(), follower_->market(),
                                                  "trainer", challenge->second, id}));
  challenges_.erase(challenge);

  const auto& contract = *state.contract(id);
  contracts::JobStart record;
  record.contract = id;
  record.decision = allowed.decision();
  record.trainer = presented;
  record.receipt_key = trainer.claims().signing;
  record.trainer_kem = trainer.claims().kem;
  record.spec = contracts::spec_hash(contract.submit.spec);
  record.recipient = contract.submit.recipient;
  record.obligations = contract.decision->obligations;
  for (const auto& dataset_id : contract.submit.datasets) {
    const auto* dataset = state.dataset(dataset_id);
    if (!dataset) return Error(Code::kBroken, "expected the dataset of an escrowed contract");
    record.inputs.push_back(
        {dataset_id, dataset->manifest.ciphertext, dataset->manifest.size, dataset->manifest.rows});
    record.wraps.push_back(TRY(release_key(allowed, trainer, state, dataset_id, vault_)));
  }
  memory_.starts[id] = to_hex(ByteView(trainer.evidence_digest()));
  return envelope(contracts::sign_record(record, key_, follower_->market()));
}

Result<Frame> Keeper::abort_job(const Json& body) {
  auto fields = TRY(Fields::of(body, "abort"));
  contracts::JobAbort record;
  record.contract = TRY(fields.named<ContractId>("contract"));
  record.reason = TRY(fields.text("reason", 64));
  if (fields.has("dataset")) record.dataset = TRY(fields.named<DatasetId>("dataset"));
  TRY(fields.done());
  const auto* contract = follower_->state().contract(record.contract);
  if (!contract || (contract->phase != contracts::Phase::kRunning &&
                    contract->phase != contracts::Phase::kStopping &&
                    contract->phase != contracts::Phase::kEscrowed)) {
    return Error(Code::kConflict, "expected a job that is under way");
  }
  return envelope(contracts::sign_record(record, key_, follower_->market()));
}

Result<Frame> Keeper::tick(const Json& body) {
  TRY(nothing_in(body));
  return envelope(contracts::sign_record(contracts::Tick{}, key_, follower_->market()));
}

// A text that answers nobody is no policy. The market's host asks before it records one.
Result<Frame> Keeper::try_policy(const Json& body) {
  auto fields = TRY(Fields::of(body, "request"));
  auto source = TRY(fields.text("source", policy::kMaxSourceBytes));
  const Json* parameters = TRY(fields.any("parameters"));
  TRY(fields.done());
  auto text = TRY(policy::with_parameters(source, *parameters));
  TRY(policy::answers_canonical([&](const Json& request, const Json& dataset, const Json& ctx) {
    return evaluate_(text, request, dataset, ctx);
  }));
  return done();
}

// Idempotent: the header of a settled contract, to whoever asks; only its recipient
// can use it.
Result<Frame> Keeper::release(const Json& body) {
  auto id = TRY(contract_in(body));
  TRY(fresh());
  const auto* contract = follower_->state().contract(id);
  if (!contract) return Error(Code::kNotFound, "expected this contract on the ledger");
  if (contract->phase != contracts::Phase::kSettled || !contract->result) {
    return Error(Code::kConflict, std::string("expected a settled contract, this one is ") +
                                      contracts::phase_name(contract->phase));
  }
  if (contract->destroyed) {
    return Error(Code::kRefused, "expected a model whose policy was not revoked with its results");
  }
  auto header = TRY(vault_.header(follower_->state(), *contract));
  if (header_digest(header) != contract->result->header) {
    return Error(Code::kUnauthentic, "expected the header that job.result names");
  }
  return frame_of_bytes(header);
}

// The newest state, for an answer: in it where one piece is all, else to be asked for.
Json::Object Keeper::sealed(Json::Object with) {
  Json::Object starts;
  for (const auto& [id, evidence_hex] : memory_.starts) starts[to_hex(id)] = evidence_hex;
  auto key = key_.seed(SecretAccess{});
  std::string plain = canonical(Json::Object{{"key", to_hex(ByteView(key.bytes(SecretAccess{})))},
                                             {"size", memory_.size},
                                             {"root", memory_.root},
                                             {"starts", std::move(starts)},
                                             {"vault", vault_.to_json(SecretAccess{})}});
  sealed_ =
      seal_state(sealing_key(self_, kKeeperSeal), to_hex(follower_->market()), as_bytes(plain));
  if (sealed_.size() == 1) {
    with["sealed"] = to_base64(framed_piece(sealed_.front()));
  } else {
    with["sealed"] = "";
    with["pieces"] = sealed_.size();
  }
  return with;
}

Result<Frame> Keeper::sealed_piece(const Json& body) {
  auto fields = TRY(Fields::of(body, "request"));
  auto index = static_cast<size_t>(TRY(fields.integer("index", 0, kMaxSealedPieces)));
  TRY(fields.done());
  if (index >= sealed_.size()) return Error(Code::kNotFound, "expected a piece of sealed state");
  return frame_of_bytes(sealed_[index]);
}

Result<Frame> Keeper::take_piece(const Bytes& piece) {
  if (follower_) return Error(Code::kConflict, "expected pieces of sealed state before kBegin");
  if (restored_.size() >= kMaxSealedPieces || piece.size() > kMaxInlineSealed) {
    return Error(Code::kMalformed, "expected pieces of sealed state");
  }
  restored_.push_back(piece);
  return done();
}

Status Keeper::unseal(const std::vector<Bytes>& pieces) {
  auto plain =
      TRY(open_state(sealing_key(self_, kKeeperSeal), to_hex(follower_->market()), pieces));
  auto json = TRY(parse_canonical(as_text(plain), kSealedPieceBytes * kMaxSealedPieces));
  auto fields = TRY(Fields::of(json, "sealed"));
  auto key = TRY(fields.hex("key"));
  Memory memory;
  memory.size = static_cast<uint64_t>(TRY(fields.integer("size")));
  memory.root = TRY(fields.digest("root"));
  const Json* starts = TRY(fields.any("starts"));
  const Json* vault_json = TRY(fields.any("vault"));
  TRY(fields.done());
  auto vault = TRY(Vault::from_json(*vault_json));
  if (!starts->object()) return Error(Code::kMalformed, "sealed.starts: expected an object");
  for (const auto& [id, evidence_hex] : *starts->object()) {
    if (!evidence_hex.string()) return Error(Code::kMalformed, "sealed.starts: expected texts");
    memory.starts[TRY(named_from_hex<ContractId>(id))] = *evidence_hex.string();
  }
  key_ = TRY(ledger::SigningKey::from_seed(key));
  vault_ = std::move(vault);
  memory_ = std::move(memory);
  return Done{};
}

}  // namespace souk::trainer
