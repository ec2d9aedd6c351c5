// Keys of people, and files of theirs.
#include "market_api/client/identity.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "market_api/client/dataset_file.h"
#include "market_api/client/local_files.h"
#include "tests/support/market_fixture.h"

namespace souk::market {
namespace {

using flows::TempFolder;

MarketPin pin() {
  return {"http://127.0.0.1:1", MarketId(Digest{1}), "origin+00000000+AA=="};
}

TEST(Identity, IsTheSameWhenOpenedAgain) {
  TempFolder folder;
  Home home(folder.file("home"));
  auto made = home.create("lab", pin());
  ASSERT_TRUE(made) << made.error().expected();
  auto opened = home.open(std::nullopt);
  ASSERT_TRUE(opened) << opened.error().expected();
  EXPECT_EQ(opened->name(), "lab");
  EXPECT_EQ(opened->account(), made->account());
  EXPECT_EQ(opened->recipient(), made->recipient());
  EXPECT_EQ(opened->pin(), pin());
  struct stat info {};
  ASSERT_EQ(::stat((made->directory() + "/key.json").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST(Identity, RemembersTheWitnessPolicyThatItPins) {
  TempFolder folder;
  Home home(folder.path());
  auto pinned = pin();
  pinned.witness_policy = "witness W key\nquorum W\n";
  ASSERT_TRUE(home.create("lab", pinned));
  ASSERT_TRUE(home.create("other", pin()));
  EXPECT_EQ(home.open("lab")->pin(), pinned);
  EXPECT_EQ(home.open("other")->pin().witness_policy, "");
}

TEST(Identity, TheFirstIsTheDefaultAndNamesAreTakenOnce) {
  TempFolder folder;
  Home home(folder.path());
  ASSERT_TRUE(home.create("first", pin()));
  ASSERT_TRUE(home.create("second", pin()));
  EXPECT_EQ(home.open(std::nullopt)->name(), "first");
  EXPECT_EQ(home.open("second")->name(), "second");
  EXPECT_NE(home.open("second")->account(), home.open("first")->account());
  auto again = home.create("first", pin());
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), Code::kConflict);
  EXPECT_EQ(home.open("third").error().code(), Code::kNotFound);
  EXPECT_EQ(home.names(), (std::vector<std::string>{"first", "second"}));
}

TEST(Identity, NamesAreNotPaths) {
  TempFolder folder;
  Home home(folder.path());
  for (const char* name : {"", ".", "..", "a/b", "../x", "-x", "a b", "\xc3\xa4"}) {
    auto made = home.create(name, pin());
    ASSERT_FALSE(made) << name;
    EXPECT_EQ(made.error().code(), Code::kMalformed) << name;
    EXPECT_FALSE(home.open(name)) << name;
  }
  EXPECT_FALSE(home.create(std::string(65, 'a'), pin()));
  EXPECT_TRUE(home.create(std::string(64, 'a'), pin()));
}

TEST(Identity, ADamagedKeyFileIsNamed) {
  TempFolder folder;
  Home home(folder.path());
  auto made = home.create("lab", pin());
  ASSERT_TRUE(made);
  std::string path = made->directory() + "/key.json";
  ASSERT_TRUE(save_file(path, as_bytes("{\"age\":1}"), FileMode::kPrivate));
  auto opened = home.open("lab");
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), Code::kMalformed);
  EXPECT_NE(opened.error().expected().find("key.json"), std::string::npos);
}

TEST(Home, TheFlagWinsThenTheVariablesInOrder) {
  EXPECT_EQ(find_home({"f", "s", "x", "h"})->directory(), "f");
  EXPECT_EQ(find_home({std::nullopt, "s", "x", "h"})->directory(), "s");
  EXPECT_EQ(find_home({std::nullopt, "", "x", "h"})->directory(), "x/souk");
  EXPECT_EQ(find_home({std::nullopt, std::nullopt, std::nullopt, "h"})->directory(), "h/.souk");
  EXPECT_FALSE(find_home({}));
}

TEST(SigningKeyFile, ReadsWhatItWrote) {
  TempFolder folder;
  auto key = ledger::SigningKey::generate();
  ASSERT_TRUE(save_signing_key(folder.file("key"), key));
  EXPECT_EQ(load_signing_key(folder.file("key"))->public_key(), key.public_key());
  ASSERT_TRUE(save_file(folder.file("short"), as_bytes("abcd\n"), FileMode::kPrivate));
  EXPECT_EQ(load_signing_key(folder.file("short")).error().code(), Code::kMalformed);
  EXPECT_EQ(load_signing_key(folder.file("none")).error().code(), Code::kNotFound);
}

TEST(DatasetFile, LeavesOutTheColumnsThatTheModelDoesNotKnow) {
  TempFolder folder;
  std::string path = folder.file("rows.csv");
  ASSERT_TRUE(
      save_file(path, as_bytes("id,a,\"b\", name ,y\n7,1,2,9,M\n8,3,4,9,B\n"), FileMode::kShared));
  DatasetFile file;
  file.path = path;
  file.label = "y";
  file.features = {"a", "b"};
  file.classes = {"B", "M"};
  auto dataset = load_dataset(file);
  ASSERT_TRUE(dataset) << dataset.error().expected();
  EXPECT_EQ(dataset->schema.feature_names, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(dataset->labels, (std::vector<int64_t>{1, 0}));
}

TEST(DatasetFile, ErrorsNameTheFile) {
  TempFolder folder;
  DatasetFile file;
  file.path = folder.file("none.csv");
  file.label = "y";
  auto none = load_dataset(file);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), Code::kMalformed);
  EXPECT_NE(none.error().expected().find(file.path), std::string::npos);
  file.path = folder.file("bad.csv");
  ASSERT_TRUE(save_file(file.path, as_bytes("a,y\n1,M\nx,B\n"), FileMode::kShared));
  auto bad = load_dataset(file);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code(), Code::kMalformed);
  EXPECT_NE(bad.error().expected().find("bad.csv"), std::string::npos);
  file.path = folder.path();
  EXPECT_EQ(load_dataset(file).error().code(), Code::kMalformed);
}

}  // namespace
}  // namespace souk::market
