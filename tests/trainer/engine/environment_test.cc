// The same run in two processes, one with every variable set that could change arithmetic.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "ledger/base/bytes.h"
#include "ledger/crypto/hash.h"
#include "tests/trainer/engine/support.h"
#include "trainer/engine/engine.h"

namespace souk::trainer {
namespace {

std::string digest_of_a_run() {
  auto workers = Workers::start(2).take();
  auto spec = testing::plain_spec(
      {16, 12, 12}, 3,
      {testing::convolution(32, 3, 1, 1), testing::layer(contracts::Node::Op::kRelu),
       testing::layer(contracts::Node::Op::kFlatten), testing::linear(64),
       testing::layer(contracts::Node::Op::kTanh), testing::linear(3)},
      3, 0.05);
  auto data = testing::random_data(32, 16 * 12 * 12, 3, 1);
  auto run = TrainingRun::create(spec, data.examples(), testing::root_of(1), *workers).take();
  EXPECT_TRUE(run.run_to_end());
  auto weights = testing::flat(run.finish().take());
  return to_hex(ledger::sha256(
      ByteView(reinterpret_cast<const uint8_t*>(weights.data()), weights.size() * sizeof(float))));
}

TEST(Environment, PrintsTheDigestOfARun) {
  auto digest = digest_of_a_run();
  std::printf("digest %s\n", digest.c_str());
  EXPECT_EQ(digest.size(), 64u);
}

std::string digest_elsewhere(const std::string& variables) {
  std::array<char, 4096> path{};
  if (readlink("/proc/self/exe", path.data(), path.size() - 1) <= 0) return "";
  std::string command = "env " + variables + " '" + path.data() +
                        "' --gtest_filter=Environment.PrintsTheDigestOfARun 2>/dev/null";
  FILE* output = popen(command.c_str(), "r");
  if (!output) return "";
  std::string text;
  std::array<char, 256> line{};
  while (std::fgets(line.data(), static_cast<int>(line.size()), output)) text += line.data();
  if (pclose(output) != 0) return "";
  auto at = text.find("digest ");
  return at == std::string::npos ? "" : text.substr(at + 7, 64);
}

TEST(Environment, DoesNotChangeASingleBit) {
  auto plain = digest_elsewhere("-u ONEDNN_MAX_CPU_ISA");
  ASSERT_EQ(plain.size(), 64u);
  EXPECT_EQ(plain,
            digest_elsewhere(
                "ONEDNN_MAX_CPU_ISA=SSE41 DNNL_MAX_CPU_ISA=SSE41 ONEDNN_CPU_ISA_HINTS=PREFER_YMM "
                "DNNL_CPU_ISA_HINTS=PREFER_YMM ONEDNN_DEFAULT_FPMATH_MODE=ANY "
                "DNNL_DEFAULT_FPMATH_MODE=ANY "
                "OMP_NUM_THREADS=5 OMP_DYNAMIC=true OMP_WAIT_POLICY=active "
                "ONEDNN_PRIMITIVE_CACHE_CAPACITY=0"));
}

// What an enclave loads is what it has to be trusted with. oneDNN is four fifths of it.
TEST(Footprint, TheLibrariesOfTheEnclaveStayBelowSixtyMegabytes) {
  const char* bin = std::getenv("SOUK_BIN");
  const std::string enclave = std::string(bin ? bin : ".") + "/souk-enclave";
  if (access(enclave.c_str(), X_OK) != 0) GTEST_SKIP() << "souk-enclave is not built";
#ifdef SOUK_SANITIZED
  GTEST_SKIP() << "sanitizers bring libraries of their own";
#endif
  FILE* output = popen(("ldd '" + enclave + "'").c_str(), "r");
  ASSERT_TRUE(output);
  std::array<char, 1024> line{};
  uintmax_t total = 0;
  int libraries = 0;
  bool onednn = false;
  while (std::fgets(line.data(), static_cast<int>(line.size()), output)) {
    std::string text = line.data();
    const size_t from = text.find("=> /"), to = text.find(" (0x");
    if (from == std::string::npos || to == std::string::npos) continue;
    const std::string path = text.substr(from + 3, to - from - 3);
    total += std::filesystem::file_size(std::filesystem::canonical(path));
    ++libraries;
    onednn |= path.find("libdnnl") != std::string::npos;
    for (const char* no : {"protobuf", "onnx", "cpprest", "libsqlite3", "libssl"})
      EXPECT_EQ(path.find(no), std::string::npos) << path;
  }
  pclose(output);
  EXPECT_TRUE(onednn);
  EXPECT_GE(libraries, 5);
  EXPECT_LE(total, uintmax_t{60} << 20);
}

}  // namespace
}  // namespace souk::trainer
