#include "market_api/client/local_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
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

std::string new_folder() {
  std::string folder = (std::filesystem::temp_directory_path() / "souk-files-XXXXXX").string();
  EXPECT_NE(::mkdtemp(folder.data()), nullptr);
  return folder;
}

TEST(LocalFiles, ALinkStaysAndWhatItLeadsToIsWritten) {
  std::string folder = new_folder();
  ASSERT_TRUE(make_directory(folder + "/deep"));
  ASSERT_TRUE(save_file(folder + "/deep/there", as_bytes("old"), FileMode::kShared));
  std::filesystem::create_symlink("deep/second", folder + "/first");
  std::filesystem::create_symlink("there", folder + "/deep/second");
  std::filesystem::create_symlink(folder + "/deep/later", folder + "/dangling");
  std::filesystem::create_symlink("loop", folder + "/loop");
  std::filesystem::create_symlink("deep", folder + "/folder");

  ASSERT_TRUE(save_file(folder + "/first", as_bytes("new"), FileMode::kShared));
  ASSERT_TRUE(save_file(folder + "/dangling", as_bytes("made"), FileMode::kShared));
  EXPECT_EQ(to_text(load_file(folder + "/deep/there", 100).take()), "new");
  EXPECT_EQ(to_text(load_file(folder + "/deep/later", 100).take()), "made");
  for (const char* name : {"/first", "/deep/second", "/dangling"})
    EXPECT_TRUE(std::filesystem::is_symlink(folder + name)) << name;
  EXPECT_EQ(list_directory(folder + "/deep"),
            (std::vector<std::string>{"later", "second", "there"}));

  for (const char* name : {"/loop", "/folder", "/deep"}) {
    EXPECT_EQ(save_file(folder + name, as_bytes("x"), FileMode::kShared).error().code(),
              Code::kMalformed)
        << name;
  }
  // Of several files none goes through a link.
  EXPECT_EQ(save_files(folder, {{"a", as_bytes("a")}, {"first", as_bytes("b")}}).error().code(),
            Code::kMalformed);
  EXPECT_FALSE(path_exists(folder + "/a"));
  EXPECT_EQ(to_text(load_file(folder + "/deep/there", 100).take()), "new");
  std::filesystem::remove_all(folder);
}

TEST(LocalFiles, APipeOrADescriptorIsWrittenIntoAndStays) {
  std::string folder = new_folder();
  std::string pipe = folder + "/pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(load_file(pipe, 100).error().code(), Code::kMalformed);
  int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(reader, 0);
  ASSERT_TRUE(save_file(pipe, as_bytes("through"), FileMode::kShared));
  std::array<char, 16> read{};
  EXPECT_EQ(::read(reader, read.data(), read.size()), 7);
  EXPECT_STREQ(read.data(), "through");
  ::close(reader);
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
  EXPECT_EQ(save_files(folder, {{"a", as_bytes("a")}, {"pipe", as_bytes("b")}}).error().code(),
            Code::kMalformed);
  EXPECT_EQ(list_directory(folder), (std::vector<std::string>{"pipe"}));

  // As /dev/stdout is where a shell appends its output to a file.
  std::string log = folder + "/log";
  ASSERT_TRUE(save_file(log, as_bytes("before "), FileMode::kShared));
  int fd = ::open(log.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  std::filesystem::create_symlink("/proc/self/fd/" + std::to_string(fd), folder + "/out");
  ASSERT_TRUE(save_file(folder + "/out", as_bytes("after"), FileMode::kShared));
  ASSERT_TRUE(save_file("/dev/fd/" + std::to_string(fd), as_bytes("."), FileMode::kShared));
  ::close(fd);
  EXPECT_EQ(to_text(load_file(log, 100).take()), "before after.");
  EXPECT_EQ(save_file(folder + "/out", as_bytes("x"), FileMode::kShared).error().code(),
            Code::kMalformed);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace souk::market
