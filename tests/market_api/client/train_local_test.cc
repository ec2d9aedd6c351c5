#include "market_api/client/train_local.h"

#include <gtest/gtest.h>

#include <limits>

#include "market_api/client/evaluate.h"
#include "market_api/client/local_files.h"
#include "policy/jail/worker.h"
#include "tests/support/market_fixture.h"

namespace souk::market {
namespace {

class TrainLocalTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { jail_ = policy::start_lua_nursery().take().release(); }
  static void TearDownTestSuite() {
    delete jail_;
    jail_ = nullptr;
  }
  std::string write(const std::string& name, const std::string& text) {
    EXPECT_TRUE(save_file(folder_.file(name), as_bytes(text), FileMode::kShared));
    return folder_.file(name);
  }
  // Two columns of numbers and one of words; the answer is in all three.
  std::string people(int rows, int first) {
    std::string text = "age,work,gain,kind\n";
    for (int i = first; i < first + rows; ++i) {
      int age = 20 + i * 7 % 40, work = i % 4, gain = i * 37 % 100;
      const char* const works[] = {"?", "private", "state", "other"};
      text += std::to_string(age) + "," + works[work] + "," + std::to_string(gain) + "," +
              (age + 10 * work > 50 ? "yes" : "no") + "\n";
    }
    return text;
  }
  Result<LocalResult> train(const LocalRequest& request) {
    return train_local(request, *jail_, [](uint64_t, uint64_t) {});
  }

  flows::TempFolder folder_;
  static policy::Nursery* jail_;
};
policy::Nursery* TrainLocalTest::jail_ = nullptr;

const char* const kContract = R"(return { purpose = "test", datasets = { "one", "two" },
  csv = { missing = "?", columns = { "age", { name = "work", values = { "private", "state", "other" } }, "gain",
    { name = "kind", role = "label", values = { "no", "yes" } } } },
  input = { mean = { 40, 1.5, 50 }, scale = { 0.1, 1, 0.03 } },
  model = { linear { units = 16 }, relu(), linear { units = 2 } },
  train = { epochs = 30, batch = 16, shuffle = true, optimizer = adam {}, seed = 1,
            learning_rate = function(step) return step < 100 and 0.02 or 0.005 end },
  payment = 0 })";

TEST_F(TrainLocalTest, AContractLearnsFromACsvAndIsMeasuredOnAnother) {
  LocalRequest request;
  request.spec = write("contract.lua", kContract);
  request.data = {write("train.csv", people(200, 0))};
  request.test = {write("test.csv", people(80, 1000))};
  auto result = train(request);
  ASSERT_TRUE(result) << result.error().expected();
  EXPECT_EQ(result->steps, 375u);  // 30 passes over 200 rows in batches of 16
  EXPECT_EQ(result->rows, 200u);
  EXPECT_EQ(result->measured_rows, 80u);
  EXPECT_EQ(result->measured_on, LocalResult::MeasuredOn::kTest);
  EXPECT_GE(result->accuracy, 0.9);
  EXPECT_EQ(result->parameters, 3u * 16 + 16 + 32 + 2);
  EXPECT_FALSE(result->epsilon);
  // The model as it is stored says the same of the same rows.
  RowFiles files;
  files.paths = request.test;
  files.csv = result->stored.notes.csv;
  auto rows = load_rows(files).take();
  auto predictions = predict_rows(result->stored, rows.data, 1).take();
  EXPECT_EQ(static_cast<double>(predictions.right(rows.data.labels)) / 80, result->accuracy);
}

TEST_F(TrainLocalTest, FoldsHoldEveryRowOutOnce) {
  LocalRequest request;
  request.spec = write("contract.lua", kContract);
  request.data = {write("train.csv", people(103, 0))};
  request.folds = 4;
  auto result = train(request);
  ASSERT_TRUE(result) << result.error().expected();
  EXPECT_EQ(result->fold_accuracies.size(), 4u);
  EXPECT_EQ(result->measured_rows, 103u);
  EXPECT_GE(result->accuracy, 0.85);
  request.folds = 1;
  EXPECT_FALSE(train(request));
}

