#include "market_api/client/local_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

namespace souk::market {
namespace {

// Whoever may write into the folder guesses the name that is written first.
TEST(LocalFiles, ASecretGoesThroughNoLinkAndIntoNoFileThatWasThere) {
  std::string pattern = (std::filesystem::temp_directory_path() / "souk-files-XXXXXX").string();
  ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
  const std::string& folder = pattern;
  std::string first = folder + "/key.new-" + std::to_string(::getpid());
  ASSERT_TRUE(save_file(folder + "/theirs", as_bytes("theirs"), FileMode::kShared));

  ASSERT_EQ(::symlink((folder + "/theirs").c_str(), first.c_str()), 0);
  ASSERT_TRUE(save_file(folder + "/key", as_bytes("secret"), FileMode::kPrivate));
  EXPECT_EQ(to_text(load_file(folder + "/theirs", 100).take()), "theirs");

  ASSERT_TRUE(save_file(first, as_bytes("left by a crash"), FileMode::kShared));
  ASSERT_TRUE(save_file(folder + "/key", as_bytes("secret"), FileMode::kPrivate));
  struct stat info {};
  ASSERT_EQ(::lstat((folder + "/key").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, mode_t{0600});
  EXPECT_EQ(to_text(load_file(folder + "/key", 100).take()), "secret");
  std::filesystem::remove_all(folder);
}

TEST(LocalFiles, SeveralAreSavedTogetherOrNotAtAll) {
  std::string folder = (std::filesystem::temp_directory_path() / "souk-files-XXXXXX").string();
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  std::string deep = folder + "/one/two";
  auto a = as_bytes("a"), b = as_bytes("b");
  ASSERT_TRUE(save_files(deep, {{"x", a}, {"y", b}}));
  EXPECT_EQ(list_directory(deep), (std::vector<std::string>{"x", "y"}));

  // The second cannot be written: the first keeps what it had, and nothing new stands there.
  ASSERT_TRUE(make_directory(deep + "/z"));
  EXPECT_EQ(save_files(deep, {{"x", b}, {"new", b}, {"z", b}}).error().code(), Code::kMalformed);
  EXPECT_EQ(list_directory(deep), (std::vector<std::string>{"x", "y", "z"}));
  EXPECT_EQ(to_text(load_file(deep + "/x", 100).take()), "a");

  // Nor do folders that were made for it.
  std::string in_vain = folder + "/three/four";
  EXPECT_FALSE(save_files(in_vain, {{"x", a}, {"no/such/folder", b}}));
  EXPECT_FALSE(path_exists(folder + "/three"));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace souk::market
