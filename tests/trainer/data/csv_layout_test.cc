#include "trainer/data/csv_layout.h"

#include <gtest/gtest.h>

namespace souk::trainer {
namespace {

CsvLayout layout_of(const std::string& json) {
  auto layout = csv_layout_from_json(parse_json(json).take(), "csv");
  EXPECT_TRUE(layout) << layout.error().expected();
  return layout ? *layout : CsvLayout();
}

std::string layout_error(const std::string& json) {
  auto layout = csv_layout_from_json(parse_json(json).take(), "csv");
  return layout ? "no error" : layout.error().expected();
}

// The shape of UCI's Adult: no header, ", " between fields, "?" for a missing one.
const char* const kPeople =
    R"({"c45":true,"missing":"?","columns":["age",{"name":"work","values":["Private","State-gov"]},
        {"name":"id","role":"dropped"},{"name":"gain","missing":"-1"},
        {"name":"income","role":"label","values":["<=50K",">50K"]}]})";

Result<LaidOutRows> import_text(std::string_view text, Labels labels = Labels::kNeeded,
                                Unlisted unlisted = Unlisted::kRefused) {
  return import_laid_out_csv(as_bytes(text), layout_of(kPeople), labels, unlisted);
}

std::string error_of(std::string_view text, Labels labels = Labels::kNeeded) {
  auto rows = import_text(text, labels);
  return rows ? "no error" : rows.error().expected();
}

std::vector<float> floats(const LaidOutRows& rows) {
  return std::get<std::vector<float>>(rows.dataset.features);
}