// Dealt class by class, no fold is empty down to one row in each; more are refused untrained.
TEST_F(TrainLocalTest, ThereAreAsManyFoldsAsRowsAtMost) {
  LocalRequest request;
  std::string contract = kContract;
  contract.replace(contract.find("batch = 16"), 10, "batch = 2");
  request.spec = write("contract.lua", contract);
  request.data = {write("train.csv", people(13, 0))};
  for (uint32_t folds : {12u, 13u}) {
    request.folds = folds;
    auto result = train(request);
    ASSERT_TRUE(result) << result.error().expected();
    EXPECT_EQ(result->fold_accuracies.size(), folds);
    EXPECT_EQ(result->measured_rows, 13u);
  }
  request.folds = 14;
  uint64_t steps = 0;
  auto jail = policy::start_lua_nursery().take();
  auto refused = train_local(request, *jail, [&](uint64_t, uint64_t) { ++steps; });
  EXPECT_EQ(refused.error().code(), Code::kMalformed);
  EXPECT_NE(refused.error().expected().find("--folds: expected 2 to 13"), std::string::npos);
  EXPECT_EQ(steps, 0u);
}

TEST_F(TrainLocalTest, WhatIsWrongWithASpecificationNamesItsFileWithFoldsToo) {
  LocalRequest request;
  std::string contract = kContract;
  contract.replace(contract.find("batch = 16"), 10, "batch = 0");
  request.spec = write("contract.lua", contract);
  request.data = {write("train.csv", people(30, 0))};
  std::string whole = train(request).error().expected();
  EXPECT_NE(whole.find("contract.lua"), std::string::npos) << whole;
  request.folds = 3;
  EXPECT_EQ(train(request).error().expected(), whole);
}

TEST_F(TrainLocalTest, WordsNeedNoLayoutWhereTheDataAreOnesOwn) {
  LocalRequest request;
  std::string contract = kContract;
  contract.erase(contract.find("csv ="), contract.find("input =") - contract.find("csv ="));
  request.spec = write("contract.lua", contract);
  request.data = {write("train.csv", people(200, 0))};
  EXPECT_NE(train(request).error().expected().find("--label"), std::string::npos);
  request.label = "kind";
  request.test = {write("test.csv", people(80, 1000))};
  auto result = train(request);
  ASSERT_TRUE(result) << result.error().expected();
  EXPECT_GE(result->accuracy, 0.9);
  ASSERT_TRUE(result->stored.notes.csv);
  EXPECT_EQ(result->stored.notes.csv->columns.at(1).values,
            (std::vector<std::string>{"other", "private", "state"}));
}

TEST_F(TrainLocalTest, PrivacySpendsEpsilon) {
  LocalRequest request;
  std::string contract = kContract;
  contract.replace(contract.find("shuffle = true"), 14, "shuffle = false");
  contract.insert(contract.find("payment"), "privacy = { epsilon = 8, delta = \"1e-5\" }, ");
  request.spec = write("contract.lua", contract);
  request.data = {write("train.csv", people(200, 0))};
  auto result = train(request);
  ASSERT_TRUE(result) << result.error().expected();
  ASSERT_TRUE(result->epsilon);
  EXPECT_GT(*result->epsilon, 7);
  EXPECT_LE(*result->epsilon, 8);
  EXPECT_DOUBLE_EQ(result->delta, 1e-5);
}

