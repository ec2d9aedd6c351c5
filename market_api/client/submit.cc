#include "market_api/client/submit.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "contracts/lifecycle/void_words.h"
#include "contracts/training/columns.h"
#include "ledger/crypto/hash.h"
#include "market_api/client/local_files.h"
#include "market_api/client/model_part.h"
#include "market_api/client/stored_model.h"
#include "policy/jail/worker.h"
#include "policy/privacy/accountant.h"
#include "trainer/weights/initial_weights.h"

namespace souk::market {
namespace {

constexpr size_t kMaxCredential = 16 << 10;
constexpr auto kPollEvery = std::chrono::milliseconds(200);

enum class Listed : uint8_t { kOnOffer, kEver };

std::vector<policy::CatalogEntry> catalog_of(const contracts::MarketState& state, Listed listed) {
  std::vector<policy::CatalogEntry> catalog;
  for (const auto& [id, dataset] : state.datasets()) {
    if (dataset.revoked && listed == Listed::kOnOffer) continue;
    policy::CatalogEntry entry;
    entry.id = id;
    entry.name = dataset.manifest.name;
    entry.rows = static_cast<uint64_t>(dataset.manifest.rows);
    entry.feature_shape = dataset.manifest.feature_shape;
    entry.classes = static_cast<uint32_t>(dataset.manifest.class_names.size());
    entry.label = dataset.manifest.label;
    entry.feature_names = dataset.manifest.feature_names;
    entry.categories = dataset.manifest.categories;
    catalog.push_back(std::move(entry));
  }
  return catalog;
}

// The jobs of this market that weights come from: the one whose result they are, else those of
// their lineage. None: they are declared to come from no model of this market.
Result<std::vector<ContractId>> jobs_behind(const std::string& path, ByteView weights,
                                            const contracts::MarketState& state) {
  const Digest digest = ledger::sha256(weights);
  std::vector<ContractId> jobs;
  for (const auto& [id, contract] : state.contracts()) {
    if (contract.result && contract.result->model == digest) jobs.push_back(id);
  }
  if (!jobs.empty()) return jobs;
  auto file = TRY(trainer::SafeTensors::read(weights));
  auto lineage = TRY(lineage_of(path, file));
  if (!lineage) return jobs;
  for (const ContractId& id : lineage->jobs) {
    if (state.contract(id)) jobs.push_back(id);
  }
  if (jobs.empty())
    return Error(Code::kMalformed,
                 "expected a model of this market or of none: its lineage names jobs of another, "
                 "whose obligations nobody here can hold it to");
  if (jobs.size() > contracts::kMaxInitialJobs)
    return Error(Code::kMalformed, "expected a lineage of at most 16 jobs");
  return jobs;
}

// The columns that weights were learned from: those of the job whose result they are, else those in
// their notes. Empty: not known.
Result<std::vector<std::string>> columns_behind(const std::string& path, ByteView weights,
                                                const contracts::MarketState& state) {
  const Digest digest = ledger::sha256(weights);
  for (const auto& [id, contract] : state.contracts()) {
    if (!contract.result || contract.result->model != digest) continue;
    const auto* dataset = state.dataset(contract.submit.datasets.front());
    if (dataset) return dataset->manifest.feature_names;
  }
  auto file = TRY(trainer::SafeTensors::read(weights));
  auto notes = TRY(notes_of(path, file));
  return notes ? notes->feature_names : std::vector<std::string>();
}

// What was learned from other columns means nothing on these.
Status same_columns(const std::vector<std::string>& learned, const std::vector<DatasetId>& datasets,
                    const contracts::MarketState& state) {
  for (const DatasetId& id : datasets) {
    const auto* dataset = state.dataset(id);
    if (learned.empty() || !dataset || dataset->manifest.feature_names.empty()) continue;
    auto other = contracts::different_column(learned, dataset->manifest.feature_names);
    if (!other) continue;
    return Error(Code::kMalformed, "expected a model of the datasets' columns, in their order; " +
                                       other->words("this model", dataset->manifest.name));
  }
  return Done{};
}

bool names_revoked(const std::vector<DatasetId>& datasets, const contracts::MarketState& state) {
  return std::any_of(datasets.begin(), datasets.end(), [&](const DatasetId& id) {
    const auto* dataset = state.dataset(id);
    return dataset && dataset->revoked;
  });
}

}  // namespace

Result<PreparedContract> elaborate_contract(std::string_view source, const std::string& path,
                                            policy::Nursery& jail, const Identity& identity,
                                            const MarketView& view,
                                            std::optional<contracts::Minor> price, TimeMs now) {
  auto elaborate = [&](Listed listed) {
    return policy::elaborate_jailed(
        jail, source, catalog_of(view.state(), listed),
        [](double epsilon, double delta, double q, uint32_t steps, uint32_t records) {
          return policy::calibrate_noise(epsilon, delta, q, steps, records);
        },
        models_beside(path));
  };
  // It may name what was on offer once: then the decision says who has withdrawn it.
  auto elaborate_on_ledger = [&]() -> Result<policy::Elaborated> {
    auto on_offer = elaborate(Listed::kOnOffer);
    if (on_offer) return on_offer;
    auto ever = elaborate(Listed::kEver);
    if (ever && names_revoked(ever->datasets, view.state())) return ever;
    return on_offer;
  };
  auto elaborated = TRY(elaborate_on_ledger());
  PreparedContract prepared;
  contracts::ContractSubmit& submit = prepared.submit;
  if (!elaborated.initial_file.empty()) {
    const std::string file = file_beside(path, elaborated.initial_file);
    auto bytes = load_file(file, trainer::kMaxInitialBytes);
    if (!bytes && bytes.error().code() == Code::kNotFound)
      return Error(Code::kMalformed, "initial: no file " + file);
    if (!bytes) return std::move(bytes).take_error();
    prepared.initial = std::move(*bytes);
    elaborated.spec.initial = ledger::sha256(prepared.initial);
    // What the trainer would refuse is refused before money is bound.
    auto fits = trainer::initial_weights_from(elaborated.spec, prepared.initial);
    if (!fits) return std::move(fits).take_error().within(file);
    auto jobs = jobs_behind(file, prepared.initial, view.state());
    if (!jobs) return std::move(jobs).take_error().within(file);
    submit.initial_jobs = std::move(*jobs);
    auto columns = columns_behind(file, prepared.initial, view.state());
    if (!columns) return std::move(columns).take_error().within(file);
    auto same = same_columns(*columns, elaborated.datasets, view.state());
    if (!same) return std::move(same).take_error().within(file);
  }
  submit.spec = std::move(elaborated.spec);
  submit.datasets = std::move(elaborated.datasets);
  // The versions that a quote is about: the decision is made on these or not at all.
  for (size_t i = 0; i < submit.datasets.size(); ++i) {
    const auto* dataset = view.state().dataset(submit.datasets[i]);
    auto choice = dataset ? contracts::policy_for(*dataset, {}, i) : contracts::PolicyChoice{};
    if (choice.policy) submit.policies.push_back(choice.version);
  }
  if (submit.policies.size() != submit.datasets.size()) submit.policies.clear();
  submit.purpose = elaborated.purpose;
  submit.region = elaborated.region;
  submit.offered = price.value_or(elaborated.offered_minor);
  submit.deadline_minutes = elaborated.deadline_minutes;
  submit.recipient = identity.recipient();
  auto credentials = TRY(kept_credentials(identity));
  for (auto& kept : credentials) {
    if (kept.credential.expires_ms > now) submit.credentials.push_back(std::move(kept.envelope));
  }
  return prepared;
}

Result<Quote> ask_quote(const contracts::ContractSubmit& submit, const Identity& identity,
                        MarketLine& line, const MarketId& market) {
  Bytes payload =
      contracts::payload_of(submit, identity.account(), to_hex(market), contracts::fresh_nonce());
  Json body = TRY(parse_canonical(as_text(payload)));
  for (const char* common : {"author", "market", "nonce"}) body.object()->erase(common);
  Json answer = TRY(line.quote(identity.account(), body));
  auto fields = TRY(Fields::of(answer, "quote"));
  Quote quote;
  quote.allow = TRY(fields.boolean("allow"));
  quote.status = TRY(fields.text("status"));
  quote.reasons = *TRY(fields.any("reasons"));
  quote.price = TRY(fields.integer("price"));
  return quote;
}

Result<Submitted> submit_contract(const PreparedContract& contract, const Identity& identity,
                                  MarketLine& line, MarketView& view, const Progress& progress) {
  const contracts::ContractSubmit& submit = contract.submit;
  auto envelope = contracts::sign_record(submit, identity.key(), view.market());
  TRY(view.foresee(envelope));
  if (submit.spec.initial) TRY(line.upload(*submit.spec.initial, contract.initial, progress));
  ContractId id(ledger::sha256(envelope.payload));
  auto taken = view.record(line, envelope);
  if (!taken) return std::move(taken).take_error().within("job " + to_hex(id));
  const auto& recorded = *taken;
  if (!view.state().contract(id)) {
    auto why = view.state().voids().find(recorded.seq);
    return Error(Code::kConflict,
                 "the contract was recorded without effect: " +
                     (why == view.state().voids().end() ? "it is not on the ledger"
                                                        : contracts::words_of_void(why->second)));
  }
  return Submitted{id, recorded.seq};
}

Status await_decision(const ContractId& contract, MarketLine& line, MarketView& view,
                      int64_t patience_ms) {
  auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(patience_ms);
  while (true) {
    const contracts::Contract* found = view.state().contract(contract);
    if (!found) return Error(Code::kNotFound, "no job " + to_hex(contract));
    if (found->phase != contracts::Phase::kSubmitted) return Done{};
    if (std::chrono::steady_clock::now() >= until) {
      return Error(Code::kTryAgain,
                   "job " + to_hex(contract) + " is not decided yet: ask 'souk job status' later");
    }
    std::this_thread::sleep_for(kPollEvery);
    TRY(view.sync(line));
  }
}

Status check_credential_type(const std::string& type) {
  bool plain = std::all_of(type.begin(), type.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("._-:/").find(c) != std::string_view::npos;
  });
  if (plain && !type.empty() && type.size() <= 128) return Done{};
  return Error(Code::kMalformed,
               "credential type: expected 1 to 128 letters, digits and ._-:/, as policies read it");
}

