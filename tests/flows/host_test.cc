// What the market's host does when one of its parts fails: the rest goes on. Its enclave is the
// real one behind a relay that lies when it is told to (tests/support/lying_relay.cc).
#include <algorithm>
#include <functional>

#include "ledger/crypto/hash.h"
#include "tests/flows/host_flow.h"
#include "trainer/data/safetensors.h"
#include "trainer/weights/initial_weights.h"

namespace souk::market {
namespace {

TEST_F(HostFlow, AContractTheKeeperRefusesToDecideHoldsUpNoOther) {
  one_of_three_cannot_be_decided("refuse-");
}

TEST_F(HostFlow, AContractTheKeeperDiesOfHoldsUpNoOther) {
  one_of_three_cannot_be_decided("die-at-");
}

// It ends as the ledger says, whatever its keeper does: expired, and refused unjudged.
TEST_F(HostFlow, AContractThatIsNeverDecidedIsAskedAboutEverMoreSeldomAndExpires) {
  flows::ManualClock manual;
  manual.advance(clock.now() - manual.now());
  auto opened = Market::open(config(relay), manual);
  ASSERT_TRUE(opened) << opened.error().expected();
  market = std::move(*opened);
  offer_and_fund();
  auto envelope = contract();
  ContractId id = contracts::contract_id(envelope.payload);
  lie("refuse-" + to_hex(id));
  auto asked = [&] {
    std::ifstream in(folder.file("asked"));
    size_t count = 0;
    for (std::string line; std::getline(in, line);) count += line == to_hex(id);
    return count;
  };
  record(envelope);
  std::this_thread::sleep_for(std::chrono::seconds(5));
  EXPECT_GE(asked(), 2U);
  EXPECT_LE(asked(), 6U);  // at 0, 0, 0.5, 1.5 and 3.5 s
  EXPECT_EQ(phase(envelope), Phase::kSubmitted);
  manual.advance(TimeMs{2} * 3'600'000);
  for (int i = 0; i < 3000 && phase(envelope) == Phase::kSubmitted; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(phase(envelope), Phase::kExpired);
  EXPECT_EQ(market->state().balance(lab.account()), 10'000);
  be_honest("refuse-" + to_hex(id));
  for (int i = 0; i < 6000 && !market->state().contract(id)->decision; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  auto state = market->state();
  ASSERT_TRUE(state.contract(id)->decision);
  const auto& decision = *state.contract(id)->decision;
  EXPECT_EQ(decision.status, "expired");
  ASSERT_EQ(decision.reasons.array()->size(), 1U) << canonical(decision.reasons);
  EXPECT_TRUE(decision.inputs.find("policies")->array()->empty()) << "no policy was asked";
  EXPECT_EQ(state.balance(lab.account()), 10'000);
  EXPECT_EQ(state.dataset(dataset)->budget.reserved, contracts::Charges{});
}

// ---- ciphertext that is not there -----------------------------------------------------

TEST_F(HostFlow, AContractOnADatasetWhoseBlobIsLostCutOrAlteredIsRefusedBeforeAnythingIsReserved) {
  open();
  offer_and_fund();
  std::string blob = blob_file(dataset);
  Bytes whole = read_file(blob).take();
  auto write = [&](ByteView bytes) {
    std::ofstream(blob, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  };
  Bytes altered = whole;
  altered[altered.size() / 2] ^= 1;
  std::vector<std::function<void()>> losses = {
      [&] { std::filesystem::remove(blob); },
      [&] { write(ByteView(whole).first(whole.size() - 1)); }, [&] { write(altered); }};
  for (const auto& lose : losses) {
    lose();
    auto envelope = contract();
    record(envelope);
    EXPECT_EQ(phase_in_the_end(envelope), Phase::kRefused);
    auto state = market->state();
    const auto& refused = *state.contract(contracts::contract_id(envelope.payload));
    const Json& reason = refused.decision->reasons.array()->front();
    EXPECT_EQ(*reason.find("code")->string(), "ciphertext_missing");
    EXPECT_EQ(*reason.find("provider")->string(), provider.name);
    EXPECT_EQ(*reason.find("dataset")->string(), state.dataset(dataset)->manifest.name);
    EXPECT_EQ(state.dataset(dataset)->budget.reserved, contracts::Charges{});
    EXPECT_EQ(state.dataset(dataset)->budget.committed, contracts::Charges{});
    EXPECT_EQ(state.balance(lab.account()), 10'000);
  }
  write(whole);
  auto envelope = contract();
  record(envelope);
  EXPECT_EQ(phase_in_the_end(envelope), Phase::kSettled);
}

TEST_F(HostFlow, ABlobThatVanishesWhileItsContractWaitsEndsItUnderItsOwnNameAndCostsNothing) {
  open();
  offer_and_fund();
  DatasetId lost = offer();
  auto long_one = contract(20'000);
  record(long_one);  // keeps the trainer busy
  for (int i = 0; i < 6000 && phase(long_one) != Phase::kRunning; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_EQ(phase(long_one), Phase::kRunning);
  auto waiting = contract_on({lost});
  record(waiting);
  ContractId id = contracts::contract_id(waiting.payload);
  for (int i = 0; i < 6000 && phase(waiting) == Phase::kSubmitted; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_EQ(phase(waiting), Phase::kEscrowed);
  std::filesystem::remove(blob_file(lost));
  EXPECT_EQ(phase_in_the_end(long_one), Phase::kSettled);
  EXPECT_EQ(phase_in_the_end(waiting), Phase::kRefunded);
  auto state = market->state();
  EXPECT_EQ(state.contract(id)->ended_because, "ciphertext_missing");
  EXPECT_EQ(state.contract(id)->ended_by_dataset, lost);
  EXPECT_EQ(state.dataset(lost)->budget.reserved, contracts::Charges{});
  EXPECT_EQ(state.dataset(lost)->budget.committed, contracts::Charges{});
  EXPECT_EQ(state.escrow_total(), 0);
}

TEST_F(HostFlow, AnErasureEndsAJobThatRunsOnTheDatasetAndThereIsNoModel) {
  open();
  offer_and_fund();
  auto envelope = contract(40'000);
  record(envelope);
  for (int i = 0; i < 6000 && phase(envelope) != Phase::kRunning; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_EQ(phase(envelope), Phase::kRunning);
  auto reserved = market->state().dataset(dataset)->budget.reserved;
  record(contracts::sign_record(contracts::DatasetErase{dataset}, provider.key, market->id()));
  for (int i = 0; i < 6000 && phase(envelope) != Phase::kRefunded; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  auto state = market->state();
  const auto& ended = *state.contract(contracts::contract_id(envelope.payload));
  EXPECT_EQ(ended.phase, Phase::kRefunded);
  EXPECT_EQ(ended.ended_because, "dataset_erased");
  EXPECT_FALSE(ended.result);
  ASSERT_TRUE(ended.stop);
  EXPECT_LT(state.dataset(dataset)->budget.committed[0], reserved[0]);
  EXPECT_EQ(state.balance(lab.account()), 10'000);
  EXPECT_FALSE(std::filesystem::exists(blob_file(dataset)));
}

// ---- erasures of what others need -----------------------------------------------------

// A market with a settled job, and what a stranger does to have its blobs deleted.
class ErasedBlobs : public HostFlow {
 protected:
  bool here(const Digest& blob) { return market->blobs().has(blob); }
  void reopen() {
    market.reset();
    open();
  }
  // An offer of these bytes, which need no key that opens them.
  contracts::DatasetOffer offer_naming(const Party& who, const Digest& blob, uint64_t size) {
    auto offered =
        flows::offer_of(who, {}, market->id(), *market->state().keeper(), flows::rows_file(40), 2);
    offered.offer.manifest.ciphertext = blob;
    offered.offer.manifest.size = static_cast<int64_t>(size);
    return offered.offer;
  }
  Code refusal_of(const contracts::DatasetOffer& offer, const Party& who) {
    auto recorded =
        market->record(flows::envelope_bytes(contracts::sign_record(offer, who.key, market->id())));
    EXPECT_FALSE(recorded);
    return recorded ? Code::kBroken : recorded.error().code();
  }
  // On the ledger as another host would have taken it, or this one in another moment.
  void slip_in(const ledger::Envelope& envelope) {
    auto bytes = flows::envelope_bytes(envelope);
    auto entry = ledger::authenticate(ledger::SignedEntry::decode(bytes).take()).take();
    EXPECT_TRUE(market->ledger().append(std::move(entry)));
  }
  DatasetId slip_in(const contracts::DatasetOffer& offer, const Party& who) {
    slip_in(contracts::sign_record(offer, who.key, market->id()));
    auto id = contracts::dataset_id(offer.manifest);
    EXPECT_NE(market->state().dataset(id), nullptr);
    return id;
  }
  void erase(const DatasetId& id, const Party& who) {
    record(contracts::sign_record(contracts::DatasetErase{id}, who.key, market->id()));
    ASSERT_TRUE(market->state().dataset(id)->erased);
  }
  void upload(ByteView bytes) {
    auto upload = market->blobs().begin(ledger::sha256(bytes), bytes.size());
    ASSERT_TRUE(upload) << upload.error().expected();
    ASSERT_TRUE(market->blobs().write(*upload, 0, bytes));
    ASSERT_TRUE(market->blobs().commit(*upload));
  }
  Digest payload_of(const ledger::Envelope& contract) {
    return market->state().contract(contracts::contract_id(contract.payload))->result->payload;
  }
  Bytes weights() const {
    auto model = trainer::initial_model(flows::private_spec(2, 4, 2)).take();
    std::vector<trainer::Tensor> tensors;
    for (auto& tensor : model.tensors) {
      std::fill(tensor.values.begin(), tensor.values.end(), 0.25F);
      tensors.push_back({tensor.name, trainer::Dtype::kF32,
                         trainer::TensorShape(tensor.shape.begin(), tensor.shape.end()),
                         ByteView(reinterpret_cast<const uint8_t*>(tensor.values.data()),
                                  tensor.values.size() * sizeof(float))});
    }
    return trainer::write_safetensors(tensors, {}).take();
  }
  ledger::Envelope contract_from(const Digest& initial) const {
    contracts::ContractSubmit submit;
    submit.spec = flows::private_spec(2, 4, 2);
    submit.spec.initial = initial;
    submit.datasets = {dataset};
    submit.purpose = "research";
    submit.offered = 1000;
    submit.deadline_minutes = 60;
    submit.recipient = lab.recipient();
    return contracts::sign_record(submit, lab.key, market->id());
  }

  Party stranger{"stranger"};
};

TEST_F(ErasedBlobs, AStrangerWhoOffersAndErasesAModelsPayloadDeletesNothing) {
  open();
  offer_and_fund();
  auto job = contract();
  record(job);
  ASSERT_EQ(phase_in_the_end(job), Phase::kSettled);
  const Digest payload = payload_of(job);
  auto size = market->blobs().size(payload).take();
  auto offer = offer_naming(stranger, payload, size);
  EXPECT_EQ(refusal_of(offer, stranger), Code::kRefused);
  erase(slip_in(offer, stranger), stranger);
  EXPECT_TRUE(here(payload));
  reopen();
  EXPECT_TRUE(here(payload));
}

TEST_F(ErasedBlobs, AStrangerWhoOffersAndErasesPublicWeightsKeepsNobodyFromThem) {
  open();
  offer_and_fund();
  const Bytes bytes = weights();
  const Digest initial = ledger::sha256(bytes);
  // Before any contract names them, and while one waits for its decision, and after it is settled.
  upload(bytes);
  EXPECT_EQ(refusal_of(offer_naming(stranger, initial, bytes.size()), stranger), Code::kRefused);
  auto early = slip_in(offer_naming(stranger, initial, bytes.size()), stranger);
  auto late = slip_in(offer_naming(stranger, initial, bytes.size()), stranger);
  erase(early, stranger);
  EXPECT_TRUE(here(initial)) << "another dataset names them";
  erase(late, stranger);
  EXPECT_FALSE(here(initial)) << "nobody needed them";
  upload(bytes);
  auto job = contract_from(initial);
  lie("refuse-" + to_hex(contracts::contract_id(job.payload)));
  record(job);
  erase(slip_in(offer_naming(stranger, initial, bytes.size()), stranger), stranger);
  EXPECT_TRUE(here(initial));
  reopen();
  EXPECT_TRUE(here(initial));
  be_honest("refuse-" + to_hex(contracts::contract_id(job.payload)));
  EXPECT_EQ(phase_in_the_end(job), Phase::kSettled);
  erase(slip_in(offer_naming(stranger, initial, bytes.size()), stranger), stranger);
  EXPECT_TRUE(here(initial));
}

TEST_F(ErasedBlobs, OfTwoProvidersOfOneCiphertextTheLastToEraseDeletesIt) {
  open();
  Party other{"other"};
  auto first = flows::offer_of(provider, {}, market->id(), *market->state().keeper(),
                               flows::rows_file(40), 2);
  const Digest ciphertext = first.offer.manifest.ciphertext;
  upload(first.file);
  record(contracts::sign_record(first.offer, provider.key, market->id()));
  auto copy = offer_naming(stranger, ciphertext, first.file.size());
  EXPECT_EQ(refusal_of(copy, stranger), Code::kRefused);
  auto copied = slip_in(copy, stranger);
  erase(copied, stranger);
  EXPECT_TRUE(here(ciphertext));
  auto again = slip_in(offer_naming(stranger, ciphertext, first.file.size()), stranger);
  erase(first.id, provider);
  EXPECT_TRUE(here(ciphertext));
  erase(again, stranger);
  EXPECT_FALSE(here(ciphertext));
  reopen();
  // Whoever has a use for the same bytes later may bring them, and erases them for himself.
  upload(first.file);
  auto third = offer_naming(other, ciphertext, first.file.size());
  record(contracts::sign_record(third, other.key, market->id()));
  reopen();
  EXPECT_TRUE(here(ciphertext));
  erase(contracts::dataset_id(third.manifest), other);
  EXPECT_FALSE(here(ciphertext));
}

// After its start such a job could only be aborted, the budgets spent and the money returned.
TEST_F(ErasedBlobs, AContractFromWeightsItsModelCannotStartFromIsNotRecordedAndSpendsNothing) {
  open();
  offer_and_fund();
  Bytes good = weights(), infinite = good;
  for (size_t i = infinite.size() - 4; i < infinite.size(); ++i) infinite[i] = 0xff;
  for (const Bytes& bytes : {to_bytes("no weights"), infinite}) {
    upload(bytes);
    auto recorded = market->record(flows::envelope_bytes(contract_from(ledger::sha256(bytes))));
    ASSERT_FALSE(recorded);
    EXPECT_EQ(recorded.error().code(), Code::kMalformed) << recorded.error().expected();
  }
  EXPECT_TRUE(market->state().contracts().empty());
  upload(good);
  auto job = contract_from(ledger::sha256(good));
  record(job);
  EXPECT_EQ(phase_in_the_end(job), Phase::kSettled);
  EXPECT_EQ(market->state().dataset(dataset)->budget.runs, 1);
}

TEST_F(ErasedBlobs, AContractThatNamesACiphertextForItsWeightsDoesNotKeepItFromBeingErased) {
  open();
  offer_and_fund();
  DatasetId doomed = offer();
  const Digest ciphertext = market->state().dataset(doomed)->manifest.ciphertext;
  auto job = contract_from(ciphertext);
  auto recorded = market->record(flows::envelope_bytes(job));
  ASSERT_FALSE(recorded);
  EXPECT_EQ(recorded.error().code(), Code::kMalformed);
  lie("refuse-" + to_hex(contracts::contract_id(job.payload)));
  slip_in(job);
  EXPECT_EQ(phase(job), Phase::kSubmitted);
  erase(doomed, provider);
  EXPECT_FALSE(here(ciphertext));
}

TEST_F(HostFlow, AKeeperThatRefusesToBeginIsDroppedAndTheNextOneServes) {
  a_failed_start_is_followed_by_a_good_one("refuse-begin-once");
}

TEST_F(HostFlow, AKeeperThatRefusesToBootIsDroppedAndTheNextOneServes) {
  a_failed_start_is_followed_by_a_good_one("refuse-boot-once");
}

TEST_F(HostFlow, AKeeperThatDiesAtItsStartIsDroppedAndTheNextOneServes) {
  a_failed_start_is_followed_by_a_good_one("die-once");
}

TEST_F(HostFlow, AKeeperThatDiesAndAnotherThatDoesNotBootOnlyDelayADecision) {
  open();
  offer_and_fund();
  lie("die-once");
  lie("refuse-boot-once");
  auto envelope = contract();
  record(envelope);
  EXPECT_EQ(phase_in_the_end(envelope), Phase::kSettled);
  EXPECT_FALSE(std::filesystem::exists(folder.file("die-once")));
  EXPECT_FALSE(std::filesystem::exists(folder.file("refuse-boot-once")));
}

TEST_F(HostFlow, AMarketWhoseKeeperDoesNotBootDoesNotOpen) {
  lie("refuse-boot-once");
  auto opened = Market::open(config(relay), clock);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), Code::kRefused);
  open();
}

}  // namespace
}  // namespace souk::market
