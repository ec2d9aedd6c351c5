// What an enclave loads is what it has to be trusted with. oneDNN is four fifths of it.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace souk::trainer {
namespace {

TEST(Footprint, TheLibrariesOfTheEnclaveStayBelowSixtyMegabytes) {
#ifdef SOUK_SANITIZED
  GTEST_SKIP() << "sanitizers bring libraries of their own";
#endif
  const char* bin = std::getenv("SOUK_BIN");
  const std::string enclave = std::string(bin ? bin : ".") + "/souk-enclave";
  ASSERT_EQ(access(enclave.c_str(), X_OK), 0)
      << "expected souk-enclave in $SOUK_BIN: this program is built after it";
  FILE* output = popen(("ldd '" + enclave + "'").c_str(), "r");
  ASSERT_TRUE(output);
  std::array<char, 1024> line{};
  uintmax_t total = std::filesystem::file_size(enclave);
  int libraries = 0;
  bool onednn = false;
  while (std::fgets(line.data(), static_cast<int>(line.size()), output)) {
    std::string text = line.data();
    EXPECT_EQ(text.find("not found"), std::string::npos) << text;
    const size_t from = text.find("=> /"), to = text.find(" (0x");
    if (from == std::string::npos || to == std::string::npos) continue;
    const std::string path = text.substr(from + 3, to - from - 3);
    total += std::filesystem::file_size(std::filesystem::canonical(path));
    ++libraries;
    onednn |= path.find("libdnnl") != std::string::npos;
    for (const char* no : {"protobuf", "onnx", "cpprest", "libsqlite3", "libssl"})
      EXPECT_EQ(path.find(no), std::string::npos) << path;
  }
  EXPECT_EQ(pclose(output), 0);
  EXPECT_TRUE(onednn);
  EXPECT_GE(libraries, 5);
  EXPECT_LE(total, uintmax_t{60} << 20);
  std::printf("%d libraries and the program: %.1f MB\n", libraries,
              static_cast<double>(total) / (1 << 20));
}

}  // namespace
}  // namespace souk::trainer
