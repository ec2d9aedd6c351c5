// A receipt holds, or names the section that does not.
#include "market_api/client/receipt.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <functional>

#include "ledger/crypto/hash.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/tlog_proof.h"
#include "market_api/client/local_files.h"
#include "market_api/client/receipt_beside.h"
#include "tests/market_api/client/ledger_server.h"

namespace souk::market {
namespace {

using flows::History;
using flows::MarketFixture;

// A settled contract on two datasets, and its receipt.
class ReceiptTest : public ::testing::Test {
 protected:
  ReceiptTest() {
    market.providers.resize(2);
    for (const auto& provider : market.providers) {
      datasets.push_back(market.publish(provider).id);
    }
    contract = market.escrowed(datasets);
    trainer.emplace(market.started(contract));
    auto envelope = contracts::sign_record(result(), trainer->signing, market.market());
    market.append(envelope);
    CHECK(market.phase(contract) == contracts::Phase::kSettled);
    receipt = receipt_of(market.history());
  }

  contracts::JobResult result() {
    auto record = market.result_of(contract, to_bytes("header"), to_bytes("payload"));
    record.delta_pico = market.spec().privacy->delta_pico;
    return record;
  }

  // Through the client's own path: served, verified, assembled.
  Receipt receipt_of(const History& history) {
    LedgerServer server(history);
    auto line = server.line();
    auto view = MarketView::open(market.market(), "");
    CHECK(view);
    auto synced = view->sync(line);
    CHECK(synced);
    auto made = make_receipt(*view, contract);
    CHECK(made);
    const auto& found = *view->state().contract(contract);
    submit_seq = found.submit_seq;
    decision_seq = found.decision_seq;
    start_seq = found.start_seq;
    result_seq = found.result_seq;
    return *made;
  }

  static ProvenLeaf proven(const History& history, uint64_t seq) {
    std::vector<Digest> hashes;
    for (const auto& leaf : history.leaves) hashes.push_back(ledger::leaf_hash(leaf));
    ledger::TlogProof proof;
    proof.index = seq;
    proof.path = ledger::inclusion_proof(hashes, seq);
    proof.checkpoint = history.checkpoint;
    return {history.leaves[seq], proof.text()};
  }

  // The same receipt out of a ledger in which the log itself recorded `envelope` at
  // `seq`: what a dishonest log can sign, and only the records' meaning can catch.
  Receipt with_lie(uint64_t seq, const ledger::Envelope& envelope) {
    auto envelopes = market.envelopes();
    envelopes[seq] = flows::envelope_bytes(envelope);
    History lie = market.rewrite(envelopes);
    auto again = [&](const ProvenLeaf& old) {
      auto leaf = ledger::decode_leaf(old.leaf);
      CHECK(leaf);
      return proven(lie, leaf->seq);
    };
    Receipt forged = receipt;
    for (ProvenLeaf* one :
         {&forged.genesis, &forged.contract, &forged.decision, &forged.start, &forged.result}) {
      *one = again(*one);
    }
    for (auto* all : {&forged.keeper_boots, &forged.datasets}) {
      for (auto& one : *all) one = again(one);
    }
    return forged;
  }

  std::string section_of(const Receipt& forged) {
    auto report = verify_receipt(forged, market.market());
    EXPECT_FALSE(report.ok);
    EXPECT_FALSE(report.reason.empty());
    return report.section;
  }