// Means, categories and classes found in the rows would stand in the model's files as they are.
TEST_F(TrainLocalTest, UnderPrivacyNothingIsGuessedFromTheRows) {
  std::string contract = kContract;
  contract.replace(contract.find("shuffle = true"), 14, "shuffle = false");
  contract.insert(contract.find("payment"), "privacy = { epsilon = 8, delta = \"1e-5\" }, ");
  LocalRequest stated;
  stated.spec = write("stated.lua", contract);
  stated.data = {write("train.csv", people(64, 0))};
  EXPECT_TRUE(train(stated));
  stated.label = "kind";
  EXPECT_TRUE(train(stated));

  const std::string classes = ", values = { \"no\", \"yes\" }";
  std::string without_classes = contract, without_layout = contract;
  without_classes.erase(without_classes.find(classes), classes.size());
  without_layout.erase(contract.find("csv ="), contract.find("input =") - contract.find("csv ="));
  LocalRequest found = stated, guessed = stated;
  found.spec = write("found.lua", without_classes);
  guessed.spec = write("guessed.lua", without_layout);
  auto refused = [](const auto& result, const std::string& words) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), Code::kMalformed);
    EXPECT_NE(result.error().expected().find(words), std::string::npos)
        << result.error().expected();
  };
  for (uint32_t folds : {0u, 4u}) {
    found.folds = guessed.folds = folds;
    refused(train(found), "found.lua: privacy: expected a csv layout that states the classes");
    refused(train(guessed), "guessed.lua: privacy: expected a csv layout that was stated");
  }
  refused(open_local(found, *jail_), "found.lua: privacy: ");
  refused(open_local(guessed, *jail_), "guessed.lua: privacy: ");
  // Numbers alone, none missing: that no row has anything else would be found in the rows as well.
  guessed.folds = 0;
  guessed.drop = {"work"};
  without_layout.replace(without_layout.find("{ 40, 1.5, 50 }"), 15, "{ 40, 50 }");
  without_layout.replace(without_layout.find("{ 0.1, 1, 0.03 }"), 16, "{ 0.1, 0.03 }");
  write("guessed.lua", without_layout);
  refused(train(guessed), "guessed.lua: privacy: ");
  // Stated beside the contract, as its error says.
  guessed.csv = write("layout.json", R"({"columns":["age",{"name":"work","role":"dropped"},"gain",
    {"name":"kind","role":"label","values":["no","yes"]}]})");
  auto result = train(guessed);
  EXPECT_TRUE(result) << result.error().expected();
  // A layout that was guessed once is one that was stated where somebody says it again; a
  // specification alone is none.
  auto notes = std::move(result).take().stored.notes;
  guessed.csv.clear();
  guessed.drop.clear();
  guessed.spec = write("bare.json", canonical(contracts::to_json(notes.spec)));
  guessed.data = {write("numbers.csv", "age,gain,kind\n1,2,no\n3,4,yes\n")};
  refused(train(guessed), "bare.json: privacy: ");
  guessed.spec = write("spec.json", canonical(to_json(notes)));
  EXPECT_TRUE(train(guessed));
}

TEST_F(TrainLocalTest, TheElaboratedSpecificationTrainsTheSame) {
  LocalRequest request;
  request.spec = write("contract.lua", kContract);
  request.data = {write("train.csv", people(64, 0))};
  auto first = train(request).take();
  request.spec = write("spec.json", canonical(to_json(first.stored.notes)));
  auto again = train(request);
  ASSERT_TRUE(again) << again.error().expected();
  EXPECT_EQ(again->stored.notes.spec, first.stored.notes.spec);
  request.spec = write("bare.json", canonical(contracts::to_json(first.stored.notes.spec)));
  request.label = "kind";
  EXPECT_TRUE(train(request));
}

TEST_F(TrainLocalTest, TheSameSeedMakesTheSameModelOnAnyNumberOfThreads) {
  LocalRequest request;
  std::string contract = kContract;
  contract.insert(contract.find("seed = 1"), "shard = 4, ");
  contract.replace(contract.find("relu()"), 6, "relu(), dropout { rate = 0.25 }");
  request.spec = write("contract.lua", contract);
  request.data = {write("train.csv", people(100, 0))};
  request.threads = 1;
  auto one = train(request).take();
  for (unsigned threads : {2U, 3U}) {
    request.threads = threads;
    EXPECT_EQ(train(request).take().stored.model.tensors, one.stored.model.tensors) << threads;
  }
  request.seed = 2;
  EXPECT_NE(train(request).take().stored.model.tensors, one.stored.model.tensors);
  request.seed.reset();
  // Under privacy the noise is nobody's to know.
  contract.replace(contract.find("shuffle = true"), 14, "shuffle = false");
  contract.insert(contract.find("payment"), "privacy = { epsilon = 8, delta = \"1e-5\" }, ");
  request.spec = write("private.lua", contract);
  auto privately = train(request).take();
  EXPECT_NE(train(request).take().stored.model.tensors, privately.stored.model.tensors);
}

