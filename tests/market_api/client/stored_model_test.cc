#include <gtest/gtest.h>

#include "market_api/client/local_files.h"
#include "market_api/client/model_layout.h"
#include "tests/market_api/client/models_support.h"
#include "tests/support/market_fixture.h"
#include "trainer/weights/initial_weights.h"

namespace souk::market {
namespace {

using testing::logits;
using testing::random_rows;

class StoredModelTest : public ::testing::Test {
 protected:
  StoredModelTest()
      : stored_(testing::stored_with_noise(trainable_spec(testing::picture_network()))) {
    stored_.notes.classes = {"a", "b", "c", "d"};
    stored_.notes.label = "kind";
  }
  void expect_same(const Result<StoredModel>& found) {
    ASSERT_TRUE(found) << found.error().expected();
    EXPECT_EQ(found->model, stored_.model);
    EXPECT_EQ(found->notes.spec, stored_.notes.spec);
    EXPECT_EQ(found->notes.classes, stored_.notes.classes);
  }
  std::string card() const {
    return to_text(load_file(folder_.file("m") + "/MODEL_CARD.md", 1000).take());
  }
  StoredModel stored_;
  flows::TempFolder folder_;
};

TEST_F(StoredModelTest, IsFoundByFolderAndByFile) {
  ASSERT_TRUE(save_model(folder_.file("m"), stored_, "# Card\n"));
  expect_same(load_model(folder_.file("m")));
  expect_same(load_model(folder_.file("m") + "/model.safetensors"));
  EXPECT_EQ(card(),
            "# Card\n`model.onnx` is the model for other programs: input as in the data, the "
            "public constants are inside.\n");
}

TEST_F(StoredModelTest, AFileAloneHoldsItsSpecification) {
  auto bytes = model_to_safetensors(stored_).take();
  ASSERT_TRUE(save_file(folder_.file("alone.safetensors"), bytes, FileMode::kShared));
  expect_same(load_model(folder_.file("alone.safetensors")));
  // What an enclave writes: the specification without names.
  auto file = trainer::SafeTensors::read(bytes).take();
  auto bare = trainer::write_safetensors(
                  file.tensors(),
                  {{"contract", "00"}, {"spec", canonical(contracts::to_json(stored_.notes.spec))}})
                  .take();
  ASSERT_TRUE(save_file(folder_.file("bare.safetensors"), bare, FileMode::kShared));
  auto found = load_model(folder_.file("bare.safetensors"));
  ASSERT_TRUE(found) << found.error().expected();
  EXPECT_EQ(found->model, stored_.model);
  EXPECT_TRUE(found->notes.classes.empty());
}

TEST_F(StoredModelTest, RefusesFilesThatDoNotFit) {
  auto bytes = model_to_safetensors(stored_).take();
  auto file = trainer::SafeTensors::read(bytes).take();
  auto error_of = [&](const Bytes& content) {
    EXPECT_TRUE(save_file(folder_.file("m.safetensors"), content, FileMode::kShared));
    auto found = load_model(folder_.file("m.safetensors"));
    return found ? "no error"
                 : found.error().expected().substr(folder_.file("m.safetensors").size());
  };
  EXPECT_EQ(error_of(trainer::write_safetensors(file.tensors(), {}).take()),
            ": expected a specification in its metadata, or spec.json beside it");
  std::vector<trainer::Tensor> fewer(file.tensors().begin(), file.tensors().end() - 1);
  EXPECT_NE(error_of(trainer::write_safetensors(fewer, file.metadata()).take())
                .find("tensors of its specification"),
            std::string::npos);
  auto renamed = file.tensors();
  renamed[0].name = "other";
  EXPECT_NE(error_of(trainer::write_safetensors(renamed, file.metadata()).take())
                .find("expected the tensor"),
            std::string::npos);
  EXPECT_FALSE(load_model(folder_.file("nothing")));
}

TEST_F(StoredModelTest, OnnxPredictsLikeTheFolder) {
  ASSERT_TRUE(save_model(folder_.file("m"), stored_, ""));
  auto rows = random_rows(stored_.notes.spec, 6);
  auto own = predict_rows(load_model(folder_.file("m")).take(), rows, 1).take();
  auto onnx = predict_rows(load_model(folder_.file("m") + "/model.onnx").take(), rows, 1).take();
  EXPECT_EQ(own.labels, onnx.labels);
  ASSERT_EQ(own.numbers.size(), onnx.numbers.size());
  for (size_t i = 0; i < own.numbers.size(); ++i)
    EXPECT_NEAR(own.numbers[i], onnx.numbers[i], 1e-5);
}

TEST_F(StoredModelTest, WhatOnnxCannotSayIsSavedWithoutAndNothingIsLeftOfAnOlderOne) {
  auto with = save_model(folder_.file("m"), stored_, "");
  ASSERT_TRUE(with);
  EXPECT_EQ(with->without_onnx, "");
  EXPECT_TRUE(path_exists(folder_.file("m") + "/model.onnx"));
  contracts::TrainingSpec spec = stored_.notes.spec;
  spec.input_shape = {1, 16, 16};
  spec.input_mean = {0};
  spec.input_scale = {1};
  spec.classes = 2;
  contracts::Node waves, flatten, linear;
  waves.op = contracts::Node::Op::kScattering;
  waves.orientations = 2;
  flatten.op = contracts::Node::Op::kFlatten;
  linear.op = contracts::Node::Op::kLinear;
  linear.units = 2;
  spec.model = {waves, flatten, linear};
  StoredModel model{{}, trainer::initial_model(spec).take()};
  model.notes.spec = spec;
  auto without = save_model(folder_.file("m"), model, "# Card\n");
  EXPECT_EQ(card(), "# Card\nThere is no `model.onnx`: this model could not be written as one.\n");
  ASSERT_TRUE(without) << without.error().expected();
  EXPECT_NE(without->without_onnx.find("ONNX"), std::string::npos) << without->without_onnx;
  EXPECT_EQ(list_directory(folder_.file("m")),
            (std::vector<std::string>{"MODEL_CARD.md", "model.safetensors", "spec.json"}));
  auto again = load_model(folder_.file("m"));
  ASSERT_TRUE(again) << again.error().expected();
  EXPECT_EQ(again->model, model.model);
}

TEST_F(StoredModelTest, InitialWeightsMayLackAHeadAndNothingElse) {
  auto bytes = model_to_safetensors(stored_).take();
  auto file = trainer::SafeTensors::read(bytes).take();
  EXPECT_EQ(trainer::initial_weights(stored_.notes.spec, file).take(), stored_.model);

  // Six classes instead of four: the head starts from the seed.
  auto other = stored_.notes.spec;
  other.classes = other.model.back().units = 6;
  auto tuned = trainer::initial_weights(other, file);
  ASSERT_TRUE(tuned) << tuned.error().expected();
  auto seeded = trainer::initial_model(other).take();
  EXPECT_EQ(tuned->tensors.front(), stored_.model.tensors.front());
  EXPECT_EQ(tuned->tensors.back(), seeded.tensors.back());

  other = stored_.notes.spec;
  other.model[15].units = 12;  // a hidden layer of another width
  EXPECT_FALSE(trainer::initial_weights(other, file));
  EXPECT_FALSE(trainer::initial_weights(stored_.notes.spec, trainer::SafeTensors()));
  // One that the model has not is named.
  StoredModel more = stored_;
  more.model.tensors.push_back({"99.weight", {1}, {0.0F}});
  auto with_more = model_to_safetensors(more).take();
  auto refused =
      trainer::initial_weights(stored_.notes.spec, trainer::SafeTensors::read(with_more).take());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().expected(),
            "initial weights: expected only tensors of the model, found 99.weight");
}

TEST_F(StoredModelTest, ProbabilitiesOfARowAddUpToOne) {
  auto predictions = predict_rows(stored_, random_rows(stored_.notes.spec, 4), 1).take();
  ASSERT_EQ(predictions.width, 4u);
  for (size_t row = 0; row < 4; ++row) {
    double sum = 0;
    for (size_t i = 0; i < 4; ++i) sum += predictions.numbers[row * 4 + i];
    EXPECT_NEAR(sum, 1, 1e-12);
  }
  EXPECT_EQ(predictions.right(predictions.labels), 4u);
}

// ---- layouts of files that a model is asked about -------------------------------------

trainer::CsvLayout layout(const std::string& columns) {
  return trainer::csv_layout_from_json(parse_json("{\"columns\":[" + columns + "]}").take(), "csv")
      .take();
}

TEST(ModelLayout, OfAFileMeansWhatTheModelMeans) {
  ModelNotes notes;
  notes.classes = {"no", "yes"};
  notes.feature_names = {"age", "work"};
  notes.label = "sick";
  const std::string work = R"({"name":"work","values":["state","private"]})";
  notes.csv =
      layout("\"age\"," + work + R"(,{"name":"sick","role":"label","values":["no","yes"]})");
  auto refused = [&](const std::string& columns) {
    auto found = layout_for_model(layout(columns), notes, "file.json");
    return found ? "" : found.error().expected();
  };
  EXPECT_EQ(layout_for_model(*notes.csv, notes, "file.json").take(), *notes.csv);
  // Other spellings, other columns between, the label elsewhere and without its classes.
  auto found = layout_for_model(
      layout(R"({"name":"out","role":"label"},"age",{"name":"id","role":"dropped"},)"
             R"({"name":"work","values":["STATE","private"]})"),
      notes, "file.json");
  ASSERT_TRUE(found) << found.error().expected();
  EXPECT_EQ(found->label()->values, notes.classes);
  EXPECT_EQ(found->categories().at("work"), (std::vector<std::string>{"STATE", "private"}));
  // Numbers of the categories themselves.
  EXPECT_EQ(refused(R"("age","work")"), "");

  EXPECT_EQ(
      refused(R"("age",{"name":"work","values":["private","state"]})"),
      "file.json: column \"work\": expected the model's 2 values, in their order; value 1 has "
      "another place in the model");
  EXPECT_EQ(
      refused(R"("age",{"name":"work","values":["STATE","state"]})"),
      "file.json: column \"work\": expected the model's 2 values, in their order; value 2 has "
      "another place in the model");
  EXPECT_EQ(refused(R"("age",{"name":"work","values":["state"]})"),
            "file.json: column \"work\": expected the model's 2 values, in their order, found 1");
  EXPECT_EQ(refused("\"age\"," + work + R"(,{"name":"x","role":"label","values":["yes","no"]})"),
            "file.json: column \"x\": expected the model's 2 values, in their order; value 1 has "
            "another place in the model");
  for (const char* columns : {R"("work","age")", R"("age")", R"("age","work","more")"})
    EXPECT_EQ(refused(columns).find("file.json: expected the model's columns, in their order"), 0U);

  // Of a model that says nothing of it, nothing is asked.
  notes = {};
  EXPECT_EQ(layout_of_model(notes), std::nullopt);
  EXPECT_EQ(refused(R"("x",{"name":"y","role":"label","values":["b","a"]})"), "");
}

}  // namespace
}  // namespace souk::market