  MarketFixture market;
  std::vector<DatasetId> datasets;
  ContractId contract;
  std::optional<flows::StandIn> trainer;
  Receipt receipt;
  uint64_t submit_seq = 0, decision_seq = 0, start_seq = 0, result_seq = 0;
};

TEST_F(ReceiptTest, AnAuditThatNobodyAskedForIsNoneOfItsMembers) {
  auto record = result();
  record.audit = contracts::JobAudit{4096, 0, 0};
  auto forged =
      with_lie(result_seq, contracts::sign_record(record, trainer->signing, market.market()));
  EXPECT_EQ(section_of(forged), "result");
}

TEST_F(ReceiptTest, AnHonestOneHoldsAndSurvivesItsText) {
  auto report = verify_receipt(receipt, market.market());
  EXPECT_TRUE(report.ok) << report.section << ": " << report.reason;
  EXPECT_FALSE(report.market_from_file);
  EXPECT_EQ(report.contract, contract);
  EXPECT_EQ(report.inputs.size(), 2u);
  EXPECT_EQ(report.price, 200);
  auto read = parse_receipt(receipt_text(receipt));
  ASSERT_TRUE(read) << read.error().expected();
  EXPECT_EQ(*read, receipt);
  auto unpinned = verify_receipt(*read, std::nullopt);
  EXPECT_TRUE(unpinned.ok);
  EXPECT_TRUE(unpinned.market_from_file);
}

// The folder that souk model fetch writes, of a job of its own whose result names a real model.
class ModelFolder {
 public:
  ModelFolder() {
    const auto& provider = market.providers.front();
    contract_ = market.escrowed({market.publish(provider).id});
    auto trainer = market.started(contract_);
    const auto* known = market.state().contract(contract_);
    const auto* first = market.state().dataset(known->submit.datasets.front());
    StoredModel stored;
    stored.notes = offered_notes(known->submit.spec, first->manifest);
    stored.notes.lineage =
        policy::Lineage{{first->id}, policy::Obligations(), std::set<ContractId>{contract_}};
    notes = to_json(stored.notes);
    stored.model = trainer::initial_model(stored.notes.spec).take();
    auto model = model_to_safetensors(stored).take();
    auto record = market.result_of(contract_, to_bytes("header"), model);
    record.delta_pico = market.spec().privacy->delta_pico;
    market.append(contracts::sign_record(record, trainer.signing, market.market()));
    LedgerServer server(market.history());
    auto line = server.line();
    auto view = MarketView::open(market.market(), "").take();
    CHECK(view.sync(line));
    auto receipt = make_receipt(view, contract_).take();
    write("model.safetensors", model);
    write("receipt.json", as_bytes(receipt_text(receipt)));
    write_notes(notes);
  }
  std::string path() const { return folder_.file("m"); }
  void write(const std::string& name, ByteView bytes) {
    CHECK(save_files(path(), {{name, bytes}}));
  }
  void write_notes(const Json& json) { write("spec.json", as_bytes(canonical(json) + "\n")); }

  MarketFixture market;
  Json notes;