TEST_F(TrainLocalTest, ThePrivacyOnACardHasUnitAdjacencyAccountantAssumptionsAndAudit) {
  for (bool person : {false, true}) {
    LocalRequest request;
    std::string contract = kContract;
    contract.replace(contract.find("shuffle = true"), 14, "shuffle = false");
    contract.insert(contract.find("payment"),
                    std::string("privacy = { epsilon = 8, delta = \"1e-5\"") +
                        (person ? ", user_cap = 3 }, " : " }, "));
    request.spec = write("private.lua", contract);
    request.data = {write("train.csv", people(100, 0))};
    const auto result = train(request).take();
    const std::string card = local_model_card(result), unit = person ? "one person with at most 3 "
                                                                       "records"
                                                                     : "one record (row)";
    const std::string epsilon = real_text(*result.epsilon);
    for (const std::string& row :
         {"| epsilon | " + epsilon + " |", std::string("| delta | 1e-05 |"), "| unit | " + unit,
          "| adjacency | add or remove " + unit, std::string("| accountant | privacy loss"),
          std::string("| assumptions | the owner's machine"), std::string("| audit | none"),
          std::string("how many rows there are and the names of their classes are public"),
          "(add or remove " + unit + "); the accuracy above"}) {
      EXPECT_NE(card.find(row), std::string::npos) << row << "\n" << card;
    }
    EXPECT_EQ(card.find(person ? "one record" : "one person"), std::string::npos) << card;
  }
  LocalRequest request;
  request.spec = write("contract.lua", kContract);
  request.data = {write("train.csv", people(64, 0))};
  const std::string card = local_model_card(train(request).take());
  EXPECT_NE(card.find("| accuracy on the 64 rows it was trained on |"), std::string::npos) << card;
  EXPECT_EQ(card.find("model.onnx"), std::string::npos) << card;  // save_model knows of it
  EXPECT_NE(card.find("None is promised: the specification asks for none."), std::string::npos);
  EXPECT_EQ(card.find("| unit |"), std::string::npos) << card;
}

TEST_F(TrainLocalTest, ARunThatDivergesSaysSo) {
  LocalRequest request;
  std::string contract = kContract;
  contract.replace(contract.find("optimizer = adam {}"), 19, "loss = \"mse\", optimizer = sgd {}");
  contract.replace(contract.find("return step < 100 and 0.02 or 0.005"), 35, "return 1000");
  request.spec = write("contract.lua", contract);
  request.data = {write("train.csv", people(64, 0))};
  auto result = train(request);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Code::kRefused);
  EXPECT_NE(result.error().expected().find("diverged"), std::string::npos);
}

TEST_F(TrainLocalTest, OutputsThatAreNoNumbersAreRefusedWithTheirRow) {
  LocalRequest request;
  request.spec = write("contract.lua", kContract);
  request.data = {write("train.csv", people(64, 0))};
  auto stored = train(request).take().stored;
  RowFiles files;
  files.paths = request.data;
  files.csv = stored.notes.csv;
  auto rows = load_rows(files).take();
  EXPECT_TRUE(predict_rows(stored, rows.data, 1));
  stored.model.tensors.back().values.front() = std::numeric_limits<float>::quiet_NaN();
  auto refused = predict_rows(stored, rows.data, 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::kMalformed);
  EXPECT_NE(refused.error().expected().find("row 0"), std::string::npos);
}

TEST_F(TrainLocalTest, AContractMayNameAnArchitectureFile) {
  write("net.cfg",
        "[net]\ninputs=3\n[connected]\noutput=5\nactivation=tanh\n[connected]\noutput="
        "2\nactivation=linear\n[softmax]\n");
  std::string contract = kContract;
  size_t begin = contract.find("model = "), end = contract.find("train = ");
  contract.replace(begin, end - begin, "model = \"net.cfg\",\n  ");
  LocalRequest request;
  request.spec = write("contract.lua", contract);
  request.data = {write("train.csv", people(64, 0))};
  auto result = train(request);
  ASSERT_TRUE(result) << result.error().expected();
  EXPECT_EQ(result->parameters, 3u * 5 + 5 + 10 + 2);
  contract.replace(contract.find("net.cfg"), 7, "not.cfg");
  write("contract.lua", contract);
  EXPECT_NE(train(request).error().expected().find("no such file"), std::string::npos);
}

