#include <gtest/gtest.h>

#include "trainer/data/csv_layout.h"
#include "trainer/data/import.h"

namespace souk::trainer {
namespace {

Result<Dataset> import_text(std::string_view text, CsvOptions options = {.label = "kind"}) {
  return import_csv(as_bytes(text), options);
}

std::string error_of(std::string_view text, CsvOptions options = {.label = "kind"}) {
  auto dataset = import_text(text, std::move(options));
  return dataset ? "no error" : dataset.error().expected();
}

const std::vector<float>& floats(const Dataset& dataset) {
  return std::get<std::vector<float>>(dataset.features);
}

TEST(ImportCsv, ReadsFeaturesInColumnOrderAndNumbersSortedClasses) {
  auto dataset = import_text("mass,kind,age\n1.5,M,2\n-3e2,B,0.25\n").take();
  EXPECT_EQ(floats(dataset), (std::vector<float>{1.5f, 2.0f, -300.0f, 0.25f}));
  EXPECT_EQ(dataset.labels, (std::vector<int64_t>{1, 0}));
  EXPECT_EQ(dataset.schema.classes, (std::vector<std::string>{"B", "M"}));
  EXPECT_EQ(dataset.schema.feature_names, (std::vector<std::string>{"mass", "age"}));
  EXPECT_EQ(dataset.schema.feature_shape, (TensorShape{2}));
  EXPECT_EQ(dataset.schema.label_name, "kind");
}

TEST(ImportCsv, SortsIntegerClassesAsNumbersAndOthersAsBytes) {
  auto numbers = import_text("x,kind\n0,10\n0,9\n0,-1\n").take();
  EXPECT_EQ(numbers.schema.classes, (std::vector<std::string>{"-1", "9", "10"}));
  EXPECT_EQ(numbers.labels, (std::vector<int64_t>{2, 1, 0}));
  auto names = import_text("x,kind\n0,10\n0,9\n0,09\n").take();
  EXPECT_EQ(names.schema.classes, (std::vector<std::string>{"09", "10", "9"}));
}

TEST(ImportCsv, SaysWhereATextIsNoName) {
  const std::string no_class =
      "expected a class of 1 to 256 bytes of UTF-8 without control characters";
  const std::string no_column =
      "expected a column name of 1 to 256 bytes of UTF-8 without control characters";
  for (const std::string& bad :
       {std::string("\xff"), std::string("M\xc3"), std::string("\xed\xa0\x80"),
        std::string("a\x01"), std::string(257, 'x')}) {
    EXPECT_EQ(error_of("x,kind\n0,M\n1," + bad + "\n"), "line 3, column 2 (kind): " + no_class);
    EXPECT_EQ(error_of("kind," + bad + "\nM,1\n"), "line 1, column 2: " + no_column);
    auto guessed = guess_csv_layout(as_bytes("kind," + bad + "\nM,1\n"), "kind", {}, "");
    ASSERT_FALSE(guessed);
    EXPECT_EQ(guessed.error().expected(), "line 1, column 2: " + no_column);
    CsvLayout layout;
    layout.columns = {{"x", CsvColumn::Role::kNumber, {}, {}},
                      {"kind", CsvColumn::Role::kLabel, {}, {}}};
    auto laid = import_laid_out_csv(as_bytes("0,M\n1," + bad + "\n"), layout, Labels::kNeeded,
                                    Unlisted::kRefused);
    ASSERT_FALSE(laid);
    EXPECT_EQ(laid.error().expected(), "line 2, column 2 (kind): " + no_class);
  }
  EXPECT_EQ(import_text("x,kind\n0,\xc3\xa9\n")->schema.classes,
            (std::vector<std::string>{"\xc3\xa9"}));
}

TEST(ImportCsv, KeepsTheNumberingOfGivenClasses) {
  CsvOptions options{.label = "kind", .classes = {"M", "B", "unknown"}};
  auto dataset = import_text("x,kind\n0,B\n1,M\n", options).take();
  EXPECT_EQ(dataset.labels, (std::vector<int64_t>{1, 0}));
  EXPECT_EQ(dataset.schema.classes, options.classes);
  EXPECT_EQ(error_of("x,kind\n0,B\n1,C\n", options),
            "line 3, column 2 (kind): expected one of the classes that were given");
}

TEST(ImportCsv, DropsColumnsWhateverTheyHold) {
  CsvOptions options{.label = "kind", .drop = {"id"}};
  auto dataset = import_text("id,x,kind\nabc,1,B\n,2,M\n", options).take();
  EXPECT_EQ(floats(dataset), (std::vector<float>{1.0f, 2.0f}));
}

TEST(ImportCsv, ReadsRfc4180) {
  auto dataset =
      import_text("\"x\",\"the \"\"kind\"\", really\"\r\n\"1\",\"two\r\nlines\"\r\n 2 ,plain\r\n",
                  {.label = "the \"kind\", really", .classes = {"two\r\nlines", "plain"}});
  // A class name with a line end is read rightly and then refused as a name.
  EXPECT_FALSE(dataset);
  auto quoted =
      import_text("\"x\",\"a,b\"\r\n\"1\",\"c,\"\"d\"\"\"\r\n 2 ,e\r\n", {.label = "a,b"});
  ASSERT_TRUE(quoted) << quoted.error().expected();
  EXPECT_EQ(quoted->schema.classes, (std::vector<std::string>{"c,\"d\"", "e"}));
  EXPECT_EQ(floats(*quoted), (std::vector<float>{1.0f, 2.0f}));
}

TEST(ImportCsv, CountsLinesInsideQuotes) {
  EXPECT_EQ(error_of("x,note,kind\n1,\"a\nb\",M\n?,c,M\n", {.label = "kind", .drop = {"note"}}),
            "line 4, column 1 (x): expected a finite number");
}

TEST(ImportCsv, AcceptsAMissingLastLineEndBlankLastLinesAndAByteOrderMark) {
  auto expected = import_text("x,kind\n1,a\n2,b\n").take();
  EXPECT_EQ(*import_text("x,kind\n1,a\n2,b"), expected);
  EXPECT_EQ(*import_text("x,kind\r\n1,a\r\n2,b\r\n\r\n\n"), expected);
  EXPECT_EQ(*import_text("\xef\xbb\xbfx,kind\n1,a\n2,b\n"), expected);
}

TEST(ImportCsv, NamesLineAndColumnOfWhatIsWrong) {
  EXPECT_EQ(error_of("x,y,kind\n1,2,a\n1,,a\n"), "line 3, column 2 (y): expected a finite number");
  EXPECT_EQ(error_of("x,y,kind\n1,2,a\n1,2\n"),
            "line 3: expected 3 columns as in the header, found 2");
  EXPECT_EQ(error_of("x,y,kind\n1,2,a,4\n"),
            "line 2: expected 3 columns as in the header, found 4");
  EXPECT_EQ(error_of("x,kind\n\n1,a\n"), "line 2: expected 2 columns as in the header, found 1");
  EXPECT_EQ(error_of("x,kind\n1,\n"), "line 2, column 2 (kind): expected a class, found nothing");
  EXPECT_EQ(error_of("x,kind\n1,\"a\n"), "line 2, column 2: expected a closing quote");
  EXPECT_EQ(error_of("x,kind\n1,a\"b\n"),
            "line 2, column 2: expected a quote only around a whole field");
  EXPECT_EQ(error_of("x,kind\n1,\"a\"b\n"),
            "line 2, column 2: expected a comma or the end of the line");
  EXPECT_EQ(error_of("x,kind\n1,a\r2,b\n"),
            "line 2, column 2: expected a comma or the end of the line");
}

TEST(ImportCsv, RefusesValuesThatAreNotFiniteNumbers) {
  for (const char* value : {"inf", "-inf", "nan", "1e39", "1e400", "0x10", "1,5", "1_000", "--1",
                            "+1", "1 2", "1e", ".", "?", "true"}) {
    EXPECT_NE(error_of(std::string("x,kind\n") + value + ",a\n"), "no error") << value;
  }
  EXPECT_EQ(floats(*import_text("x,kind\n1e-60,a\n-0,a\n.5,a\n3.4028234e38,a\n")),
            (std::vector<float>{0.0f, -0.0f, 0.5f, 3.4028234e38f}));
}

TEST(ImportCsv, RefusesHeadersThatDoNotNameTheColumns) {
  EXPECT_EQ(error_of(""), "line 1: expected a header row with the names of the columns");
  EXPECT_EQ(error_of("\n\n"), "line 1: expected a header row with the names of the columns");
  EXPECT_EQ(error_of("x,y\n1,2\n"), "line 1: expected a column named \"kind\" for the label");
  EXPECT_EQ(error_of("x,,kind\n1,2,3\n"),
            "line 1, column 2: expected a column name of 1 to 256 bytes of UTF-8 without control "
            "characters");
  EXPECT_EQ(error_of("x,x,kind\n1,2,3\n"), "line 1, column 2: expected each column name once");
  EXPECT_EQ(error_of("kind\na\n"), "line 1: expected a column beside the label");
  EXPECT_EQ(error_of("x,kind\n1,a\n", {.label = "kind", .drop = {"id"}}),
            "line 1: expected a column named \"id\" to drop");
  EXPECT_EQ(error_of("x,kind\n1,a\n", {.label = "kind", .drop = {"kind"}}),
            "line 1, column 2: expected the label not to be dropped");
  EXPECT_EQ(error_of("x,kind\n"), "line 2: expected a row of data after the header");
}

TEST(ImportCsv, MakesBytesAndShapesWhenAsked) {
  CsvOptions options{.label = "kind", .feature_shape = {1, 2, 2}, .feature_type = FeatureType::kU8};
  auto dataset = import_text("a,b,c,d,kind\n0,1,254,255,x\n", options).take();
  EXPECT_EQ(std::get<1>(dataset.features), (std::vector<uint8_t>{0, 1, 254, 255}));
  EXPECT_EQ(dataset.schema.feature_shape, (TensorShape{1, 2, 2}));
  EXPECT_EQ(error_of("a,b,c,d,kind\n0,1,254,256,x\n", options),
            "line 2, column 4 (d): expected an integer from 0 to 255");
  EXPECT_NE(error_of("a,b,c,d,kind\n0,1,-1,2,x\n", options), "no error");
  EXPECT_NE(error_of("a,b,c,d,kind\n0,1,1.0,2,x\n", options), "no error");
  EXPECT_NE(error_of("a,b,c,kind\n0,1,2,x\n", options), "no error");
}

TEST(ImportCsv, RefusesALabelColumnWithTooManyClasses) {
  std::string text = "x,kind\n";
  for (size_t i = 0; i <= kMaxClasses; ++i) text += "1," + std::to_string(i) + "\n";
  EXPECT_NE(error_of(text).find("is this column the label?"), std::string::npos);
}

TEST(ImportCsv, NeverQuotesTheData) {
  for (const char* text : {"x,kind\nSECRET,a\n", "x,kind\n1,\"SECRET\"x\n", "x,kind\n1,SECRET\"\n",
                           "x,kind\n1,2,SECRET\n", "x,kind\n1,SEC\x01RET\n"}) {
    auto error = error_of(text);
    EXPECT_NE(error, "no error");
    EXPECT_EQ(error.find("SEC"), std::string::npos) << error;
  }
}

}  // namespace
}  // namespace souk::trainer