 private:
  flows::TempFolder folder_;
  ContractId contract_;
};

TEST(ReceiptBeside, WhatSpecJsonSaysIsWhatTheReceiptProves) {
  ModelFolder folder;
  auto honest = load_proven_model(folder.path());
  ASSERT_TRUE(honest) << honest.error().expected();
  EXPECT_TRUE(honest->receipt);
  EXPECT_EQ(honest->not_covered, std::vector<std::string>{"lineage"});

  struct Lie {
    std::string named;
    std::function<void(Json::Object&)> tell;
  };
  auto of_spec = [](const char* member, Json value) {
    return [member, value](Json::Object& notes) { (*notes["spec"].object())[member] = value; };
  };
  const std::vector<Lie> lies = {
      {"spec.input_mean", of_spec("input_mean", Json::Array{"7"})},
      {"spec.seed", of_spec("seed", "99")},
      {"classes",
       [](Json::Object& notes) {
         auto& classes = *notes["classes"].array();
         std::swap(classes.front(), classes.back());
       }},
      {"label", [](Json::Object& notes) { notes["label"] = "another"; }},
      {"feature_names", [](Json::Object& notes) { notes["feature_names"] = Json::Array{"x"}; }},
      {"csv",
       [](Json::Object& notes) {
         notes["csv"] = Json::Object{{"columns", Json::Array{"x", "y"}}};
       }},
      {"lineage",
       [](Json::Object& notes) { (*notes["lineage"].object())["jobs"] = Json::Array{}; }},
  };
  for (const auto& lie : lies) {
    SCOPED_TRACE(lie.named);
    Json changed = folder.notes;
    lie.tell(*changed.object());
    folder.write_notes(changed);
    for (const auto& path : {folder.path(), folder.path() + "/model.safetensors"}) {
      auto loaded = load_proven_model(path);
      ASSERT_FALSE(loaded);
      EXPECT_EQ(loaded.error().code(), Code::kUnauthentic) << loaded.error().expected();
      EXPECT_NE(loaded.error().expected().find("spec.json: expected " + lie.named + " as"),
                std::string::npos)
          << loaded.error().expected();
    }
  }
  // Without spec.json the names are the receipt's.
  ASSERT_EQ(::unlink((folder.path() + "/spec.json").c_str()), 0);
  auto named = load_proven_model(folder.path());
  ASSERT_TRUE(named) << named.error().expected();
  EXPECT_EQ(named->stored.notes.classes, honest->stored.notes.classes);
}

TEST_F(ReceiptTest, AnotherMarketIsNotThisOne) {
  EXPECT_EQ(verify_receipt(receipt, MarketId(Digest{})).section, "market");
  Receipt renamed = receipt;
  renamed.market = MarketId(Digest{});
  EXPECT_EQ(verify_receipt(renamed, std::nullopt).section, "genesis");
}

TEST_F(ReceiptTest, OneBitOfAnyLeafOrProofIsNoticedInItsSection) {
  struct Part {
    std::string section;
    std::function<ProvenLeaf&(Receipt&)> of;
  };
  const std::vector<Part> parts = {
      {"genesis", [](Receipt& r) -> ProvenLeaf& { return r.genesis; }},
      {"keeper_boots", [](Receipt& r) -> ProvenLeaf& { return r.keeper_boots.front(); }},
      {"datasets", [](Receipt& r) -> ProvenLeaf& { return r.datasets.front(); }},
      {"datasets", [](Receipt& r) -> ProvenLeaf& { return r.datasets.back(); }},
      {"contract", [](Receipt& r) -> ProvenLeaf& { return r.contract; }},
      {"decision", [](Receipt& r) -> ProvenLeaf& { return r.decision; }},
      {"start", [](Receipt& r) -> ProvenLeaf& { return r.start; }},
      {"result", [](Receipt& r) -> ProvenLeaf& { return r.result; }},
  };
  for (const auto& part : parts) {
    size_t size = part.of(receipt).leaf.size();
    for (size_t at = 0; at < size; at += 1 + size / 23) {
      Receipt forged = receipt;
      part.of(forged).leaf[at] ^= 1;
      EXPECT_EQ(section_of(forged), part.section) << "byte " << at;
    }
    Receipt cut = receipt;
    part.of(cut).leaf.pop_back();
    EXPECT_EQ(section_of(cut), part.section);
    const std::string& proof = part.of(receipt).proof;
    size_t checkpoint = proof.find("\n\n") + 2;
    for (size_t at = proof.find("index"); at < checkpoint - 2; at += 1 + checkpoint / 17) {
      Receipt forged = receipt;
      part.of(forged).proof[at] ^= 1;
      EXPECT_EQ(section_of(forged), part.section) << "proof byte " << at;
    }
    Receipt other_checkpoint = receipt;
    part.of(other_checkpoint).proof.insert(checkpoint, "x");
    EXPECT_FALSE(verify_receipt(other_checkpoint, market.market()).ok);
  }
}

TEST_F(ReceiptTest, SectionsDoNotStandForEachOther) {
  Receipt forged = receipt;
  std::swap(forged.contract, forged.decision);
  EXPECT_EQ(section_of(forged), "contract");
  forged = receipt;
  std::swap(forged.start, forged.result);
  EXPECT_EQ(section_of(forged), "start");
  forged = receipt;
  std::swap(forged.datasets[0], forged.datasets[1]);
  EXPECT_EQ(section_of(forged), "datasets");
  forged = receipt;
  forged.datasets.pop_back();
  EXPECT_EQ(section_of(forged), "datasets");
  forged = receipt;
  forged.datasets.push_back(forged.datasets[0]);
  EXPECT_EQ(section_of(forged), "datasets");
  forged = receipt;
  forged.keeper_boots.clear();
  EXPECT_EQ(section_of(forged), "keeper_boots");
  forged = receipt;
  forged.keeper_boots = {receipt.contract};
  EXPECT_EQ(section_of(forged), "keeper_boots");
}

TEST_F(ReceiptTest, ALogThatRecordsLiesStillCannotMakeThemHold) {
  ledger::SigningKey stranger = ledger::SigningKey::generate();
  const auto& found = *market.state().contract(contract);
  const contracts::ContractSubmit submit = found.submit;
  const contracts::ContractDecision decision = *found.decision;
  const contracts::JobStart start = *found.start;

  // Right words, wrong author.
  EXPECT_EQ(section_of(with_lie(decision_seq,
                                contracts::sign_record(decision, stranger, market.market()))),
            "decision");
  EXPECT_EQ(
      section_of(with_lie(start_seq, contracts::sign_record(start, stranger, market.market()))),
      "start");
  EXPECT_EQ(
      section_of(with_lie(result_seq, contracts::sign_record(result(), stranger, market.market()))),
      "result");
  // Another contract of the same consumer: the decision is about something else.
  auto cheaper = submit;
  cheaper.offered -= 1;
  EXPECT_EQ(section_of(with_lie(submit_seq,
                                contracts::sign_record(cheaper, market.lab.key, market.market()))),
            "decision");
  // The right author, other words: the trainer's key is the one a test can hold.
  struct Lie {
    const char* what;
    std::function<void(contracts::JobResult&)> tell;
  };
  const std::vector<Lie> lies = {
      {"contract", [](auto& r) { r.contract = ContractId(Digest{}); }},
      {"start", [](auto& r) { r.job_start[0] ^= 1; }},
      {"spec", [](auto& r) { r.spec[31] ^= 1; }},
      {"evidence", [](auto& r) { r.trainer_evidence[0] ^= 1; }},
      {"fewer steps", [](auto& r) { r.steps -= 1; }},
      {"more epsilon", [&](auto& r) { r.epsilon_micro = submit.spec.privacy->epsilon_micro + 1; }},
      {"other delta", [](auto& r) { r.delta_pico += 1; }},
  };
  for (const auto& lie : lies) {
    auto record = result();
    lie.tell(record);
    auto envelope = contracts::sign_record(record, trainer->signing, market.market());
    EXPECT_EQ(section_of(with_lie(result_seq, envelope)), "result") << lie.what;
  }
  // An unappraised keeper boots.
  auto leaf = ledger::decode_leaf(receipt.keeper_boots.front().leaf);
  ASSERT_TRUE(leaf);
  auto boot_entry = ledger::SignedEntry::decode(leaf->envelope);
  ASSERT_TRUE(boot_entry);
  auto boot = contracts::record_of(*ledger::authenticate(std::move(*boot_entry)));
  ASSERT_TRUE(boot);
  auto envelope =
      contracts::sign_record(std::get<contracts::KeeperBoot>(*boot), stranger, market.market());
  EXPECT_EQ(section_of(with_lie(leaf->seq, envelope)), "keeper_boots");
}

TEST_F(ReceiptTest, AnotherLogsReceiptDoesNotHoldHere) {
  MarketFixture stranger;
  Receipt forged = receipt;
  forged.genesis = proven(stranger.history(), 0);
  EXPECT_EQ(section_of(forged), "genesis");
  // The same leaves under a tree head nobody signed.
  forged = receipt;
  auto proof = ledger::parse_tlog_proof(receipt.genesis.proof);
  ASSERT_TRUE(proof);
  for (ProvenLeaf* one :
       {&forged.genesis, &forged.contract, &forged.decision, &forged.start, &forged.result}) {
    auto parsed = ledger::parse_tlog_proof(one->proof);
    ASSERT_TRUE(parsed);
    size_t size_line = parsed->checkpoint.find('\n') + 1;
    parsed->checkpoint[size_line] = parsed->checkpoint[size_line] == '9' ? '8' : '9';
    one->proof = parsed->text();
  }
  EXPECT_EQ(section_of(forged), "checkpoint");
}

TEST_F(ReceiptTest, MalformedTextsNameTheMember) {
  const std::string text = receipt_text(receipt);
  EXPECT_FALSE(parse_receipt(""));
  EXPECT_FALSE(parse_receipt(text.substr(0, text.size() - 1)));
  EXPECT_FALSE(parse_receipt(text + "\n"));
  EXPECT_FALSE(parse_receipt(" " + text));
  for (const char* member :
       {"\"contract\":{", "\"datasets\":[", "\"format\":", "\"result\":{", "\"market\":"}) {
    std::string renamed = text;
    size_t at = renamed.find(member);
    ASSERT_NE(at, std::string::npos) << member;
    renamed[at + 1] = 'X';
    auto read = parse_receipt(renamed);
    ASSERT_FALSE(read) << member;
    EXPECT_EQ(read.error().code(), Code::kMalformed);
  }
}

TEST_F(ReceiptTest, ThereIsNoneBeforeTheJobIsSettled) {
  market.deposit(market.lab.account(), 1000);
  auto submit = market.contract(datasets);
  auto waiting = market.submit(submit);
  LedgerServer server(market.history());
  auto line = server.line();
  auto view = MarketView::open(market.market(), "");
  ASSERT_TRUE(view);
  ASSERT_TRUE(view->sync(line));
  auto none = make_receipt(*view, waiting);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), Code::kConflict);
  EXPECT_EQ(make_receipt(*view, ContractId(Digest{})).error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace souk::market
