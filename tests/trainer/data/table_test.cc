#include "trainer/data/table.h"

#include <gtest/gtest.h>

#include <cstring>

#include <cmath>
#include <limits>

namespace souk::trainer {
namespace {

Dataset two_patients() {
  Dataset dataset;
  dataset.features = std::vector<float>{1.5f, -2.0f, 0.0f, 4.0f};
  dataset.labels = {0, 1};
  dataset.schema = {{2}, {"mass", "age"}, "diagnosis", {"B", "M"}};
  return dataset;
}

Dataset two_images() {
  Dataset dataset;
  dataset.features = std::vector<uint8_t>{0, 255, 7, 8, 9, 10, 11, 12};
  dataset.labels = {1, 0};
  dataset.schema = {{1, 2, 2}, {}, "digit", {"0", "1"}};
  return dataset;
}

TEST(Dataset, RoundTripsThroughSafetensors) {
  for (const auto& dataset : {two_patients(), two_images()}) {
    auto file = dataset_to_safetensors(dataset).take();
    auto back = dataset_from_safetensors(file);
    ASSERT_TRUE(back) << back.error().expected();
    EXPECT_EQ(*back, dataset);
    EXPECT_EQ(dataset_to_safetensors(*back).take(), file);
  }
}

TEST(Dataset, HasTheHeaderOfTheSpecification) {
  auto file = dataset_to_safetensors(two_images()).take();
  auto text = to_text(file);
  std::string header =
      R"({"__metadata__":{"classes":"[\"0\",\"1\"]","feature_names":"[]","label_name":"digit",)"
      R"("version":"souk-dataset/1"},"features":{"data_offsets":[16,24],"dtype":"U8",)"
      R"("shape":[2,1,2,2]},"labels":{"data_offsets":[0,16],"dtype":"I64","shape":[2]}})";
  EXPECT_EQ(text.substr(8, header.size()), header);
}

TEST(DatasetFile, ReadsRowsWhereTheyLie) {
  auto file = dataset_to_safetensors(two_patients()).take();
  auto view = DatasetFile::of(file).take();
  EXPECT_EQ(view.rows(), 2u);
  EXPECT_EQ(view.feature_count(), 2u);
  EXPECT_EQ(view.schema(), two_patients().schema);
  std::vector<float> row(2);
  view.copy_row(1, row);
  EXPECT_EQ(row, (std::vector<float>{0.0f, 4.0f}));
  EXPECT_EQ(view.label(1), 1);
}

TEST(DatasetFile, GivesBytesAsUnscaledFloats) {
  auto file = dataset_to_safetensors(two_images()).take();
  auto view = DatasetFile::of(file).take();
  std::vector<float> row(4);
  view.copy_row(0, row);
  EXPECT_EQ(row, (std::vector<float>{0.0f, 255.0f, 7.0f, 8.0f}));
  EXPECT_EQ(view.feature_dtype(), Dtype::kU8);
}

TEST(DatasetFile, ReadsBytesThatAreNotAligned) {
  auto file = dataset_to_safetensors(two_patients()).take();
  Bytes shifted(1);
  append(shifted, file);
  auto view = DatasetFile::of(ByteView(shifted).subspan(1)).take();
  std::vector<float> row(2);
  view.copy_row(0, row);
  EXPECT_EQ(row, (std::vector<float>{1.5f, -2.0f}));
}

TEST(Dataset, WithOneThingWrongIsRefused) {
  struct Lie {
    const char* what;
    void (*tell)(Dataset&);
  };
  const Lie lies[] = {
      {"label below zero", [](Dataset& d) { d.labels[0] = -1; }},
      {"label past the classes", [](Dataset& d) { d.labels[1] = 2; }},
      {"one label more", [](Dataset& d) { d.labels.push_back(0); }},
      {"one label less", [](Dataset& d) { d.labels.pop_back(); }},
      {"no rows", [](Dataset& d) { d.labels.clear(), d.features = std::vector<float>(); }},
      {"one value more", [](Dataset& d) { std::get<0>(d.features).push_back(0); }},
      {"a NaN",
       [](Dataset& d) { std::get<0>(d.features)[3] = std::numeric_limits<float>::quiet_NaN(); }},
      {"an infinity",
       [](Dataset& d) { std::get<0>(d.features)[0] = -std::numeric_limits<float>::infinity(); }},
      {"another shape", [](Dataset& d) { d.schema.feature_shape = {3}; }},
      {"no shape", [](Dataset& d) { d.schema.feature_shape = {}; }},
      {"an empty dimension",
       [](Dataset& d) {
         d.schema.feature_shape = {2, 0};
       }},
      {"a shape that overflows",
       [](Dataset& d) {
         d.schema.feature_shape = {uint64_t{1} << 63, 4};
       }},
      {"one name less", [](Dataset& d) { d.schema.feature_names.pop_back(); }},
      {"a name twice", [](Dataset& d) { d.schema.feature_names[0] = "age"; }},
      {"an empty name", [](Dataset& d) { d.schema.feature_names[0] = ""; }},
      {"a name with a line end", [](Dataset& d) { d.schema.feature_names[0] = "a\nb"; }},
      {"a name that is not UTF-8", [](Dataset& d) { d.schema.feature_names[0] = "\xff"; }},
      {"a long name", [](Dataset& d) { d.schema.feature_names[0] = std::string(257, 'x'); }},
      {"no label name", [](Dataset& d) { d.schema.label_name = ""; }},
      {"no classes", [](Dataset& d) { d.schema.classes = {}; }},
      {"a class twice",
       [](Dataset& d) {
         d.schema.classes = {"B", "B"};
       }},
      {"too many classes",
       [](Dataset& d) {
         d.schema.classes.clear();
         for (size_t i = 0; i <= kMaxClasses; ++i) d.schema.classes.push_back(std::to_string(i));
       }},
  };
  EXPECT_TRUE(validate(two_patients()));
  for (const auto& lie : lies) {
    auto dataset = two_patients();
    lie.tell(dataset);
    EXPECT_FALSE(validate(dataset)) << lie.what;
    EXPECT_FALSE(dataset_to_safetensors(dataset)) << lie.what;
  }
}

// ---- files that another writer made ----

struct Parts {
  Bytes features = Bytes(16);
  Bytes labels = Bytes(16);
  std::vector<Tensor> tensors;
  TensorMetadata metadata{{"version", "souk-dataset/1"},
                          {"label_name", "diagnosis"},
                          {"classes", R"(["B","M"])"},
                          {"feature_names", R"(["mass","age"])"}};