TEST_F(TrainLocalTest, AHeadIsTrainedOnFrozenLayersOfAnotherModel) {
  LocalRequest request;
  request.spec = write("contract.lua", kContract);
  request.data = {write("train.csv", people(200, 0))};
  auto first = train(request).take();
  auto weights = model_to_safetensors(first.stored).take();
  ASSERT_TRUE(save_file(folder_.file("weights.safetensors"), weights, FileMode::kShared));

  std::string contract = kContract;
  contract.replace(contract.find("linear { units = 16 }"), 21,
                   "linear { units = 16, frozen = true }");
  contract.insert(contract.find("payment"), "initial = \"weights.safetensors\", ");
  request.spec = write("head.lua", contract);
  auto tuned = train(request);
  ASSERT_TRUE(tuned) << tuned.error().expected();
  EXPECT_GE(tuned->accuracy, 0.9);
  EXPECT_TRUE(tuned->stored.notes.spec.initial);
  const auto &before = first.stored.model.tensors, &after = tuned->stored.model.tensors;
  ASSERT_EQ(before.size(), after.size());
  EXPECT_EQ(before[0], after[0]);
  EXPECT_EQ(before[1], after[1]);
  EXPECT_NE(before[2], after[2]);

  // Other weights than those that a specification names are not taken for them.
  request.spec = write("spec.json", canonical(to_json(tuned->stored.notes)));
  EXPECT_NE(train(request).error().expected().find("--init"), std::string::npos);
  request.initial = folder_.file("weights.safetensors");
  EXPECT_TRUE(train(request));
  weights.back() ^= 1;
  ASSERT_TRUE(save_file(request.initial, weights, FileMode::kShared));
  EXPECT_NE(train(request).error().expected().find("SHA-256"), std::string::npos);
}

// The longer recipes: scripts/bench-accuracy.
TEST_F(TrainLocalTest, RecipesReachTheirAccuracyOnUcisFilesAsTheyAre) {
  const char* shared = std::getenv("SOUK_SHARED");
  const char* source = std::getenv("SOUK_SOURCE");
  const std::string data = std::string(shared ? shared : "") + "/data/tabular/";
  if (!source || !path_exists(data + "wdbc.data")) GTEST_SKIP() << "no UCI data under SOUK_SHARED";
  const std::string contracts = std::string(source) + "/examples/contracts/";
  LocalRequest wdbc;
  wdbc.spec = contracts + "wdbc_logistic.lua";
  wdbc.data = {data + "wdbc.data"};
  wdbc.folds = 5;
  auto folded = train(wdbc);
  ASSERT_TRUE(folded) << folded.error().expected();
  EXPECT_GE(folded->accuracy, 0.96);
  EXPECT_EQ(folded->measured_rows, 569u);
  LocalRequest adult;
  adult.spec = contracts + "adult_income.lua";
  adult.data = {data + "adult.data.gz"};
  adult.test = {data + "adult.test.gz"};
  auto trained = train(adult);
  ASSERT_TRUE(trained) << trained.error().expected();
  EXPECT_EQ(trained->rows, 32561u);
  EXPECT_EQ(trained->measured_rows, 16281u);
  EXPECT_GE(trained->accuracy, 0.85);
}

TEST_F(TrainLocalTest, SaysWhatDoesNotFit) {
  LocalRequest request;
  request.spec = folder_.file("none.lua");
  request.data = {write("train.csv", people(64, 0))};
  EXPECT_NE(train(request).error().expected().find("no file"), std::string::npos);
  request.spec = write("contract.lua", "return {}");
  EXPECT_EQ(train(request).error().code(), Code::kMalformed);
  request.spec = write("contract.lua", kContract);
  request.data = {folder_.file("none.csv")};
  EXPECT_NE(train(request).error().expected().find("no such file"), std::string::npos);
}

}  // namespace
}  // namespace souk::market