Status keep_credential(const Identity& identity, std::string_view envelope) {
  while (!envelope.empty() && envelope.back() == '\n') envelope.remove_suffix(1);
  auto verified = TRY(contracts::verify_credential(envelope, identity.pin().market));
  if (verified.credential.subject != identity.account()) {
    return Error(Code::kUnauthentic,
                 "credential: expected one about account " + to_hex(identity.account()));
  }
  TRY(check_credential_type(verified.credential.type));
  Digest digest = ledger::sha256(as_bytes(envelope));
  std::string folder = identity.directory() + "/credentials";
  TRY(make_directory(folder));
  return save_file(folder + "/" + to_hex(ByteView(digest)) + ".json", as_bytes(envelope),
                   FileMode::kPrivate);
}

Result<std::vector<KeptCredential>> kept_credentials(const Identity& identity) {
  std::vector<KeptCredential> kept;
  std::string folder = identity.directory() + "/credentials";
  for (const auto& name : list_directory(folder)) {
    if (name.size() != 69 || name.substr(64) != ".json") continue;
    auto bytes = TRY(load_file(folder + "/" + name, kMaxCredential));
    auto verified = contracts::verify_credential(as_text(bytes), identity.pin().market);
    if (!verified) return std::move(verified).take_error().within(folder + "/" + name);
    kept.push_back({verified->issuer, verified->credential, to_text(bytes)});
  }
  return kept;
}

}  // namespace souk::market
