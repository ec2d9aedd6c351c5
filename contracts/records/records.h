// The bodies of ledger entries. contracts/SPEC.md gives each member. Every body
// is one canonical JSON object with the common members author, market, nonce
// (ledger/entry) and its own; unknown members are refused.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "contracts/training/spec.h"
#include "ledger/base/clock.h"
#include "ledger/base/named.h"
#include "ledger/codec/json.h"
#include "ledger/entry/entry.h"

namespace souk::contracts {

// Minor units of the one currency that genesis names: 0 ... kMaxJsonInteger.
using Minor = int64_t;

inline constexpr size_t kMaxDatasets = 16;              // of one contract
inline constexpr size_t kMaxInitialJobs = 16;           // likewise
inline constexpr int64_t kMaxDeadlineMinutes = 10'080;  // a week
inline constexpr size_t kMaxPolicyBytes = 32'768;
inline constexpr size_t kMaxWitnessPolicyBytes = 16'384;

// Renyi divergence at the eight orders of policy/privacy/budget.h, in 1e-9, rounded
// up, at most kMaxJsonInteger. In caps, -1 is a dead order: it admits nothing.
using Charges = std::array<int64_t, 8>;

// An enclave's evidence: kind and bytes as trainer/attest reads them, and the
// claims whose SHA-256 the evidence binds.
struct Evidence {
  std::string kind;    // "insecure-sim"
  std::string claims;  // canonical JSON text
  Bytes proof;
  friend bool operator==(const Evidence&, const Evidence&) = default;
};
Json to_json(const Evidence& evidence);
Result<Evidence> evidence_from_json(const Json& json);
// SHA-256 over canonical JSON of the evidence.
Digest evidence_digest(const Evidence& evidence);

// seq 0, signed by the ledger key. The market id is SHA-256 of its payload; its
// own `market` member is "".
struct Genesis {
  static constexpr const char* kType = "application/vnd.souk.genesis+json";
  std::string origin;      // checkpoint origin and name of the ledger key
  std::string ledger_key;  // signed-note verification key
  PublicKey treasury;
  std::string currency;  // "EUR"
  struct Root {
    std::string kind;
    PublicKey key;
    friend bool operator==(const Root&, const Root&) = default;
  };
  std::vector<Root> evidence_roots;
  std::vector<Digest> measurements;  // of souk-enclave
  // C2SP tlog-policy text; empty: no witnesses, and the member is left out. Otherwise keys,
  // results and payouts wait until its quorum has cosigned.
  std::string witness_policy = {};
  friend bool operator==(const Genesis&, const Genesis&) = default;
};

// Each start of the keeper: fresh evidence for its signing and KEM keys. Signed
// by the keeper key itself; counts only if the evidence appraises under genesis.
struct KeeperBoot {
  static constexpr const char* kType = "application/vnd.souk.keeper-boot+json";
  SealingKey kem;
  Evidence evidence;
  friend bool operator==(const KeeperBoot&, const KeeperBoot&) = default;
};

struct Deposit {
  static constexpr const char* kType = "application/vnd.souk.treasury-deposit+json";
  PublicKey account;
  Minor minor = 0;
  friend bool operator==(const Deposit&, const Deposit&) = default;
};

// What a dataset is. DatasetId = SHA-256 of canonical(manifest).
struct Manifest {
  std::string name;
  std::string provider_name;
  int64_t rows = 0;
  std::vector<uint32_t> feature_shape;
  std::vector<std::string> feature_names;  // tabular data; else empty
  // Of columns that hold categories: value i of the list is the number i + 1, 0 is a missing one.
  std::map<std::string, std::vector<std::string>> categories;
  std::vector<std::string> class_names;
  std::string label;
  Digest ciphertext{};  // SHA-256 of the whole age file, the blob's name
  int64_t size = 0;     // bytes of it
  std::string policy;   // Lua source, <= 32 kB
  Minor price = 0;      // list price of one contract
  int64_t budget_epsilon_micro = 0;
  int64_t budget_delta_pico = 0;
  Charges budget_caps{};  // policy/privacy/budget.h caps_for(budget)
  std::string salt;       // 32 hex: two equal datasets stay two
  // The engine whose semantics the policy was written for, in hex; "" and left out: any.
  std::string policy_engine = {};
  // How many rows one person has at most: the unit that the budget protects. 1 and left out:
  // a row is the unit. A promise of the
  // provider: nobody else can tell who is who.
  int64_t user_cap = 1;
  // What the policy reads as `parameters`; an empty object is left out.
  Json policy_parameters = Json::Object{};
  friend bool operator==(const Manifest&, const Manifest&) = default;
};
Json to_json(const Manifest& manifest);
Result<Manifest> manifest_from_json(const Json& json);
DatasetId dataset_id(const Manifest& manifest);
Digest policy_hash(const std::string& source);

struct DatasetOffer {
  static constexpr const char* kType = "application/vnd.souk.dataset-offer+json";
  Manifest manifest;
  Bytes wrap;                // HPKE to the keeper's KEM key: the age file key
  Digest keeper_evidence{};  // evidence the provider appraised before it wrapped
  friend bool operator==(const DatasetOffer&, const DatasetOffer&) = default;
};
// The HPKE info of a dataset wrap: purpose, market, dataset, provider (who signs the
// offer: nobody else's offer can carry this wrap), policy, evidence.
std::string dataset_wrap_info(const MarketId& market, const DatasetId& dataset,
                              const PublicKey& provider, const Digest& policy,
                              const Digest& keeper_evidence);

struct DatasetRevoke {
  static constexpr const char* kType = "application/vnd.souk.dataset-revoke+json";
  DatasetId dataset;
  friend bool operator==(const DatasetRevoke&, const DatasetRevoke&) = default;
};

// The tombstone of a dataset: its ciphertext is deleted, its key forgotten by the keeper,
// and nothing is ever trained on it again.
struct DatasetErase {
  static constexpr const char* kType = "application/vnd.souk.dataset-erase+json";
  DatasetId dataset;
  friend bool operator==(const DatasetErase&, const DatasetErase&) = default;
};

// A further version of a dataset's policy, by its provider. It answers nobody before it
// is activated. Its name is policy_version(): source, parameters, engine semantics.
struct PolicyPublish {
  static constexpr const char* kType = "application/vnd.souk.policy-publish+json";
  DatasetId dataset;
  std::string source;                // Lua, <= 32 kB
  Json parameters = Json::Object{};  // what its template was given; <= 8 kB
  std::string engine;  // hex of the engine it was tried on, or "" for any; <= 64 bytes
  friend bool operator==(const PolicyPublish&, const PolicyPublish&) = default;
};
// SHA-256 of canonical {"engine", "parameters", "source": hash of the source}.
inline constexpr size_t kMaxParameterBytes = 8192;  // of canonical parameters
Digest policy_version(const std::string& source, const Json& parameters, const std::string& engine);

struct PolicyChange {
  static constexpr const char* kType = "application/vnd.souk.policy-change+json";
  DatasetId dataset;
  Digest version{};
  enum class Move : uint8_t {
    kActivate,       // answers new contracts; the one that did is deprecated
    kDeprecate,      // answers only contracts that pin it
    kRevokeNoNew,    // answers nobody; what has started may end
    kRevokeStop,     // what has started ends here: no result of it counts
    kRevokeDestroy,  // and no model it was for is released any more
  } move = Move::kActivate;
  friend bool operator==(const PolicyChange&, const PolicyChange&) = default;
};
const char* move_name(PolicyChange::Move move);  // "activate", "revoke_stop", ...

// Consumer's offer to train. ContractId = SHA-256 of its payload.
struct ContractSubmit {
  static constexpr const char* kType = "application/vnd.souk.contract-submit+json";
  TrainingSpec spec;
  std::vector<DatasetId> datasets;
  std::string purpose;
  std::string region;
  Minor offered = 0;                     // the most the consumer pays
  int64_t deadline_minutes = 0;          // from the entry's time to job.result
  std::string recipient;                 // age1... of the consumer
  std::vector<std::string> credentials;  // DSSE envelopes (canonical JSON text)
  // The versions it was quoted, one for each dataset; or none, and then whatever is active.
  std::vector<Digest> policies;
  // Only with spec.initial: the jobs of this market from whose models these weights come. None:
  // declared to come from no model of this market.
  std::vector<ContractId> initial_jobs;
  friend bool operator==(const ContractSubmit&, const ContractSubmit&) = default;
};

// A credential: DSSE statement by an issuer, presented inside a contract.
struct Credential {
  static constexpr const char* kType = "application/vnd.souk.credential+json";
  PublicKey subject;
  std::string type;
  TimeMs expires_ms = 0;
  friend bool operator==(const Credential&, const Credential&) = default;
};

// One dataset's part of a decision.
struct Grant {
  DatasetId dataset;
  Minor price = 0;
  Charges charges{};          // reserved now; all zero when privacy is waived
  int64_t epsilon_micro = 0;  // of this run alone, at its delta
  bool waived = false;        // the provider's policy waived privacy by name
  // What the provider's policy allows this consumer, or this purpose, to take of the dataset
  // over all its contracts; left out where it names no such budget.
  std::optional<Charges> consumer_caps = std::nullopt;
  std::optional<Charges> purpose_caps = std::nullopt;
  // Where the spec has a pool: what this provider obliges to about its own part of it. The
  // decision's own obligations then leave out what differs: max_epsilon_micro, min_noise_micro.
  std::optional<Json> obligations = std::nullopt;
  friend bool operator==(const Grant&, const Grant&) = default;
};

// Authored by the keeper. allow: escrows `price`, reserves every grant's charges.
struct ContractDecision {
  static constexpr const char* kType = "application/vnd.souk.contract-decision+json";
  ContractId contract;
  bool allow = false;
  std::string status;  // policy/decide status names, or "unfunded", "budget_exhausted", ...
  Json reasons = Json::Array{};       // [{code,message,provider,dataset,path,got,need}]
  Json obligations = Json::Object{};  // the meet over all providers
  Json inputs = Json::Object{};       // hashes: policies, requests, engine, gas, read sets
  Minor price = 0;
  std::vector<Grant> grants;
  uint64_t head_size = 0;  // the ledger the decision read
  Digest head_root{};
  friend bool operator==(const ContractDecision&, const ContractDecision&) = default;
};

// One dataset's key, wrapped to the trainer.
struct Wrap {
  DatasetId dataset;
  Bytes sealed;
  friend bool operator==(const Wrap&, const Wrap&) = default;
};

// Authored by the keeper, exactly one per contract.
struct JobStart {
  static constexpr const char* kType = "application/vnd.souk.job-start+json";
  ContractId contract;
  Digest decision{};      // payload hash of the allowing decision
  Evidence trainer;       // appraised by the keeper
  PublicKey receipt_key;  // of that trainer, from its claims
  SealingKey trainer_kem;
  Digest spec{};  // SHA-256 of canonical(spec)
  std::string recipient;
  Json obligations = Json::Object{};
  struct Input {
    DatasetId dataset;
    Digest ciphertext{};
    int64_t size = 0;
    int64_t rows = 0;
    friend bool operator==(const Input&, const Input&) = default;
  };
  std::vector<Input> inputs;
  std::vector<Wrap> wraps;
  friend bool operator==(const JobStart&, const JobStart&) = default;
};
std::string trainer_wrap_info(const MarketId& market, const ContractId& contract,
                              const DatasetId& dataset, const Digest& trainer_evidence);

// What the trainer measured of its own privacy, with canaries (trainer/SPEC.md, Audit).
struct JobAudit {
  int64_t canaries = 0;
  int64_t epsilon_lower_micro =
      0;  // proven but for 1 %; above the claimed epsilon, the claim is false
  int64_t epsilon_gdp_micro = 0;  // what it looks like; 2^53 - 1 stands for no finite number
  friend bool operator==(const JobAudit&, const JobAudit&) = default;
};

// An in-toto Statement v1 signed by the trainer's receipt key; its predicate is
// this record. Subjects: the age payload and the plaintext model.
struct JobResult {
  static constexpr const char* kType = "application/vnd.in-toto+json";
  static constexpr const char* kPredicateType = "urn:souk:job-result:v1";
  ContractId contract;
  Digest job_start{};  // payload hash
  Digest model{};      // SHA-256 of the plaintext safetensors
  Digest payload{};    // SHA-256 of the age payload (the blob)
  int64_t payload_size = 0;
  Digest header{};  // SHA-256 of the age header the keeper emits
  uint32_t steps = 0;
  int64_t epsilon_micro = 0;  // spent; 0 when waived
  int64_t delta_pico = 0;
  Digest spec{};
  Digest trainer_evidence{};
  Bytes sealed_header;            // HPKE to the keeper's KEM key
  std::optional<JobAudit> audit;  // where the obligations ask for it
  friend bool operator==(const JobResult&, const JobResult&) = default;
};
std::string header_wrap_info(const MarketId& market, const ContractId& contract);

// Authored by the trainer's receipt key: a process of the same program has opened the run's sealed
// state and goes on with it. The ledger counts them, so that of one state only one goes on.
struct JobResume {
  static constexpr const char* kType = "application/vnd.souk.job-resume+json";
  ContractId contract;
  Digest job_start{};    // payload hash
  uint32_t attempt = 1;  // of taking it up, from 1
  uint32_t steps = 0;    // done in the state it goes on from, as far as a report tells
  std::string boot;      // 32 hex, random: this process and no other
  friend bool operator==(const JobResume&, const JobResume&) = default;
};

// Authored by the trainer's receipt key, when the ledger it was shown ended its run: what the
// steps it has taken cost. Neither a model nor any state of the run outlives it.
struct JobStop {
  static constexpr const char* kType = "application/vnd.souk.job-stop+json";
  ContractId contract;
  Digest job_start{};  // payload hash
  uint32_t steps = 0;  // begun, finished or not
  struct Spent {
    DatasetId dataset;
    Charges charges{};  // of these steps, rounded up; at most what is reserved
    int64_t epsilon_micro = 0;
    friend bool operator==(const Spent&, const Spent&) = default;
  };
  std::vector<Spent> spent;  // one for each dataset, in the contract's order
  // The host did not bring this dataset's ciphertext as job.start names it: no step was begun.
  std::optional<DatasetId> missing = std::nullopt;
  friend bool operator==(const JobStop&, const JobStop&) = default;
};

// Authored by the keeper: the trainer is gone. Money returns, epsilon commits.
struct JobAbort {
  static constexpr const char* kType = "application/vnd.souk.job-abort+json";
  ContractId contract;
  std::string reason;                               // "trainer_died", "ciphertext_missing"
  std::optional<DatasetId> dataset = std::nullopt;  // of the contract's, where one is the reason
  friend bool operator==(const JobAbort&, const JobAbort&) = default;
};

// Authored by the keeper: lets time pass, so that deadlines act.
struct Tick {
  static constexpr const char* kType = "application/vnd.souk.tick+json";
  friend bool operator==(const Tick&, const Tick&) = default;
};

using Record = std::variant<Genesis, KeeperBoot, Deposit, DatasetOffer, DatasetRevoke, DatasetErase,
                            PolicyPublish, PolicyChange, ContractSubmit, ContractDecision, JobStart,
                            JobResume, JobResult, JobStop, JobAbort, Tick>;

// The record an authentic entry carries. kMalformed names the member.
Result<Record> record_of(const ledger::AuthenticEntry& entry);

// The members a record adds to author, market and nonce, and back: for messages
// that carry a record which nobody has signed (quotes). `payload_type` as in kType.
Json members_json(const Record& record);
Result<Record> members_from_json(std::string_view payload_type, const Json& json);

// The payload of a record, ready to be signed. `nonce`: 32 hex digits. CHECKs that
// integers are in the range of canonical JSON.
Bytes payload_of(const Record& record, const PublicKey& author, const std::string& market_hex,
                 const std::string& nonce);

// Signs a record: fresh nonce unless given. A genesis is signed by sign_genesis.
ledger::Envelope sign_record(const Record& record, const ledger::SigningKey& key,
                             const MarketId& market, std::string nonce = {});
ledger::Envelope sign_genesis(const Genesis& genesis, const ledger::SigningKey& key);
std::string fresh_nonce();
MarketId market_id(ByteView genesis_payload);
ContractId contract_id(ByteView submit_payload);
Digest spec_hash(const TrainingSpec& spec);  // SHA-256 of its canonical JSON

ledger::Envelope sign_credential(const Credential& credential, const ledger::SigningKey& issuer,
                                 const MarketId& market);
struct VerifiedCredential {
  PublicKey issuer;
  Credential credential;
};
// Signature, market and form; the caller compares subject and expiry.
Result<VerifiedCredential> verify_credential(std::string_view envelope_json,
                                             const MarketId& market);

}  // namespace souk::contracts