  Parts() {
    tensors = {{"features", Dtype::kF32, {2, 2}, features}, {"labels", Dtype::kI64, {2}, labels}};
  }
  Parts(const Parts&) = delete;
  Parts& operator=(const Parts&) = delete;
  bool accepted() const {
    auto file = write_safetensors(tensors, metadata).take();
    EXPECT_EQ(bool(DatasetFile::of(file)), bool(dataset_from_safetensors(file)));
    return bool(DatasetFile::of(file));
  }
};

TEST(DatasetFile, OfTheRightPartsIsAccepted) {
  EXPECT_TRUE(Parts().accepted());
}

// What a private run reads: no row decides whether the file is one, and no row changes another.
TEST(DatasetFile, ClampsWhatIsNoNumberAndNoLabelWhereItIsToldToRowByRow) {
  Parts parts;
  const float values[] = {std::numeric_limits<float>::quiet_NaN(), 2, 3,
                          -std::numeric_limits<float>::infinity()};
  const int64_t labels[] = {1, -5};
  std::memcpy(parts.features.data(), values, sizeof values);
  std::memcpy(parts.labels.data(), labels, sizeof labels);
  auto file = write_safetensors(parts.tensors, parts.metadata).take();
  EXPECT_FALSE(dataset_from_safetensors(file));
  auto read = dataset_from_safetensors(file, Values::kClamped);
  ASSERT_TRUE(read) << read.error().expected();
  EXPECT_EQ(std::get<std::vector<float>>(read->features), (std::vector<float>{0, 2, 3, 0}));
  EXPECT_EQ(read->labels, (std::vector<int64_t>{1, 0}));
  EXPECT_TRUE(validate(*read));
}

TEST(DatasetFile, WithOneThingWrongIsRefused) {
  struct Lie {
    const char* what;
    void (*tell)(Parts&);
  };
  const Lie lies[] = {
      {"another version", [](Parts& p) { p.metadata["version"] = "souk-dataset/2"; }},
      {"no version", [](Parts& p) { p.metadata.erase("version"); }},
      {"no classes", [](Parts& p) { p.metadata.erase("classes"); }},
      {"no feature names", [](Parts& p) { p.metadata.erase("feature_names"); }},
      {"no label name", [](Parts& p) { p.metadata.erase("label_name"); }},
      {"more metadata", [](Parts& p) { p.metadata["note"] = "hello"; }},
      {"classes with a space", [](Parts& p) { p.metadata["classes"] = R"(["B", "M"])"; }},
      {"classes that are numbers", [](Parts& p) { p.metadata["classes"] = "[0,1]"; }},
      {"classes that are no list", [](Parts& p) { p.metadata["classes"] = "{}"; }},
      {"one name less", [](Parts& p) { p.metadata["feature_names"] = R"(["mass"])"; }},
      {"a third tensor",
       [](Parts& p) {
         p.tensors.push_back({"more", Dtype::kU8, {0}, {}});
       }},
      {"no labels", [](Parts& p) { p.tensors.pop_back(); }},
      {"another name", [](Parts& p) { p.tensors[0].name = "feature"; }},
      {"integer features", [](Parts& p) { p.tensors[0].dtype = Dtype::kI32; }},
      {"unsigned labels", [](Parts& p) { p.tensors[1].dtype = Dtype::kU64; }},
      {"labels in two dimensions",
       [](Parts& p) {
         p.tensors[1].shape = {2, 1};
       }},
      {"rows that differ",
       [](Parts& p) {
         p.tensors[0].shape = {1, 4};
       }},
      {"features without columns",
       [](Parts& p) {
         p.tensors[0].shape = {2};
         p.tensors[0].bytes = p.tensors[0].bytes.first(8);
       }},
      {"a label out of range", [](Parts& p) { p.labels[8] = 2; }},
      {"a label below zero", [](Parts& p) { p.labels[15] = 0x80; }},
      {"an infinity", [](Parts& p) { p.features[14] = 0x80, p.features[15] = 0x7f; }},
  };
  for (const auto& lie : lies) {
    Parts parts;
    lie.tell(parts);
    EXPECT_FALSE(parts.accepted()) << lie.what;
  }
}

}  // namespace
}  // namespace souk::trainer
