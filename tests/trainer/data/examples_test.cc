// The data that comes with souk imports, and is what examples/data/README.md says.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "trainer/data/import.h"

namespace souk::trainer {
namespace {

namespace fs = std::filesystem;

fs::path source_folder() {
  const char* source = std::getenv("SOUK_SOURCE");
  return source ? source : ".";
}

Bytes read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

TEST(ExampleData, WdbcHas569PatientsWith30Features) {
  auto file = read_file(source_folder() / "examples/data/wdbc.csv");
  auto dataset = import_csv(file, {.label = "diagnosis"});
  ASSERT_TRUE(dataset) << dataset.error().expected();
  EXPECT_EQ(dataset->rows(), 569u);
  EXPECT_EQ(dataset->schema.feature_shape, (TensorShape{30}));
  EXPECT_EQ(dataset->schema.feature_names.front(), "mean_radius");
  EXPECT_EQ(dataset->schema.feature_names.back(), "worst_fractal_dimension");
  EXPECT_EQ(dataset->schema.classes, (std::vector<std::string>{"B", "M"}));
  EXPECT_EQ(std::count(dataset->labels.begin(), dataset->labels.end(), 1), 212);
  EXPECT_EQ(std::get<0>(dataset->features)[0], 17.99f);
}

TEST(ExampleData, DigitsAre1797ImagesOfTenClasses) {
  auto file = read_file(source_folder() / "examples/data/digits.csv");
  auto dataset = import_csv(
      file, {.label = "digit", .feature_shape = {1, 8, 8}, .feature_type = FeatureType::kU8});
  ASSERT_TRUE(dataset) << dataset.error().expected();
  EXPECT_EQ(dataset->rows(), 1797u);
  EXPECT_EQ(dataset->schema.classes.size(), 10u);
  EXPECT_EQ(dataset->labels[9], 9);
  auto& pixels = std::get<1>(dataset->features);
  EXPECT_EQ(*std::max_element(pixels.begin(), pixels.end()), 16);
  auto packed = dataset_to_safetensors(*dataset).take();
  EXPECT_EQ(*dataset_from_safetensors(packed), *dataset);
}

TEST(SplitWdbc, GivesThreeDisjointHospitalsAndAHeldOutRest) {
  auto name = (fs::temp_directory_path() / "souk-split-XXXXXX").string();
  ASSERT_NE(mkdtemp(name.data()), nullptr);
  auto script = (source_folder() / "scripts/split-wdbc").string();
  ASSERT_EQ(std::system((script + " '" + name + "' >/dev/null").c_str()), 0);

  std::multiset<std::string> cut;
  for (auto [part, rows] : {std::pair("hospital_a", 150u), std::pair("hospital_b", 150u),
                            std::pair("hospital_c", 150u), std::pair("held_out", 119u)}) {
    auto file = fs::path(name) / (std::string(part) + ".csv");
    auto dataset = import_csv(read_file(file), {.label = "diagnosis"});
    ASSERT_TRUE(dataset) << dataset.error().expected();
    EXPECT_EQ(dataset->rows(), rows) << part;
    EXPECT_EQ(dataset->schema.classes, (std::vector<std::string>{"B", "M"})) << part;
    std::ifstream in(file);
    std::string line;
    std::getline(in, line);
    while (std::getline(in, line)) cut.insert(line);
  }
  std::ifstream whole(source_folder() / "examples/data/wdbc.csv");
  std::multiset<std::string> lines;
  std::string line;
  std::getline(whole, line);
  while (std::getline(whole, line)) lines.insert(line);
  EXPECT_EQ(cut, lines);
  fs::remove_all(name);
}

TEST(SharedData, MnistImportsFromItsOwnFiles) {
  const char* shared = std::getenv("SOUK_SHARED");
  auto folder = fs::path(shared ? shared : "") / "data/mnist";
  if (!fs::is_directory(folder)) GTEST_SKIP() << "the MNIST files are not there";
  auto images = read_file(folder / "t10k-images-idx3-ubyte.gz");
  auto labels = read_file(folder / "t10k-labels-idx1-ubyte.gz");
  auto dataset = import_idx(images, labels, {});
  ASSERT_TRUE(dataset) << dataset.error().expected();
  EXPECT_EQ(dataset->rows(), 10000u);
  EXPECT_EQ(dataset->schema.feature_shape, (TensorShape{1, 28, 28}));
  EXPECT_EQ(dataset->labels[0], 7);
}

}  // namespace
}  // namespace souk::trainer