TEST(CsvLayout, ReadsUcisAdultAsItIs) {
  auto rows = import_text("39, State-gov, 77516, 2174, <=50K\n50, ?, 83311, ?, >50K\n\n").take();
  EXPECT_EQ(floats(rows), (std::vector<float>{39, 2, 2174, 50, 0, -1}));
  EXPECT_EQ(rows.dataset.labels, (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(rows.dataset.schema.feature_names, (std::vector<std::string>{"age", "work", "gain"}));
  EXPECT_EQ(rows.dataset.schema.classes, (std::vector<std::string>{"<=50K", ">50K"}));
  // The test file of the same set: a comment on top and a period after each label.
  auto test =
      import_text("|1x3 Cross validator\n39, State-gov, 1, 2174, <=50K.\n50, ?, 2, ?, >50K.\n\n")
          .take();
  EXPECT_EQ(test.dataset, rows.dataset);
}

TEST(CsvLayout, FindsColumnsByNameWhereThereIsAHeader) {
  auto rows = import_text("income,extra,gain,work,age\n>50K,x,1,Private,30\n").take();
  EXPECT_EQ(floats(rows), (std::vector<float>{30, 1, 1}));
  EXPECT_EQ(rows.dataset.labels, (std::vector<int64_t>{1}));
}

TEST(CsvLayout, RowsToPredictNeedNoLabel) {
  auto bare = import_text("30, Private, 7, 1\n", Labels::kIfThere).take();
  EXPECT_FALSE(bare.has_labels);
  EXPECT_EQ(floats(bare), (std::vector<float>{30, 1, 1}));
  EXPECT_FALSE(import_text("gain,work,age\n1,Private,30\n", Labels::kIfThere)->has_labels);
  EXPECT_TRUE(import_text("30, Private, 7, 1, >50K\n", Labels::kIfThere)->has_labels);
  EXPECT_EQ(error_of("30, Private, 7, 1\n"),
            "line 1: expected the 5 columns of the layout, found 4");
  EXPECT_EQ(error_of("gain,work,age\n1,Private,30\n"),
            "line 1: expected a column named \"income\" for the label");
}

TEST(CsvLayout, RefusesWhatItDoesNotList) {
  EXPECT_EQ(error_of("30, Privat, 7, 1, >50K\n"),
            "line 1, column 2 (work): expected one of the column's listed values");
  EXPECT_EQ(floats(*import_text("30, Privat, 7, 1, >50K\n", Labels::kNeeded, Unlisted::kMissing)),
            (std::vector<float>{30, 0, 1}));
  EXPECT_EQ(
      error_of("?, Private, 7, 1, >50K\n"),
      "line 1, column 1 (age): expected a number; the layout says nothing of missing ones here");
  EXPECT_EQ(error_of("x, Private, 7, 1, >50K\n"),
            "line 1, column 1 (age): expected a finite number");
  EXPECT_EQ(error_of("30, Private, 7, 1, 50K\n"),
            "line 1, column 5 (income): expected one of the classes that were given");
  EXPECT_EQ(error_of("30, Private, 7, 1, >50K\n30, Private\n"),
            "line 2: expected 5 columns as in the first record, found 2");
  EXPECT_EQ(error_of("|only a comment\n"), "line 2: expected a row of data");
}

TEST(CsvLayout, CountsWhatItDoesNotListWhereThatIsAsGoodAsMissing) {
  auto rows = import_text("30, Privat, 7, 1, >50K\n31, Private, 7, 1, >50K\n32, Stat, 7, 1, >50K\n",
                          Labels::kNeeded, Unlisted::kMissing)
                  .take();
  ASSERT_EQ(rows.unlisted.size(), 1u);
  EXPECT_EQ(rows.unlisted["work"].rows, 2u);
  EXPECT_EQ(rows.unlisted["work"].example, "Privat");
  EXPECT_TRUE(
      import_text("30, ?, 7, 1, >50K\n", Labels::kNeeded, Unlisted::kMissing)->unlisted.empty());
}

TEST(CsvLayout, NamesTheColumnThatAHeaderLacks) {
  const char* const kLacksAge =
      "line 1: expected a header with a column named \"age\", which it does not have, or a row";
  EXPECT_EQ(error_of("Age,work,id,gain,income\n30,Private,7,1,>50K\n"), kLacksAge);
  EXPECT_EQ(error_of("work,id,gain,income\nPrivate,7,1,>50K\n"), kLacksAge);
  EXPECT_EQ(error_of("work,id,gain\nPrivate,7,1\n", Labels::kIfThere), kLacksAge);
  // Of a table of something else none is there.
  EXPECT_EQ(error_of("a,b,c,d,e\n1,2,3,4,5\n"),
            "line 1: expected a header with a column named \"age\" and 2 more, which it does not "
            "have, or a row");
  // Where unlisted values are allowed, a header is no row of them.
  const std::string layout =
      R"({"columns":[{"name":"a","values":["x"]},{"name":"b","values":["y"]}]})";
  auto taken = import_laid_out_csv(as_bytes("a,c\nx,y\n"), layout_of(layout), Labels::kIfThere,
                                   Unlisted::kMissing);
  EXPECT_FALSE(taken);
  // A row may say a column's name.
  const std::string own = R"({"columns":["n",{"name":"a","values":["a","b"]}]})";
  EXPECT_TRUE(import_laid_out_csv(as_bytes("1,a\n2,b\n"), layout_of(own), Labels::kIfThere,
                                  Unlisted::kRefused));
}

TEST(CsvLayout, AStrayTextAmongNumbersMakesNoCategory) {
  for (const char* stray : {"nan", "1e999", "4e38", "0x10", "inf", "-", "1 2"}) {
    std::string text = "x,kind\n1,a\n2,b\n3,a\n" + std::string(stray) + ",b\n5,a\n";
    auto layout = guess_csv_layout(as_bytes(text), "kind", {}, "?");
    ASSERT_FALSE(layout) << stray;
    EXPECT_EQ(layout.error().expected(),
              "line 5, column 1 (x): expected a finite number, as in 4 of the column's 5 values; a "
              "csv layout that lists the values makes it a category");
  }
  const std::string nul("x,kind\n1,a\n2,b\n3,a\n\0,b\n5,a\n", 27);
  EXPECT_FALSE(guess_csv_layout(as_bytes(nul), "kind", {}, "?"));
  // Texts with a few numbers among them are a category.
  const std::string mixed = "x,kind\n1,a\nred,b\nblue,a\n2,b\n";
  EXPECT_EQ(guess_csv_layout(as_bytes(mixed), "kind", {}, "?")->columns[0].values.size(), 4u);
}

TEST(CsvLayout, IsReadStrictlyAndWrittenBack) {
  auto layout = layout_of(kPeople);
  EXPECT_EQ(csv_layout_from_json(to_json(layout), "csv").take(), layout);
  EXPECT_EQ(layout_error(R"({"columns":["a","a"]})"),
            "csv.columns[2]: expected each column name once");
  EXPECT_EQ(layout_error(R"({"columns":[{"name":"a","role":"label"}]})"),
            "csv.columns: expected a column beside the label");
  EXPECT_EQ(
      layout_error(R"({"columns":["x",{"name":"a","role":"label"},{"name":"b","role":"label"}]})"),
      "csv.columns[3]: expected one label");
  EXPECT_EQ(layout_error(R"({"columns":[{"name":"a","values":["x","x"]}]})"),
            "csv.columns[1].values: expected each value once");
  EXPECT_EQ(layout_error(R"({"columns":[{"name":"a","values":["x"],"missing":"0"}]})"),
            "csv.columns[1].missing: expected only for a column of numbers");
  EXPECT_NE(layout_error(R"({"columns":[{"name":"a","value":["x"]}]})"), "no error");
}

TEST(CsvLayout, IsGuessedFromAHeaderAndItsRows) {
  const std::string text = "age,work,gain,kind,id\n30,Private,1,M,a\n?,State,3,B,b\n10,?,,B,c\n";
  auto layout = guess_csv_layout(as_bytes(text), "kind", {"id"}, "?").take();
  ASSERT_EQ(layout.columns.size(), 5u);
  EXPECT_EQ(layout.columns[0].missing, 20);
  EXPECT_EQ(layout.columns[1].values, (std::vector<std::string>{"Private", "State"}));
  EXPECT_EQ(layout.columns[2].missing, 2);
  auto rows =
      import_laid_out_csv(as_bytes(text), layout, Labels::kNeeded, Unlisted::kRefused).take();
  EXPECT_EQ(floats(rows), (std::vector<float>{30, 1, 1, 20, 2, 3, 10, 0, 2}));
  EXPECT_EQ(rows.dataset.labels, (std::vector<int64_t>{1, 0, 0}));
}

}  // namespace
}  // namespace souk::trainer
